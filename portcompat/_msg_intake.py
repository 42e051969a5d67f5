"""The server's side of the connections to a mount: what has arrived, and from whom."""

import os
import select
import socket
import stat
from time import monotonic_ns
from typing import Final

from portcompat import _msg_frames as frames
from portcompat import _msg_sockets as sockets
from portcompat._msg_frames import Malformed, RequestFrame

_MOST_CHANNELS: Final = 4096  # of one connection: callers at a time of one process and its children
_FIRST_SWEEP: Final = 4
_FRESH: Final = 200_000  # nanoseconds for which a caller is not looked after: he has just asked
_MOST_COUNTED: Final = 65536

_SPACE: Final = (sockets.PASSED_SPACE,)
_TAKE: Final = (sockets.TAKE,)

_Arrival = tuple[sockets.Received, "Connection"]


class Caller:
    """The server's end of a caller's channel."""

    __slots__ = ("_events", "end")

    def __init__(self, end: socket.socket) -> None:
        self.end = end
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
    """A client's connection, as the server has it."""

    def __init__(self, receive: socket.socket, line: socket.socket) -> None:
        self.receive, self.line = receive, line
        self.number = receive.fileno()
        self.alone = (self,)
        self.callers: dict[int, Caller] = {}
        self.stamp: int | None = None  # of the request that comes next, as far as known
        self._sweep_at = _FIRST_SWEEP

    def add_caller(self, name: int, caller: Caller) -> None:
        if len(self.callers) >= self._sweep_at:
            for other, known in list(self.callers.items()):
                if known.has_gone():
                    del self.callers[other]
                    known.close()
            if len(self.callers) >= _MOST_CHANNELS:
                raise Malformed("a client has too many callers")
            self._sweep_at = 2 * len(self.callers) + _FIRST_SWEEP
        self.callers[name] = caller

    def hang_up(self) -> None:
        """End it for the client too: its callers are released."""
        sockets.hang_up(self.line)
        try:
            while True:
                received = self.receive.recvmsg(1, sockets.PASSED_SPACE, sockets.TAKE)
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

    __slots__ = (
        "caller",
        "connection",
        "count",
        "data",
        "descriptors",
        "frame",
        "id",
        "out_count",
    )

    def __init__(self, received: sockets.Received, connection: Connection) -> None:
        self.data = received[0]
        self.descriptors = sockets.passed(received[1]) if received[1] else []
        self.count = len(self.descriptors)
        self.connection = connection
        self.frame: RequestFrame | None = None  # not read yet
        self.caller: Caller | None = None
        self.id = 0
        self.out_count = 0  # bytes that are in the caller's second buffer by now

    def read(self, max_size: int, once: bool) -> RequestFrame:
        """See what it is. After an interruption it can be done again. Raises Malformed."""
        frame = frames.read_request(self.data, max_size, self.count)
        callers = self.connection.callers
        if frame.flags & frames.WITH_CHANNEL:
            if self.caller is None:
                self.caller = Caller(sockets.adopt(self.descriptors[0]))
            if len(self.descriptors) == self.count:
                sockets.close_first(self.descriptors)
            if not once and callers.get(frame.channel) is not self.caller:
                if frame.channel in callers:
                    raise Malformed("a channel is announced twice")
                self.connection.add_caller(frame.channel, self.caller)
        elif frame.flags & frames.WANTS_REPLY:
            self.caller = callers.get(frame.channel)  # None: he has gone, and was swept away
        if frame.flags & frames.WITH_FILE and not stat.S_ISREG(os.fstat(self.file).st_mode):
            raise Malformed("the second buffer is no file")
        self.frame = frame
        return frame

    @property
    def file(self) -> int:
        """The descriptor of the second buffers."""
        return self.descriptors[-1]

    @property
    def size(self) -> int:
        return len(self.data) - frames.REQUEST_HEAD

    def close_file(self) -> None:
        sockets.close_all(self.descriptors)


