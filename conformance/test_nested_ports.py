"""A port associated with another port: the outer event is a hint that the inner has one."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from portcompat import (
    POLLIN,
    POLLOUT,
    PORT_SOURCE_FD,
    PORT_SOURCE_USER,
    Port,
    PortEvent,
)
from portcompat.conformance import rule
from portcompat.conformance._descriptors import A_WHILE, SOON, socket_pair
from portcompat.conformance._threads import waiting

MakePort = Callable[..., Port]


@pytest.fixture
def outer(port: Port) -> Port:
    return port


@pytest.fixture
def inner(make_port: MakePort) -> Port:
    return make_port()


@rule("R193")
def test_an_inner_port_that_has_an_event_fires_at_association(outer: Port, inner: Port) -> None:
    inner.send(0)
    outer.associate(inner, POLLIN, "inner")
    assert outer.get(SOON) == PortEvent(PORT_SOURCE_FD, inner.fileno(), POLLIN, "inner")


@rule("R193", "R096")
def test_an_empty_inner_port_does_not_fire(outer: Port, inner: Port) -> None:
    outer.associate(inner, POLLIN)
    assert outer.getn(2, 1, A_WHILE) == []


@rule("R193")
def test_an_inner_port_fires_at_the_next_send(outer: Port, inner: Port) -> None:
    outer.associate(inner, POLLIN, "inner")
    assert outer.getn(2, 1, 0) == []
    inner.send(0)
    assert outer.get(SOON) == PortEvent(PORT_SOURCE_FD, inner.fileno(), POLLIN, "inner")


@rule("R193")
def test_an_inner_port_fires_when_a_descriptor_of_its_own_does(outer: Port, inner: Port) -> None:
    with socket_pair() as (ours, theirs):
        inner.associate(ours, POLLIN, "innermost")
        outer.associate(inner, POLLIN, "inner")
        assert outer.getn(2, 1, A_WHILE) == []
        theirs.send(b"x")
        assert outer.get(SOON).user == "inner"
        assert inner.get(0).user == "innermost"


@rule("R193")
def test_an_inner_port_fires_for_a_descriptor_associated_later(outer: Port, inner: Port) -> None:
    with socket_pair() as (ours, _):
        outer.associate(inner, POLLIN)
        assert outer.getn(2, 1, 0) == []
        inner.associate(ours, POLLOUT)
        assert outer.get(SOON).object == inner.fileno()


@rule("R193", "R109")
def test_an_inner_port_fires_for_a_regular_file(outer: Port, inner: Port) -> None:
    outer.associate(inner, POLLIN)
    with open(__file__) as file:
        inner.associate(file, POLLIN)
        assert outer.get(SOON).object == inner.fileno()


@rule("R194")
def test_the_inner_event_is_not_consumed(outer: Port, inner: Port) -> None:
    inner.send(7, "inner's own")
    outer.associate(inner, POLLIN)
    assert len(outer.getn(2, 1, SOON)) == 1
    assert inner.pending() == 1
    assert inner.get(0) == PortEvent(PORT_SOURCE_USER, 0, 7, "inner's own")


@rule("R104", "R193")
def test_an_inner_port_not_drained_fires_each_time_it_is_associated(
    outer: Port, inner: Port
) -> None:
    inner.send(0)
    for turn in range(5):
        outer.associate(inner, POLLIN, turn)
        assert [event.user for event in outer.getn(2, 1, SOON)] == [turn]
        assert outer.getn(2, 1, 0) == []


@rule("R193")
def test_an_inner_port_drained_is_silent_until_its_next_event(outer: Port, inner: Port) -> None:
    with socket_pair() as (ours, theirs):
        inner.associate(ours, POLLIN)
        outer.associate(inner, POLLIN)
        for _ in range(4):
            theirs.send(b"x")
            assert len(outer.getn(2, 1, SOON)) == 1
            assert len(inner.getn(2, 1, 0)) == 1
            ours.recv(1)
            inner.associate(ours, POLLIN)
            outer.associate(inner, POLLIN)
            assert outer.getn(2, 1, A_WHILE) == []


@rule("R072", "R193")
def test_an_inner_event_seen_but_not_taken_fires_the_outer(outer: Port, inner: Port) -> None:
    with socket_pair() as (ours, _):
        inner.associate(ours, POLLOUT)
        assert inner.pending() == 1
        outer.associate(inner, POLLIN)
        assert len(outer.getn(2, 1, SOON)) == 1


@rule("R096", "R193")
def test_many_inner_events_are_one_outer_event(outer: Port, inner: Port) -> None:
    outer.associate(inner, POLLIN)
    for _ in range(5):
        inner.send(0)
    assert len(outer.getn(8, 1, SOON)) == 1
    inner.send(0)
    assert outer.getn(8, 1, A_WHILE) == []


@rule("R097", "R193")
def test_an_inner_port_asked_for_both_is_readable_when_it_has_an_event(
    outer: Port, inner: Port
) -> None:
    inner.send(0)
    outer.associate(inner, POLLIN | POLLOUT)
    assert outer.get(SOON).events & POLLIN


@rule("R195")
def test_an_inner_port_with_free_slots_is_writable(outer: Port, inner: Port) -> None:
    outer.associate(inner, POLLOUT)
    assert [event.events for event in outer.getn(2, 1, A_WHILE)] == [POLLOUT]


@rule("R196")
def test_an_alert_of_the_inner_port_does_not_fire_the_outer(outer: Port, inner: Port) -> None:
    outer.associate(inner, POLLIN)
    inner.alert(1)
    assert outer.getn(2, 1, A_WHILE) == []
    inner.alert(0)
    assert outer.getn(2, 1, A_WHILE) == []
    inner.send(0)
    assert len(outer.getn(2, 1, SOON)) == 1


@rule("R196")
def test_an_alert_of_the_outer_port_leaves_the_outer_event(outer: Port, inner: Port) -> None:
    inner.send(0)
    outer.associate(inner, POLLIN, "inner")
    outer.alert(1)
    assert outer.get(SOON).events == 1
    outer.alert(0)
    assert outer.get(SOON).user == "inner"


@rule("R197")
def test_a_wait_that_finds_nothing_does_not_fire_the_outer(outer: Port, inner: Port) -> None:
    outer.associate(inner, POLLIN)
    assert inner.getn(2, 1, 0) == []
    assert inner.getn(2, 1, A_WHILE) == []
    assert outer.getn(2, 1, A_WHILE) == []
    inner.send(0)
    assert len(outer.getn(2, 1, SOON)) == 1


@rule("R119", "R193")
def test_an_inner_port_can_be_dissociated(outer: Port, inner: Port) -> None:
    outer.associate(inner, POLLIN)
    outer.dissociate(inner)
    inner.send(0)
    assert outer.getn(2, 1, A_WHILE) == []


@rule("R112", "R193")
def test_an_inner_port_that_is_closed_has_no_event(outer: Port, inner: Port) -> None:
    inner.send(0)
    outer.associate(inner, POLLIN)
    assert outer.pending() == 1
    inner.close()
    assert outer.pending() == 0
    assert outer.getn(2, 1, A_WHILE) == []


@rule("R193")
def test_a_thread_waiting_in_the_outer_port_is_woken_through_the_inner(
    outer: Port, inner: Port
) -> None:
    with socket_pair() as (ours, theirs):
        inner.associate(ours, POLLIN)
        outer.associate(inner, POLLIN, "inner")
        waiter = waiting(lambda: outer.get(SOON))
        theirs.send(b"x")
        assert waiter.result().user == "inner"


@rule("R193", "R194")
def test_a_thread_waiting_in_the_inner_port_has_its_event_all_the_same(
    outer: Port, inner: Port
) -> None:
    outer.associate(inner, POLLIN)
    waiter = waiting(lambda: inner.get(SOON))
    inner.send(0, "for the inner waiter")
    assert waiter.result().user == "for the inner waiter"


@rule("R198")
def test_a_port_may_be_associated_with_itself(port: Port) -> None:
    port.associate(port, POLLIN, "itself")
    assert port.getn(2, 1, A_WHILE) == []
    port.send(0, "sent")
    assert {event.user for event in port.getn(4, 2, SOON)} == {"sent", "itself"}
    assert port.getn(2, 1, A_WHILE) == []


@rule("R198")
def test_two_ports_may_watch_each_other(outer: Port, inner: Port) -> None:
    outer.associate(inner, POLLIN, "inner")
    inner.associate(outer, POLLIN, "outer")
    inner.send(0, "sent")
    assert outer.pending() == 1
    assert {event.user for event in inner.getn(4, 2, SOON)} == {"sent", "outer"}
    assert outer.getn(4, 1, SOON) == [PortEvent(PORT_SOURCE_FD, inner.fileno(), POLLIN, "inner")]


@rule("R193", "R198")
def test_a_port_may_watch_one_that_watches_another(make_port: MakePort) -> None:
    nest(make_port, 2)


@rule("R193", "R198")
@pytest.mark.parametrize("depth", [3, 10, 40])
def test_ports_may_be_nested_in_depth(make_port: MakePort, depth: int) -> None:
    nest(make_port, depth)


def nest(make_port: MakePort, depth: int) -> None:
    """An event of the innermost port is noticed in the outermost."""
    ports = [make_port() for _ in range(depth + 1)]
    for inside, outside in pairwise(ports):
        outside.associate(inside, POLLIN)
    assert ports[-1].getn(2, 1, 0) == []
    ports[0].send(0)
    for outside, inside in pairwise(reversed(ports)):
        assert [event.object for event in outside.getn(2, 1, SOON)] == [inside.fileno()]


@rule("R193")
def test_one_port_may_watch_many(outer: Port, make_port: MakePort) -> None:
    inners = [make_port() for _ in range(8)]
    for number, one in enumerate(inners):
        outer.associate(one, POLLIN, number)
    for number in (5, 2, 7):
        inners[number].send(0)
        assert [event.user for event in outer.getn(8, 1, SOON)] == [number]


@rule("R106", "R193")
def test_many_ports_may_watch_one(inner: Port, make_port: MakePort) -> None:
    outers = [make_port() for _ in range(4)]
    for one in outers:
        one.associate(inner, POLLIN)
    inner.send(0)
    for one in outers:
        assert [event.object for event in one.getn(2, 1, SOON)] == [inner.fileno()]
