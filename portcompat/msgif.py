"""The message interface of a user-space server: requests, replies by id, and a mount's life."""

import socket
from typing_extensions import Buffer
from enum import Enum, IntEnum
from typing import Final, NamedTuple, Self, SupportsIndex

DEFAULT_MAX_SIZE: Final = 65536


class State(Enum):
    """Where a mount is in its life (M050)."""

    EMBRYONIC = "embryonic"  # opened, not mounted
    MOUNTING = "mounting"  # requests are queued already, and not yet taken
    RUNNING = "running"
    DYING = "dying"  # being closed: the callers are released
    DEAD = "dead"


class SizeOp(IntEnum):
    """The two directions of `Instance.sizeop`."""

    SIZEOP_IN = 1  # from the client to the server
    SIZEOP_OUT = 2  # from the server to the client


SIZEOP_IN: Final = SizeOp.SIZEOP_IN
SIZEOP_OUT: Final = SizeOp.SIZEOP_OUT


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


class Cloner:
    """Hands out instances by number (M051): at most `max_instances` at a time.

    Raises ValueError when `max_instances` is less than 1, TypeError when it is no int.
    """

    def __init__(self, max_instances: SupportsIndex = 64) -> None: ...

    def open(self, *, shared: bool = False) -> "Instance":
        """A new instance with the lowest free index, embryonic.

        `shared`: fork children of this process have the server's end too, and may serve; the mount
        then lives until the last of them has closed it or died. An instance that is not shared is
        closed in a fork child, so that the death of the server's process is the mount's.

        Raises OSError EBUSY when `max_instances` are open (M051), EMFILE when descriptors run out,
        ENOTSUP where the system lacks what it takes (Windows).
        """


