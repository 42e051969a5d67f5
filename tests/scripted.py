"""A driver that reports what a test tells it to."""

import errno
import time
from threading import Condition

from portcompat._constants import Trigger
from portcompat.abc import Driver, Renumbered


class ScriptedDriver(Driver):
    """Descriptors are numbers without files. `calls` lists what the engine asked for.

    Its clocks go as the host's do, until they are moved on.
    """

    features = frozenset({"passive-fileno"})
    clocks = frozenset({time.CLOCK_MONOTONIC, time.CLOCK_REALTIME})

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.armed: dict[int, tuple[int, int]] = {}  # fd -> events, token
        self.shown: bool | None = None
        self.closed = False
        self.conditions: dict[int, int] = {}  # what holds of a descriptor
        self.waiting = False
        self.alarms: dict[int, int] = {}
        self._ahead = dict.fromkeys(self.clocks, 0)
        self._gone: set[int] = set()
        self._always: dict[int, int] = {}
        self._renumbered: set[int] = set()
        self._ready: list[tuple[int, int]] = []
        self._woken = False
        self._change = Condition()

    # The script

    def report(self, fd: int, revents: int) -> None:
        """The next wait tells that `fd`, which is armed, is ready."""
        with self._change:
            _, token = self.armed.pop(fd)
            self._ready.append((token, revents))
            self._change.notify_all()

    def report_token(self, token: int, revents: int) -> None:
        """The next wait tells of a token, whether it means something or not."""
        with self._change:
            self._ready.append((token, revents))
            self._change.notify_all()

    def vanish(self, fd: int) -> None:
        """The number is closed."""
        self._gone.add(fd)

    def renumber(self, fd: int) -> None:
        """The number means another file from now on."""
        self._gone.discard(fd)
        self._renumbered.add(fd)

    def always_ready(self, fd: int, bits: int) -> None:
        self._always[fd] = bits

    def advance(self, seconds: float, *clocks: int) -> None:
        """Time passes; or, if clocks are named, these are set forward or back."""
        with self._change:
            for clock in clocks or self.clocks:
                self._ahead[clock] += int(seconds * 1e9)
            self._change.notify_all()

    # The driver

    def arm(self, fd: int, events: int, token: int, trigger: Trigger = Trigger.ONESHOT) -> int:
        self.calls.append(("arm", fd, events, token))
        if fd in self._gone:
            raise OSError(errno.EBADF, "gone")
        if fd in self._renumbered:
            self._renumbered.discard(fd)
            raise Renumbered
        if fd in self._always:
            return events & self._always[fd]
        self.armed[fd] = (events, token)
        return 0

    def disarm(self, fd: int) -> None:
        self.calls.append(("disarm", fd))
        self.armed.pop(fd, None)

    def current(self, fd: int, armed: bool = True) -> bool:
        return fd not in self._gone and fd not in self._renumbered

    def condition(self, fd: int, events: int) -> int:
        return self.conditions.get(fd, 0) & events

    def wait(self, timeout: float | None) -> list[tuple[int, int]]:
        with self._change:
            if timeout != 0:
                self.waiting = True
                self._change.notify_all()
                over = None
                if timeout is not None:
                    over = self.now(time.CLOCK_MONOTONIC) + int(timeout * 1e9)
                while not (self._ready or self._woken):
                    spans = [when - self.now(clock) for clock, when in self.alarms.items()]
                    if over is not None:
                        spans.append(over - self.now(time.CLOCK_MONOTONIC))
                    if spans and min(spans) <= 0:
                        break
                    self._change.wait(min(spans) / 1e9 if spans else None)
                self.waiting = self._woken = False
            for clock, when in list(self.alarms.items()):
                if when <= self.now(clock):
                    del self.alarms[clock]
            ready, self._ready = self._ready, []
            return ready

    def now(self, clock: int, /) -> int:
        return time.clock_gettime_ns(clock) + self._ahead[clock]

    def set_alarm(self, clock: int, when: int | None) -> None:
        with self._change:
            self.calls.append(("set_alarm", clock, when))
            self.alarms.pop(clock, None)
            if when is not None:
                self.alarms[clock] = when
            self._change.notify_all()

    def wake(self) -> None:
        with self._change:
            self._woken = True
            self._change.notify_all()

    def close(self) -> None:
        self.closed = True

    def fileno(self) -> int:
        return 1_000

    def is_descriptor(self, fd: int) -> bool:
        return fd == 1_000

    def show(self, queued: bool) -> None:
        self.shown = queued
