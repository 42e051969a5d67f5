"""stat(2), time and again: anywhere, in pure Python."""

import os
import stat
from collections import deque
from threading import Lock, Thread
from typing import Final

from portcompat._constants import (
    FILE_DELETE,
    FILE_NOFOLLOW,
    FILE_RENAME_TO,
    MOUNTEDOVER,
    UNMOUNTED,
)
from portcompat.abc import FileStatus, FileWatcher
from portcompat.backends._pair import drain, signal, signal_pair
from portcompat.backends._paths import (
    ACCESS,
    ATTRIB,
    MODIFIED,
    TRUNC,
    Place,
    changes,
    find,
    is_same,
    look,
)

ENVIRONMENT: Final = "PORTCOMPAT_STAT_INTERVAL"


class _Watch:
    __slots__ = ("around", "bits", "fired", "place", "status", "token")

    def __init__(
        self, token: int, place: Place, bits: int, status: FileStatus, around: int
    ) -> None:
        self.token = token
        self.place = place
        self.bits = bits
        self.status = status  # as it was when last looked at
        self.around = around  # the device of its directory
        self.fired = False  # there for exceptions only


class StatWatcher(FileWatcher):
    """A thread that looks at every file, again and again.

    Between two looks passes the `interval`, in seconds: PORTCOMPAT_STAT_INTERVAL when the watcher
    is made, or else 0.5. What was done and undone between two looks is not seen, nor is a change
    that leaves the stamps and the size as they were, as a file system may with a second change
    within one tick of its clock. The time of the last access is no sign: most systems are too lazy
    to note it. A file that has gone may have been removed or renamed: FILE_DELETE it is; where
    another has taken its name, FILE_RENAME_TO.

    **Order.** A look that finds something is followed by another look at all the rest, until one
    finds nothing, and what was found last is told first. So when a change is told, those that were
    made before it have been told.

    **Threads.** The thread alone changes a `_Watch`. A token is never used again, so what it still
    says of one that the engine has forgotten means nothing.
    """

    bits = int(
        MODIFIED
        | ATTRIB
        | TRUNC
        | FILE_NOFOLLOW
        | FILE_DELETE
        | FILE_RENAME_TO
        | UNMOUNTED
        | MOUNTEDOVER
    )
    interval = 0.5

    def __init__(self) -> None:
        if text := os.environ.get(ENVIRONMENT):
            self.interval = _seconds(text)
        self._readable, self._writable = signal_pair()
        self._watches: dict[int, _Watch] = {}
        self._told: deque[tuple[int, int]] = deque()
        self._end = Lock()  # released when the thread is to end
        self._end.acquire()
        self._thread: Thread | None = None

    def watch(self, token: int, path: bytes, follow: bool, bits: int) -> FileStatus:
        place = find(path, follow)
        if self._thread is None:
            self._thread = Thread(target=self._run, name="portcompat stat", daemon=True)
            self._thread.start()
        status = look(place)
        self._watches[token] = _Watch(token, place, bits, status, _device(place.directory))
        return status

    def unwatch(self, token: int) -> None:
        self._watches.pop(token, None)

    def read(self, reports: deque[tuple[int, int]]) -> None:
        drain(self._readable)
        try:
            # In C to the end, so no signal handler can raise when one is in neither of the two.
            reports.extend(iter(self._told.popleft, None))
        except IndexError:
            pass

    def fileno(self) -> int:
        return self._readable.fileno()

    def close(self) -> None:
        if self._end.locked():
            self._end.release()
        self._readable.close()
        self._writable.close()

    # In the thread

    def _run(self) -> None:
        while not self._end.acquire(timeout=self.interval):
            told = self._look_until_still()
            if told:
                self._told.extend(told)
                try:
                    signal(self._writable)
                except OSError:  # closed meanwhile
                    return

    def _look_until_still(self) -> list[tuple[int, int]]:
        told: list[tuple[int, int]] = []
        while found := self._look_around():
            told = found + told
        return told

    def _look_around(self) -> list[tuple[int, int]]:
        found = []
        seen: dict[bytes, FileStatus | None] = {}  # by path: all who watch a file see the same
        for watch in list(self._watches.values()):
            path = watch.place.path
            if path not in seen:
                try:
                    seen[path] = look(watch.place)
                except OSError:
                    seen[path] = None
            bits = self._compare(watch, seen[path])
            if bits:
                found.append((watch.token, bits))
        return found

    def _compare(self, watch: _Watch, now: FileStatus | None) -> int:
        if now is None:
            self._watches.pop(watch.token, None)
            gone = watch.place.name and _device(watch.place.directory) != watch.around
            return int(UNMOUNTED if gone else FILE_DELETE)
        before = watch.status
        if not is_same(before, now):
            self._watches.pop(watch.token, None)
            return self._replaced(watch, now)
        if watch.fired:
            return 0
        bits = changes(before, now) & watch.bits & ~ACCESS
        if bits:
            watch.fired = True
        else:
            watch.status = now
        return bits

    def _replaced(self, watch: _Watch, now: FileStatus) -> int:
        """What it means that another file is where it was."""
        if now.dev == watch.status.dev:
            return int(FILE_RENAME_TO)
        if _device(watch.place.directory) != watch.around:
            return int(UNMOUNTED)
        over = stat.S_ISDIR(now.mode) and watch.status.dev == watch.around
        return int(MOUNTEDOVER if over else UNMOUNTED)


def _device(directory: bytes) -> int:
    """The device of a directory, or of the next one above that is still there."""
    while True:
        try:
            return os.stat(directory).st_dev
        except OSError:
            above = os.path.dirname(directory)
            if above == directory:
                return -1
            directory = above


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 86400:
        raise ValueError(f"{ENVIRONMENT} must be a number of seconds, above 0, not {text!r}")
    return seconds
