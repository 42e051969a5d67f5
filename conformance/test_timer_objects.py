"""Timer, the object form: what its calls take, and that it is the C spelling in other words."""

import errno
import math
import time
from collections.abc import Iterator
from typing import Any

import pytest

from portcompat import PORT_SOURCE_TIMER, Port, PortEvent
from portcompat.conformance import rule
from portcompat.conformance._descriptors import A_WHILE, SOON
from portcompat.conformance._errors import errno_of
from portcompat.conformance._timers import FAR, MS, SECOND, now, sleep_until
from portcompat.timers import Timer, timer_delete, timer_gettime_ns, timer_settime_ns

NO_NUMBERS = ["1", b"1", 1j, [], {}, object()]
NO_INTS = [*NO_NUMBERS, 1.0, math.nan]


@pytest.fixture
def timer(port: Port, clock: int) -> Iterator[Timer]:
    with port.timer(clock, "user") as timer:
        yield timer


@rule("R250")
def test_after_is_from_now_on(port: Port, clock: int, timer: Timer) -> None:
    before = now(clock)
    timer.set(after=0.02)
    assert port.get(SOON) == PortEvent(PORT_SOURCE_TIMER, timer.id, 1, "user")
    assert now(clock) >= before + 20 * MS


@rule("R250")
def test_after_ns_is_from_now_on(port: Port, clock: int, timer: Timer) -> None:
    before = now(clock)
    timer.set(after_ns=20 * MS)
    assert port.get(SOON).events == 1
    assert now(clock) >= before + 20 * MS


@rule("R250")
def test_at_is_a_time_of_the_clock(port: Port, clock: int, timer: Timer) -> None:
    when = time.clock_gettime(clock) + 0.02
    timer.set(at=when)
    assert port.get(SOON).events == 1
    assert now(clock) >= int(when * SECOND)


@rule("R250")
def test_at_ns_is_a_time_of_the_clock(port: Port, clock: int, timer: Timer) -> None:
    when = now(clock) + 20 * MS
    timer.set(at_ns=when)
    assert port.get(SOON).events == 1
    assert now(clock) >= when


@rule("R251")
@pytest.mark.parametrize(
    "moment", [{"after": 0}, {"after": 0.0}, {"after_ns": 0}, {"at": 0.5}, {"at_ns": 1}], ids=str
)
def test_what_is_due_at_once_fires_at_once(
    port: Port, timer: Timer, moment: dict[str, Any]
) -> None:
    timer.set(**moment)
    assert port.getn(4, 1, 0) == [PortEvent(PORT_SOURCE_TIMER, timer.id, 1, "user")]
    assert timer.remaining == 0


