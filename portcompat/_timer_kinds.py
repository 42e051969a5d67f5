"""The timers that no port of the user's tells of: SIGEV_NONE, SIGEV_THREAD and SIGEV_SIGNAL."""

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from threading import Thread
from typing import Any, Final, Protocol, cast

from portcompat import _clocks
from portcompat._clocks import CLOCK_MONOTONIC, CLOCK_REALTIME, require_shown
from portcompat._deadlines import remaining
from portcompat._port import Port
from portcompat.abc import BackendTimer

_KERNEL_TIMERS: Final = "portcompat.backends.posix_timers"


class SilentTimer(BackendTimer):
    """A timer that tells nobody (SIGEV_NONE, R275)."""

    __slots__ = ("_live", "_setting", "clock")

    def __init__(self, clock: int) -> None:
        self.clock = clock
        self._live: list[None] = [None]  # popped by the one of several threads that deletes it
        self._setting: tuple[int, int | None, int] = (
            clock,
            None,
            0,
        )  # on which clock, when, interval

    def set(self, value: int | None, interval: int, absolute: bool) -> tuple[int, int]:
        former = self.get()
        if value is None:
            self._setting = self.clock, None, 0
        else:
            clock = self.clock
            if clock == CLOCK_REALTIME and not absolute:
                clock = CLOCK_MONOTONIC  # that the date is set does not concern it (R259)
            when = value if absolute else _clocks.now(clock) + value
            require_shown(self.clock, when + interval)
            self._setting = clock, when, interval
        return former

    def get(self) -> tuple[int, int]:
        if not self._live:
            raise _deleted()
        clock, when, interval = self._setting
        left = 0 if when is None else remaining(when, interval, _clocks.now(clock))
        return (left, interval) if left else (0, 0)

    def overrun(self) -> int:
        if not self._live:
            raise _deleted()
        return 0

    def delete(self) -> None:
        try:
            self._live.pop()
        except IndexError:
            raise _deleted() from None

    @property
    def deleted(self) -> bool:
        return not self._live


class ThreadTimer(BackendTimer):
    """A timer that calls a function (SIGEV_THREAD, R276-R281).

    A port of its own tells of it, and a thread waits there and makes the calls. So they never
    overlap, and what expires during one is in the count of the next event.
    """

    __slots__ = ("_call", "_overrun", "_port", "_timer", "clock")

    def __init__(self, clock: int, number: int, call: Callable[[int], object]) -> None:
        self.clock = clock
        self._call = call  # with the count
        self._overrun = 0
        self._port = Port()
        try:
            if clock not in self._port._backend.clocks:
                raise OSError(errno.EINVAL, f"clock {clock} is not one that a timer can go by")
            self._timer = self._port._backend.timer(clock, number, None)
            try:
                Thread(target=self._run, name=f"portcompat timer {number}", daemon=True).start()
            except RuntimeError as error:
                raise OSError(errno.EAGAIN, str(error)) from error
        except BaseException:
            self._port.close()
            raise

    def set(self, value: int | None, interval: int, absolute: bool) -> tuple[int, int]:
        return self._timer.set(value, interval, absolute)

    def get(self) -> tuple[int, int]:
        return self._timer.get()

    def overrun(self) -> int:
        self._timer.overrun()  # raises if it has been deleted
        return self._overrun

    def delete(self) -> None:
        try:
            self._timer.delete()
        finally:
            if self._timer.deleted:
                self._port.close()  # and the thread ends, after the call that it is in (R279)

    @property
    def deleted(self) -> bool:
        return self._timer.deleted

    def _run(self) -> None:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # R278
        while True:
            try:
                count = self._port.get().events
            except OSError:
                return
            self._overrun = count - 1
            try:
                self._call(count)
            except BaseException:
                told = (*sys.exc_info(), threading.current_thread())
                threading.excepthook(threading.ExceptHookArgs(told))


class KillingTimer(ThreadTimer):
    """A timer that sends a signal, where the kernel has none that Python can reach (R274)."""

    __slots__ = ("_missed", "_signo")

    def __init__(self, clock: int, number: int, signo: int) -> None:
        if not hasattr(signal, "pthread_kill"):
            raise OSError(errno.EINVAL, "this system cannot send signals: take SIGEV_PORT")
        self._signo = signo
        self._missed = 0
        super().__init__(clock, number, self._kill)

    def overrun(self) -> int:
        super().overrun()
        return self._missed

    def _kill(self, count: int) -> None:
        # This thread blocks all signals, so it sees what is pending for the process.
        if self._signo in signal.sigpending():
            self._missed += count
        else:
            self._missed = count - 1
            os.kill(os.getpid(), self._signo)


class _KernelTimers(Protocol):
    """What `_KERNEL_TIMERS` has."""

    def KernelTimer(self, clock: int, signo: int, value: int) -> BackendTimer: ...


def signal_timer(clock: int, number: int, signo: int, value: Any) -> BackendTimer:
    """A timer that sends a signal (SIGEV_SIGNAL); the kernel's own if there is one."""
    try:
        kernel = cast(_KernelTimers, import_module(_KERNEL_TIMERS))
    except ImportError:
        return KillingTimer(clock, number, signo)
    return kernel.KernelTimer(clock, signo, value if type(value) is int else number)


def _deleted() -> OSError:
    return OSError(errno.EINVAL, "the timer has been deleted")
