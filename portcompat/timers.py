"""Timers: timer_create(3C) to timer_delete(3C), and timers as objects.

A timer that a port tells of is made by `Port.timer`, or by `timer_create` with SIGEV_PORT. When it
expires one event is queued, and what it expires until that is taken is counted in it.

Times are seconds, ints or floats, or nanoseconds where a name says so; those are ints, and exact.

The clocks are CLOCK_REALTIME, CLOCK_MONOTONIC and, where the system has it, CLOCK_BOOTTIME. Other
clocks are EINVAL. No kernel facility that a port waits in goes by CLOCK_TAI: timerfd_create(2)
refuses it as it does clocks of processor time. Linux' CLOCK_REALTIME_ALARM and CLOCK_BOOTTIME_ALARM
would wake a machine that sleeps; that takes a real-time clock and CAP_WAKE_ALARM, poll(2) could not
do it at all, and a timer that leaves the machine asleep would not be one of that clock.
"""

import errno
import signal
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, SupportsFloat, SupportsIndex, cast

from portcompat import _functions
from portcompat._checks import as_int
from portcompat._clocks import CLOCKS
from portcompat._constants import (
    SIGEV_NONE,
    SIGEV_PORT,
    SIGEV_SIGNAL,
    SIGEV_THREAD,
    TIMER_ABSTIME,
    TIMER_RELTIME,
)
from portcompat._port import Port
from portcompat._timer_ids import ids
from portcompat.abc import BackendTimer

__all__ = [
    "SIGEV_NONE",
    "SIGEV_PORT",
    "SIGEV_SIGNAL",
    "SIGEV_THREAD",
    "TIMER_ABSTIME",
    "TIMER_RELTIME",
    "SigEvent",
    "Timer",
    "timer_create",
    "timer_delete",
    "timer_getoverrun",
    "timer_gettime",
    "timer_gettime_ns",
    "timer_settime",
    "timer_settime_ns",
]

Seconds = SupportsFloat | SupportsIndex

_SECOND: Final = 1_000_000_000


class Timer:
    """A timer of a port; `Port.timer` makes it.

    Any number of threads may call any method at any time. With `timer_*` it can be used by its
    `id`. It is a context manager that deletes itself. What is not deleted lives on, and expires,
    until the port is closed; then it can still be set and read, but tells nobody (R271).
    """

    __slots__ = ("__weakref__", "_id", "_timer")

    _id: int
    _timer: BackendTimer

    def __init__(self) -> None:
        raise TypeError("Port.timer() makes timers")

    def set(
        self,
        *,
        after: Seconds | None = None,
        at: Seconds | None = None,
        every: Seconds | None = None,
        after_ns: SupportsIndex | None = None,
        at_ns: SupportsIndex | None = None,
        every_ns: SupportsIndex | None = None,
    ) -> None:
        """Arm it, instead of what it was set to before (timer_settime(3C), R247-R260).

        It expires `after` a span from now, or `at` a moment of its clock, at once if that is past;
        and then every `every` again, 0 and None for never. An event that is queued stays, and what
        expires later is counted in it (R260). Raises OSError EINVAL for a time that is negative,
        NaN or infinite and when the timer has been deleted; EOVERFLOW for what no clock will show.
        """
        if every is None:
            interval = 0 if every_ns is None else _as_nanoseconds(every_ns, "every_ns")
        elif every_ns is None:
            interval = _in_nanoseconds(every, "every")
        else:
            raise TypeError("every and every_ns exclude each other")
        if after is not None and at is None and after_ns is None and at_ns is None:
            # The usual argument is let through without a call.
            if type(after) is float and 1e-9 < after < 1e9:
                value = int(after * 1e9 + 0.5)
            else:
                value = _in_nanoseconds(after, "after")
        elif (after is None) + (at is None) + (after_ns is None) + (at_ns is None) != 3:
            raise TypeError("say when, once: one of after, at, after_ns and at_ns")
        elif at is not None:
            value = _in_nanoseconds(at, "at")
        elif after_ns is not None:
            value = _as_nanoseconds(after_ns, "after_ns")
        else:
            value = _as_nanoseconds(cast(SupportsIndex, at_ns), "at_ns")
        self._timer.set(value, interval, after is None and after_ns is None)

    def cancel(self) -> None:
        """Disarm it. An event that is queued stays (R260)."""
        self._timer.set(None, 0, False)

    @property
    def remaining(self) -> float:
        """Seconds until it expires next, 0.0 if it is disarmed (R261, R262)."""
        return self._timer.get()[0] / 1e9

    @property
    def remaining_ns(self) -> int:
        """`remaining` in nanoseconds."""
        return self._timer.get()[0]

    @property
    def interval(self) -> float:
        """Seconds of its period, 0.0 if it is disarmed or expires once only."""
        return self._timer.get()[1] / 1e9

    @property
    def interval_ns(self) -> int:
        """`interval` in nanoseconds."""
        return self._timer.get()[1]

    def delete(self) -> None:
        """Delete it, and withdraw its event if one is queued (timer_delete(3C), R269).

        Raises OSError EINVAL when it has been deleted (R270).
        """
        _delete(self._id, self._timer)

    @property
    def deleted(self) -> bool:
        return self._timer.deleted

    @property
    def id(self) -> int:
        """Its number, which events have as their `object` (R240, R265)."""
        return self._id

    @property
    def clock(self) -> int:
        """The clock that it goes by."""
        return self._timer.clock

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._timer.deleted:
            self.delete()

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if is_finalizing():  # the names of this module are gone
            return
        try:
            timer = self._timer
        except AttributeError:  # it never was one: see `make`
            return
        if not timer.deleted:
            timer.orphan()

    def __repr__(self) -> str:
        return f"<Timer {self._id}{' deleted' if self._timer.deleted else ''}>"


