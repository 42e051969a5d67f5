"""Requests to a server in another process: a mount against a Connection and against JSON-RPC."""

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import repeat
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from threading import Thread
from time import perf_counter

from portcompat import POLLIN, Port
from portcompat.msgif import Client, Cloner, Instance
from tests.benchmarks.measure import Timer, Timers

BATCH = 64
CLIENTS, SERVERS = 8, 4

_ROOM = 1 << 17
_ECHO = 1
_SMALL = bytes(64)
_LARGE = bytes(1 << 16)


@contextmanager
def call_against_connection(backend: str) -> Iterator[Timers]:
    """A call and its reply with 64 bytes each, against send_bytes and recv_bytes."""
    with _client(_serve) as client, _connection() as connection:
        yield _calls(client, _SMALL), _round_trips(connection, _SMALL)


@contextmanager
def large_call_against_connection(backend: str) -> Iterator[Timers]:
    """The same with 64 KiB."""
    with _client(_serve) as client, _connection() as connection:
        yield _calls(client, _LARGE), _round_trips(connection, _LARGE)


@contextmanager
def call_through_a_port(backend: str) -> Iterator[Timers]:
    """The same with 64 bytes, by a server that waits in a port for its descriptor."""
    with (
        _client(lambda instance: _serve_from_a_port(instance, backend)) as client,
        _connection() as connection,
    ):
        yield _calls(client, _SMALL), _round_trips(connection, _SMALL)


@contextmanager
def casts_against_connection(backend: str) -> Iterator[Timers]:
    """BATCH casts of 64 bytes and a call, against as many send_bytes and a round trip."""
    with _client(_serve) as client, _connection() as connection:

        def by_mount(loops: int) -> float:
            call, cast = client.call, client.cast
            start = perf_counter()
            for _ in repeat(None, loops):
                for _ in repeat(None, BATCH - 1):
                    cast(0, _SMALL)
                call(_ECHO, _SMALL)
            taken = perf_counter() - start
            assert not client.dropped, "what is dropped costs less"
            return taken

        def by_connection(loops: int) -> float:
            send, receive = connection.send_bytes, connection.recv_bytes
            start = perf_counter()
            for _ in repeat(None, loops):
                for _ in repeat(None, BATCH - 1):
                    send(b"-" + _SMALL)
                send(_SMALL)
                receive()
            return perf_counter() - start

        yield by_mount, by_connection


@contextmanager
def call_against_json_rpc(backend: str) -> Iterator[Timers]:
    """A call with 64 bytes, against a line of JSON each way over a Unix socket."""
    with _client(_serve) as client, _child(_serve_json) as channel, channel.makefile("rb") as lines:
        text = "x" * len(_SMALL)

        def by_json(loops: int) -> float:
            start = perf_counter()
            for number in range(loops):
                request = {"jsonrpc": "2.0", "method": "echo", "params": [text], "id": number}
                channel.sendall(json.dumps(request).encode() + b"\n")
                json.loads(lines.readline())
            return perf_counter() - start

        yield _calls(client, _SMALL), by_json


@contextmanager
def crowd_against_connection(backend: str) -> Iterator[Timers]:
    """A call of 64 bytes by each of CLIENTS processes at a time, to SERVERS threads of this one.

    The peer's threads wait for their share of the Connections.
    """
    with Cloner().open() as instance, ExitStack() as stack:
        instance.mount()
        clients = [stack.enter_context(instance.client()) for _ in range(CLIENTS)]
        pipes = [Pipe() for _ in range(CLIENTS)]

        def call(number: int, loops: int) -> None:
            _calls(clients[number], _SMALL)(loops)

        def exchange(number: int, loops: int) -> None:
            _round_trips(pipes[number][0], _SMALL)(loops)

        callers = [stack.enter_context(_child(partial(_at_work, call, n))) for n in range(CLIENTS)]
        peers = [
            stack.enter_context(_child(partial(_at_work, exchange, n))) for n in range(CLIENTS)
        ]
        for ours, _ in pipes:
            ours.close()
        for place in range(SERVERS):
            shares = [theirs for _, theirs in pipes[place::SERVERS]]
            Thread(target=_serve_connections, args=(shares,), daemon=True).start()
            Thread(target=_serve_until_it_ends, args=(instance,), daemon=True).start()
        yield partial(_all, callers), partial(_all, peers)


def _at_work(work: Callable[[int, int], None], number: int, channel: socket.socket) -> None:
    """Do it as often as the channel says, each time."""
    while wish := channel.recv(8):
        work(number, int.from_bytes(wish, "big"))
        channel.send(b"!")


def _all(channels: list[socket.socket], loops: int) -> float:
    start = perf_counter()
    for channel in channels:
        channel.send(loops.to_bytes(8, "big"))
    for channel in channels:
        channel.recv(1)
    return perf_counter() - start


def _serve_until_it_ends(instance: Instance) -> None:
    with suppress(OSError):
        _serve(instance)


def _serve_connections(connections: "list[Connection]") -> None:
    with suppress(EOFError, OSError):
        while True:
            for connection in wait(connections):
                assert isinstance(connection, Connection)
                connection.send_bytes(connection.recv_bytes())


def _calls(client: Client, payload: bytes) -> Timer:
    def by_mount(loops: int) -> float:
        call = client.call
        start = perf_counter()
        for _ in repeat(None, loops):
            call(_ECHO, payload)
        return perf_counter() - start

    return by_mount


def _round_trips(connection: "Connection", payload: bytes) -> Timer:
    def by_connection(loops: int) -> float:
        send, receive = connection.send_bytes, connection.recv_bytes
        start = perf_counter()
        for _ in repeat(None, loops):
            send(payload)
            receive()
        return perf_counter() - start

    return by_connection


@contextmanager
def _child(work: Callable[[socket.socket], object]) -> Iterator[socket.socket]:
    """A fork child at work, and the channel to it."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        try:
            ours.close()
            work(theirs)
        finally:
            os._exit(0)
    theirs.close()
    try:
        with ours:
            yield ours
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@contextmanager
def _client(serve: Callable[[Instance], object]) -> Iterator[Client]:
    """The client of a server in a fork child."""

    def open_and_serve(channel: socket.socket) -> None:
        with Cloner().open() as instance:
            instance.mount()
            instance.send_handle(channel)
            serve(instance)

    with _child(open_and_serve) as channel, Client.recv_handle(channel) as client:
        yield client


def _serve(instance: Instance) -> None:
    while True:
        request = instance.getop(_ROOM)
        if request.id:
            instance.putop(request.id, 0, request.payload)


def _serve_from_a_port(instance: Instance, backend: str) -> None:
    with Port(backend) as port:
        while True:
            port.associate(instance, POLLIN)
            port.get()
            request = instance.getop(_ROOM, block=False)
            if request.id:
                instance.putop(request.id, 0, request.payload)


@contextmanager
def _connection() -> Iterator["Connection"]:
    """A Connection whose other end answers, in a fork child, what begins with no dash."""
    ours, theirs = Pipe()

    def serve(_: socket.socket) -> None:
        while True:
            message = theirs.recv_bytes()
            if message[:1] != b"-":
                theirs.send_bytes(message)

    with ours, theirs, _child(serve):
        yield ours


def _serve_json(channel: socket.socket) -> None:
    with channel.makefile("rb") as lines:
        while line := lines.readline():
            request = json.loads(line)
            reply = {"jsonrpc": "2.0", "result": request["params"][0], "id": request["id"]}
            channel.sendall(json.dumps(reply).encode() + b"\n")
