"""Requests and signal handlers that raise, at any step of a call."""

import errno
import os
from collections.abc import Iterator
from functools import partial

import pytest

from portcompat import Port, PortEvent
from portcompat.aio import (
    LIO_NOWAIT,
    LIO_READ,
    AioControlBlock,
    aio_cancel,
    aio_error,
    aio_read,
    aio_return,
    aio_suspend,
    aio_waitn,
    lio_listio,
)
from portcompat.conformance import rule
from portcompat.conformance._aio import CONTENT, Ends, finished, reading, taken, to, within
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._errors import errno_of
from portcompat.conformance._files import MakePort
from portcompat.conformance._interruptions import Interruption, at_each_step, uncollected
from portcompat.conformance._threads import in_thread

pytestmark = pytest.mark.usefixtures("kaio")


class Interrupted(Exception):
    """What a handler raises."""


def fail() -> None:
    raise Interrupted


def each_step() -> Iterator[Interruption]:
    with uncollected():
        yield from at_each_step(fail)


def until_synced(port: Port, fd: int) -> list[object]:
    """The users of the events of all requests that were made before."""
    sync = port.aio.fsync(fd, user=until_synced)
    users: list[object] = []
    while (event := port.get(SOON)).object is not sync:
        users.append(event.user)
    return users


def resizable(memory: bytearray) -> bool:
    try:
        memory.append(0)
    except BufferError:
        return False
    return True


@rule("R066", "R286")
def test_a_request_that_is_interrupted_is_made_or_not(port: Port, opened: int) -> None:
    taken(port, port.aio.read(opened, 1))
    made = False
    for turn, interruption in enumerate(each_step()):
        memory = bytearray(8)
        made = False
        try:
            with interruption.at_work():
                port.aio.read(opened, memory, 4, user=turn)
                made = True
        except Interrupted:
            pass
        users = until_synced(port, opened)
        assert users in ([turn], []) if not made else users == [turn]
        if users:
            assert bytes(memory) == CONTENT[4:12]
        within(SOON, partial(resizable, memory))
    assert made


@rule("R066", "R283")
def test_a_block_whose_submission_is_interrupted_is_outstanding_or_not(
    port: Port, opened: int
) -> None:
    for turn, interruption in enumerate(each_step()):
        block = AioControlBlock(opened, 8, 4, to(port, turn))
        try:
            with interruption.at_work():
                aio_read(block)
        except Interrupted:
            pass
        users = until_synced(port, opened)
        assert users in ([turn], [])
        assert aio_error(block) != errno.EINPROGRESS
        if users:
            assert aio_return(block) == 8
        aio_read(block)
        taken(port, block)
        assert aio_return(block) == 8


@rule("R066", "R134")
@pytest.mark.parametrize("slots", [None, 1])
def test_an_interrupted_retrieval_loses_no_completion(
    make_port: MakePort, opened: int, slots: int | None
) -> None:
    port = make_port(max_events=slots)
    for interruption in each_step():
        blocks = [reading(port, opened, n) for n in range(3)]
        finished(*blocks)
        events: list[PortEvent] = []
        try:
            with interruption.at_work():
                events = port.getn(8, 1, SOON)
        except Interrupted:
            pass
        while len(events) < 3:
            more = port.getn(8, 1, SOON)
            assert more, f"{events} are all"
            events += more
        assert sorted(event.user for event in events) == [0, 1, 2]
        assert [aio_return(block) for block in blocks] == [8] * 3
    assert port.getn(1, 1, 0) == []


@rule("R066", "R310", "R311")
def test_a_request_whose_cancelling_is_interrupted_is_told_once(port: Port, ends: Ends) -> None:
    for turn, interruption in enumerate(each_step()):
        block = reading(port, ends[0], turn)
        try:
            with interruption.at_work():
                aio_cancel(ends[0], block)
        except Interrupted:
            pass
        aio_cancel(ends[0], block)
        assert taken(port, block).user == turn
        assert aio_error(block) == errno.ECANCELED
        after = reading(port, ends[0], "after")
        os.write(ends[1], b"x")
        taken(port, after)
        assert bytes(after.data) == b"x"
    assert port.getn(1, 1, 0) == []


@rule("R066", "R321")
def test_a_list_whose_submission_is_interrupted_is_as_many_requests(
    port: Port, opened: int
) -> None:
    for interruption in each_step():
        blocks = [AioControlBlock(opened, 8, n, to(port, n), lio_opcode=LIO_READ) for n in range(3)]
        whole = False
        try:
            with interruption.at_work():
                lio_listio(LIO_NOWAIT, blocks, to(port, "list"))
                whole = True
        except Interrupted:
            pass
        users = until_synced(port, opened)
        assert len(set(users)) == len(users)
        if whole:
            assert set(users) == {0, 1, 2, "list"}
        for block in blocks:
            assert aio_error(block) != errno.EINPROGRESS
            aio_read(block)
            taken(port, block)
            assert aio_return(block) == 8


@rule("R066", "R333")
def test_an_interrupted_wait_for_a_request_takes_nothing(port: Port, opened: int) -> None:
    for interruption in each_step():
        block = reading(port, opened)
        try:
            with interruption.at_work():
                aio_suspend([block], SOON)
        except Interrupted:
            pass
        aio_suspend([block], SOON)
        taken(port, block)
        assert aio_return(block) == 8


@rule("R066", "R341")
@pytest.mark.usefixtures("reaped")
def test_what_an_interrupted_aio_waitn_has_not_returned_the_next_one_does(opened: int) -> None:
    for interruption in each_step():
        blocks = [AioControlBlock(opened, 8) for _ in range(3)]
        for block in blocks:
            aio_read(block)
        finished(*blocks)
        found: list[AioControlBlock] = []
        try:
            with interruption.at_work():
                found = aio_waitn(3, 1, SOON)
        except Interrupted:
            pass
        if not found:
            found = aio_waitn(3, 3, SOON)
        assert set(found) == set(blocks)
        assert in_thread(partial(errno_of, aio_waitn, 1, 1, 1)).result() == errno.EAGAIN


@rule("R066", "R177")
def test_a_port_whose_closing_is_interrupted_is_closed_by_another_call(
    make_port: MakePort, ends: Ends
) -> None:
    for interruption in each_step():
        port = make_port()
        memory = bytearray(1)
        block = port.aio.read(ends[0], memory)
        try:
            with interruption.at_work():
                port.close()
        except Interrupted:
            pass
        port.close()
        os.write(ends[1], b"x")
        assert finished(block) == [0]
        within(SOON, partial(resizable, memory))
