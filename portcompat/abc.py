"""The contracts: what a port needs of a backend, and an engine of a driver and its companions.

There are two because two things are true. illumos *is* the event port: a `Backend` over it passes
every call on. Everybody else has readiness: a `Driver` tells which descriptors are ready, and
`portcompat._engine.Engine` makes a Backend of it. File events come from a `FileWatcher`, and a
kernel's asynchronous I/O from a `Kaio`; each is one more descriptor for the driver.

All are made without arguments, and whether one is usable is settled by making it: a constructor
that cannot work here raises OSError or ImportError, and its message is what people are shown.
"""

import errno
from _thread import LockType
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Container, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from portcompat import _clocks
from portcompat._condition import condition
from portcompat._constants import FILE_NAMES, Trigger
from portcompat._events import FileObject, PortEvent

if TYPE_CHECKING:
    from portcompat._aio_request import Request
    from portcompat._notices import PortNotice

Mode = Literal["native", "emulated", "loopback"]

POLLER_FULL: Final = 1023
"""At so many reports of a `Driver.poller` there may be more."""

_LONGEST: Final = 86400.0  # seconds that a lock is asked to wait at once


class BackendTimer(ABC):
    """A timer of whatever kind, as timer_create(3C) makes it. Its arguments have been checked.

    All times are in nanoseconds. `value` is when it expires next, and `interval` the period of
    those that follow, 0 if none do. What is returned is relative always (R261), 0 if none is due.
    """

    __slots__ = ()

    clock: int

    @abstractmethod
    def set(self, value: int | None, interval: int, absolute: bool) -> tuple[int, int]:
        """Arm it, or with `value` None disarm it (R248); returns (value, interval) of before.

        `absolute`: `value` is a moment of the timer's clock, even one that is past (R251). OSError
        EINVAL when the timer has been deleted, EOVERFLOW for what no clock will show (R257).
        """

    @abstractmethod
    def get(self) -> tuple[int, int]:
        """(value, interval), as they are now."""

    @abstractmethod
    def overrun(self) -> int:
        """What timer_getoverrun(3C) says (R268, R274, R277)."""

    @abstractmethod
    def delete(self) -> None:
        """Withdraw what it has queued, and give back its slot (R269).

        OSError EINVAL when it has been deleted; of several threads one gets through.
        """

    @property
    @abstractmethod
    def deleted(self) -> bool:
        """Whether `delete` has done its work."""

    def orphan(self) -> None:  # noqa: B027  # not all kinds have ports
        """Nobody refers to it any more but by its number, and once its port is closed nobody needs
        that: then `ids.release` is to be called."""


