"""io_uring(7): Linux."""

import errno
import os
import platform
import select
import sys
from collections import deque
from collections.abc import Sequence
from struct import Struct
from threading import Lock
from time import monotonic
from typing import Any, Final

from portcompat._aio_constants import AIOAREAD, AIOFSYNC
from portcompat.abc import Kaio

if not sys.platform.startswith("linux"):
    raise ImportError("this system has no io_uring(7)")

from portcompat.backends._linux import (
    address,
    iovecs,
    map_shared,
    ring_enter,
    ring_setup,
    unmap,
    view,
    words,
)

# <uapi/linux/io_uring.h>
_READV: Final = 1
_WRITEV: Final = 2
_FSYNC: Final = 3
_ASYNC_CANCEL: Final = 14
_READ: Final = 22
_WRITE: Final = 23
_FSYNC_DATASYNC: Final = 1
_SETUP_CQSIZE: Final = 1 << 3
_SETUP_CLAMP: Final = 1 << 4
_NEEDED: Final = {
    1 << 0: "5.4",  # IORING_FEAT_SINGLE_MMAP
    1 << 1: "5.5",  # NODROP
    1 << 2: "5.5",  # SUBMIT_STABLE
    1 << 3: "5.6",  # RW_CUR_POS
    1 << 5: "5.7",  # FAST_POLL
}
_OFF_SQES: Final = 0x1000_0000
_PARAMS: Final = Struct("=7I12x8IQ8IQ")  # struct io_uring_params
_SQE: Final = Struct("=BBHiQQIIQHHiQQ")
_CQE: Final = Struct("=QiI")

_SUBMISSIONS: Final = 64  # that the kernel is told of at once
_COMPLETIONS: Final = 1024
_SPARE: Final = 64  # of those, for what cancels

_LONGEST: Final = 0x7FFF_F000  # bytes that Linux transfers at once
_UINT: Final = 0xFFFF_FFFF
_CANCEL: Final = 1 << 63  # what marks the completion of a cancellation, among tokens
_PATIENCE: Final = 1.0  # seconds for what was cancelled to end; it is a matter of microseconds
_TRIES: Final = 100  # to have the kernel take what is there

# There loads are not reordered with loads, nor with later stores (Intel SDM 3A, 9.2.2).
_IS_ORDERED: Final = platform.machine() in ("x86_64", "AMD64", "i686", "i386")


