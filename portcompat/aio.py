"""Asynchronous I/O: aio_read(3C) to lio_listio(3C), aioread(3AIO), and requests as objects.

A request whose completion is an event of a port is made by `Port.aio`, or by the calls by their C
names with SIGEV_PORT in the control block.

What C returns as -1 raises OSError with the errno. Errno values are the host's own.
"""

import atexit
import builtins
import errno
import os
import signal
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from operator import index
from typing import Any, Final, SupportsFloat, SupportsIndex

from portcompat import _functions, _transfers
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
from portcompat._checks import INT_MAX, HasFileno, as_descriptor, as_int, as_size, as_timeout
from portcompat._constants import (
    PORT_SOURCE_AIO,
    SIGEV_NONE,
    SIGEV_PORT,
    SIGEV_SIGNAL,
    SIGEV_THREAD,
)
from portcompat._events import PortEvent, PortTimeout
from portcompat._notices import CallNotice, Notice, OldCalls, PortNotice, ResultNotice, SignalNotice
from portcompat._port import Port
from portcompat._registry import kaio_environment
from portcompat._requests import Group, Request, requests
from portcompat._transfers import READ, SYNC, WRITE
from portcompat._waits import attend, wait
from portcompat.abc import Backend
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
list_ = builtins.list  # where an argument of C is called list

_SOURCE: Final = PORT_SOURCE_AIO
_OPCODES: Final[dict[int, int]] = {LIO_READ: READ, LIO_WRITE: WRITE}
_OFFSETS: Final = -(2**63), 2**63 - 1
_O_SYNC: Final[int] = getattr(os, "O_SYNC", 0x10)
_O_DSYNC: Final[int] = getattr(os, "O_DSYNC", 0x40)

_new: Final = tuple.__new__  # a third of the time of PortEvent(...), which is a Python function
_new_block: Final = object.__new__
_preadv: Final[Any] = getattr(os, "preadv", None)
_NOWAIT: Final[int] = getattr(os, "RWF_NOWAIT", 0)


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
        self.buf: Buffers = bytearray(_as_length(buf)) if hasattr(buf, "__index__") else buf
        self.aio_offset = offset
        self.aio_sigevent = sigevent
        self.aio_reqprio = reqprio
        self.aio_lio_opcode = lio_opcode
        self._request: Request | None = None
        self._error = 0  # EINPROGRESS while there is a request
        self._result: int | None = None  # None before the first one

    def error(self) -> int:
        """`aio_error` of it."""
        return aio_error(self)

    def result(self) -> int:
        """How many bytes were transferred; may be asked again and again, while `aio_return` may
        not. Raises OSError: that of the transfer, EINPROGRESS before it is finished."""
        if self._request is None and not self._error and self._result is not None:
            return self._result
        return _outcome(self)

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
            outcome = "in progress"
        elif self._error:
            outcome = errno.errorcode.get(self._error, str(self._error))
        else:
            outcome = "not used yet" if self._result is None else f"{self._result} bytes"
        return f"<AioControlBlock of {self.aio_fildes!r}: {outcome}>"


