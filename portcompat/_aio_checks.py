"""What a user may pass to asynchronous I/O: descriptors, offsets and memory."""

import errno
import os
from collections.abc import Sequence
from operator import index
from typing import Any, Final, SupportsIndex

from portcompat._checks import INT_MAX, HasFileno, as_descriptor

Buffers = Any
"""A bytes-like object, or a list or tuple of them."""

_OFFSETS: Final = -(2**63), 2**63 - 1


def as_fd(fildes: int | HasFileno) -> int:
    """The number of a descriptor. OSError EBADF when none can have it, or its object is closed."""
    if type(fildes) is int and 0 <= fildes <= INT_MAX:
        return fildes
    try:
        return as_descriptor(fildes)
    except OSError as error:
        raise OSError(errno.EBADF, error.strerror) from None


def as_open(fildes: int | HasFileno) -> int:
    """The same of one that is open. OSError EBADF when it is not."""
    fd = as_fd(fildes)
    os.fstat(fd)
    return fd


def as_length(value: SupportsIndex) -> int:
    """A number of bytes to read."""
    number = index(value)
    if number < 0:
        raise ValueError(f"the number of bytes must not be negative, and is {number}")
    return number


def as_offset(value: SupportsIndex) -> int:
    """Where in a file; it may be negative, which is for the transfer to refuse."""
    try:
        number = index(value)
    except TypeError:
        raise TypeError(f"offset must be an int, not {type(value).__name__}") from None
    if not _OFFSETS[0] <= number <= _OFFSETS[1]:
        raise ValueError(f"offset must fit 64 bits, and is {number}")
    return number


def as_list(buffers: Sequence[Any]) -> list[Any]:
    """Several buffers, as they are when the call is made."""
    if isinstance(buffers, bytes | bytearray | memoryview | str):
        raise TypeError("buffers must be several: a list of bytes-like objects")
    return [*buffers]


def as_buffers(buf: Any, writable: bool) -> list[memoryview]:
    """The memory that is transferred, byte by byte. It cannot be resized while this is held."""
    buffers = []
    for each in buf if isinstance(buf, list | tuple) else (buf,):
        try:
            view = memoryview(each)
        except TypeError:
            raise TypeError(f"buf must be bytes-like, not {type(each).__name__}") from None
        if not view.c_contiguous:
            raise TypeError("buf must be contiguous: make a copy of it")
        if writable and view.readonly:
            raise TypeError(
                f"buf must be writable to read into it: take a bytearray, not {each!r:.40}"
            )
        buffers.append(view if view.format == "B" and view.ndim == 1 else view.cast("B"))
    return buffers
