"""Control blocks: what is asked of asynchronous I/O, and what came of it."""

import errno
import os
from typing import SupportsIndex

from portcompat._aio_checks import Buffers, as_length
from portcompat._aio_constants import AIO_ALLDONE, LIO_NOP
from portcompat._aio_request import Request
from portcompat._checks import HasFileno
from portcompat._requests import requests
from portcompat.timers import SigEvent


class AioControlBlock:
    """A request: what is asked, and once it is finished what came of it (struct aiocb).

    `aio_fildes` is a descriptor or has a fileno(). `buf` is what is written, or where what is read
    goes: a bytes-like object, a list or tuple of them for one transfer (readv, writev), or a number
    of bytes, for which a bytearray is made. The memory is used as it is: it cannot be resized while
    the request is in flight, and is not to be changed then. `aio_offset` is where in the file; what
    cannot seek ignores it (R290). `aio_sigevent`: how the completion is told; None is SIGEV_NONE.

    A block may be used again when its request is finished (R283, R305).
    """

    __slots__ = (
        "__weakref__",
        "_error",
        "_request",
        "_result",
        "aio_fildes",
        "aio_lio_opcode",
        "aio_offset",
        "aio_reqprio",
        "aio_sigevent",
        "buf",
    )

    def __init__(
        self,
        fildes: int | HasFileno,
        buf: Buffers | SupportsIndex = b"",
        offset: SupportsIndex = 0,
        sigevent: SigEvent | None = None,
        *,
        reqprio: SupportsIndex = 0,
        lio_opcode: SupportsIndex = LIO_NOP,
    ) -> None:
        self.aio_fildes = fildes
        self.buf: Buffers = bytearray(as_length(buf)) if hasattr(buf, "__index__") else buf
        self.aio_offset = offset
        self.aio_sigevent = sigevent
        self.aio_reqprio = reqprio
        self.aio_lio_opcode = lio_opcode
        self._request: Request | None = None
        self._error = 0  # EINPROGRESS while there is a request
        self._result: int | None = None  # None before the first one

    def error(self) -> int:
        """`aio_error` of it."""
        return status(self)

    def result(self) -> int:
        """How many bytes were transferred; may be asked again and again, while `aio_return` may
        not. Raises OSError: that of the transfer, EINPROGRESS before it is finished."""
        if self._request is None and not self._error and self._result is not None:
            return self._result
        return outcome(self)

    def cancel(self) -> int:
        """`aio_cancel` of it alone; also when the descriptor has been closed meanwhile."""
        request = self._request
        return AIO_ALLDONE if request is None else requests.cancel(request)

    @property
    def data(self) -> memoryview:
        """What was read: the start of `buf`, as long as `result()` says, which may raise. Of
        several buffers the first."""
        count = self.result()
        buffer = self.buf[0] if isinstance(self.buf, list | tuple) else self.buf
        return memoryview(buffer).cast("B")[:count]

    def _is_busy(self) -> bool:
        """In the lock of `requests` (R283)."""
        request = self._request
        return (request is not None and request in requests.outstanding) or (
            self in requests.unreaped
        )

    def __repr__(self) -> str:
        if self._request is not None:
            state = "in progress"
        elif self._error:
            state = errno.errorcode.get(self._error, str(self._error))
        else:
            state = "not used yet" if self._result is None else f"{self._result} bytes"
        return f"<AioControlBlock of {self.aio_fildes!r}: {state}>"


def status(block: AioControlBlock) -> int:
    """0, EINPROGRESS, or the errno of its request (R300)."""
    request = block._request
    if request is not None and request.home is not None:
        request.home.reap_io()
    return block._error


def outcome(block: AioControlBlock) -> int:
    """The result of a block. Raises OSError what came of it instead."""
    request = block._request
    if request is not None and request.home is not None:
        request.home.reap_io()
    error, result = block._error, block._result
    if error:
        raise OSError(error, os.strerror(error))
    if result is None:
        raise OSError(errno.EINVAL, "the control block has not been used yet")
    return result
