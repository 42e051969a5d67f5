"""The event port, as people write it."""

import errno
import os
import sys
import warnings
import weakref
from collections.abc import Callable, Iterable
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, SupportsFloat, SupportsIndex

from portcompat import _registry
from portcompat._checks import (
    HasFileno,
    as_count,
    as_descriptor,
    as_int,
    as_path,
    as_size,
    as_stamp,
    as_timeout,
    as_trigger,
)
from portcompat._clocks import CLOCK_MONOTONIC
from portcompat._constants import FILE_REQUEST, PORT_ALERT_SET, Trigger
from portcompat._events import FileObject, PortEvent, PortTimeout
from portcompat._limits import limits
from portcompat._timer_ids import ids
from portcompat.abc import Mode

if TYPE_CHECKING:
    from portcompat.aio import PortAio
    from portcompat.timers import Timer

_ONESHOT: Final = Trigger.ONESHOT  # to look it up in the class takes longer
_SMALL: Final = 0x3FFF_FFFF  # what CPython compares fastest


class Port:
    """An event port: one queue for readiness of descriptors, timers, finished I/O and messages.

    Any number of threads may call any method at any time; each event goes to exactly one of them.
    A port is a context manager that closes itself.

    `backend`: a name of `available_backends()` or "package.module:Class"; None takes the one named
    by the environment's PORTCOMPAT_BACKEND, or else the best that is usable here. `max_events`:
    how many slots the port has (R004), by default `limits.max_events`. Each descriptor and each
    file that is associated holds one, and each message that waits (R079). `file_watcher`: what
    tells of files, a name of `available_file_watchers()` or "package.module:Class"; None takes the
    one named by PORTCOMPAT_FILE_WATCHER, or else the best that is usable here. `kaio`: what does
    asynchronous I/O, a name of `available_kaio()` or "package.module:Class"; None takes the one
    named by PORTCOMPAT_KAIO, or else reads what is in the page cache at once (where the system can
    tell), and has the rest done by the best that is usable here.

    Raises OSError EAGAIN when the process has too many ports (R005), EMFILE when descriptors run
    out (R068), ENOTSUP when the backend cannot work here, and ValueError for a name that is none.

    On a closed port every call raises OSError EBADF, and so in a child after fork, where the port
    of the parent is closed. Wrong types raise TypeError.
    """

    __slots__ = (
        "__weakref__",
        "_aio",
        "_backend",
        "_get",
        "_getn",
        "_max_events",
        "_name",
        "_reads_cache",
        "_send",
    )

    def __init__(
        self,
        backend: str | None = None,
        *,
        max_events: SupportsIndex | None = None,
        file_watcher: str | None = None,
        kaio: str | None = None,
    ) -> None:
        if backend is not None and not isinstance(backend, str):
            raise TypeError(f"backend must be a name, not {type(backend).__name__}")
        if file_watcher is not None and not isinstance(file_watcher, str):
            raise TypeError(f"file_watcher must be a name, not {type(file_watcher).__name__}")
        if kaio is not None and not isinstance(kaio, str):
            raise TypeError(f"kaio must be a name, not {type(kaio).__name__}")
        slots = limits.max_events if max_events is None else as_count(max_events, "max_events")
        self._name = _registry.default_backend() if backend is None else backend
        self._max_events = slots
        self._reads_cache = kaio is None and _registry.kaio_environment() is None
        self._aio: PortAio | None = None
        self._backend = _registry.create(self._name, slots, file_watcher, kaio)
        self._send = self._backend.send
        self._get = self._backend.get
        self._getn = self._backend.getn
        _open_ports[id(self)] = weakref.ref(self)

    # Producing events

    def associate(
        self,
        object: int | HasFileno | FileObject,
        events: SupportsIndex,
        user: Any = None,
        *,
        trigger: Trigger = Trigger.ONESHOT,
    ) -> None:
        """Watch a descriptor or a file, once (port_associate(3C), R089-R107, R199-R217).

        `object` is a descriptor or has a fileno(); `events` are poll(2) bits; `user` comes back
        with the event. One event follows when one of the bits holds, or POLLHUP or POLLERR; at
        once if it holds already. After that the descriptor is to be associated again. Associating
        again before that replaces `events` and `user` and takes back an event that is queued.
        Regular files and directories are always ready.

        With a `FileObject` it is the file of that name that is watched, and `events` are of
        FILE_ACCESS, FILE_MODIFIED, FILE_ATTRIB and FILE_TRUNC; FILE_NOFOLLOW watches a symbolic
        link itself. The event comes when one of these happens, at once if a stamp of the object
        that is not 0 differs from the file's now. Exceptions (FILE_DELETE, FILE_RENAME_TO,
        FILE_RENAME_FROM, UNMOUNTED, MOUNTEDOVER) are told in any case, and end the association.

        `trigger` is portcompat's own, and for descriptors only. With Trigger.LEVEL the descriptor
        stays associated, with `user`, until it is dissociated: each retrieval tells of it, once, as
        long as the condition holds (X001), and so to as many threads as ask (X007). With
        Trigger.EDGE it stays, and is told each time that something has happened to it, not of what
        is still there (X002). Associating again replaces the trigger too (X003). One that is closed
        is dropped silently, as without (R112, X005).

        Raises OSError EBADFD when the descriptor is not open, EAGAIN when all slots are taken, and
        what the facility has against the descriptor; ENOTSUP for Trigger.EDGE where the backend has
        not got the feature "edge". For a file EINVAL for other bits (R200), what
        the system says of the path (R202), ENOTSUP when nothing of what is asked can be seen there
        (`features`), and EAGAIN or EMFILE when a limit of the file watcher is reached.
        """
        # The usual arguments are let through without a call.
        if type(object) is not int or not 0 <= object <= _SMALL:
            if isinstance(object, FileObject):
                if as_trigger(trigger):
                    raise ValueError("trigger is for descriptors: a file is associated once")
                self._associate_file(object, events, user)
                return
            object = self._descriptor(object)
        if type(events) is not int or not 0 <= events <= _SMALL:
            events = as_int(events, "events")
        if trigger is _ONESHOT:
            self._backend.associate(object, events, user)
        else:
            self._backend.associate(object, events, user, as_trigger(trigger))

    def _associate_file(self, file: FileObject, events: SupportsIndex, user: object) -> None:
        bits = as_int(events, "events")
        if bits & ~FILE_REQUEST:
            self._backend.require_open()
            raise OSError(
                errno.EINVAL,
                f"events {bits:#x} must be of FILE_ACCESS, FILE_MODIFIED, FILE_ATTRIB, FILE_TRUNC "
                "and FILE_NOFOLLOW",
            )
        try:
            path = as_path(file.name)
        except OSError:
            self._backend.require_open()
            raise
        stamps = (
            as_stamp(file.atime, "atime"),
            as_stamp(file.mtime, "mtime"),
            as_stamp(file.ctime, "ctime"),
        )
        self._backend.associate_file(file, path, stamps, bits, user)

    def dissociate(self, object: int | HasFileno | FileObject) -> None:
        """Watch a descriptor or a file no longer; takes back its event (port_dissociate(3C),
        R118-R122, R234, R235).

        Raises OSError ENOENT when it is not associated, which includes that its event has been
        retrieved, and EBADFD when the descriptor is not open; for a file EINVAL when the port never
        watched one.
        """
        if isinstance(object, FileObject):
            self._backend.dissociate_file(object)
            return
        self._backend.dissociate(self._descriptor(object))

    def send(self, events: SupportsIndex, user: Any = None) -> None:
        """Queue a message: an int and any object (port_send(3C), R156-R159).

        Never waits. May be called from a signal handler or a finalizer that interrupts any other
        call on the port (R066). Raises OSError EAGAIN when all slots are taken.
        """
        if type(events) is not int or not 0 <= events <= _SMALL:
            events = as_int(events, "events")
        self._send(events, user)

    def alert(
        self, events: SupportsIndex, user: Any = None, *, flags: SupportsIndex = PORT_ALERT_SET
    ) -> None:
        """Put the port into alert mode, or with `events` 0 out of it (port_alert(3C), R167-R176).

        In alert mode every retrieval returns the alert and nothing else, without consuming it;
        threads that wait now are woken with it. `flags`: PORT_ALERT_SET sets or replaces;
        PORT_ALERT_UPDATE raises OSError EBUSY if an alert is set.
        """
        self._backend.alert(as_int(flags, "flags"), as_int(events, "events"), user)

    def timer(self, clock: SupportsIndex = CLOCK_MONOTONIC, user: Any = None) -> "Timer":
        """Make a timer whose events come to this port (timer_create(3C), R237-R246).

        It is disarmed until its `set` is called, and lives until its `delete`, or until the port is
        closed. `clock` is one of time.CLOCK_*; `user` comes back with each event. Raises OSError
        EINVAL for a clock that nothing can wait on, EAGAIN when all slots of the port or all of
        `limits.max_timers` are taken.
        """
        return _maker_of_timers()(self, clock, user)

    @property
    def aio(self) -> "PortAio":
        """Asynchronous I/O whose completions are events of this port."""
        if self._aio is None:
            from portcompat.aio import PortAio

            self._aio = PortAio(self)
        return self._aio

    # Retrieving events

    def get(self, timeout: SupportsFloat | SupportsIndex | None = None) -> PortEvent:
        """The next event (port_get(3C), R141-R145).

        Waits up to `timeout` seconds, for ever with None. Raises PortTimeout (errno ETIME) when
        there is none by then, at once with 0; OSError EBADF when the port is closed meanwhile.
        Signal handlers run and the wait goes on, unless the handler raises (R134).
        """
        event = self._get(None if timeout is None else self._timeout(timeout))
        if event is None:
            raise PortTimeout
        return event

    def getn(
        self,
        max: SupportsIndex,
        nget: SupportsIndex = 1,
        timeout: SupportsFloat | SupportsIndex | None = None,
    ) -> list[PortEvent]:
        """Wait for `nget` events and take up to `max` (port_getn(3C), R146-R155).

        When `timeout` seconds are over it returns what there is, perhaps less than `nget` and
        perhaps nothing. With `max` or `nget` 0 it takes nothing and returns [] at once. In alert
        mode it returns the alert alone. Raises OSError EINVAL for `nget` > `max` > 0 (R148).
        """
        seconds = None if timeout is None else self._timeout(timeout)
        try:
            limit = as_size(max, "max")
            want = as_size(nget, "nget")
            if limit == 0:
                want = 0  # R146
            if want > limit:
                raise OSError(errno.EINVAL, f"nget ({want}) must not be greater than max ({limit})")
        except OSError:
            self._backend.require_open()
            raise
        return self._getn(limit, want, seconds)

    def pending(self) -> int:
        """How many events are queued; takes none (R146)."""
        return self._backend.pending()

    # A closed port is told before what is wrong with the other arguments (R064).

    def _descriptor(self, object: int | HasFileno) -> int:
        try:
            return as_descriptor(object)
        except OSError:
            self._backend.require_open()
            raise

    def _timeout(self, seconds: SupportsFloat | SupportsIndex) -> float | None:
        try:
            return as_timeout(seconds)
        except OSError:
            self._backend.require_open()
            raise

    # The port as a thing

    def fileno(self) -> int:
        """A descriptor for select, poll or another port: readable while an event is queued (R072).

        What it says is a hint, somebody else may take the event first. It belongs to the port:
        do not close it.
        """
        return self._backend.fileno()

    def close(self) -> None:
        """Close the port: its events and associations vanish (R177), and threads that wait in it
        get OSError EBADF and have left when this returns (R178, R179). Again: no effect."""
        self._backend.close()
        if _open_ports.pop(id(self), None) is not None:  # of several threads one gets it
            limits.dismiss_port()

    @property
    def closed(self) -> bool:
        return self._backend.closed

    @property
    def backend(self) -> str:
        """The name of the backend."""
        return self._name

    @property
    def mode(self) -> Mode:
        """How the backend does it: "native", the kernel has ports; "emulated"; "loopback", the
        backend of another system over an imitation of that system's calls."""
        return self._backend.mode

    @property
    def features(self) -> frozenset[str]:
        """What the backend can do beyond the least that each can, and which FILE_* bits the file
        watcher can see ("file-modified" and so on)."""
        return self._backend.features | self._backend.file_features()

    @property
    def max_events(self) -> int:
        """How many slots the port has."""
        return self._max_events

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if is_finalizing():  # the names of this module are gone, and the system closes the rest
            return
        if id(self) in _open_ports:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def __repr__(self) -> str:
        return f"<Port {self._name}{' closed' if self.closed else ''}>"