class PortAio:
    """`Port.aio`: requests whose completions are events of the port (R293).

    The event has PORT_SOURCE_AIO, the control block as its object, AIOAREAD, AIOAWRITE or AIOFSYNC
    as its events, and `user`. There is one for each request, also when it failed or was cancelled
    (R295). It waits for a slot if the port has none (R081).

    All raise OSError EBADF when the port or the descriptor is not open, or not for that direction.
    """

    __slots__ = ("_backend", "_reads_cache", "_tell")

    def __init__(self, port: Port) -> None:
        # Not the port itself, which refers to this and is to be collected when nobody else does.
        self._backend = port._backend
        self._tell = port._backend.tell
        self._reads_cache = port._reads_cache and _transfers.has_nowait

    def read(
        self,
        fd: int | HasFileno,
        buf: Buffers | SupportsIndex,
        offset: SupportsIndex = 0,
        user: Any = None,
    ) -> AioControlBlock:
        """Read at `offset`, as many bytes as `buf` says or holds."""
        # The usual case without a call that can be spared: so many bytes, and they are cached.
        if (
            self._reads_cache
            and type(buf) is int
            and type(fd) is int
            and type(offset) is int
            and buf > 0 <= offset
        ):
            buffer = bytearray(buf)
            try:
                count = _preadv(fd, (buffer,), offset, _NOWAIT)
            except (OSError, OverflowError, TypeError):
                count = 0
            if count == buf and not self._backend.closed:
                block = _new_block(AioControlBlock)
                block.aio_fildes = fd
                block.buf = buffer
                block.aio_offset = offset
                block.aio_sigevent = None
                block.aio_reqprio = 0
                block.aio_lio_opcode = LIO_READ
                block._request = None
                block._error = 0
                block._result = count
                self._tell(_new(PortEvent, (_SOURCE, block, READ, user)))
                return block
        block = AioControlBlock(fd, buf, offset)
        return self._submit(block, READ, user)

    def write(
        self,
        fd: int | HasFileno,
        data: Buffers,
        offset: SupportsIndex = 0,
        user: Any = None,
    ) -> AioControlBlock:
        """Write `data` at `offset`, or at the end of a file that is open with O_APPEND (R290)."""
        if hasattr(data, "__index__"):
            raise TypeError(f"data must be bytes-like, not {type(data).__name__}")
        return self._submit(AioControlBlock(fd, data, offset), WRITE, user)

    def readv(
        self,
        fd: int | HasFileno,
        buffers: Sequence[Any],
        offset: SupportsIndex = 0,
        user: Any = None,
    ) -> AioControlBlock:
        """`read` into several buffers, one after the other, in one transfer."""
        return self._submit(AioControlBlock(fd, _as_list(buffers), offset), READ, user)

    def writev(
        self,
        fd: int | HasFileno,
        buffers: Sequence[Any],
        offset: SupportsIndex = 0,
        user: Any = None,
    ) -> AioControlBlock:
        """`write` of several buffers, one after the other, in one transfer."""
        return self._submit(AioControlBlock(fd, _as_list(buffers), offset), WRITE, user)

    def fsync(
        self, fd: int | HasFileno, *, data_only: bool = False, user: Any = None
    ) -> AioControlBlock:
        """fsync(2), or with `data_only` fdatasync(2), after all requests made before (R318)."""
        return self._submit(AioControlBlock(fd, b"", int(data_only)), SYNC, user)

    def _submit(self, block: AioControlBlock, op: int, user: object) -> AioControlBlock:
        self._backend.require_open()
        event = _new(PortEvent, (_SOURCE, block, op, user))
        notice = PortNotice(self._backend, event)
        _begin(block, op, notice, self._backend, self._reads_cache)
        return block


def aio_read(aiocb: AioControlBlock | None) -> None:
    """Begin to read into `aiocb.buf` (aio_read(3C), R282-R292).

    Raises OSError EINVAL for None and for an `aio_reqprio` that is not 0, EBUSY when the block is
    in use (R283), EBADF when the descriptor is not open for that; and what is wrong with the port
    of SIGEV_PORT, EBADF or EBADFD.
    """
    _submit(_check(aiocb), READ)


def aio_write(aiocb: AioControlBlock | None) -> None:
    """Begin to write `aiocb.buf` (aio_write(3C), R282-R292). Raises as `aio_read` does."""
    _submit(_check(aiocb), WRITE)


def aio_fsync(op: SupportsIndex, aiocb: AioControlBlock | None) -> None:
    """fsync(2) with `op` os.O_SYNC, fdatasync(2) with os.O_DSYNC, when every request that was made
    before has finished, on every descriptor (aio_fsync(3C), R317-R320).

    Does nothing for None. Raises OSError EINVAL for another `op`, EBUSY, EBADF.
    """
    if aiocb is None:
        return
    _require_block(aiocb)
    asked = as_int(op, "op")
    if asked not in (_O_SYNC, _O_DSYNC):
        raise OSError(errno.EINVAL, f"op {asked:#x} must be os.O_SYNC or os.O_DSYNC")
    _submit(aiocb, SYNC, data_only=asked == _O_DSYNC)
    aiocb.aio_offset = asked  # R319
    aiocb.aio_lio_opcode = SYNC


