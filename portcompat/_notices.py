"""How somebody is told that a request, or a list of them, is finished."""

import errno
import os
import signal
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from portcompat._events import PortEvent
from portcompat._workers import Workers

if TYPE_CHECKING:
    from portcompat._requests import Request
    from portcompat.abc import Backend
    from portcompat.aio import AioControlBlock, AioResult

_SIGIO: Final[int] = getattr(signal, "SIGIO", 0)


class Notice(Protocol):
    """Each tells once."""

    def tell(self) -> None:
        """Does not wait. May be called again when a signal handler has raised in here, and by
        several threads; has no effect then."""


class PortNotice:
    """By an event of a port (SIGEV_PORT)."""

    __slots__ = ("backend", "event")

    def __init__(self, backend: "Backend", event: PortEvent) -> None:
        self.backend = backend
        self.event: PortEvent | None = event  # None once it is queued

    def tell(self) -> None:
        try:
            self.backend.post(self)
        except OSError:  # the port is closed, and its events with it (R177, R287)
            self.event = None


class SignalNotice:
    """By a signal (SIGEV_SIGNAL)."""

    __slots__ = ("_left", "_signo")

    def __init__(self, signo: int) -> None:
        self._signo = signo
        self._left: list[None] = [None]

    def tell(self) -> None:
        if self._left:
            os.kill(os.getpid(), self._signo)
            self._left.clear()


class CallNotice:
    """By a call in a thread (SIGEV_THREAD, R347)."""

    __slots__ = ("_call", "_left", "_workers")

    def __init__(self, workers: Workers, call: Callable[[], object]) -> None:
        self._workers = workers
        self._call = call
        self._left: list[None] = [None]

    def tell(self) -> None:
        try:
            self._left.pop()
        except IndexError:
            return
        try:
            self._workers.put(self._call, may_block=True)
        except RuntimeError:  # no thread can be made; whoever brings the next job tries again
            pass


class OldCalls:
    """The requests of `aioread` and `aiowrite`: those outstanding, and those for `aiowait`."""

    __slots__ = ("finished", "running", "waiting")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """In a fork child: none is left."""
        self.running: dict[AioResult, Request] = {}
        self.finished: deque[AioResult] = deque()
        self.waiting: list[None] = []  # one for each thread in aiowait


class ResultNotice:
    """By an AioResult (R350), to aiowait (R351), or else by SIGIO if there is a handler (R353)."""

    __slots__ = ("_block", "_old", "_result")

    def __init__(self, block: "AioControlBlock", result: "AioResult", old: OldCalls) -> None:
        self._block = block
        self._result: AioResult | None = result
        self._old = old

    def tell(self) -> None:
        result = self._result
        if result is None:
            return
        old = self._old
        error = self._block._error
        result.aio_errno = error
        result.aio_return = self._block._result or 0
        if error == errno.ECANCELED:  # R352
            self._result = None
        else:
            append = old.finished.append
            # A store and, at once, the call: it is told once.
            self._result = None
            append(result)
            if not old.waiting and _SIGIO and callable(signal.getsignal(_SIGIO)):
                os.kill(os.getpid(), _SIGIO)
        old.running.pop(result, None)
