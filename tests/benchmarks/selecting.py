"""Selectors: what is ready among what is registered, and an echo over asyncio's loop."""

import asyncio
import errno
import os
import select
import selectors
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import repeat
from time import perf_counter
from typing import Any, Final

from portcompat import new_event_loop
from portcompat.selectors import EVENT_READ, EVENT_WRITE, PortSelector
from tests.benchmarks.measure import Timer, Timers

FEW: Final = 10
MANY = 10_000
TEXT: Final = b"x" * 64

Making = Callable[[str], AbstractContextManager[Timers]]


def ready(count: int, peer: Callable[[], selectors.BaseSelector]) -> Making:
    """`count` ready of `count` registered; `peer` is another selector."""

    @contextmanager
    def timers(backend: str) -> Iterator[Timers]:
        with ExitStack() as stack:
            ours = stack.enter_context(PortSelector(backend=backend))
            theirs = stack.enter_context(peer())
            for reader in _readable(stack, count):
                ours.register(reader, EVENT_READ)
                theirs.register(reader, EVENT_READ)
            yield _calls(ours.select), _calls(theirs.select)

    return timers


def ready_by_hand(count: int) -> Making:
    """The same against the kernel's call alone, which knows no keys."""

    @contextmanager
    def timers(backend: str) -> Iterator[Timers]:
        with ExitStack() as stack:
            ours = stack.enter_context(PortSelector(backend=backend))
            epoll = stack.enter_context(select.epoll())
            for reader in _readable(stack, count):
                ours.register(reader, EVENT_READ)
                epoll.register(reader, select.EPOLLIN)

            def by_hand(loops: int) -> float:
                poll = epoll.poll
                start = perf_counter()
                for _ in repeat(None, loops):
                    poll(None, count + 1)
                return perf_counter() - start

            yield _calls(ours.select), by_hand

    return timers


@contextmanager
def many_idle(backend: str) -> Iterator[Timers]:
    """One ready of MANY registered, and one of FEW."""
    with ExitStack() as stack:
        crowded = stack.enter_context(PortSelector(backend=backend))
        lonely = stack.enter_context(PortSelector(backend=backend))
        (reader,) = _readable(stack, 1)
        quiet, writer = os.pipe()
        stack.callback(os.close, quiet)
        stack.callback(os.close, writer)
        crowded.register(reader, EVENT_READ)
        lonely.register(reader, EVENT_READ)
        for number in range(MANY - 1):
            try:
                idle = os.dup(quiet)
            except OSError as error:
                if error.errno == errno.EMFILE:
                    error.add_note(f"{MANY} idle descriptors are needed: raise `ulimit -n`")
                raise
            stack.callback(os.close, idle)
            crowded.register(idle, EVENT_READ)
            if number < FEW - 1:
                lonely.register(idle, EVENT_READ)
        yield _calls(crowded.select), _calls(lonely.select)


def registering(peer: Callable[[], selectors.BaseSelector]) -> Making:
    """register and unregister."""

    def cycles(selector: selectors.BaseSelector, reader: int) -> Timer:
        register, unregister = selector.register, selector.unregister

        def run(loops: int) -> float:
            start = perf_counter()
            for _ in repeat(None, loops):
                register(reader, EVENT_READ)
                unregister(reader)
            return perf_counter() - start

        return run

    return _both(peer, cycles)


def modifying(peer: Callable[[], selectors.BaseSelector]) -> Making:
    """modify, to other events and back."""

    def cycles(selector: selectors.BaseSelector, reader: int) -> Timer:
        modify = selector.modify
        selector.register(reader, EVENT_READ)

        def run(loops: int) -> float:
            start = perf_counter()
            for _ in repeat(None, loops):
                modify(reader, EVENT_READ | EVENT_WRITE)
                modify(reader, EVENT_READ)
            return perf_counter() - start

        return run

    return _both(peer, cycles)


