"""inotify(7): Linux."""

import errno
import os
import stat
import sys
from collections import deque
from functools import partial
from itertools import islice
from struct import Struct
from typing import Final

from portcompat._constants import (
    FILE_DELETE,
    FILE_NOFOLLOW,
    FILE_RENAME_FROM,
    FILE_RENAME_TO,
    UNMOUNTED,
)
from portcompat.abc import FileStatus, FileWatcher
from portcompat.backends._linux import inotify_add_watch, inotify_open, inotify_rm_watch
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

if not sys.platform.startswith("linux"):
    raise ImportError("this system has no inotify(7)")

# <uapi/linux/inotify.h>
_IN_ACCESS: Final = 0x0001
_IN_MODIFY: Final = 0x0002
_IN_ATTRIB: Final = 0x0004
_IN_CLOSE_WRITE: Final = 0x0008
_IN_MOVED_FROM: Final = 0x0040
_IN_MOVED_TO: Final = 0x0080
_IN_CREATE: Final = 0x0100
_IN_DELETE: Final = 0x0200
_IN_DELETE_SELF: Final = 0x0400
_IN_MOVE_SELF: Final = 0x0800
_IN_UNMOUNT: Final = 0x2000
_IN_Q_OVERFLOW: Final = 0x4000
_IN_IGNORED: Final = 0x8000
_IN_ONLYDIR: Final = 0x0100_0000
_IN_DONT_FOLLOW: Final = 0x0200_0000
_IN_MASK_ADD: Final = 0x2000_0000

_EVENT: Final = Struct("@iIII")  # wd, mask, cookie, length of the name that follows
_BUFFER: Final = 0x1_0000

_ORDINARY: Final = _IN_ACCESS | _IN_MODIFY | _IN_ATTRIB | _IN_CLOSE_WRITE
_ENTRIES: Final = _IN_CREATE | _IN_DELETE | _IN_MOVED_FROM | _IN_MOVED_TO
_SELF: Final = _IN_MOVE_SELF | _IN_DELETE_SELF
_NAMES: Final = {  # what happens to a name, as it is told of the directory
    _IN_DELETE: int(FILE_DELETE),
    _IN_MOVED_FROM: int(FILE_RENAME_FROM),
    _IN_MOVED_TO: int(FILE_RENAME_TO),
}
_ANY_NAME: Final = _IN_DELETE | _IN_MOVED_FROM | _IN_MOVED_TO

_CHUNKS: Final = 64  # that are read at once: a busy file must not keep the port from all else
_TRIES: Final = 100  # to find a path that means the same before and after


class _Watch:
    """One token: a file, and the name by which it was found."""

    __slots__ = ("bits", "directory", "fired", "inode", "place", "status", "token")

    def __init__(self, token: int, place: Place, bits: int, status: FileStatus) -> None:
        self.token = token
        self.place = place
        self.bits = bits
        self.status = status  # as it was when last looked at
        self.fired = False  # there for exceptions only
        self.inode: _Inode | None = None  # of the file; None if only its name is watched
        self.directory: _Inode | None = None  # where its name is; None if that is not known


class _Inode:
    """What the kernel watches: one file or directory, for all tokens that have to do with it."""

    __slots__ = ("identity", "names", "watches", "wd")

    def __init__(self, wd: int) -> None:
        self.wd = wd
        self.identity: tuple[int, int] | None = None  # device and inode, of a directory of names
        self.watches: dict[int, _Watch] = {}  # of this file
        self.names: dict[bytes, dict[int, _Watch]] = {}  # of files in this directory


