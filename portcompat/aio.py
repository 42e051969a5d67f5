"""Asynchronous I/O: aio_read(3C) to lio_listio(3C), aioread(3AIO), and requests as objects.

A request whose completion is an event of a port is made by `Port.aio`, or by the calls by their C
names with SIGEV_PORT in the control block.

What C returns as -1 raises OSError with the errno. Errno values are the host's own.
"""

from collections.abc import Sequence
from typing import Any, SupportsFloat, SupportsIndex

from portcompat._aio_constants import (
    AIO_ALLDONE,
    AIO_CANCELED,
    AIO_INPROGRESS,
    AIO_LISTIO_MAX,
    AIO_NOTCANCELED,
    AIOAREAD,
    AIOAWRITE,
    AIOFSYNC,
    AIOLIO,
    LIO_NOP,
    LIO_NOWAIT,
    LIO_READ,
    LIO_WAIT,
    LIO_WRITE,
)
from portcompat._checks import HasFileno
from portcompat._constants import SIGEV_NONE, SIGEV_PORT, SIGEV_SIGNAL, SIGEV_THREAD
from portcompat.timers import SigEvent

__all__ = [
    "AIOAREAD",
    "AIOAWRITE",
    "AIOFSYNC",
    "AIOLIO",
    "AIO_ALLDONE",
    "AIO_CANCELED",
    "AIO_INPROGRESS",
    "AIO_LISTIO_MAX",
    "AIO_NOTCANCELED",
    "LIO_NOP",
    "LIO_NOWAIT",
    "LIO_READ",
    "LIO_WAIT",
    "LIO_WRITE",
    "SIGEV_NONE",
    "SIGEV_PORT",
    "SIGEV_SIGNAL",
    "SIGEV_THREAD",
    "AioControlBlock",
    "AioResult",
    "PortAio",
    "SigEvent",
    "aio_cancel",
    "aio_close",
    "aio_error",
    "aio_fsync",
    "aio_read",
    "aio_return",
    "aio_suspend",
    "aio_waitn",
    "aio_write",
    "aiocancel",
    "aioread",
    "aiowait",
    "aiowrite",
    "lio_listio",
]

Seconds = SupportsFloat | SupportsIndex
Buffers = Any
"""A bytes-like object, or a list or tuple of them."""


