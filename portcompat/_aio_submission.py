"""How a control block becomes a request, and who is told of it."""

import errno
import signal
from functools import partial
from typing import Final

from portcompat import _functions
from portcompat._aio_blocks import AioControlBlock
from portcompat._aio_checks import as_buffers, as_fd, as_offset
from portcompat._aio_constants import LIO_READ, LIO_WRITE
from portcompat._aio_request import Request
from portcompat._checks import as_int
from portcompat._constants import PORT_SOURCE_AIO, SIGEV_PORT, SIGEV_SIGNAL, SIGEV_THREAD
from portcompat._events import PortEvent
from portcompat._notices import CallNotice, Notice, PortNotice, SignalNotice
from portcompat._port import Port
from portcompat._registry import kaio_environment
from portcompat._requests import requests
from portcompat._transfers import READ, SYNC, WRITE
from portcompat.abc import Backend
from portcompat.timers import SigEvent

_OPCODES: Final[dict[int, int]] = {LIO_READ: READ, LIO_WRITE: WRITE}

_new: Final = tuple.__new__  # a third of the time of PortEvent(...), which is a Python function


def prepare(block: AioControlBlock, op: int | None = None, data_only: bool = False) -> Request:
    """The request of a block; `op` None is what its `aio_lio_opcode` says."""
    if as_int(block.aio_reqprio, "aio_reqprio"):
        raise OSError(errno.EINVAL, "aio_reqprio must be 0: there are no priorities here")
    if op is None:
        op = _OPCODES.get(as_int(block.aio_lio_opcode, "aio_lio_opcode"))
        if op is None:
            raise OSError(errno.EINVAL, "aio_lio_opcode must be LIO_READ, LIO_WRITE or LIO_NOP")
    notice, port = notice_of(block.aio_sigevent, block, op)
    request = make_request(block, op, notice, None if port is None else port._backend, data_only)
    request.reads_cache = (
        kaio_environment() is None if port is None else port._reads_cache
    ) and op == READ
    if op != SYNC:
        block.aio_lio_opcode = LIO_READ if op == READ else LIO_WRITE  # R282
    return request


def make_request(
    block: AioControlBlock, op: int, notice: Notice | None, home: Backend | None, data_only: bool
) -> Request:
    """The request of a block, whoever is told of it. OSError EBADF is the block's status too."""
    try:
        fd = as_fd(block.aio_fildes)
    except OSError as error:
        block._error, block._result = error.errno or errno.EBADF, -1  # R285
        raise
    if op == SYNC:
        return Request(block, op, fd, [], int(data_only), notice, home)
    buffers = as_buffers(block.buf, op == READ)
    return Request(block, op, fd, buffers, as_offset(block.aio_offset), notice, home)


def notice_of(
    sigevent: SigEvent | None, block: object, op: int
) -> tuple[Notice | None, Port | None]:
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
        event = _new(PortEvent, (PORT_SOURCE_AIO, block, op, sigevent.user))
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