def aio_error(aiocb: AioControlBlock) -> int:
    """0, EINPROGRESS, or the errno of the request (aio_error(3C), R300)."""
    _require_block(aiocb)
    request = aiocb._request
    if request is not None and request.home is not None:
        request.home.reap_io()
    return aiocb._error


def aio_return(aiocb: AioControlBlock) -> int:
    """The result, once (aio_return(3C), R301-R307): how many bytes were transferred.

    Raises OSError: that of the request; EINPROGRESS before it is finished; EINVAL when it has been
    returned, and when there was none.
    """
    _require_block(aiocb)
    if aiocb._request is not None:
        aio_error(aiocb)
    with requests.lock:
        try:
            return _outcome(aiocb)
        finally:
            if aiocb._error != errno.EINPROGRESS:
                aiocb._error, aiocb._result = errno.EINVAL, -1
                requests.unreaped.pop(aiocb, None)


def aio_cancel(fildes: int | HasFileno, aiocb: AioControlBlock | None = None) -> int:
    """Cancel one request, or all on a descriptor (aio_cancel(3C), R308-R315).

    Returns AIO_CANCELED; AIO_ALLDONE when there was none that was not finished; AIO_NOTCANCELED for
    the transfer of a disk that has begun, and when some of several were cancelled. What is
    cancelled has the status ECANCELED by then, and its event still comes (R311). Raises OSError
    EBADF when the descriptor is not open, EINVAL when it is not that of `aiocb`.
    """
    fd = _as_open(fildes)
    if aiocb is None:
        return requests.cancel_all(fd)
    _require_block(aiocb)
    request = aiocb._request
    if (_as_fd(aiocb.aio_fildes) if request is None else request.fd) != fd:
        raise OSError(errno.EINVAL, f"the control block is not one of descriptor {fd}")
    return aiocb.cancel()


def aio_close(fildes: int | HasFileno) -> None:
    """Cancel all requests on a descriptor and close it, as close(2) does on illumos (R316).

    What closes a descriptor otherwise cannot be noticed: then its requests go on, or fail, or, if
    the number is used again before they began, concern another file. Raises OSError EBADF.
    """
    fd = _as_open(fildes)
    requests.cancel_all(fd)
    if isinstance(fildes, int):
        os.close(fd)
    else:
        close: Any = getattr(fildes, "close", None)
        close() if close is not None else os.close(fd)


def aio_suspend(list: Sequence[AioControlBlock | None], timeout: Seconds | None = None) -> None:
    """Wait until one of the requests is finished (aio_suspend(3C), R332-R336).

    Those that were cancelled do not count, and None is skipped. Raises OSError EINVAL for an empty
    list, a longer one than AIO_LISTIO_MAX, and a timeout that is negative or NaN; EAGAIN
    (BlockingIOError) when `timeout` seconds are over, and when nothing is left to wait for.
    """
    blocks = _as_blocks(list)
    seconds = None if timeout is None else as_timeout(timeout)

    def is_done(block: AioControlBlock) -> bool:
        return block._error not in (errno.EINPROGRESS, errno.ECANCELED)

    def is_over() -> bool:
        # No generator: a handler that raises when one is closed goes unheard.
        return any(map(is_done, blocks)) or not any([b._request is not None for b in blocks])  # noqa: C419

    wait(is_over, _homes(blocks), seconds)
    if not any(map(is_done, blocks)):
        raise OSError(errno.EAGAIN, "none of the requests has finished")