def make(port: Port, clock: SupportsIndex, user: Any) -> Timer:
    """`Port.timer`. Not `Timer.__init__`: a signal handler may raise when a class has been called,
    and nobody would have the timer; it does not when a function of Python returns."""
    number = as_int(clock, "clock")
    _require_clock(number, port._backend.clocks)
    made = Timer.__new__(Timer)
    timer: BackendTimer | None = None
    identity = ids.reserve()
    try:
        timer = port._backend.timer(number, identity, user)
        ids.timers[identity] = timer
    except BaseException:
        _drop(identity, timer)
        raise
    made._timer = timer
    made._id = identity
    return made


class SigEvent(NamedTuple):
    """How a timer is to tell that it has expired (struct sigevent).

    `notify` is SIGEV_PORT, SIGEV_SIGNAL, SIGEV_THREAD or SIGEV_NONE. For SIGEV_PORT `port` is a
    `Port` or the number of one, and `user` comes back with its events; for SIGEV_SIGNAL `signo` is
    the signal; for SIGEV_THREAD `function` is called with `value`.
    """

    notify: int
    signo: int = 0
    value: Any = None
    port: Port | int | None = None
    user: Any = None
    function: Any = None


_ALARM: Final = SigEvent(SIGEV_SIGNAL, getattr(signal, "SIGALRM", 14))  # R239


def timer_create(clock_id: SupportsIndex, sigevent: SigEvent | None = None) -> int:
    """Make a timer, disarmed; returns its id (timer_create(3C), R237-R246).

    Raises OSError EINVAL for a clock that nothing can wait on and for what SigEvent cannot be,
    EAGAIN when `limits.max_timers` or all slots of the port are taken, EBADF when the port is not
    open, EBADFD when it is no port, and EFAULT for SIGEV_THREAD without a function (R280).
    """
    clock = as_int(clock_id, "clock_id")
    if sigevent is not None and not isinstance(sigevent, SigEvent):
        raise TypeError(f"sigevent must be a SigEvent or None, not {type(sigevent).__name__}")
    _require_clock(clock, CLOCKS)
    asked = _check(_ALARM if sigevent is None else sigevent)
    timer: BackendTimer | None = None
    number = ids.reserve()
    try:
        timer = _make(clock, number, asked)
        ids.timers[number] = timer
    except BaseException:
        _drop(number, timer)
        raise
    return number


def timer_settime(
    timerid: SupportsIndex, flags: SupportsIndex, value: Seconds, interval: Seconds = 0
) -> tuple[float, float]:
    """Arm a timer, or with `value` 0 disarm it (timer_settime(3C), R247-R260).

    `value` is a span, or with TIMER_ABSTIME in `flags` a moment of its clock; both are seconds.
    Returns the (value, interval) it had, the value relative to now. Raises OSError EINVAL for an
    unknown id and for times that are negative, NaN or infinite; the interval does not matter if
    `value` is 0. EOVERFLOW for what no clock will show.
    """
    timer = _timer(timerid)
    bits = as_int(flags, "flags")
    first = _in_nanoseconds(value, "value")
    period = _in_nanoseconds(interval, "interval") if first else 0
    old, former = timer.set(first or None, period, bool(bits & TIMER_ABSTIME))
    return old / 1e9, former / 1e9


def timer_settime_ns(
    timerid: SupportsIndex, flags: SupportsIndex, value: SupportsIndex, interval: SupportsIndex = 0
) -> tuple[int, int]:
    """`timer_settime` in nanoseconds."""
    timer = _timer(timerid)
    bits = as_int(flags, "flags")
    first = _as_nanoseconds(value, "value")
    period = _as_nanoseconds(interval, "interval") if first else 0
    return timer.set(first or None, period, bool(bits & TIMER_ABSTIME))


def timer_gettime(timerid: SupportsIndex) -> tuple[float, float]:
    """The seconds until a timer expires next, and its interval (timer_gettime(3C), R261-R264).

    0.0 if it is disarmed. Raises OSError EINVAL for an unknown id.
    """
    value, interval = _timer(timerid).get()
    return value / 1e9, interval / 1e9


def timer_gettime_ns(timerid: SupportsIndex) -> tuple[int, int]:
    """`timer_gettime` in nanoseconds."""
    return _timer(timerid).get()


