"""The message interface of a user-space server: requests, replies by id, and a mount's life."""

import errno
import os
import socket
import tempfile
import warnings
from enum import Enum, IntEnum, IntFlag
from operator import index
from threading import RLock
from typing import IO, Final, NamedTuple, NoReturn, Self, SupportsIndex

from portcompat import _msg_frames as frames
from portcompat import _msg_sockets as sockets
from portcompat._checks import as_count, as_int, as_size
from portcompat._msg_client import ONCE, Client
from portcompat._msg_frames import Bytes
from portcompat._msg_intake import Connection, Intake, Waiting

__all__ = [
    "DEFAULT_MAX_SIZE",
    "SIZEOP_IN",
    "SIZEOP_OUT",
    "Client",
    "Cloner",
    "Flags",
    "Instance",
    "Request",
    "SizeOp",
    "State",
]

DEFAULT_MAX_SIZE: Final = 65536
"""The most payload bytes of a mount, if `mount` is not told."""


class State(Enum):
    """Where a mount is in its life (M050)."""

    EMBRYONIC = "embryonic"  # opened, not mounted
    MOUNTING = "mounting"  # requests are queued already, and not yet taken
    RUNNING = "running"
    DYING = "dying"  # closed, and its getops have not all returned
    DEAD = "dead"


_FIRST_SWEEP: Final = 4

_ALIVE: Final = (State.MOUNTING, State.RUNNING)


class SizeOp(IntEnum):
    """The two directions of `Instance.sizeop`."""

    SIZEOP_IN = 1  # from the client to the server
    SIZEOP_OUT = 2  # from the server to the client


SIZEOP_IN: Final = SizeOp.SIZEOP_IN
SIZEOP_OUT: Final = SizeOp.SIZEOP_OUT


class Flags(IntFlag):
    """What is in the flags of a request."""

    WANTS_REPLY = frames.WANTS_REPLY
    ADJUSTABLE = frames.ADJUSTABLE  # the reply may be larger than the caller's buffer
    SECOND_BUFFER = frames.WITH_FILE  # there is something for `sizeop`


_SHOWN: Final = int(Flags.WANTS_REPLY | Flags.ADJUSTABLE | Flags.SECOND_BUFFER)


class Request(NamedTuple):
    """A request as the server takes it (M001).

    `id` rises by one for each request that wants a reply, from 1 on; it is 0 for one that wants
    none (M002). `flags` is a combination of `Flags`.
    """

    id: int
    opclass: int
    optype: int
    cookie: int
    payload: bytes
    flags: int


_new: Final = tuple.__new__


class Cloner:
    """Hands out instances by number (M051): at most `max_instances` at a time.

    Raises ValueError when `max_instances` is less than 1, TypeError when it is no int.
    """

    def __init__(self, max_instances: SupportsIndex = 64) -> None:
        self._max_instances = as_count(max_instances, "max_instances")
        self._lock = RLock()
        self._taken: set[int] = set()
        sockets.tell_when_forked(self)

    def open(self, *, shared: bool = False) -> "Instance":
        """A new instance with the lowest free index, embryonic.

        `shared`: fork children of this process have the server's end too, and may serve; the mount
        then lives until the last of them has closed it or died. An instance that is not shared is
        closed in a fork child, so that the death of the server's process is the mount's.

        Raises OSError EBUSY when `max_instances` are open (M051), EMFILE when descriptors run out,
        ENOTSUP where the system lacks what it takes (Windows).
        """
        sockets.require()
        with self._lock:
            number = next(n for n in range(len(self._taken) + 1) if n not in self._taken)
            if number >= self._max_instances:
                raise OSError(errno.EBUSY, f"{self._max_instances} instances are open; close one")
            with sockets.making:
                instance = Instance(self, number, shared)
            self._taken.add(number)
            return instance

    def release(self, number: int) -> None:
        """For an instance that is closed: its index is free again."""
        self._taken.discard(number)

    def forked(self) -> None:
        """In a fork child: the thread that had the lock is not there."""
        self._lock = RLock()


