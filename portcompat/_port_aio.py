"""What `Port.aio` is: asynchronous I/O whose completions are events of one port."""

import os
from collections.abc import Sequence
from typing import Any, Final, SupportsIndex

from portcompat import _transfers
from portcompat._aio_blocks import AioControlBlock
from portcompat._aio_checks import Buffers, as_list
from portcompat._aio_constants import LIO_READ
from portcompat._aio_submission import make_request
from portcompat._checks import HasFileno
from portcompat._constants import PORT_SOURCE_AIO
from portcompat._events import PortEvent
from portcompat._notices import PortNotice
from portcompat._port import Port
from portcompat._requests import requests
from portcompat._transfers import READ, SYNC, WRITE

_new: Final = tuple.__new__  # a third of the time of PortEvent(...), which is a Python function
_new_block: Final = object.__new__
_preadv: Final[Any] = getattr(os, "preadv", None)
_NOWAIT: Final[int] = getattr(os, "RWF_NOWAIT", 0)


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
                self._tell(_new(PortEvent, (PORT_SOURCE_AIO, block, READ, user)))
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
        return self._submit(AioControlBlock(fd, as_list(buffers), offset), READ, user)

    def writev(
        self,
        fd: int | HasFileno,
        buffers: Sequence[Any],
        offset: SupportsIndex = 0,
        user: Any = None,
    ) -> AioControlBlock:
        """`write` of several buffers, one after the other, in one transfer."""
        return self._submit(AioControlBlock(fd, as_list(buffers), offset), WRITE, user)

    def fsync(
        self, fd: int | HasFileno, *, data_only: bool = False, user: Any = None
    ) -> AioControlBlock:
        """fsync(2), or with `data_only` fdatasync(2), after all requests made before (R318)."""
        return self._submit(AioControlBlock(fd, b"", int(data_only)), SYNC, user)

    def _submit(self, block: AioControlBlock, op: int, user: object) -> AioControlBlock:
        self._backend.require_open()
        event = _new(PortEvent, (PORT_SOURCE_AIO, block, op, user))
        notice = PortNotice(self._backend, event)
        data_only = op == SYNC and bool(block.aio_offset)
        request = make_request(block, op, notice, self._backend, data_only)
        request.reads_cache = self._reads_cache and op == READ
        requests.submit(request)
        return block
