"""Messages within one thread: a port against the queues of the standard library."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from time import perf_counter

from portcompat import Port
from tests.benchmarks.measure import Timers

BATCH = 64


@contextmanager
def one_by_one(backend: str) -> Iterator[Timers]:
    """send, get against put, get of queue.Queue."""
    fifo: queue.Queue[None] = queue.Queue()
    put, take = fifo.put, fifo.get

    def by_queue(loops: int) -> float:
        start = perf_counter()
        for _ in repeat(None, loops):
            put(None)
            take()
        return perf_counter() - start

    with Port(backend) as port:
        send, get = port.send, port.get

        def by_port(loops: int) -> float:
            start = perf_counter()
            for _ in repeat(None, loops):
                send(1)
                get()
            return perf_counter() - start

        yield by_port, by_queue


@contextmanager
def batches_of_nothing(backend: str) -> Iterator[Timers]:
    """BATCH sends and one getn against put, get of queue.SimpleQueue that carries None."""
    fifo: queue.SimpleQueue[None] = queue.SimpleQueue()
    put, take = fifo.put, fifo.get

    def by_queue(loops: int) -> float:
        start = perf_counter()
        for _ in repeat(None, loops * BATCH):
            put(None)
            take()
        return perf_counter() - start

    with Port(backend) as port:
        send, getn = port.send, port.getn

        def by_port(loops: int) -> float:
            start = perf_counter()
            for _ in repeat(None, loops):
                for _ in repeat(None, BATCH):
                    send(1)
                getn(BATCH)
            return perf_counter() - start

        yield by_port, by_queue


@contextmanager
def batches_of_messages(backend: str) -> Iterator[Timers]:
    """The same, and the queue carries what an event carries: a number and an object."""
    fifo: queue.SimpleQueue[tuple[int, object]] = queue.SimpleQueue()
    put, take = fifo.put, fifo.get
    user = object()

    def by_queue(loops: int) -> float:
        start = perf_counter()
        for events in repeat(1, loops * BATCH):
            put((events, user))
            take()
        return perf_counter() - start

    with Port(backend) as port:
        send, getn = port.send, port.getn

        def by_port(loops: int) -> float:
            start = perf_counter()
            for _ in repeat(None, loops):
                for events in repeat(1, BATCH):
                    send(events, user)
                getn(BATCH)
            return perf_counter() - start

        yield by_port, by_queue
