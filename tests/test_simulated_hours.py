"""What takes hours, years or a million periods, in virtual time."""

import time
from collections.abc import Iterator

import pytest

from portcompat import PORT_SOURCE_TIMER, Port
from portcompat.backends.simulated import BACKEND, Simulation
from portcompat.timers import Timer

MONOTONIC = time.CLOCK_MONOTONIC
REALTIME = time.CLOCK_REALTIME
SECOND = 10**9
HOUR = 3600
DAY = 24 * HOUR
YEAR = 365 * DAY
INT_MAX = 0x7FFF_FFFF


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    with Simulation() as simulation:
        yield simulation


@pytest.fixture
def port(simulation: Simulation) -> Iterator[Port]:
    with Port(BACKEND) as port:
        yield port


@pytest.fixture(params=["CLOCK_MONOTONIC", "CLOCK_REALTIME", "CLOCK_BOOTTIME"])
def timer(request: pytest.FixtureRequest, port: Port) -> Iterator[Timer]:
    clock = getattr(time, request.param, None)
    if clock is None:
        pytest.skip(f"this host has no {request.param}")
    with port.timer(clock) as timer:
        yield timer


@pytest.fixture
def dated(port: Port) -> Iterator[Timer]:
    """A timer that goes by a clock that is set."""
    with port.timer(REALTIME) as timer:
        yield timer


def expirations(port: Port) -> int:
    """What the timer's event says, when it comes."""
    event = port.get()
    assert event.source == PORT_SOURCE_TIMER
    return event.events


def date_in(simulation: Simulation, seconds: int) -> int:
    return simulation.now(REALTIME) + seconds * SECOND


# Far away


def test_a_timer_a_year_ahead(simulation: Simulation, port: Port, timer: Timer) -> None:
    timer.set(after=YEAR)
    assert port.getn(1, 1, YEAR - 1) == []
    assert timer.remaining == 1
    assert expirations(port) == 1
    assert simulation.elapsed == YEAR


def test_a_wait_of_years(simulation: Simulation, port: Port) -> None:
    assert port.getn(1, 1, 5 * YEAR) == []
    assert simulation.elapsed == 5 * YEAR


def test_a_timer_beyond_the_longest_wait_ends_it(
    simulation: Simulation, port: Port, timer: Timer
) -> None:
    timer.set(after=3 * DAY, every=2 * DAY)
    moments = []
    for _ in range(4):
        assert expirations(port) == 1
        moments.append(simulation.elapsed)
    assert moments == [3 * DAY, 5 * DAY, 7 * DAY, 9 * DAY]


# Many periods


def test_the_phase_is_kept_for_a_million_periods(
    simulation: Simulation, port: Port, timer: Timer
) -> None:
    timer.set(after_ns=7, every_ns=1_000_003)
    start = simulation.now(timer.clock)
    for number in range(2_000):
        assert port.get() == (PORT_SOURCE_TIMER, timer.id, 1, None)
        assert simulation.now(timer.clock) == start + 7 + number * 1_000_003
    simulation.advance(1_000_003 * 10**6 / SECOND)
    assert expirations(port) == 10**6
    assert expirations(port) == 1
    assert simulation.now(timer.clock) == start + 7 + 1_002_000 * 1_000_003


def test_counts_of_a_slow_consumer_add_up(simulation: Simulation, port: Port, timer: Timer) -> None:
    timer.set(after=1, every=1)
    taken = 0
    for day in range(1, 31):
        simulation.advance(DAY - day)
        taken += expirations(port)
        assert taken == int(simulation.elapsed)


def test_the_count_ends_at_int_max(simulation: Simulation, port: Port, timer: Timer) -> None:
    timer.set(after_ns=1, every_ns=1)
    simulation.advance(INT_MAX / SECOND)
    assert expirations(port) == INT_MAX
    simulation.advance(HOUR)  # 3.6e12 more
    assert expirations(port) == INT_MAX
    timer.set(after=1)
    assert expirations(port) == 1
    assert port.getn(1, 1, DAY) == []


