"""A round trip between two threads: two ports against a pair by hand, and against asyncio."""

import asyncio
import os
import select
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import repeat
from threading import Thread
from time import perf_counter

from portcompat import Port
from tests.benchmarks.measure import Timer, Timers

# What a thread that echoes is told.
_AGAIN = 1
_END = 2


@contextmanager
def against_eventfd(backend: str) -> Iterator[Timers]:
    with _ports(backend) as by_port, _eventfds() as by_hand:
        yield by_port, by_hand


@contextmanager
def against_pipes(backend: str) -> Iterator[Timers]:
    with _ports(backend) as by_port, _pipes() as by_hand:
        yield by_port, by_hand


@contextmanager
def against_asyncio(backend: str) -> Iterator[Timers]:
    with _ports(backend) as by_port, _loops() as by_asyncio:
        yield by_port, by_asyncio


@contextmanager
def _ports(backend: str) -> Iterator[Timer]:
    with Port(backend) as here, Port(backend) as there:

        def echo() -> None:
            get, send = there.get, here.send
            while get().events != _END:
                send(_AGAIN)

        def round_trips(loops: int) -> float:
            get, send = here.get, there.send
            start = perf_counter()
            for _ in repeat(None, loops):
                send(_AGAIN)
                get()
            return perf_counter() - start

        thread = Thread(target=echo)
        thread.start()
        try:
            yield round_trips
        finally:
            there.send(_END)
            thread.join()


@contextmanager
def _eventfds() -> Iterator[Timer]:
    with ExitStack() as stack:
        here, there = os.eventfd(0, os.EFD_NONBLOCK), os.eventfd(0, os.EFD_NONBLOCK)
        stack.callback(os.close, here)
        stack.callback(os.close, there)
        here_epoll, there_epoll = select.epoll(), select.epoll()
        stack.enter_context(here_epoll)
        stack.enter_context(there_epoll)
        here_epoll.register(here, select.EPOLLIN)
        there_epoll.register(there, select.EPOLLIN)
        read, write = os.eventfd_read, os.eventfd_write

        def echo() -> None:
            wait = there_epoll.poll
            while True:
                wait()
                if read(there) == _END:
                    return
                write(here, _AGAIN)

        def round_trips(loops: int) -> float:
            wait = here_epoll.poll
            start = perf_counter()
            for _ in repeat(None, loops):
                write(there, _AGAIN)
                wait()
                read(here)
            return perf_counter() - start

        thread = Thread(target=echo)
        thread.start()
        try:
            yield round_trips
        finally:
            write(there, _END)
            thread.join()


@contextmanager
def _pipes() -> Iterator[Timer]:
    with ExitStack() as stack:
        here, to_here = os.pipe()
        there, to_there = os.pipe()
        for end in (here, to_here, there, to_there):
            stack.callback(os.close, end)
        here_poll, there_poll = select.poll(), select.poll()
        here_poll.register(here, select.POLLIN)
        there_poll.register(there, select.POLLIN)
        read, write = os.read, os.write

        def echo() -> None:
            wait = there_poll.poll
            while True:
                wait()
                if read(there, 1) == b"e":
                    return
                write(to_here, b"a")

        def round_trips(loops: int) -> float:
            wait = here_poll.poll
            start = perf_counter()
            for _ in repeat(None, loops):
                write(to_there, b"a")
                wait()
                read(here, 1)
            return perf_counter() - start

        thread = Thread(target=echo)
        thread.start()
        try:
            yield round_trips
        finally:
            write(to_there, b"e")
            thread.join()


@contextmanager
def _loops() -> Iterator[Timer]:
    """The leanest that asyncio can: plain callbacks, without a future or a task."""
    here, there = asyncio.new_event_loop(), asyncio.new_event_loop()
    to_here, to_there = here.call_soon_threadsafe, there.call_soon_threadsafe
    left = 0

    def ping() -> None:
        nonlocal left
        if left:
            left -= 1
            to_there(pong)
        else:
            here.stop()

    def pong() -> None:
        to_here(ping)

    def round_trips(loops: int) -> float:
        nonlocal left
        left = loops
        here.call_soon(ping)
        start = perf_counter()
        here.run_forever()
        return perf_counter() - start

    thread = Thread(target=there.run_forever)
    thread.start()
    try:
        yield round_trips
    finally:
        to_there(there.stop)
        thread.join()
        here.close()
        there.close()
