"""close(2), dup(2), dup2(2) and fork(2) of descriptors that a port watches."""

import errno
import os
import time
from collections.abc import Callable

import pytest

from portcompat import POLLIN, POLLOUT, PORT_SOURCE_FD, Port, PortEvent
from portcompat.conformance import rule
from portcompat.conformance._descriptors import A_WHILE, SOON, socket_pair
from portcompat.conformance._errors import errno_of
from portcompat.conformance._fork import fork_child_that_holds_everything, in_fork_child
from portcompat.conformance._lives import Life
from portcompat.conformance._threads import waiting

MakePort = Callable[..., Port]


@rule("R112", "R114")
def test_what_is_closed_has_no_event(port: Port, life: Life, keep_dup: bool) -> None:
    port.associate(life, POLLIN)
    life.close(keep_dup=keep_dup)
    life.feed()
    assert port.pending() == 0
    assert port.getn(2, 1, A_WHILE) == []


@rule("R112", "R114")
def test_an_event_in_the_queue_goes_with_its_descriptor(
    port: Port, life: Life, keep_dup: bool
) -> None:
    life.feed()
    port.associate(life, POLLIN)
    assert port.pending() == 1
    life.close(keep_dup=keep_dup)
    assert port.pending() == 0
    assert port.getn(2, 1, A_WHILE) == []


@rule("R112", "R114")
def test_an_event_is_withdrawn_from_among_others(port: Port, life: Life, keep_dup: bool) -> None:
    life.feed()
    port.send(1)
    port.associate(life, POLLIN)
    port.send(2)
    life.close(keep_dup=keep_dup)
    assert [event.events for event in port.getn(8, 2, SOON)] == [1, 2]
    assert port.getn(2, 1, A_WHILE) == []


@rule("R112", "R114")
def test_what_is_withdrawn_is_not_counted_by_a_wait(port: Port, life: Life, keep_dup: bool) -> None:
    life.feed()
    port.associate(life, POLLIN)
    port.send(1)
    life.close(keep_dup=keep_dup)
    began = time.monotonic()
    assert [event.events for event in port.getn(8, 2, A_WHILE)] == [1]
    assert time.monotonic() - began >= A_WHILE


@rule("R112", "R114")
def test_what_is_withdrawn_does_not_hide_what_is_ready(
    port: Port, life: Life, next_life: Life, keep_dup: bool
) -> None:
    life.feed()
    port.associate(life, POLLIN)
    port.associate(next_life, POLLIN, "ready")
    assert port.pending() == 1
    next_life.feed()
    life.close(keep_dup=keep_dup)
    assert [event.user for event in port.getn(1, 1, 0)] == ["ready"]


@rule("R079", "R112", "R114")
def test_the_slot_of_a_closed_descriptor_is_free_for_another(
    make_port: MakePort, life: Life, next_life: Life, keep_dup: bool
) -> None:
    port = make_port(max_events=1)
    port.associate(life, POLLIN)
    life.close(keep_dup=keep_dup)
    next_life.feed()
    port.associate(next_life, POLLIN, "next")
    assert port.get(SOON).user == "next"


@rule("R079", "R112", "R114")
def test_the_slot_of_a_closed_descriptor_is_free_for_a_send(
    make_port: MakePort, life: Life, keep_dup: bool
) -> None:
    port = make_port(max_events=1)
    life.feed()
    port.associate(life, POLLIN)
    life.close(keep_dup=keep_dup)
    port.send(1)
    assert [event.events for event in port.getn(2, 1, SOON)] == [1]


@rule("R108", "R112", "R114")
def test_the_slot_of_one_retrieved_and_closed_is_free(
    make_port: MakePort, life: Life, next_life: Life, keep_dup: bool
) -> None:
    port = make_port(max_events=1)
    life.feed()
    port.associate(life, POLLIN)
    port.get(SOON)
    life.close(keep_dup=keep_dup)
    port.associate(next_life, POLLIN)


@rule("R106", "R112", "R114")
def test_it_is_dropped_from_every_port(
    port: Port, backend: str, life: Life, keep_dup: bool
) -> None:
    life.feed()
    with Port(backend) as another:
        port.associate(life, POLLIN)
        another.associate(life, POLLIN)
        assert another.pending() == 1
        life.close(keep_dup=keep_dup)
        assert port.getn(2, 1, A_WHILE) == []
        assert another.getn(2, 1, A_WHILE) == []


@rule("R113")
def test_dup2_over_it_is_a_close(port: Port, life: Life, next_life: Life) -> None:
    port.associate(life, POLLIN)
    life.feed()
    next_life.feed()
    os.dup2(next_life.number, life.number)
    assert port.pending() == 0
    assert port.getn(2, 1, A_WHILE) == []
    assert errno_of(port.dissociate, life.number) == errno.ENOENT


@rule("R113")
def test_dup2_over_it_takes_its_event_away(port: Port, life: Life, next_life: Life) -> None:
    life.feed()
    next_life.feed()
    port.associate(life, POLLIN)
    port.send(1)
    os.dup2(next_life.number, life.number)
    assert [event.events for event in port.getn(2, 1, SOON)] == [1]


