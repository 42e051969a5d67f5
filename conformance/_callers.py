"""Callers of a mount: in a thread, in a fork child, and in a process that was handed a client."""

import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, Thread
from time import monotonic, sleep
from typing import Any, Final, Literal, Protocol

import pytest

from portcompat.conformance._descriptors import SOON
from portcompat.conformance._processes import Process, process, tell, told
from portcompat.conformance._threads import in_thread
from portcompat.msgif import Client, Instance

Where = Literal["thread", "fork", "process"]
PLACES: Final[tuple[Where, ...]] = ("thread", "fork", "process")


class Interrupted(Exception):
    """What the handler of a caller's signal raises."""


class Answer(Protocol):
    """What becomes of something that a caller was asked to do."""

    @property
    def over(self) -> bool:
        """Whether it is done."""
        ...

    def result(self, timeout: float = SOON) -> Any:
        """What was returned; raises what was raised. Fails if it is not done in time."""
        ...


class Caller:
    """Uses a client without keeping the test waiting."""

    def __init__(self, ask: Callable[..., Answer], kill: Callable[[], None] | None = None) -> None:
        self._ask = ask
        self._kill = kill

    def call(self, optype: int, payload: bytes = b"", **options: Any) -> Answer:
        return self._ask("call", optype, payload, **options)

    def cast(self, optype: int, payload: bytes = b"", **options: Any) -> None:
        """A cast, which is queued when this returns."""
        assert self._ask("cast", optype, payload, **options).result()

    def start(self, work: str, *arguments: Any, **options: Any) -> Answer:
        """Any method of the client."""
        return self._ask(work, *arguments, **options)

    def do(self, work: str, *arguments: Any, **options: Any) -> Any:
        """Any method or property of the client. Returns what that returned."""
        return self._ask(work, *arguments, **options).result()

    def exchange(self, size: int, **options: Any) -> Answer:
        """A call with a `sizeop_out` of `size` bytes; it returns the reply and what these are."""
        return self._ask("exchange", size, **options)

    def casts(self, count: int, opclass: int) -> Answer:
        """`count` casts, each tried until it is queued, with the optypes 0, 1, 2 ..."""
        return self._ask("casts", count, opclass)

    def kill(self) -> None:
        """End the caller's process by SIGKILL."""
        assert self._kill is not None, "a thread cannot be killed"
        self._kill()

    def interrupted_call(self, optype: int, payload: bytes = b"", after: float = 0.05) -> Answer:
        """A call that a signal handler ends by raising `Interrupted`, after so many seconds.

        Only a process has a main thread to spare for that.
        """
        return self._ask("interrupted", optype, payload, after)


@contextmanager
def caller(where: Where, instance: Instance) -> Iterator[Caller]:
    """A caller of the mount of `instance`, in a place of its own."""
    if where == "thread":
        with instance.client() as client:
            yield Caller(lambda *arguments, **options: _in_thread(client, arguments, options))
        return
    if where == "fork":
        with (
            instance.client() as client,
            process("fork", lambda channel: work(channel, client)) as forked,
        ):
            yield Caller(_Remote(forked).ask, forked.kill)
        return
    with process("process", receive_and_work) as started:
        instance.send_handle(started.channel)
        yield Caller(_Remote(started).ask, started.kill)


@contextmanager
def caller_of(where: Where, client: Client, handles: socket.socket) -> Iterator[Caller]:
    """A caller of a server that sends a handle to `handles` for each byte it gets there.

    A fork child uses `client`; a process gets the handle passed on.
    """
    if where == "fork":
        with process("fork", lambda channel: work(channel, client)) as forked:
            yield Caller(_Remote(forked).ask, forked.kill)
        return
    with process("process", receive_and_work) as started:
        handles.sendall(b"?")
        pass_on(handles, started.channel)
        yield Caller(_Remote(started).ask, started.kill)


def pass_on(source: socket.socket, target: socket.socket) -> None:
    """Send on what a handle is made of, unseen."""
    data, descriptors, _, _ = socket.recv_fds(source, 1 << 16, 16)
    try:
        socket.send_fds(target, [data], descriptors)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _in_thread(client: Client, arguments: tuple[Any, ...], options: dict[str, Any]) -> Answer:
    name, *rest = arguments
    if name == "interrupted":
        pytest.skip("a signal's handler runs in the main thread only, and that is the test's")
    return in_thread(lambda: _perform(client, name, *rest, **options))


def _perform(client: Client, name: str, *arguments: Any, **options: Any) -> Any:
    if name == "interrupted":
        return _interrupted(client, *arguments)
    if name == "exchange":
        buffer = bytearray(b"." * arguments[0])
        return client.call(1, sizeop_out=buffer, **options), bytes(buffer)
    if name == "casts":
        return _casts(client, *arguments)
    found = getattr(client, name)
    return found(*arguments, **options) if callable(found) else found


def receive_and_work(channel: socket.socket) -> None:
    """What a process does that has nothing but a channel: a client comes over that first."""
    with Client.recv_handle(channel) as client:
        work(channel, client)


def work(channel: socket.socket, client: Client) -> None:
    """Do what the channel says, each in a thread of its own, until it ends."""
    telling = Lock()

    def do(number: int, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        result: tuple[bool, Any]
        try:
            result = True, _perform(client, name, *arguments, **options)
        except Exception as error:
            result = False, error
        with telling:
            tell(channel, (number, *result))

    while True:
        try:
            order = told(channel)
        except EOFError:
            return
        if order[1] == "interrupted":
            do(*order)
        else:
            Thread(target=do, args=order, daemon=True).start()


def _casts(client: Client, count: int, opclass: int) -> None:
    for number in range(count):
        while not client.cast(number, opclass=opclass):
            sleep(0.001)  # nobody tells when there is room again


def _interrupted(client: Client, optype: int, payload: bytes, after: float) -> bytes:
    def interrupt(*_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise Interrupted

    former = signal.signal(signal.SIGALRM, interrupt)
    # A signal that comes as the kernel's wait begins is seen when that ends: hence the second.
    signal.setitimer(signal.ITIMER_REAL, after, after)
    try:
        return client.call(optype, payload)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


class _Remote:
    """The answers of another process, as they come in."""

    def __init__(self, worker: Process) -> None:
        self._channel = worker.channel
        self._asked = 0
        self._answers: dict[int, tuple[bool, Any]] = {}

    def ask(self, work: str, *arguments: Any, **options: Any) -> "_RemoteAnswer":
        self._asked += 1
        tell(self._channel, (self._asked, work, arguments, options))
        return _RemoteAnswer(self, self._asked)

    def look(self, number: int, timeout: float) -> tuple[bool, Any] | None:
        """The answer to order `number`, or None if it does not come in time."""
        deadline = monotonic() + timeout
        while number not in self._answers:
            left = max(0.0, deadline - monotonic())
            if not select.select([self._channel], [], [], left)[0]:
                return None
            found, *answer = told(self._channel)
            self._answers[found] = answer[0], answer[1]
        return self._answers[number]


class _RemoteAnswer:
    """One of them."""

    def __init__(self, remote: _Remote, number: int) -> None:
        self._remote = remote
        self._number = number

    @property
    def over(self) -> bool:
        return self._remote.look(self._number, 0) is not None

    def result(self, timeout: float = SOON) -> Any:
        answer = self._remote.look(self._number, timeout)
        assert answer is not None, f"still under way after {timeout:g} s"
        done, value = answer
        if not done:
            raise value
        return value
