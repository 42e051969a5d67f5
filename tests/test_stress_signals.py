"""Storms of signals: each message is counted."""

import os
import random
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count

import pytest

from portcompat import POLLIN, POLLOUT, Port, PortEvent, PortTimeout
from portcompat.conformance._descriptors import SOON, socket_pair
from portcompat.conformance._interruptions import uncollected
from portcompat.conformance._threads import in_thread
from tests.interruptions import Interrupted

Seconds = Callable[[int, int, int], int]
OnAlarm = Callable[[Callable[[], object], float], None]


@pytest.fixture
def seconds(scale: Seconds) -> float:
    return scale(4, 50, 600) / 10


@pytest.fixture
def on_alarm() -> Iterator[OnAlarm]:
    """Call something every so many seconds from a signal handler that interrupts system calls."""

    def start(handle: Callable[[], object], every: float) -> None:
        signal.signal(signal.SIGALRM, lambda *_: handle())
        signal.siginterrupt(signal.SIGALRM, True)
        signal.setitimer(signal.ITIMER_REAL, every, every)

    former = signal.getsignal(signal.SIGALRM)
    with uncollected():
        yield start
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


class Thrower:
    """A handler that raises, once for each time that it is armed."""

    def __init__(self) -> None:
        self.armed = False
        self.thrown = 0

    def __call__(self) -> None:
        if self.armed:
            self.armed = False
            self.thrown += 1
            raise Interrupted


def stop() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)


def test_what_handlers_send_during_all_sorts_of_calls_arrives_once(
    port: Port, on_alarm: OnAlarm, scale: Seconds
) -> None:
    seconds = scale(15, 100, 600) / 10
    numbers = count()  # a step of its own: a handler may be interrupted by the next signal
    straight = 0

    def handle() -> None:
        port.send(0, ("handler", next(numbers)))

    received: list[PortEvent] = []
    over = threading.Event()

    def get_until_over() -> list[PortEvent]:
        events: list[PortEvent] = []
        while not over.is_set():
            events += port.getn(3, 2, 0.002)
        return events

    getters = [in_thread(get_until_over) for _ in range(2)]
    with socket_pair() as (ours, theirs):
        on_alarm(handle, 0.001)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            port.send(0, ("straight", straight))
            straight += 1
            port.associate(ours, POLLOUT, ("ready", None))
            with suppress(PortTimeout):
                received.append(port.get(0.002))
            received += port.getn(4, 2, 0.000_5)
            port.associate(theirs, POLLIN, ("never", None))
            port.pending()
            port.dissociate(theirs)
        stop()
        over.set()
        for getter in getters:
            received += getter.result()
        received += port.getn(100_000, 1, 0)
    found = Counter(event.user for event in received)
    sent = next(numbers)
    assert sent > 100 * seconds
    assert [found["handler", number] for number in range(sent)] == [1] * sent
    assert [found["straight", number] for number in range(straight)] == [1] * straight
    assert {kind for kind, _ in found} <= {"handler", "straight", "ready"}


def test_a_handler_that_fills_the_port_that_it_interrupts_is_told_so(
    backend: str, on_alarm: OnAlarm, seconds: float
) -> None:
    sent: deque[None] = deque()
    refused = 0
    with Port(backend, max_events=4) as port, socket_pair() as (ours, _):

        def handle() -> None:
            nonlocal refused
            try:
                for _ in range(6):
                    port.send(0, "handler")
                    sent.append(None)
            except OSError:
                refused += 1

        received: list[PortEvent] = []
        on_alarm(handle, 0.001)
        end = time.monotonic() + seconds / 2
        while time.monotonic() < end:
            with suppress(OSError):
                port.associate(ours, POLLOUT, "ready")
            received += port.getn(3, 2, 0.001)
        stop()
        received += port.getn(100, 1, 0)
    assert refused > 0
    assert sum(event.user == "handler" for event in received) == len(sent)


def test_a_handler_that_raises_in_a_retrieval_loses_nothing(
    port: Port, on_alarm: OnAlarm, seconds: float
) -> None:
    throw = Thrower()
    over = threading.Event()

    def send() -> int:
        number = 0
        while not over.is_set():
            for number in range(number, number + 20):  # noqa: B020
                port.send(number)
            number += 1
            over.wait(0.001)
        return number

    received: list[int] = []
    sender = in_thread(send)
    on_alarm(throw, 0.000_3)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        events: list[PortEvent] = []
        try:
            throw.armed = True
            # One step: nothing is between the return and the store where a handler could raise.
            events = port.getn(7, 3, 0.001)
            throw.armed = False
        except Interrupted:
            pass
        received += [event.events for event in events]
    over.set()
    sent = sender.result()
    stop()
    received += [event.events for event in port.getn(100_000, 1, 0)]
    assert throw.thrown > 10
    assert received == list(range(sent))


def test_a_handler_that_raises_in_associate_leaves_it_done_or_not_done(
    port: Port, on_alarm: OnAlarm, seconds: float
) -> None:
    throw = Thrower()
    turn = 0

    with socket_pair() as (ours, theirs):
        on_alarm(throw, 0.000_3)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            turn += 1
            done = False
            try:
                throw.armed = True
                port.associate(ours, POLLOUT, turn)
                done = True
                port.associate(theirs, POLLOUT, turn)
                throw.armed = False
            except Interrupted:
                pass
            events = port.getn(4, 1, 0)
            assert {event.user for event in events} <= {turn}
            numbers = [event.object for event in events]
            assert len(set(numbers)) == len(numbers)
            assert not done or ours.fileno() in numbers
    stop()
    assert throw.thrown > 10


def test_a_handler_that_raises_in_get_loses_no_readiness(
    port: Port, on_alarm: OnAlarm, seconds: float
) -> None:
    throw = Thrower()
    turn = 0

    with socket_pair() as (ours, theirs):
        echo = in_thread(lambda: echo_all(theirs.fileno()))
        on_alarm(throw, 0.000_2)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            turn += 1
            port.associate(ours, POLLIN, turn)
            ours.send(b"x")
            event = None
            while event is None:
                try:
                    throw.armed = True
                    event = port.get(SOON)
                    throw.armed = False
                except Interrupted:
                    pass
            assert event.user == turn
            ours.recv(1)
        stop()
        ours.shutdown(2)
        echo.result()
    assert throw.thrown > 10


def echo_all(fd: int) -> None:
    while data := os.read(fd, 100):
        os.write(fd, data)


def test_a_storm_of_signals_makes_no_wait_shorter_and_loses_nothing(
    port: Port, on_alarm: OnAlarm, seconds: float
) -> None:
    on_alarm(lambda: None, 0.000_2)
    over = threading.Event()
    getters = [in_thread(port.get) for _ in range(4)]

    def shoot() -> None:
        chance = random.Random(1)
        while not over.wait(0.000_5):
            getter = chance.choice(getters)
            if not getter.over:
                signal.pthread_kill(getter.thread, signal.SIGALRM)

    shooter = in_thread(shoot)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        span = 0.01
        before = time.monotonic()
        assert port.getn(8, 8, span) == []
        assert time.monotonic() - before >= span
    over.set()
    shooter.result()
    stop()
    for number in range(4):
        port.send(number)
    assert sorted(getter.result().events for getter in getters) == [0, 1, 2, 3]