def aio_waitn(
    nent: SupportsIndex, nwait: SupportsIndex = 1, timeout: Seconds | None = None
) -> list[AioControlBlock]:
    """Wait for `nwait` finished requests of SIGEV_NONE and take up to `nent` (aio_waitn(3C),
    R337-R343); their results are still to be asked for.

    The first to finish comes first. When `timeout` seconds are over, or fewer than `nwait` are
    outstanding, it returns what there is. Raises PortTimeout (errno ETIME) when that is nothing,
    unless `timeout` is 0; OSError EAGAIN when nothing is outstanding; EINVAL for numbers that are
    less than 1, for `nwait` > `nent`, and for a timeout that is negative or NaN.
    """
    limit, want = as_size(nent, "nent"), as_size(nwait, "nwait")
    if not 0 < want <= limit:
        raise OSError(errno.EINVAL, f"nwait ({want}) must be 1 to nent ({limit})")
    seconds = None if timeout is None else as_timeout(timeout)
    turn, me = requests.waitn_turn, object()
    taken: list[AioControlBlock] = []

    def is_over() -> bool:
        return len(requests.unreaped) >= want or not any(
            [request.notice is None for request in [*requests.outstanding]]  # noqa: C419
        )

    try:
        try:
            if turn.setdefault(None, me) is not me:  # R342
                if seconds == 0:
                    return []
                wait(lambda: turn.setdefault(None, me) is me, (), None)
            if is_over() and not requests.unreaped:
                raise OSError(errno.EAGAIN, "no request of SIGEV_NONE is outstanding")
            over = wait(is_over, (), seconds)
            taken += islice([*requests.unreaped], limit)
            for block in taken:
                requests.unreaped.pop(block, None)
        finally:
            # Without a call, so no signal handler comes in between.
            if None in turn and turn[None] is me:
                del turn[None]
            requests.wake()
    except BaseException:
        for block in taken:
            requests.unreaped.setdefault(block)
        raise
    if not taken and not over and seconds:
        raise PortTimeout("no request has finished within the timeout")
    return taken


def lio_listio(
    mode: SupportsIndex, list: Sequence[AioControlBlock | None], sigevent: SigEvent | None = None
) -> None:
    """Make many requests at once: those whose `aio_lio_opcode` is LIO_READ or LIO_WRITE
    (lio_listio(3C), R321-R331).

    None and LIO_NOP are skipped. With LIO_WAIT it returns when all are finished; with LIO_NOWAIT at
    once, and `sigevent` tells when all are: with SIGEV_PORT an event of AIOLIO whose object is
    `sigevent` itself. Raises OSError EINVAL for an empty list, one longer than AIO_LISTIO_MAX, and
    another `mode`; EBUSY when a block is in use: then nothing is begun. EIO when one failed that
    was waited for, or none could be begun, or one has an `aio_reqprio`: the blocks say which.
    """
    if not 0 < len(list) <= AIO_LISTIO_MAX:
        raise OSError(errno.EINVAL, f"the list must have 1 to {AIO_LISTIO_MAX} control blocks")
    waits = as_int(mode, "mode")
    if waits not in (LIO_WAIT, LIO_NOWAIT):
        raise OSError(errno.EINVAL, f"mode {waits} must be LIO_WAIT or LIO_NOWAIT")
    blocks = [block for block in _as_blocks(list) if block.aio_lio_opcode != LIO_NOP]
    notice = _list_notice(sigevent)
    group = Group(None if waits == LIO_WAIT else notice)
    with requests.lock:
        if any(block._is_busy() for block in blocks):
            raise OSError(errno.EBUSY, "a control block is in use by another request")
    members: list_[Request] = []
    failed = False
    for block in blocks:
        try:
            members.append(_prepare(block))
        except OSError as error:
            block._error, block._result = error.errno or errno.EIO, -1
            failed = True
    begun = requests.submit_all(members, group)
    if waits == LIO_WAIT:
        wait(lambda: group.left <= {group}, [member.home for member in members], None)
        failed = failed or group.failed or begun < len(members)
    else:
        failed = failed or (begun == 0 and bool(members))
        if begun:
            group.left.discard(group)
            requests.tell(group)
            # What the kernel does for other ports than the one that is told of the list is not
            # known to be finished before somebody looks there; perhaps nobody does.
            told = notice.backend if isinstance(notice, PortNotice) else None
            homes = {member.home for member in members} - {told}
            others = [home for home in homes if home is not None]
            if notice is not None and others and group.left:
                requests.workers.put(partial(attend, lambda: not group.left, others), True)
    if failed:
        raise OSError(errno.EIO, "not all requests of the list succeeded: see aio_error of each")


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
    _submit_old(READ, fildes, buf, offset, whence, result)


