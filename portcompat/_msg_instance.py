"""The server's end of a mount: taking requests and answering them."""

import errno
import os
from operator import index
from time import monotonic_ns
from typing import Final, NoReturn, SupportsIndex

from portcompat import _msg_frames as frames
from portcompat import _msg_sockets as sockets
from portcompat._checks import as_int, as_size
from portcompat._msg_frames import Bytes
from portcompat._msg_intake import FRESH, Hand
from portcompat._msg_mount import Mount
from portcompat._msg_peers import FIRST_SWEEP, Waiting
from portcompat._msg_sockets import unlock
from portcompat._msg_values import (
    DEFAULT_MAX_SIZE,
    SIZEOP_IN,
    SIZEOP_OUT,
    Flags,
    Request,
    State,
)

_SHOWN: Final = int(Flags.WANTS_REPLY | Flags.ADJUSTABLE | Flags.SECOND_BUFFER)
_FEW: Final = 8  # descriptors to ask the gate for: more take longer to ask for, ready or not

_SEND: Final = (sockets.SEND,)
_reply: Final = frames.pack_reply
_REPLY_MARK: Final = frames.REPLY_MARK
_CALLS: Final = (frames.WANTS_REPLY, frames.WANTS_REPLY | frames.ADJUSTABLE)
_HEAD: Final = frames.REQUEST_HEAD
_MARK: Final = frames.REQUEST_MARK
_unpack: Final = frames.unpack_request
_RUNNING: Final = State.RUNNING

_new: Final = tuple.__new__


