"""Threads that wait in one port: who gets what, and who is woken."""

import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from io import FileIO

import pytest

from portcompat import POLLIN, POLLOUT, Port, PortEvent, PortTimeout
from portcompat.conformance import rule
from portcompat.conformance._descriptors import SOON, pipe, socket_pair
from portcompat.conformance._threads import Call, in_thread, waiting, waiting_briefly

Scale = Callable[[int, int, int], int]


def waiting_for(port: Port, nget: int) -> Call[list[PortEvent]]:
    return waiting(lambda: port.getn(nget, nget))


def numbers(events: list[PortEvent]) -> list[int]:
    return [event.events for event in events]


@rule("R137")
def test_among_equals_the_newest_comes_first(port: Port) -> None:
    getters = [waiting(port.get) for _ in range(4)]
    for number, getter in enumerate(reversed(getters)):
        port.send(number)
        assert getter.result().events == number


@rule("R137", "R145")
def test_get_and_getn_for_one_are_equals(port: Port) -> None:
    oldest = waiting_for(port, 1)
    middle = waiting(port.get)
    newest = waiting_for(port, 1)
    port.send(1)
    assert numbers(newest.result()) == [1]
    port.send(2)
    assert middle.result().events == 2
    port.send(3)
    assert numbers(oldest.result()) == [3]


@rule("R137", "R139")
def test_who_wants_fewer_comes_before_who_came_first(port: Port) -> None:
    many = waiting_for(port, 2)
    one = waiting_for(port, 1)
    port.send(1)
    assert numbers(one.result()) == [1]
    port.send(2)
    port.send(3)
    assert numbers(many.result()) == [2, 3]


@rule("R137", "R139")
def test_who_wants_more_does_not_keep_back_who_wants_fewer(port: Port) -> None:
    one = waiting_for(port, 1)
    many = waiting_for(port, 2)
    port.send(1)
    assert numbers(one.result()) == [1]
    port.send(2)
    port.send(3)
    assert numbers(many.result()) == [2, 3]


@rule("R137")
@pytest.mark.parametrize("arrival", [[1, 2, 3], [3, 2, 1], [2, 3, 1], [3, 1, 2]], ids=str)
def test_fewest_wanted_first_whatever_the_order_of_arrival(port: Port, arrival: list[int]) -> None:
    getters = {nget: waiting_for(port, nget) for nget in arrival}
    for nget in (1, 2, 3):
        for number in range(nget):
            assert not getters[nget].over
            port.send(number)
        assert numbers(getters[nget].result()) == list(range(nget))


@rule("R138")
def test_an_event_wakes_one_thread(port: Port) -> None:
    first, second = waiting(port.get), waiting(port.get)
    port.send(1)
    second.result()
    first.at_rest()
    port.send(2)
    assert first.result().events == 2


@rule("R138")
def test_too_few_events_wake_nobody(port: Port) -> None:
    getter = waiting_for(port, 3)
    for number in range(2):
        port.send(number)
        getter.at_rest()
    port.send(2)
    assert numbers(getter.result()) == [0, 1, 2]


@rule("R133", "R138")
@pytest.mark.parametrize("before", [1, 2])
def test_what_was_queued_before_the_wait_counts(port: Port, before: int) -> None:
    for number in range(before):
        port.send(number)
    getter = waiting_for(port, 4)
    for number in range(before, 4):
        assert not getter.over
        port.send(number)
    assert numbers(getter.result()) == [0, 1, 2, 3]


@rule("R133", "R138")
def test_what_came_during_another_wait_counts(port: Port) -> None:
    five = waiting_for(port, 5)
    port.send(0)
    port.send(1)
    assert port.getn(8, 8, 0.01) == [PortEvent(3, 0, 0, None), PortEvent(3, 0, 1, None)]
    for number in range(5):
        assert not five.over
        port.send(number)
    assert numbers(five.result()) == [0, 1, 2, 3, 4]


@rule("R138")
def test_events_in_a_burst_wake_as_many_threads(port: Port) -> None:
    getters = [waiting(port.get) for _ in range(8)]
    for number in range(8):
        port.send(number)
    assert sorted(getter.result().events for getter in getters) == list(range(8))


@rule("R138")
def test_a_thread_that_leaves_wakes_the_next_if_there_is_enough(port: Port) -> None:
    many = waiting_for(port, 2)
    one = waiting_for(port, 1)
    with socket_pair() as (ours, _), socket_pair() as (more, _), socket_pair() as (most, _):
        for ready in (ours, more, most):
            port.associate(ready, POLLOUT)
        assert len(one.result()) == 1
        assert len(many.result()) == 2


