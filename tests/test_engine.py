"""The engine, over a driver that does as it is told."""

import errno
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from portcompat import POLLIN, PORT_ALERT_SET, PORT_SOURCE_ALERT
from portcompat._engine import Engine
from portcompat.conformance._threads import waiting, waiting_briefly
from tests.scripted import ScriptedDriver


@pytest.fixture
def driver() -> ScriptedDriver:
    return ScriptedDriver()


@pytest.fixture
def engine(driver: ScriptedDriver) -> Iterator[Engine]:
    engine = Engine(driver, 10)
    yield engine
    engine.close()


def numbers(engine: Engine) -> list[int]:
    return [event.events for event in engine.getn(10, 1, 0)]


def test_messages_alone_do_not_bother_the_driver(engine: Engine, driver: ScriptedDriver) -> None:
    engine.send(1, None)
    assert engine.get(None) is not None
    assert driver.calls == []
    assert not driver.waiting


def test_of_those_who_wait_one_is_in_the_driver(engine: Engine, driver: ScriptedDriver) -> None:
    getters = [waiting(lambda: engine.get(None)) for _ in range(3)]
    assert driver.waiting
    for number in range(3):
        engine.send(number, None)
    assert {getter.result()[2] for getter in getters} == {0, 1, 2}  # type: ignore[index]
    assert not driver.waiting


def test_the_next_leads_when_the_leader_leaves(engine: Engine, driver: ScriptedDriver) -> None:
    engine.associate(7, POLLIN, "ready")
    leader = waiting(lambda: engine.get(None))
    follower = waiting(lambda: engine.getn(2, 2, None))
    engine.send(1, None)
    leader.result()
    follower.at_rest()
    assert driver.waiting
    driver.report(7, POLLIN)
    engine.send(2, None)
    assert [event.events for event in follower.result()] == [POLLIN, 2]


def test_a_leader_whose_time_is_up_passes_the_lead_on(
    engine: Engine, driver: ScriptedDriver
) -> None:
    engine.associate(7, POLLIN, "ready")
    leader = waiting_briefly(lambda: engine.get(0.3))
    follower = waiting(lambda: engine.get(None))
    assert leader.result() is None
    follower.at_rest()
    driver.report(7, POLLIN)
    event = follower.result()
    assert event is not None
    assert event.user == "ready"


def test_a_thread_that_wants_fewer_is_served_first(engine: Engine) -> None:
    three = waiting(lambda: engine.getn(3, 3, None))
    one = waiting(lambda: engine.getn(1, 1, None))
    engine.send(1, None)
    assert [event.events for event in one.result()] == [1]
    for number in (2, 3, 4):
        engine.send(number, None)
    assert [event.events for event in three.result()] == [2, 3, 4]


def test_of_equals_the_newest_is_served_first(engine: Engine) -> None:
    old = waiting(lambda: engine.get(None))
    new = waiting(lambda: engine.get(None))
    engine.send(1, None)
    assert new.result()[2] == 1  # type: ignore[index]
    assert not old.over
    engine.send(2, None)
    assert old.result()[2] == 2  # type: ignore[index]


def test_a_report_that_crosses_a_dissociation_is_not_believed(
    engine: Engine, driver: ScriptedDriver
) -> None:
    engine.associate(7, POLLIN, "old")
    getter = waiting(lambda: engine.get(None))
    engine.dissociate(7)
    driver.report_token(7, POLLIN)
    getter.at_rest()
    engine.send(1, "message")
    assert getter.result()[3] == "message"  # type: ignore[index]


def test_a_report_that_crosses_an_association_is_asked_for_again(
    engine: Engine, driver: ScriptedDriver
) -> None:
    engine.associate(7, POLLIN, "old")
    getter = waiting(lambda: engine.get(None))
    engine.associate(7, POLLIN, "new")
    driver.report(7, POLLIN)  # it was made for the old one, for all that is known
    getter.at_rest()
    assert driver.armed[7] == (POLLIN, 7)
    driver.report(7, POLLIN)
    assert getter.result()[3] == "new"  # type: ignore[index]


def test_what_was_ready_at_associate_comes_before_what_is_sent_after_it(
    engine: Engine, driver: ScriptedDriver
) -> None:
    engine.send(1, "before")
    engine.associate(7, POLLIN, "ready")
    driver.report(7, POLLIN)
    engine.send(2, "after")
    users = [event.user for event in engine.getn(10, 1, 0)]
    assert users == ["before", "ready", "after"]


def test_a_port_that_is_never_empty_still_looks_at_its_descriptors(
    engine: Engine, driver: ScriptedDriver
) -> None:
    engine.associate(7, POLLIN, "ready")
    engine.send(0, None)
    assert engine.getn(1, 1, 0)
    for number in range(1_000):
        engine.send(number, None)
        engine.send(number, None)
        if number == 3:
            driver.report(7, POLLIN)
        if "ready" in [event.user for event in engine.getn(2, 1, 0)]:
            break
    else:
        pytest.fail("a thousand messages passed a descriptor that is ready")


