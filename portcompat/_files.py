"""The files that a port watches: stamps compared, fired, cached, and gone."""

import errno
import stat
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Final
from weakref import ref

from portcompat._constants import (
    FILE_ACCESS,
    FILE_ATTRIB,
    FILE_EXCEPTION,
    FILE_MODIFIED,
    FILE_NOFOLLOW,
    FILE_TRUNC,
    PORT_SOURCE_FILE,
)
from portcompat._events import FileObject, PortEvent
from portcompat._queue import EventQueue, Slot
from portcompat.abc import FileStatus, FileWatcher

_new: Final = tuple.__new__  # a third of the time of PortEvent(...), which is a Python function

_ACCESS: Final = int(FILE_ACCESS)
_MODIFIED: Final = int(FILE_MODIFIED)
_ATTRIB: Final = int(FILE_ATTRIB)
_EXCEPTION: Final = int(FILE_EXCEPTION)
_WATCHABLE: Final = int(FILE_ACCESS | FILE_MODIFIED | FILE_ATTRIB | FILE_TRUNC)
_CACHED: Final = 20  # watches of one file whose events have been retrieved (R216)
_IDLE: Final = 16  # readings that tell nobody anything, before the watcher forgets the cached ones
_RESTING: Final = 256  # how many of those it may have at all

Stamps = tuple[int, int, int]


def changed(stamps: Stamps, status: FileStatus) -> int:
    """What the stamps tell that were known, atime, mtime and ctime, beside what the file has now.

    One that is 0 is not known, and an older one is a change, too (R209). A FIFO's tell nothing
    (R210).
    """
    if stat.S_ISFIFO(status.mode):
        return 0
    atime, mtime, ctime = stamps
    bits = 0
    if atime and atime != status.atime:
        bits = _ACCESS
    if mtime and mtime != status.mtime:
        bits |= _MODIFIED
    if ctime and ctime != status.ctime:
        bits |= _ATTRIB
    return bits


class FileWatch(Slot):
    """The association of a FileObject. It is *active* until something happens; its event is then
    *queued*; and once that is retrieved it is *cached*, or forgotten after an exception."""

    __slots__ = (
        "_delivered",
        "active",
        "asked",
        "file",
        "happened",
        "key",
        "object",
        "over",
        "reference",
        "token",
    )

    def __init__(
        self, key: int, reference: ref[FileObject], delivered: Callable[[Slot], None]
    ) -> None:
        super().__init__()
        self.key = key
        self.active = False
        self.over = False  # it fired an exception
        self.asked = 0
        self.happened = 0
        self.file: tuple[int, int] = (0, 0)  # device and inode
        self.token: int | None = None  # of the watcher; None if that has forgotten it
        # Who has retrieved the event need not keep the object: then nobody can associate it again.
        self.object: FileObject | None = None
        self.reference = reference
        self._delivered = delivered

    def deliver(self) -> PortEvent | None:
        self._delivered(self)
        return _new(PortEvent, (PORT_SOURCE_FILE, self.object, self.happened, self.user))


