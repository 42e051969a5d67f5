"""A descriptor number that is closed and then means another open file (R115)."""

import errno
import os
from contextlib import ExitStack

import pytest

from portcompat import POLLIN, POLLOUT, PORT_SOURCE_FD, Port, PortEvent
from portcompat.conformance import rule
from portcompat.conformance._descriptors import A_WHILE, SOON, pipe
from portcompat.conformance._errors import errno_of
from portcompat.conformance._fork import fork_child_that_holds_everything
from portcompat.conformance._lives import Kind, Life
from portcompat.conformance._threads import waiting


class Reused:
    """`number` as a descriptor of what `life` is: opened anew, under a number used before."""

    def __init__(self, number: int, life: Life) -> None:
        os.dup2(life.number, number)
        self.number = number

    def __enter__(self) -> "Reused":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.number)


@rule("R115")
def test_a_number_used_again_starts_with_no_association(
    port: Port, life: Life, next_life: Life, keep_dup: bool
) -> None:
    port.associate(life, POLLIN)
    life.close(keep_dup=keep_dup)
    with Reused(life.number, next_life):
        next_life.feed()
        assert port.pending() == 0
        assert port.getn(2, 1, A_WHILE) == []
        assert errno_of(port.dissociate, life.number) == errno.ENOENT


@rule("R115")
def test_a_number_used_again_starts_with_no_pending_event(
    port: Port, life: Life, next_life: Life, keep_dup: bool
) -> None:
    life.feed()
    port.associate(life, POLLIN)
    assert port.pending() == 1
    life.close(keep_dup=keep_dup)
    with Reused(life.number, next_life):
        next_life.feed()
        assert port.pending() == 0
        assert port.getn(2, 1, A_WHILE) == []


@rule("R115")
def test_a_number_used_again_is_not_associated_for_dissociate(
    port: Port, life: Life, next_life: Life, keep_dup: bool
) -> None:
    port.associate(life, POLLIN)
    life.close(keep_dup=keep_dup)
    with Reused(life.number, next_life):
        assert errno_of(port.dissociate, life.number) == errno.ENOENT


@rule("R114", "R115")
def test_a_number_used_again_has_only_its_own_events(
    port: Port, life: Life, next_life: Life, keep_dup: bool
) -> None:
    port.associate(life, POLLIN, "old")
    life.close(keep_dup=keep_dup)
    with Reused(life.number, next_life):
        port.associate(life.number, POLLIN, "new")
        life.feed()
        assert port.getn(2, 1, A_WHILE) == []
        next_life.feed()
        assert port.getn(2, 1, SOON) == [
            PortEvent(PORT_SOURCE_FD, life.number, POLLIN, "new"),
        ]
        assert port.getn(2, 1, A_WHILE) == []


@rule("R114", "R115")
def test_an_old_event_in_the_queue_does_not_reach_the_new_association(
    port: Port, life: Life, next_life: Life, keep_dup: bool
) -> None:
    life.feed()
    port.associate(life, POLLIN, "old")
    assert port.pending() == 1
    life.close(keep_dup=keep_dup)
    with Reused(life.number, next_life):
        port.associate(life.number, POLLIN, "new")
        assert port.pending() == 0
        assert port.getn(2, 1, A_WHILE) == []
        next_life.feed()
        assert [event.user for event in port.getn(2, 1, SOON)] == ["new"]


@rule("R114", "R115")
def test_each_of_many_lives_of_a_number_has_its_own_events(
    port: Port, life: Life, kind: Kind, keep_dup: bool
) -> None:
    with ExitStack() as past:
        former: list[Life] = []
        for turn in range(8):
            lived = past.enter_context(Life(kind))
            os.dup2(lived.number, life.number)
            if not keep_dup:
                lived.close()
            port.associate(life.number, POLLIN, turn)
            for one in former:
                one.feed()
            assert port.getn(2, 1, 0) == []
            if turn % 2:
                lived.feed()
                assert [event.user for event in port.getn(2, 1, SOON)] == [turn]
            former.append(lived)


@rule("R114", "R115")
def test_a_number_used_again_while_a_fork_child_holds_the_old_file(
    port: Port, life: Life, next_life: Life
) -> None:
    port.associate(life, POLLIN, "old")
    with fork_child_that_holds_everything():
        life.close()
        with Reused(life.number, next_life):
            port.associate(life.number, POLLIN, "new")
            life.feed()
            assert port.getn(2, 1, A_WHILE) == []
            next_life.feed()
            assert [event.user for event in port.getn(2, 1, SOON)] == ["new"]


@rule("R115")
def test_one_that_takes_a_number_back_can_be_associated(port: Port, life: Life) -> None:
    port.associate(life, POLLIN, "old")
    life.close(keep_dup=True)
    os.dup2(life.dup, life.number)
    try:
        port.associate(life.number, POLLIN, "new")
        life.feed()
        assert [event.user for event in port.getn(2, 1, SOON)] == ["new"]
    finally:
        os.close(life.number)


@rule("R114", "R115")
def test_a_thread_that_waits_is_told_of_the_new_owner_of_a_number(
    port: Port, life: Life, next_life: Life, keep_dup: bool
) -> None:
    port.associate(life, POLLIN, "old")
    waiter = waiting(lambda: port.getn(2, 1, SOON))
    life.close(keep_dup=keep_dup)
    with Reused(life.number, next_life):
        port.associate(life.number, POLLIN, "new")
        life.feed()
        waiter.at_rest()
        next_life.feed()
        assert [event.user for event in waiter.result()] == ["new"]


@rule("R115")
def test_a_thread_that_waits_is_not_told_of_a_number_used_again(
    port: Port, life: Life, next_life: Life, keep_dup: bool
) -> None:
    port.associate(life, POLLIN, "old")
    waiter = waiting(lambda: port.getn(2, 1, SOON))
    life.close(keep_dup=keep_dup)
    with Reused(life.number, next_life):
        life.feed()
        next_life.feed()
        waiter.at_rest()
        port.send(0, "and nothing else")
        assert [event.user for event in waiter.result()] == ["and nothing else"]


def events_after_reuse(port: Port, number: int, another: int) -> list[PortEvent]:
    """Associate `number`, which is ready, and make it a descriptor of what `another` is; closes
    both."""
    try:
        port.associate(number, POLLIN)
        assert port.pending() == 1
        os.close(number)
        os.dup2(another, number)
        return port.getn(2, 1, A_WHILE)
    finally:
        os.close(another)
        os.close(number)


@rule("R115")
@pytest.mark.skipif(not hasattr(os, "eventfd"), reason="this host has no eventfd(2)")
def test_a_number_used_again_by_an_eventfd_after_an_eventfd(port: Port) -> None:
    assert events_after_reuse(port, os.eventfd(1), os.eventfd(1)) == []


@rule("R115")
def test_a_number_used_again_by_the_same_regular_file(port: Port) -> None:
    number, another = (os.open(__file__, os.O_RDONLY) for _ in range(2))
    assert events_after_reuse(port, number, another) == []


@rule("R115")
def test_a_number_goes_from_one_end_of_a_pipe_to_the_other(port: Port) -> None:
    with pipe() as (reader, writer):
        number = os.dup(reader.fileno())
        try:
            port.associate(number, POLLIN | POLLOUT)
            os.dup2(writer.fileno(), number)
            assert port.getn(2, 1, A_WHILE) == []
            assert errno_of(port.dissociate, number) == errno.ENOENT
        finally:
            os.close(number)