class Instance(Mount):
    """The server's end of a mount. A context manager that closes itself.

    Any number of threads may call any method at any time. Made by `Cloner.open`.

    Requests of one client are taken in their order. When those of several were queued the clients
    say, so one that forges that goes before others, and loses its connection when that cannot be:
    after as many requests as its part of the queue can hold.
    """

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
        if type(room) is not int or room < 0:
            room = as_size(room, "room")
        hand = Hand()
        hand.received, hand.waiting = [], None
        try:
            self._inside.add(hand)
            if self._state is not _RUNNING:
                self._require_running()
            poll = self._intake.gate.poll
            request = None
            if block:
                try:
                    self._turn.acquire()
                    while request is None:
                        ready = poll(-1, _FEW)
                        if self._closed or len(ready) != 1 or ready[0][0] == self._life_number:
                            ready = self._look_further(ready)
                        request = self._take(ready, room, hand)
                except BaseException:
                    unlock(self._turn)
                    raise
                self._turn.release()
            else:
                ready = poll(0, _FEW)
                if len(ready) > 1 or (ready and ready[0][0] == self._life_number):
                    self._require_running()
                    ready = poll(0)
                if ready:
                    request = self._take(ready, room, hand)
                if request is None:
                    raise BlockingIOError(errno.EWOULDBLOCK, "no request waits")
            self._inside.discard(hand)
            if self._closed:
                self._free()
            return request
        except BaseException:
            try:
                self._give_up(hand)
            except BaseException:  # of a signal handler: nothing may be lost for it
                self._give_up(hand)
                raise
            raise

    def _look_further(self, ready: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """All that is ready, of which `ready` may be a part, unless that is the end."""
        if len(ready) == _FEW:
            ready = self._intake.gate.poll(0)
        if self._closed or self._life_number in dict(ready):
            raise OSError(errno.ENXIO, "the mount has died")
        return ready

    def _take(self, ready: list[tuple[int, int]], room: int, hand: Hand) -> Request | None:
        """The request at the head, if there is one; it is in `hand` as long as it may go back.

        The usual case takes a short way: one connection is ready, and what it has fits, brings no
        descriptor, and is a cast or comes from a known caller who has just asked.
        """
        intake = self._intake
        try:
            self._lock.acquire()
            if (
                len(ready) == 1
                and (connection := intake.connections.get(ready[0][0])) is not None
                and room >= intake.max_size
                and not intake.line
                and intake.receive(connection, hand)
            ):
                data, brought, _, _ = hand.received[0]
                if not brought and len(data) >= _HEAD:
                    frame = _unpack(data)
                    mark, flags, lost, stamp, name, _, _, _, _, opclass, optype, cookie, size = (
                        frame
                    )
                    caller = connection.callers.get(name) if flags in _CALLS else None
                    if (
                        mark == _MARK
                        and size == len(data) - _HEAD <= intake.max_size
                        and not lost
                        and (not flags or (caller and monotonic_ns() - stamp < FRESH))
                    ):
                        hand.waiting = waiting = Waiting(data, connection, frame, caller)
                        number = self._register(waiting) if flags else 0
                        self._lock.release()
                        payload = data[_HEAD:]
                        return _new(Request, (number, opclass, optype, cookie, payload, flags))
                intake.line.append((hand.received[0], connection))
                hand.received.clear()
            request = self._take_head(ready, room, hand)
        except BaseException:
            unlock(self._lock)
            raise
        self._lock.release()
        return request

    def _take_head(self, ready: list[tuple[int, int]], room: int, hand: Hand) -> Request | None:
        """In the lock: take what is first, whatever it is and from wherever it comes."""
        waiting = self._intake.head(ready, room)
        if waiting is None:
            return None
        if isinstance(waiting, int):
            raise OSError(errno.E2BIG, f"the request has {waiting} bytes; take it with that room")
        hand.waiting = waiting
        _, flags, _, _, _, _, _, _, _, opclass, optype, cookie, _ = waiting.frame
        number = self._register(waiting) if flags else 0
        self._intake.remove_head(waiting)
        payload = waiting.data[_HEAD:]
        return _new(Request, (number, opclass, optype, cookie, payload, flags & _SHOWN))

    def _register(self, waiting: Waiting) -> int:
        """Move a request to the reply-wait list; returns its id (M002, M013)."""
        number = waiting.id
        if not number:
            if self._counter is None:
                self._last_id = number = self._last_id + 1
            else:
                number = os.lseek(self._counter.fileno(), 1, os.SEEK_CUR)
            waiting.id = number
        if len(self._open) >= self._sweep_at:
            self._sweep()
        self._open[number] = waiting
        return number

    def _sweep(self) -> None:
        """Forget the requests that were taken and whose callers have gone (M056)."""
        for number, waiting in list(self._open.items()):
            if waiting.caller is None or waiting.caller.has_gone():
                self._open.pop(number, None)
                waiting.close_file()
        self._sweep_at = max(FIRST_SWEEP, 2 * len(self._open))

    def _give_up(self, hand: Hand) -> None:
        """A getop ends without a request: what it has in hand goes back (M012)."""
        with self._lock:
            if not self._freed and (hand.received or hand.waiting or self._intake.line):
                if hand.waiting is not None:
                    self._open.pop(hand.waiting.id, None)
                self._intake.put_back(hand)
                self._intake.settle()
            self._inside.discard(hand)
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
        number = id if type(id) is int else _as_id(id)
        if type(rv) is not int or rv < 0:
            rv = _as_errno(rv)
        if type(payload) is not bytes:
            payload = frames.as_bytes(payload, "payload")
        try:
            self._lock.acquire()
            waiting = self._open.get(number)
            if waiting is None or self._state is not _RUNNING:
                waiting = self._find(number)
            caller = waiting.caller
            assert caller is not None
            _, flags, _, _, _, asked, reply_room, _, _, _, _, _, _ = waiting.frame
            size = len(payload)
            refused = size > self._intake.max_size
            if refused or size > reply_room:
                if caller.has_gone():
                    self._lose(waiting)
                if refused:
                    rv = errno.EFAULT
                elif not flags & frames.ADJUSTABLE:
                    raise OSError(
                        errno.E2BIG, f"the caller has room for {reply_room} bytes, not {size}"
                    )
            if rv:
                payload = b""
            reply = _reply(_REPLY_MARK, asked, rv, waiting.out_count, len(payload)) + payload
            sent: list[int] = []
            try:
                del self._open[number]
                # One step with noting it: a signal handler cannot come between.
                sent.extend(map(caller.send, (reply,), _SEND))
            except BaseException as error:
                if isinstance(error, OSError) and error.errno in sockets.GONE:
                    caller.close()
                    self._lose(waiting)
                if not sent:
                    self._open[number] = waiting
                raise
            if waiting.descriptors:
                waiting.close_file()
            if self._shared:
                caller.close()
        except BaseException:
            unlock(self._lock)
            raise
        self._lock.release()
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
            frame, caller = waiting.fields, waiting.caller
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


def _as_errno(value: SupportsIndex) -> int:
    rv = as_int(value, "rv")
    if rv < 0:
        raise ValueError(f"rv must be 0 or an errno, not {rv}")
    return rv


def _as_id(value: SupportsIndex) -> int:
    try:
        return index(value)
    except TypeError:
        raise TypeError(f"id must be an int, not {type(value).__name__}") from None
