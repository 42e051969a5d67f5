"""The poll and select drivers, by themselves."""

import os
import select
import time
from collections.abc import Iterator

import pytest

from portcompat import POLLERR, POLLHUP, POLLIN, POLLOUT
from portcompat.abc import Driver, Renumbered
from portcompat.backends.poll import PollDriver, SelectDriver
from portcompat.conformance._descriptors import pipe, socket_pair
from portcompat.conformance._threads import waiting

KINDS = [PollDriver, SelectDriver] if hasattr(select, "poll") else [SelectDriver]


@pytest.fixture(params=KINDS)
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    driver: Driver = request.param()
    yield driver
    driver.close()


def told(ready: list[tuple[int, int]], asked: int) -> list[tuple[int, int]]:
    """The reports, of the bits that were asked for."""
    return [(token, revents & asked) for token, revents in ready]


def test_what_is_reported_is_disarmed(driver: Driver) -> None:
    with socket_pair() as (ours, _):
        driver.arm(ours.fileno(), POLLOUT, 7)
        assert told(driver.wait(0), POLLOUT) == [(7, POLLOUT)]
        assert driver.wait(0) == []


def test_arming_again_replaces_events_and_token(driver: Driver) -> None:
    with socket_pair() as (ours, _):
        driver.arm(ours.fileno(), POLLIN, 7)
        driver.arm(ours.fileno(), POLLOUT, 8)
        assert told(driver.wait(0), POLLIN | POLLOUT) == [(8, POLLOUT)]


def test_what_is_disarmed_is_not_reported(driver: Driver) -> None:
    with socket_pair() as (ours, _):
        driver.arm(ours.fileno(), POLLOUT, 7)
        driver.disarm(ours.fileno())
        assert driver.wait(0) == []


def test_arming_takes_effect_on_a_wait_in_progress(driver: Driver) -> None:
    with socket_pair() as (ours, _):
        wait = waiting(lambda: driver.wait(None))
        driver.arm(ours.fileno(), POLLOUT, 7)
        assert told(wait.result() or driver.wait(0), POLLOUT) == [(7, POLLOUT)]


def test_disarming_takes_effect_on_a_wait_in_progress(driver: Driver) -> None:
    with socket_pair() as (ours, theirs):
        driver.arm(ours.fileno(), POLLIN, 7)
        wait = waiting(lambda: driver.wait(None))
        driver.disarm(ours.fileno())
        assert wait.result() == []
        theirs.send(b"x")
        assert driver.wait(0) == []


def test_a_number_that_changed_hands_is_renumbered(driver: Driver) -> None:
    with socket_pair() as (one, other):
        number = os.dup(one.fileno())
        driver.arm(number, POLLIN, 7)
        os.dup2(other.fileno(), number)
        assert not driver.current(number)
        with pytest.raises(Renumbered):
            driver.arm(number, POLLIN, 7)
        driver.arm(number, POLLOUT, -2)
        assert told(driver.wait(0), POLLOUT) == [(-2, POLLOUT)]
        os.close(number)


def test_the_ends_of_a_pipe_are_different_files(driver: Driver) -> None:
    with pipe() as (reader, writer):
        number = os.dup(reader.fileno())
        driver.arm(number, POLLIN, 7)
        os.dup2(writer.fileno(), number)
        assert not driver.current(number)
        os.close(number)


def test_a_closed_descriptor_keeps_nobody_from_being_reported(driver: Driver) -> None:
    with socket_pair() as (ours, _):
        closed = os.dup(ours.fileno())
        driver.arm(closed, POLLOUT, 6)
        driver.arm(ours.fileno(), POLLOUT, 7)
        os.close(closed)
        assert told(driver.wait(0), POLLOUT) == [(7, POLLOUT)]


def test_a_closed_descriptor_cannot_be_armed(driver: Driver) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        driver.arm(1_000, POLLIN, 7)


def test_disarming_what_is_unknown_is_no_error(driver: Driver) -> None:
    driver.disarm(1_000)


@pytest.mark.parametrize("times", [1, 3, 100_000])
def test_a_wake_ends_the_next_wait_and_no_other(driver: Driver, times: int) -> None:
    for _ in range(times):
        driver.wake()
    before = time.monotonic()
    assert driver.wait(10) == []
    assert time.monotonic() - before < 5
    before = time.monotonic()
    assert driver.wait(0.02) == []
    assert time.monotonic() - before > 0.015  # a wait may end a little early, but not at once


def test_a_wake_ends_the_wait_in_progress(driver: Driver) -> None:
    wait = waiting(lambda: driver.wait(None))
    driver.wake()
    wait.result()


def test_the_outer_descriptor_shows_what_is_queued(driver: Driver) -> None:
    fd = driver.fileno()
    for queued in (False, True, True, False, False, True):
        driver.show(queued)
        assert bool(select.select([fd], [], [], 0)[0]) is queued


def test_the_outer_descriptor_and_its_dups_are_known(driver: Driver) -> None:
    with socket_pair() as (ours, _):
        assert not driver.is_descriptor(ours.fileno())
        fd = os.dup(driver.fileno())
        assert driver.is_descriptor(fd)
        assert not driver.is_descriptor(ours.fileno())
        os.close(fd)


@pytest.mark.skipif(PollDriver not in KINDS, reason="this host has no poll(2)")
def test_poll_tells_a_hang_up_and_an_error() -> None:
    driver = PollDriver()
    with pipe() as (reader, writer):
        driver.arm(reader.fileno(), 0, 7)
        writer.close()
        assert driver.wait(0) == [(7, POLLHUP)]
    with pipe() as (reader, writer):
        driver.arm(writer.fileno(), 0, 8)
        reader.close()
        assert driver.wait(0) == [(8, POLLERR)]
    driver.close()


def test_select_says_what_it_has_against_a_large_number() -> None:
    driver = SelectDriver()
    with socket_pair() as (ours, _):
        os.dup2(ours.fileno(), 1_500)
        with pytest.raises(OSError, match="use another backend"):
            driver.arm(1_500, POLLIN, 7)
        os.close(1_500)
    driver.close()


@pytest.mark.parametrize("kind", KINDS)
def test_closing_gives_every_descriptor_back(kind: type[Driver]) -> None:
    before = sorted(os.listdir("/dev/fd"))
    driver = kind()
    driver.fileno()
    driver.close()
    driver.close()
    assert sorted(os.listdir("/dev/fd")) == before
