"""What a kernel's asynchronous I/O does for one port."""

import errno
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Final

from portcompat._aio_request import Request
from portcompat._requests import requests
from portcompat._transfers import SYNC, WRITE
from portcompat.abc import Kaio

if TYPE_CHECKING:
    from portcompat._port_io import PortIO

# What the kernel says of requests that it cannot do so, and that a thread may be able to do; if
# not, it fails for the same reason. ECANCELED and EINTR: Linux cancels the requests of a thread
# that ends.
_REFUSED: Final = frozenset(
    {
        errno.EAGAIN,
        errno.ECANCELED,
        errno.EINTR,
        errno.EINVAL,
        errno.ENOMEM,
        errno.ENOSYS,
        errno.EOPNOTSUPP,
        errno.ESPIPE,
    }
)
_ENDED: Final = errno.ECANCELED, errno.EINTR


class KernelIO:
    """The requests of a port that the kernel has, or is to have as soon as there is room.

    It belongs to an engine and is used under the engine's lock.

    **Interruptions.** A report is taken off `_reports` when it has had its effect, and that it has
    it twice is the same as once: a request that is under way again, or with the workers, is not
    known by the token any more. `due` is set as long as there may be some left: whoever ends the
    interrupted change collects them (`Monitor._catch_up`).
    """

    def __init__(self, engine: "PortIO", kaio: Kaio) -> None:
        self.kaio = kaio
        self._taken = kaio.taken
        self.due = False  # a signal handler may have raised in `collect`
        self._engine = engine
        self._tokens = count(1)
        self._by_token: dict[int, Request] = {}
        self._waiting: deque[Request] = deque()  # for room
        self._reports: deque[tuple[int, int]] = deque()

    @property
    def idle(self) -> bool:
        return not (self._by_token or self._waiting)

    def start(self, request: Request) -> bool:
        """False if it is for the workers to do. It is begun by `flush` at the latest."""
        if not self._waiting:
            if self._submit(request):
                return True
            if not request.token:
                return False
        append = self._waiting.append
        request.start = True
        append(request)
        return True

    def flush(self) -> bool:
        """Have it begun. False if there is something to `collect` then."""
        return not self._by_token or self.kaio.flush()

    def collect(self, ready: bool = False) -> None:
        """Finish what the kernel reports, and give it what waits for room."""
        self.due = True
        self._read()
        while self._waiting:
            request = self._waiting[0]
            if not (request.done or request.token in self._by_token) and not self._submit(request):
                if request.token:  # there is no room
                    break
                self._hand_over(request)
            del self._waiting[0]
        if not self.flush():
            self._read()
        self.due = False

    def _read(self) -> None:
        reports = self._reports
        self.kaio.read(reports)
        while reports:
            token, result = reports[0]
            request = self._by_token.get(token)
            if request is not None:
                self._conclude(request, token, result)
            del reports[0]

    def cancel(self, request: Request) -> bool:
        """Whether it has been cancelled. If not, it is done or cannot be interrupted."""
        request.cancelled = True
        token = request.token
        if token in self._by_token:
            self.kaio.cancel(token, request.stream)
            self.collect()
        elif not request.done:  # it waits for room
            try:
                requests.finish(request, -1, errno.ECANCELED, self._engine)
            except BaseException:  # of a signal handler: it has begun, and is to be done
                requests.finish(request, -1, errno.ECANCELED, self._engine)
                raise
        return request.done and request.cancelled

    def _submit(self, request: Request) -> bool:
        """False: it is not begun; `request.token` is 0 if it never will be."""
        offset = request.offset
        if request.op != SYNC:
            if request.stream and not request.blocks():
                # io_uring waits all the same (seen on Linux 6.18), and that is for read(2) to say.
                request.token = 0
                return False
            if request.stream or request.append:
                offset = -1
            elif offset < 0:  # which -1 would not be for the kernel
                request.token = 0
                return False
        token = request.token = next(self._tokens)
        self._by_token[token] = request
        try:
            taken = self.kaio.submit(token, request.op, request.fd, request.left(), offset)
        except OSError:
            taken = False
            request.token = 0
        finally:
            if token in self._taken:
                request.start = True
            else:
                self._by_token.pop(token, None)
        return taken

    def _conclude(self, request: Request, token: int, result: int) -> None:
        engine = self._engine
        if result >= 0:
            sent = request.sent + result
            if self._has_more(request, result):
                append = self._waiting.append
                # Stores, and at once the call: it has the effect once.
                request.sent = sent
                del self._by_token[token]
                append(request)
                return
            request.cancelled = False
            requests.finish(request, sent, 0, engine)
        elif request.cancelled and -result in _ENDED:
            requests.finish(request, -1, errno.ECANCELED, engine)
        elif -result in _REFUSED:
            self._hand_over(request)
        else:
            request.cancelled = False
            sent = request.sent
            requests.finish(request, sent or -1, 0 if sent else -result, engine)
        self._by_token.pop(token, None)

    def _has_more(self, request: Request, result: int) -> bool:
        """Whether it is a write to a stream that is to go on until all is written."""
        return (
            request.stream
            and request.op == WRITE
            and 0 < result < request.size() - request.sent
            and not request.cancelled
            and request.blocks()
        )

    def _hand_over(self, request: Request) -> None:
        """To the workers."""
        if request.home is not None:
            request.home = None
            request.owner = {}
        requests.start(request, self._engine)
