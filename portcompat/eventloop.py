"""An asyncio event loop that waits in a port."""

import asyncio

from portcompat.selectors import PortSelector


class PortEventLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop for Unix on a `PortSelector`.

    `selector` is that; its port is there for timers, messages and file events, of which the loop
    takes none by itself. A call from another thread wakes the loop through the selector and not by
    writing to a socket. Child processes are watched by pidfd_open(2) where the kernel has it.
    """

    def __init__(self, selector: PortSelector | None = None) -> None:
        self.selector = PortSelector() if selector is None else selector
        super().__init__(self.selector)

    def _write_to_self(self) -> None:
        # From another thread, perhaps when the loop has been closed: then there is none to wake.
        self.selector.wakeup()


def new_event_loop() -> PortEventLoop:
    """Make an event loop: `asyncio.Runner(loop_factory=portcompat.new_event_loop)`."""
    return PortEventLoop()
