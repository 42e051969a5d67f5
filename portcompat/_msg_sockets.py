"""Sockets of the message interface: pairs, descriptors passed along, readiness of many, fork."""

import errno
import os
import select
import socket
import sys
import weakref
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from threading import RLock
from typing import Final, Protocol

from portcompat._msg_frames import Malformed

MAX_PASSED: Final = 8  # descriptors that one message can bring; more are dropped by the kernel

NOWAIT: Final = getattr(socket, "MSG_DONTWAIT", 0)
TAKE: Final = NOWAIT | getattr(socket, "MSG_CMSG_CLOEXEC", 0)
SEND: Final = NOWAIT | getattr(socket, "MSG_NOSIGNAL", 0)
PASSED_SPACE: Final = socket.CMSG_SPACE(MAX_PASSED * 4) if hasattr(socket, "CMSG_SPACE") else 0

FULL: Final = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS})
"""What send says when there is no room; ENOBUFS is the BSDs' and macOS'."""

EMPTY: Final = frozenset(
    {errno.EAGAIN, errno.EWOULDBLOCK, errno.EBADF, errno.ECONNRESET, errno.ECONNREFUSED}
)
"""What receiving says when nothing is there, or the connection is closed."""

GONE: Final = frozenset(
    {errno.EPIPE, errno.ENOTCONN, errno.ENOTSOCK, errno.EDESTADDRREQ, errno.EMSGSIZE} | EMPTY | FULL
)
"""What sending a reply says when its caller has gone, or is broken and does not take it."""

# The room of a socket for requests and replies: many small ones, or some of the largest.
_LEAST_ROOM: Final = 1024 * 1024
_MOST_ROOM: Final = 1 << 30

Received = tuple[bytes, list[tuple[int, int, bytes]], int, object]
"""What recvmsg returns."""


def require() -> None:
    """Raise OSError ENOTSUP where the system lacks what mounts are made of."""
    if sys.platform == "win32" or not (hasattr(select, "epoll") or hasattr(select, "kqueue")):
        raise OSError(
            errno.ENOTSUP,
            "the message interface needs Unix sockets that pass descriptors, and epoll or kqueue",
        )


def datagram_pair() -> tuple[socket.socket, socket.socket]:
    """A way for requests: each end keeps them apart, and its reader does not see the other close.

    So it is readable exactly while one is in it.
    """
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)


def stream_pair() -> tuple[socket.socket, socket.socket]:
    """A line: either end hangs up, and the other sees it."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def reply_pair() -> tuple[socket.socket, socket.socket]:
    """A way for replies that tells the server, where the system can, that the caller has gone."""
    if sys.platform == "darwin":
        return datagram_pair()
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def give_room(sender: socket.socket, max_size: int) -> bool:
    """Let `sender` hold frames with such payloads. Returns whether the system allows that.

    poll(2) calls a socket writable when a quarter or less of it is filled, so a frame must fit
    the rest.
    """
    wanted = min(max(_LEAST_ROOM, 4 * max_size), _MOST_ROOM)
    try:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, wanted)
    except OSError:  # the BSDs refuse what is too much, Linux takes what there is
        pass
    return sender.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) * 3 // 4 > max_size + 4096


def passed(ancillary: Iterable[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors that a message brought."""
    found = array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)


def pass_along(descriptors: Sequence[int]) -> list[tuple[int, int, bytes]]:
    """The ancillary data with which a message brings them."""
    if not descriptors:
        return []
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors).tobytes())]


def close_all(descriptors: list[int]) -> None:
    """Close them and forget them; a signal handler cannot come between the two."""
    while descriptors:
        try:
            deque(map(os.close, map(list.pop, repeat(descriptors, len(descriptors)))), 0)
        except OSError:
            pass


def close_first(descriptors: list[int]) -> None:
    """Close the first one and take it out, in one step too."""
    deque(map(os.close, map(descriptors.pop, (0,))), 0)


