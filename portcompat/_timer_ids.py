"""The numbers of the timers of this process."""

import errno
from heapq import heappop, heappush
from threading import RLock
from typing import Final

from portcompat._limits import limits
from portcompat.abc import BackendTimer


class TimerIds:
    """Small ints, the lowest that is free first (R240).

    That is also why the limit is one on numbers: when the lowest free one is too large, all below
    it are taken. The lock is re-entrant for signal handlers and finalizers; a number is taken and
    noted without a call in between, so what they find is in order.
    """

    __slots__ = ("_free", "_lock", "_next", "timers")

    def __init__(self) -> None:
        self._lock = RLock()
        self._free: list[int] = []  # a heap
        self._next = 0
        self.timers: dict[int, BackendTimer | None] = {}  # None: it is being made

    def reserve(self) -> int:
        """Take a number. OSError EAGAIN when `limits.max_timers` are taken (R238)."""
        number = -1
        most = limits.max_timers
        try:
            with self._lock:
                lowest = self._free[0] if self._free else self._next
                if lowest < most:
                    number = lowest
                    self.timers[number] = None
                    if self._free:
                        heappop(self._free)
                    else:
                        self._next += 1
        except BaseException:
            if number >= 0:
                self.release(number)
            raise
        if number < 0:
            raise OSError(
                errno.EAGAIN,
                f"the process has its {most} timers: delete some, or raise limits.max_timers",
            )
        return number

    def release(self, number: int, timer: BackendTimer | None = None) -> None:
        """Give `number` back if it is the one of `timer`."""
        with self._lock:
            if self.timers.get(number, self) is timer:
                del self.timers[number]
                if self.timers:
                    heappush(self._free, number)
                else:  # of many that were, the numbers need not be kept
                    self._free, self._next = [], 0

    def forget(self) -> None:
        """In a fork child: none is left (R245), and a thread that is not here may hold the lock."""
        self._lock = RLock()
        self._free = []
        self._next = 0
        self.timers = {}


ids: Final = TimerIds()
