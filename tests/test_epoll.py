"""The epoll driver, by itself."""

import os
import select
import time
from collections.abc import Iterator

import pytest

if not hasattr(select, "epoll"):
    pytest.skip("this host has no epoll(7)", allow_module_level=True)

from portcompat import POLLIN, POLLOUT
from portcompat.abc import Renumbered
from portcompat.backends.epoll import EpollDriver
from portcompat.conformance._descriptors import SOON, pipe, socket_pair
from portcompat.conformance._threads import waiting


@pytest.fixture
def driver() -> Iterator[EpollDriver]:
    driver = EpollDriver()
    yield driver
    driver.close()


def readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


def test_what_is_reported_is_disarmed(driver: EpollDriver) -> None:
    with socket_pair() as (ours, _):
        driver.arm(ours.fileno(), POLLOUT, ours.fileno())
        assert driver.wait(0) == [(ours.fileno(), POLLOUT)]
        assert driver.wait(0) == []


def test_arming_again_replaces(driver: EpollDriver) -> None:
    with socket_pair() as (ours, _):
        driver.arm(ours.fileno(), POLLIN, ours.fileno())
        driver.arm(ours.fileno(), POLLOUT, ours.fileno())
        assert driver.wait(0) == [(ours.fileno(), POLLOUT)]


def test_a_number_that_was_closed_and_reused_is_renumbered(driver: EpollDriver) -> None:
    with pipe() as (reader, _), pipe() as (other, _):
        number = os.dup(reader.fileno())
        driver.arm(number, POLLIN, number)
        os.dup2(other.fileno(), number)
        assert not driver.current(number)
        with pytest.raises(Renumbered):
            driver.arm(number, POLLIN, number)
        os.close(number)


def test_a_new_life_is_told_from_the_old_by_its_token(driver: EpollDriver) -> None:
    with pipe() as (reader, writer), pipe() as (other, other_writer):
        number = os.dup(reader.fileno())  # `reader` keeps the old registration alive
        driver.arm(number, POLLIN, number)
        os.dup2(other.fileno(), number)
        with pytest.raises(Renumbered):
            driver.arm(number, POLLIN, number)
        driver.arm(number, POLLIN, -2)
        writer.write(b"x")
        other_writer.write(b"x")
        assert dict(driver.wait(0))[-2] == POLLIN
        os.close(number)


def test_a_regular_file_is_always_ready(driver: EpollDriver) -> None:
    with open(__file__) as file:
        fd = file.fileno()
        assert driver.arm(fd, POLLIN | POLLOUT, fd) == POLLIN | POLLOUT
        assert driver.current(fd)
        assert driver.wait(0) == []
    assert not driver.current(fd)


def test_a_regular_file_that_becomes_a_socket_is_renumbered(driver: EpollDriver) -> None:
    with open(__file__) as file, socket_pair() as (ours, _):
        number = os.dup(file.fileno())
        driver.arm(number, POLLIN, number)
        os.dup2(ours.fileno(), number)
        with pytest.raises(Renumbered):
            driver.arm(number, POLLIN, number)
        assert driver.wait(0) == []
        os.close(number)


def test_disarming_what_is_unknown_or_closed_is_no_error(driver: EpollDriver) -> None:
    driver.disarm(1_000_000)
    with socket_pair() as (ours, _):
        fd = ours.fileno()
        driver.arm(fd, POLLIN, fd)
    driver.disarm(fd)
    driver.disarm(fd)


def test_more_than_one_call_can_report_comes_from_one_wait(driver: EpollDriver) -> None:
    with socket_pair() as (ours, _):
        numbers = [os.dup(ours.fileno()) for _ in range(2_500)]
        for number in numbers:
            driver.arm(number, POLLOUT, number)
        assert sorted(driver.wait(0)) == [(number, POLLOUT) for number in sorted(numbers)]
        for number in numbers:
            os.close(number)


@pytest.mark.parametrize("span", [0.000_3, 0.001, 0.002_5, 0.05])
def test_wait_and_wait_again_ends_in_time(driver: EpollDriver, span: float) -> None:
    before = time.monotonic()
    while (left := before + span - time.monotonic()) > 0:
        assert driver.wait(left) == []
    assert time.monotonic() - before < span + 0.5


def test_a_wake_ends_the_wait_in_progress(driver: EpollDriver) -> None:
    wait = waiting(lambda: driver.wait(None))
    driver.wake()
    wait.result()


def test_a_wake_ends_the_next_wait(driver: EpollDriver) -> None:
    driver.wake()
    driver.wake()
    waiter = waiting_or_over(driver)
    assert waiter < 5


def waiting_or_over(driver: EpollDriver) -> float:
    before = time.monotonic()
    driver.wait(10)
    return time.monotonic() - before


def test_the_outer_descriptor_shows_what_is_ready_and_what_is_queued(driver: EpollDriver) -> None:
    fd = driver.fileno()
    assert not readable(fd)
    driver.show(True)
    assert readable(fd)
    driver.show(False)
    assert not readable(fd)
    with socket_pair() as (ours, _):
        driver.arm(ours.fileno(), POLLOUT, ours.fileno())
        assert readable(fd)
        driver.wait(0)
        assert not readable(fd)


def test_what_is_shown_as_queued_does_not_end_a_wait(driver: EpollDriver) -> None:
    driver.fileno()
    driver.show(True)
    assert driver.wait(0) == []


def test_the_outer_descriptor_and_its_dups_are_known(driver: EpollDriver) -> None:
    fd = os.dup(driver.fileno())
    with socket_pair() as (ours, _):
        assert driver.is_descriptor(driver.fileno())
        assert driver.is_descriptor(fd)
        assert not driver.is_descriptor(ours.fileno())
    os.close(fd)


def test_the_outer_descriptor_shows_that_an_alarm_went_off_until_it_is_replaced(
    driver: EpollDriver,
) -> None:
    fd = driver.fileno()
    for clock in sorted(driver.clocks):
        driver.set_alarm(clock, driver.now(clock) + 1_000_000)
        assert select.select([fd], [], [], SOON)[0]
        driver.set_alarm(clock, driver.now(clock) + 10**12)
        assert not readable(fd)


def test_closing_gives_every_descriptor_back() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    driver = EpollDriver()
    driver.fileno()
    for clock in sorted(driver.clocks):
        driver.set_alarm(clock, 0)
    driver.close()
    driver.close()
    assert sorted(os.listdir("/proc/self/fd")) == before
