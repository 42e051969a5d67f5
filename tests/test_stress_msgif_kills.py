"""Servers of mounts that are killed: everybody is released, once and soon."""

import errno
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import Event

import pytest

from portcompat import POLLIN, Port
from portcompat.conformance._callers import caller_of
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._processes import How, Process, process
from portcompat.conformance._threads import in_thread, waiting
from portcompat.msgif import Client, Cloner

Scale = Callable[[int, int, int], int]

PARKED = 64
NEVER, ECHO, COUNT = 0, 1, 2
"""What a server that is going to be killed is asked: nothing back, the same back, how many wait."""


class Releases:
    """How long the slowest caller took to be released, death by death.

    That is within a second. It counts from when the server is dead, as a busy machine takes longer
    to let a killed process die than we to release 64 callers. It may also hold up one release of
    fifty by that long, which proves nothing, so what holds for each is a longer bound.
    """

    def __init__(self) -> None:
        self._spans: list[float] = []

    def add(self, span: float) -> None:
        assert span < SOON
        self._spans.append(span)

    def check(self) -> None:
        late = sum(span >= 1 for span in self._spans)
        assert late <= len(self._spans) / 50, sorted(self._spans)[-5:]


def serve_until_killed(backend: str, channel: socket.socket) -> None:
    """Serve from a port; a byte on the channel is a wish for another handle."""
    parked = 0
    with Cloner().open() as instance, Port(backend) as port:
        instance.mount()
        instance.send_handle(channel)
        port.associate(channel, POLLIN, "wish")
        while True:
            port.associate(instance, POLLIN, "requests")
            if port.get().user == "wish":
                if not channel.recv(1):
                    return
                instance.send_handle(channel)
                port.associate(channel, POLLIN, "wish")
                continue
            request = instance.getop(block=False)
            if request.optype == NEVER:
                parked += 1
            else:
                counted = b"%d" % parked
                reply = counted if request.optype == COUNT else request.payload
                instance.putop(request.id, 0, reply)


@contextmanager
def server_to_be_killed(backend: str) -> Iterator[tuple[Process, Client]]:
    with (
        process("fork", partial(serve_until_killed, backend)) as server,
        Client.recv_handle(server.channel) as client,
    ):
        yield server, client


def await_parked(client: Client, number: int) -> None:
    deadline = time.monotonic() + SOON
    while int(client.call(COUNT, timeout=SOON)) < number:
        assert time.monotonic() < deadline


def how_it_ends(call: Callable[[], object]) -> tuple[int | None, float]:
    """The errno that `call` raises, None if none, and when it was over."""
    try:
        call()
    except OSError as error:
        return error.errno, time.monotonic()
    return None, time.monotonic()


def echo_until_it_ends(client: Client, begun: Event, seed: int) -> None:
    """Make calls as fast as possible until ENXIO. `begun` is set when one was answered."""
    dice = random.Random(seed)
    while True:
        payload = dice.randbytes(dice.randrange(1, 4096))
        try:
            assert client.call(ECHO, payload) == payload
        except OSError as error:
            assert error.errno == errno.ENXIO
            return
        begun.set()


@pytest.mark.deadline(300)
def test_a_killed_server_under_load_releases_64_parked_threads_once_and_soon(
    backend: str, scale: Scale
) -> None:
    releases = Releases()
    with ThreadPoolExecutor(PARKED) as threads:
        for turn in range(scale(15, 100, 1_000)):
            with server_to_be_killed(backend) as (server, client):
                begun = [Event() for _ in range(4)]
                load = [
                    in_thread(partial(echo_until_it_ends, client, each, seed))
                    for seed, each in enumerate(begun)
                ]
                calls = [
                    threads.submit(how_it_ends, partial(client.call, NEVER, bytes(number)))
                    for number in range(PARKED)
                ]
                # Some rounds with all of them taken, others with some on their way.
                await_parked(client, PARKED if turn % 2 else PARKED // 2)
                assert all(each.wait(SOON) for each in begun)
                server.kill()
                killed = time.monotonic()
                ends = [call.result(SOON) for call in calls]
                assert [code for code, _ in ends] == [errno.ENXIO] * PARKED
                releases.add(max(when for _, when in ends) - killed)
                for one in load:
                    one.result()
                assert how_it_ends(lambda: client.call(ECHO))[0] == errno.ENXIO
    releases.check()


@pytest.mark.deadline(300)
def test_a_killed_server_releases_64_parked_callers_in_8_processes(
    backend: str, scale: Scale
) -> None:
    releases = Releases()
    for turn in range(scale(4, 100, 1_000)):
        with ExitStack() as stack:
            server, client = stack.enter_context(server_to_be_killed(backend))
            how: How = "process" if turn % 2 else "fork"
            callers = [
                stack.enter_context(caller_of(how, client, server.channel)) for _ in range(8)
            ]
            calls = [one.call(NEVER, bytes(100)) for one in callers for _ in range(PARKED // 8)]
            await_parked(client, PARKED)
            server.kill()
            killed = time.monotonic()
            for call in calls:
                assert how_it_ends(call.result)[0] == errno.ENXIO
            releases.add(time.monotonic() - killed)
            for one in callers:
                assert how_it_ends(partial(one.do, "call", ECHO))[0] == errno.ENXIO
    releases.check()


def take_nothing_until_killed(channel: socket.socket) -> None:
    with Cloner().open() as instance:
        instance.mount()
        instance.send_handle(channel)
        signal.pause()


def test_a_killed_server_releases_64_callers_who_are_behind_a_long_queue(scale: Scale) -> None:
    """What is queued on a dead mount is nobody's: no caller takes his request back out of it."""
    releases = Releases()
    for _ in range(scale(2, 25, 250)):
        with (
            process("fork", take_nothing_until_killed) as server,
            Client.recv_handle(server.channel) as client,
        ):
            queued = sum(client.cast(0, b"x") for _ in range(1_000))
            assert queued > 500
            calls = [
                waiting(partial(how_it_ends, partial(client.call, NEVER))) for _ in range(PARKED)
            ]
            server.kill()
            killed = time.monotonic()
            ends = [call.result() for call in calls]
            assert [code for code, _ in ends] == [errno.ENXIO] * PARKED
            releases.add(max(when for _, when in ends) - killed)
    releases.check()


@pytest.mark.deadline(300)
def test_a_server_is_killed_again_and_again_while_its_callers_come_and_go(
    backend: str, scale: Scale
) -> None:
    """At whatever moment the signal comes, nobody hangs and nobody sees anything but ENXIO."""
    dice = random.Random(7)
    releases = Releases()
    for _ in range(scale(25, 250, 2_500)):
        with server_to_be_killed(backend) as (server, client):
            load = [
                in_thread(partial(echo_until_it_ends, client, Event(), seed)) for seed in range(8)
            ]
            time.sleep(dice.random() * 0.02)
            server.kill()
            killed = time.monotonic()
            for one in load:
                one.result()
            releases.add(time.monotonic() - killed)
    releases.check()
