"""Asynchronous I/O: aio_read(3C) to lio_listio(3C), aioread(3AIO), and requests as objects.

A request whose completion is an event of a port is made by `Port.aio`, or by the calls by their C
names with SIGEV_PORT in the control block.

What C returns as -1 raises OSError with the errno. Errno values are the host's own.
"""

import builtins
import errno
import os
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final, SupportsFloat, SupportsIndex

from portcompat._aio_blocks import AioControlBlock, outcome, status
from portcompat._aio_checks import as_fd, as_open
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
from portcompat._aio_old import AioResult, aiocancel, aioread, aiowait, aiowrite
from portcompat._aio_request import Group, Request
from portcompat._aio_submission import notice_of, prepare
from portcompat._checks import HasFileno, as_int, as_size, as_timeout
from portcompat._constants import SIGEV_NONE, SIGEV_PORT, SIGEV_SIGNAL, SIGEV_THREAD
from portcompat._events import PortTimeout
from portcompat._notices import PortNotice
from portcompat._port_aio import PortAio
from portcompat._requests import requests
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
list_ = builtins.list  # where an argument of C is called list

_O_SYNC: Final[int] = getattr(os, "O_SYNC", 0x10)
_O_DSYNC: Final[int] = getattr(os, "O_DSYNC", 0x40)


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
    return status(_require_block(aiocb))


def aio_return(aiocb: AioControlBlock) -> int:
    """The result, once (aio_return(3C), R301-R307): how many bytes were transferred.

    Raises OSError: that of the request; EINPROGRESS before it is finished; EINVAL when it has been
    returned, and when there was none.
    """
    _require_block(aiocb)
    if aiocb._request is not None:
        status(aiocb)
    with requests.lock:
        try:
            return outcome(aiocb)
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
    fd = as_open(fildes)
    if aiocb is None:
        return requests.cancel_all(fd)
    _require_block(aiocb)
    request = aiocb._request
    if (as_fd(aiocb.aio_fildes) if request is None else request.fd) != fd:
        raise OSError(errno.EINVAL, f"the control block is not one of descriptor {fd}")
    return aiocb.cancel()


def aio_close(fildes: int | HasFileno) -> None:
    """Cancel all requests on a descriptor and close it, as close(2) does on illumos (R316).

    What closes a descriptor otherwise cannot be noticed: then its requests go on, or fail, or, if
    the number is used again before they began, concern another file. Raises OSError EBADF.
    """
    fd = as_open(fildes)
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
    blocks = [block for block in _as_blocks(list) if block.aio_lio_opcode != LIO_NOP]
    waits = as_int(mode, "mode")
    if waits not in (LIO_WAIT, LIO_NOWAIT):
        raise OSError(errno.EINVAL, f"mode {waits} must be LIO_WAIT or LIO_NOWAIT")
    notice, _ = notice_of(sigevent, sigevent, AIOLIO)
    group = Group(None if waits == LIO_WAIT else notice)
    with requests.lock:
        if any(block._is_busy() for block in blocks):
            raise OSError(errno.EBUSY, "a control block is in use by another request")
    members: list_[Request] = []
    failed = False
    for block in blocks:
        try:
            members.append(prepare(block))
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
    request = prepare(block, op, data_only)
    requests.submit(request)


def _homes(blocks: Iterable[AioControlBlock]) -> list[Backend | None]:
    active = [block._request for block in blocks]
    return [request.home for request in active if request is not None]


def _as_blocks(list: Sequence[AioControlBlock | None]) -> list_[AioControlBlock]:
    if not isinstance(list, Sequence):
        raise TypeError(f"list must be a sequence of control blocks, not {type(list).__name__}")
    if not 0 < len(list) <= AIO_LISTIO_MAX:
        raise OSError(errno.EINVAL, f"the list must have 1 to {AIO_LISTIO_MAX} control blocks")
    return [_require_block(block) for block in list if block is not None]