class Instance:
    """The server's end of a mount. A context manager that closes itself.

    Any number of threads may call any method at any time.
    """

    def mount(self, *, max_size: SupportsIndex = DEFAULT_MAX_SIZE, start: bool = True) -> None:
        """Bring the mount to life: requests are accepted from now on.

        `max_size`: the most bytes that the payload of a request or of a reply may have. `start`:
        False leaves the mount in MOUNTING, where requests are queued and not taken, until
        `start()`.

        Raises OSError EPERM in a process other than the one that opened the instance (M052), EBUSY
        when it is mounted already, EBADF when it is closed, and EMSGSIZE when the system's sockets
        cannot carry so much; ValueError when `max_size` is less than 1.
        """

    def start(self) -> None:
        """From MOUNTING to RUNNING. Raises OSError EINVAL in another state, EBADF when closed."""

    @property
    def state(self) -> State:
        """Where the mount is in its life (M050). A closed instance is DEAD."""
        raise NotImplementedError

    @property
    def index(self) -> int:
        """The instance's number among those of its cloner (M051)."""
        raise NotImplementedError

    @property
    def max_size(self) -> int:
        """What `mount` was told."""
        raise NotImplementedError

    @property
    def dropped(self) -> int:
        """How many casts were dropped for lack of room (M004).

        Clients count them, and say so with the next request of theirs that the server takes.
        """
        raise NotImplementedError

    def pending(self) -> int:
        """How many requests wait in the queue (M041)."""
        raise NotImplementedError

    def fileno(self) -> int:
        """A descriptor that is readable exactly while a request waits, or the mount is dead (M040).

        For a port, a selector, an event loop: nothing is to be read from it or written to it.
        It is the same number from open to close. Raises OSError EBADF when closed.
        """
        raise NotImplementedError

    def getop(self, room: SupportsIndex = DEFAULT_MAX_SIZE, block: bool = True) -> Request:
        """Take the request that is at the head of the queue (M005, M010-M014).

        `room`: the most payload bytes that the caller can take. `block`: wait for a request.

        Raises OSError EWOULDBLOCK (BlockingIOError) when the queue is empty and `block` is false
        (M010); E2BIG when the request at the head is larger than `room`, which stays there (M011);
        ENOENT before the mount and after its death (M050); ENXIO when it is mounting or dying, and
        in those who wait when it dies (M014); EBADF when the instance is closed; EINVAL when
        `room` is negative.
        """
        raise NotImplementedError

    def putop(self, id: SupportsIndex, rv: SupportsIndex = 0, payload: Buffer = b"") -> None:
        """Answer the request `id`: `rv` is 0 or an errno, which the caller sees raised (M020-M023).

        The payload of an answer with an errno is not handed on.

        Raises OSError EINVAL when no such request is open: unknown, answered, of a cast, or of a
        caller who has gone (M020, M056); EFAULT when the payload is larger than the mount's maximum,
        and the caller is released with that too (M021); E2BIG when it is larger than the caller's
        buffer, who may be answered again with less (M022); ENOENT and ENXIO as `getop`; EBADF
        when the instance is closed. ValueError when `rv` is negative.
        """

    def sizeop(self, id: SupportsIndex, kind: SupportsIndex, buffer: Buffer) -> int:
        """Transfer a second buffer of the open request `id`; returns how many bytes (M030).

        SIZEOP_IN: fill `buffer`, which is writable, from the start of what the caller gave as
        `sizeop_in`. SIZEOP_OUT: copy `buffer` to the start of the caller's `sizeop_out`. As many
        bytes as the smaller of both has.

        Raises OSError EINVAL when no such request is open or `kind` is neither; the others as
        `putop`. TypeError when `buffer` is not writable and has to be.
        """
        raise NotImplementedError

    def client(self) -> "Client":
        """A new connection to this mount, for threads of this process and for fork children.

        It may be made before the mount is. Raises OSError EBADF when the instance is closed, EMFILE
        when descriptors run out.
        """
        raise NotImplementedError

    def send_handle(self, sock: socket.socket) -> None:
        """Hand a new connection to whoever calls `Client.recv_handle` at the other end of `sock`.

        `sock` is a connected Unix socket. Whoever has the connection may also unmount. The errors
        are those of `client`, and of sending.
        """

    def close(self) -> None:
        """Force the unmount (M053): every parked caller is released with ENXIO.

        Waiting getops raise ENXIO. The index is free again (M051). Closing again does nothing.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Client:
    """A client's connection to a mount. A context manager that closes itself.

    Any number of threads may use it at a time, and fork children may go on to use it. Made by
    `Instance.client()` and `Client.recv_handle()`.
    """

    @classmethod
    def recv_handle(cls, sock: socket.socket) -> Self:
        """Take the connection that `Instance.send_handle` sends at the other end of `sock`.

        Raises OSError EPROTO when something else is sent, and the errors of receiving;
        EOFError when the other end closed.
        """
        raise NotImplementedError

    def call(
        self,
        optype: SupportsIndex,
        payload: Buffer = b"",
        *,
        opclass: SupportsIndex = 0,
        cookie: SupportsIndex = 0,
        timeout: float | None = None,
        adjustable: bool = False,
        reply_size: SupportsIndex | None = None,
        sizeop_in: Buffer = b"",
        sizeop_out: Buffer | None = None,
    ) -> bytes:
        """Queue a request, wait for the reply and return its payload (M003).

        `optype` and `opclass` are C ints, `cookie` is 0 to 2**64 - 1. `timeout`: seconds until the
        caller gives up, None for never. `reply_size`: the room for the reply, by default the
        mount's maximum; `adjustable`: it may grow (M022). `sizeop_in` and `sizeop_out` are what the
        server can reach with `sizeop` while the request is open; `sizeop_out` is writable, and is
        filled when the reply comes (M030).

        Raises OSError with the errno that the server answered (M023); ENXIO when the mount is not
        mounted, or dies meanwhile (M006, M053); EMSGSIZE when the payload is larger than the
        mount's maximum; EBADF when the client is closed; TimeoutError with ETIMEDOUT when the time
        is up, and then the request is withdrawn (M056). EINVAL for a timeout that is negative
        or NaN.
        """
        raise NotImplementedError

    def cast(
        self,
        optype: SupportsIndex,
        payload: Buffer = b"",
        *,
        opclass: SupportsIndex = 0,
        cookie: SupportsIndex = 0,
    ) -> bool:
        """Queue a request that wants no reply, and never wait (M004).

        Returns whether it was queued; without room it is dropped and counted. Raises OSError ENXIO
        when the mount is not mounted or dead (M006), EMSGSIZE and EBADF as `call`.
        """
        raise NotImplementedError

    @property
    def dropped(self) -> int:
        """How many casts of this client were dropped for lack of room (M004)."""
        raise NotImplementedError

    def unmount(self) -> None:
        """Mark the mount dead for everybody (M055). On one that is dead already it does nothing.

        Raises OSError ENXIO when it is not mounted yet, EBADF when the client is closed.
        """

    def close(self) -> None:
        """Give the connection up. Parked callers of this client are released with EBADF."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
