"""Requests under test: descriptors to make them on, and what becomes of them."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic, sleep

from portcompat import PORT_SOURCE_AIO, SIGEV_PORT, Port, PortEvent
from portcompat.aio import AioControlBlock, aio_close, aio_error, aio_read, aio_waitn
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._errors import errno_of
from portcompat.timers import SigEvent

CONTENT = bytes(range(100))
"""Of the file that most tests read from."""

NOT_OPEN = 1 << 29
"""A descriptor that is not open, and that nothing which a request opens can become."""

Ends = tuple[int, int]
"""The reading end of a pipe and its writing end."""


def to(port: Port | int, user: object = None) -> SigEvent:
    """Tell `port` of the completion."""
    return SigEvent(SIGEV_PORT, port=port, user=user)


def reading(port: Port, fd: int, user: object = None, size: int = 8) -> AioControlBlock:
    """A read of so many bytes that has been submitted."""
    block = AioControlBlock(fd, size, 0, to(port, user))
    aio_read(block)
    return block


def within(seconds: float, condition: Callable[[], object]) -> None:
    """Return when `condition` is true, which has to be so in so many seconds."""
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline
        sleep(0.001)


def finished(*blocks: AioControlBlock) -> list[int]:
    """Wait until all are done; their errors."""
    for block in blocks:
        within(SOON, partial(_is_done, block))
    return [aio_error(block) for block in blocks]


def taken(port: Port, block: AioControlBlock) -> PortEvent:
    """The event of `block`, which is to be the next."""
    event = port.get(SOON)
    assert event.source == PORT_SOURCE_AIO
    assert event.object is block
    return event


def _is_done(block: AioControlBlock) -> bool:
    return aio_error(block) != errno.EINPROGRESS


@contextmanager
def empty_pipe() -> Iterator[Ends]:
    """A pipe to read from in vain. What still waits there is cancelled in the end."""
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            errno_of(aio_close, end)


def hang_up(end: int) -> None:
    """Close an end of a pipe; its number stays in use, so that nobody else gets it meanwhile."""
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), end)


def fill(fd: int) -> int:
    """Write to a pipe or socket until it takes no more; how many bytes that was."""
    os.set_blocking(fd, False)
    size = count = 0
    try:
        while True:
            count = os.write(fd, bytes(1 << 16))
            size += count
    except BlockingIOError:
        os.set_blocking(fd, True)
        return size


def reap() -> None:
    """Take what tells nobody and has not been taken: it belongs to the whole process."""
    deadline = monotonic() + SOON
    while errno_of(aio_waitn, 4096, 1, 0.1) != errno.EAGAIN:
        assert monotonic() < deadline, "a request that tells nobody is still outstanding"