class Backend(ABC):
    """A whole implementation of ports. Its arguments have been checked by `Port`.

    Every method may be called by any thread at any time, `send` also by a signal handler or a
    finalizer that interrupts another call on the same port. On a closed port every method but
    `close` raises OSError EBADF.
    """

    mode: Mode = "native"
    clocks: frozenset[int]
    """The clocks that its timers can have, by the host's ids."""
    features: frozenset[str]
    """What it can do beyond the least that each can; `portcompat.conformance.needs` names them."""
    closed: bool

    @abstractmethod
    def __init__(self, max_events: int) -> None:
        """Make a port of `max_events` slots. OSError EMFILE when descriptors run out (R068)."""

    @abstractmethod
    def require_open(self) -> None:
        """Raise OSError EBADF if the port is closed."""

    @abstractmethod
    def associate(
        self, fd: int, events: int, user: object, trigger: Trigger = Trigger.ONESHOT
    ) -> None:
        """Watch `fd` for `events`, once or as `trigger` says; replaces what was asked before
        (R095-R107, X001-X010). OSError ENOTSUP for LEVEL without the feature "level" and for EDGE
        without "edge"."""

    @abstractmethod
    def dissociate(self, fd: int) -> None:
        """Drop the association of `fd` and what it has queued (R118-R122)."""

    def associate_file(
        self,
        object: FileObject,
        path: bytes,
        stamps: tuple[int, int, int],
        events: int,
        user: object,
    ) -> None:
        """Watch the file `path` once for `events`, among them FILE_NOFOLLOW (R199-R217).

        `stamps` are atime, mtime and ctime in nanoseconds, 0 if not known. `object` is what the
        association is known by.
        """
        raise OSError(errno.ENOTSUP, "this backend has no file events")

    def dissociate_file(self, object: FileObject) -> None:
        """Drop the association of `object` and what it has queued (R234, R235)."""
        raise OSError(errno.ENOTSUP, "this backend has no file events")

    def file_features(self) -> frozenset[str]:
        """Which FILE_* bits it can see, by the names of `file_features`."""
        return frozenset()

    @abstractmethod
    def send(self, events: int, user: object) -> None:
        """Queue a user event (R156-R159)."""

    def post(self, notice: "PortNotice") -> None:
        """Queue the event of a finished request, which waits for a slot if the port has none
        (R081), and set `notice.event` to None in the same step; if it is None that was done.

        OSError EBADF when the port is closed.
        """
        raise OSError(errno.ENOTSUP, "this backend has no asynchronous I/O")

    def tell(self, event: PortEvent) -> None:
        """Queue an event in the same way, by which a thread tells of what it has just done."""
        raise OSError(errno.ENOTSUP, "this backend has no asynchronous I/O")

    def start_io(self, request: "Request", inside: bool) -> bool:
        """Have the kernel do a request, of which this is the `home`; False if it does not.

        It is `request.owner` then, and finishes it. It need not begin before `flush_io`. `inside`:
        called by what `reap_io` calls. Again: no effect.
        """
        return False

    def flush_io(self) -> None:  # noqa: B027  # not all backends have any
        """Have the kernel begin with what `start_io` has taken on."""

    def cancel_io(self, request: "Request") -> bool | None:
        """Cancel what `start_io` took on: whether that was so. None if it has it no more."""
        return None

    def reap_io(self) -> None:  # noqa: B027
        """Finish what the kernel has done. No effect when called by what interrupts another
        call."""

    def io_fileno(self) -> int | None:
        """A descriptor that is readable when there is something for `reap_io`, if there is one."""
        return None

    @abstractmethod
    def alert(self, flags: int, events: int, user: object) -> None:
        """Set or, with `events` 0, clear alert mode (R167-R176)."""

    @abstractmethod
    def timer(self, clock: int, number: int, user: object) -> BackendTimer:
        """Make a timer that is disarmed (R242); its slot is taken now (R244).

        `clock` is one of `clocks`; the events tell of `number` (R265). It outlives the port, and
        then tells nobody (R271). OSError EAGAIN when all slots are taken.
        """

    @abstractmethod
    def get(self, timeout: float | None) -> PortEvent | None:
        """The next event, or None when `timeout` seconds are over (R141-R145)."""

    @abstractmethod
    def getn(self, limit: int, want: int, timeout: float | None) -> list[PortEvent]:
        """Wait for `want` events and take up to `limit`; fewer when time is up (R146-R155).

        `limit` >= `want`. With `want` 0 nothing is waited for and nothing taken (R147).
        """

    @abstractmethod
    def pending(self) -> int:
        """How many events are queued (R146)."""

    @abstractmethod
    def fileno(self) -> int:
        """A descriptor that is readable while an event is queued (R072)."""

    @abstractmethod
    def is_descriptor(self, fd: int) -> bool:
        """Whether `fd` is the descriptor of `fileno`, or a dup of it."""

    @abstractmethod
    def close(self) -> None:
        """Close the port; who waits in it gets EBADF and has left when this returns (R177-R179)."""

    @abstractmethod
    def abandon(self, reason: str) -> None:
        """Close this process's copy in a fork child, without a lock and without touching what
        the parent shares with it. Calls give EBADF and `reason` from then on."""


