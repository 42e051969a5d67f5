"""The queue of a mount: what has arrived from its clients, and in which order."""

import socket
from time import monotonic_ns
from typing import Final

from portcompat import _msg_frames as frames
from portcompat import _msg_sockets as sockets
from portcompat._msg_frames import Malformed
from portcompat._msg_links import HAVE_LINKS, Links
from portcompat._msg_peers import FIRST_SWEEP, Arrival, Connection, Waiting

FRESH: Final = 200_000  # nanoseconds for which a caller is not looked after: he has just asked
_MOST_COUNTED: Final = 65536

_SPACE: Final = (sockets.PASSED_SPACE,)
_TAKE: Final = (sockets.TAKE,)

_Received = tuple[sockets.Received, Connection]


class Hand:
    """What one getop has taken and not handed over yet: first as it came, then as it was read.

    Its user sets `received` to a list and `waiting` to None: an `__init__` takes as long as all
    else about it.
    """

    __slots__ = ("connection", "received", "waiting")

    connection: Connection
    received: list[sockets.Received]
    waiting: Waiting | None


class Intake:
    """The connections of a mount, and the requests that are out of the kernel's queues already.

    Every method is called under the mount's lock. The requests stay in the kernel until one is
    taken, so the descriptor of the gate tells the truth, and callers can withdraw. Of several
    connections that have some the one whose first was queued earliest comes first (M005).

    `line` holds what was received and not taken: when taking was interrupted or `count` looked.
    It is the head of the queue (M012). An arrival is put there in one step with receiving it, and
    replaced by what it means in another.

    When a request was queued its client says, and might lie to be served before others. A stamp
    counts as not later than the moment when it is seen. So whoever is served on and on, with
    requests that all say that they are older than the one which another connection was seen to
    have, claims that they were all queued at that moment; and when they are more than his part of
    the queue can hold he has lied, and loses his connection.
    """

    def __init__(self, shared: bool) -> None:
        self.dropped = 0
        self.max_size = 0
        self._room = (0,)
        self.connections: dict[int, Connection] = {}
        self.line: list[_Received | Arrival | Waiting] = []
        self._once = shared
        self._links = Links() if shared and HAVE_LINKS else None
        self._sweep_at = FIRST_SWEEP
        self._bell_rings = False
        self._favoured: Connection | None = None  # who was served before others, how often, and
        self._favours = 0
        self._witness = 0  # before which moment he says that he has queued all that
        self._most_favours = 0
        try:
            self._open_gate()
        except BaseException:
            if self._links is not None:
                self._links.close()
            raise

    def _open_gate(self) -> None:
        self.gate = sockets.Gate()
        try:
            self._bell, self._button = sockets.stream_pair()
            self.gate.add(self._bell.fileno())
            if self._links is not None:
                self._links.watch(self.gate)
        except BaseException:
            self.gate.close()
            raise

    # Connections

    def add(self, connection: Connection) -> None:
        """A new connection, of which other processes that serve the mount learn too."""
        if self._links is not None:
            ends = [connection.receive.fileno(), connection.line.fileno()]
            for descriptors in self._links.add(ends):
                self._adopt(descriptors)
        self._add(connection)
        if self.max_size:
            self._tell(connection)

    def _add(self, connection: Connection) -> None:
        if len(self.connections) >= self._sweep_at:
            for other in list(self.connections.values()):
                if other.has_left():
                    self.drop(other)
            self._sweep_at = 2 * len(self.connections) + FIRST_SWEEP
        self.connections[connection.number] = connection
        self.gate.add(connection.number)

    def learn(self) -> None:
        """Add the connections that other processes have made.

        A fork must not come between reading of one and adding it. Who forks, or makes a connection,
        may want the mount's lock next, so nobody waits for him here; he is through soon, and the
        gate stays ready.
        """
        if self._links is not None and sockets.making.acquire(blocking=False):
            try:
                while (descriptors := self._links.read()) is not None:
                    self._adopt(descriptors)
            finally:
                sockets.making.release()

    def _adopt(self, descriptors: list[int]) -> None:
        try:
            receive, line = map(sockets.adopt, descriptors)
            self._add(Connection(receive, line))
        finally:
            sockets.close_all(descriptors)

    def drop(self, connection: Connection) -> None:
        """End a connection, because its client has gone or is broken."""
        self.connections.pop(connection.number, None)
        self.gate.remove(connection.number)
        connection.hang_up()

    def mount(self, max_size: int, capacity: int) -> None:
        """`capacity`: how many bytes of requests a connection can hold."""
        self.max_size = max_size
        self._room = (frames.REQUEST_HEAD + max_size + 1,)
        self._most_favours = capacity // frames.REQUEST_HEAD
        self.learn()
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
        line = self.line
        while True:
            if not line:
                if len(ready) == 1:
                    connection = self.connections.get(ready[0][0])
                else:
                    connection = self._earliest(ready)
                if connection is None:
                    if self._bell_rings:
                        self._set_bell()
                    if ready and self._links is not None:
                        self.learn()
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

    def receive(self, connection: Connection, hand: Hand) -> bool:
        """Take the next request of a connection in hand, as it is, if there is one."""
        connection.stamp = None
        hand.connection = connection
        try:
            # One step with noting it: a signal handler cannot come between.
            hand.received.extend(map(connection.recvmsg, self._room, _SPACE, _TAKE))
        except OSError as error:
            if error.errno not in sockets.EMPTY or hand.received:
                raise  # it is a signal handler's
            return False
        return True

    def remove_head(self, waiting: Waiting) -> None:
        if self.line and self.line[0] is waiting:
            del self.line[0]
        if self._bell_rings:
            self._set_bell()

    def put_back(self, hand: Hand) -> None:
        """A getop could not hand this over (M012)."""
        first = hand.waiting
        if first is not None:
            if not any(each is first for each in self.line):
                self.line.insert(0, first)
        elif hand.received:
            received = hand.received[0]
            if not any(isinstance(each, tuple) and each[0] is received for each in self.line):
                self.line.insert(0, (received, hand.connection))

    def count(self) -> int:
        """How many requests wait; those whose callers have gone are removed."""
        self.learn()
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
        connections = self.connections
        found = [connections[fd] for fd, _ in ready if fd in connections]
        if len(found) < 2:
            return found[0] if found else None
        for connection in list(found):
            if connection.stamp is None:
                self._look(connection)
                if connection.stamp is None:
                    found.remove(connection)
        while found:
            first = min(found, key=_stamp_of)
            known = first.stamp
            self._look(first)  # its first request may have been withdrawn meanwhile
            if first.stamp is None:
                found.remove(first)
            elif first.stamp == known:
                if len(found) == 1 or self._may_be_first(first, found):
                    return first
                found.remove(first)
        return None

    def _may_be_first(self, first: Connection, found: list[Connection]) -> bool:
        """Whether to believe a client that its request is older; it is dropped if not."""
        stamp = first.stamp
        assert stamp is not None
        if first is not self._favoured or stamp >= self._witness:
            self._favoured, self._favours = first, 0
            self._witness = min(_stamp_of(each) for each in found if each is not first)
        self._favours += 1
        if self._favours <= self._most_favours:
            return True
        self._favoured = None
        self.drop(first)
        return False

    def _look(self, connection: Connection) -> None:
        seen = _peek(connection)
        if seen is None:
            connection.stamp = None
            self._doubt(connection)
        elif connection.stamp is None or connection.claim != seen[0]:
            connection.claim = seen[0]
            connection.stamp = min(seen[0], monotonic_ns())

    def _doubt(self, connection: Connection) -> None:
        """It was said to be ready and has nothing: another was faster, or its client broke it."""
        if connection.number in self.connections and sockets.is_shut(connection.receive):
            self.drop(connection)

    def _receive(self, connection: Connection) -> bool:
        """Move the next request of a connection to the end of `line`, if there is one."""
        connection.stamp = None
        try:
            received = map(connection.recvmsg, self._room, _SPACE, _TAKE)
            self.line.extend(zip(received, connection.alone))  # noqa: B905, one of each
        except OSError as error:
            if error.errno in sockets.EMPTY:
                return False
            raise  # it is a signal handler's
        return True

    def _read(self, place: int) -> Waiting | None:
        """What is at this place of `line`; None, and it is removed, if it is nobody's."""
        waiting = self.line[place]
        if isinstance(waiting, tuple):
            self.line[place] = waiting = Arrival(*waiting)
        if isinstance(waiting, Arrival):
            try:
                waiting = waiting.read(self.max_size, self._once)
            except Malformed:
                waiting.close_file()
                del self.line[place]
                self.drop(waiting.connection)
                return None
            self.line[place] = waiting
            self.dropped += waiting.fields.dropped
        fields = waiting.fields
        if fields.flags and (
            waiting.caller is None  # he has gone, and was swept away
            or (monotonic_ns() - fields.stamp > FRESH and waiting.caller.has_gone())
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
        if self._links is not None:
            self._links.close()

    def _clear(self) -> None:
        for arrival in self.line:
            (Arrival(*arrival) if isinstance(arrival, tuple) else arrival).close_file()
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


def _stamp_of(connection: Connection) -> int:
    return connection.stamp or 0


def _stamp(each: _Received | Arrival | Waiting) -> int:
    return each.fields.stamp if isinstance(each, Waiting) else 0