class AioControlBlock:
    """A request: what is asked, and once it is finished what came of it (struct aiocb).

    `aio_fildes` is a descriptor or has a fileno(). `buf` is what is written, or where what is read
    goes: a bytes-like object, a list of them for one transfer (readv, writev), or a number of
    bytes, for which a bytearray is made. The caller's memory is used as it is: it cannot be
    resized while the request is in flight, and is not to be changed. `offset` is where in the file;
    what cannot seek ignores it (R290). `sigevent`: how the completion is told; None is SIGEV_NONE.

    A block may be used again when its request is finished (R283, R305).
    """

    __slots__ = (
        "__weakref__",
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
        raise NotImplementedError

    def error(self) -> int:
        """`aio_error` of it."""
        raise NotImplementedError

    def result(self) -> int:
        """How many bytes were transferred; may be asked again and again, which `aio_return` may
        not. Raises OSError: that of the transfer, EINPROGRESS before it is finished."""
        raise NotImplementedError

    def cancel(self) -> int:
        """`aio_cancel` of it alone."""
        raise NotImplementedError

    @property
    def data(self) -> memoryview:
        """What was read: the start of `buf`, as long as `result()`, which may raise."""
        raise NotImplementedError


class PortAio:
    """`Port.aio`: requests whose completions are events of the port (R293).

    The event has PORT_SOURCE_AIO, the control block as its object, AIOAREAD, AIOAWRITE or AIOFSYNC
    as its events, and `user`. There is one for each request, also when it failed or was cancelled
    (R295). It waits for a slot if the port has none (R081).

    All raise OSError EBADF when the port or the descriptor is not open, or not for that direction.
    """

    def read(
        self,
        fd: int | HasFileno,
        buf: Buffers | SupportsIndex,
        offset: SupportsIndex = 0,
        user: Any = None,
    ) -> AioControlBlock:
        """Read at `offset`, as many bytes as `buf` says or holds."""
        raise NotImplementedError

    def write(
        self,
        fd: int | HasFileno,
        data: Buffers,
        offset: SupportsIndex = 0,
        user: Any = None,
    ) -> AioControlBlock:
        """Write `data` at `offset`, or at the end of a file that is open with O_APPEND (R290)."""
        raise NotImplementedError

    def readv(
        self,
        fd: int | HasFileno,
        buffers: Sequence[Any],
        offset: SupportsIndex = 0,
        user: Any = None,
    ) -> AioControlBlock:
        """`read` into several buffers, one after the other, in one transfer."""
        raise NotImplementedError

    def writev(
        self,
        fd: int | HasFileno,
        buffers: Sequence[Any],
        offset: SupportsIndex = 0,
        user: Any = None,
    ) -> AioControlBlock:
        """`write` of several buffers, one after the other, in one transfer."""
        raise NotImplementedError

    def fsync(
        self, fd: int | HasFileno, *, data_only: bool = False, user: Any = None
    ) -> AioControlBlock:
        """fsync(2), or with `data_only` fdatasync(2), after all requests made before (R318)."""
        raise NotImplementedError


def aio_read(aiocb: AioControlBlock | None) -> None:
    """Read (aio_read(3C), R282-R292). Raises OSError EINVAL, EBUSY, EBADF, EAGAIN."""
    raise NotImplementedError


def aio_write(aiocb: AioControlBlock | None) -> None:
    """Write (aio_write(3C), R282-R292). Raises as `aio_read`."""
    raise NotImplementedError


def aio_fsync(op: SupportsIndex, aiocb: AioControlBlock | None) -> None:
    """fsync(2) with op O_SYNC, fdatasync(2) with O_DSYNC, when every request that was made before
    has finished (aio_fsync(3C), R317-R320). Does nothing for None."""
    raise NotImplementedError


def aio_error(aiocb: AioControlBlock) -> int:
    """0, EINPROGRESS, or the errno of the request (aio_error(3C), R300)."""
    raise NotImplementedError


def aio_return(aiocb: AioControlBlock) -> int:
    """The result, once (aio_return(3C), R301-R307)."""
    raise NotImplementedError


def aio_cancel(fildes: int | HasFileno, aiocb: AioControlBlock | None = None) -> int:
    """Cancel one request, or all on a descriptor (aio_cancel(3C), R308-R315): AIO_CANCELED,
    AIO_ALLDONE or AIO_NOTCANCELED. Raises OSError EBADF, EINVAL."""
    raise NotImplementedError


def aio_close(fildes: int | HasFileno) -> None:
    """Cancel all requests on a descriptor and close it, as close(2) does on illumos (R316)."""
    raise NotImplementedError


def aio_suspend(list: Sequence[AioControlBlock | None], timeout: Seconds | None = None) -> None:
    """Wait until one of the requests is finished (aio_suspend(3C), R332-R336)."""
    raise NotImplementedError


def aio_waitn(
    nent: SupportsIndex, nwait: SupportsIndex = 1, timeout: Seconds | None = None
) -> list[AioControlBlock]:
    """Wait for `nwait` finished requests of SIGEV_NONE and take up to `nent` (aio_waitn(3C),
    R337-R343)."""
    raise NotImplementedError


def lio_listio(
    mode: SupportsIndex, list: Sequence[AioControlBlock | None], sigevent: SigEvent | None = None
) -> None:
    """Make many requests at once (lio_listio(3C), R321-R331)."""
    raise NotImplementedError


class AioResult:
    """aio_result_t, of the older calls (R350)."""

    __slots__ = ("__weakref__", "aio_errno", "aio_return")

    def __init__(self, aio_return: int = AIO_INPROGRESS, aio_errno: int = 0) -> None:
        self.aio_return = aio_return
        self.aio_errno = aio_errno


def aioread(
    fildes: int | HasFileno,
    buf: Any,
    offset: SupportsIndex,
    whence: SupportsIndex,
    result: AioResult,
) -> None:
    """Read (aioread(3AIO), R349, R350)."""
    raise NotImplementedError


def aiowrite(
    fildes: int | HasFileno,
    buf: Any,
    offset: SupportsIndex,
    whence: SupportsIndex,
    result: AioResult,
) -> None:
    """Write (aiowrite(3AIO), R349, R350)."""
    raise NotImplementedError


def aiowait(timeout: Seconds | None = None) -> AioResult | None:
    """The next of `aioread` and `aiowrite` to finish (aiowait(3AIO), R351)."""
    raise NotImplementedError


def aiocancel(result: AioResult) -> None:
    """Cancel a request of `aioread` or `aiowrite` (aiocancel(3AIO), R352)."""
    raise NotImplementedError