class Instance:
    """The server's end of a mount. A context manager that closes itself.

    Any number of threads may call any method at any time.

    The queue is what the kernel holds on the way from the clients: each connection is a pair of
    datagram sockets, and the descriptor of the instance is readable while one of them is. So
    nothing has to be pumped, a client that is killed or that breaks the rules has nothing but its
    own connection, and when the server is killed the kernel closes `life`, at whose other end every
    caller waits.

    `_lock` protects the connections and `_open`, the reply-wait list; nobody waits while he holds
    it, and it is re-entrant for signal handlers. Of the threads that wait for a request one is in
    the kernel and the others queue for `_turn`. A request that is being taken is in one of three
    places, the kernel, the intake's line, or `_open`, and moves in single steps.
    """

    def __init__(self, cloner: Cloner, number: int, shared: bool) -> None:
        self._cloner, self._index, self._shared = cloner, number, shared
        self._opener = os.getpid()
        self._state = State.EMBRYONIC
        self._closed = False
        self._freed = False
        self._intake = Intake(once=shared)
        self._life, self._far_life = sockets.stream_pair()
        self._life_number = self._life.fileno()
        self._intake.gate.add_line(self._life_number)
        # The position of a file is what several processes can count with.
        self._counter = _new_counter() if shared else None
        self._start()
        sockets.tell_when_forked(self)

    def _start(self) -> None:
        """What each process has for itself."""
        self._lock = RLock()
        self._turn = RLock()
        self._inside: set[object] = set()  # the getops under way
        self._open: dict[int, Waiting] = {}
        self._last_id = 0
        self._sweep_at = _FIRST_SWEEP  # how many are open when they are looked through

    # Life

    def mount(self, *, max_size: SupportsIndex = DEFAULT_MAX_SIZE, start: bool = True) -> None:
        """Bring the mount to life: requests are accepted from now on.

        `max_size`: the most bytes that the payload of a request or of a reply may have. `start`:
        False leaves the mount in MOUNTING, where requests are queued and not taken, until
        `start()`.

        Raises OSError EPERM in a process other than the one that opened the instance (M052), EBUSY
        when it is mounted already, EBADF when it is closed, and EMSGSIZE when the system's sockets
        cannot carry so much; ValueError when `max_size` is less than 1.
        """
        size = as_count(max_size, "max_size")
        if os.getpid() != self._opener:
            raise OSError(errno.EPERM, "only the process that opened the instance can mount it")
        with self._lock:
            self._require_open()
            if self._state is not State.EMBRYONIC:
                raise OSError(errno.EBUSY, f"the instance is {self._state.value} already")
            one, other = sockets.datagram_pair()
            with one, other:
                if not sockets.give_room(one, size):
                    raise OSError(errno.EMSGSIZE, f"sockets here cannot carry {size} bytes")
            self._state = State.MOUNTING
            self._intake.mount(size)
            if start:
                self._state = State.RUNNING

    def start(self) -> None:
        """From MOUNTING to RUNNING. Raises OSError EINVAL in another state, EBADF when closed."""
        with self._lock:
            self._require_open()
            if self.state is not State.MOUNTING:
                raise OSError(errno.EINVAL, f"the mount is {self._state.value}, not mounting")
            self._state = State.RUNNING

    @property
    def state(self) -> State:
        """Where the mount is in its life (M050)."""
        with self._lock:
            if self._state in _ALIVE and sockets.is_hung_up(self._life):
                self._state = State.DEAD
            return self._state

    @property
    def index(self) -> int:
        """The instance's number among those of its cloner (M051)."""
        return self._index

    @property
    def max_size(self) -> int:
        """What `mount` was told; 0 before."""
        return self._intake.max_size

    @property
    def dropped(self) -> int:
        """How many casts were dropped for lack of room (M004).

        Clients count them, and say so with the next request of theirs that the server takes.
        """
        return self._intake.dropped

    def pending(self) -> int:
        """How many requests wait in the queue (M041). Raises as `getop`."""
        with self._lock:
            self._require_running()
            try:
                return self._intake.count()
            finally:
                self._intake.settle()

    def fileno(self) -> int:
        """A descriptor that is readable exactly while a request waits, or the mount is dead (M040).

        For a port, a selector, an event loop: nothing is to be read from it or written to it.
        It is the same number from open to close. Raises OSError EBADF when closed.
        """
        self._require_open()
        return self._intake.gate.fileno()

    # Serving

    def getop(self, room: SupportsIndex = DEFAULT_MAX_SIZE, block: bool = True) -> Request:
        """Take the request that is at the head of the queue (M005, M010-M014).

        `room`: the most payload bytes that the caller can take. `block`: wait for a request.

        Raises OSError EWOULDBLOCK (BlockingIOError) when the queue is empty and `block` is false
        (M010); E2BIG when the request at the head is larger than `room`, which stays there (M011);
        ENOENT before the mount and after its death (M050); ENXIO when it is mounting or dying, and
        in those who wait and so find out that it has died (M014); EBADF when the instance is
        closed; EINVAL when `room` is negative.
        """
        size = room if room is DEFAULT_MAX_SIZE else as_size(room, "room")
        hand: list[Waiting] = []
        me = object()
        try:
            self._inside.add(me)
            if self._state is not State.RUNNING:
                self._require_running()
            poll = self._intake.gate.poll
            request = None
            if block:
                while request is None:
                    with self._turn:
                        ready = poll(-1)
                        if self._closed or (
                            (len(ready) != 1 or ready[0][0] == self._life_number)
                            and self._life_number in dict(ready)
                        ):
                            raise OSError(errno.ENXIO, "the mount has died")
                        request = self._take(ready, size, hand)
            else:
                ready = poll(0)
                if len(ready) > 1 or (ready and ready[0][0] == self._life_number):
                    self._require_running()
                if ready:
                    request = self._take(ready, size, hand)
                if request is None:
                    raise BlockingIOError(errno.EWOULDBLOCK, "no request waits")
            self._inside.discard(me)
            if self._closed:
                self._free()
            return request
        except BaseException:
            try:
                self._give_up(me, hand)
            except BaseException:  # of a signal handler: nothing may be lost for it
                self._give_up(me, hand)
                raise
            raise

    def _take(self, ready: list[tuple[int, int]], room: int, hand: list[Waiting]) -> Request | None:
        """The request at the head, if there is one; it is in `hand` as long as it may go back."""
        with self._lock:
            waiting = self._intake.head(ready, room)
            if waiting is None:
                return None
            if isinstance(waiting, int):
                raise OSError(
                    errno.E2BIG, f"the request has {waiting} bytes; take it with that room"
                )
            frame = waiting.frame
            assert frame is not None
            hand.append(waiting)
            if frame.flags & frames.WANTS_REPLY:
                if not waiting.id:
                    if self._counter is None:
                        waiting.id = self._last_id + 1
                        self._last_id = waiting.id
                    else:
                        waiting.id = os.lseek(self._counter.fileno(), 1, os.SEEK_CUR)
                if len(self._open) >= self._sweep_at:
                    self._sweep()
                self._open[waiting.id] = waiting
            self._intake.take(waiting)
            return _new(
                Request,
                (
                    waiting.id,
                    frame.opclass,
                    frame.optype,
                    frame.cookie,
                    waiting.data[frames.REQUEST_HEAD :],
                    frame.flags & _SHOWN,
                ),
            )

    def _sweep(self) -> None:
        """Forget the requests that were taken and whose callers have gone (M056)."""
        for number, waiting in list(self._open.items()):
            if waiting.caller is None or waiting.caller.has_gone():
                self._open.pop(number, None)
                waiting.close_file()
        self._sweep_at = max(_FIRST_SWEEP, 2 * len(self._open))

    def _give_up(self, me: object, hand: list[Waiting]) -> None:
        """A getop ends without a request: what it has in hand goes back (M012)."""
        with self._lock:
            if not self._freed and (hand or self._intake.line):
                for waiting in hand:
                    self._open.pop(waiting.id, None)
                    self._intake.put_back(waiting)
                self._intake.settle()
            self._inside.discard(me)
        if self._closed:
            self._free()

    def putop(self, id: SupportsIndex, rv: SupportsIndex = 0, payload: Bytes = b"") -> None:
        """Answer the request `id`: `rv` is 0 or an errno, which the caller sees raised (M020-M023).

        The payload of an answer with an errno is not handed on.

        Raises OSError EINVAL when no such request is open: unknown, answered, of a cast, or of a
        caller who has gone (M020, M056); EFAULT when the payload is larger than the mount's
        maximum, and the caller is released with that too (M021); E2BIG when it is larger than the
        caller's buffer, who may be answered again with less (M022); ENOENT and ENXIO as `getop`;
        EBADF when the instance is closed. ValueError when `rv` is negative.
        """
        number = _as_id(id)
        value = as_int(rv, "rv")
        if value < 0:
            raise ValueError(f"rv must be 0 or an errno, not {value}")
        if type(payload) is not bytes:
            payload = frames.as_bytes(payload, "payload")
        with self._lock:
            waiting = self._find(number)
            frame = waiting.frame
            caller = waiting.caller
            assert frame is not None
            assert caller is not None
            size = len(payload)
            refused = size > self._intake.max_size
            if (refused or size > frame.reply_room) and caller.has_gone():
                self._lose(waiting)
            if refused:
                value = errno.EFAULT
            elif size > frame.reply_room and not frame.flags & frames.ADJUSTABLE:
                raise OSError(
                    errno.E2BIG, f"the caller has room for {frame.reply_room} bytes, not {size}"
                )
            reply = frames.reply_frame(
                frame.number, value, waiting.out_count, b"" if value else payload
            )
            sent: list[int] = []
            gone = False
            try:
                del self._open[number]
                # One step with noting it: a signal handler cannot come between.
                sent.extend(map(caller.end.send, (reply,), (sockets.SEND,)))
            except BaseException as error:
                gone = isinstance(error, OSError) and error.errno in sockets.GONE
                if not gone:
                    if not sent:
                        self._open[number] = waiting
                    raise
            waiting.close_file()
            if gone or self._shared:
                caller.close()
            if gone:
                self._lose(waiting)
        if refused:
            raise OSError(
                errno.EFAULT, f"a reply must not be larger than {self._intake.max_size} bytes"
            )

    def sizeop(self, id: SupportsIndex, kind: SupportsIndex, buffer: Bytes) -> int:
        """Transfer a second buffer of the open request `id`; returns how many bytes (M030).

        SIZEOP_IN: fill `buffer`, which is writable, from the start of what the caller gave as
        `sizeop_in`. SIZEOP_OUT: copy `buffer` to the start of the caller's `sizeop_out`. As many
        bytes as the smaller of both has.

        Raises OSError EINVAL when no such request is open or `kind` is neither; the others as
        `putop`. TypeError when `buffer` is not writable and has to be.
        """
        number = _as_id(id)
        direction = as_int(kind, "kind")
        if direction not in (SIZEOP_IN, SIZEOP_OUT):
            raise OSError(errno.EINVAL, "kind must be SIZEOP_IN or SIZEOP_OUT")
        view = memoryview(buffer)
        if direction == SIZEOP_IN and view.readonly:
            raise TypeError("buffer must be writable for SIZEOP_IN: a bytearray, or a view of one")
        view = view.cast("B")
        with self._lock:
            self._require_running()
            waiting = self._find(number)
            frame, caller = waiting.frame, waiting.caller
            assert frame is not None
            assert caller is not None
            if caller.has_gone():
                self._lose(waiting)
            if not waiting.descriptors:
                return 0
            if direction == SIZEOP_IN:
                data = os.pread(waiting.file, min(len(view), frame.in_size), 0)
                view[: len(data)] = data
                return len(data)
            count = os.pwrite(waiting.file, view[: frame.out_size], frame.in_size)
            waiting.out_count = max(waiting.out_count, count)
            return count

    # Clients

    def client(self) -> Client:
        """A new connection to this mount, for threads of this process and for fork children.

        It may be made before the mount is. Raises OSError EBADF when the instance is closed, EMFILE
        when descriptors run out.
        """
        with sockets.making:
            send, receive, line, life = self._connect()
            return Client(send, receive, line, life, ONCE if self._shared else 0)

    def send_handle(self, sock: socket.socket) -> None:
        """Hand a new connection to whoever calls `Client.recv_handle` at the other end of `sock`.

        `sock` is a connected Unix socket. Whoever has the connection may also unmount. The errors
        are those of `client`, and of sending.
        """
        with sockets.making:
            ends = self._connect()
        try:
            rights = sockets.pass_along([end.fileno() for end in ends])
            sock.sendmsg([frames.handle_frame(ONCE if self._shared else 0)], rights)
        finally:  # a connection that nobody got is swept like one whose client has gone
            for end in ends:
                end.close()

    def _connect(self) -> list[socket.socket]:
        """Make a connection; returns the client's ends."""
        ends: list[socket.socket] = []
        try:
            with self._lock:
                self._require_open()
                ends += sockets.datagram_pair()
                ends += sockets.stream_pair()
                ends.append(self._far_life.dup())
                send, receive, line, near_line, life = ends
                sockets.give_room(send, self._intake.max_size)
                ends.append(receive.dup())
                self._intake.add(Connection(ends[-1], near_line))
                return [send, receive, line, life]
        except BaseException:
            for end in ends:
                end.close()
            raise

    # The end

    def close(self) -> None:
        """Force the unmount (M053): every parked caller is released with ENXIO.

        Waiting getops raise ENXIO. The index is free again (M051). Closing again does nothing.
        A shared instance is closed in this process only; the mount dies with the last one.
        """
        try:
            self._end()
        except BaseException:  # of a signal handler: nobody may be left parked for it
            self._end()
            raise

    def _end(self) -> None:
        with self._lock:
            if self._freed:
                return
            if not self._closed:
                self._state = State.DYING
                if not self._shared:
                    sockets.hang_up(self._life)
                self._intake.ring()
                self._cloner.release(self._index)
                self._closed = True
            self._free()

    def _free(self) -> None:
        """Close everything when nobody is in getop; who is will see to it when he leaves."""
        with self._lock:
            if not self._inside and not self._freed:
                self._state = State.DEAD
                self._life.close()
                self._far_life.close()
                self._intake.close()
                if self._counter is not None:
                    self._counter.close()
                while self._open:
                    _, waiting = self._open.popitem()
                    waiting.close_file()
                    if waiting.caller is not None:
                        waiting.caller.close()
                self._freed = True

    def forked(self) -> None:
        """In a fork child: a shared instance serves on, another one is closed."""
        for waiting in self._open.values():
            waiting.close_file()
        self._start()
        if self._freed:
            return
        if self._shared and not self._closed:
            self._intake.reopen()
            self._intake.gate.add_line(self._life_number)
        else:
            self._closed = True
            self._cloner.release(self._index)
            self._free()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.close()

    # What the mount's state allows

    def _require_open(self) -> None:
        if self._closed:
            if os.getpid() != self._opener and not self._shared:
                raise OSError(
                    errno.EBADF,
                    "the instance belongs to the process that opened it; open(shared=True) makes "
                    "one that fork children can serve",
                )
            raise OSError(errno.EBADF, "the instance is closed")

    def _require_running(self) -> None:
        """Raise what an operation on a mount gets that does not run (M014, M050)."""
        self._require_open()
        match self.state:
            case State.RUNNING:
                return
            case State.EMBRYONIC:
                raise OSError(errno.ENOENT, "the instance is not mounted: call mount()")
            case State.DEAD:
                raise OSError(errno.ENOENT, "the mount is dead; close the instance")
            case State.MOUNTING:
                raise OSError(errno.ENXIO, "the mount is not running yet: call start()")
            case _:
                raise OSError(errno.ENXIO, "the mount is dying")

    def _find(self, number: int) -> Waiting:
        """The open request with this id."""
        if self._state is not State.RUNNING:
            self._require_running()
        waiting = self._open.get(number)
        if waiting is None:
            self._require_running()
            raise OSError(errno.EINVAL, f"no request {number} is open")
        return waiting

    def _lose(self, waiting: Waiting) -> NoReturn:
        """The caller of an open request has gone."""
        self._require_running()
        self._open.pop(waiting.id, None)
        waiting.close_file()
        raise OSError(errno.EINVAL, f"the caller of request {waiting.id} has gone")


def _new_counter() -> IO[bytes]:
    return tempfile.TemporaryFile(buffering=0)


def _as_id(value: SupportsIndex) -> int:
    try:
        return index(value)
    except TypeError:
        raise TypeError(f"id must be an int, not {type(value).__name__}") from None