def echo(count: int, peer: Callable[[], asyncio.AbstractEventLoop]) -> Making:
    """`count` connections within a loop: each says something and hears it. `peer` makes a loop."""

    @contextmanager
    def timers(backend: str) -> Iterator[Timers]:
        former = os.environ.get("PORTCOMPAT_BACKEND")
        os.environ["PORTCOMPAT_BACKEND"] = backend
        with ExitStack() as stack:
            stack.callback(_set_environment, "PORTCOMPAT_BACKEND", former)
            yield (
                stack.enter_context(_echoing(new_event_loop(), count)),
                stack.enter_context(_echoing(peer(), count)),
            )

    return timers


def standard_epoll() -> selectors.BaseSelector:
    return selectors.EpollSelector()


def standard_poll() -> selectors.BaseSelector:
    return selectors.PollSelector()


def uvloop_loop() -> asyncio.AbstractEventLoop:
    import uvloop  # type: ignore[import-not-found,import-untyped,unused-ignore]

    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def _both(
    peer: Callable[[], selectors.BaseSelector],
    cycles: Callable[[selectors.BaseSelector, int], Timer],
) -> Making:
    @contextmanager
    def timers(backend: str) -> Iterator[Timers]:
        with ExitStack() as stack:
            ours = stack.enter_context(PortSelector(backend=backend))
            theirs = stack.enter_context(peer())
            (reader,) = _readable(stack, 1)
            yield cycles(ours, reader), cycles(theirs, reader)

    return timers


def _readable(stack: ExitStack, count: int) -> list[int]:
    """So many pipes with something in them."""
    readers = []
    for _ in range(count):
        reader, writer = os.pipe()
        stack.callback(os.close, reader)
        stack.callback(os.close, writer)
        os.write(writer, b"x")
        readers.append(reader)
    return readers


def _calls(call: Callable[[], object]) -> Timer:
    def run(loops: int) -> float:
        start = perf_counter()
        for _ in repeat(None, loops):
            call()
        return perf_counter() - start

    return run


def _set_environment(name: str, value: str | None) -> None:
    if value is None:
        del os.environ[name]
    else:
        os.environ[name] = value


class _Round:
    """All clients say something; it is over when all have heard it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.clients: list[_Client] = []
        self.open = 0  # ends of connections
        self.missing = 0

    async def run(self, loops: int) -> float:
        start = perf_counter()
        for _ in repeat(None, loops):
            self.missing = len(self.clients)
            self.over = self.loop.create_future()
            for client in self.clients:
                client.transport.write(TEXT)
            await self.over
        return perf_counter() - start


class _End(asyncio.Protocol):
    """The server's end of a connection."""

    def __init__(self, round_: _Round) -> None:
        self.round = round_

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.round.open += 1

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.round.open -= 1


class _Client(_End):
    """The other end."""

    heard = 0

    def data_received(self, data: bytes) -> None:
        self.heard += len(data)
        if self.heard >= len(TEXT):
            self.heard = 0
            self.round.missing -= 1
            if not self.round.missing:
                self.round.over.set_result(None)


@contextmanager
def _echoing(loop: asyncio.AbstractEventLoop, count: int) -> Iterator[Timer]:
    round_ = _Round(loop)

    async def open_all() -> asyncio.Server:
        server = await loop.create_server(lambda: _End(round_), "127.0.0.1", 0, backlog=count)
        host, port = server.sockets[0].getsockname()
        for _ in range(count):
            _, client = await loop.create_connection(lambda: _Client(round_), host, port)
            round_.clients.append(client)
        return server

    async def close_all() -> None:
        server.close()
        for client in round_.clients:
            client.transport.abort()
        while round_.open:
            await asyncio.sleep(0)

    server = loop.run_until_complete(open_all())
    try:
        yield lambda loops: loop.run_until_complete(round_.run(loops))
    finally:
        loop.run_until_complete(close_all())
        loop.close()