def test_a_count_just_below_int_max_is_exact(
    simulation: Simulation, port: Port, timer: Timer
) -> None:
    timer.set(after_ns=1, every_ns=10)
    simulation.advance((10 * (INT_MAX - 2)) / SECOND)
    assert expirations(port) == INT_MAX - 2


# A clock that is set


@pytest.mark.parametrize("by", [-5 * HOUR, -1, 1, 30 * 60])
def test_an_absolute_timer_follows_its_clock(
    simulation: Simulation, port: Port, dated: Timer, by: int
) -> None:
    dated.set(at_ns=date_in(simulation, HOUR))
    simulation.at(60, simulation.step, by)
    assert expirations(port) == 1
    assert simulation.elapsed == HOUR - by
    assert port.getn(1, 1, DAY) == []


def test_an_absolute_timer_that_is_passed_over_expires_at_once(
    simulation: Simulation, port: Port, dated: Timer
) -> None:
    dated.set(at_ns=date_in(simulation, HOUR))
    simulation.at(60, simulation.step, 2 * HOUR)
    assert expirations(port) == 1
    assert simulation.elapsed == 60


@pytest.mark.parametrize("by", [-5 * HOUR, -1, 1, 5 * HOUR])
def test_a_relative_timer_does_not_mind(
    simulation: Simulation, port: Port, dated: Timer, by: int
) -> None:
    dated.set(after=HOUR)
    simulation.at(60, simulation.step, by)
    assert expirations(port) == 1
    assert simulation.elapsed == HOUR


def test_the_periods_of_a_relative_timer_do_not_either(
    simulation: Simulation, port: Port, dated: Timer
) -> None:
    dated.set(after=60, every=60)
    simulation.at(90, simulation.step, -DAY)
    simulation.at(150, simulation.step, 2 * DAY)
    moments = []
    for _ in range(4):
        assert expirations(port) == 1
        moments.append(simulation.elapsed)
    assert moments == [60, 120, 180, 240]


def test_a_clock_set_forward_passes_boundaries_of_an_absolute_timer(
    simulation: Simulation, port: Port, dated: Timer
) -> None:
    dated.set(at_ns=date_in(simulation, HOUR), every=HOUR)
    simulation.step(10 * HOUR)
    assert expirations(port) == 10
    assert expirations(port) == 1
    assert simulation.elapsed == HOUR


def test_a_clock_set_back_puts_an_absolute_timer_off(
    simulation: Simulation, port: Port, dated: Timer
) -> None:
    dated.set(at_ns=date_in(simulation, HOUR), every=HOUR)
    assert expirations(port) == 1
    simulation.step(-10 * HOUR)
    assert dated.remaining == 11 * HOUR
    assert expirations(port) == 1
    assert simulation.elapsed == 12 * HOUR


def test_what_has_expired_has_expired_wherever_the_clock_goes(
    simulation: Simulation, port: Port, dated: Timer
) -> None:
    dated.set(at_ns=date_in(simulation, HOUR))
    simulation.advance(HOUR)
    assert port.pending() == 1
    simulation.step(-5 * HOUR)
    assert expirations(port) == 1
    assert port.getn(1, 1, DAY) == []


def test_a_machine_that_slept(simulation: Simulation, port: Port) -> None:
    if not hasattr(time, "CLOCK_BOOTTIME"):
        pytest.skip("this host has no CLOCK_BOOTTIME")
    with port.timer(MONOTONIC, "awake") as awake, port.timer(time.CLOCK_BOOTTIME, "boot") as boot:
        awake.set(after=HOUR)
        boot.set(after=HOUR)
        simulation.suspend(HOUR - 60)
        assert port.get().user == "boot"
        assert simulation.elapsed == 60
        assert port.get().user == "awake"
        assert simulation.elapsed == HOUR


# Many timers


def test_two_thousand_timers_come_in_their_order(simulation: Simulation, port: Port) -> None:
    count = 2_000
    timers = [port.timer(user=number * 7_919 % count) for number in range(count)]
    for number, timer in enumerate(timers):
        timer.set(after=1 + number * 7_919 % count)
    for expected in range(count):
        assert port.get().user == expected
        assert simulation.elapsed == expected + 1
    for timer in timers:
        timer.delete()