def timer_getoverrun(timerid: SupportsIndex) -> int:
    """How often a timer expired beyond the once that it told of last (timer_getoverrun(3C)).

    Always 0 for SIGEV_PORT, where the event says it, and for SIGEV_NONE (R268, R275). Raises
    OSError EINVAL for an unknown id.
    """
    return _timer(timerid).overrun()


def timer_delete(timerid: SupportsIndex) -> None:
    """Delete a timer, and withdraw its event if one is queued (timer_delete(3C), R269).

    Raises OSError EINVAL for an unknown id (R270).
    """
    timer = _timer(timerid)
    _delete(as_int(timerid, "timerid"), timer)


def _make(clock: int, number: int, sigevent: SigEvent) -> BackendTimer:
    if sigevent.notify == SIGEV_PORT:
        port = sigevent.port
        found = port if isinstance(port, Port) else _functions._port(cast(int, port))
        _require_clock(clock, found._backend.clocks)
        return found._backend.timer(clock, number, sigevent.user)
    from portcompat import _timer_kinds

    if sigevent.notify == SIGEV_NONE:
        return _timer_kinds.SilentTimer(clock)
    if sigevent.notify == SIGEV_SIGNAL:
        return _timer_kinds.signal_timer(clock, number, sigevent.signo, sigevent.value)
    function, value = sigevent.function, sigevent.value
    return _timer_kinds.ThreadTimer(clock, number, lambda count: function(value))


def _check(sigevent: SigEvent) -> SigEvent:
    """Refuse what no kernel would take, before anything is made (R238)."""
    notify = as_int(sigevent.notify, "notify")
    if notify not in (SIGEV_NONE, SIGEV_SIGNAL, SIGEV_THREAD, SIGEV_PORT):
        raise OSError(errno.EINVAL, f"notify {notify} is none of SIGEV_*")
    if notify == SIGEV_PORT and not isinstance(sigevent.port, Port):
        as_int(cast(int, sigevent.port), "port")
    if notify == SIGEV_SIGNAL and as_int(sigevent.signo, "signo") not in signal.valid_signals():
        raise OSError(errno.EINVAL, f"there is no signal {sigevent.signo}")
    if notify == SIGEV_THREAD and not callable(sigevent.function):
        if sigevent.function is None:
            raise OSError(errno.EFAULT, "SIGEV_THREAD needs a function (R280)")
        raise TypeError(f"function must be callable, not {type(sigevent.function).__name__}")
    return sigevent


def _timer(timerid: SupportsIndex) -> BackendTimer:
    number = as_int(timerid, "timerid")
    timer = ids.timers.get(number)
    if timer is None:
        raise OSError(errno.EINVAL, f"there is no timer {number}")
    return timer


def _delete(number: int, timer: BackendTimer) -> None:
    try:
        timer.delete()
        ids.release(number, timer)
    except BaseException:
        if timer.deleted:  # a signal handler raised
            ids.release(number, timer)
        raise


def _drop(number: int, timer: BackendTimer | None) -> None:
    """Undo the making of a timer."""
    ids.release(number)
    if timer is not None:
        _delete(number, timer)


def _require_clock(clock: int, known: frozenset[int]) -> None:
    if clock not in known:
        raise OSError(errno.EINVAL, f"clock {clock} is not one that a timer can go by")


def _in_nanoseconds(seconds: Seconds, name: str) -> int:
    """Seconds as nanoseconds. Nothing that is more than 0 becomes 0."""
    if type(seconds) is float and 0 <= seconds < 1e300:
        return int(seconds * 1e9 + 0.5) or (1 if seconds else 0)
    if type(seconds) is int and seconds >= 0:
        return seconds * _SECOND
    if isinstance(seconds, str | bytes | bytearray):
        raise TypeError(f"{name} must be a number of seconds, not {type(seconds).__name__}")
    if not isinstance(seconds, float) and hasattr(seconds, "__index__"):
        number = cast(SupportsIndex, seconds).__index__()
        if number < 0:
            raise OSError(errno.EINVAL, f"{name} must not be negative, and is {number}")
        return number * _SECOND
    try:
        span = float(seconds)
    except TypeError:
        raise TypeError(
            f"{name} must be a number of seconds, not {type(seconds).__name__}"
        ) from None
    except OverflowError:
        raise OSError(errno.EOVERFLOW, f"{name} is beyond every clock") from None
    if not 0 <= span < 1e300:
        raise OSError(errno.EINVAL, f"{name} must not be negative, NaN or infinite, and is {span}")
    return int(span * 1e9 + 0.5) or (1 if span else 0)


def _as_nanoseconds(value: SupportsIndex, name: str) -> int:
    if type(value) is not int:
        try:
            value = value.__index__()
        except AttributeError:
            raise TypeError(
                f"{name} must be an int of nanoseconds, not {type(value).__name__}"
            ) from None
    if value < 0:
        raise OSError(errno.EINVAL, f"{name} must not be negative, and is {value}")
    return value