class InotifyWatcher(FileWatcher):
    """One inotify instance.

    **What is watched.** The kernel has one watch per inode and instance, however many ask for it
    and by whatever path; `_Inode` is that. A token has two: the file for what happens to its
    content and attributes, and the directory for what happens to its name. The inode alone cannot
    tell that: it hears of the loss of any of its hard links, and of no name (R222, R225).

    **Which inode.** The kernel is given a path and tells a watch descriptor, which it has one of
    per inode. So to know that the path meant the same while it was watched and looked at, it is
    watched twice: the same number means the same file.

    **What is old.** Events are read and dispatched before a token comes to be in `_inodes`, so none
    that is older than it is told of it.

    **What the kernel does not say.** A truncation is told as any write: the size tells if it is
    less. utimensat(2) is told as IN_ATTRIB: the stamps tell. unlink(2) is told of the inode first:
    while the name is gone and the event of the directory is on its way, nothing is told. What is
    stored through a mapping is not told: the stamps tell when a writer lets go of the file, which
    to one that has mapped it is munmap(2) and close(2).

    **Overflow.** After IN_Q_OVERFLOW every token is watched and looked at anew.
    """

    bits = int(
        ACCESS
        | MODIFIED
        | ATTRIB
        | TRUNC
        | FILE_NOFOLLOW
        | FILE_DELETE
        | FILE_RENAME_TO
        | FILE_RENAME_FROM
        | UNMOUNTED
    )

    def __init__(self) -> None:
        try:
            self._file = inotify_open(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.EMFILE:
                raise OSError(
                    errno.EMFILE,
                    "no inotify instance or no descriptor is left: raise "
                    "fs.inotify.max_user_instances or RLIMIT_NOFILE, or take file_watcher='stat'",
                ) from None
            raise
        self._fd = self._file.fileno()
        # Reads in C until there is no more, so no signal handler can raise between a read and the
        # keeping of what it brought.
        self._read = partial(self._file.read, _BUFFER)
        self._raw: deque[bytes] = deque()
        self._offset = 0  # in the first of them
        self._lost = False  # the queue of the kernel overflowed
        self._told: list[tuple[int, int]] = []
        self._watches: dict[int, _Watch] = {}
        self._inodes: dict[int, _Inode] = {}  # by watch descriptor
        self._held: list[_Inode] = []  # by the `watch` that is under way
        self._removed: set[int] = set()  # watch descriptors whose IN_IGNORED has not come yet

    def watch(self, token: int, path: bytes, follow: bool, bits: int) -> FileStatus:
        for _ in range(_TRIES):
            place = find(path, follow)
            held: list[_Inode] = []
            self._held = held
            try:
                status = self._watch(token, place, bits, held)
            except FileNotFoundError:  # gone since it was found: perhaps it is being replaced
                continue
            finally:
                self._held = []
                for inode in held:
                    self._release(inode)
            if status is not None:
                return status
        raise OSError(errno.EAGAIN, "the file is replaced faster than it can be watched")

    def unwatch(self, token: int) -> None:
        watch = self._watches.get(token)
        if watch is not None:
            self._forget(watch)

    def read(self, reports: deque[tuple[int, int]]) -> None:
        self._pump()
        reports.extend(self._told)
        self._told.clear()

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        self._file.close()

    # Watching

    def _watch(self, token: int, place: Place, bits: int, held: list[_Inode]) -> FileStatus | None:
        """None if the path has come to mean something else meanwhile."""
        mask = _content(bits, place.mode)
        directory, refused = self._hold_directory(place, held)
        if directory is None:
            mask |= _SELF | _IN_ATTRIB
        inode = None
        if mask:
            try:
                inode = self._hold(place, mask, held)
            except PermissionError:
                # Not readable, which R203 does not ask for. The directory hears of it, too.
                if directory is None or stat.S_ISDIR(place.mode):
                    raise refused or PermissionError(
                        errno.EACCES, "inotify(7) wants read permission on what it watches"
                    ) from None
                self._add(place.directory, mask | _IN_ONLYDIR)
        self._pump()
        status = look(place)
        if inode is not None and self._add_place(place, mask) != inode.wd:
            return None
        if directory is not None and self._add_directory(place) != directory.wd:
            return None
        # Now it is told of, whoever raises; the reports that there may be are still in the kernel.
        watch = _Watch(token, place, bits, status)
        watch.inode, watch.directory = inode, directory
        self._watches[token] = watch
        if inode is not None:
            inode.watches[token] = watch
        if directory is not None:
            directory.names.setdefault(place.name, {})[token] = watch
        return status

    def _hold_directory(
        self, place: Place, held: list[_Inode]
    ) -> tuple[_Inode | None, OSError | None]:
        """The directory of the name; None if there is none, or if it may not be read."""
        if not place.name:
            return None, None
        try:
            directory = self._inode(self._add_directory(place), held)
        except PermissionError as error:
            return None, error
        if directory.identity is None:
            status = os.stat(place.directory)
            directory.identity = status.st_dev, status.st_ino
        return directory, None

    def _hold(self, place: Place, mask: int, held: list[_Inode]) -> _Inode:
        return self._inode(self._add_place(place, mask), held)

    def _inode(self, wd: int, held: list[_Inode]) -> _Inode:
        inode = self._inodes.get(wd)
        if inode is None:
            inode = self._inodes[wd] = _Inode(wd)
        held.append(inode)
        return inode

    def _add_place(self, place: Place, mask: int) -> int:
        return self._add(place.path, mask if place.follow else mask | _IN_DONT_FOLLOW)

    def _add_directory(self, place: Place) -> int:
        return self._add(place.directory, _ANY_NAME | _IN_ONLYDIR)

    def _add(self, path: bytes, mask: int) -> int:
        try:
            return inotify_add_watch(self._fd, path, mask | _IN_MASK_ADD)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise OSError(
                    errno.EAGAIN,
                    "no inotify watch is left: raise fs.inotify.max_user_watches, or take "
                    "file_watcher='stat'",
                ) from None
            raise

    # Forgetting

    def _forget(self, watch: _Watch) -> None:
        self._watches.pop(watch.token, None)
        if watch.inode is not None:
            watch.inode.watches.pop(watch.token, None)
            self._release(watch.inode)
        if watch.directory is not None:
            self._take_name(watch, watch.directory)

    def _take_name(self, watch: _Watch, directory: _Inode) -> None:
        named = directory.names.get(watch.place.name)
        if named is not None:
            named.pop(watch.token, None)
            if not named:
                directory.names.pop(watch.place.name, None)
        self._release(directory)

    def _release(self, inode: _Inode) -> None:
        """Have the kernel watch it no longer, if nobody needs that."""
        if not (inode.watches or inode.names):
            self._remove(inode)

    def _remove(self, inode: _Inode) -> None:
        if self._inodes.get(inode.wd) is inode:
            self._removed.add(inode.wd)
            inotify_rm_watch(self._fd, inode.wd)
            self._inodes.pop(inode.wd, None)

    # Reading

    def _pump(self) -> None:
        """Read what the kernel has, and leave in `_told` what it means."""
        raw = self._raw
        raw.extend(islice(iter(self._read, None), _CHUNKS))
        while raw:
            chunk = raw[0]
            while self._offset < len(chunk):
                wd, mask, _, length = _EVENT.unpack_from(chunk, self._offset)
                following = self._offset + _EVENT.size + length
                name = chunk[self._offset + _EVENT.size : following].rstrip(b"\0")
                self._dispatch(wd, mask, name)
                self._offset = following
            # No call between these, so no signal handler can raise there.
            del raw[0]
            self._offset = 0
        if self._lost:
            self._look_again()
            self._lost = False

    def _dispatch(self, wd: int, mask: int, name: bytes) -> None:
        if mask & _IN_Q_OVERFLOW:
            self._lost = True
            return
        inode = self._inodes.get(wd)
        if inode is None:
            if mask & _IN_IGNORED:
                self._removed.discard(wd)
            elif wd not in self._removed:  # a signal handler raised before it was noted
                inotify_rm_watch(self._fd, wd)
        elif mask & _IN_IGNORED:
            self._inodes.pop(wd, None)
        elif mask & _IN_UNMOUNT:
            named = [watch for those in inode.names.values() for watch in those.values()]
            for watch in [*inode.watches.values(), *named]:
                self._except(watch, int(UNMOUNTED))
        elif name:
            self._tell_of_entry(inode, mask, name)
        else:
            self._tell_of_inode(inode, mask)

    def _tell_of_entry(self, directory: _Inode, mask: int, name: bytes) -> None:
        """Something happened to a name in the directory, or to the file of that name."""
        named = directory.names.get(name)
        exception = _NAMES.get(mask & _ANY_NAME)
        if named is not None:
            for watch in list(named.values()):
                if exception is not None:
                    self._except(watch, exception)
                elif watch.inode is None and watch.bits and mask & _ORDINARY:
                    self._look_at(watch, _happened(mask))
        if directory.watches and mask & _ENTRIES:
            for watch in list(directory.watches.values()):
                bits = MODIFIED | ATTRIB
                if mask & _IN_CREATE and watch.bits & TRUNC and _is_created(watch.place, name):
                    bits |= TRUNC  # R224
                self._tell(watch, bits & watch.bits)

    def _tell_of_inode(self, inode: _Inode, mask: int) -> None:
        waited_for = bool(inode.names) or inode in self._held
        for watch in list(inode.watches.values()):
            if watch.directory is None:
                waited_for = True
                if mask & (_SELF | _IN_ATTRIB) and self._has_lost_name(watch, mask):
                    continue
            if not watch.fired and mask & (_ORDINARY | _IN_MOVE_SELF):
                waited_for = True
                self._look_at(watch, _happened(mask))
        if not waited_for and not mask & _IN_CLOSE_WRITE:  # after which little comes, mostly
            self._remove(inode)  # it may change as often as it likes; `watch` adds it again

    def _look_at(self, watch: _Watch, bits: int) -> None:
        """An ordinary event: see what else the file tells, and whether it has its name still."""
        if watch.fired:
            return
        try:
            status = look(watch.place)
        except OSError:
            status = None
        # A file without links is being removed, unless it was watched without a name.
        if (
            status is not None
            and is_same(watch.status, status)
            and (status.nlink or not watch.place.name)
        ):
            bits |= changes(watch.status, status)
            if not bits & watch.bits:
                watch.status = status  # nothing that was asked for has changed: a new beginning
        elif self._is_told_by_directory(watch):
            return
        self._tell(watch, bits & watch.bits)

    def _is_told_by_directory(self, watch: _Watch) -> bool:
        """Whether the loss of the name will be told: the path still leads to its directory."""
        directory = watch.directory
        if directory is None or self._inodes.get(directory.wd) is not directory:
            return False
        try:
            status = os.stat(watch.place.directory)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == directory.identity

    def _has_lost_name(self, watch: _Watch, mask: int) -> bool:
        """Of a watch whose directory tells nothing: whether its name has gone, and tell that."""
        if not watch.place.name:
            if mask & _IN_DELETE_SELF:
                self._except(watch, int(FILE_DELETE))
            return bool(mask & _IN_DELETE_SELF)
        try:
            status = look(watch.place)
        except OSError:
            gone = FILE_RENAME_FROM if mask & _IN_MOVE_SELF else FILE_DELETE
        else:
            if is_same(watch.status, status) and status.nlink:
                return False
            gone = FILE_RENAME_FROM if mask & _IN_MOVE_SELF else FILE_RENAME_TO
        self._except(watch, int(gone))
        return True

    def _tell(self, watch: _Watch, bits: int) -> None:
        if bits and not watch.fired:
            self._told.append((watch.token, bits))
            watch.fired = True

    def _except(self, watch: _Watch, exception: int) -> None:
        if watch.token in self._watches:
            self._told.append((watch.token, exception))
            self._forget(watch)

    def _look_again(self) -> None:
        """The kernel has dropped events: watch every file anew, and look what has become of it."""
        self._removed.clear()  # it may have dropped what would empty this
        for watch in list(self._watches.values()):
            held: list[_Inode] = []
            try:
                self._look_again_at(watch, held)
            finally:
                for inode in held:
                    self._release(inode)

    def _look_again_at(self, watch: _Watch, held: list[_Inode]) -> None:
        place = watch.place
        try:
            if watch.directory is not None:
                directory, _ = self._hold_directory(place, held)
                if directory is not None and directory is not watch.directory:
                    directory.names.setdefault(place.name, {})[watch.token] = watch
                    former, watch.directory = watch.directory, directory
                    self._take_name(watch, former)
            if watch.inode is not None and not watch.fired:
                mask = _content(watch.bits, place.mode)
                inode = self._hold(place, mask | (0 if watch.directory else _SELF), held)
                if inode is not watch.inode:
                    inode.watches[watch.token] = watch
                    old, watch.inode = watch.inode, inode
                    old.watches.pop(watch.token, None)
                    self._release(old)
            status = look(place)
        except FileNotFoundError:
            self._except(watch, int(FILE_DELETE))
            return
        except OSError as error:
            if error.errno != errno.EAGAIN:
                self._except(watch, int(FILE_DELETE))
            return
        if not is_same(watch.status, status):
            self._except(watch, int(FILE_RENAME_TO))
        elif not watch.fired:
            # That it was read need not show in the stamps.
            self._tell(watch, (changes(watch.status, status) | ACCESS) & watch.bits)


def _content(bits: int, mode: int) -> int:
    """What the kernel is to tell of the file itself."""
    mask = 0
    if bits & ACCESS:
        mask = _IN_ACCESS | _IN_ATTRIB
    if bits & (MODIFIED | ATTRIB | TRUNC):
        # Of a directory not IN_MODIFY: that would be every write to every file in it.
        mask |= _IN_ATTRIB
        mask |= _ENTRIES if stat.S_ISDIR(mode) else _IN_MODIFY | _IN_CLOSE_WRITE
        if bits & ATTRIB:
            mask |= _IN_MOVE_SELF  # of any of its names: another may have been renamed (R222)
    return mask


def _happened(mask: int) -> int:
    bits = 0
    if mask & _IN_ACCESS:
        bits = ACCESS
    if mask & _IN_MODIFY:
        bits |= MODIFIED | ATTRIB  # R219
    if mask & (_IN_ATTRIB | _IN_MOVE_SELF):
        bits |= ATTRIB
    return bits


def _is_created(directory: Place, name: bytes) -> bool:
    """Whether what is new in the directory is a file, and not a link to one or a directory."""
    try:
        status = os.lstat(os.path.join(directory.path, name))
    except OSError:
        return False
    links = stat.S_ISLNK(status.st_mode) or stat.S_ISDIR(status.st_mode)
    return status.st_nlink == 1 and not links
