"""Many descriptors, many threads: each event is counted."""

import os
import random
import resource
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial

import pytest

from portcompat import POLLIN, POLLOUT, PORT_SOURCE_USER, Port, PortEvent, PortTimeout
from portcompat.conformance import needs
from portcompat.conformance._descriptors import A_WHILE, SOON, pipe, socket_pair
from portcompat.conformance._threads import Call, in_thread

Scale = Callable[[int, int, int], int]

GETTERS = 4
PATIENCE = 240.0


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """As many as the machine lets the process have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 12_000:
        pytest.skip(f"the process may have {hard} descriptors only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 12_000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Lines:
    """Pairs of sockets. Into each goes 0, 1, 2 … (mod 256), and has to come out so.

    A line belongs to the thread that got its event until that thread associates it again, so an
    event that comes twice finds `armed` false, or takes bytes away from under the first.
    """

    def __init__(self, port: Port, count: int, stack: ExitStack) -> None:
        self.port = port
        self.ends = [stack.enter_context(socket_pair()) for _ in range(count)]
        for ours, theirs in self.ends:
            ours.setblocking(False)
            theirs.setblocking(True)
        self.sent = [0] * count
        self.received = [0] * count
        self.armed = [False] * count
        for line in range(count):
            self.arm(line)

    def arm(self, line: int) -> None:
        self.armed[line] = True
        self.port.associate(self.ends[line][0], POLLIN, line)

    def write(self, lines: range, times: int, seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(times):
            line = chance.choice(lines)
            number = chance.randrange(1, 8)
            first = self.sent[line]
            self.ends[line][1].sendall(bytes((first + n) % 256 for n in range(number)))
            self.sent[line] = first + number

    def read_until_alert(self) -> int:
        events = 0
        while True:
            for event in self.port.getn(3):
                if event.user is None:
                    return events
                assert self.armed[event.user], "an event came twice"
                self.armed[event.user] = False
                events += 1
                self.read(event.user)
                self.arm(event.user)

    def come_out(self, getters: list[Call[int]]) -> None:
        """Return when all has come out; soon in any case, or when a getter has failed."""
        quiet = threading.Event()
        for _ in range(10_000):
            if self.received == self.sent or any(getter.over for getter in getters):
                break
            quiet.wait(0.001)

    def read(self, line: int) -> None:
        data = self.ends[line][0].recv(1 << 16)
        first = self.received[line]
        assert data == bytes((first + n) % 256 for n in range(len(data)))
        self.received[line] = first + len(data)


@pytest.mark.usefixtures("many_descriptors")
@needs("any-descriptor")
def test_many_sockets_and_many_threads_lose_nothing_and_get_nothing_twice(
    port: Port, scale: Scale
) -> None:
    with ExitStack() as stack:
        lines = Lines(port, 500, stack)
        getters = [in_thread(lines.read_until_alert) for _ in range(GETTERS)]
        writers = [
            in_thread(
                partial(
                    lines.write, range(n * 125, n * 125 + 125), scale(4_000, 40_000, 1_000_000), n
                )
            )
            for n in range(4)
        ]
        for writer in writers:
            writer.result(PATIENCE)
        lines.come_out(getters)
        port.alert(1)
        assert sum(getter.result() for getter in getters) >= 500 * 0.9
        assert lines.received == lines.sent
        port.alert(0)
        with pytest.raises(PortTimeout):
            port.get(A_WHILE)


@pytest.mark.usefixtures("switching")
def test_a_few_sockets_and_many_threads_lose_nothing_and_get_nothing_twice(
    port: Port, scale: Scale
) -> None:
    with ExitStack() as stack:
        lines = Lines(port, 3, stack)
        getters = [in_thread(lines.read_until_alert) for _ in range(GETTERS)]
        times = scale(5_000, 50_000, 1_000_000)
        writers = [in_thread(partial(lines.write, range(n, n + 1), times, n)) for n in range(3)]
        for writer in writers:
            writer.result(PATIENCE)
        lines.come_out(getters)
        port.alert(1)
        for getter in getters:
            getter.result()
        assert lines.received == lines.sent


@pytest.mark.usefixtures("switching")
def test_sockets_messages_and_timeouts_together_lose_nothing(port: Port, scale: Scale) -> None:
    count = scale(5_000, 50_000, 1_000_000)

    def get(span: float | None) -> Counter[object]:
        found: Counter[object] = Counter()
        while not found["end"]:
            for event in port.getn(2, 1, span):
                found[event.user] += 1
                if event.source != PORT_SOURCE_USER:
                    port.send(0, "next")
        for _ in range(found["end"] - 1):  # those of others
            port.send(0, "end")
        return found

    def send() -> None:
        for _ in range(count):
            port.send(0, "message")

    with socket_pair() as (ours, _):
        getters = [in_thread(partial(get, s)) for s in (None, 0.000_05, 0.000_2, 0)]
        sender = in_thread(send)
        associations = 0
        for _ in range(count):
            port.associate(ours, POLLOUT, "ready")
            associations += 1
            if sender.over:
                break
        sender.result(PATIENCE)
        for _ in getters:
            port.send(0, "end")
        found = sum((getter.result(PATIENCE) for getter in getters), Counter[object]())
        found.update(event.user for event in port.getn(100_000, 1, 0))
    assert found["message"] == count
    assert 0 < found["ready"] <= associations
    assert found["next"] == found["ready"]


@pytest.mark.usefixtures("many_descriptors")
@needs("any-descriptor")
def test_ten_thousand_associations_give_one_event_each(port: Port) -> None:
    with pipe() as (reader, writer), ExitStack() as stack:
        numbers = []
        for _ in range(10_000):
            numbers.append(os.dup(reader.fileno()))
            stack.callback(os.close, numbers[-1])
            port.associate(numbers[-1], POLLIN, -numbers[-1])
        with pytest.raises(PortTimeout):
            port.get(0)
        writer.write(b"x")
        events: list[PortEvent] = []
        while len(events) < len(numbers):
            events += port.getn(1_000, 1, SOON)
        assert sorted(event.object for event in events) == sorted(numbers)
        assert all(event.user == -event.object for event in events)
        with pytest.raises(PortTimeout):
            port.get(0)


@pytest.mark.usefixtures("many_descriptors")
@needs("any-descriptor")
def test_of_ten_thousand_associations_those_dissociated_say_nothing(port: Port) -> None:
    with pipe() as (reader, writer), ExitStack() as stack:
        numbers = []
        for _ in range(10_000):
            numbers.append(os.dup(reader.fileno()))
            stack.callback(os.close, numbers[-1])
            port.associate(numbers[-1], POLLIN)
        writer.write(b"x")
        for number in numbers[:-3]:
            port.dissociate(number)
        assert {event.object for event in port.getn(10_000, 3, SOON)} == set(numbers[-3:])
        assert port.getn(10_000, 1, 0) == []


@pytest.mark.usefixtures("switching")
def test_threads_that_associate_and_dissociate_the_same_socket_get_no_stale_user(
    port: Port, scale: Scale
) -> None:
    turns = scale(2_000, 20_000, 400_000)
    over = threading.Event()

    def get() -> list[tuple[int, int]]:
        found = []
        while not over.is_set():
            found += [(event.object, event.user) for event in port.getn(4, 1, 0.001)]
        return found

    with socket_pair() as pair:
        numbers = [end.fileno() for end in pair]
        getters = [in_thread(get) for _ in range(2)]

        def churn(end: socket.socket, first: int) -> None:
            for turn in range(turns):
                port.associate(end, POLLOUT, first + turn)
                with suppress(OSError):
                    port.dissociate(end)

        churners = [in_thread(partial(churn, pair[n], n * turns)) for n in range(2)]
        for churner in churners:
            churner.result(PATIENCE)
        over.set()
        found = [each for getter in getters for each in getter.result()]
        assert len(found) == len(set(found))
        for number, user in found:
            assert numbers[user // turns] == number
        assert port.getn(4, 1, 0) == []