class Driver(ABC):
    """A kernel facility that tells which descriptors are ready.

    It knows descriptors and nothing of ports. The engine calls `wait` from one thread at a time
    and everything else under its lock, from any thread, also while another is in `wait`.

    A *token* is the engine's name for one life of a descriptor number. It is the number itself
    as long as the driver has not found the number to have changed hands, and a negative number
    that was never used before after that; so a driver whose kernel hands back the number has
    nothing to translate on the usual way.
    """

    mode: Mode = "emulated"
    features: frozenset[str] = frozenset()
    clocks: frozenset[int]
    """The clocks that it can wait on, by the host's ids. CLOCK_MONOTONIC is one of them."""

    @abstractmethod
    def arm(self, fd: int, events: int, token: int, trigger: Trigger = Trigger.ONESHOT) -> int:
        """Watch `fd` for the poll bits `events`, and for POLLHUP and POLLERR.

        Replaces what was armed for `fd` before, and takes effect on a `wait` in progress. Bits
        that the facility does not know are ignored. Returns 0; or, for a file that is always
        ready (R109), the bits of `events` that always hold, and then watches nothing.

        Another `trigger` is asked only of a driver with the feature "level" or "edge". With it a
        report does not disarm. LEVEL is reported by each `wait` while one of the bits holds; it is
        for selectors, an engine has ways of its own. EDGE is reported by one `wait` each time that
        something happens to a descriptor of which a bit holds, its arming being the first.

        Raises OSError EBADF when `fd` is not open, and `Renumbered` when `fd` has come to mean
        another open file since it was last armed: nothing is armed then, and the engine arms it
        again with a new token.
        """

    @abstractmethod
    def disarm(self, fd: int) -> None:
        """Forget `fd`. A number that is unknown or closed is no error."""

    @abstractmethod
    def current(self, fd: int, armed: bool = True) -> bool:
        """Whether `fd` is still the open file that it was when last armed (R112-R115).

        `armed`: whether it still is. If it is not, asking may make `wait` return its token once
        more, which means nothing then.
        """

    def condition(self, fd: int, events: int) -> int:
        """Of the poll bits `events`, POLLHUP and POLLERR those that hold for `fd` now."""
        return condition(fd, events)

    @abstractmethod
    def wait(self, timeout: float | None) -> list[tuple[int, int]]:
        """The (token, revents) of what is ready, in the order in which it became so if the
        kernel tells. What is returned is thereby disarmed, if it was armed as ONESHOT.

        Waits up to `timeout` seconds, for ever with None, and not at all with 0. May return
        nothing early, may return a token that means nothing any more; never returns late events
        for want of looking. Signal handlers run meanwhile; what they raise comes out of here.
        """

    def poller(self) -> Callable[[float | None], list[tuple[int, int]]]:
        """What a selector, which arms nothing but LEVEL, calls in place of `wait`: the same, but
        that it does not end before its time for a clock's sake, or because something was armed or
        disarmed meanwhile. Of many it may return only the first `POLLER_FULL`."""
        return self.wait

    def now(self, clock: int, /) -> int:
        """What `clock` shows, in nanoseconds; also after `close`. The engine knows no other time,
        and waits on CLOCK_MONOTONIC."""
        return _clocks.now(clock)

    def reader(self, clock: int) -> Callable[[], int]:
        """A function that tells what `now(clock)` does, for those who ask all the time."""
        if type(self).now in (Driver.now, _clocks.now):  # the host's
            return _clocks.reader(clock)
        return partial(self.now, clock)

    @abstractmethod
    def set_alarm(self, clock: int, when: int | None) -> None:
        """Have `wait` return as soon as `clock` shows `when` nanoseconds or more, which may be so
        already; also when CLOCK_REALTIME has been set to that. Replaces the clock's former alarm;
        None drops it. Takes effect on a `wait` in progress.

        An alarm is not among what `wait` returns. One that is past may end each wait or one only:
        the engine replaces or drops it before it waits again. It also drops the alarm of a clock
        before it sets the first one, when a timer is made: what it takes to have alarms can fail
        then.
        """

    def sleep(self, turn: LockType, timeout: float | None) -> bool:
        """Wait up to `timeout` seconds, for ever with None, to acquire `turn`; whether that was
        so. It is how threads wait that are not in `wait`, and for a driver of another time."""
        return turn.acquire(timeout=_LONGEST if timeout is None else min(timeout, _LONGEST))

    @abstractmethod
    def wake(self) -> None:
        """Make the present `wait`, or the next, return at once. Calls coalesce."""

    @abstractmethod
    def close(self) -> None:
        """Give back every descriptor. Nobody is in `wait`."""

    # Refinements, for a port whose descriptor is given to somebody else's poll.

    @abstractmethod
    def fileno(self) -> int:
        """A descriptor that is readable while `show(True)` is in force and, with the feature
        "passive-fileno", also while a `wait` would not block, an alarm's time being past among the
        reasons. Made at the first call."""

    @abstractmethod
    def is_descriptor(self, fd: int) -> bool:
        """Whether `fd`, which is not closed, is the descriptor of `fileno` or a dup of it."""

    @abstractmethod
    def show(self, queued: bool) -> None:
        """Whether events are queued in the engine. Called after `fileno`, at each change."""


class Renumbered(Exception):
    """A descriptor number has come to mean another open file (R115)."""


class FileStatus(NamedTuple):
    """What a watcher and the engine know of a file, as os.stat tells it."""

    dev: int
    ino: int
    mode: int
    nlink: int
    size: int
    atime: int  # nanoseconds, as are the next two
    mtime: int
    ctime: int


