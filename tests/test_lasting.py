"""LEVEL and EDGE in the engine, over a driver that does as it is told."""

import errno
from collections.abc import Iterator

import pytest

from portcompat import POLLHUP, POLLIN, POLLOUT, Trigger
from portcompat._engine import Engine
from portcompat.conformance._threads import waiting
from tests.scripted import ScriptedDriver


class EdgeDriver(ScriptedDriver):
    features = ScriptedDriver.features | {"edge"}


@pytest.fixture
def driver() -> ScriptedDriver:
    return EdgeDriver()


@pytest.fixture
def engine(driver: ScriptedDriver) -> Iterator[Engine]:
    engine = Engine(driver, 10)
    yield engine
    engine.close()


def users(engine: Engine) -> list[object]:
    return [event.user for event in engine.getn(10, 1, 0)]


def test_level_asks_of_a_driver_nothing_but_one_shot(
    engine: Engine, driver: ScriptedDriver
) -> None:
    assert "level" in engine.features
    assert "level" not in driver.features
    engine.associate(7, POLLIN, "user", Trigger.LEVEL)
    for _ in range(3):
        driver.report(7, POLLIN)
        assert users(engine) == ["user"]
    assert driver.calls == [("arm", 7, POLLIN, 7)] * 4


def test_what_was_queued_is_not_told_when_it_has_gone(
    engine: Engine, driver: ScriptedDriver
) -> None:
    engine.associate(7, POLLIN, "user", Trigger.LEVEL)
    driver.report(7, POLLIN)
    assert engine.pending() == 1
    assert users(engine) == []
    assert 7 in driver.armed
    driver.report(7, POLLIN)
    assert engine.pending() == 1
    driver.conditions[7] = POLLIN
    assert users(engine) == ["user"]


def test_who_finds_that_all_has_gone_waits_for_the_next(
    engine: Engine, driver: ScriptedDriver
) -> None:
    for fd in (7, 8):
        engine.associate(fd, POLLIN, fd, Trigger.LEVEL)
        driver.report(fd, POLLIN)
    getter = waiting(lambda: engine.get(None))
    assert set(driver.armed) == {7, 8}
    driver.conditions[8] = POLLIN
    driver.report(8, POLLIN)
    event = getter.result()
    assert event is not None
    assert event.user == 8


def test_what_another_thread_was_given_is_watched_again_for_those_who_go_on_waiting(
    engine: Engine, driver: ScriptedDriver
) -> None:
    engine.associate(7, POLLIN, "level", Trigger.LEVEL)
    driver.conditions[7] = POLLIN
    leader = waiting(lambda: engine.getn(2, 2, None))
    driver.report(7, POLLIN)
    leader.at_rest()
    follower = waiting(lambda: engine.getn(2, 2, None))
    driver.always_ready(8, POLLIN)
    engine.associate(8, POLLIN, "file")
    assert {event.user for event in follower.result()} == {"level", "file"}
    assert 7 in driver.armed
    driver.report(7, POLLIN)
    engine.send(1, "message")
    assert {event.user for event in leader.result()} == {"level", "message"}


def test_what_had_gone_when_it_was_a_followers_turn_is_watched_again_at_once(
    engine: Engine, driver: ScriptedDriver
) -> None:
    engine.associate(7, POLLIN, "level", Trigger.LEVEL)
    leader = waiting(lambda: engine.getn(3, 3, None))
    driver.report(7, POLLIN)
    leader.at_rest()
    follower = waiting(lambda: engine.getn(2, 2, None))
    engine.send(1, "message")  # the second, but the first has gone
    assert 7 in driver.armed
    driver.conditions[7] = POLLIN
    driver.report(7, POLLIN)
    assert [event.user for event in follower.result()] == ["message", "level"]
    engine.close()
    with pytest.raises(OSError):
        leader.result()


def test_level_that_is_closed_while_it_is_queued_gives_back_its_slot(
    engine: Engine, driver: ScriptedDriver
) -> None:
    engine.associate(7, POLLIN, "user", Trigger.LEVEL)
    driver.report(7, POLLIN)
    assert engine.pending() == 1
    driver.conditions[7] = POLLIN
    driver.vanish(7)
    assert users(engine) == []
    for number in range(10):
        engine.send(number, None)


def test_edges_that_come_before_a_retrieval_are_one_event(
    engine: Engine, driver: ScriptedDriver
) -> None:
    engine.associate(7, POLLIN | POLLOUT, "user", Trigger.EDGE)
    for bits in (POLLIN, POLLOUT, POLLHUP):
        driver.report_token(7, bits)
        assert engine.pending() == 1
    (event,) = engine.getn(10, 1, 0)
    assert event.events == POLLIN | POLLOUT | POLLHUP
    driver.report_token(7, POLLIN)
    assert users(engine) == ["user"]
    assert [call[0] for call in driver.calls] == ["arm"]


def test_edge_that_is_closed_gives_back_its_slot(engine: Engine, driver: ScriptedDriver) -> None:
    engine.associate(7, POLLIN, "user", Trigger.EDGE)
    driver.report_token(7, POLLIN)
    assert engine.pending() == 1
    driver.vanish(7)
    assert users(engine) == []
    for number in range(10):
        engine.send(number, None)


def test_a_driver_without_edges_is_not_asked(driver: ScriptedDriver) -> None:
    plain = ScriptedDriver()
    engine = Engine(plain, 1)
    engine.associate(7, POLLIN, "former")
    with pytest.raises(OSError, match="Trigger.LEVEL") as error:
        engine.associate(7, POLLOUT, "new", Trigger.EDGE)
    assert error.value.errno == errno.ENOTSUP
    assert plain.calls == [("arm", 7, POLLIN, 7)]
    plain.report(7, POLLIN)
    assert users(engine) == ["former"]
    engine.close()


def test_a_number_that_changes_hands_while_it_is_level_is_forgotten(
    engine: Engine, driver: ScriptedDriver
) -> None:
    engine.associate(7, POLLIN, "user", Trigger.LEVEL)
    driver.report(7, POLLIN)
    driver.renumber(7)
    assert users(engine) == []
    engine.associate(7, POLLIN, "new", Trigger.LEVEL)
    assert driver.armed[7][1] != 7  # a token of its own
    driver.report(7, POLLIN)
    assert users(engine) == ["new"]
