"""timer_settime(3C) and timer_gettime(3C): arming, disarming, and what is left."""

import errno
import time
from collections.abc import Callable, Iterator

import pytest

from portcompat import PORT_SOURCE_TIMER, SIGEV_NONE, SIGEV_PORT, Port, PortEvent
from portcompat.conformance import rule
from portcompat.conformance._descriptors import A_WHILE, SOON
from portcompat.conformance._errors import errno_of
from portcompat.conformance._timers import FAR, MS, SECOND, boundaries, now, sleep_until
from portcompat.timers import (
    TIMER_ABSTIME,
    SigEvent,
    timer_create,
    timer_delete,
    timer_gettime,
    timer_gettime_ns,
    timer_settime,
    timer_settime_ns,
)

Scale = Callable[[int, int, int], int]

INT64_MAX = 2**63 - 1


@pytest.fixture
def timer(port: Port, clock: int) -> Iterator[int]:
    """A timer of `port`, by its id."""
    number = timer_create(clock, SigEvent(SIGEV_PORT, port=port, user="timer"))
    yield number
    errno_of(timer_delete, number)


@rule("R242", "R247")
def test_the_old_value_of_a_new_timer_is_zero(timer: int) -> None:
    assert timer_settime(timer, 0, 100, 7) == (0, 0)


@rule("R247", "R261")
def test_the_old_value_is_what_was_left(clock: int, timer: int) -> None:
    before = now(clock)
    timer_settime_ns(timer, 0, 100 * SECOND, 7 * SECOND)
    armed = now(clock)
    sleep_until(clock, armed + 5 * MS)
    asked = now(clock)
    left, every = timer_settime_ns(timer, 0, 50 * SECOND)
    assert 100 * SECOND - (now(clock) - before) <= left <= 100 * SECOND - (asked - armed)
    assert every == 7 * SECOND
    assert timer_gettime_ns(timer)[1] == 0


@rule("R248", "R250")
@pytest.mark.parametrize("span", [0.001, 0.02, 0.15])
def test_a_timer_expires_after_its_time_and_not_before(
    port: Port, clock: int, timer: int, span: float
) -> None:
    before = now(clock)
    timer_settime(timer, 0, span)
    assert port.get(SOON) == PortEvent(PORT_SOURCE_TIMER, timer, 1, "timer")
    assert now(clock) >= before + round(span * SECOND)


@rule("R248")
def test_a_one_shot_expires_once(port: Port, timer: int) -> None:
    timer_settime(timer, 0, 0.001)
    assert port.get(SOON).events == 1
    assert port.getn(1, 1, A_WHILE) == []


@rule("R248", "R253")
def test_a_timer_with_an_interval_goes_on(port: Port, timer: int) -> None:
    timer_settime(timer, 0, 0.001, 0.002)
    assert all(port.get(SOON).object == timer for _ in range(5))


@rule("R248")
def test_a_value_of_zero_on_an_idle_timer_does_nothing(port: Port, timer: int) -> None:
    assert timer_settime(timer, 0, 0) == (0, 0)
    assert port.getn(1, 1, A_WHILE) == []


@rule("R248", "R261", "R264")
def test_a_value_of_zero_disarms(port: Port, timer: int) -> None:
    timer_settime(timer, 0, 0.01, 0.01)
    old_value, old_interval = timer_settime(timer, 0, 0)
    assert 0 <= old_value <= 0.01
    assert old_interval == 0.01
    taken = port.getn(1, 1, 0)  # a machine that stood still for that long
    assert timer_gettime(timer) == (0, 0)
    assert port.getn(1, 1, 0.03) == []
    assert len(taken) <= 1


@rule("R252", "R264")
def test_an_absolute_time_of_zero_disarms(port: Port, timer: int) -> None:
    timer_settime_ns(timer, 0, FAR, FAR)
    assert timer_settime(timer, TIMER_ABSTIME, 0)[1] == FAR / SECOND
    assert timer_gettime(timer) == (0, 0)
    assert port.getn(1, 1, A_WHILE) == []


@rule("R264")
def test_a_disarmed_timer_reads_zero_whatever_interval_it_was_disarmed_with(timer: int) -> None:
    timer_settime_ns(timer, 0, FAR, FAR)
    timer_settime_ns(timer, 0, 0, 5 * SECOND)
    assert timer_gettime(timer) == (0, 0)
    timer_settime_ns(timer, TIMER_ABSTIME, now(time.CLOCK_REALTIME) + 10 * FAR)
    timer_settime_ns(timer, TIMER_ABSTIME, 0, 5 * SECOND)
    assert timer_gettime_ns(timer) == (0, 0)


@rule("R247")
@pytest.mark.parametrize("interval", [-1, -5.5, float("nan")])
@pytest.mark.parametrize("flags", [0, TIMER_ABSTIME])
def test_a_bad_interval_is_accepted_together_with_a_value_of_zero(
    timer: int, flags: int, interval: float
) -> None:
    timer_settime_ns(timer, 0, FAR, FAR)
    timer_settime(timer, flags, 0, interval)
    assert timer_gettime(timer) == (0, 0)


