"""How somebody is told that a request, or a list of them, is finished."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from portcompat._events import PortEvent
from portcompat._workers import Workers

if TYPE_CHECKING:
    from portcompat.abc import Backend


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