class FileWatcher(ABC):
    """A facility that tells what happens to files: itself one descriptor, that a driver arms.

    The engine calls it under its lock: no two calls at once. It is made when a port watches its
    first file. One that cannot work here raises OSError or ImportError when it is made.

    A *token* is the engine's name for one life of an association, an int that is never used again.
    Of the bits that were asked for one report is made, and from then on the watch is there for
    exceptions only (R214, R230). An exception is reported once, alone, and ends the watch. All
    bits are illumos' (`FILE_MODIFIED` and so on).
    """

    bits: int
    """The FILE_* bits that it can see: of those to ask for, and of the exceptions."""

    @abstractmethod
    def watch(self, token: int, path: bytes, follow: bool, bits: int) -> FileStatus:
        """Watch the file that the absolute `path` names now, and that name of it.

        With `follow` False a symbolic link is watched itself. Returns how the file is now. What
        happens before that does not show in a report of `token`, and what happens later does; so
        the caller compares the status with the stamps that it knows, and nothing slips through.

        What this comes across that is about other tokens, the next `read` tells: it is to be
        called after this, also after an error.

        Raises OSError: what the system says of the path (R202); ENOTSUP for a file whose changes
        cannot be seen (R204); EAGAIN, with a message that says how to raise it, when a limit of the
        facility is reached. Nothing is watched then.
        """

    @abstractmethod
    def unwatch(self, token: int) -> None:
        """Forget `token`. One that is unknown is no error."""

    @abstractmethod
    def read(self, reports: deque[tuple[int, int]]) -> None:
        """Append the (token, bits) of what has happened, in that order, and do not wait.

        `fileno` is readable no longer than there is something to read. When a signal handler
        raises in here, the next call tells the rest; telling something twice is allowed then. When
        the facility has lost something, every watch is looked at anew: nothing is lost in silence.
        """

    @abstractmethod
    def fileno(self) -> int:
        """A descriptor that is readable while there is something to `read`."""

    @abstractmethod
    def close(self) -> None:
        """Give back every descriptor. Again: no effect.

        In a fork child, too, where the parent's watches must not notice.
        """


def file_features(bits: int) -> frozenset[str]:
    """The features that say which FILE_* bits can be seen: "file-modified", "unmounted", ..."""
    return frozenset(
        name.lower().replace("_", "-") for bit, name in FILE_NAMES.items() if bits & bit
    )


FileWatcherChoice = Callable[[], type[FileWatcher]]


class Kaio(ABC):
    """A kernel's asynchronous I/O: itself one descriptor, that a driver arms.

    The engine calls it under its lock: no two calls at once. It is made when a port makes its first
    request that somebody has to wait for. One that cannot work here raises OSError or ImportError
    when it is made.

    A *token* is the engine's name for one request, an int that is never used again. Every request
    that was taken on is reported once. A signal handler may raise in any of these calls: what they
    do has been done then or not, and a report may come twice.
    """

    @property
    @abstractmethod
    def taken(self) -> Container[int]:
        """The tokens of what `submit` has taken on and `read` has not reported; the same object
        always, in which is looked without a call of Python's."""

    @abstractmethod
    def submit(
        self, token: int, op: int, fd: int, buffers: Sequence[memoryview], offset: int
    ) -> bool:
        """Take on a request; False if it cannot now, and will when others have been reported.

        `op` is AIOAREAD, AIOAWRITE or AIOFSYNC; `offset` -1 for what has none, or for an fsync
        whether the data alone is to be synced. The buffers are used until the report is read, and
        kept as long. Raises OSError when the kernel does not take it at all.
        """

    @abstractmethod
    def flush(self) -> bool:
        """Have the kernel begin with all that was taken on; to `submit` need not. False if it does
        not want some of that: then there is something to `read`, whatever `fileno` says."""

    @abstractmethod
    def cancel(self, token: int, wait: bool) -> None:
        """Ask the kernel to end a request, which is then reported with ECANCELED or EINTR, or as
        finished if it was too late. A transfer of a disk that has begun may go on. With `wait` the
        request is one that waits for a peer or a person: then give it a moment to end. There may be
        something to `read` then, whatever `fileno` says."""

    @abstractmethod
    def read(self, reports: deque[tuple[int, int]]) -> None:
        """Append (token, result) of what is finished, and do not wait. A result less than 0 is the
        negative errno."""

    @abstractmethod
    def fileno(self) -> int:
        """A descriptor that is readable while there is something to `read`."""

    @abstractmethod
    def close(self) -> None:
        """Give back descriptors and memory. Nothing is under way. Again: no effect."""

    @abstractmethod
    def abandon(self) -> None:
        """The same in a fork child, where what is under way is the parent's."""


KaioChoice = Callable[[], "type[Kaio] | None"]
