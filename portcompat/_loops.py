"""The way to an event loop that brings in asyncio only when one is made."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portcompat.eventloop import PortEventLoop


def new_event_loop() -> "PortEventLoop":
    """Make an asyncio event loop that waits in a port, for one thread to run.

    A loop factory: `asyncio.Runner(loop_factory=portcompat.new_event_loop)`, and from Python 3.12
    on `asyncio.run(main(), loop_factory=portcompat.new_event_loop)`. Raises what `PortSelector`
    raises.
    """
    from portcompat.eventloop import PortEventLoop

    return PortEventLoop()