@rule("R247")
@pytest.mark.parametrize(
    ("value", "interval"), [(-1, 0), (-1, 5), (-1, -1), (5, -1), (0.5, -0.001), (-1e-9, 0)]
)
@pytest.mark.parametrize("flags", [0, TIMER_ABSTIME])
def test_a_negative_time_is_einval_and_changes_nothing(
    timer: int, flags: int, value: float, interval: float
) -> None:
    timer_settime_ns(timer, 0, FAR, 7)
    assert errno_of(timer_settime, timer, flags, value, interval) == errno.EINVAL
    left, every = timer_gettime_ns(timer)
    assert 0 < left <= FAR
    assert every == 7


@rule("R249")
@pytest.mark.parametrize("flags", [2, 0x10, 0x7FFF_FFFE])
def test_other_flags_do_not_make_a_time_absolute(timer: int, flags: int) -> None:
    timer_settime_ns(timer, flags, FAR)
    assert FAR / 2 < timer_gettime_ns(timer)[0] <= FAR
    timer_settime(timer, flags, 2 * FAR / SECOND)
    assert FAR < timer_gettime_ns(timer)[0] <= 2 * FAR


@rule("R249")
@pytest.mark.parametrize("flags", [3, 0x11, 0x7FFF_FFFF, -1])
def test_other_flags_beside_the_absolute_one_mean_nothing(
    clock: int, timer: int, flags: int
) -> None:
    timer_settime_ns(timer, flags, now(clock) + FAR)
    assert FAR / 2 < timer_gettime_ns(timer)[0] <= FAR
    timer_settime(timer, flags, (now(clock) + 2 * FAR) / SECOND)
    assert FAR < timer_gettime_ns(timer)[0] <= 2 * FAR + MS


@rule("R250")
def test_an_absolute_time_is_waited_for_on_the_timers_clock(
    port: Port, clock: int, timer: int
) -> None:
    when = now(clock) + 20 * MS
    timer_settime_ns(timer, TIMER_ABSTIME, when)
    assert port.get(SOON).events == 1
    assert now(clock) >= when


@rule("R250")
def test_an_absolute_time_in_seconds_is_the_same(port: Port, clock: int, timer: int) -> None:
    when = time.clock_gettime(clock) + 0.02
    timer_settime(timer, TIMER_ABSTIME, when)
    assert port.get(SOON).events == 1
    assert now(clock) >= int(when * SECOND)


@rule("R251")
@pytest.mark.parametrize("ago", [1, MS, SECOND, 3600 * SECOND, 24 * 3600 * SECOND])
def test_a_time_that_is_past_fires_at_once(port: Port, clock: int, timer: int, ago: int) -> None:
    timer_settime_ns(timer, TIMER_ABSTIME, max(1, now(clock) - ago))
    assert port.get(SOON) == PortEvent(PORT_SOURCE_TIMER, timer, 1, "timer")
    assert timer_gettime(timer) == (0, 0)
    assert port.getn(1, 1, A_WHILE) == []


@rule("R251", "R252")
def test_the_first_nanosecond_of_a_clock_is_a_time(port: Port, timer: int) -> None:
    timer_settime_ns(timer, TIMER_ABSTIME, 1)
    assert port.get(SOON).events == 1


@rule("R248", "R250")
def test_the_least_time_is_a_nanosecond(port: Port, timer: int) -> None:
    timer_settime_ns(timer, 0, 1)
    assert port.get(SOON).events == 1


@rule("R248", "R250")
def test_a_time_in_seconds_that_is_not_zero_arms_however_short_it_is(
    port: Port, timer: int
) -> None:
    timer_settime(timer, 0, 1e-12)
    assert port.get(SOON).events == 1


@rule("R253")
@pytest.mark.parametrize("value", [1, 3])
def test_the_first_expiry_is_at_the_value_and_then_at_each_interval(
    port: Port, clock: int, timer: int, value: int
) -> None:
    before = now(clock)
    timer_settime_ns(timer, 0, value * 10 * MS, 20 * MS)
    for taken in range(3):
        port.get(SOON)
        assert now(clock) >= before + (value + 2 * taken) * 10 * MS


@rule("R248", "R250")
def test_the_next_expiry_follows_the_newest_value(port: Port, clock: int, timer: int) -> None:
    for span in (30 * MS, 5 * MS, 15 * MS):
        timer_settime_ns(timer, 0, FAR, FAR)
        before = now(clock)
        timer_settime_ns(timer, 0, span, FAR)
        assert port.get(SOON).events == 1
        assert now(clock) >= before + span
        assert port.getn(1, 1, 0) == []


@rule("R248", "R250")
def test_a_timer_that_is_put_off_does_not_expire_at_its_former_time(
    port: Port, clock: int, timer: int
) -> None:
    timer_settime_ns(timer, 0, FAR)
    timer_settime_ns(timer, TIMER_ABSTIME, now(clock) + 20 * MS)
    timer_settime_ns(timer, 0, FAR)
    early = port.getn(1, 1, 0)  # a machine that stood still for that long
    assert port.getn(1, 1, 0.04) == []
    assert len(early) <= 1


