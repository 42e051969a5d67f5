"""The host's clocks, and which of them a timer can go by."""

import errno
import time
from collections.abc import Callable
from functools import partial
from typing import Final

# A host without clock_gettime(2) gets Linux' numbers for the two clocks that every host has.
CLOCK_REALTIME: Final[int] = getattr(time, "CLOCK_REALTIME", 0)
CLOCK_MONOTONIC: Final[int] = getattr(time, "CLOCK_MONOTONIC", 1)

CLOCKS: Final = frozenset(
    {CLOCK_REALTIME, CLOCK_MONOTONIC}
    | {number for number in (getattr(time, "CLOCK_BOOTTIME", None),) if number is not None}
)
"""Those that go on by themselves: no clock of what a process or a thread has used (R237), and none
that only some drivers can wait on (`portcompat.timers`)."""

LAST: Final = 0x7FFF_FFFF_FFFF_FFFF
"""The last nanosecond that clocks show, in 292 years after they began."""


def require_shown(clock: int, when: int) -> None:
    """Raise OSError EOVERFLOW if `clock` will never show `when` nanoseconds (R257).

    The date may be anything that struct timespec can hold."""
    if when > (LAST * 1_000_000_000 if clock == CLOCK_REALTIME else LAST):
        raise OSError(errno.EOVERFLOW, "no clock goes that far: value plus interval is too much")


def _now(clock: int, /) -> int:
    return time.time_ns() if clock == CLOCK_REALTIME else time.monotonic_ns()


now: Final = getattr(time, "clock_gettime_ns", _now)
"""What a clock shows, in nanoseconds."""


def reader(clock: int) -> Callable[[], int]:
    """What reads `clock` as `now` does, in less time if there is a function for it alone."""
    if (
        clock == CLOCK_MONOTONIC
        and time.get_clock_info("monotonic").implementation == "clock_gettime(CLOCK_MONOTONIC)"
    ):
        return time.monotonic_ns
    return partial(now, clock)