@rule("R114", "R113")
def test_dup2_over_it_with_a_dup_alive_is_a_close(port: Port, life: Life, next_life: Life) -> None:
    port.associate(life, POLLIN)
    double = os.dup(life.number)
    try:
        os.dup2(next_life.number, life.number)
        life.feed()
        assert port.getn(2, 1, A_WHILE) == []
        next_life.feed()
        assert port.getn(2, 1, A_WHILE) == []
    finally:
        os.close(double)


@rule("R114")
def test_a_file_that_lives_on_in_a_fork_child_has_no_event(port: Port, life: Life) -> None:
    port.associate(life, POLLIN)
    with fork_child_that_holds_everything():
        life.close()
        life.feed()
        assert port.pending() == 0
        assert port.getn(2, 1, A_WHILE) == []


@rule("R116")
@pytest.mark.parametrize("queued", [False, True], ids=["idle", "queued"])
def test_a_fork_child_that_closes_its_copy_leaves_the_association(
    port: Port, life: Life, queued: bool
) -> None:
    if queued:
        life.feed()
    port.associate(life, POLLIN, "parent's")
    assert port.pending() == queued
    in_fork_child(lambda: os.close(life.number))
    if not queued:
        assert port.getn(2, 1, 0) == []
        life.feed()
    assert port.getn(2, 1, SOON) == [PortEvent(PORT_SOURCE_FD, life.number, POLLIN, "parent's")]


@rule("R116")
def test_a_fork_child_that_replaces_its_copy_leaves_the_association(
    port: Port, life: Life, next_life: Life
) -> None:
    port.associate(life, POLLIN, "parent's")
    in_fork_child(lambda: os.dup2(next_life.number, life.number))
    assert port.getn(2, 1, 0) == []
    life.feed()
    assert [event.user for event in port.getn(2, 1, SOON)] == ["parent's"]


@rule("R107", "R112")
@pytest.mark.parametrize("closed", ["original", "dup"])
def test_closing_one_of_two_leaves_the_other(port: Port, life: Life, closed: str) -> None:
    double = os.dup(life.number)
    port.associate(life, POLLIN, "original")
    port.associate(double, POLLIN, "dup")
    if closed == "original":
        life.close()
    else:
        os.close(double)
    life.feed()
    left = "dup" if closed == "original" else "original"
    assert [event.user for event in port.getn(4, 1, SOON)] == [left]
    if closed == "original":
        os.close(double)


@rule("R114")
def test_closing_and_taking_the_same_file_back_is_a_close(port: Port, life: Life) -> None:
    port.associate(life, POLLIN)
    life.close(keep_dup=True)
    os.dup2(life.dup, life.number)
    try:
        life.feed()
        assert port.getn(2, 1, A_WHILE) == []
    finally:
        os.close(life.number)


@rule("R112", "R114")
def test_a_thread_that_waits_is_not_told_of_what_is_closed(
    port: Port, life: Life, keep_dup: bool
) -> None:
    port.associate(life, POLLIN)
    waiter = waiting(lambda: port.getn(2, 1, SOON))
    life.close(keep_dup=keep_dup)
    life.feed()
    waiter.at_rest()
    port.send(0, "and nothing else")
    assert [event.user for event in waiter.result()] == ["and nothing else"]


@rule("R112", "R114")
def test_waiting_with_a_closed_descriptor_costs_no_time(
    port: Port, life: Life, keep_dup: bool
) -> None:
    port.associate(life, POLLIN | POLLOUT)
    port.getn(2, 1, 0)
    port.associate(life, POLLIN)
    life.close(keep_dup=keep_dup)
    life.feed()
    began = time.process_time()
    assert port.getn(2, 1, 0.3) == []
    assert time.process_time() - began < 0.2


@rule("R112", "R115")
def test_a_closed_descriptor_does_not_disturb_the_others(
    port: Port, life: Life, keep_dup: bool
) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN, "alive")
        port.associate(life, POLLIN)
        life.close(keep_dup=keep_dup)
        theirs.send(b"x")
        assert [event.user for event in port.getn(4, 1, SOON)] == ["alive"]


@rule("R112", "R114")
def test_a_number_used_again_is_watched_though_waiting_threads_were_refused_its_old_event(
    port: Port, keep_dup: bool
) -> None:
    leader = waiting(lambda: port.getn(8, 8, SOON))
    follower = waiting(lambda: port.getn(2, 2, SOON))
    with Life() as old:
        old.feed()
        port.associate(old, POLLIN)
        assert port.pending() == 1
        old.close(keep_dup=keep_dup)
        port.send(1)  # two events, it seems, and one is none
        with Life() as new:
            assert new.number == old.number
            port.associate(new, POLLIN, "new")
            new.feed()
            assert [event.user for event in follower.result()] == [None, "new"]
    port.alert(1)
    assert [event.events for event in leader.result()] == [1]
