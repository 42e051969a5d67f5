"""Timers under test: what their clocks read, and how often they must have expired."""

import time

import pytest

from portcompat import PORT_SOURCE_TIMER, Port, PortEvent
from portcompat.conformance._descriptors import SOON

if not hasattr(time, "clock_gettime_ns"):
    pytest.skip("this host has no POSIX clocks", allow_module_level=True)

US = 1_000
MS = 1_000_000
SECOND = 1_000_000_000
"""In nanoseconds, as clocks are read here."""

FAR = 3600 * SECOND
"""A span that no test lasts."""

PERIOD = 10 * SECOND
"""Half of it is a span in which a test does a few calls."""

INT_MAX = 0x7FFF_FFFF


def now(clock: int) -> int:
    """What `clock` reads, in nanoseconds."""
    return time.clock_gettime_ns(clock)


def sleep_until(clock: int, when: int) -> None:
    """Let time pass until `clock` reads `when` nanoseconds."""
    while (left := when - now(clock)) > 0:
        time.sleep(left / SECOND)


def boundaries(start: int, every: int, moment: int) -> int:
    """How often a timer that is to expire at `start` and then every `every` has, at `moment`."""
    return 0 if moment < start else (moment - start) // every + 1


def start_of(count: int, clock: int) -> int:
    """When a timer with a period of PERIOD has to have started to have expired `count` times.

    The next expiry is half a period away.
    """
    return now(clock) - (count - 1) * PERIOD - PERIOD // 2


class Counted:
    """The expirations of a periodic timer, which have to add up (R254, R255, R265).

    What the retrieved events say is compared with the clock before and after each retrieval: the
    sum is never more than the boundaries that have passed, and lacks none of those that had
    passed when the retrieval began.
    """

    def __init__(self, clock: int, start: int, every: int) -> None:
        self._clock, self._start, self._every = clock, start, every
        self.taken = 0

    def passed(self) -> int:
        """The boundaries up to now."""
        return boundaries(self._start, self._every, now(self._clock))

    def take(self, port: Port) -> int:
        """Get the timer's event; how many expirations it tells of."""
        before = self.passed()
        event = port.get(SOON)
        after = self.passed()
        assert event.source == PORT_SOURCE_TIMER
        assert event.events >= 1
        self.taken += event.events
        assert before <= self.taken <= after
        return event.events


def users(events: list[PortEvent]) -> list[object]:
    """Whose events these are."""
    return [event.user for event in events]