def aiowrite(
    fildes: int | HasFileno,
    buf: Any,
    offset: SupportsIndex,
    whence: SupportsIndex,
    result: AioResult,
) -> None:
    """Begin to write `buf` (aiowrite(3AIO), R349). Raises as `aioread` does."""
    _submit_old(WRITE, fildes, buf, offset, whence, result)


def aiowait(timeout: Seconds | None = None) -> AioResult | None:
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


_old: Final = OldCalls()


# Checking and beginning


def _check(block: AioControlBlock | None) -> AioControlBlock:
    if block is None:
        raise OSError(errno.EINVAL, "there must be a control block")
    return _require_block(block)


def _require_block(block: object) -> AioControlBlock:
    if not isinstance(block, AioControlBlock):
        raise TypeError(f"aiocb must be an AioControlBlock, not {type(block).__name__}")
    return block


def _submit(block: AioControlBlock, op: int, data_only: bool = False) -> None:
    """What the C names do."""
    request = _prepare(block, op, data_only)
    requests.submit(request)


def _prepare(block: AioControlBlock, op: int | None = None, data_only: bool = False) -> Request:
    """The request of a block; `op` None is what its `aio_lio_opcode` says."""
    if as_int(block.aio_reqprio, "aio_reqprio"):
        raise OSError(errno.EINVAL, "aio_reqprio must be 0: there are no priorities here")
    if op is None:
        op = _OPCODES.get(as_int(block.aio_lio_opcode, "aio_lio_opcode"))
        if op is None:
            raise OSError(errno.EINVAL, "aio_lio_opcode must be LIO_READ, LIO_WRITE or LIO_NOP")
    notice, port = _notice(block.aio_sigevent, block, op)
    request = _make(block, op, notice, None if port is None else port._backend, data_only)
    request.reads_cache = (
        kaio_environment() is None if port is None else port._reads_cache
    ) and op == READ
    if op != SYNC:
        block.aio_lio_opcode = LIO_READ if op == READ else LIO_WRITE  # R282
    return request


def _begin(
    block: AioControlBlock, op: int, notice: Notice | None, home: Backend | None, reads_cache: bool
) -> None:
    request = _make(block, op, notice, home, bool(block.aio_offset) if op == SYNC else False)
    request.reads_cache = reads_cache and op == READ
    requests.submit(request)


def _make(
    block: AioControlBlock, op: int, notice: Notice | None, home: Backend | None, data_only: bool
) -> Request:
    try:
        fd = _as_fd(block.aio_fildes)
    except OSError as error:
        block._error, block._result = error.errno or errno.EBADF, -1  # R285
        raise
    if op == SYNC:
        return Request(block, op, fd, [], int(data_only), notice, home)
    buffers = _as_buffers(block.buf, op == READ)
    return Request(block, op, fd, buffers, _as_offset(block.aio_offset), notice, home)