@rule("R253")
@pytest.mark.parametrize("interval", [{"every": 0.25}, {"every_ns": SECOND // 4}], ids=str)
def test_every_is_the_interval(timer: Timer, interval: dict[str, Any]) -> None:
    timer.set(after_ns=FAR, **interval)
    assert timer.interval == 0.25
    assert timer.interval_ns == SECOND // 4
    timer.set(at_ns=now(timer.clock) + FAR, **interval)
    assert timer.interval_ns == SECOND // 4


@rule("R248")
def test_without_every_a_timer_is_a_one_shot(port: Port, timer: Timer) -> None:
    timer.set(after_ns=FAR, every_ns=FAR)
    timer.set(after=0.001)
    assert (timer.interval, timer.interval_ns) == (0, 0)
    assert port.get(SOON).events == 1
    assert port.getn(1, 1, A_WHILE) == []


@rule("R248", "R264")
def test_cancelling_disarms(port: Port, timer: Timer) -> None:
    timer.set(after=0.02, every=0.02)
    timer.cancel()
    early = port.getn(1, 1, 0)  # a machine that stood still for that long
    assert (timer.remaining, timer.remaining_ns) == (0, 0)
    assert (timer.interval, timer.interval_ns) == (0, 0)
    assert port.getn(1, 1, 0.04) == []
    assert len(early) <= 1


@rule("R248")
def test_cancelling_what_is_not_armed_does_nothing(port: Port, timer: Timer) -> None:
    timer.cancel()
    timer.set(after=0.001)
    port.get(SOON)
    timer.cancel()
    assert port.getn(1, 1, A_WHILE) == []
    timer.set(after=0.001)
    assert port.get(SOON).events == 1


@rule("R261")
def test_what_remains_grows_less(clock: int, timer: Timer) -> None:
    before = now(clock)
    timer.set(after=100)
    armed = now(clock)
    sleep_until(clock, armed + 5 * MS)
    asked = now(clock)
    left = timer.remaining_ns
    assert 100 * SECOND - (now(clock) - before) <= left <= 100 * SECOND - (asked - armed)
    assert 0 < timer.remaining <= left / SECOND


@rule("R261")
def test_both_spellings_tell_the_same(timer: Timer) -> None:
    timer.set(after_ns=FAR, every_ns=12_345)
    left, every = timer_gettime_ns(timer.id)
    assert 0 <= left - timer.remaining_ns < FAR / 2
    assert every == timer.interval_ns == 12_345
    timer_settime_ns(timer.id, 0, 2 * FAR, 54_321)
    assert FAR < timer.remaining_ns <= 2 * FAR
    assert timer.interval_ns == 54_321


@rule("R269")
def test_leaving_the_block_deletes(port: Port, clock: int) -> None:
    with port.timer(clock) as timer:
        assert not timer.deleted
        timer.set(after=0)
    assert timer.deleted
    assert port.getn(1, 1, A_WHILE) == []


@rule("R270")
def test_a_deleted_timer_is_einval(timer: Timer) -> None:
    timer.delete()
    assert timer.deleted
    assert errno_of(timer.set, after=1) == errno.EINVAL
    assert errno_of(timer.set, at_ns=1) == errno.EINVAL
    assert errno_of(timer.cancel) == errno.EINVAL
    assert errno_of(timer.delete) == errno.EINVAL
    assert errno_of(lambda: timer.remaining) == errno.EINVAL
    assert errno_of(lambda: timer.interval_ns) == errno.EINVAL


@rule("R240", "R270")
def test_a_deleted_timer_is_not_the_next_that_has_its_id(port: Port, timer: Timer) -> None:
    timer.delete()
    with port.timer(user="next") as following:
        assert following.id == timer.id
        following.set(after_ns=FAR)
        assert errno_of(timer.set, after=0) == errno.EINVAL
        assert errno_of(timer.cancel) == errno.EINVAL
        assert errno_of(timer.delete) == errno.EINVAL
        assert following.remaining > 0
        assert not following.deleted


@rule("R240", "R269")
def test_deleting_by_the_id_deletes_the_object(port: Port, timer: Timer) -> None:
    timer.set(after=0)
    timer_delete(timer.id)
    assert timer.deleted
    assert port.getn(1, 1, A_WHILE) == []


@rule("R247")
@pytest.mark.parametrize("name", ["after", "at", "after_ns", "at_ns"])
@pytest.mark.parametrize("value", [-1, -(10**30)])
def test_a_negative_moment_is_einval_and_changes_nothing(
    timer: Timer, name: str, value: int
) -> None:
    timer.set(after_ns=FAR, every_ns=7)
    assert errno_of(timer.set, **{name: value}) == errno.EINVAL
    assert 0 < timer.remaining_ns <= FAR
    assert timer.interval_ns == 7


@rule("R247")
@pytest.mark.parametrize("name", ["every", "every_ns"])
@pytest.mark.parametrize("value", [-1, -(10**30)])
def test_a_negative_interval_is_einval_and_changes_nothing(
    timer: Timer, name: str, value: int
) -> None:
    timer.set(after_ns=FAR, every_ns=7)
    assert errno_of(timer.set, after=1, **{name: value}) == errno.EINVAL
    assert 0 < timer.remaining_ns <= FAR
    assert timer.interval_ns == 7


@rule("R247")
@pytest.mark.parametrize("name", ["after", "at", "every"])
@pytest.mark.parametrize("value", [math.nan, -math.inf, -1e-9, -1e300], ids=str)
def test_a_malformed_number_of_seconds_is_einval(timer: Timer, name: str, value: float) -> None:
    timer.set(after_ns=FAR, every_ns=7)
    moment = {} if name != "every" else {"after": 1}
    assert errno_of(timer.set, **moment, **{name: value}) == errno.EINVAL
    assert 0 < timer.remaining_ns <= FAR
    assert timer.interval_ns == 7


@rule("R257")
@pytest.mark.parametrize(
    "moment",
    [
        {"after_ns": 10**30},
        {"at_ns": 10**30},
        {"at_ns": 2**63},
        {"after": 10**400},
        {"at": 1e200},
        {"after": 1, "every_ns": 10**30},
        {"after": 1, "every": 1e200},
    ],
    ids=str,
)
def test_a_time_that_no_clock_will_show_never_comes(
    port: Port, timer: Timer, moment: dict[str, Any]
) -> None:
    timer.set(after_ns=FAR, every_ns=7)
    if errno_of(timer.set, **moment) == errno.EOVERFLOW:
        assert 0 < timer.remaining_ns <= FAR
        assert timer.interval_ns == 7
    elif "every" in str(moment):
        assert port.get(SOON).events == 1
    assert port.getn(1, 1, A_WHILE) == []
    timer.set(after=0)
    assert port.get(SOON).events == 1


@rule("R060")
@pytest.mark.parametrize("name", ["after", "at", "every"])
@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: repr(value)[:16])
def test_what_is_no_number_of_seconds_is_a_type_error(timer: Timer, name: str, value: Any) -> None:
    timer.set(after_ns=FAR)
    moment = {} if name != "every" else {"after": 1}
    with pytest.raises(TypeError):
        timer.set(**moment, **{name: value})
    assert timer.remaining > 1


@rule("R060")
@pytest.mark.parametrize("name", ["after_ns", "at_ns", "every_ns"])
@pytest.mark.parametrize("value", NO_INTS, ids=lambda value: repr(value)[:16])
def test_what_is_no_int_of_nanoseconds_is_a_type_error(timer: Timer, name: str, value: Any) -> None:
    timer.set(after_ns=FAR)
    moment: dict[str, Any] = {} if name != "every_ns" else {"after": 1}
    with pytest.raises(TypeError):
        timer.set(**moment, **{name: value})
    assert timer.remaining > 1


@rule("R060")
@pytest.mark.parametrize(
    "moment",
    [
        {},
        {"every": 1},
        {"after": 1, "at": 1},
        {"after": 1, "after_ns": 1},
        {"at": 1, "at_ns": 1},
        {"after_ns": 1, "at_ns": 1},
        {"after": 1, "every": 1, "every_ns": 1},
    ],
    ids=str,
)
def test_not_exactly_one_moment_is_a_type_error(timer: Timer, moment: dict[str, Any]) -> None:
    timer.set(after_ns=FAR)
    with pytest.raises(TypeError):
        timer.set(**moment)
    assert timer.remaining > 1


@rule("R059")
@pytest.mark.parametrize("clock", [None, "1", 1.0, [], object()], ids=lambda c: repr(c)[:16])
def test_a_clock_that_is_no_int_is_a_type_error(port: Port, clock: Any) -> None:
    with pytest.raises(TypeError):
        port.timer(clock)
