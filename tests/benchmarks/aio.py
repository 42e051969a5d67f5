"""Random reads of 4 KiB from a cached file: a port against those who read by threads or by caio."""

import os
import random
import select
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib import import_module
from itertools import cycle, islice, repeat
from time import perf_counter
from typing import Any

from portcompat import Port
from tests.benchmarks.measure import Timer, Timers

SIZE = 4096
PAGES = 1024  # of the file
THREADS = 4

Peer = Callable[[int, int, Iterator[int]], AbstractContextManager[Timer]]


def against(peer: Peer, depth: int, kaio: str | None = None) -> Any:
    """`depth` reads under way at once, then all taken: by a port, and by `peer`."""
    return partial(_against, peer, depth, kaio)


@contextmanager
def _against(peer: Peer, depth: int, kaio: str | None, backend: str) -> Iterator[Timers]:
    with (
        _file() as fd,
        _port(backend, kaio, fd, depth, _offsets(1)) as by_port,
        peer(fd, depth, _offsets(1)) as by_peer,
    ):
        yield by_port, by_peer


@contextmanager
def _port(
    backend: str, kaio: str | None, fd: int, depth: int, offsets: Iterator[int]
) -> Iterator[Timer]:
    with Port(backend, kaio=kaio) as port:
        read, getn = port.aio.read, port.getn

        def by_port(loops: int) -> float:
            start = perf_counter()
            for _ in repeat(None, loops):
                for offset in islice(offsets, depth):
                    read(fd, SIZE, offset)
                for event in getn(depth, depth):
                    event.object.result()
            return perf_counter() - start

        yield by_port


@contextmanager
def thread_pool(fd: int, depth: int, offsets: Iterator[int]) -> Iterator[Timer]:
    """What people write without any library."""
    with ThreadPoolExecutor(THREADS) as pool:
        submit, pread = pool.submit, os.pread

        def by_pool(loops: int) -> float:
            start = perf_counter()
            for _ in repeat(None, loops):
                for future in [
                    submit(pread, fd, SIZE, offset) for offset in islice(offsets, depth)
                ]:
                    future.result()
            return perf_counter() - start

        yield by_pool


@contextmanager
def plain(fd: int, depth: int, offsets: Iterator[int]) -> Iterator[Timer]:
    """os.pread, one after the other: the limit, as long as everything is cached."""
    pread = os.pread

    def by_hand(loops: int) -> float:
        start = perf_counter()
        for _ in repeat(None, loops):
            for offset in islice(offsets, depth):
                pread(fd, SIZE, offset)
        return perf_counter() - start

    yield by_hand


@contextmanager
def caio_of_linux_aio(fd: int, depth: int, offsets: Iterator[int]) -> Iterator[Timer]:
    with _caio("linux_aio", fd, depth, offsets) as timer:
        yield timer


@contextmanager
def caio_of_io_uring(fd: int, depth: int, offsets: Iterator[int]) -> Iterator[Timer]:
    with _caio("linux_uring", fd, depth, offsets) as timer:
        yield timer


@contextmanager
def _caio(back_end: str, fd: int, depth: int, offsets: Iterator[int]) -> Iterator[Timer]:
    """caio without asyncio, which costs most of the time: its context's descriptor is polled."""
    module = import_module(f"caio.{back_end}")
    context = module.Context(max_requests=depth)
    flush = getattr(context, "flush", lambda: None)  # io_uring's only
    read, submit, take = module.Operation.read, context.submit, context.process_events
    poll = select.poll()
    poll.register(context.fileno, select.POLLIN)
    done: list[Any] = []

    def by_caio(loops: int) -> float:
        start = perf_counter()
        for _ in repeat(None, loops):
            requests = [read(SIZE, fd, offset) for offset in islice(offsets, depth)]
            for request in requests:
                request.set_callback(done.append)
            submit(*requests)
            flush()
            while len(done) < depth:
                poll.poll()
                try:
                    context.poll()
                except BlockingIOError:
                    pass
                while take():
                    pass
            for request in requests:
                request.get_value()
            done.clear()
        return perf_counter() - start

    yield by_caio


def _offsets(seed: int) -> Iterator[int]:
    chance = random.Random(seed)
    return cycle([chance.randrange(PAGES) * SIZE for _ in range(PAGES)])


@contextmanager
def _file() -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        file.write(os.urandom(SIZE * PAGES))
        file.flush()
        yield file.fileno()
