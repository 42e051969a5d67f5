"""port_associate(3C): when a descriptor's event comes, how often, and what it says."""

from contextlib import ExitStack

import pytest

from portcompat import (
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLNVAL,
    POLLOUT,
    POLLPRI,
    POLLRDNORM,
    PORT_SOURCE_FD,
    Port,
    PortEvent,
)
from portcompat.conformance import needs, rule
from portcompat.conformance._descriptors import A_WHILE, SOON, pipe, socket_pair
from portcompat.conformance._polled import polled


@rule("R095")
def test_a_condition_that_holds_already_is_queued_by_the_call(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        theirs.send(b"x")
        port.associate(ours, POLLIN)
        assert port.pending() == 1


@rule("R095")
def test_what_is_ready_is_there_for_a_wait_of_no_time(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        theirs.send(b"x")
        port.associate(ours, POLLIN, "at once")
        assert port.get(0) == PortEvent(PORT_SOURCE_FD, ours.fileno(), POLLIN, "at once")


@rule("R096")
def test_what_is_not_ready_queues_nothing(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.associate(ours, POLLIN)
        assert port.pending() == 0
        assert port.getn(2, 1, A_WHILE) == []


@rule("R096")
def test_the_event_comes_when_the_condition_does(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN, "later")
        assert port.getn(2, 1, 0) == []
        theirs.send(b"x")
        assert port.get(SOON) == PortEvent(PORT_SOURCE_FD, ours.fileno(), POLLIN, "later")


@rule("R096", "R104")
def test_one_association_is_one_event(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN)
        for _ in range(3):
            theirs.send(b"x")
        assert len(port.getn(8, 1, SOON)) == 1
        theirs.send(b"x")
        assert port.getn(8, 1, A_WHILE) == []


@rule("R096")
def test_wake_ups_before_retrieval_are_one_event(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN)
        for _ in range(3):
            theirs.send(b"x")
            assert port.pending() == 1
        assert len(port.getn(8, 1, SOON)) == 1


@rule("R097")
def test_the_user_is_the_very_object_that_was_given(port: Port) -> None:
    user = object()
    with socket_pair() as (ours, _):
        port.associate(ours, POLLOUT, user)
        assert port.get(SOON).user is user


@rule("R097")
def test_the_user_is_none_when_none_is_given(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.associate(ours, POLLOUT)
        assert port.get(SOON).user is None


@rule("R098")
def test_a_bit_not_asked_is_not_told(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        theirs.send(b"x")
        port.associate(ours, POLLIN)
        assert port.get(SOON).events == POLLIN


@rule("R098")
def test_readiness_not_asked_does_not_fire(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.associate(ours, POLLIN)
        assert port.getn(2, 1, A_WHILE) == []
        port.associate(ours, POLLOUT)
        assert port.get(SOON).events == POLLOUT


@needs("bands")
@rule("R098")
def test_two_names_of_one_condition_are_told_as_asked(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        theirs.send(b"x")
        port.associate(ours, POLLIN | POLLRDNORM)
        assert port.get(SOON).events == POLLIN | POLLRDNORM
        port.associate(ours, POLLRDNORM)
        assert port.get(SOON).events == POLLRDNORM


@needs("hangup")
@rule("R098", "R110")
@pytest.mark.parametrize("events", [0, POLLIN])
def test_hangup_is_told_unasked(port: Port, events: int) -> None:
    with pipe() as (reader, writer):
        port.associate(reader, events)
        writer.close()
        told = port.get(SOON).events
        assert told & POLLHUP
        assert told == polled(reader.fileno(), events)


@needs("hangup")
@rule("R098", "R110")
@pytest.mark.parametrize("events", [0, POLLIN])
def test_a_writer_without_readers_is_told_unasked(port: Port, events: int) -> None:
    with pipe() as (reader, writer):
        port.associate(writer, events)
        assert port.getn(2, 1, 0) == []
        reader.close()
        told = port.get(SOON).events
        assert told == polled(writer.fileno(), events)
        assert told & (POLLHUP | POLLERR)


@rule("R098")
def test_pollnval_is_never_told(port: Port) -> None:
    with pipe() as (reader, writer):
        writer.write(b"x")
        writer.close()
        port.associate(reader, POLLIN | POLLNVAL)
        assert not port.get(SOON).events & POLLNVAL


@rule("R099")
def test_of_several_bits_those_ready_are_told(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN | POLLOUT)
        assert port.get(SOON).events == POLLOUT
        theirs.send(b"x")
        assert port.getn(2, 1, A_WHILE) == []
        port.associate(ours, POLLIN | POLLOUT)
        assert port.get(SOON).events == POLLIN | POLLOUT


@rule("R099")
def test_half_of_an_interest_asked_again_waits_for_its_half(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN | POLLOUT)
        assert port.get(SOON).events == POLLOUT
        port.associate(ours, POLLIN)
        assert port.getn(2, 1, A_WHILE) == []
        theirs.send(b"x")
        assert port.get(SOON).events == POLLIN


@rule("R100", "R101")
@pytest.mark.parametrize("change", ["more arises", "it goes"])
def test_the_bits_are_those_of_the_moment_it_fired(port: Port, change: str) -> None:
    with socket_pair() as (ours, theirs):
        if change == "more arises":
            port.associate(ours, POLLIN | POLLOUT)
            theirs.send(b"x")
            expected = POLLOUT
        else:
            theirs.send(b"x")
            port.associate(ours, POLLIN)
            ours.recv(1)
            expected = POLLIN
        assert [event.events for event in port.getn(2, 1, A_WHILE)] == [expected]


@rule("R100")
def test_what_arises_after_a_look_is_not_merged_in(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN | POLLOUT)
        port.send(0)  # R084: whatever is ready has its place before this
        theirs.send(b"x")
        assert [event.events for event in port.getn(2, 2, SOON)] == [POLLOUT, 0]


@rule("R101")
def test_what_goes_after_a_look_is_told_all_the_same(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        theirs.send(b"x")
        port.associate(ours, POLLIN)
        port.send(0)
        ours.recv(1)
        assert [event.events for event in port.getn(2, 2, SOON)] == [POLLIN, 0]


@rule("R101")
def test_what_is_left_queued_by_a_retrieval_is_not_looked_at_again(port: Port) -> None:
    with socket_pair() as (one, to_one), socket_pair() as (two, to_two):
        to_one.send(b"x")
        to_two.send(b"x")
        port.associate(one, POLLIN)
        port.associate(two, POLLIN)
        assert port.get(SOON).object == one.fileno()
        two.recv(1)
        assert port.get(SOON) == PortEvent(PORT_SOURCE_FD, two.fileno(), POLLIN, None)


@rule("R102")
def test_associating_anew_replaces_an_event_not_retrieved(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        theirs.send(b"x")
        port.associate(ours, POLLIN, "old")
        assert port.pending() == 1
        port.associate(ours, POLLIN | POLLOUT, "new")
        assert port.pending() == 1
        assert port.getn(2, 1, SOON) == [
            PortEvent(PORT_SOURCE_FD, ours.fileno(), POLLIN | POLLOUT, "new"),
        ]


@rule("R102")
@pytest.mark.parametrize("times", [2, 3, 200])
def test_there_is_one_event_however_often_it_is_associated(port: Port, times: int) -> None:
    with socket_pair() as (ours, _):
        for turn in range(times):
            port.associate(ours, POLLOUT, turn)
            assert port.pending() == 1
        assert [event.user for event in port.getn(8, 1, SOON)] == [times - 1]


@rule("R103")
def test_associating_anew_replaces_events_and_user(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN, "old")
        port.associate(ours, POLLOUT, "new")
        assert port.getn(2, 1, SOON) == [PortEvent(PORT_SOURCE_FD, ours.fileno(), POLLOUT, "new")]
        theirs.send(b"x")
        assert port.getn(2, 1, A_WHILE) == []


@rule("R103")
def test_associating_an_idle_one_anew_produces_nothing(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN, "old")
        port.associate(ours, POLLIN, "new")
        assert port.getn(2, 1, A_WHILE) == []
        theirs.send(b"x")
        assert [event.user for event in port.getn(2, 1, SOON)] == ["new"]


@rule("R104")
def test_associating_again_while_still_ready_fires_each_time(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        theirs.send(b"x")
        for turn in range(50):
            port.associate(ours, POLLIN, turn)
            assert port.get(SOON) == PortEvent(PORT_SOURCE_FD, ours.fileno(), POLLIN, turn)
            assert port.pending() == 0


@rule("R104")
def test_associating_again_after_draining_waits_for_more(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        theirs.send(b"x")
        port.associate(ours, POLLIN)
        port.get(SOON)
        ours.recv(1)
        port.associate(ours, POLLIN)
        assert port.getn(2, 1, A_WHILE) == []
        theirs.send(b"x")
        assert len(port.getn(2, 1, SOON)) == 1


@rule("R105")
def test_associating_anew_for_what_is_not_ready_leaves_no_event(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLOUT, "writable")
        assert port.pending() == 1
        port.associate(ours, POLLIN, "readable")
        assert port.pending() == 0
        assert port.getn(2, 1, A_WHILE) == []
        theirs.send(b"x")
        assert [event.user for event in port.getn(2, 1, SOON)] == ["readable"]


@rule("R106")
def test_each_port_gets_its_own_event(port: Port, backend: str) -> None:
    with Port(backend) as another, socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN, "one")
        another.associate(ours, POLLIN, "two")
        theirs.send(b"x")
        assert port.get(SOON).user == "one"
        port.associate(ours, POLLIN, "one again")
        assert port.get(SOON).user == "one again"
        assert [event.user for event in another.getn(2, 1, SOON)] == ["two"]


@rule("R106")
def test_dissociating_from_one_port_leaves_the_other(port: Port, backend: str) -> None:
    with Port(backend) as another, socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN)
        another.associate(ours, POLLIN)
        port.dissociate(ours)
        theirs.send(b"x")
        assert len(another.getn(2, 1, SOON)) == 1
        assert port.pending() == 0


@rule("R107")
def test_a_dup_is_an_object_of_its_own(port: Port) -> None:
    with socket_pair() as (ours, theirs), ours.dup() as double:
        port.associate(ours, POLLIN, "original")
        port.associate(double, POLLOUT, "dup")
        assert port.get(SOON) == PortEvent(PORT_SOURCE_FD, double.fileno(), POLLOUT, "dup")
        theirs.send(b"x")
        assert port.getn(2, 1, SOON) == [
            PortEvent(PORT_SOURCE_FD, ours.fileno(), POLLIN, "original"),
        ]


@rule("R107")
def test_a_file_and_its_dup_have_an_event_each(port: Port) -> None:
    with socket_pair() as (ours, theirs), ours.dup() as double:
        port.associate(ours, POLLIN)
        port.associate(double, POLLIN)
        theirs.send(b"x")
        assert {event.object for event in port.getn(4, 2, SOON)} == {
            ours.fileno(),
            double.fileno(),
        }


@rule("R108")
def test_retrieval_ends_the_association(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        theirs.send(b"x")
        port.associate(ours, POLLIN)
        port.get(SOON)
        theirs.send(b"x")
        assert port.getn(2, 1, A_WHILE) == []


@rule("R097")
def test_a_cookie_may_be_shared_by_many(port: Port) -> None:
    with socket_pair() as (a, to_a), socket_pair() as (b, to_b), socket_pair() as (c, to_c):
        for watched in (a, b, c):
            port.associate(watched, POLLIN, "shared")
        for watched, other in ((b, to_b), (c, to_c), (a, to_a)):
            other.send(b"x")
            assert port.getn(4, 1, SOON) == [
                PortEvent(PORT_SOURCE_FD, watched.fileno(), POLLIN, "shared"),
            ]


@rule("R085", "R096")
@pytest.mark.parametrize("at_most", [1, 7, 64, 512])
def test_hundreds_of_ready_descriptors_come_once_each(port: Port, at_most: int) -> None:
    with ExitStack() as opened:
        watched = [end for _ in range(150) for end in opened.enter_context(socket_pair())]
        for end in watched:
            port.associate(end, POLLOUT)
        seen: list[int] = []
        while events := port.getn(at_most, 1, 0):
            assert len(events) <= at_most
            seen += [event.object for event in events]
        assert sorted(seen) == sorted(end.fileno() for end in watched)


@rule("R098")
def test_urgent_data_alone_is_not_readable_data_asked(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.associate(ours, POLLPRI)
        assert port.getn(2, 1, A_WHILE) == []