def sendn(ports: Iterable[Port], events: SupportsIndex, user: Any = None) -> tuple[int, list[int]]:
    """Send one message to many ports (port_sendn(3C), R160-R165).

    Returns how many it was sent to, and for each port 0 or the errno: EBADF, EAGAIN. A port that
    is named twice gets two. Raises OSError EINVAL for no ports at all, and TypeError if one is
    none: nothing is sent then.
    """
    receivers = list(ports)
    number = as_int(events, "events")
    for port in receivers:
        if not isinstance(port, Port):
            raise TypeError(f"ports must be Port objects, not {type(port).__name__}")
    if not receivers:
        raise OSError(errno.EINVAL, "ports must not be empty")
    errors = []
    for port in receivers:
        try:
            port.send(number, user)
        except OSError as error:
            errors.append(error.errno or errno.EIO)
        else:
            errors.append(0)
    return errors.count(0), errors


@cache
def _maker_of_timers() -> Callable[[Port, SupportsIndex, Any], "Timer"]:
    """Of a module that needs this one. To import it each time takes as long as to arm a timer."""
    from portcompat import timers

    return timers.make


# Every open port, for the child of a fork to close. One step each: no lock that a fork could hold.
_open_ports: Final[dict[int, weakref.ref[Port]]] = {}


def _close_in_child() -> None:
    reason = (
        f"the port belongs to process {os.getppid()}: a port does not survive fork, "
        "make one in the child"
    )
    for reference in list(_open_ports.values()):
        port = reference()
        if port is not None:
            port._backend.abandon(reason)
    _open_ports.clear()
    limits.forget_ports()
    ids.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
