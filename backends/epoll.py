"""epoll(7), eventfd(2) and timerfd_create(2): Linux."""

import errno
import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from portcompat._constants import Trigger
from portcompat.abc import Driver, Renumbered
from portcompat.backends._identity import identity, is_identity
from portcompat.backends._linux import (
    ADD,
    MOD,
    epoll_ctl,
    is_registered,
    set_timerfd,
    timerfd,
    wait_readable,
)

if not hasattr(select, "epoll"):
    raise ImportError("this system has no epoll(7)")

# The bits of poll(2) and of epoll(7) have the same numbers (<uapi/linux/eventpoll.h>).
_READY_BITS: Final = (
    select.EPOLLIN
    | select.EPOLLPRI
    | select.EPOLLOUT
    | select.EPOLLRDNORM
    | select.EPOLLRDBAND
    | select.EPOLLWRNORM
    | select.EPOLLWRBAND
    | select.EPOLLMSG
    | select.EPOLLRDHUP
)
_ALWAYS_READY: Final = (
    select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDNORM | select.EPOLLWRNORM
)  # what poll(2) says of a regular file
_ONESHOT: Final = select.EPOLLONESHOT
_TRIGGERS: Final = (select.EPOLLONESHOT, 0, select.EPOLLET)  # of Trigger
_MAX_READY: Final = 1024


