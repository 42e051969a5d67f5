"""One request of asynchronous I/O, and the list that it may be of."""

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from portcompat import _transfers
from portcompat._notices import Notice
from portcompat._transfers import READ, SYNC, WRITE

if TYPE_CHECKING:
    from portcompat._aio_blocks import AioControlBlock
    from portcompat.abc import Backend

if os.name == "posix":
    import fcntl

    def _flags(fd: int) -> int:
        return fcntl.fcntl(fd, fcntl.F_GETFL)
else:

    def _flags(fd: int) -> int:
        return os.O_RDWR


_ACCESS: Final[int] = getattr(os, "O_ACCMODE", 3)
_APPEND: Final[int] = getattr(os, "O_APPEND", 0)


class Group:
    """One lio_listio: its members that are not finished, and what is told when none is (R324)."""

    __slots__ = ("failed", "left", "notice")

    def __init__(self, notice: Notice | None) -> None:
        self.left: set[object] = {self}  # itself as long as the call has not said which there are
        self.failed = False  # one of them did
        self.notice = notice


class Request:
    """One submission of a control block, from when it is made until it is finished.

    `owner` is who brings its outcome: a worker, the kernel's I/O of a port, or who cancels it.
    `setdefault` is one step, so of several that want to be the owner one is; and who finds himself
    there is it, also when a signal handler's exception kept him from hearing so at first.

    `after` holds the requests that must be finished before it starts: one of the same stream and
    direction, an appending write to the same file, or for an fsync all (R318).
    """

    __slots__ = (
        "after",
        "append",
        "block",
        "blocked",
        "buffers",
        "cancelled",
        "done",
        "fd",
        "followers",
        "former",
        "group",
        "home",
        "key",
        "notice",
        "offset",
        "op",
        "owner",
        "reads_cache",
        "sent",
        "start",
        "stream",
        "token",
        "told",
    )

    def __init__(
        self,
        block: "AioControlBlock",
        op: int,
        fd: int,
        buffers: list[memoryview],
        offset: int,
        notice: Notice | None,
        home: "Backend | None" = None,
    ) -> None:
        self.block = block
        self.op = op
        self.fd = fd
        self.buffers = buffers
        self.offset = offset  # of an fsync: whether only the data is to be synced
        self.notice = notice
        self.home = home  # the port whose kernel I/O may do it
        self.group: Group | None = None
        self.stream = False  # it has no offset, and may block for ever
        self.append = False
        self.key: tuple[int, ...] | None = None  # shared by those that run one after the other
        self.owner: dict[None, object] = {}
        self.after: set[Request] = set()
        self.followers: list[Request] = []
        self.start = False  # somebody has it who will do it
        self.reads_cache = False  # whether to look there first
        self.sent = 0  # what is done of a write to a stream, that takes several steps
        self.token = 0  # of the kernel's I/O
        self.cancelled = False  # somebody wants that, and then: it was
        self.blocked = False  # a worker is at it that nobody can interrupt
        self.told = False
        self.done = False
        self.former: tuple[int, int | None] = (0, None)  # what the block said before

    def claim(self, owner: object) -> bool:
        """Whether `owner` is to bring the outcome."""
        return self.owner.setdefault(None, owner) is owner

    def release(self) -> None:
        """Let the memory go, whoever still has a name for these views of it."""
        for buffer in self.buffers:
            try:
                buffer.release()
            except BufferError:  # in a frame of the exception that is on its way
                pass
        self.buffers = []

    def size(self) -> int:
        """How many bytes are to be transferred in all."""
        return sum(map(len, self.buffers))

    def left(self) -> list[memoryview]:
        """The buffers that are still to be transferred."""
        skip = self.sent
        if not skip:
            return self.buffers
        left = []
        for buffer in self.buffers:
            if len(buffer) > skip:
                left.append(buffer[skip:])
            skip = max(0, skip - len(buffer))
        return left

    def blocks(self) -> bool:
        """Whether the descriptor is one that waits: without O_NONBLOCK."""
        try:
            return os.get_blocking(self.fd)
        except OSError:  # closed
            return False

    def look(self) -> None:
        """Find out what the descriptor is. OSError EBADF when it is of no use (R285)."""
        fd, op = self.fd, self.op
        try:
            status = os.fstat(fd)
            flags = _flags(fd)
        except OverflowError:
            raise OSError(errno.EBADF, f"descriptor {fd} is not open") from None
        if op == SYNC:
            return
        if flags & _ACCESS == (os.O_WRONLY if op == READ else os.O_RDONLY):
            direction = "reading" if op == READ else "writing"
            raise OSError(errno.EBADF, f"descriptor {fd} is not open for {direction}")
        mode = status.st_mode
        self.stream = not (stat.S_ISREG(mode) or stat.S_ISBLK(mode) or stat.S_ISDIR(mode))
        self.append = op == WRITE and bool(flags & _APPEND)
        if self.stream or self.append:
            self.key = fd, op, status.st_dev, status.st_ino

    def transfer(self) -> int:
        """Make the transfer of a file, or sync it, and wait for that."""
        fd, buffers, offset = self.fd, self.buffers, self.offset
        if self.op == SYNC:
            _transfers.sync(fd, bool(offset))
            return 0
        if self.append:  # R290
            return _transfers.write_stream(fd, buffers)
        if self.op == READ:
            return _transfers.read_at(fd, buffers, offset)
        return _transfers.write_at(fd, buffers, offset)
