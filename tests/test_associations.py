"""The table of associations, over a driver that does as it is told."""

import errno

import pytest

from portcompat import EBADFD, POLLHUP, POLLIN, POLLOUT, PortEvent
from portcompat._engine import Engine
from tests.scripted import ScriptedDriver

A_FILE = 1_000_000  # a number that is not open


@pytest.fixture
def driver() -> ScriptedDriver:
    return ScriptedDriver()


@pytest.fixture
def engine(driver: ScriptedDriver) -> Engine:
    return Engine(driver, 4)


def users(engine: Engine) -> list[object]:
    return [event.user for event in engine.getn(10, 1, 0)]


def test_the_first_token_of_a_number_is_the_number(engine: Engine, driver: ScriptedDriver) -> None:
    engine.associate(7, POLLIN, None)
    assert driver.calls == [("arm", 7, POLLIN, 7)]


def test_a_number_that_changed_hands_gets_a_new_token(
    engine: Engine, driver: ScriptedDriver
) -> None:
    engine.associate(7, POLLIN, None)
    driver.renumber(7)
    engine.associate(7, POLLIN, "new")
    (_, token) = driver.armed[7]
    assert token < 0
    driver.report_token(7, POLLIN)  # of the former life
    assert users(engine) == []
    driver.report(7, POLLIN)
    assert users(engine) == ["new"]


def test_no_token_is_used_twice(engine: Engine, driver: ScriptedDriver) -> None:
    tokens = []
    for _ in range(20):
        engine.associate(7, POLLIN, None)
        tokens.append(driver.armed[7][1])
        driver.renumber(7)
    assert len(set(tokens)) == 20


def test_only_bits_that_were_asked_for_are_told(engine: Engine, driver: ScriptedDriver) -> None:
    engine.associate(7, POLLIN, None)
    driver.report(7, POLLIN | POLLOUT | POLLHUP)
    assert engine.getn(1, 1, 0)[0].events == POLLIN | POLLHUP


def test_a_report_without_such_bits_arms_again(engine: Engine, driver: ScriptedDriver) -> None:
    engine.associate(7, POLLIN, "later")
    driver.report(7, POLLOUT)
    assert users(engine) == []
    driver.report(7, POLLIN)
    assert users(engine) == ["later"]


def test_what_is_always_ready_fires_at_once(engine: Engine, driver: ScriptedDriver) -> None:
    driver.always_ready(7, POLLIN)
    engine.associate(7, POLLIN | POLLHUP, "file")
    assert engine.getn(1, 1, 0) == [PortEvent(4, 7, POLLIN, "file")]


def test_associating_again_takes_the_queued_event_back(
    engine: Engine, driver: ScriptedDriver
) -> None:
    engine.associate(7, POLLIN, "old")
    driver.report(7, POLLIN)
    assert engine.pending() == 1
    engine.associate(7, POLLOUT, "new")
    assert users(engine) == []


def test_a_closed_descriptor_says_nothing(engine: Engine, driver: ScriptedDriver) -> None:
    engine.associate(7, POLLIN, "gone")
    driver.report(7, POLLIN)
    driver.vanish(7)
    assert users(engine) == []


def test_a_closed_descriptor_gives_its_slot_to_who_needs_one(
    engine: Engine, driver: ScriptedDriver
) -> None:
    for fd in range(4):
        engine.associate(fd, POLLIN, None)
    driver.vanish(2)
    engine.associate(9, POLLIN, None)
    with pytest.raises(OSError, match="slots") as error:
        engine.associate(10, POLLIN, None)
    assert error.value.errno == errno.EAGAIN


def test_dissociating_gives_the_slot_back(engine: Engine) -> None:
    for fd in range(4):
        engine.associate(fd, POLLIN, None)
    engine.dissociate(0)
    engine.associate(9, POLLIN, None)


def test_a_retrieved_association_keeps_its_slot(engine: Engine, driver: ScriptedDriver) -> None:
    for fd in range(4):
        engine.associate(fd, POLLIN, fd)
    driver.report(0, POLLIN)
    assert users(engine) == [0]
    with pytest.raises(OSError, match="slots"):
        engine.send(1, None)


def test_an_association_that_fails_takes_no_slot(engine: Engine, driver: ScriptedDriver) -> None:
    driver.vanish(7)
    for _ in range(10):
        with pytest.raises(OSError, match="not open") as error:
            engine.associate(7, POLLIN, None)
        assert error.value.errno == EBADFD
    for fd in range(4):
        engine.associate(100 + fd, POLLIN, None)


def test_dissociating_what_has_been_retrieved_is_enoent(
    engine: Engine, driver: ScriptedDriver
) -> None:
    engine.associate(7, POLLIN, None)
    driver.report(7, POLLIN)
    assert users(engine) == [None]
    with pytest.raises(OSError, match="retrieved") as error:
        engine.dissociate(7)
    assert error.value.errno == errno.ENOENT


def test_dissociating_a_closed_descriptor_is_ebadfd(engine: Engine, driver: ScriptedDriver) -> None:
    engine.associate(A_FILE, POLLIN, None)
    driver.vanish(A_FILE)
    with pytest.raises(OSError, match="not open") as error:
        engine.dissociate(A_FILE)
    assert error.value.errno == EBADFD


def test_a_report_of_nobody_is_ignored(engine: Engine, driver: ScriptedDriver) -> None:
    engine.associate(7, POLLIN, None)
    driver.report_token(99, POLLIN)
    assert users(engine) == []