class EpollDriver(Driver):
    """One epoll instance; EPOLLONESHOT is the port's one-shot.

    The kernel keeps a registration per (number, open file). So it outlives close() where a dup
    or a fork child keeps the file alive, and goes on reporting under the old number: that is why
    numbers have lives (`Renumbered`). EPOLL_CTL_MOD finds out for nothing whether a number still
    means the same file: it answers ENOENT. To only ask about one that is armed, EPOLL_CTL_ADD is
    used, which answers EEXIST and has no effect.

    `select.epoll` gives back the low 32 bits of what was registered with a descriptor, as a signed
    int, so a tagged token costs an `epoll_ctl` of our own but nothing when it is reported.
    """

    features = frozenset(
        {"hangup", "bands", "rdhup", "any-descriptor", "passive-fileno", "level", "edge"}
    )
    clocks = frozenset({time.CLOCK_MONOTONIC, time.CLOCK_REALTIME, time.CLOCK_BOOTTIME})
    # Without a frame of Python. Pyright takes it for a method.
    now = staticmethod(time.clock_gettime_ns)  # pyright: ignore[reportAssignmentType]

    def __init__(self) -> None:
        self._wakeup = -1
        self._alarms: dict[int, int] = {}  # clock -> timerfd
        self._outer: select.epoll | None = None
        self._queued = -1
        self._files: dict[int, tuple[int, ...]] = {}  # always ready: fd -> identity
        self._known: set[int] = set()
        self._tagged: dict[int, tuple[int, ...]] = {}  # registered with a tagged token: identity
        self._epoll = select.epoll()
        self._number = self._epoll.fileno()
        try:
            self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            # Edge-triggered: each write wakes one wait, and nobody has to read.
            self._epoll.register(self._wakeup, select.EPOLLIN | select.EPOLLET)
        except OSError:
            self.close()
            raise

    def arm(self, fd: int, events: int, token: int, trigger: Trigger = Trigger.ONESHOT) -> int:
        mask = events & _READY_BITS | (_TRIGGERS[trigger] if trigger else _ONESHOT)
        try:
            if fd in self._known:
                if token != fd:
                    if not is_identity(fd, self._tagged.get(fd)):
                        raise FileNotFoundError
                    epoll_ctl(self._number, MOD, fd, mask, token)
                else:
                    self._epoll.modify(fd, mask)
            elif token != fd or self._files:
                self._register(fd, mask, token)
            else:
                self._epoll.register(fd, mask)
                self._known.add(fd)
        except FileExistsError:  # an earlier life of the number came back, by dup2 for instance
            epoll_ctl(self._number, MOD, fd, mask, token)
            self._known.add(fd)
        except PermissionError:  # a regular file or a directory
            here = identity(fd)
            if fd in self._known or self._files.setdefault(fd, here) != here:
                self._known.discard(fd)
                self._files.pop(fd, None)
                raise Renumbered from None
            return events & _ALWAYS_READY
        except FileNotFoundError:
            self._known.discard(fd)
            self._tagged.pop(fd, None)
            raise Renumbered from None
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise OSError(
                    errno.EAGAIN, "no room for another descriptor: raise fs.epoll.max_user_watches"
                ) from None
            raise
        return 0

    def _register(self, fd: int, mask: int, token: int) -> None:
        """A new number, when that takes more than the usual call."""
        was_file = self._files.pop(fd, None)
        try:
            if token == fd:
                self._epoll.register(fd, mask)
            else:
                self._tagged[fd] = identity(fd)
                epoll_ctl(self._number, ADD, fd, mask, token)
        except FileExistsError:
            epoll_ctl(self._number, MOD, fd, mask, token)
        except PermissionError:
            if was_file is not None:
                self._files[fd] = was_file
            raise
        self._known.add(fd)
        if was_file is not None:
            self.disarm(fd)
            raise Renumbered

    def disarm(self, fd: int) -> None:
        if self._files or self._tagged:
            self._files.pop(fd, None)
            self._tagged.pop(fd, None)
        if fd in self._known:
            self._known.discard(fd)
            try:
                self._epoll.unregister(fd)
            except OSError as error:
                if error.errno not in (errno.EBADF, errno.ENOENT, errno.EPERM):
                    raise

    def current(self, fd: int, armed: bool = True) -> bool:
        if fd in self._known:
            if not (armed or self._tagged or self._outer):
                # Half the price, but it asks for EPOLLHUP and EPOLLERR: the kernel always does.
                try:
                    self._epoll.modify(fd, _ONESHOT)
                except OSError:
                    return False
                return True
            if self._tagged and fd in self._tagged and not is_identity(fd, self._tagged[fd]):
                return False  # an earlier life is back, whose registration still stands
            return is_registered(self._number, fd)
        return fd in self._files and is_identity(fd, self._files[fd])

    def wait(self, timeout: float | None) -> list[tuple[int, int]]:
        if timeout is not None and timeout > 0:
            # epoll_wait(2) counts in milliseconds and `poll` rounds up. The part of a millisecond
            # that is left at the end is waited for by ppoll(2), so that a wait ends in time.
            milliseconds = int(timeout * 1000)
            if milliseconds:
                timeout = (milliseconds - 0.5) / 1000
            else:
                wait_readable(self._number, timeout)
                timeout = 0
        ready = self._epoll.poll(timeout, _MAX_READY)
        if len(ready) == _MAX_READY:
            # There may be more; and what lasts is reported again, once in each call.
            most = len(self._known) + len(self._alarms) + 1
            more = self._epoll.poll(0, max(most, _MAX_READY))
            ready = list((dict(ready) | dict(more)).items())
        return ready

    def poller(self) -> Callable[[float | None], list[tuple[int, int]]]:
        return self._epoll.poll  # which rounds up, and has no frame of Python

    def set_alarm(self, clock: int, when: int | None) -> None:
        alarm = self._alarms.get(clock)
        if alarm is None:
            alarm = timerfd(clock)
            try:
                self._epoll.register(alarm, select.EPOLLIN | select.EPOLLET)  # as the eventfd
            except BaseException:
                os.close(alarm)
                raise
            self._alarms[clock] = alarm
        set_timerfd(alarm, when)

    def wake(self) -> None:
        os.eventfd_write(self._wakeup, 1)

    def close(self) -> None:
        self._epoll.close()
        if self._outer is not None:
            self._outer.close()
        wakeup, self._wakeup = self._wakeup, -1
        queued, self._queued = self._queued, -1
        for descriptor in (wakeup, queued):
            if descriptor >= 0:
                os.close(descriptor)
        while self._alarms:
            os.close(self._alarms.popitem()[1])

    def fileno(self) -> int:
        # Not the inner epoll itself: what shows queued events would keep `wait` from waiting.
        if self._outer is None:
            outer = select.epoll()
            try:
                outer.register(self._epoll, select.EPOLLIN)
                self._queued = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
                outer.register(self._queued, select.EPOLLIN)
            except OSError:
                outer.close()
                raise
            self._outer = outer
        return self._outer.fileno()

    def is_descriptor(self, fd: int) -> bool:
        return is_registered(fd, self._number)

    def show(self, queued: bool) -> None:
        if queued:
            os.eventfd_write(self._queued, 1)
        else:
            with suppress(BlockingIOError):  # shown no more: a handler may have raised in between
                os.eventfd_read(self._queued)
