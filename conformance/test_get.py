"""port_get(3C): one event, and how long to wait for it."""

import math
import time
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from threading import Event

import pytest

from portcompat import ETIME, POLLIN, PORT_SOURCE_USER, Port, PortEvent, PortTimeout
from portcompat.conformance import rule
from portcompat.conformance._descriptors import SOON, socket_pair
from portcompat.conformance._threads import in_thread, waiting, waiting_briefly

Scale = Callable[[int, int, int], int]


@rule("R141")
def test_an_event_that_is_there_is_returned(port: Port) -> None:
    port.send(3, "there")
    assert port.get() == PortEvent(PORT_SOURCE_USER, 0, 3, "there")


@rule("R084", "R141")
def test_the_oldest_comes_first(port: Port) -> None:
    port.send(1)
    port.send(2)
    assert port.get().events == 1


@rule("R141")
def test_only_one_is_taken(port: Port) -> None:
    port.send(1)
    port.send(2)
    port.get()
    assert port.pending() == 1


@rule("R085")
def test_an_event_is_delivered_once(port: Port) -> None:
    port.send(1)
    port.get()
    with pytest.raises(PortTimeout):
        port.get(0)


@rule("R142")
def test_without_a_timeout_it_waits(port: Port) -> None:
    getter = waiting(port.get)
    port.send(1)
    assert getter.result().events == 1


@rule("R129", "R142")
def test_an_infinite_timeout_is_none(port: Port) -> None:
    getter = waiting(lambda: port.get(math.inf))
    port.send(1)
    assert getter.result().events == 1


@rule("R142")
def test_waiting_costs_no_processor_time(port: Port) -> None:
    def spent() -> float:
        before = time.thread_time()
        port.get()
        return time.thread_time() - before

    getter = waiting(spent)
    with pytest.raises(PortTimeout):  # somebody else's timed wait does not make it spin either
        port.get(0.3)
    port.send(1)
    assert getter.result() < 0.1


@rule("R142", "R096")
def test_a_waiting_thread_gets_the_event_of_a_descriptor(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN, "ready")
        getter = waiting(port.get)
        theirs.send(b"x")
        assert getter.result().user == "ready"


@rule("R142", "R095")
def test_a_waiting_thread_gets_what_another_associates(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        getter = waiting(port.get)
        theirs.send(b"x")
        port.associate(ours, POLLIN, "ready")
        assert getter.result().user == "ready"


@rule("R142", "R103")
def test_a_waiting_thread_gets_what_another_re_associates(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, 0, "nothing asked")
        getter = waiting(lambda: port.getn(8))
        port.associate(ours, POLLIN, "asked")
        theirs.send(b"x")
        assert [event.user for event in getter.result()] == ["asked"]


@rule("R056", "R143")
def test_a_timeout_is_etime(port: Port) -> None:
    with pytest.raises(PortTimeout) as caught:
        port.get(1e-9)
    assert caught.value.errno == ETIME


@rule("R144")
def test_a_timeout_of_zero_is_etime(port: Port) -> None:
    with pytest.raises(PortTimeout) as caught:
        port.get(0)
    assert caught.value.errno == ETIME


@rule("R129", "R144")
def test_a_timeout_of_zero_returns_at_once(port: Port) -> None:
    before = time.monotonic()
    for _ in range(100):
        with pytest.raises(PortTimeout):
            port.get(0)
    assert time.monotonic() - before < 1


@rule("R129", "R141")
def test_a_timeout_of_zero_returns_what_is_there(port: Port) -> None:
    port.send(1)
    assert port.get(0).events == 1


@rule("R131", "R143")
@pytest.mark.parametrize("timeout", [0.0001, 0.0031, 0.05, Fraction(1, 3)], ids=str)
def test_a_wait_is_never_too_short(port: Port, timeout: float) -> None:
    before = time.monotonic()
    with pytest.raises(PortTimeout):
        port.get(timeout)
    assert time.monotonic() - before >= timeout


@rule("R131", "R143")
def test_many_short_waits_are_never_too_short(port: Port, scale: Scale) -> None:
    for turn in range(scale(100, 1000, 10_000)):
        timeout = 0.0001 if turn % 10 else 0.0031
        before = time.monotonic()
        with pytest.raises(PortTimeout):
            port.get(timeout)
        assert time.monotonic() - before >= timeout


@rule("R131", "R143")
@pytest.mark.parametrize("timeout", [0.001, 0.1])
def test_a_wait_ends_when_its_time_is_up(port: Port, timeout: float) -> None:
    before = time.monotonic()
    with pytest.raises(PortTimeout):
        port.get(timeout)
    assert time.monotonic() - before < timeout + 2


@rule("R131", "R143")
def test_a_wait_behind_another_is_neither_too_short_nor_too_long(port: Port) -> None:
    other = waiting(lambda: port.get(SOON))
    before = time.monotonic()
    with pytest.raises(PortTimeout):
        port.get(0.1)
    assert 0.1 <= time.monotonic() - before < 2
    port.send(0)
    other.result()


@rule("R131", "R143")
def test_a_short_wait_goes_and_the_longer_one_behind_it_lasts(port: Port) -> None:
    def length(timeout: float) -> float:
        before = time.monotonic()
        with pytest.raises(PortTimeout):
            port.get(timeout)
        return time.monotonic() - before

    first = waiting_briefly(lambda: length(0.1))
    second = in_thread(lambda: length(0.3))
    assert first.result() >= 0.1
    assert second.result() >= 0.3


@rule("R129")
@pytest.mark.parametrize("power", [6, 12, 30, 300, 400])
def test_a_timeout_beyond_every_clock_waits(port: Port, power: int) -> None:
    getter = waiting(lambda: port.get(10**power))
    port.send(1)
    assert getter.result().events == 1


@rule("R155")
def test_a_timeout_loses_nothing(port: Port) -> None:
    with pytest.raises(PortTimeout):
        port.get(0.01)
    port.send(1, "later")
    assert port.get(0).user == "later"


@rule("R152", "R155")
def test_what_arrives_as_the_time_is_up_is_returned_or_stays(port: Port, scale: Scale) -> None:
    rounds = scale(100, 1000, 10_000)
    span = 0.002
    go = [Event() for _ in range(rounds)]

    def send() -> None:
        for number, started in enumerate(go):
            assert started.wait(SOON)
            deadline = time.monotonic() + span * (0.9 + 0.02 * (number % 10))
            while time.monotonic() < deadline:
                pass
            port.send(number)

    sender = in_thread(send)
    received = []
    for started in go:
        started.set()
        try:
            event = port.get(span)
        except PortTimeout:
            event = port.get(SOON)
        received.append(event.events)
    sender.result()
    assert received == list(range(rounds))
    assert port.pending() == 0


@rule("R084", "R085")
def test_one_sender_and_one_getter_keep_the_order(port: Port, scale: Scale) -> None:
    count = scale(5_000, 50_000, 500_000)

    def send() -> None:
        for number in range(count):
            while port.pending() > 1000:
                time.sleep(0)
            port.send(0, number)

    sender = in_thread(send)
    received = [port.get(SOON).user for _ in range(count)]
    sender.result()
    assert all(after == before + 1 for before, after in pairwise(received))