@rule("R261")
def test_what_is_left_is_a_span_and_grows_less(clock: int, timer: int) -> None:
    before = now(clock)
    timer_settime_ns(timer, 0, 100 * SECOND)
    armed = now(clock)
    sleep_until(clock, armed + 20 * MS)
    asked = now(clock)
    left, every = timer_gettime_ns(timer)
    told = now(clock)
    assert 100 * SECOND - (told - before) <= left <= 100 * SECOND - (asked - armed)
    assert every == 0


@rule("R261")
def test_what_is_left_of_an_absolute_time_is_a_span(clock: int, timer: int) -> None:
    when = now(clock) + 100 * SECOND
    timer_settime_ns(timer, TIMER_ABSTIME, when, 7)
    asked = now(clock)
    left, every = timer_gettime_ns(timer)
    assert when - now(clock) <= left <= when - asked
    assert every == 7


@rule("R261")
def test_what_is_left_is_told_in_seconds_too(timer: int) -> None:
    timer_settime(timer, 0, 100.5, 7.25)
    left, every = timer_gettime(timer)
    assert 50 < left <= 100.5
    assert every == 7.25


@rule("R253", "R261")
def test_what_is_left_of_a_period_is_up_to_the_next_boundary(
    port: Port, clock: int, timer: int
) -> None:
    start = now(clock) + 5 * MS
    timer_settime_ns(timer, TIMER_ABSTIME, start, 50 * MS)
    sleep_until(clock, start + 10 * MS)
    for looked in (False, True):
        if looked:
            port.get(SOON)
        asked = now(clock)
        left, every = timer_gettime_ns(timer)
        told = now(clock)
        assert every == 50 * MS
        following = {
            start + boundaries(start, 50 * MS, moment) * 50 * MS for moment in (asked, told)
        }
        assert any(
            following_one - told <= left <= following_one - asked for following_one in following
        )


@rule("R262", "R263")
def test_an_expired_one_shot_reads_zero(port: Port, clock: int, timer: int) -> None:
    timer_settime(timer, 0, 0.001)
    sleep_until(clock, now(clock) + 2 * MS)
    assert timer_gettime(timer) == (0, 0)  # nobody has looked yet
    assert port.pending() == 1
    assert timer_gettime(timer) == (0, 0)
    port.get(SOON)
    assert timer_gettime(timer) == (0, 0)
    assert timer_settime(timer, 0, 5) == (0, 0)


@rule("R256")
def test_a_short_interval_is_taken_as_it_is(port: Port, timer: int) -> None:
    timer_settime_ns(timer, 0, FAR, 1_000)
    assert timer_gettime_ns(timer)[1] == 1_000
    timer_settime_ns(timer, 0, 1_000, 1_000)
    assert port.get(SOON).events >= 1


@rule("R060", "R257")
@pytest.mark.parametrize("interval", [INT64_MAX, INT64_MAX - 1])
def test_a_second_expiry_beyond_every_clock_is_eoverflow(port: Port, interval: int) -> None:
    with port.timer(time.CLOCK_MONOTONIC) as timer:
        timer.set(after_ns=FAR, every_ns=7)
        assert errno_of(timer_settime_ns, timer.id, 0, FAR, interval) == errno.EOVERFLOW
        assert errno_of(timer.set, after_ns=FAR, every_ns=interval) == errno.EOVERFLOW
        assert 0 < timer.remaining_ns <= FAR
        assert timer.interval_ns == 7


@rule("R250", "R261")
def test_nanoseconds_are_kept_exactly(clock: int, timer: int) -> None:
    every = 3_600_123_456_789_123_457  # more digits than a float has
    timer_settime_ns(timer, TIMER_ABSTIME, now(clock) + FAR, every)
    assert timer_gettime_ns(timer)[1] == every
    when = now(clock) + 123_456_789_123_456_789
    timer_settime_ns(timer, TIMER_ABSTIME, when)
    asked = now(clock)
    left = timer_gettime_ns(timer)[0]
    assert when - now(clock) <= left <= when - asked


@rule("R250", "R258")
@pytest.mark.parametrize("absolute", [False, True])
def test_no_timer_is_early(
    port: Port, clock: int, timer: int, scale: Scale, absolute: bool
) -> None:
    for turn in range(scale(200, 2_000, 20_000)):
        span = 1 + (turn * 7_919_321) % (3 * MS)
        before = now(clock)
        if absolute:
            timer_settime_ns(timer, TIMER_ABSTIME, before + span)
        else:
            timer_settime_ns(timer, 0, span)
        assert port.get(SOON).events == 1
        assert now(clock) >= before + span


@rule("R275")
def test_a_timer_that_notifies_nobody_can_be_read(clock: int) -> None:
    timer = timer_create(clock, SigEvent(SIGEV_NONE))
    try:
        assert timer_settime(timer, 0, 100, 7) == (0, 0)
        left, every = timer_gettime(timer)
        assert 50 < left <= 100
        assert every == 7
    finally:
        timer_delete(timer)
