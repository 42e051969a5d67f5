"""Mounts under load: many callers, callers that give up, and what is left of it all."""

import errno
import gc
import os
import random
import signal
import socket
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from portcompat import Port
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._processes import How, process, tell, told
from portcompat.conformance._servers import Server
from portcompat.conformance._threads import Call, in_thread
from portcompat.msgif import DEFAULT_MAX_SIZE, Client, Cloner, Instance, Request
from tests.interruptions import Interrupted

Scale = Callable[[int, int, int], int]

NEVER, ECHO = 0, 1

PATIENCE = 600.0


def reply_to(payload: bytes) -> bytes:
    """A reply as long as the request, which no other request has."""
    check = zlib.crc32(payload).to_bytes(4, "big")
    return check + payload[:-4] if len(payload) > 4 else check


def ask_and_check(client: Client, seed: int, count: int) -> int:
    """Make `count` calls of 1 byte to 64 KiB; returns how many bytes were sent."""
    dice = random.Random(seed)
    sent = 0
    for number in range(count):
        size = dice.randrange(1, 200) if number % 4 else dice.randrange(1, DEFAULT_MAX_SIZE + 1)
        payload = dice.randbytes(size)
        reply = client.call(ECHO, payload, opclass=number, cookie=seed)
        assert reply == reply_to(payload), f"call {number} of {seed} has another's reply"
        sent += size
    return sent


def be_a_client(channel: socket.socket) -> None:
    """A process with two threads that ask: told the seeds and the count, it tells the bytes."""
    with Client.recv_handle(channel) as client:
        seeds, count = told(channel)
        asking = [in_thread(partial(ask_and_check, client, seed, count)) for seed in seeds]
        tell(channel, sum(one.result(PATIENCE) for one in asking))


def serve_until(over: threading.Event, take: Callable[[], Request], instance: Instance) -> int:
    """Serve until `over`; returns how many bytes came."""
    received = 0
    while True:
        try:
            request = take()
        except OSError as error:
            assert error.errno in (errno.ENXIO, errno.EWOULDBLOCK, errno.ENOENT), error
            if over.is_set():
                return received
            continue
        received += len(request.payload)
        instance.putop(request.id, 0, reply_to(request.payload))


def taking_from(port: Port, instance: Instance, over: threading.Event) -> Callable[[], Request]:
    """How a thread takes requests that waits in a port of its own."""
    server = Server(instance, port)

    def take() -> Request:
        while not server.readable(0.1):
            if over.is_set():
                raise BlockingIOError(errno.EWOULDBLOCK, "it is over")
        return instance.getop(block=False)

    return take


@pytest.mark.deadline(300)
def test_each_reply_belongs_to_its_request(make_port: Callable[..., Port], scale: Scale) -> None:
    count = scale(250, 12_500, 125_000)
    over = threading.Event()
    with Cloner().open() as instance, ExitStack() as stack:
        instance.mount()
        servers = [
            in_thread(partial(serve_until, over, instance.getop, instance)),
            in_thread(partial(serve_until, over, instance.getop, instance)),
            *(
                in_thread(
                    partial(serve_until, over, taking_from(make_port(), instance, over), instance)
                )
                for _ in range(2)
            ),
        ]
        ways: list[How] = ["fork", "process"] * 4
        clients = [stack.enter_context(process(how, be_a_client)) for how in ways]
        for number, client in enumerate(clients):
            instance.send_handle(client.channel)
            tell(client.channel, ([2 * number, 2 * number + 1], count))
        sent = 0
        for client in clients:
            client.channel.settimeout(PATIENCE)
            sent += told(client.channel)
        over.set()
        with instance.client() as last:
            last.unmount()
        assert sum(server.result() for server in servers) == sent


@pytest.mark.deadline(120)
def test_calls_that_run_out_of_time_leave_no_trace(server_port: Server, scale: Scale) -> None:
    instance = server_port.instance
    counts = {"late": 0, "in time": 0}

    def serve() -> None:
        dice = random.Random(5)
        while True:
            try:
                request = instance.getop()
            except OSError:
                return
            time.sleep(dice.random() * 0.001)
            try:
                instance.putop(request.id, 0, request.payload)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    return
                counts["late"] += 1

    def ask(seed: int) -> int:
        dice = random.Random(seed)
        answered = 0
        for _ in range(scale(200, 2_000, 20_000)):
            payload = dice.randbytes(dice.randrange(1, 2_000))
            try:
                assert client.call(ECHO, payload, timeout=dice.random() * 0.004) == payload
            except TimeoutError:
                continue
            answered += 1
        return answered

    serving = in_thread(serve)
    with instance.client() as client:
        asking = [in_thread(partial(ask, seed)) for seed in range(6)]
        answered = sum(one.result(60) for one in asking)
        assert client.call(ECHO, b"the last", timeout=SOON) == b"the last"
        assert instance.pending() == 0
        assert not server_port.readable()
        client.unmount()
    serving.result()
    assert answered > 0
    assert counts["late"] > 0


@pytest.fixture
def server_port(port: Port) -> Iterator[Server]:
    """A running mount and a port that watches it."""
    with Cloner().open() as instance:
        instance.mount()
        yield Server(instance, port)


