"""An asyncio event loop that waits in a port's selector."""

import asyncio
import os
import sys
from typing import Any, Final

from portcompat._loops import new_event_loop
from portcompat.selectors import PortSelector

__all__ = ["PortEventLoop", "new_event_loop"]

_ALREADY_REAPED: Final = 255  # what asyncio says of a child whose status somebody else has taken


class PortEventLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop on a `PortSelector`, by default one of the default backend.

    A call from another thread wakes it through the selector and not by writing to a socket that is
    to be read. The end of a child process comes from its pidfd where the system has such a thing,
    which asyncio itself does from Python 3.12 on, and else from a thread. The rest is asyncio's.

    To have messages, timers and file events in the loop, make a port and let the loop wait for it
    like for any descriptor: `loop.add_reader(port, callback)`, where the callback takes what
    `port.getn(64, 1, 0)` returns.
    """

    _closed = True  # until it is made: asyncio's finalizer asks

    def __init__(self, selector: PortSelector | None = None) -> None:
        selector = PortSelector() if selector is None else selector
        if not isinstance(selector, PortSelector):
            raise TypeError(f"selector must be a PortSelector, not {type(selector).__name__}")
        self._wakeup = selector.wakeup
        self._pidfds: set[int] = set()  # of children that are watched here
        super().__init__(selector)

    def _write_to_self(self) -> None:
        # Called by other threads, perhaps when the loop has been closed: then nobody is woken.
        self._wakeup()

    if sys.platform != "win32" and sys.version_info < (3, 12):

        def close(self) -> None:
            super().close()
            while self._pidfds:
                os.close(self._pidfds.pop())

        async def _make_subprocess_transport(
            self, protocol: Any, args: Any, shell: Any, *rest: Any, **kwargs: Any
        ) -> Any:
            """As in the base class, which asks the policy for a watcher; the usual one, that starts
            a thread for each child, is passed by."""
            watcher = asyncio.get_child_watcher()
            if not hasattr(os, "pidfd_open") or type(watcher) is not asyncio.ThreadedChildWatcher:
                return await super()._make_subprocess_transport(  # type: ignore[misc]
                    protocol, args, shell, *rest, **kwargs
                )
            waiter = self.create_future()
            make: Any = asyncio.unix_events._UnixSubprocessTransport  # type: ignore[attr-defined]
            transport = make(self, protocol, args, shell, *rest, waiter=waiter, **kwargs)
            pid = transport.get_pid()
            done = self._child_watcher_callback  # type: ignore[attr-defined]
            try:
                pidfd = os.pidfd_open(pid)
            except OSError:  # of an older kernel, or there are no descriptors left
                watcher.add_child_handler(pid, done, transport)
            else:
                self._pidfds.add(pidfd)
                self.add_reader(pidfd, self._reap, pid, pidfd, transport)
            try:
                await waiter
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException:
                transport.close()
                await transport._wait()
                raise
            return transport

        def _reap(self, pid: int, pidfd: int, transport: Any) -> None:
            self.remove_reader(pidfd)
            self._pidfds.discard(pidfd)
            os.close(pidfd)
            try:
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            except ChildProcessError:
                code = _ALREADY_REAPED
            self._child_watcher_callback(pid, code, transport)  # type: ignore[attr-defined]
