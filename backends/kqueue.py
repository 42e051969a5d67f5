"""kqueue(2): macOS and the BSDs. What happens to files; there is no driver yet."""

import errno
import os
import select
import stat
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from portcompat._constants import (
    FILE_DELETE,
    FILE_RENAME_FROM,
    FILE_RENAME_TO,
    UNMOUNTED,
)
from portcompat.abc import FileStatus, FileWatcher
from portcompat.backends._paths import ATTRIB, MODIFIED, TRUNC, Place, changes, find, is_same, look

# <sys/event.h>, the same on all of them. `select` has these names only where it has kqueue.
_EVFILT_VNODE: Final = -4
_EV_ADD: Final = 0x0001
_EV_CLEAR: Final = 0x0020
_NOTE_DELETE: Final = 0x0001
_NOTE_WRITE: Final = 0x0002
_NOTE_EXTEND: Final = 0x0004
_NOTE_ATTRIB: Final = 0x0008
_NOTE_LINK: Final = 0x0010
_NOTE_RENAME: Final = 0x0020
_NOTE_REVOKE: Final = 0x0040

_NAME: Final = _NOTE_DELETE | _NOTE_RENAME | _NOTE_LINK | _NOTE_REVOKE
_CONTENT: Final = _NOTE_WRITE | _NOTE_EXTEND
_OPEN: Final = (
    getattr(os, "O_EVTONLY", 0) or getattr(os, "O_PATH", 0) or os.O_RDONLY | os.O_NONBLOCK
) | os.O_CLOEXEC
_TRIES: Final = 100  # to find a path that means the same before and after


class Kevent(Protocol):
    ident: int
    fflags: int


class Kqueue(Protocol):
    """What is used of `select.kqueue`."""

    def control(self, changes: Any, max_events: int, timeout: float | None, /) -> list[Kevent]: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class _Watch:
    """One token, and its descriptor: the filter is about an open file."""

    __slots__ = ("bits", "fd", "fired", "place", "status", "token")

    def __init__(self, token: int, fd: int, place: Place, bits: int, status: FileStatus) -> None:
        self.token = token
        self.fd = fd
        self.place = place
        self.bits = bits
        self.status = status  # as it was when last looked at
        self.fired = False  # there for exceptions only


class VnodeWatcher(FileWatcher):
    """EVFILT_VNODE of one kqueue, and a descriptor for each token.

    The filter tells of the file, not of the name: NOTE_DELETE and NOTE_LINK come for each of its
    links. So after each the name is looked at (R222, R225). A file that has gone from its name was
    renamed if it said NOTE_RENAME; one whose name another has, was overwritten.

    That a file is read, and that something is mounted over it, kqueue(2) does not tell.

    **How far it is tested.** On no kernel: over a scripted kqueue only (tests/test_kqueue.py) that
    says what a kernel would by the manual pages.
    """

    bits = int(
        MODIFIED | ATTRIB | TRUNC | FILE_DELETE | FILE_RENAME_TO | FILE_RENAME_FROM | UNMOUNTED
    )

    def __init__(self) -> None:
        self._queue = self._make_queue()
        self._by_token: dict[int, _Watch] = {}
        self._by_fd: dict[int, _Watch] = {}
        self._ready: deque[Kevent] = deque()

    def _make_queue(self) -> Kqueue:
        kqueue: Callable[[], Kqueue] | None = getattr(select, "kqueue", None)
        if kqueue is None:
            raise OSError(errno.ENOTSUP, "this system has no kqueue(2)")
        return kqueue()

    def _kevent(self, fd: int, fflags: int) -> Any:
        kevent: Callable[[int, int, int, int], Any] = getattr(select, "kevent")  # noqa: B009
        return kevent(fd, _EVFILT_VNODE, _EV_ADD | _EV_CLEAR, fflags)

    def watch(self, token: int, path: bytes, follow: bool, bits: int) -> FileStatus:
        for _ in range(_TRIES):
            place = find(path, follow)
            if stat.S_ISLNK(place.mode):
                raise OSError(errno.ENOTSUP, "kqueue(2) cannot watch a symbolic link itself")
            try:
                status = self._watch(token, place, bits)
            except FileNotFoundError:  # gone since it was found: perhaps it is being replaced
                continue
            if status is not None:
                return status
        raise OSError(errno.EAGAIN, "the file is replaced faster than it can be watched")

    def _watch(self, token: int, place: Place, bits: int) -> FileStatus | None:
        """None if the path has come to mean something else meanwhile."""
        held: list[int] = []
        try:
            # In one step: no signal handler can raise while nobody has it.
            held.extend(map(os.open, (place.path,), (_OPEN,)))
            fd = held[0]
            fflags = _NAME
            if bits & (MODIFIED | ATTRIB | TRUNC):
                fflags |= _CONTENT | _NOTE_ATTRIB
            self._queue.control([self._kevent(fd, fflags)], 0, 0)
            opened, status = os.fstat(fd), look(place)
            if (opened.st_dev, opened.st_ino) != (status.dev, status.ino):
                return None
            self._by_token[token] = self._by_fd[fd] = _Watch(token, fd, place, bits, status)
            held.clear()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise OSError(
                    error.errno,
                    "no descriptor is left, and kqueue(2) takes one for each file: raise "
                    "RLIMIT_NOFILE, or take file_watcher='stat'",
                ) from None
            raise
        finally:
            for fd in held:
                if fd not in self._by_fd:
                    os.close(fd)
        return status

    def unwatch(self, token: int) -> None:
        watch = self._by_token.pop(token, None)
        if watch is not None and self._by_fd.pop(watch.fd, None) is not None:
            os.close(watch.fd)  # and with it goes the filter

    def read(self, reports: deque[tuple[int, int]]) -> None:
        # What was read is kept until it has had its effect: a signal handler may raise.
        self._ready.extend(self._queue.control(None, 1024, 0))
        while self._ready:
            event = self._ready[0]
            watch = self._by_fd.get(event.ident)
            if watch is not None:
                bits = self._happened(watch, event.fflags)
                if bits:
                    reports.append((watch.token, bits))
            del self._ready[0]

    def fileno(self) -> int:
        return self._queue.fileno()

    def close(self) -> None:
        for token in list(self._by_token):
            self.unwatch(token)
        self._queue.close()

    def _happened(self, watch: _Watch, fflags: int) -> int:
        if fflags & _NOTE_REVOKE:
            return int(UNMOUNTED)
        try:
            now = look(watch.place)
        except OSError:
            return int(FILE_RENAME_FROM if fflags & _NOTE_RENAME else FILE_DELETE)
        if not is_same(watch.status, now):
            return int(FILE_RENAME_FROM if fflags & _NOTE_RENAME else FILE_RENAME_TO)
        if watch.fired:
            return 0
        bits = changes(watch.status, now)
        if fflags & _CONTENT:
            bits |= MODIFIED | ATTRIB
        if fflags & (_NOTE_ATTRIB | _NOTE_LINK | _NOTE_DELETE | _NOTE_RENAME):
            bits |= ATTRIB  # of another link, as its name is still there
        bits &= watch.bits
        if bits:
            watch.fired = True
        else:
            watch.status = now
        return bits
