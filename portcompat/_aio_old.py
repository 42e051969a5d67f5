"""The older calls of Solaris: aioread, aiowrite, aiowait and aiocancel(3AIO)."""

import errno
import os
import signal
from collections import deque
from typing import Any, Final, SupportsFloat, SupportsIndex

from portcompat._aio_blocks import AioControlBlock
from portcompat._aio_checks import as_offset, as_open
from portcompat._aio_constants import AIO_CANCELED, AIO_INPROGRESS
from portcompat._aio_request import Request
from portcompat._aio_submission import make_request
from portcompat._checks import HasFileno, as_int, as_timeout
from portcompat._requests import requests
from portcompat._transfers import READ, WRITE
from portcompat._waits import wait

_SIGIO: Final[int] = getattr(signal, "SIGIO", 0)


class AioResult:
    """What comes of a request of the older calls: aio_result_t (R350).

    `aio_return` is AIO_INPROGRESS until it is finished, and then the number of bytes, or -1 and
    `aio_errno` says why.
    """

    __slots__ = ("__weakref__", "aio_errno", "aio_return")

    def __init__(self, aio_return: int = AIO_INPROGRESS, aio_errno: int = 0) -> None:
        self.aio_return = aio_return
        self.aio_errno = aio_errno

    def __repr__(self) -> str:
        return f"AioResult(aio_return={self.aio_return}, aio_errno={self.aio_errno})"


class OldCalls:
    """The requests of `aioread` and `aiowrite`: those outstanding, and those for `aiowait`."""

    __slots__ = ("finished", "running", "waiting")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """In a fork child: none is left."""
        self.running: dict[AioResult, Request] = {}
        self.finished: deque[AioResult] = deque()
        self.waiting: list[None] = []  # one for each thread in aiowait


class ResultNotice:
    """By an AioResult (R350), to aiowait (R351), or else by SIGIO if there is a handler (R353)."""

    __slots__ = ("_block", "_old", "_result")

    def __init__(self, block: AioControlBlock, result: AioResult, old: OldCalls) -> None:
        self._block = block
        self._result: AioResult | None = result
        self._old = old

    def tell(self) -> None:
        result = self._result
        if result is None:
            return
        old = self._old
        error = self._block._error
        result.aio_errno = error
        result.aio_return = self._block._result or 0
        if error == errno.ECANCELED:  # R352
            self._result = None
        else:
            append = old.finished.append
            # A store and, at once, the call: it is told once.
            self._result = None
            append(result)
            if not old.waiting and _SIGIO and callable(signal.getsignal(_SIGIO)):
                os.kill(os.getpid(), _SIGIO)
        old.running.pop(result, None)


_old: Final = OldCalls()


def aioread(
    fildes: int | HasFileno,
    buf: Any,
    offset: SupportsIndex,
    whence: SupportsIndex,
    result: AioResult,
) -> None:
    """Begin to read into `buf`, `offset` bytes from where `whence` says (aioread(3AIO), R349).

    Raises OSError EINVAL for a `whence` other than os.SEEK_SET, SEEK_CUR and SEEK_END, and when
    `result` is in use; EBADF when the descriptor is not open for that.
    """
    _submit(READ, fildes, buf, offset, whence, result)


def aiowrite(
    fildes: int | HasFileno,
    buf: Any,
    offset: SupportsIndex,
    whence: SupportsIndex,
    result: AioResult,
) -> None:
    """Begin to write `buf` (aiowrite(3AIO), R349). Raises as `aioread` does."""
    _submit(WRITE, fildes, buf, offset, whence, result)


def aiowait(timeout: SupportsFloat | SupportsIndex | None = None) -> AioResult | None:
    """Wait for the next request of `aioread` and `aiowrite` to finish (aiowait(3AIO), R351).

    None when `timeout` seconds are over. Raises OSError EINVAL when none is outstanding, and for a
    timeout that is negative or NaN.
    """
    seconds = None if timeout is None else as_timeout(timeout)
    _old.waiting.append(None)
    try:
        wait(lambda: bool(_old.finished) or not _old.running, (), seconds)
    finally:
        _old.waiting.pop()
    try:
        return _old.finished.popleft()
    except IndexError:
        if _old.running:
            return None
        raise OSError(errno.EINVAL, "no request of aioread or aiowrite is outstanding") from None


def aiocancel(result: AioResult) -> None:
    """Cancel a request of `aioread` or `aiowrite` (aiocancel(3AIO), R352): its result is -1 and
    ECANCELED then, and `aiowait` does not return it.

    Raises OSError EACCES when it cannot be cancelled, or is none while others are outstanding;
    EINVAL when none is.
    """
    if not isinstance(result, AioResult):
        raise TypeError(f"result must be an AioResult, not {type(result).__name__}")
    request = _old.running.get(result)
    if request is None and not _old.running:
        raise OSError(errno.EINVAL, "no request of aioread or aiowrite is outstanding")
    if request is None or requests.cancel(request) != AIO_CANCELED:
        raise OSError(errno.EACCES, "the request is finished, or cannot be cancelled")


def _submit(
    op: int,
    fildes: int | HasFileno,
    buf: Any,
    offset: SupportsIndex,
    whence: SupportsIndex,
    result: AioResult,
) -> None:
    if not isinstance(result, AioResult):
        raise TypeError(f"result must be an AioResult, not {type(result).__name__}")
    fd = as_open(fildes)
    place = as_offset(offset)
    start = as_int(whence, "whence")
    if start == os.SEEK_CUR:
        place += os.lseek(fd, 0, os.SEEK_CUR)
    elif start == os.SEEK_END:
        place += os.fstat(fd).st_size
    elif start != os.SEEK_SET:
        raise OSError(errno.EINVAL, f"whence {start} must be os.SEEK_SET, SEEK_CUR or SEEK_END")
    block = AioControlBlock(fd, buf, place)
    notice = ResultNotice(block, result, _old)
    request = make_request(block, op, notice, None, False)
    if _old.running.setdefault(result, request) is not request:
        raise OSError(errno.EINVAL, "the result is in use by another request")
    try:
        requests.submit(request)
    except BaseException:
        if not request.start:
            _old.running.pop(result, None)
        raise


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_old.forget)