def adopt(fd: int, kind: int | None = None) -> socket.socket:
    """The Unix socket of `fd`, under another number; `fd` stays open. Raises Malformed."""
    copy = [os.dup(fd)]
    try:
        end = socket.socket(fileno=copy[0])
    except OSError as error:
        close_all(copy)
        raise Malformed("a descriptor is no socket") from error
    if end.family != socket.AF_UNIX or (kind is not None and end.type != kind):
        end.close()
        raise Malformed("a descriptor is not the socket that it should be")
    return end


def hang_up(line: socket.socket) -> None:
    try:
        line.shutdown(socket.SHUT_RDWR)
    except OSError:  # the other end was faster
        pass


def is_hung_up(*lines: socket.socket) -> bool:
    """Whether the other end of one has closed, or either end has shut down."""
    poll = select.poll()
    for line in lines:
        if line.fileno() < 0:
            return True
        poll.register(line, 0)
    return bool(poll.poll(0))


def is_shut(end: socket.socket) -> bool:
    """Whether somebody has shut down a socket, which is ready for ever then."""
    if end.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(end, getattr(select, "POLLRDHUP", 0))
    return bool(poll.poll(0))


class Gate:
    """A descriptor that is readable while one of its sockets is, or a line has hung up.

    epoll on Linux, kqueue on macOS and the BSDs. In the kernel's eyes neither is ever writable.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._kqueue = None if self._epoll else select.kqueue()  # type: ignore[attr-defined,unused-ignore]
        self._poller = self._epoll or self._kqueue
        # The ready descriptors, each first in a pair; the arguments are 0, or -1 to wait, and how
        # many at most.
        self.poll: Callable[..., list[tuple[int, int]]] = (
            self._epoll.poll if self._epoll else self._wait
        )

    def add(self, fd: int) -> None:
        """Watch a socket that is read."""
        if self._epoll is not None:
            self._epoll.register(fd, select.EPOLLIN)
        else:
            self._change(fd, select.KQ_EV_ADD)  # type: ignore[attr-defined,unused-ignore]

    def add_line(self, fd: int) -> None:
        """Watch a line that is never written to from its other end."""
        if self._epoll is not None:
            self._epoll.register(fd, 0)
        else:
            self.add(fd)

    def remove(self, fd: int) -> None:
        try:
            if self._epoll is not None:
                self._epoll.unregister(fd)
            else:
                self._change(fd, select.KQ_EV_DELETE)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            pass

    def _change(self, fd: int, what: int) -> None:
        event = select.kevent(fd, select.KQ_FILTER_READ, what)  # type: ignore[attr-defined,unused-ignore]
        self._kqueue.control([event], 0, 0)  # type: ignore[union-attr,unused-ignore]

    def _wait(self, timeout: float, most: int = 1024) -> list[tuple[int, int]]:
        events = self._kqueue.control(None, most, None if timeout < 0 else timeout)  # type: ignore[union-attr,unused-ignore]
        return [(event.ident, 0) for event in events]

    def fileno(self) -> int:
        return self._poller.fileno()  # type: ignore[union-attr,unused-ignore]

    def close(self) -> None:
        self._poller.close()  # type: ignore[union-attr,unused-ignore]


def unlock(lock: RLock) -> None:
    """Release a lock on the way of an exception, which may have come instead of the lock."""
    if lock._is_owned():  # type: ignore[attr-defined]
        lock.release()


class Forked(Protocol):
    """Who has to see to something in a fork child."""

    def forked(self) -> None: ...


making: Final = RLock()
"""Held while descriptors are made and written down, so that no fork comes between."""

_concerned: weakref.WeakSet[Forked] = weakref.WeakSet()


def tell_when_forked(who: Forked) -> None:
    """Call `who.forked()` in the children, as long as somebody holds it."""
    _concerned.add(who)


def _in_child() -> None:
    making.release()
    for who in list(_concerned):
        who.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=making.acquire, after_in_parent=making.release, after_in_child=_in_child
    )