@rule("R138", "R142")
def test_when_the_first_thread_goes_the_next_waits_on(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        first = waiting(port.get)
        second = waiting(lambda: port.get(SOON))
        port.send(0)
        port.send(1)
        first.result()
        second.result()
        third = waiting(port.get)
        port.associate(ours, POLLIN, "ready")
        theirs.send(b"x")
        assert third.result().user == "ready"


@rule("R138", "R142")
@pytest.mark.parametrize("gone", [0, 1], ids=["the first", "the second"])
def test_a_thread_whose_time_is_up_leaves_the_others_waiting(port: Port, gone: int) -> None:
    def wait(timeout: float) -> object:
        try:
            return port.get(timeout).user
        except PortTimeout:
            return "time is up"

    spans = [SOON, SOON]
    spans[gone] = 0.2
    getters = [waiting_briefly(partial(wait, span)) for span in spans]
    assert getters[gone].result() == "time is up"
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN, "ready")
        theirs.send(b"x")
        assert getters[1 - gone].result() == "ready"


@rule("R139")
def test_who_waits_for_one_can_starve_who_waits_for_more(port: Port) -> None:
    many = waiting_for(port, 2)
    for number in range(5):
        one = waiting_for(port, 1)
        port.send(number)
        assert numbers(one.result()) == [number]
    many.at_rest()
    port.send(8)
    port.send(9)
    assert numbers(many.result()) == [8, 9]


@rule("R140")
def test_who_finds_enough_does_not_queue_behind_who_waits(port: Port) -> None:
    many = waiting_for(port, 3)
    port.send(1)
    assert port.get(0).events == 1
    port.send(2)
    assert port.get().events == 2
    port.send(3)
    port.send(4)
    assert numbers(port.getn(8, 2)) == [3, 4]
    many.at_rest()


@rule("R140", "R146")
def test_counting_does_not_queue_behind_who_waits(port: Port) -> None:
    many = waiting_for(port, 3)
    port.send(1)
    port.send(2)
    assert port.pending() == 2
    many.at_rest()


@rule("R132", "R138")
def test_a_woken_thread_takes_more_than_nget_if_there_is_more(port: Port) -> None:
    with pipe() as (reader, writer), ExitStack() as opened:
        readers = [opened.enter_context(FileIO(os.dup(reader.fileno()))) for _ in range(8)]
        for _ in range(100):  # all become ready at once, and still a thread may be quicker
            for ready in readers:
                port.associate(ready, POLLIN)
            getter = waiting(lambda: port.getn(8))
            writer.write(b"x")
            taken = len(getter.result())
            assert len(port.getn(8, 8 - taken, SOON)) == 8 - taken
            reader.read(1)
            if taken > 1:
                return
        pytest.fail("always one event, and never more")


@rule("R096", "R142")
def test_a_waiting_follower_gets_a_descriptors_event(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN, "ready")
        many = waiting_for(port, 2)
        one = waiting_for(port, 1)
        theirs.send(b"x")
        assert [event.user for event in one.result()] == ["ready"]
        many.at_rest()


@rule("R085")
def test_each_descriptors_event_reaches_one_of_many_threads(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN)
        getters = [waiting(port.get) for _ in range(4)]
        theirs.send(b"x")
        deadline = time.monotonic() + SOON
        while not any(getter.over for getter in getters):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        left = [getter for getter in getters if not getter.over]
        assert len(left) == 3
        for getter in left:
            getter.at_rest()


@rule("R084", "R085")
def test_each_event_reaches_exactly_one_of_many_threads(port: Port, scale: Scale) -> None:
    senders, getters, each = 4, 4, scale(2_000, 20_000, 200_000)
    end = -1

    def send(sender: int) -> None:
        for number in range(each):
            port.send(0, sender * each + number)

    def receive() -> list[int]:
        received: list[int] = []
        while True:
            for event in port.getn(16, 1, SOON):
                if event.events == end:  # the newest event there is
                    port.send(end)  # for the next
                    return received
                received.append(event.user)

    receiving = [in_thread(receive) for _ in range(getters)]
    sending = [in_thread(lambda sender=sender: send(sender)) for sender in range(senders)]  # type: ignore[misc]
    for sender in sending:
        sender.result(60)
    port.send(end)
    received = Counter(user for getter in receiving for user in getter.result(60))
    assert received == Counter(range(senders * each))


@rule("R084", "R085")
@pytest.mark.deadline(120)
def test_waiting_for_different_numbers_loses_nothing(port: Port, scale: Scale) -> None:
    rounds = scale(60, 600, 6_000)
    wants = (1, 2, 3, 5)

    def receive(want: int) -> list[int]:
        received = []
        for _ in range(rounds):
            received += [event.user for event in port.getn(want, want, SOON)]
        return received

    receiving = [in_thread(lambda want=want: receive(want)) for want in wants]  # type: ignore[misc]
    total = rounds * sum(wants)
    for number in range(total):
        port.send(0, number)
    received = [user for getter in receiving for user in getter.result(60)]
    assert sorted(received) == list(range(total))
