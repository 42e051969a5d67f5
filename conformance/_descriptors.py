"""Pairs of descriptors to watch: what goes into one end makes the other readable."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO

SOON = 10.0
"""Seconds to wait for an event that must come."""

A_WHILE = 0.02
"""Seconds to wait for an event that must not come."""


@contextmanager
def socket_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets, closed afterwards unless the test did."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@contextmanager
def pipe() -> Iterator[tuple[FileIO, FileIO]]:
    """The reading and the writing end of a pipe, closed afterwards unless the test did."""
    reading, writing = os.pipe()
    with FileIO(reading, "r") as reader, FileIO(writing, "w") as writer:
        yield reader, writer


@contextmanager
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname(), SOON)
        with ours:
            theirs, _ = listener.accept()
            with theirs:
                yield ours, theirs


def closed_number() -> int:
    """A number that is not open: the next that would be given out."""
    with socket.socket() as closed:
        return closed.fileno()
