"""Which file a path names, and by which name in which directory."""

import errno
import os
import stat
from typing import Final, NamedTuple

from portcompat._constants import FILE_ACCESS as _FILE_ACCESS
from portcompat._constants import FILE_ATTRIB, FILE_MODIFIED, FILE_TRUNC
from portcompat.abc import FileStatus

ACCESS: Final = int(_FILE_ACCESS)
MODIFIED: Final = int(FILE_MODIFIED)
ATTRIB: Final = int(FILE_ATTRIB)
TRUNC: Final = int(FILE_TRUNC)


class Place(NamedTuple):
    """Where a file is: `path` names it, and with `follow` False it is no symbolic link.

    `directory` and `name` are those of the file itself, not of a link to it. A file that is reached
    through a descriptor, by /proc/PID/fd/N, has no name (R217), nor has the root.
    """

    path: bytes
    directory: bytes
    name: bytes
    mode: int
    follow: bool = False


def find(path: bytes, follow: bool) -> Place:
    """The place of the file that the absolute `path` names.

    Raises what lstat and stat do (R202), and OSError ENOTSUP for what no watcher can see (R204).
    """
    status = os.lstat(path)
    directory, name = os.path.split(path)
    if follow and stat.S_ISLNK(status.st_mode):
        here, status = status, os.stat(path)
        require_seen(status)
        if here.st_dev in _PSEUDO:  # what it reads as need not be a path: "pipe:[1234]"
            return Place(path, b"", b"", status.st_mode, True)
        path = os.path.realpath(path)
    elif name in (b"", b".", b".."):
        path = os.path.realpath(path)
    else:
        require_seen(status)
        return Place(path, directory, name, status.st_mode)
    require_seen(status)
    directory, name = os.path.split(path)
    return Place(path, directory, name, status.st_mode)


def require_seen(status: os.stat_result) -> None:
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        raise OSError(errno.ENOTSUP, "what happens to a device node cannot be seen")
    if status.st_dev in _PSEUDO:
        raise OSError(errno.ENOTSUP, "what happens in this file system cannot be seen")


def look(place: Place) -> FileStatus:
    """How the file is that is there now. Raises OSError."""
    return known(os.stat(place.path) if place.follow else os.lstat(place.path))


def known(status: os.stat_result) -> FileStatus:
    return FileStatus(
        status.st_dev,
        status.st_ino,
        status.st_mode,
        status.st_nlink,
        status.st_size,
        status.st_atime_ns,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def changes(before: FileStatus, now: FileStatus) -> int:
    """The FILE_* bits that tell two looks at one file apart."""
    bits = 0
    if now.atime != before.atime:
        bits = ACCESS
    if now.mtime != before.mtime or now.size != before.size:
        bits |= MODIFIED | ATTRIB
    if now.ctime != before.ctime:
        bits |= ATTRIB
    if now.size < before.size and not stat.S_ISDIR(now.mode):
        bits |= TRUNC
    return bits


def is_same(before: FileStatus, now: FileStatus) -> bool:
    """Whether two looks saw the same file."""
    return now.ino == before.ino and now.dev == before.dev


def _pseudo_file_systems() -> frozenset[int]:
    """The devices of file systems whose files the kernel makes up as they are read."""
    found = set()
    for mount in ("/proc", "/sys"):
        try:
            device = os.lstat(mount).st_dev
            if device != os.lstat("/").st_dev:
                found.add(device)
        except OSError:
            pass
    return frozenset(found)


_PSEUDO: Final = _pseudo_file_systems()
