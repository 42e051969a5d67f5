"""timer_create(2) with a signal: Linux."""

import errno
from threading import RLock

from portcompat._clocks import require_shown
from portcompat.abc import BackendTimer
from portcompat.backends._linux import PosixTimer


class KernelTimer(BackendTimer):
    """A timer of the kernel, which sends the signal, one at a time, and counts (R274)."""

    __slots__ = ("_lock", "_timer", "clock")

    def __init__(self, clock: int, signo: int, value: int) -> None:
        self.clock = clock
        # Numbers of the kernel come back, so none is used that is being deleted. Re-entrant for
        # signal handlers; the calls change nothing that a handler could find half-done.
        self._lock = RLock()
        self._timer: PosixTimer | None = PosixTimer(clock, signo, value)

    def set(self, value: int | None, interval: int, absolute: bool) -> tuple[int, int]:
        with self._lock:
            timer = self._living()
            if value is not None:
                require_shown(self.clock, value + interval)
            return timer.set(value, interval, absolute)

    def get(self) -> tuple[int, int]:
        with self._lock:
            return self._living().get()

    def overrun(self) -> int:
        with self._lock:
            return self._living().overrun()

    def delete(self) -> None:
        with self._lock:
            timer = self._living()
            self._timer = None
            timer.delete()

    @property
    def deleted(self) -> bool:
        return self._timer is None

    def _living(self) -> PosixTimer:
        if self._timer is None:
            raise OSError(errno.EINVAL, "the timer has been deleted")
        return self._timer
