"""The slots of a port: what an association takes, and when it gives it back."""

import errno
from collections.abc import Callable
from contextlib import ExitStack

from portcompat import POLLIN, POLLOUT, Port
from portcompat.conformance import rule
from portcompat.conformance._descriptors import A_WHILE, SOON, socket_pair
from portcompat.conformance._errors import errno_of

MakePort = Callable[..., Port]


@rule("R079", "R080")
def test_an_association_takes_a_slot(make_port: MakePort) -> None:
    port = make_port(max_events=1)
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN)
        assert errno_of(port.associate, theirs, POLLIN) == errno.EAGAIN
        assert errno_of(port.send, 0) == errno.EAGAIN


@rule("R079", "R080")
def test_a_queued_user_event_takes_the_slot_of_an_association(make_port: MakePort) -> None:
    port = make_port(max_events=1)
    with socket_pair() as (ours, _):
        port.send(0)
        assert errno_of(port.associate, ours, POLLIN) == errno.EAGAIN
        port.get(SOON)
        assert errno_of(port.associate, ours, POLLIN) is None


@rule("R079", "R082")
def test_a_fired_association_takes_no_second_slot(make_port: MakePort) -> None:
    port = make_port(max_events=2)
    with socket_pair() as (ours, _):
        port.associate(ours, POLLOUT)
        assert port.pending() == 1
        assert errno_of(port.send, 0) is None
        assert errno_of(port.send, 0) == errno.EAGAIN
        assert len(port.getn(4, 2, SOON)) == 2


@rule("R079", "R108")
def test_retrieval_keeps_the_slot(make_port: MakePort) -> None:
    port = make_port(max_events=1)
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLOUT)
        port.get(SOON)
        assert errno_of(port.associate, theirs, POLLIN) == errno.EAGAIN
        assert errno_of(port.send, 0) == errno.EAGAIN


@rule("R079", "R119")
def test_dissociating_gives_the_slot_back(make_port: MakePort) -> None:
    port = make_port(max_events=1)
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN)
        port.dissociate(ours)
        assert errno_of(port.associate, theirs, POLLIN) is None


@rule("R079", "R120")
def test_dissociating_what_is_queued_gives_the_slot_back(make_port: MakePort) -> None:
    port = make_port(max_events=1)
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLOUT)
        assert port.pending() == 1
        port.dissociate(ours)
        assert errno_of(port.associate, theirs, POLLIN) is None


@rule("R080")
def test_associating_anew_needs_no_slot(make_port: MakePort) -> None:
    port = make_port(max_events=1)
    with socket_pair() as (ours, _):
        port.associate(ours, POLLIN)
        assert errno_of(port.associate, ours, POLLOUT) is None  # while idle
        assert errno_of(port.associate, ours, POLLOUT) is None  # while queued
        port.get(SOON)
        assert errno_of(port.associate, ours, POLLOUT) is None  # after retrieval
        assert len(port.getn(2, 1, SOON)) == 1


@rule("R080")
def test_a_refused_association_leaves_no_trace(make_port: MakePort) -> None:
    port = make_port(max_events=1)
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN, "ours")
        assert errno_of(port.associate, theirs, POLLOUT) == errno.EAGAIN
        assert port.getn(2, 1, A_WHILE) == []
        theirs.send(b"x")
        assert [event.user for event in port.getn(2, 1, SOON)] == ["ours"]


@rule("R080")
def test_a_refused_association_succeeds_once_there_is_room(make_port: MakePort) -> None:
    port = make_port(max_events=2)
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLOUT, "first")
        port.send(0, "message")
        assert errno_of(port.associate, theirs, POLLOUT) == errno.EAGAIN
        assert [event.user for event in port.getn(2, 2, SOON)] == ["first", "message"]
        assert errno_of(port.associate, theirs, POLLOUT) is None
        assert port.get(SOON).object == theirs.fileno()


@rule("R079", "R080")
def test_exactly_as_many_associations_as_slots_are_accepted(make_port: MakePort) -> None:
    port = make_port(max_events=40)
    with ExitStack() as opened:
        ends = [end for _ in range(21) for end in opened.enter_context(socket_pair())]
        outcomes = [errno_of(port.associate, end, POLLOUT) for end in ends]
        assert outcomes == [None] * 40 + [errno.EAGAIN] * 2
        assert len(port.getn(64, 40, SOON)) == 40


@rule("R082")
def test_no_event_is_lost_when_every_slot_is_taken(make_port: MakePort) -> None:
    port = make_port(max_events=40)
    with ExitStack() as opened:
        pairs = [opened.enter_context(socket_pair()) for _ in range(20)]
        for ours, _ in pairs:
            port.associate(ours, POLLIN)
        while errno_of(port.send, 0) is None:
            pass
        for _, theirs in pairs:
            theirs.send(b"x")
        events = port.getn(64, 40, SOON)
        assert sorted(event.object for event in events if event.object) == sorted(
            ours.fileno() for ours, _ in pairs
        )
        assert len(events) == 40


@rule("R082")
def test_an_association_has_one_event_in_the_queue_at_most(make_port: MakePort) -> None:
    port = make_port(max_events=8)
    with socket_pair() as (ours, theirs):
        for turn in range(20):
            theirs.send(b"x")
            port.associate(ours, POLLIN, turn)
            assert port.pending() == 1
        assert [event.user for event in port.getn(8, 1, SOON)] == [19]


@rule("R004", "R079")
def test_the_limit_is_the_ports_own(make_port: MakePort) -> None:
    small, large = make_port(max_events=1), make_port(max_events=2)
    with socket_pair() as (ours, theirs):
        for port in (small, large):
            port.associate(ours, POLLIN)
        assert errno_of(small.associate, theirs, POLLIN) == errno.EAGAIN
        assert errno_of(large.associate, theirs, POLLIN) is None