class IoUring(Kaio):
    """One ring.

    **What is shared with the kernel, and in which order.** The submission queue is read by the
    kernel only inside io_uring_enter(2), in the thread that calls it (there is no polling thread:
    IORING_SETUP_SQPOLL is not asked for), so it sees what that thread has written; that another
    thread wrote it before is ordered by the engine's lock, under which all this happens. The
    completion queue is written by any processor: an entry first, then, with release, the tail. So
    what is read here after the tail must not be read before it. A load by cffi of an aligned word
    is one load of the machine; x86 keeps loads in order, and elsewhere a lock is released and
    acquired in between (`_fence`): what precedes a release stays before it, what follows an acquire
    stays after it, and an acquire does not overtake the release of its own lock. The head is stored
    after the entries were read, for which the same holds; besides, the kernel never has more to
    write than there is room for, as no more requests are taken on than that.

    **What is lost.** Nothing: a request stays in `_taken`, with its buffers, until its completion
    has been read. The kernel copies the rest at submission (IORING_FEAT_SUBMIT_STABLE).

    **Threads.** When a thread ends Linux cancels what it has submitted; that is reported as
    ECANCELED, and the engine has it done again.
    """

    # A signal handler may raise as `__init__` begins, and then there is only `__del__`.
    _fd = -1
    _rings: Any = None
    _sqes: Any = None

    def __init__(self) -> None:
        params = bytearray(_PARAMS.size)
        _PARAMS.pack_into(
            params, 0, 0, _COMPLETIONS, _SETUP_CQSIZE | _SETUP_CLAMP, *(0,) * (4 + 18)
        )
        try:
            self._fd = ring_setup(_SUBMISSIONS, params)
        except OSError as error:
            raise OSError(error.errno, _explain(error)) from None
        try:
            self._map(params)
        except BaseException:
            self.close()
            raise
        self._taken: dict[int, object] = {}  # and what the kernel uses for it
        self._told: list[tuple[int, int]] = []
        self._cancelled = 0  # what the last cancellation came to
        self._fence = Lock()
        self._fence.acquire()

    def _map(self, params: bytearray) -> None:
        sq_entries, cq_entries, _, _, _, features, _, *offsets = _PARAMS.unpack(params)
        for bit, version in _NEEDED.items():
            if not features & bit:
                raise OSError(errno.ENOSYS, f"io_uring is too old here: it takes Linux {version}")
        sq, cq = offsets[:8], offsets[9:17]
        size = max(sq[6] + 4 * sq_entries, cq[5] + _CQE.size * cq_entries)
        self._rings = rings = map_shared(self._fd, size, 0)
        self._sqes = sqes = map_shared(self._fd, _SQE.size * sq_entries, _OFF_SQES)
        self._sq_head, self._sq_tail = words(rings, sq[0]), words(rings, sq[1])
        self._sq_mask: int = words(rings, sq[2])[0]
        self._sq_size: int = sq_entries
        array = words(rings, sq[6])
        for place in range(sq_entries):
            array[place] = place
        self._sq = view(sqes, 0, _SQE.size * sq_entries)
        self._cq_head, self._cq_tail = words(rings, cq[0]), words(rings, cq[1])
        self._cq_mask: int = words(rings, cq[2])[0]
        self._cq = view(rings, cq[5], _CQE.size * cq_entries)
        self._room = cq_entries - _SPARE

    @property
    def taken(self) -> dict[int, object]:
        return self._taken

    def submit(
        self, token: int, op: int, fd: int, buffers: Sequence[memoryview], offset: int
    ) -> bool:
        if len(self._taken) >= self._room:
            return False
        place, length, flags = 0, 0, 0
        kept: object = None
        if op == AIOFSYNC:
            code = _FSYNC
            flags = _FSYNC_DATASYNC if offset else 0
            offset = 0
        elif len(buffers) == 1:
            code = _READ if op == AIOAREAD else _WRITE
            place = address(buffers[0])
            length = min(len(buffers[0]), _LONGEST)
        else:
            code = _READV if op == AIOAREAD else _WRITEV
            kept, place = iovecs(buffers)
            length = len(buffers)
        return self._put(token, (kept, buffers), code, fd, offset, place, length, flags)

    def _put(
        self,
        token: int,
        kept: object,
        code: int,
        fd: int,
        offset: int,
        place: int,
        length: int,
        flags: int,
    ) -> bool:
        tail: int = self._sq_tail[0]
        if (tail - self._sq_head[0]) & _UINT >= self._sq_size:
            self.flush()
            if (tail - self._sq_head[0]) & _UINT >= self._sq_size:
                return False
        offset &= 0xFFFF_FFFF_FFFF_FFFF
        entry = (tail & self._sq_mask) * _SQE.size
        _SQE.pack_into(
            self._sq, entry, code, 0, 0, fd, offset, place, length, flags, token, 0, 0, 0, 0, 0
        )
        tail = (tail + 1) & _UINT
        # No call among these: it has been taken on or not.
        if not token & _CANCEL:
            self._taken[token] = kept
        self._sq_tail[0] = tail
        return True

    def flush(self) -> bool:
        for _ in range(_TRIES):
            count = (self._sq_tail[0] - self._sq_head[0]) & _UINT
            if not count:
                return True
            # EINTR, or EAGAIN for want of memory: whatever it is, what was not taken is still here.
            ring_enter(self._fd, count)
        self._refuse()
        return False

    def _refuse(self) -> None:
        """The kernel does not take what is there: it is as if it had said so for each."""
        head: int = self._sq_head[0]
        while (tail := self._sq_tail[0]) != head:
            tail = (tail - 1) & _UINT
            token: int = _SQE.unpack_from(self._sq, (tail & self._sq_mask) * _SQE.size)[8]
            if token in self._taken:
                self._told.append((token, -errno.EAGAIN))
                self._taken.pop(token, None)
            self._sq_tail[0] = tail

    def cancel(self, token: int, wait: bool) -> None:
        self._cancelled = -errno.EALREADY
        if not self._put(_CANCEL | token, None, _ASYNC_CANCEL, -1, 0, token, 0, 0):
            return
        self.flush()
        self._pump()
        if wait or self._cancelled == 0:
            ring = select.poll()
            ring.register(self._fd, select.POLLIN)
            end = monotonic() + _PATIENCE
            # Its end may have to be brought about by the thread that submitted it.
            while token in self._taken and (left := end - monotonic()) > 0:
                ring.poll(left * 1000)
                self._pump()

    def read(self, reports: deque[tuple[int, int]]) -> None:
        self._pump()
        reports.extend(self._told)
        self._told.clear()

    def _pump(self) -> None:
        """Read the completions."""
        head: int = self._cq_head[0]
        tail: int = self._cq_tail[0]
        if head == tail:
            return
        if not _IS_ORDERED:
            self._fence.release()
            self._fence.acquire()
        while head != tail:
            token, result, _ = _CQE.unpack_from(self._cq, (head & self._cq_mask) * _CQE.size)
            if token & _CANCEL:
                self._cancelled = result
            elif token in self._taken:
                self._told.append((token, result))
                self._taken.pop(token, None)
            head = (head + 1) & _UINT
            self._cq_head[0] = head

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        rings, self._rings = self._rings, None
        sqes, self._sqes = self._sqes, None
        for mapping in (rings, sqes):
            if mapping is not None:
                unmap(mapping)
        if fd >= 0:
            os.close(fd)

    def abandon(self) -> None:
        self.close()  # what is under way, it is for the parent's memory

    def __del__(self) -> None:
        self.close()


def _explain(error: OSError) -> str:
    if error.errno == errno.ENOSYS:
        return "this kernel has no io_uring: it takes Linux 5.7"
    if error.errno in (errno.EPERM, errno.EACCES):
        return "io_uring is forbidden here: by seccomp, or by the sysctl kernel.io_uring_disabled"
    return error.strerror or "io_uring cannot be set up"
