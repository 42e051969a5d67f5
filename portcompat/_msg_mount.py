"""The life of a mount: its states, its connections, and how it ends."""

import errno
import os
import socket
import tempfile
import warnings
from threading import RLock
from typing import IO, Final, Protocol, Self, SupportsIndex

from portcompat import _msg_frames as frames
from portcompat import _msg_sockets as sockets
from portcompat._checks import as_count
from portcompat._msg_client import ONCE, Client
from portcompat._msg_intake import Intake
from portcompat._msg_peers import FIRST_SWEEP, Connection, Waiting
from portcompat._msg_values import DEFAULT_MAX_SIZE, State

_ALIVE: Final = (State.MOUNTING, State.RUNNING)


class Numbers(Protocol):
    """Where the index of an instance comes from."""

    def release(self, number: int) -> None:
        """The instance is closed."""


class Mount:
    """The server's end of a mount. A context manager that closes itself.

    Any number of threads may call any method at any time.

    The queue is what the kernel holds on the way from the clients: each connection is a pair of
    datagram sockets, and the descriptor of the instance is readable while one of them is. So
    nothing has to be pumped, a client that is killed or that breaks the rules has nothing but its
    own connection, and when the server is killed the kernel closes `life`, at whose other end every
    caller waits.

    `_lock` protects the connections and `_open`, the reply-wait list; nobody waits while he holds
    it, and it is re-entrant for signal handlers. The calls that every server makes take it by
    `acquire` inside a `try`, which costs half of a `with`. Of the threads that wait for a request
    one is in the kernel, with `_turn`. A request that is being taken is in the kernel, in the
    intake's line, or in the hand of a getop, and goes from one to the other in single steps.
    """

    def __init__(self, cloner: Numbers, number: int, shared: bool) -> None:
        self._cloner, self._index, self._shared = cloner, number, shared
        self._opener = os.getpid()
        self._state = State.EMBRYONIC
        self._closed = False
        self._freed = False
        self._intake = Intake(shared)
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
        self._sweep_at = FIRST_SWEEP  # how many are open when they are looked through

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
        with sockets.making, self._lock:
            self._require_open()
            if self._state is not State.EMBRYONIC:
                raise OSError(errno.EBUSY, f"the instance is {self._state.value} already")
            one, other = sockets.datagram_pair()
            with one, other:
                if not sockets.give_room(one, size):
                    raise OSError(errno.EMSGSIZE, f"sockets here cannot carry {size} bytes")
                capacity = one.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
            self._state = State.MOUNTING
            self._intake.mount(size, capacity)
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
        with sockets.making, self._lock:
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


def _new_counter() -> IO[bytes]:
    return tempfile.TemporaryFile(buffering=0)
