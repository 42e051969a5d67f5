"""Many messages, many threads: each is counted."""

import errno
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from threading import Barrier
from time import monotonic

import pytest

from portcompat import POLLIN, Port, PortEvent, PortTimeout
from portcompat.conformance._descriptors import SOON, socket_pair
from portcompat.conformance._threads import Call, in_thread

MakePort = Callable[..., Port]
Scale = Callable[[int, int, int], int]

THREADS = 8
END = -1
PATIENCE = 240.0


def get_one(port: Port) -> list[PortEvent]:
    return [port.get()]


def get_many(port: Port) -> list[PortEvent]:
    return port.getn(16)


def get_two_or_one(port: Port) -> list[PortEvent]:
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


def send_all(port: Port, numbers: Iterable[int]) -> None:
    for number in numbers:
        while True:
            try:
                port.send(number)
            except OSError as error:
                assert error.errno == errno.EAGAIN
            else:
                break


def exchange(port: Port, each: int, retrieve: Callable[[Port], list[PortEvent]]) -> None:
    """Eight threads send and eight get; every number has to arrive, once, in its sender's order."""
    getters = [in_thread(lambda: numbers_until_end(port, retrieve)) for _ in range(THREADS)]
    senders = [
        in_thread(partial(send_all, port, range(n * each, (n + 1) * each))) for n in range(THREADS)
    ]
    for sender in senders:
        sender.result(PATIENCE)
    send_all(port, [END] * THREADS)
    received = [getter.result(PATIENCE) for getter in getters]
    everything = sorted(number for numbers in received for number in numbers)
    assert everything == list(range(THREADS * each))
    for numbers in received:
        for place in range(THREADS):
            of_one_sender = [number for number in numbers if number // each == place]
            assert of_one_sender == sorted(of_one_sender)


def test_each_of_very_many_messages_is_delivered_once(port: Port, scale: Scale) -> None:
    exchange(port, scale(12_500, 125_000, 1_250_000), get_one)


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("retrieve", [get_one, get_many, get_two_or_one])
@pytest.mark.parametrize("slots", [20, 2_000_000])
def test_each_message_is_delivered_once(
    make_port: MakePort, scale: Scale, slots: int, retrieve: Callable[[Port], list[PortEvent]]
) -> None:
    exchange(make_port(max_events=slots), scale(300, 4_000, 100_000), retrieve)


def test_one_thread_gets_what_another_sends_in_its_order(port: Port, scale: Scale) -> None:
    count = scale(20_000, 200_000, 2_000_000)
    getter = in_thread(lambda: [port.get(SOON).events for _ in range(count)])
    send_all(port, range(count))
    assert getter.result(PATIENCE) == list(range(count))


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("looks", [False, True], ids=["", "somebody looks"])
def test_a_full_port_refuses_exactly_what_it_has_no_room_for(
    make_port: MakePort, scale: Scale, looks: bool
) -> None:
    port = make_port(max_events=THREADS)
    over = not looks

    def look() -> None:
        while not over:
            assert port.pending() <= THREADS

    start = Barrier(THREADS)

    def send_until_full(sender: int) -> list[int]:
        start.wait(SOON)
        sent: list[int] = []
        try:
            while True:
                port.send(sender * 100 + len(sent))
                sent.append(sender * 100 + len(sent))
        except OSError as error:
            assert error.errno == errno.EAGAIN
        return sent

    looker = in_thread(look)
    with ThreadPoolExecutor(THREADS) as threads:
        for _ in range(scale(100, 1_000, 10_000)):
            sent = [
                number for each in threads.map(send_until_full, range(THREADS)) for number in each
            ]
            queued = [event.events for event in port.getn(100, 1, 0)]
            assert len(queued) == THREADS
            assert sorted(queued) == sorted(sent)
    over = True
    looker.result()


@pytest.mark.usefixtures("switching")
def test_messages_and_descriptors_share_the_slots_exactly(
    make_port: MakePort, scale: Scale
) -> None:
    port = make_port(max_events=THREADS)
    start = Barrier(4)

    def use_a_slot(call: Callable[[], None]) -> int:
        start.wait(SOON)
        try:
            call()
        except OSError as error:
            assert error.errno == errno.EAGAIN
            return 0
        return 1

    with ThreadPoolExecutor(4) as threads, socket_pair() as pair:
        calls: list[Callable[[], None]] = [
            lambda: port.associate(pair[0], POLLIN),
            lambda: port.associate(pair[1], POLLIN),
            lambda: port.send(0),
            lambda: port.send(0),
        ]
        for _ in range(scale(300, 3_000, 30_000)):
            for number in range(THREADS - 2):
                port.send(number)
            assert sum(threads.map(use_a_slot, calls)) == 2
            port.getn(100, 1, 0)
            for end in pair:
                with suppress(OSError):
                    port.dissociate(end)


@pytest.mark.usefixtures("switching")
def test_what_is_sent_to_a_small_port_is_what_it_delivers(
    make_port: MakePort, scale: Scale
) -> None:
    port = make_port(max_events=THREADS)
    tries = scale(1_000, 10_000, 100_000)

    def send_what_fits(sender: int) -> list[int]:
        sent = []
        for number in range(sender * tries, (sender + 1) * tries):
            try:
                port.send(number)
            except OSError as error:
                assert error.errno == errno.EAGAIN
                assert port.pending() <= THREADS
            else:
                sent.append(number)
        return sent

    getters = [in_thread(lambda: numbers_until_end(port, get_one)) for _ in range(2)]
    senders = [in_thread(partial(send_what_fits, n)) for n in range(THREADS)]
    sent = [number for sender in senders for number in sender.result(PATIENCE)]
    send_all(port, [END, END])
    received = [number for getter in getters for number in getter.result(PATIENCE)]
    assert sorted(received) == sent


def test_very_many_messages_wait_in_their_order(make_port: MakePort, scale: Scale) -> None:
    count = scale(100_000, 100_000, 1_000_000)
    port = make_port(max_events=count)
    send_all(port, range(count))
    assert port.pending() == count
    with pytest.raises(OSError, match="slots of the port are taken"):
        port.send(0)
    received: list[int] = []
    while len(received) < count:
        received += [event.events for event in port.getn(1_000, 1, 0)]
    assert received == list(range(count))


def waiting_crowd(port: Port) -> list[Call[PortEvent]]:
    calls = [in_thread(port.get) for _ in range(64)]
    with ThreadPoolExecutor(16) as watchers:
        list(watchers.map(Call.at_rest, calls))
    return calls


def test_an_alert_reaches_many_waiting_threads_within_a_second(port: Port) -> None:
    calls = waiting_crowd(port)
    before = monotonic()
    port.alert(7, "all")
    for call in calls:
        assert call.result()[2:] == (7, "all")
    assert monotonic() - before < 1


def test_closing_releases_many_waiting_threads_within_a_second(port: Port) -> None:
    calls = waiting_crowd(port)
    before = monotonic()
    port.close()
    for call in calls:
        with pytest.raises(OSError, match="closed") as error:
            call.result()
        assert error.value.errno == errno.EBADF
    assert monotonic() - before < 1


def test_each_of_many_waiting_threads_gets_one_message(port: Port) -> None:
    calls = waiting_crowd(port)
    send_all(port, range(len(calls)))
    assert sorted(call.result().events for call in calls) == list(range(len(calls)))


@pytest.mark.usefixtures("switching")
def test_waits_that_run_out_as_messages_come_lose_none(make_port: MakePort, scale: Scale) -> None:
    port = make_port()
    count = scale(1_500, 15_000, 150_000)

    def get_with_little_time(span: float) -> list[int]:
        numbers: list[int] = []
        while True:
            try:
                number = port.get(span).events
            except PortTimeout:
                continue
            if number == END:
                return numbers
            numbers.append(number)

    getters = [in_thread(partial(get_with_little_time, 0.000_02 * n)) for n in range(4)]
    empty = make_port()
    for number in range(count):
        port.send(number)
        if number % 3 == 0:
            with suppress(PortTimeout):  # the others are to find their port empty
                empty.get(0.000_03)
    send_all(port, [END] * len(getters))
    received = [number for getter in getters for number in getter.result(PATIENCE)]
    assert sorted(received) == list(range(count))