def _notice(sigevent: SigEvent | None, block: object, op: int) -> tuple[Notice | None, Port | None]:
    """How to tell of `block`, and the port that is told if one is."""
    if sigevent is None:
        return None, None
    if not isinstance(sigevent, SigEvent):
        raise TypeError(f"sigevent must be a SigEvent or None, not {type(sigevent).__name__}")
    notify = as_int(sigevent.notify, "notify")
    if notify == SIGEV_PORT:
        port = sigevent.port
        if not isinstance(port, Port):
            port = _functions._port(as_int(port, "port"))  # type: ignore[arg-type]
        port._backend.require_open()
        event = _new(PortEvent, (_SOURCE, block, op, sigevent.user))
        return PortNotice(port._backend, event), port
    if notify == SIGEV_SIGNAL:
        if as_int(sigevent.signo, "signo") not in signal.valid_signals():
            raise OSError(errno.EINVAL, f"there is no signal {sigevent.signo}")
        return SignalNotice(sigevent.signo), None
    if notify == SIGEV_THREAD:
        if sigevent.function is None:
            raise OSError(errno.EFAULT, "SIGEV_THREAD needs a function (R280)")
        if not callable(sigevent.function):
            raise TypeError(f"function must be callable, not {type(sigevent.function).__name__}")
        return CallNotice(requests.callers, partial(sigevent.function, sigevent.value)), None
    return None, None  # R014


def _list_notice(sigevent: SigEvent | None) -> Notice | None:
    return _notice(sigevent, sigevent, AIOLIO)[0]


def _submit_old(
    op: int,
    fildes: int | HasFileno,
    buf: Any,
    offset: SupportsIndex,
    whence: SupportsIndex,
    result: AioResult,
) -> None:
    if not isinstance(result, AioResult):
        raise TypeError(f"result must be an AioResult, not {type(result).__name__}")
    fd = _as_open(fildes)
    place = _as_offset(offset)
    start = as_int(whence, "whence")
    if start == os.SEEK_CUR:
        place += os.lseek(fd, 0, os.SEEK_CUR)
    elif start == os.SEEK_END:
        place += os.fstat(fd).st_size
    elif start != os.SEEK_SET:
        raise OSError(errno.EINVAL, f"whence {start} must be os.SEEK_SET, SEEK_CUR or SEEK_END")
    block = AioControlBlock(fd, buf, place)
    notice = ResultNotice(block, result, _old)
    request = _make(block, op, notice, None, False)
    if _old.running.setdefault(result, request) is not request:
        raise OSError(errno.EINVAL, "the result is in use by another request")
    try:
        requests.submit(request)
    except BaseException:
        if not request.start:
            _old.running.pop(result, None)
        raise


def _outcome(block: AioControlBlock) -> int:
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


def _homes(blocks: Iterable[AioControlBlock]) -> list[Backend | None]:
    active = [block._request for block in blocks]
    return [request.home for request in active if request is not None]


def _as_blocks(list: Sequence[AioControlBlock | None]) -> list_[AioControlBlock]:
    if not 0 < len(list) <= AIO_LISTIO_MAX:
        raise OSError(errno.EINVAL, f"the list must have 1 to {AIO_LISTIO_MAX} control blocks")
    return [_require_block(block) for block in list if block is not None]


def _as_fd(fildes: int | HasFileno) -> int:
    if type(fildes) is int and 0 <= fildes <= INT_MAX:
        return fildes
    try:
        return as_descriptor(fildes)
    except OSError as error:
        raise OSError(errno.EBADF, error.strerror) from None


def _as_open(fildes: int | HasFileno) -> int:
    fd = _as_fd(fildes)
    os.fstat(fd)
    return fd


def _as_length(value: SupportsIndex) -> int:
    number = index(value)
    if number < 0:
        raise ValueError(f"the number of bytes must not be negative, and is {number}")
    return number


def _as_offset(value: SupportsIndex) -> int:
    try:
        number = index(value)
    except TypeError:
        raise TypeError(f"offset must be an int, not {type(value).__name__}") from None
    if not _OFFSETS[0] <= number <= _OFFSETS[1]:
        raise ValueError(f"offset must fit 64 bits, and is {number}")
    return number


def _as_list(buffers: Sequence[Any]) -> list_[Any]:
    if isinstance(buffers, bytes | bytearray | memoryview | str):
        raise TypeError("buffers must be several: a list of bytes-like objects")
    return [*buffers]


def _as_buffers(buf: Any, writable: bool) -> list_[memoryview]:
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


def _start_in_child() -> None:
    requests.forget()
    _old.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_in_child)
atexit.register(requests.quiesce)
