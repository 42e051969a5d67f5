"""Requests on pipes, sockets and terminals: what may have to wait for ever waits in a port."""

import errno
import select
from collections.abc import Callable
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Final

from portcompat import _transfers
from portcompat._constants import EBADFD, POLLERR, POLLHUP, POLLIN, POLLOUT, PORT_SOURCE_FD
from portcompat._events import PortTimeout
from portcompat._workers import Workers

if TYPE_CHECKING:
    from portcompat._aio_request import Request
    from portcompat._port import Port

Finish = Callable[["Request", int, int], None]
"""Called with a request, its result and its errno."""

_IDLE: Final = 1.0  # seconds that the port is kept without a request

_UNKNOWN: Final = errno.EOPNOTSUPP, errno.EINVAL  # from what has no RWF_NOWAIT: a terminal
_BROKEN: Final = POLLERR | POLLHUP
_BUFFER: Final[int] = getattr(select, "PIPE_BUF", 512)  # has room whenever POLLOUT is told


class Streams:
    """The requests on streams that no kernel does for us.

    Each is tried first without waiting (RWF_NOWAIT). What would have to wait is parked: all that
    are parked wait in one port and one thread, which tries again when the port says so. So any
    number may wait without holding up a worker, and each can be cancelled at any time (R310). Where
    nothing can be tried without waiting it is parked first, and then a worker makes the transfer;
    that one cannot be cancelled.

    Of the requests on one stream in one direction only one is here (`Request.after`).

    **The lock** is held by whoever tries, parks or cancels; so what it finds parked is not being
    tried. Who has it may take that of a port, and nobody the other way round. It is re-entrant for
    signal handlers.
    """

    def __init__(self, workers: Workers, finish: Finish) -> None:
        self._workers = workers
        self._finish = finish
        self._lock = RLock()
        self._parked: dict[int, list[Request]] = {}  # by descriptor: of one or both directions
        self._port: Port | None = None

    def run(self, request: "Request") -> None:
        """In a worker: do it if that needs no waiting, else have it done when it does not."""
        with self._lock:
            if request.done:  # cancelled
                return
            if _transfers.has_nowait:
                self._try(request)
            else:
                self._park(request)

    def cancel(self, request: "Request") -> bool:
        """Finish it with ECANCELED. False if it is beyond that."""
        with self._lock:
            if request.done or request.blocked:
                return False
            try:
                self._finish(request, -1, errno.ECANCELED)
                self._leave(request)
            except BaseException:  # of a signal handler: it has begun, and is to be done
                self._finish(request, -1, errno.ECANCELED)
                self._leave(request)
                raise
        return True

    # Inside the lock

    def _try(self, request: "Request", ready: bool = False) -> None:
        """`ready`: a port has said that it need not wait."""
        result, number = -1, 0
        try:
            result = self._transfer(request)
        except OSError as error:
            number = error.errno or errno.EIO
        if not number and result >= 0:
            self._finish(request, result, 0)
        elif not number or (number == errno.EAGAIN and request.blocks()):
            self._park(request)
        elif number not in _UNKNOWN:
            self._end(request, number)
        elif ready:
            self._block(request)
        else:
            self._park(request)

    def _transfer(self, request: "Request") -> int:
        """What was transferred; -1 if a write has more to do."""
        if request.op == _transfers.READ:
            return _transfers.read_ready(request.fd, request.buffers)
        request.sent += _transfers.write_ready(request.fd, request.left())
        if request.sent == request.size() or not request.blocks():
            return request.sent
        return -1

    def _end(self, request: "Request", number: int) -> None:
        """It failed; a write that was half done succeeded so far."""
        if request.sent:
            self._finish(request, request.sent, 0)
        else:
            self._finish(request, -1, number)

    def _park(self, request: "Request") -> None:
        try:
            others = self._parked.setdefault(request.fd, [])
            for other in others:
                if other.key is None or request.key is None or other.key[2:] != request.key[2:]:
                    # Its descriptor was closed, and another file got the number (R316).
                    self._end(other, errno.ECANCELED)
            others[:] = [other for other in others if not other.done and other is not request]
            others.append(request)
            self._await(request.fd)
        except OSError as error:
            number = error.errno or errno.EIO
            self._leave(request)
            self._end(request, errno.EBADF if number == EBADFD else number)

    def _await(self, fd: int) -> None:
        """Have the port tell when there is something to do for those that are parked on `fd`."""
        events = 0
        for request in self._parked[fd]:
            events |= POLLIN if request.op == _transfers.READ else POLLOUT
        if self._port is None:
            from portcompat._port import Port

            self._port = Port()
            self._workers.put(partial(self._serve, self._port), may_block=True)
        self._port.associate(fd, events)

    def _leave(self, request: "Request") -> None:
        """It is not parked any more."""
        others = self._parked.get(request.fd)
        if others is None or request not in others:
            return
        others.remove(request)
        if not others:
            del self._parked[request.fd]
            if self._port is not None:
                try:
                    self._port.dissociate(request.fd)
                except OSError:  # it has fired, or is closed
                    pass
                if not self._parked:
                    self._port.send(0)  # the thread may end

    def _block(self, request: "Request") -> None:
        request.blocked = True
        self._workers.put(partial(self._transfer_blocked, request), may_block=True)

    # The thread, and the workers

    def _serve(self, port: "Port") -> None:
        while True:
            try:
                event = port.get(None if self._parked else _IDLE)
            except PortTimeout:
                with self._lock:
                    if self._parked:
                        continue
                    self._port = None
                port.close()
                return
            if event.source == PORT_SOURCE_FD:
                with self._lock:
                    self._told(event.object, event.events)

    def _told(self, fd: int, revents: int) -> None:
        """The port has told of `fd`."""
        for request in list(self._parked.get(fd, ())):
            bit = POLLIN if request.op == _transfers.READ else POLLOUT
            if revents & (bit | _BROKEN) and request in self._parked.get(fd, ()):
                self._parked[fd].remove(request)
                if _transfers.has_nowait:
                    self._try(request, ready=True)
                else:
                    self._block(request)
        others = self._parked.get(fd)
        if others:
            try:
                self._await(fd)
            except OSError:
                for request in others:
                    self._end(request, errno.EBADF)
                del self._parked[fd]
        elif others is not None:
            del self._parked[fd]

    def _transfer_blocked(self, request: "Request") -> None:
        """Without the lock: what is ready should not have to wait."""
        result, number = -1, 0
        try:
            if request.op == _transfers.READ:
                result = _transfers.read_stream(request.fd, request.buffers)
            else:
                first = next(iter(request.left()), memoryview(b""))[:_BUFFER]
                request.sent += _transfers.write_stream(request.fd, [first])
                first.release()
                result = request.sent
        except OSError as error:
            number = error.errno or errno.EIO
        if number:
            self._end(request, number)
        elif request.op == _transfers.READ or result == request.size() or not request.blocks():
            self._finish(request, result, 0)
        else:
            with self._lock:
                request.blocked = False
                self._park(request)
