"""poll(2) and select(2): anywhere, in pure Python."""

import errno
import os
import select
import socket
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from portcompat._clocks import CLOCK_MONOTONIC, CLOCKS
from portcompat._constants import (
    POLLIN,
    POLLNVAL,
    POLLOUT,
    POLLPRI,
    POLLRDBAND,
    POLLRDHUP,
    POLLRDNORM,
    POLLWRBAND,
    POLLWRNORM,
    Trigger,
)
from portcompat.abc import Driver, Renumbered
from portcompat.backends._identity import identity, is_identity
from portcompat.backends._pair import drain, signal, signal_pair

_BITS: Final = (
    POLLIN | POLLPRI | POLLOUT | POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND | POLLRDHUP
)
_READ: Final = POLLIN | POLLRDNORM
_WRITE: Final = POLLOUT | POLLWRNORM
_LOOK_EVERY: Final = 1.0  # seconds: how long a clock may go its own way before that is noticed


class _PollingDriver(Driver):
    """What poll(2) and select(2) have in common: the set of descriptors is passed at each call.

    The set belongs to the thread in `wait`. Others leave what they want changed in `_changes` and
    wake it, so the set needs no lock. These calls know numbers only; whether one still means the
    same open file is judged by device, inode and access mode, which is all that is to be had.

    An alarm is the timeout of the call, which is on the monotonic clock. So while there is an alarm
    on another one, it is looked at now and then whether that has been set, or has gone on while the
    machine slept.
    """

    clocks = CLOCKS

    def __init__(self) -> None:
        self._alarms: dict[int, int] = {}
        self._identities: dict[int, tuple[int, ...]] = {}
        self._tokens: dict[int, int] = {}  # of the set; only `wait` touches it
        self._lasting: set[int] = set()  # of the set, LEVEL; only `wait` touches it
        # fd, events (-1: leave), token, whether it lasts
        self._changes: deque[tuple[int, int, int, bool]] = deque()
        self._waiting = False
        self._woken = False
        self._outer: tuple[socket.socket, socket.socket] | None = None
        self._wakeup, self._waker = signal_pair()
        try:
            self._add(self._wakeup.fileno(), POLLIN)
        except BaseException:
            self.close()
            raise

    def arm(self, fd: int, events: int, token: int, trigger: Trigger = Trigger.ONESHOT) -> int:
        here = identity(fd)
        if self._identities.setdefault(fd, here) != here:
            self.disarm(fd)
            raise Renumbered
        self._changes.append((fd, events & _BITS, token, trigger == Trigger.LEVEL))
        if self._waiting:
            signal(self._waker)
        return 0

    def disarm(self, fd: int) -> None:
        if self._identities.pop(fd, None) is not None:
            self._changes.append((fd, -1, 0, False))
            if self._waiting:
                signal(self._waker)

    def current(self, fd: int, armed: bool = True) -> bool:
        return fd in self._identities and is_identity(fd, self._identities[fd])

    def wait(self, timeout: float | None) -> list[tuple[int, int]]:
        self._waiting = True  # before the changes are taken: who comes later wakes us
        try:
            if self._alarms and timeout != 0:
                timeout = self._until_alarm(timeout)
            while self._changes:
                fd, events, token, lasts = self._changes[0]
                self._remove(fd)
                self._lasting.discard(fd)
                if events >= 0:
                    self._tokens[fd] = token
                    if lasts:
                        self._lasting.add(fd)
                    self._add(fd, events)
                del self._changes[0]  # at the end, lest a handler raises while nobody has it
            found = self._poll(timeout)
        finally:
            self._waiting = False
        ready: list[tuple[int, int]] = []
        for fd, revents in found:
            if fd == self._wakeup.fileno():
                drain(self._wakeup)
                continue
            if revents & POLLNVAL or fd not in self._lasting:
                self._remove(fd)
            known = self._tokens.get(fd)
            if known is not None and not revents & POLLNVAL and fd in self._identities:
                ready.append((known, revents))
        return ready

    def poller(self) -> Callable[[float | None], list[tuple[int, int]]]:
        return self._wait_out

    def _wait_out(self, timeout: float | None) -> list[tuple[int, int]]:
        """`wait`, and again if it ends early without having been woken."""
        if timeout is not None and timeout != timeout:
            raise ValueError("Invalid value NaN (not a number)")  # as poll(2) and select(2) have it
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            ready = self.wait(timeout)
            if ready or self._woken:
                self._woken = False
                return ready
            if deadline is not None:
                timeout = deadline - time.monotonic()
                if timeout <= 0:
                    return ready

    def _until_alarm(self, timeout: float | None) -> float | None:
        """`timeout`, or the time until the first alarm if that is less."""
        for clock, when in list(self._alarms.items()):  # at one go: others set alarms meanwhile
            span = max(0, when - self.now(clock)) / 1e9
            if clock != CLOCK_MONOTONIC:
                span = min(span, _LOOK_EVERY)
            timeout = span if timeout is None else min(timeout, span)
        return timeout

    def set_alarm(self, clock: int, when: int | None) -> None:
        if when is None:
            self._alarms.pop(clock, None)
            return
        former = self._alarms.get(clock)
        self._alarms[clock] = when
        if self._waiting and (former is None or when <= former):
            self.wake()

    def wake(self) -> None:
        self._woken = True
        signal(self._waker)

    def close(self) -> None:
        for end in (self._wakeup, self._waker, *(self._outer or ())):
            end.close()

    def fileno(self) -> int:
        if self._outer is None:
            self._outer = signal_pair()
        return self._outer[0].fileno()

    def is_descriptor(self, fd: int) -> bool:
        return self._outer is not None and os.path.sameopenfile(fd, self._outer[0].fileno())

    def show(self, queued: bool) -> None:
        assert self._outer is not None
        if queued:
            signal(self._outer[1])
        else:
            drain(self._outer[0])

    @abstractmethod
    def _add(self, fd: int, events: int) -> None: ...

    @abstractmethod
    def _remove(self, fd: int) -> None:
        """No error if it is not there: a signal handler may have raised half-way."""

    @abstractmethod
    def _poll(self, timeout: float | None) -> list[tuple[int, int]]: ...