def test_an_alert_is_told_again_and_again(engine: Engine) -> None:
    engine.send(1, None)
    engine.alert(PORT_ALERT_SET, 5, "alert")
    for _ in range(3):
        assert [event.source for event in engine.getn(10, 2, None)] == [PORT_SOURCE_ALERT]
    engine.alert(PORT_ALERT_SET, 0, None)
    assert numbers(engine) == [1]


def test_the_driver_is_closed_when_the_leader_has_left_it(
    engine: Engine, driver: ScriptedDriver
) -> None:
    getter = waiting(lambda: engine.get(None))
    engine.close()
    assert driver.closed
    with pytest.raises(OSError, match="closed") as error:
        getter.result()
    assert error.value.errno == errno.EBADF


def test_a_call_that_interrupts_another_is_edeadlk(
    engine: Engine, driver: ScriptedDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int | None] = []

    def arm(fd: int, events: int, token: int) -> int:
        for call in (lambda: engine.get(0), lambda: engine.dissociate(7), engine.pending):
            try:
                call()
            except OSError as error:
                found.append(error.errno)
        engine.send(1, "from inside")
        return 0

    monkeypatch.setattr(driver, "arm", arm)
    engine.associate(7, POLLIN, None)
    assert found == [errno.EDEADLK] * 3
    assert [event.user for event in engine.getn(10, 1, 0)] == ["from inside"]


def test_the_descriptor_shows_each_change_once(
    engine: Engine, driver: ScriptedDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.fileno()
    shown: list[bool] = []
    monkeypatch.setattr(driver, "show", shown.append)
    engine.send(1, None)
    engine.send(2, None)
    numbers(engine)
    engine.send(3, None)
    assert shown == [True, False, True]


def test_a_driver_that_fails_fails_the_call_and_no_other(
    engine: Engine, driver: ScriptedDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(timeout: float | None) -> list[tuple[int, int]]:
        raise OSError(errno.EIO, "broken")

    engine.associate(7, POLLIN, "ready")
    with monkeypatch.context() as patch:
        patch.setattr(driver, "wait", fail)
        with pytest.raises(OSError, match="broken"):
            engine.get(None)
    driver.report(7, POLLIN)
    assert [event.user for event in engine.getn(10, 1, 0)] == ["ready"]


def test_an_abandoned_port_says_why(driver: ScriptedDriver) -> None:
    engine = Engine(driver, 10)
    holder = threading.Thread(target=engine._lock.acquire)  # as of a thread that fork left behind
    holder.start()
    holder.join()
    engine.abandon("it belongs to somebody else")
    for call in (lambda: engine.get(0), lambda: engine.send(1, None), engine.pending):
        with pytest.raises(OSError, match="somebody else") as error:
            call()
        assert error.value.errno == errno.EBADF
    assert driver.closed


class Twice(Exception):
    """What the second of two handlers raises."""


def raise_once(step: Callable[..., object]) -> Callable[..., object]:
    """`step`, after which a handler raises the first time."""
    done: list[None] = []

    def interrupted(*arguments: object) -> object:
        result = step(*arguments)
        if not done:
            done.append(None)
            raise Twice
        return result

    return interrupted


@pytest.mark.parametrize("came_out", [False, True])
@pytest.mark.parametrize("step", ["arm", "slot_of", "_dismiss_callers", "_catch_up"])
def test_a_second_exception_while_the_first_is_put_right(
    engine: Engine,
    driver: ScriptedDriver,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    came_out: bool,
) -> None:
    """R134: nothing is lost, nobody is left among those who wait, the lead is passed on."""
    engine.associate(7, POLLIN, "seven")
    engine.associate(8, POLLIN, "eight")
    wait, come_out = driver.wait, engine._come_out

    def interrupt() -> None:
        monkeypatch.undo()
        owner = next(o for o in (driver, engine, engine._queue) if hasattr(o, step))
        if hasattr(owner, "__dict__"):
            monkeypatch.setattr(owner, step, raise_once(getattr(owner, step)))
        else:
            engine._queue.slot_of = raise_once(engine._queue.slot_of)  # type: ignore[assignment]
        raise KeyboardInterrupt

    def interrupted_wait(timeout: float | None) -> list[tuple[int, int]]:
        if timeout == 0:
            return wait(timeout)
        if not came_out:
            interrupt()
        driver.report(7, POLLIN)
        driver.report(8, POLLIN)
        return wait(timeout)

    def interrupted_come_out(*arguments: Any) -> bool:
        over = come_out(*arguments)
        assert over
        interrupt()
        return over

    monkeypatch.setattr(driver, "wait", interrupted_wait)
    monkeypatch.setattr(engine, "_come_out", interrupted_come_out)
    with pytest.raises((KeyboardInterrupt, Twice)):
        engine.getn(2, 2, None)
    monkeypatch.undo()
    assert not engine._waiters
    assert engine._leader is None
    if not came_out:
        driver.report(7, POLLIN)
        driver.report(8, POLLIN)
    assert {event.user for event in engine.getn(9, 2, 5)} == {"seven", "eight"}