# A signal between the two steps of socket.socketpair leaves its ends to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.deadline(120)
def test_callers_that_signals_interrupt_leave_no_trace(server_port: Server, scale: Scale) -> None:
    instance = server_port.instance
    armed = False

    def handle(*_: object) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise Interrupted

    def serve() -> None:
        while True:
            try:
                request = instance.getop()
            except OSError:
                return
            try:
                instance.putop(request.id, 0, request.payload)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    return

    dice = random.Random(3)
    interrupted = answered = 0
    serving = [in_thread(serve) for _ in range(2)]
    former = signal.signal(signal.SIGALRM, handle)
    try:
        with instance.client() as client:
            other = in_thread(partial(ask_until, client, over := threading.Event()))
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0007)
            end = time.monotonic() + scale(10, 100, 600) / 10
            while time.monotonic() < end:
                payload = dice.randbytes(dice.randrange(1, 3_000))
                try:
                    armed = True
                    reply = client.call(ECHO, payload)
                    armed = False
                except Interrupted:
                    interrupted += 1
                else:
                    assert reply == payload
                    answered += 1
            armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            over.set()
            assert other.result() > 0
            assert client.call(ECHO, b"the last", timeout=SOON) == b"the last"
            assert instance.pending() == 0
            assert not server_port.readable()
            client.unmount()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    for one in serving:
        one.result()
    assert interrupted > 0
    assert answered > 0


def ask_until(client: Client, over: threading.Event) -> int:
    """Make calls that nothing interrupts; returns how many."""
    number = 0
    while not over.is_set():
        assert client.call(ECHO, b"%d" % number) == b"%d" % number
        number += 1
    return number


@pytest.mark.deadline(120)
def test_of_double_replies_the_first_counts(server_port: Server, scale: Scale) -> None:
    instance = server_port.instance
    refused = [0, 0, 0]

    def serve(place: int) -> None:
        while True:
            try:
                request = instance.getop()
            except OSError:
                return
            instance.putop(request.id, 0, request.payload)
            for _ in range(2):
                try:
                    instance.putop(request.id, 0, b"another reply")
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        return
                    refused[place] += 1

    serving = [in_thread(partial(serve, place)) for place in range(3)]
    with instance.client() as client:

        def ask(seed: int) -> None:
            for number in range(scale(200, 5_000, 50_000)):
                payload = b"%d %d" % (seed, number)
                assert client.call(ECHO, payload) == payload

        for one in [in_thread(partial(ask, seed)) for seed in range(6)]:
            one.result(100)
        client.unmount()
    for one in serving:
        one.result()
    assert sum(refused) > 0


def use_a_mount(port: Port) -> None:
    """A bit of everything, to its end."""
    with Cloner().open() as instance:
        instance.mount()
        server = Server(instance, port)
        with instance.client() as client, instance.client() as other:
            calls: list[Call[bytes]] = [
                in_thread(partial(one.call, number, bytes(number), sizeop_in=b"x" * number))
                for number in range(1, 5)
                for one in (client, other)
            ]
            for _ in calls:
                request = server.take()
                instance.sizeop(request.id, 1, bytearray(8))
                instance.putop(request.id, 0, request.payload)
            for call in calls:
                call.result()
            client.cast(1, b"x")
            server.take()
            client.cast(1, b"left in the queue")
            for timeout in (0, 0.001):
                with pytest.raises(TimeoutError):
                    other.call(1, timeout=timeout)
            ours, theirs = socket.socketpair()
            with ours, theirs:
                instance.send_handle(ours)
                with Client.recv_handle(theirs) as third:
                    parked = in_thread(lambda: third.call(2))
                    server.take()
                    assert server.take().optype == 2
                    client.unmount()
                    with pytest.raises(OSError) as caught:
                        parked.result()
                    assert caught.value.errno == errno.ENXIO


def test_descriptors_and_threads_are_as_many_as_before(port: Port, scale: Scale) -> None:
    use_a_mount(port)
    others = set(threading.enumerate())
    before = sorted(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(scale(5, 50, 500)):
        use_a_mount(port)
    for thread in set(threading.enumerate()) - others:
        thread.join(SOON)
    assert (sorted(os.listdir("/proc/self/fd")), threading.active_count()) == before


def test_memory_is_as_much_as_before(server_port: Server, scale: Scale) -> None:
    def blocks() -> int:
        gc.collect()
        return sys.getallocatedblocks()

    instance = server_port.instance
    rounds = scale(1_000, 10_000, 100_000)

    def serve() -> None:
        while (request := instance.getop()).opclass == 0:
            if request.id and request.optype == ECHO:
                instance.putop(request.id, 0, request.payload)

    serving = in_thread(serve)
    with instance.client() as client:

        def turn() -> None:
            assert client.call(ECHO, b"x" * 100) == b"x" * 100
            client.cast(3, b"y" * 100)
            with pytest.raises(TimeoutError):
                client.call(NEVER, b"z" * 100, timeout=0.000_1)

        for _ in range(100):
            turn()
        before = blocks()
        for _ in range(rounds):
            turn()
        after = blocks()
        client.cast(0, opclass=1)
        serving.result()
    # Callers who have gone are forgotten some at a time; one block a round would be a leak.
    assert after - before < rounds / 2
