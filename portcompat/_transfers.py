"""Reads, writes and syncs, as the system makes them."""

import errno
import os
from collections.abc import Sequence
from threading import Lock
from typing import Any, Final

READ: Final = 11  # AIOAREAD and so on (R025), which is what the event says (R293)
WRITE: Final = 12
SYNC: Final = 20

_NOWAIT: Final[int] = getattr(os, "RWF_NOWAIT", 0)
_CURRENT: Final = -1  # the offset of preadv2(2) that means none: what cannot seek takes no other

has_nowait: Final = bool(_NOWAIT) and hasattr(os, "preadv")


def read_cached(fd: int, buffers: Sequence[Any], offset: int) -> int:
    """Read what is in the page cache, and do not wait: preadv2(2) with RWF_NOWAIT.

    Raises OSError: EAGAIN if there is nothing; EOPNOTSUPP or ESPIPE when it cannot be told.
    """
    _require_offset(offset)
    return os.preadv(fd, buffers, offset, _NOWAIT)


def read_ready(fd: int, buffers: Sequence[Any]) -> int:
    """Read from a stream what is there, and do not wait. Raises OSError as `read_cached`."""
    return os.preadv(fd, buffers, _CURRENT, _NOWAIT)


def write_ready(fd: int, buffers: Sequence[Any]) -> int:
    """Write to a stream what there is room for, and do not wait."""
    return os.pwritev(fd, buffers, _CURRENT, _NOWAIT)


def read_stream(fd: int, buffers: Sequence[Any]) -> int:
    if hasattr(os, "readv"):
        return os.readv(fd, buffers)
    return _scatter(os.read(fd, sum(map(len, buffers))), buffers)


def write_stream(fd: int, buffers: Sequence[Any]) -> int:
    if hasattr(os, "writev"):
        return os.writev(fd, buffers)
    return os.write(fd, b"".join(buffers))


def sync(fd: int, data_only: bool) -> None:
    if data_only and hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:
        os.fsync(fd)


def _require_offset(offset: int) -> None:
    if offset < 0:
        raise OSError(errno.EINVAL, f"offset must not be negative, and is {offset}")


if hasattr(os, "preadv"):
    # Python calls preadv2(2), for which an offset of -1 is that of the file.
    def read_at(fd: int, buffers: Sequence[Any], offset: int) -> int:
        _require_offset(offset)
        return os.preadv(fd, buffers, offset)

    def write_at(fd: int, buffers: Sequence[Any], offset: int) -> int:
        _require_offset(offset)
        return os.pwritev(fd, buffers, offset)

elif hasattr(os, "pread"):

    def read_at(fd: int, buffers: Sequence[Any], offset: int) -> int:
        return _scatter(os.pread(fd, sum(map(len, buffers)), offset), buffers)

    def write_at(fd: int, buffers: Sequence[Any], offset: int) -> int:
        return os.pwrite(fd, b"".join(buffers), offset)

else:  # Windows: the offset of the file is moved and put back, by one thread at a time (R291)
    _moving = Lock()

    def read_at(fd: int, buffers: Sequence[Any], offset: int) -> int:
        with _moving:
            former = os.lseek(fd, 0, os.SEEK_CUR)
            os.lseek(fd, offset, os.SEEK_SET)
            try:
                return read_stream(fd, buffers)
            finally:
                os.lseek(fd, former, os.SEEK_SET)

    def write_at(fd: int, buffers: Sequence[Any], offset: int) -> int:
        with _moving:
            former = os.lseek(fd, 0, os.SEEK_CUR)
            os.lseek(fd, offset, os.SEEK_SET)
            try:
                return write_stream(fd, buffers)
            finally:
                os.lseek(fd, former, os.SEEK_SET)


def _scatter(data: bytes, buffers: Sequence[Any]) -> int:
    """Put the data into the buffers, one after the other."""
    left = memoryview(data)
    for buffer in buffers:
        count = min(len(buffer), len(left))
        buffer[:count] = left[:count]
        left = left[count:]
    return len(data)
