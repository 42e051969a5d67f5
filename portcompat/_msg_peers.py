"""The clients of a mount as its server has them: connections, callers, what they have asked."""

import select
import socket
import stat
from os import fstat
from typing import Final

from portcompat import _msg_frames as frames
from portcompat import _msg_sockets as sockets
from portcompat._msg_frames import Frame, Malformed, RequestFrame

_MOST_CHANNELS: Final = 4096  # of one connection: callers at a time of one process and its children
FIRST_SWEEP: Final = 4
"""How many there are when they are first looked through for those who have gone."""


class Caller:
    """The server's end of a caller's channel."""

    __slots__ = ("_events", "end", "send")

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.send = end.send
        self._events = select.poll()
        self._events.register(end, 0)

    def has_gone(self) -> bool:
        """Under the mount's lock, as nobody may ask at the same time."""
        return self.end.fileno() < 0 or bool(self._events.poll(0))

    def close(self) -> None:
        self.end.close()

    def __del__(self) -> None:
        if hasattr(self, "end"):
            self.end.close()


class Connection:
    """A client's connection."""

    def __init__(self, receive: socket.socket, line: socket.socket) -> None:
        self.receive, self.line = receive, line
        self.recvmsg = receive.recvmsg
        self.number = receive.fileno()
        self.alone = (self,)
        self.callers: dict[int, Caller] = {}
        self.stamp: int | None = None  # when the request was queued that comes next, if known
        self.claim = 0  # and when its client says
        self._sweep_at = FIRST_SWEEP

    def add_caller(self, name: int, caller: Caller) -> None:
        if len(self.callers) >= self._sweep_at:
            for other, known in list(self.callers.items()):
                if known.has_gone():
                    del self.callers[other]
                    known.close()
            if len(self.callers) >= _MOST_CHANNELS:
                raise Malformed("a client has too many callers")
            self._sweep_at = 2 * len(self.callers) + FIRST_SWEEP
        self.callers[name] = caller

    def has_left(self) -> bool:
        """Whether its client has gone, and nothing of his is queued."""
        if not sockets.is_hung_up(self.line):
            return False
        try:
            self.receive.recv(1, socket.MSG_PEEK | sockets.NOWAIT)
        except OSError:
            return True
        return False

    def hang_up(self) -> None:
        """End it for the client too: its callers are released."""
        sockets.hang_up(self.line)
        try:
            while True:
                received = self.recvmsg(1, sockets.PASSED_SPACE, sockets.TAKE)
                sockets.close_all(sockets.passed(received[1]))
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        for caller in list(self.callers.values()):
            caller.close()
        self.callers.clear()
        self.receive.close()
        self.line.close()


class Waiting:
    """A request that the server has, from its arrival to its answer."""

    id = 0
    out_count = 0  # bytes that are in the caller's second buffer by now
    descriptors: list[int] = []  # of most requests, for which nothing is ever put in  # noqa: RUF012

    def __init__(
        self, data: bytes, connection: Connection, frame: Frame, caller: Caller | None
    ) -> None:
        self.data = data
        self.connection = connection
        self.frame = frame
        self.caller = caller

    @property
    def fields(self) -> RequestFrame:
        """The frame's fields by name."""
        return RequestFrame._make(self.frame)

    @property
    def file(self) -> int:
        """The descriptor of the second buffers."""
        return self.descriptors[-1]

    @property
    def size(self) -> int:
        return len(self.data) - frames.REQUEST_HEAD

    def close_file(self) -> None:
        if self.descriptors:
            sockets.close_all(self.descriptors)


class Arrival:
    """What has arrived from a connection and has not been read."""

    def __init__(self, received: sockets.Received, connection: Connection) -> None:
        self.data = received[0]
        self.connection = connection
        self.descriptors = sockets.passed(received[1]) if received[1] else []
        self._count = len(self.descriptors)
        self._caller: Caller | None = None

    def read(self, max_size: int, once: bool) -> Waiting:
        """See what it is. After an interruption it can be done again. Raises Malformed."""
        frame = frames.read_request(self.data, max_size, self._count)
        flags = frame.flags
        if flags & frames.WITH_CHANNEL:
            self._take_channel(frame, once)
        elif flags:
            self._caller = self.connection.callers.get(frame.channel)
        waiting = Waiting(self.data, self.connection, frame, self._caller)
        if flags & frames.WITH_FILE:
            if not stat.S_ISREG(fstat(self.descriptors[-1]).st_mode):
                raise Malformed("the second buffer is no file")
            waiting.descriptors = self.descriptors
        return waiting

    def _take_channel(self, frame: RequestFrame, once: bool) -> None:
        if self._caller is None:
            self._caller = Caller(sockets.adopt(self.descriptors[0]))
        if len(self.descriptors) == self._count:
            sockets.close_first(self.descriptors)
        callers = self.connection.callers
        if not once and callers.get(frame.channel) is not self._caller:
            if frame.channel in callers:
                raise Malformed("a channel is announced twice")
            self.connection.add_caller(frame.channel, self._caller)

    def close_file(self) -> None:
        sockets.close_all(self.descriptors)
