"""What a port has the kernel do of asynchronous I/O."""

from functools import partial
from typing import TYPE_CHECKING

from portcompat._turns import Turns
from portcompat.abc import Backend, KaioChoice

if TYPE_CHECKING:
    from portcompat._aio_request import Request
    from portcompat._kernel_io import KernelIO


class PortIO(Turns, Backend):
    """The calls that asynchronous I/O makes on a port, to have requests done and to hear of them.

    A request that nobody does here the workers do, and it is told by `post` all the same.
    """

    __slots__ = ("_choose_kaio", "_kernel_io")

    _choose_kaio: KaioChoice | None
    """None once it is known that no kernel does anything here."""
    _kernel_io: "KernelIO | None"

    def start_io(self, request: "Request", inside: bool) -> bool:
        with self._lock:
            if request.start:
                return True
            if self.closed or (self._busy and not inside):
                return False
            busy, mine = self._busy, False
            self._busy = True
            try:
                kernel = self._kernel_io or self._make_kernel_io()
                if kernel is None:
                    return False
                mine = request.claim(self)
                if not mine:
                    return True  # cancelled
                return kernel.start(request)
            finally:
                self._busy = busy
                if mine and not request.start:
                    request.owner = {}
                if not busy:
                    self._catch_up()

    def _make_kernel_io(self) -> "KernelIO | None":
        """In the lock: the port is about to have the kernel do its first request."""
        choose = self._choose_kaio
        if choose is None:
            return None
        try:
            kind = choose()
            if kind is None:
                self._choose_kaio = None
                return None
            kaio = kind()
        except (ImportError, OSError):
            self._choose_kaio = None
            return None
        from portcompat._kernel_io import KernelIO

        kernel = KernelIO(self, kaio)
        associations = self._associations
        try:
            associations.attend(kaio.fileno(), partial(kernel.collect, ready=True))
            self._kernel_io = associations.kernel = kernel
        except BaseException as error:
            self._kernel_io = associations.kernel = None
            associations.neglect(kaio.fileno())
            kaio.close()
            if not isinstance(error, OSError):
                raise
            self._choose_kaio = None
            return None
        self._attended = True
        return kernel

    def flush_io(self) -> None:
        with self._lock:
            kernel = self._kernel_io
            if kernel is None or self.abandoned or kernel.flush():
                return
        self.reap_io()

    def cancel_io(self, request: "Request") -> bool | None:
        with self._lock:
            kernel = self._kernel_io
            if kernel is None or request.done or request.owner.get(None) is not self:
                return None
            if self._busy:  # this interrupts a call: nothing can be cancelled
                return False
            self._busy = True
            try:
                return kernel.cancel(request)
            finally:
                self._busy = False
                self._catch_up()

    def reap_io(self) -> None:
        with self._lock:
            kernel = self._kernel_io
            if kernel is None or self._busy or self.abandoned:
                return
            self._busy = True
            try:
                kernel.collect()
            finally:
                self._busy = False
                self._catch_up()

    def io_fileno(self) -> int | None:
        kernel = self._kernel_io
        return None if kernel is None else kernel.kaio.fileno()

    def _close_io(self) -> None:
        """In the lock: the port is closed. What is under way goes on, and tells nobody (R287)."""
        kernel = self._kernel_io
        if kernel is not None:
            if kernel.idle:
                kernel.kaio.close()
                self._kernel_io = None
            else:
                from portcompat._requests import requests

                requests.workers.put(partial(self._drain_io, kernel), may_block=True)

    def _drain_io(self, kernel: "KernelIO") -> None:
        """In a worker: close the kernel's I/O when it has done all."""
        from portcompat._waits import attend

        attend(lambda: kernel.idle, [self])
        with self._lock:
            self._kernel_io = None
            kernel.kaio.close()
