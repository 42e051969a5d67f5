"""One queue for all: descriptors' events and messages come out in the order they went in."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Semaphore
from typing import Any

import pytest

from portcompat import POLLIN, POLLOUT, Port, PortEvent
from portcompat.conformance import needs, rule
from portcompat.conformance._descriptors import A_WHILE, SOON, pipe, socket_pair
from portcompat.conformance._threads import waiting

Scale = Callable[[int, int, int], int]


def users(events: list[PortEvent]) -> list[Any]:
    return [event.user for event in events]


@rule("R084", "R095")
def test_a_ready_descriptor_comes_before_what_is_sent_after_it(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.associate(ours, POLLOUT, "ready")
        port.send(0, "sent")
        assert users(port.getn(4, 2, SOON)) == ["ready", "sent"]


@rule("R084", "R095")
def test_a_ready_descriptor_comes_after_what_was_sent_before_it(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.send(0, "sent")
        port.associate(ours, POLLOUT, "ready")
        assert users(port.getn(4, 2, SOON)) == ["sent", "ready"]


@rule("R084", "R095")
def test_descriptors_and_messages_take_turns(port: Port) -> None:
    with ExitStack() as opened:
        expected = []
        for turn in range(20):
            ours, _ = opened.enter_context(socket_pair())
            port.associate(ours, POLLOUT, ("ready", turn))
            port.send(0, ("sent", turn))
            expected += [("ready", turn), ("sent", turn)]
        assert users(port.getn(64, 40, SOON)) == expected


@rule("R084", "R095")
def test_retrieved_one_by_one_the_order_is_the_same(port: Port) -> None:
    with ExitStack() as opened:
        expected = []
        for turn in range(10):
            port.send(0, ("sent", turn))
            ours, _ = opened.enter_context(socket_pair())
            port.associate(ours, POLLOUT, ("ready", turn))
            expected += [("sent", turn), ("ready", turn)]
        assert [port.get(SOON).user for _ in expected] == expected


@rule("R084", "R095")
@pytest.mark.parametrize("backwards", [False, True], ids=["up", "down"])
def test_ready_descriptors_come_in_the_order_of_association(port: Port, backwards: bool) -> None:
    with ExitStack() as opened:
        ends = [end for _ in range(8) for end in opened.enter_context(socket_pair())]
        ends.sort(key=lambda end: end.fileno(), reverse=backwards)
        for end in ends:
            port.associate(end, POLLOUT)
        events = port.getn(32, 16, SOON)
        assert [event.object for event in events] == [end.fileno() for end in ends]


@rule("R084")
def test_descriptors_come_in_the_order_in_which_they_became_ready(port: Port) -> None:
    with ExitStack() as opened:
        pairs = [opened.enter_context(socket_pair()) for _ in range(8)]
        for ours, _ in pairs:
            port.associate(ours, POLLIN)
        assert port.pending() == 0
        pairs.sort(key=lambda pair: pair[0].fileno() * 7 % 11, reverse=True)
        for _, theirs in pairs:
            theirs.send(b"x")
        events = port.getn(32, 8, SOON)
        assert [event.object for event in events] == [ours.fileno() for ours, _ in pairs]


@rule("R084")
def test_readiness_that_comes_before_a_message_is_looked_at_by_pending(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN, "ready")
        theirs.send(b"x")
        assert port.pending() == 1
        port.send(0, "sent")
        assert users(port.getn(4, 2, SOON)) == ["ready", "sent"]


@rule("R084", "R096")
def test_readiness_that_comes_before_a_message_has_its_place_before_it(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN, "ready")
        assert port.pending() == 0
        theirs.send(b"x")
        port.send(0, "sent")
        assert users(port.getn(4, 2, SOON)) == ["ready", "sent"]


@rule("R084", "R096")
def test_readiness_that_comes_after_a_message_has_its_place_after_it(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN, "ready")
        port.send(0, "sent")
        theirs.send(b"x")
        assert users(port.getn(4, 2, SOON)) == ["sent", "ready"]


@rule("R084", "R088")
def test_associating_anew_moves_a_queued_event_to_the_tail(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.associate(ours, POLLOUT, "old")
        port.send(0, "sent")
        port.associate(ours, POLLOUT, "new")
        assert users(port.getn(4, 2, SOON)) == ["sent", "new"]


@rule("R084", "R088")
def test_associating_anew_goes_behind_other_descriptors(port: Port) -> None:
    with socket_pair() as (one, two):
        port.associate(one, POLLOUT, "one")
        port.send(0, "between")
        port.associate(two, POLLOUT, "two")
        port.send(0, "after")
        port.associate(one, POLLOUT, "one again")
        assert users(port.getn(8, 4, SOON)) == ["between", "two", "after", "one again"]


@rule("R088", "R105")
def test_associating_anew_for_what_is_not_ready_only_loses_the_place(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLOUT, "old")
        port.send(0, "first")
        port.associate(ours, POLLIN, "new")
        port.send(0, "second")
        assert users(port.getn(8, 2, SOON)) == ["first", "second"]
        theirs.send(b"x")
        assert users(port.getn(8, 1, SOON)) == ["new"]


@rule("R084", "R095")
def test_an_alert_between_does_not_change_the_order(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.associate(ours, POLLOUT, "ready")
        port.alert(1)
        port.send(0, "sent")
        assert port.get(SOON).events == 1
        port.alert(0)
        assert users(port.getn(4, 2, SOON)) == ["ready", "sent"]


@rule("R084", "R095")
def test_what_is_ready_when_an_alert_is_set_keeps_its_place(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        theirs.send(b"x")
        port.associate(ours, POLLIN, "ready")
        port.alert(1)
        ours.recv(1)  # R101: it was queued by the call and stays
        port.alert(0)
        port.send(0, "sent")
        assert users(port.getn(4, 2, SOON)) == ["ready", "sent"]


@needs("hangup")
@rule("R084", "R096")
def test_a_hangup_has_its_place_too(port: Port) -> None:
    with pipe() as (reader, writer):
        port.send(0, "before")
        port.associate(reader, 0, "hangup")
        writer.close()
        assert port.pending() == 2
        port.send(0, "after")
        assert users(port.getn(4, 3, SOON)) == ["before", "hangup", "after"]


@rule("R084", "R088", "R095")
def test_with_a_thread_asleep_the_order_is_the_same(port: Port) -> None:
    with socket_pair() as (one, two):
        for _ in range(10):
            waiter = waiting(lambda: port.getn(8, 6, SOON))
            port.send(0, "a")
            port.associate(one, POLLOUT, "replaced")
            port.send(0, "b")
            port.associate(two, POLLOUT, "c")
            port.send(0, "d")
            port.associate(one, POLLOUT, "e")
            port.send(0, "f")
            assert users(waiter.result()) == ["a", "b", "c", "d", "e", "f"]


@rule("R084", "R095")
def test_with_a_thread_waiting_for_both_the_order_is_the_same(port: Port, scale: Scale) -> None:
    with socket_pair() as (ours, _), ThreadPoolExecutor(1) as pool:
        for turn in range(scale(200, 1_000, 10_000)):
            waited = pool.submit(port.getn, 4, 2, SOON)
            port.associate(ours, POLLOUT, "ready")
            port.send(turn, "sent")
            assert users(waited.result(SOON)) == ["ready", "sent"]


@rule("R084", "R095")
def test_with_a_thread_waiting_for_four_the_order_is_the_same(port: Port, scale: Scale) -> None:
    with socket_pair() as (one, two), ThreadPoolExecutor(1) as pool:
        for _ in range(scale(200, 1_000, 10_000)):
            waited = pool.submit(port.getn, 8, 4, SOON)
            port.send(0, "a")
            port.associate(one, POLLOUT, "b")
            port.send(0, "c")
            port.associate(two, POLLOUT, "d")
            assert users(waited.result(SOON)) == ["a", "b", "c", "d"]


@rule("R084", "R088")
def test_with_a_thread_waiting_an_event_moves_to_the_tail(port: Port, scale: Scale) -> None:
    with socket_pair() as (ours, _), ThreadPoolExecutor(1) as pool:
        for _ in range(scale(200, 1_000, 10_000)):
            waited = pool.submit(port.getn, 8, 4, SOON)
            port.associate(ours, POLLOUT, "old")
            port.send(0, "first")
            port.associate(ours, POLLOUT, "new")
            port.send(0, "second")
            port.send(0, "third")
            assert users(waited.result(SOON)) == ["first", "new", "second", "third"]


@rule("R084", "R095")
def test_with_a_thread_that_takes_one_at_a_time_the_order_is_the_same(
    port: Port, scale: Scale
) -> None:
    rounds = scale(200, 1_000, 10_000)
    with ExitStack() as opened, ThreadPoolExecutor(1) as pool:
        ends = [end for _ in range(25) for end in opened.enter_context(socket_pair())]
        free = Semaphore(len(ends))  # how many of them have had their event taken

        def take() -> list[Any]:
            taken = []
            for _ in range(2 * rounds):
                taken.append(port.get(SOON).user)
                if taken[-1][0] == "ready":
                    free.release()
            return taken

        taking = pool.submit(take)
        for turn in range(rounds):
            assert free.acquire(timeout=SOON)
            port.associate(ends[turn % len(ends)], POLLOUT, ("ready", turn))
            port.send(0, ("sent", turn))
        taken = taking.result(SOON)
    assert taken == [(what, turn) for turn in range(rounds) for what in ("ready", "sent")]


@rule("R084", "R095")
def test_with_a_thread_waiting_for_one_the_descriptor_comes_first(port: Port, scale: Scale) -> None:
    with socket_pair() as (ours, _), ThreadPoolExecutor(1) as pool:
        for _ in range(scale(200, 1_000, 10_000)):
            waited = pool.submit(port.getn, 1, 1, SOON)
            port.associate(ours, POLLOUT, "ready")
            port.send(0, "sent")
            assert users(waited.result(SOON)) == ["ready"]
            assert users(port.getn(2, 1, SOON)) == ["sent"]
            assert port.getn(2, 1, 0) == []


@rule("R084")
def test_silence_is_kept_when_nothing_was_ready(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.associate(ours, POLLIN)
        port.send(0, "sent")
        assert users(port.getn(4, 1, SOON)) == ["sent"]
        assert port.getn(4, 1, A_WHILE) == []
