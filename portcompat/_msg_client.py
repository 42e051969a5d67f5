"""A client of a mount: calls that are parked until their reply, casts, and the connection."""

import errno
import os
import select
import socket
import warnings
import weakref
from time import monotonic, sleep
from typing import Final, Self, SupportsFloat, SupportsIndex

from portcompat import _msg_frames as frames
from portcompat import _msg_sockets as sockets
from portcompat._checks import as_size, as_timeout
from portcompat._msg_channel import Channel, SecondBuffer, milliseconds
from portcompat._msg_frames import Bytes, Malformed
from portcompat._msg_outbox import Outbox

ONCE: Final = 1  # a flag of connections: a channel is for one request, as several processes serve

_CALL: Final = frames.WANTS_REPLY
_CALL_ADJUSTABLE: Final = frames.WANTS_REPLY | frames.ADJUSTABLE
_NO_LIMIT: Final = frames.NO_LIMIT
_read_reply: Final = frames.read_reply


class Client:
    """A client's connection to a mount. A context manager that closes itself.

    Any number of threads may use it at a time, and fork children may go on to use it. Made by
    `Instance.client()` and `Client.recv_handle()`.

    Whoever has a connection may withdraw its requests, and may unmount for everybody (M055): a
    process gets one by being given it, and is trusted with that.

    A connection is four sockets. Requests go through the two of the `Outbox`. `line` is the
    connection's own: the server says there when the mount is mounted, and hangs up to end the
    connection. `life` is common to all connections and hangs up when the mount dies.

    `_active` and `_free` are changed in single steps.
    """

    def __init__(
        self,
        send: socket.socket,
        receive: socket.socket,
        line: socket.socket,
        life: socket.socket,
        flags: int,
    ) -> None:
        self._outbox = Outbox(send, receive)
        self._line, self._life = line, life
        self._once = bool(flags & ONCE)
        self._max_size = 0  # not known before the mount is
        self._closed = False
        self._start()
        sockets.tell_when_forked(self)

    def _start(self) -> None:
        """What each process has for itself."""
        self._active: set[object] = set()  # those who use the sockets
        self._free: list[Channel] = []
        self._lines: list[select.poll] = []  # to ask whether the lines hang up; idle
        self._channels: weakref.WeakSet[Channel] = weakref.WeakSet()

    @classmethod
    def recv_handle(cls, sock: socket.socket) -> Self:
        """Take the connection that `Instance.send_handle` sends at the other end of `sock`.

        Raises OSError EPROTO when something else is sent, and the errors of receiving;
        EOFError when the other end is closed.
        """
        sockets.require()
        cloexec = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
        data, ancillary, _, _ = sock.recvmsg(frames.HANDLE_SIZE, sockets.PASSED_SPACE, cloexec)
        descriptors = sockets.passed(ancillary)
        ends: list[socket.socket] = []
        try:
            flags = frames.read_handle(data)
            kinds = (socket.SOCK_DGRAM, socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_STREAM)
            if len(descriptors) != len(kinds):
                raise OSError(errno.EPROTO, "what came is not a connection to a mount")
            for fd, kind in zip(descriptors, kinds, strict=True):
                ends.append(sockets.adopt(fd, kind))
            sockets.close_all(descriptors)
            send, receive, line, life = ends
            return cls(send, receive, line, life, flags)
        except BaseException as error:
            for end in ends:
                end.close()
            sockets.close_all(descriptors)
            if isinstance(error, Malformed):
                raise OSError(errno.EPROTO, "what came is not a connection to a mount") from error
            raise

    # Requests

    def call(
        self,
        optype: SupportsIndex,
        payload: Bytes = b"",
        *,
        opclass: SupportsIndex = 0,
        cookie: SupportsIndex = 0,
        timeout: SupportsFloat | SupportsIndex | None = None,
        adjustable: bool = False,
        reply_size: SupportsIndex | None = None,
        sizeop_in: Bytes = b"",
        sizeop_out: bytearray | memoryview | None = None,
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
        if type(payload) is not bytes:
            payload = frames.as_bytes(payload, "payload")
        deadline = None
        if timeout is not None:
            span = as_timeout(timeout)
            deadline = None if span is None else monotonic() + span
        flags = _CALL_ADJUSTABLE if adjustable else _CALL
        room = _NO_LIMIT if reply_size is None else as_size(reply_size, "reply_size")
        max_size = self._max_size or self._learn()
        if len(payload) > max_size:
            raise OSError(errno.EMSGSIZE, f"payload is larger than the mount's {max_size} bytes")
        second = None
        if sizeop_in or sizeop_out is not None:
            second = SecondBuffer(frames.as_bytes(sizeop_in, "sizeop_in"), sizeop_out)
        free = self._free
        channel: Channel | None = None
        try:
            try:
                channel = free.pop()
            except IndexError:
                channel = self._make_channel()
            self._active.add(channel)
            if self._closed:
                raise _closed()
            channel.number = number = channel.number + 1
            post = self._outbox.post
            if not post(flags, room, opclass, optype, cookie, payload, channel, second):
                self._wait_and_post(
                    flags, room, opclass, optype, cookie, payload, channel, second, deadline
                )
            data = None
            if deadline is None and number != 1:
                data = channel.wait_a_little(max_size)
            if data is None:
                data = channel.wait(deadline, max_size)
            if not data:
                raise self._ended()
            rv, out_count, answer = _read_reply(data, number)
            if second is not None:
                second.fill(min(out_count, second.out_size))
                second.close()
        except BaseException as error:
            if channel is not None:
                try:
                    self._withdraw(channel)
                except BaseException:  # of a signal handler: nothing may stay behind for it
                    self._withdraw(channel)
                    raise
            if second is not None:
                second.close()
            if isinstance(error, Malformed):
                raise OSError(errno.EPROTO, f"{error}") from error
            raise
        self._active.discard(channel)
        if self._once or number == _NO_LIMIT:
            channel.close()
        else:
            free.append(channel)
        if self._closed:
            self._close_sockets()
        if rv:
            raise OSError(rv, os.strerror(rv))
        return answer

    def cast(
        self,
        optype: SupportsIndex,
        payload: Bytes = b"",
        *,
        opclass: SupportsIndex = 0,
        cookie: SupportsIndex = 0,
    ) -> bool:
        """Queue a request that wants no reply, and never wait (M004).

        Returns whether it was queued; without room it is dropped and counted. Raises OSError ENXIO
        when the mount is not mounted or dead (M006), EMSGSIZE and EBADF as `call`.
        """
        payload = frames.as_bytes(payload, "payload")
        max_size = self._max_size or self._learn()
        if len(payload) > max_size:
            raise OSError(errno.EMSGSIZE, f"payload is larger than the mount's {max_size} bytes")
        me = object()
        try:
            self._active.add(me)
            if self._closed or self._is_over():
                raise self._ended()
            queued = self._outbox.post(0, 0, opclass, optype, cookie, payload, None, None)
            if not queued:
                self._outbox.drop()
            return queued
        finally:
            self._active.discard(me)
            if self._closed:
                self._close_sockets()

    def _is_over(self) -> bool:
        """Whether the mount is dead, or this connection."""
        try:
            lines = self._lines.pop()
        except IndexError:
            lines = select.poll()
            for line in (self._life, self._line):
                lines.register(line, 0)
        over = bool(lines.poll(0))
        self._lines.append(lines)
        return over

    @property
    def dropped(self) -> int:
        """How many casts of this client were dropped for lack of room (M004)."""
        return self._outbox.dropped

    def unmount(self) -> None:
        """Mark the mount dead for everybody (M055). On one that is dead already it does nothing.

        Raises OSError ENXIO when it is not mounted yet, EBADF when the client is closed.
        """
        if self._closed:
            raise _closed()
        if sockets.is_hung_up(self._life, self._line):
            return
        if not self._max_size:
            self._learn()
        sockets.hang_up(self._life)

    # The connection

    def close(self) -> None:
        """Give the connection up. Parked callers of this client are released with EBADF."""
        self._closed = True
        for user in list(self._active):
            if isinstance(user, Channel):
                user.hang_up()
        self._close_sockets()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.close()

    def forked(self) -> None:
        """In a fork child: the channels are the parent's, whose leaving must be seen (M056)."""
        for channel in list(self._channels):
            channel.close()
        self._outbox.start()
        self._start()

    def _close_sockets(self) -> None:
        """Close them when nobody uses them; who does will see to it when he leaves."""
        if not self._active:
            while self._free:
                self._free.pop().close()
            self._outbox.close()
            self._line.close()
            self._life.close()

    def _leave(self, user: object) -> None:
        self._active.discard(user)
        if self._closed:
            self._close_sockets()

    def _ended(self) -> OSError:
        if self._closed:
            return _closed()
        return OSError(errno.ENXIO, "the mount is dead, or its server has ended this connection")

    def _learn(self) -> int:
        """The mount's maximum, which its server tells when it mounts."""
        if self._closed:
            raise _closed()
        me = object()
        try:
            self._active.add(me)
            if self._closed:
                raise _closed()
            if sockets.is_hung_up(self._life, self._line):
                raise self._ended()
            size = frames.SIZE_LIMIT
            try:
                data = self._line.recv(size.size, socket.MSG_PEEK | sockets.NOWAIT)
            except BlockingIOError:
                raise OSError(errno.ENXIO, "the mount is not mounted yet") from None
            if len(data) != size.size:
                raise self._ended()
            (max_size,) = size.unpack(data)
            if not 0 < max_size <= frames.MOST:
                raise OSError(errno.EPROTO, f"the server says that payloads have {max_size} bytes")
            self._outbox.give_room(max_size)
            self._max_size = max_size
            return int(max_size)
        finally:
            self._leave(me)

    def _make_channel(self) -> Channel:
        with sockets.making:
            if self._closed:
                raise _closed()
            channel = Channel((self._life, self._line), self._max_size)
            self._channels.add(channel)
            return channel

    def _wait_and_post(
        self,
        flags: int,
        room: int,
        opclass: SupportsIndex,
        optype: SupportsIndex,
        cookie: SupportsIndex,
        payload: bytes,
        channel: Channel,
        second: SecondBuffer | None,
        deadline: float | None,
    ) -> None:
        """Queue a call for which there was no room."""
        posted = False
        while not posted:
            self._await_room(deadline)
            if self._closed or self._is_over():
                raise self._ended()
            if deadline is not None and monotonic() >= deadline:
                raise TimeoutError(errno.ETIMEDOUT, "no room in the queue within the timeout")
            posted = self._outbox.post(
                flags, room, opclass, optype, cookie, payload, channel, second
            )

    def _await_room(self, deadline: float | None) -> None:
        room = select.poll()
        room.register(self._outbox.send, select.POLLOUT)
        for line in (self._life, self._line):
            room.register(line, 0)
        # Not for longer than this: where poll calls a full way writable (the BSDs), and where the
        # client is closed meanwhile.
        sleep(0.001)
        room.poll(50 if deadline is None else min(50, milliseconds(deadline)))

    def _withdraw(self, channel: Channel) -> None:
        """Leave without a reply: whatever was queued or taken of this is nobody's now (M056)."""
        channel.close()
        # The server sees nobody there. On a dead mount nobody would look at what is queued.
        if channel.number and not self._is_over():
            self._outbox.take_back(channel)
        self._leave(channel)


def _closed() -> OSError:
    return OSError(errno.EBADF, "the client is closed")
