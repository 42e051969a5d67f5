"""What a caller has of his own: the channel that his reply comes through, and second buffers."""

import errno
import os
import select
import socket
import sys
import tempfile
from math import ceil
from struct import Struct
from time import monotonic
from typing import Final

from portcompat import _msg_frames as frames
from portcompat import _msg_sockets as sockets

_LONGEST: Final = 86400.0  # seconds that poll is asked to wait at once
_SOON: Final = 10_000  # microseconds within which most replies come
_TIMEVAL: Final = Struct("@ll")


class Channel:
    """The way of replies to one caller at a time: a pair of sockets, of which the server has one.

    A caller who leaves without his reply closes it; so the server's end has nobody to send to,
    and a late reply is refused (M056).

    Who waits looks at this and at the two lines, which costs a system call more. So at first he
    just receives, for a short time, in which the reply comes as a rule. The death of a server that
    has the other end is seen at once then too, and an unmount by another client when that time is
    over.
    """

    __slots__ = ("__weakref__", "_events", "_is_hasty", "_recv", "mine", "name", "number", "theirs")

    def __init__(self, lines: tuple[socket.socket, socket.socket], max_size: int) -> None:
        self.name = int.from_bytes(os.urandom(8), sys.byteorder)
        self.number = 0  # of the latest request
        self.mine, self.theirs = sockets.reply_pair()
        sockets.give_room(self.theirs, max_size)
        self._recv = self.mine.recv
        self._is_hasty = False
        try:
            self.mine.settimeout(None)
            soon = _TIMEVAL.pack(0, _SOON)
            self.mine.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, soon)
            self._is_hasty = True
        except OSError:  # a system with another struct timeval: there the lines are always asked
            pass
        self._events = select.poll()
        self._events.register(self.mine, select.POLLIN)
        for line in lines:
            self._events.register(line, 0)  # its hanging up

    def wait_a_little(self, max_size: int) -> bytes | None:
        """The reply to a request after the first, as `wait`, or None when it does not come soon."""
        if not self._is_hasty:
            return None
        try:
            return self._recv(frames.REPLY_HEAD + max_size + 1)
        except BlockingIOError:
            return None

    def wait(self, deadline: float | None, max_size: int) -> bytes:
        """The reply to the latest request as it comes, or nothing when a line has hung up."""
        while True:
            if self._events.poll(None if deadline is None else milliseconds(deadline)):
                try:
                    return self.mine.recv(frames.REPLY_HEAD + max_size + 1, sockets.NOWAIT)
                except OSError as error:
                    if error.errno in sockets.EMPTY:  # there is none, so it is a line
                        return b""
                    raise
            if deadline is not None and monotonic() >= deadline:
                raise TimeoutError(errno.ETIMEDOUT, "no reply within the timeout")

    def hang_up(self) -> None:
        """Let the caller who waits here go, with nothing."""
        sockets.hang_up(self.mine)

    def close(self) -> None:
        self.mine.close()
        self.theirs.close()

    def __del__(self) -> None:
        for name in ("mine", "theirs"):
            if hasattr(self, name):
                getattr(self, name).close()


class SecondBuffer:
    """What the server can reach with `sizeop` (M030): a file that it reads and writes by itself.

    So no caller has to be awake for it, and a broken one cannot keep the server waiting.
    """

    def __init__(self, data: bytes, out: bytearray | memoryview | None) -> None:
        self._out = out = None if out is None else _as_writable(out)
        self.in_size = len(data)
        self.out_size = 0 if out is None else len(out)
        if max(self.in_size, self.out_size) > frames.NO_LIMIT:
            raise ValueError("sizeop_in and sizeop_out must be smaller than 4 GiB")
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115, closed by its user
        self._file.write(data)
        self._file.truncate(self.in_size + self.out_size)

    def fileno(self) -> int:
        return self._file.fileno()

    def fill(self, count: int) -> None:
        """Hand over what the server has put into `sizeop_out`."""
        if self._out is not None and count:
            self._file.seek(self.in_size)
            self._file.readinto(self._out[:count])

    def close(self) -> None:
        self._file.close()


def milliseconds(deadline: float) -> int:
    """What poll is to wait until `deadline`, rather longer than shorter."""
    return ceil(min(max(0.0, deadline - monotonic()), _LONGEST) * 1000)


def _as_writable(buffer: bytearray | memoryview) -> memoryview:
    view = memoryview(buffer)
    if view.readonly:
        raise TypeError("sizeop_out must be writable: a bytearray, or a view of one")
    return view.cast("B")
