"""The client's end of a mount's queue: putting requests in, and taking them back out."""

import socket
import struct
from operator import index
from threading import RLock
from time import monotonic_ns, sleep
from typing import Final, SupportsIndex

from portcompat import _msg_frames as frames
from portcompat import _msg_sockets as sockets
from portcompat._checks import as_int
from portcompat._msg_channel import Channel, SecondBuffer
from portcompat._msg_sockets import unlock

_MARK: Final = frames.REQUEST_MARK
_pack: Final = frames.pack_request

_COOKIES: Final = 1 << 64
_TOLD_AT_ONCE: Final = 0xFFFF  # dropped casts


class Held:
    """A request that was taken back out of the queue, and is about to be sent again."""

    __slots__ = ("descriptors", "received", "sent")

    def __init__(self, received: sockets.Received) -> None:
        self.received = received
        self.descriptors = sockets.passed(received[1])
        self.sent: list[int] = []


class Outbox:
    """A connection's part of the queue: a pair of datagram sockets, what the kernel holds between.

    The client has both ends of it, and the server the reading one too. A caller who leaves takes
    his request back out, unless the server has taken it: each datagram goes to one of them.

    `_lock` orders those who post and those who take back, in this process; it is re-entrant for
    signal handlers.
    """

    def __init__(self, send: socket.socket, receive: socket.socket) -> None:
        self.send, self._receive = send, receive
        self._send = send.send
        self.dropped = 0  # casts, for lack of room
        self._untold = 0  # those that the server has not been told of
        self._room = 0
        self.start()

    def start(self) -> None:
        """What each process has for itself."""
        self._lock = RLock()
        self._held: list[sockets.Received | Held] = []
        self._resends = False  # all that there was is in `_held`, and is being sent again

    def give_room(self, max_size: int) -> None:
        sockets.give_room(self.send, max_size)
        self._room = frames.REQUEST_HEAD + max_size

    def post(
        self,
        flags: int,
        room: int,
        opclass: SupportsIndex,
        optype: SupportsIndex,
        cookie: SupportsIndex,
        payload: bytes,
        channel: Channel | None,
        second: SecondBuffer | None,
    ) -> bool:
        """Queue a request if there is room; without a `channel` a cast."""
        descriptors: tuple[int, ...] = ()
        name = number = in_size = out_size = 0
        if channel is not None:
            name, number = channel.name, channel.number
            if number == 1:
                flags |= frames.WITH_CHANNEL
                descriptors = (channel.theirs.fileno(),)
            if second is not None:
                flags |= frames.WITH_FILE
                descriptors += (second.fileno(),)
                in_size, out_size = second.in_size, second.out_size
        try:
            self._lock.acquire()
            if self._held:  # this is a signal handler's call, or one was here
                if not self._resends:
                    self._drain()
                self._resend()
            told = self._untold
            if told > _TOLD_AT_ONCE:
                told = _TOLD_AT_ONCE
            stamp = monotonic_ns()
            size = len(payload)
            head = _pack(
                _MARK, flags, told, stamp, name, number, room, in_size, out_size, opclass, optype,
                cookie, size
            )  # fmt: skip
            if descriptors:
                rights = sockets.pass_along(descriptors)
                self.send.sendmsg((head, payload), rights, sockets.SEND)
            else:
                self._send(head + payload, sockets.SEND)
            if told:
                self._untold -= told
        except BaseException as error:
            unlock(self._lock)
            if isinstance(error, OSError) and error.errno in sockets.FULL:
                return False
            if isinstance(error, struct.error):
                as_int(opclass, "opclass")
                as_int(optype, "optype")
                _as_cookie(cookie)
            raise
        self._lock.release()
        if number == 1 and channel is not None:
            channel.theirs.close()  # the server has it: so we see when that closes it
        return True

    def drop(self) -> None:
        """Count a cast for which there was no room."""
        with self._lock:
            self.dropped += 1
            self._untold += 1

    def take_back(self, channel: Channel) -> None:
        """Take the latest request of a channel out of the queue, if it is there."""
        with self._lock:
            if self._resends:
                self._resend(channel)
            self._drain()
            self._resend(channel)

    def _drain(self) -> None:
        """In the lock: take all out of the queue that the server has not."""
        try:
            while True:  # one step with noting it: a signal handler cannot come between
                received = map(
                    self._receive.recvmsg, (self._room,), (sockets.PASSED_SPACE,), (sockets.TAKE,)
                )
                self._held.extend(received)
        except BlockingIOError:
            self._resends = True

    def _resend(self, without: Channel | None = None) -> None:
        """In the lock: queue again what was taken out, in its order."""
        while self._held:
            held = self._held[0]
            if not isinstance(held, Held):
                held = self._held[0] = Held(held)
            data = held.received[0]
            mine = without is not None and frames.is_request(data, without.name, without.number)
            if not mine and not held.sent:
                ancillary = sockets.pass_along(held.descriptors)
                try:
                    held.sent.extend(
                        map(self.send.sendmsg, ((data,),), (ancillary,), (sockets.SEND,))
                    )
                except OSError as error:
                    if error.errno in sockets.FULL:  # a fork relative has filled it up meanwhile
                        sleep(0.001)
                    else:
                        held.sent.append(0)  # it has nowhere to go
                    continue
            sockets.close_all(held.descriptors)
            if self._held and self._held[0] is held:
                del self._held[0]
        self._resends = False

    def close(self) -> None:
        self.send.close()
        self._receive.close()


def _as_cookie(value: SupportsIndex) -> int:
    try:
        number = index(value)
    except TypeError:
        raise TypeError(f"cookie must be an int, not {type(value).__name__}") from None
    if not 0 <= number < _COOKIES:
        raise ValueError(f"cookie must be 0 to 2**64 - 1, not {number}")
    return number