class Files:
    """The table of file associations. It belongs to an engine and is used under the engine's lock.

    **The order that loses nothing** (R209): the watcher watches, then says how the file is, and
    then that is compared with the stamps. What came before shows in the stamps, what comes later in
    a report. Each association has a token of its own, so no report about a former one of the same
    object is taken for one about this.

    **Interruptions.** A report is taken off `_reports` when it has had its effect, and to have it
    twice is the same as once. `due` is set as long as there may be some left: whoever ends the
    interrupted change collects them (`Monitor._catch_up`).
    """

    __slots__ = (
        "_by_key",
        "_by_token",
        "_cached",
        "_formers",
        "_idle",
        "_queue",
        "_reports",
        "_resting",
        "_tokens",
        "_used",
        "due",
        "watcher",
    )

    def __init__(self, queue: EventQueue, watcher: FileWatcher) -> None:
        self.watcher = watcher
        self.due = False
        self._queue = queue
        self._tokens = count()
        self._by_key: dict[int, FileWatch] = {}  # by the address of the object (R206)
        self._by_token: dict[int, FileWatch] = {}
        self._cached: dict[tuple[int, int], dict[int, FileWatch]] = {}  # by file, then by address
        self._reports: deque[tuple[int, int]] = deque()
        self._formers: dict[int, None] = {}  # tokens that the watcher is to forget
        self._resting: dict[int, None] = {}  # tokens of those that are cached
        self._idle = 0  # how often there was something to read and nothing to tell
        self._used = False  # whether there ever was an association

    def associate(
        self,
        object: FileObject,
        path: bytes,
        stamps: Stamps,
        events: int,
        user: object,
        make_room: Callable[[], object],
    ) -> object:
        """Watch the file `path` for `object`; returns the user that is replaced.

        `make_room` drops associations that nobody can have any more.
        """
        bits = events & _WATCHABLE
        if bits and not bits & self.watcher.bits:
            raise OSError(
                errno.ENOTSUP, "the file watcher can see nothing of that: Port.features tells what"
            )
        queue = self._queue
        watch = self._find(object)
        if watch is None and queue.room <= len(queue.inbox):
            make_room()
            if queue.room <= len(queue.inbox):
                raise self._full()
        token = next(self._tokens)
        try:
            status = self.watcher.watch(token, path, not events & FILE_NOFOLLOW, bits)
            made = watch is None
            if watch is None:
                watch = FileWatch(id(object), ref(object), queue.declined.append)
            else:
                self._uncache(watch)
            # No call among these, so no signal handler can raise between them.
            if made:
                self._by_key[watch.key] = watch
                queue.room -= 1
            replaced, former = watch.user, watch.token
            if former is not None:
                self._formers[former] = None
            self._by_token[token] = watch
            watch.token = token
            watch.object = object
            watch.user = user
            watch.asked = bits
            watch.file = (status.dev, status.ino)
            watch.over = False
            watch.active = self._used = True
            if watch.queued:
                queue.withdraw(watch)
            if made and queue.room < len(queue.inbox):  # a handler has sent meanwhile
                self._drop(watch)
                raise self._full()
        except BaseException:
            if watch is None or watch.token != token:
                self._formers[token] = None
            elif watch.queued:
                queue.withdraw(watch)
            raise
        finally:
            self.collect()  # what the watcher came across, before the event of this
        found = changed(stamps, status) & bits
        if found and watch.active:
            self._fire(watch, found)
        elif found and watch.queued and not watch.over:
            watch.happened |= found
        self._trim(watch.file)
        return replaced

    def dissociate(self, object: FileObject) -> object:
        """Drop the association of `object`; returns its user. Raises as R234 and R235 say."""
        if not self._used:
            raise never_watched()
        watch = self._find(object)
        if watch is None:
            raise OSError(errno.ENOENT, f"{object!r} is not associated with this port")
        waited_for, user = watch.active or watch.queued, watch.user
        self._drop(watch)
        self.collect()
        if not waited_for:
            raise OSError(
                errno.ENOENT, f"the event of {object!r} has been retrieved: nothing to drop"
            )
        return user

    def collect(self, ready: bool = False) -> None:
        """Queue the events of what the watcher has to tell. `ready`: its descriptor is readable."""
        self.due = True
        reports = self._reports
        self.watcher.read(reports)
        if ready:
            self._idle = 0 if reports else self._idle + 1
        if self._idle >= _IDLE or len(self._resting) > _RESTING:
            self._idle = 0
            self._formers |= self._resting
            self._resting = {}
        while reports:
            token, bits = reports[0]
            self._admit(token, bits)
            del reports[0]
        for token in list(self._formers):
            self.watcher.unwatch(token)
            watch = self._by_token.pop(token, None)
            if watch is not None and watch.token == token:
                watch.token = None
            self._resting.pop(token, None)
            self._formers.pop(token, None)
        self.due = False

    def retrieved(self, watch: FileWatch) -> None:
        """The event of `watch` has left the queue; unless it has been put back."""
        if watch.queued or watch.active or self._by_key.get(watch.key) is not watch:
            return
        if watch.over:
            self._drop(watch)  # R232
        else:
            watch.object = None
            if watch.token is not None:
                self._resting[watch.token] = None
            self._cached.setdefault(watch.file, {})[watch.key] = watch

    def taken(self, event: PortEvent) -> FileWatch | None:
        """The watch that `event` was of, made what it was before the event was taken."""
        object: FileObject = event.object
        watch = self._find(object)
        if watch is None:
            if not event.events & _EXCEPTION:
                return None  # dissociated meanwhile
            watch = FileWatch(id(object), ref(object), self._queue.declined.append)
            self._by_key[watch.key] = watch
            self._queue.room -= 1
        elif watch.active or watch.queued or watch.stale:
            return None  # associated again meanwhile
        self._uncache(watch)
        watch.over = bool(event.events & _EXCEPTION)
        watch.happened = event.events
        watch.user = event.user
        watch.object = object
        return watch

    def sweep(self) -> bool:
        """Drop what nobody can associate or dissociate any more; whether there was anything."""
        dead = [
            watch
            for cached in self._cached.values()
            for watch in cached.values()
            if watch.reference() is None
        ]
        for watch in dead:
            self._drop(watch)
        return bool(dead)

    def clear(self) -> list[object]:
        """Forget everything, the port is closing; returns what is to be let go elsewhere."""
        dropped: list[object] = []
        for watch in self._by_key.values():
            dropped += (watch.user, watch.object)
        for table in (self._by_key, self._by_token, self._cached, self._formers, self._resting):
            table.clear()
        return dropped

    def _find(self, object: FileObject) -> FileWatch | None:
        watch = self._by_key.get(id(object))
        if watch is None or watch.object is object or watch.reference() is object:
            return watch
        self._drop(watch)  # its object is gone, and the address is used again
        return None

    def _admit(self, token: int, bits: int) -> None:
        watch = self._by_token.get(token)
        if watch is None or watch.token != token:
            self._formers[token] = None
        elif not bits & _EXCEPTION:
            if watch.active:
                self._fire(watch, bits & watch.asked)
        elif watch.active or watch.queued or watch.over:
            watch.over = True
            watch.active = False
            watch.happened = bits & _EXCEPTION
            if watch.queued:
                self._queue.withdraw(watch)  # R230
            watch.queued = True
            self._queue.line.append(watch)
            watch.token = None
            self._formers[token] = None
        else:
            self._drop(watch)

    def _fire(self, watch: FileWatch, bits: int) -> None:
        # One call, and that at the end: no signal handler can raise in between.
        watch.happened = bits
        watch.active = False
        watch.queued = True
        self._queue.line.append(watch)

    def _trim(self, file: tuple[int, int]) -> None:
        """Forget of one file what nobody can have any more, and the oldest of what is too many."""
        cached = self._cached.get(file)
        if cached is None:
            return
        for watch in list(cached.values()):
            if watch.reference() is None or len(cached) > _CACHED:
                self._drop(watch)

    def _drop(self, watch: FileWatch) -> None:
        if watch.queued:
            self._queue.withdraw(watch)
        self._uncache(watch)
        if self._by_key.get(watch.key) is watch:
            # No call among these, so no signal handler can raise between them.
            del self._by_key[watch.key]
            self._queue.room += 1
            watch.active = False
            if watch.token is not None:
                self._formers[watch.token] = None
                watch.token = None

    def _uncache(self, watch: FileWatch) -> None:
        cached = self._cached.get(watch.file)
        if cached is not None and cached.get(watch.key) is watch:
            del cached[watch.key]
            if not cached:
                self._cached.pop(watch.file, None)

    def _full(self) -> OSError:
        return OSError(errno.EAGAIN, f"all {self._queue.limit} slots of the port are taken")


def never_watched() -> OSError:
    return OSError(errno.EINVAL, "this port never watched a file")