class Intake:
    """The connections of a mount, and the requests that are out of the kernel's queues already.

    Every method is called under the mount's lock. The requests stay in the kernel until one is
    taken, so the descriptor of the gate tells the truth, and callers can withdraw. Of several
    connections that have some the one whose first was queued earliest comes first (M005).

    `line` holds what was received and not taken: when taking was interrupted or `count` looked.
    It is the head of the queue (M012). An arrival is put there in one step with receiving it, and
    replaced by what it means in another.
    """

    def __init__(self, once: bool) -> None:
        self.dropped = 0
        self.max_size = 0
        self._room = (0,)
        self.connections: dict[int, Connection] = {}
        self.line: list[_Arrival | Waiting] = []
        self._once = once
        self._sweep_at = _FIRST_SWEEP
        self._bell_rings = False
        self._open_gate()

    def _open_gate(self) -> None:
        self.gate = sockets.Gate()
        try:
            self._bell, self._button = sockets.stream_pair()
            self.gate.add(self._bell.fileno())
        except BaseException:
            self.gate.close()
            raise

    # Connections

    def add(self, connection: Connection) -> None:
        if len(self.connections) >= self._sweep_at:
            for other in list(self.connections.values()):
                if sockets.is_hung_up(other.line) and not _has_some(other.receive):
                    self.drop(other)
            self._sweep_at = 2 * len(self.connections) + _FIRST_SWEEP
        self.connections[connection.number] = connection
        self.gate.add(connection.number)
        if self.max_size:
            self._tell(connection)

    def drop(self, connection: Connection) -> None:
        """End a connection, because its client has gone or is broken."""
        self.connections.pop(connection.number, None)
        self.gate.remove(connection.number)
        connection.hang_up()

    def mount(self, max_size: int) -> None:
        self.max_size = max_size
        self._room = (frames.REQUEST_HEAD + max_size + 1,)
        for connection in self.connections.values():
            self._tell(connection)

    def _tell(self, connection: Connection) -> None:
        try:
            connection.line.send(frames.SIZE_LIMIT.pack(self.max_size), sockets.SEND)
        except OSError:  # its client has gone
            pass

    # The bell makes the gate's descriptor readable while something is in `line`

    def ring(self) -> None:
        self._bell_rings = True
        try:
            self._button.send(b"!", sockets.SEND)
        except OSError:
            pass

    def _set_bell(self) -> None:
        if self.line:
            if not self._bell_rings:
                self.ring()
        elif self._bell_rings:
            try:
                while len(self._bell.recv(64, sockets.NOWAIT)) == 64:
                    pass
            except OSError:
                pass
            self._bell_rings = False

    # Requests

    def head(self, ready: list[tuple[int, int]], room: int) -> Waiting | int | None:
        """The first request, at the head of `line` now; or its size, if that is more than `room`.

        `ready`: what the gate said.
        """
        while True:
            if not self.line:
                if len(ready) == 1:
                    connection = self.connections.get(ready[0][0])
                else:
                    connection = self._earliest(ready)
                if connection is None:
                    if self._bell_rings:
                        self._set_bell()
                    return None
                if room < self.max_size:
                    _, size = _peek(connection) or (0, 0)
                    if room < size <= self.max_size:
                        return size
                if not self._receive(connection):
                    self._doubt(connection)
                    ready = [each for each in ready if each[0] != connection.number]
                    continue
            waiting = self._read(0)
            if waiting is not None:
                return waiting if waiting.size <= room else waiting.size

    def take(self, waiting: Waiting) -> None:
        """Remove the head."""
        if self.line and self.line[0] is waiting:
            del self.line[0]
        if self._bell_rings:
            self._set_bell()

    def put_back(self, waiting: Waiting) -> None:
        """The head was not handed over (M012)."""
        if waiting not in self.line:
            self.line.insert(0, waiting)

    def count(self) -> int:
        """How many requests wait; those whose callers have gone are removed."""
        for connection in list(self.connections.values()):
            while len(self.line) < _MOST_COUNTED and self._receive(connection):
                pass
        place = 0
        while place < len(self.line):
            if self._read(place) is not None:
                place += 1
        self.line.sort(key=_stamp)
        self.settle()
        return len(self.line)

    def settle(self) -> None:
        """What is in `line` is to be seen from outside, also after an interruption."""
        self._bell_rings = not self.line
        self._set_bell()

    def _earliest(self, ready: list[tuple[int, int]]) -> Connection | None:
        found = [self.connections[fd] for fd, _ in ready if fd in self.connections]
        if len(found) < 2:
            return found[0] if found else None
        for connection in list(found):
            if connection.stamp is None:
                self._look(connection)
                if connection.stamp is None:
                    found.remove(connection)
        while found:
            first = min(found, key=lambda each: each.stamp or 0)
            known = first.stamp
            self._look(first)  # its first request may have been withdrawn meanwhile
            if first.stamp is None:
                found.remove(first)
            elif first.stamp == known:
                return first
        return None

    def _look(self, connection: Connection) -> None:
        seen = _peek(connection)
        connection.stamp = None if seen is None else seen[0]
        if seen is None:
            self._doubt(connection)

    def _doubt(self, connection: Connection) -> None:
        """It was said to be ready and has nothing: another was faster, or its client broke it."""
        if connection.number in self.connections and sockets.is_shut(connection.receive):
            self.drop(connection)

    def _receive(self, connection: Connection) -> bool:
        """Move the next request of a connection to the end of `line`, if there is one."""
        connection.stamp = None
        try:
            received = map(connection.receive.recvmsg, self._room, _SPACE, _TAKE)
            self.line.extend(zip(received, connection.alone))  # noqa: B905, one of each
        except OSError as error:
            if error.errno in sockets.EMPTY:
                return False
            raise  # it is a signal handler's
        return True

    def _read(self, place: int) -> Waiting | None:
        """What is at this place of `line`; None, and it is removed, if it is nobody's."""
        arrival = self.line[place]
        if isinstance(arrival, Waiting):
            waiting = arrival
        else:
            waiting = Waiting(*arrival)
            self.line[place] = waiting
        frame = waiting.frame
        if frame is None:
            try:
                frame = waiting.read(self.max_size, self._once)
                self.dropped += frame.dropped
            except Malformed:
                waiting.close_file()
                del self.line[place]
                self.drop(waiting.connection)
                return None
        if frame.flags and (
            waiting.caller is None
            or (monotonic_ns() - frame.stamp > _FRESH and waiting.caller.has_gone())
        ):
            waiting.close_file()
            del self.line[place]
            return None
        return waiting

    # The end

    def close(self) -> None:
        for connection in list(self.connections.values()):
            connection.close()
        self.connections.clear()
        self._clear()
        self._bell.close()
        self._button.close()
        self.gate.close()

    def _clear(self) -> None:
        for arrival in self.line:
            waiting = arrival if isinstance(arrival, Waiting) else Waiting(*arrival)
            waiting.close_file()
        self.line.clear()

    def reopen(self) -> None:
        """In a fork child that serves too: the gate, and what was taken, are the parent's."""
        for end in (self._bell, self._button, self.gate):
            end.close()
        self._clear()
        self._bell_rings = False
        self._open_gate()
        for connection in self.connections.values():
            self.gate.add(connection.number)


def _peek(connection: Connection) -> tuple[int, int] | None:
    try:
        data = connection.receive.recv(frames.REQUEST_HEAD, socket.MSG_PEEK | sockets.NOWAIT)
    except OSError:
        return None
    return frames.peek(data)


def _has_some(end: socket.socket) -> bool:
    try:
        return bool(end.recv(1, socket.MSG_PEEK | sockets.NOWAIT)) or True
    except OSError:
        return False


def _stamp(each: _Arrival | Waiting) -> int:
    return each.frame.stamp if isinstance(each, Waiting) and each.frame is not None else 0
