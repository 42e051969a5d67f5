"""The one-shot cycle of a descriptor: associate, make ready, get, read."""

import errno
import os
import select
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import repeat
from time import perf_counter

from portcompat import POLLIN, Port
from tests.benchmarks.measure import Timer, Timers

FEW = 10
MANY = 10_000


@contextmanager
def against_epoll(backend: str) -> Iterator[Timers]:
    with _pipe() as (reader, writer), Port(backend) as port, select.epoll() as epoll:
        modify, wait, read, write = epoll.modify, epoll.poll, os.read, os.write
        once = select.EPOLLIN | select.EPOLLONESHOT
        epoll.register(reader, once)

        def by_hand(loops: int) -> float:
            start = perf_counter()
            for _ in repeat(None, loops):
                modify(reader, once)
                write(writer, b"x")
                wait()
                read(reader, 1)
            return perf_counter() - start

        yield _cycles(port, reader, writer), by_hand


@contextmanager
def against_poll(backend: str) -> Iterator[Timers]:
    with _pipe() as (reader, writer), Port(backend) as port:
        poll = select.poll()
        register, unregister, wait = poll.register, poll.unregister, poll.poll
        read, write = os.read, os.write

        def by_hand(loops: int) -> float:
            start = perf_counter()
            for _ in repeat(None, loops):
                register(reader, POLLIN)
                write(writer, b"x")
                wait()
                unregister(reader)
                read(reader, 1)
            return perf_counter() - start

        yield _cycles(port, reader, writer), by_hand


@contextmanager
def many_idle(backend: str) -> Iterator[Timers]:
    """The cycle on a port with MANY idle associations, and on one with FEW."""
    with (
        _pipe() as (reader, writer),
        _pipe() as (quiet, _),
        Port(backend) as crowded,
        Port(backend) as lonely,
        ExitStack() as stack,
    ):
        for number in range(MANY):
            try:
                idle = os.dup(quiet)
            except OSError as error:
                if error.errno == errno.EMFILE:
                    error.add_note(f"{MANY} idle descriptors are needed: raise `ulimit -n`")
                raise
            stack.callback(os.close, idle)
            crowded.associate(idle, POLLIN)
            if number < FEW:
                lonely.associate(idle, POLLIN)
        yield _cycles(crowded, reader, writer), _cycles(lonely, reader, writer)


def _cycles(port: Port, reader: int, writer: int) -> Timer:
    associate, get, read, write = port.associate, port.get, os.read, os.write

    def by_port(loops: int) -> float:
        start = perf_counter()
        for _ in repeat(None, loops):
            associate(reader, POLLIN)
            write(writer, b"x")
            get()
            read(reader, 1)
        return perf_counter() - start

    return by_port


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)