class PollDriver(_PollingDriver):
    """poll(2). Its cost grows with the number of descriptors watched."""

    features = frozenset(
        {"hangup", "bands", "any-descriptor", "level"} | ({"rdhup"} if POLLRDHUP else set())
    )

    def __init__(self) -> None:
        if not hasattr(select, "poll"):
            raise OSError(errno.ENOTSUP, "this system has no poll(2)")
        self._set = select.poll()
        super().__init__()

    def _add(self, fd: int, events: int) -> None:
        self._set.register(fd, events)

    def _remove(self, fd: int) -> None:
        with suppress(KeyError):
            self._set.unregister(fd)

    def _poll(self, timeout: float | None) -> list[tuple[int, int]]:
        return self._set.poll(None if timeout is None else timeout * 1000)


class SelectDriver(_PollingDriver):
    """select(2): readable, writable and exceptional, and nothing else is told apart.

    A hang-up shows as readable and an error as readable or writable, to those who asked for that.
    """

    features = frozenset({"level"})

    def __init__(self) -> None:
        self._set: dict[int, int] = {}
        super().__init__()

    def arm(self, fd: int, events: int, token: int, trigger: Trigger = Trigger.ONESHOT) -> int:
        if os.name == "posix" and fd >= 1024:  # FD_SETSIZE, which Python does not tell
            identity(fd)  # that it is closed comes first
            raise OSError(
                errno.ENOTSUP,
                f"select(2) takes descriptors below 1024, not {fd}: use another backend",
            )
        return super().arm(fd, events, token, trigger)

    def _add(self, fd: int, events: int) -> None:
        self._set[fd] = events

    def _remove(self, fd: int) -> None:
        self._set.pop(fd, None)

    def _poll(self, timeout: float | None) -> list[tuple[int, int]]:
        closed: list[tuple[int, int]] = []
        wanted = self._set
        while True:
            try:
                return closed + self._select(wanted, 0 if closed else timeout)
            except (OSError, ValueError) as error:
                if isinstance(error, OSError) and error.errno != errno.EBADF:
                    raise
            # One that is closed fails the call for all.
            wanted = {fd: events for fd, events in self._set.items() if _is_open(fd)}
            closed = [(fd, POLLNVAL) for fd in self._set if fd not in wanted]

    def _select(self, wanted: dict[int, int], timeout: float | None) -> list[tuple[int, int]]:
        readable, writable, exceptional = select.select(
            [fd for fd, events in wanted.items() if events & _READ],
            [fd for fd, events in wanted.items() if events & _WRITE],
            [fd for fd, events in wanted.items() if events & POLLPRI],
            timeout,
        )
        found: dict[int, int] = {}
        for bits, descriptors in ((_READ, readable), (_WRITE, writable), (POLLPRI, exceptional)):
            for fd in descriptors:
                found[fd] = found.get(fd, 0) | bits & wanted[fd]
        return [(fd, found[fd]) for fd in wanted if fd in found]


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
