"""Many messages, many threads: each is counted."""

import errno
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from time import monotonic

import pytest

from portcompat import POLLOUT, Port, PortEvent, PortTimeout
from portcompat.conformance._descriptors import SOON, socket_pair
from portcompat.conformance._threads import Call, in_thread

MakePort = Callable[..., Port]
Scale = Callable[[int, int, int], int]

THREADS = 8
END = -1
PATIENCE = 240.0

pytestmark = pytest.mark.deadline(PATIENCE)


@pytest.fixture(params=[0.005, 0.000_01], ids=["", "hasty"])
def hasty(request: pytest.FixtureRequest) -> Iterator[None]:
    """Threads take turns at CPython's own pace, and as often as they can."""
    former = sys.getswitchinterval()
    sys.setswitchinterval(request.param)
    yield
    sys.setswitchinterval(former)


def get_one(port: Port) -> list[PortEvent]:
    return [port.get()]


def get_many(port: Port) -> list[PortEvent]:
    return port.getn(16)


def get_exactly_two(port: Port) -> list[PortEvent]:
    return port.getn(2, 2, 0.001)


def numbers_until_end(port: Port, retrieve: Callable[[Port], list[PortEvent]]) -> list[int]:
    """What a thread gets until a message says END; other threads' ENDs are sent on."""
    numbers: list[int] = []
    while True:
        found = [event.events for event in retrieve(port)]
        numbers += found
        if END in found:
            for _ in range(found.count(END) - 1):
                port.send(END)
            return [number for number in numbers if number != END]


def send_all(port: Port, numbers: range) -> None:
    for number in numbers:
        while True:
            try:
                port.send(number)
            except OSError as error:
                assert error.errno == errno.EAGAIN
            else:
                break


def all_at_rest(calls: list[Call[PortEvent]]) -> None:
    with ThreadPoolExecutor() as watchers:
        list(watchers.map(Call.at_rest, calls))


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("retrieve", [get_one, get_many, get_exactly_two])
@pytest.mark.parametrize("slots", [64, 2_000_000])
def test_each_of_many_messages_reaches_one_of_many_threads_once(
    make_port: MakePort, scale: Scale, slots: int, retrieve: Callable[[Port], list[PortEvent]]
) -> None:
    port = make_port(max_events=slots)
    each = scale(2_000, 125_000, 500_000)
    getters = [in_thread(lambda: numbers_until_end(port, retrieve)) for _ in range(THREADS)]
    senders = [
        in_thread(lambda first=n * each: send_all(port, range(first, first + each)))
        for n in range(THREADS)
    ]
    for sender in senders:
        sender.result(PATIENCE)
    for _ in getters:
        while port.pending() == slots:
            assert not all(getter.over for getter in getters)
        port.send(END)
    received = [getter.result(PATIENCE) for getter in getters]
    assert sorted(number for numbers in received for number in numbers) == list(
        range(THREADS * each)
    )
    # What one sender sent a getter gets in that order.
    for numbers in received:
        for sender in range(THREADS):
            his = [number for number in numbers if number // each == sender]
            assert his == sorted(his)
