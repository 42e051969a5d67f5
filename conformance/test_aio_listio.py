"""lio_listio(3C): many requests in one call."""

import errno
import os
import signal
from functools import partial
from pathlib import Path
from time import monotonic

import pytest

from portcompat import PORT_SOURCE_AIO, SIGEV_NONE, Port, PortEvent
from portcompat.aio import (
    AIO_LISTIO_MAX,
    AIOAREAD,
    AIOAWRITE,
    AIOLIO,
    LIO_NOP,
    LIO_NOWAIT,
    LIO_READ,
    LIO_WAIT,
    LIO_WRITE,
    AioControlBlock,
    SigEvent,
    aio_cancel,
    aio_error,
    aio_return,
    lio_listio,
)
from portcompat.conformance import rule
from portcompat.conformance._aio import CONTENT, NOT_OPEN, Ends, finished, reading, taken, to
from portcompat.conformance._descriptors import A_WHILE, SOON, socket_pair
from portcompat.conformance._errors import errno_of
from portcompat.conformance._files import MakePort
from portcompat.conformance._threads import waiting

pytestmark = pytest.mark.usefixtures("kaio")

modes = pytest.mark.parametrize("mode", [LIO_NOWAIT, LIO_WAIT], ids=["LIO_NOWAIT", "LIO_WAIT"])


def read(port: Port, fd: int, offset: int = 0, user: object = None) -> AioControlBlock:
    return AioControlBlock(fd, bytearray(8), offset, to(port, user), lio_opcode=LIO_READ)


def write(port: Port, fd: int, data: bytes, offset: int = 0) -> AioControlBlock:
    return AioControlBlock(fd, data, offset, to(port), lio_opcode=LIO_WRITE)


def objects(events: list[PortEvent]) -> set[object]:
    return {event.object for event in events}


@rule("R027")
def test_modes_and_opcodes_have_the_numbers_of_illumos() -> None:
    assert (LIO_NOWAIT, LIO_WAIT) == (0, 1)
    assert (LIO_NOP, LIO_READ, LIO_WRITE) == (0, 1, 2)


@rule("R025")
def test_the_event_of_a_list_has_illumos_opcode() -> None:
    assert int(AIOLIO) == 7


@rule("R062", "R321")
@modes
def test_an_empty_list_and_a_long_one_are_einval(port: Port, opened: int, mode: int) -> None:
    assert AIO_LISTIO_MAX == 4096
    assert errno_of(lio_listio, mode, []) == errno.EINVAL
    assert errno_of(lio_listio, mode, [None] * 4097) == errno.EINVAL
    block = read(port, opened)
    assert errno_of(lio_listio, mode, [block] + [None] * 4096) == errno.EINVAL
    assert aio_error(block) == 0
    assert errno_of(lio_listio, mode, [None] * 4096) is None


@rule("R062", "R321")
@pytest.mark.parametrize("mode", [2, -1, 77])
def test_another_mode_is_einval(port: Port, opened: int, mode: int) -> None:
    block = read(port, opened)
    assert errno_of(lio_listio, mode, [block]) == errno.EINVAL
    assert errno_of(lio_listio, mode, []) == errno.EINVAL
    assert port.getn(1, 1, A_WHILE) == []
    assert aio_error(block) == 0


@rule("R321")
@modes
def test_an_outstanding_member_is_ebusy_and_nothing_is_submitted(
    port: Port, opened: int, ends: Ends, mode: int
) -> None:
    outstanding = reading(port, ends[0])
    outstanding.aio_lio_opcode = LIO_READ
    blocks = [read(port, opened), outstanding, write(port, opened, b"x")]
    assert errno_of(lio_listio, mode, blocks, to(port)) == errno.EBUSY
    assert port.getn(1, 1, A_WHILE) == []
    assert os.pread(opened, 200, 0) == CONTENT
    assert aio_error(outstanding) == errno.EINPROGRESS


@rule("R322")
@modes
def test_none_and_lio_nop_are_passed_over(port: Port, opened: int, mode: int) -> None:
    idle = AioControlBlock(opened, bytearray(8), 0, to(port), lio_opcode=LIO_NOP)
    block = read(port, opened)
    lio_listio(mode, [None, idle, block, None])
    taken(port, block)
    assert aio_return(block) == 8
    assert aio_error(idle) == 0
    assert port.getn(1, 1, A_WHILE) == []


@rule("R323")
@modes
def test_each_member_tells_as_it_says(
    port: Port, make_port: MakePort, opened: int, mode: int
) -> None:
    other = make_port()
    silent = AioControlBlock(opened, 8, 0, lio_opcode=LIO_READ)
    blocks = [read(port, opened, 0, "one"), read(other, opened, 8, "two"), silent]
    blocks.append(write(port, opened, b"x", 99))
    lio_listio(mode, blocks)
    assert objects(port.getn(2, 2, SOON)) == {blocks[0], blocks[3]}
    assert other.get(SOON) == PortEvent(PORT_SOURCE_AIO, blocks[1], AIOAREAD, "two")
    assert finished(*blocks) == [0, 0, 0, 0]
    assert [aio_return(block) for block in blocks] == [8, 8, 8, 1]
    assert bytes(blocks[1].buf) == CONTENT[8:16]
    assert port.getn(1, 1, 0) == other.getn(1, 1, 0) == []


@rule("R324", "R325")
def test_with_a_port_the_list_sends_an_event_after_the_last(port: Port, opened: int) -> None:
    sigevent = to(port, "list")
    blocks = [read(port, opened, number) for number in range(5)]
    blocks.append(write(port, opened, b"x", 50))
    lio_listio(LIO_NOWAIT, blocks, sigevent)
    *events, last = port.getn(7, 7, SOON)
    assert objects(events) == set(blocks)
    assert last == PortEvent(PORT_SOURCE_AIO, sigevent, AIOLIO, "list")
    assert last.object is sigevent
    assert {aio_error(block) for block in blocks} == {0}
    assert port.getn(1, 1, A_WHILE) == []


@rule("R324")
def test_the_event_of_a_list_waits_for_its_last_member(
    port: Port, make_port: MakePort, opened: int, ends: Ends
) -> None:
    other = make_port()
    blocks = [read(port, opened), read(port, ends[0])]
    lio_listio(LIO_NOWAIT, blocks, to(other, "list"))
    taken(port, blocks[0])
    assert other.getn(1, 1, A_WHILE) == []
    os.write(ends[1], b"x")
    assert other.get(SOON).user == "list"
    taken(port, blocks[1])


@rule("R324")
def test_the_event_of_a_list_comes_though_members_failed_or_were_cancelled(
    port: Port, make_port: MakePort, opened: int, ends: Ends, tmp_path: Path
) -> None:
    other = make_port()
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        blocks = [read(port, directory), read(port, ends[0]), read(port, NOT_OPEN)]
        lio_listio(LIO_NOWAIT, blocks, to(other, "list"))
        taken(port, blocks[0])
        assert other.getn(1, 1, A_WHILE) == []
        aio_cancel(ends[0])
        assert other.get(SOON).user == "list"
    finally:
        os.close(directory)
    errors = [errno.EISDIR, errno.ECANCELED, errno.EBADF]
    assert [aio_error(block) for block in blocks] == errors


@rule("R324")
@pytest.mark.usefixtures("reaped")
def test_a_list_of_members_that_tell_nobody_sends_its_event(port: Port, opened: int) -> None:
    blocks = [AioControlBlock(opened, 8, 0, lio_opcode=LIO_READ) for _ in range(3)]
    lio_listio(LIO_NOWAIT, blocks, to(port, "list"))
    assert port.get(SOON).user == "list"
    assert [aio_return(block) for block in blocks] == [8, 8, 8]


@rule("R297", "R325")
def test_the_event_of_a_list_waits_for_a_slot_too(make_port: MakePort, opened: int) -> None:
    port = make_port(max_events=1)
    blocks = [read(port, opened, number) for number in range(5)]
    lio_listio(LIO_NOWAIT, blocks, to(port, "list"))
    finished(*blocks)
    found = [port.get(SOON) for _ in range(6)]
    assert objects(found[:5]) == set(blocks)
    assert found[5].user == "list"


@rule("R326")
def test_a_list_of_which_nothing_is_accepted_sends_no_event(port: Port, opened: int) -> None:
    idle = AioControlBlock(opened, 8, 0, to(port), lio_opcode=LIO_NOP)
    lio_listio(LIO_NOWAIT, [None, idle], to(port))
    bad = [read(port, NOT_OPEN), read(port, -1)]
    assert errno_of(lio_listio, LIO_NOWAIT, bad, to(port)) == errno.EIO
    assert port.getn(1, 1, A_WHILE) == []


@rule("R327")
@pytest.mark.parametrize("sigevent", [None, SigEvent(SIGEV_NONE)], ids=["None", "SIGEV_NONE"])
def test_without_a_port_the_list_sends_no_event(
    port: Port, opened: int, sigevent: SigEvent | None
) -> None:
    blocks = [read(port, opened), read(port, opened)]
    lio_listio(LIO_NOWAIT, blocks, sigevent)
    assert objects(port.getn(2, 2, SOON)) == set(blocks)
    assert port.getn(1, 1, A_WHILE) == []


@rule("R328")
@pytest.mark.parametrize("told", [False, True])
def test_lio_wait_returns_when_all_are_done_and_sends_the_events_of_the_members(
    port: Port, opened: int, told: bool
) -> None:
    blocks = [read(port, opened), write(port, opened, b"x", 60), read(port, opened, 8)]
    lio_listio(LIO_WAIT, blocks, to(port) if told else None)
    assert [aio_return(block) for block in blocks] == [8, 1, 8]
    events = port.getn(3, 3, SOON)
    assert objects(events) == set(blocks)
    assert {event.events for event in events} == {AIOAREAD, AIOAWRITE}
    assert port.getn(1, 1, A_WHILE) == []


@rule("R328")
def test_lio_wait_waits_for_the_slowest(port: Port, opened: int, ends: Ends) -> None:
    blocks = [read(port, opened), read(port, ends[0])]
    call = waiting(partial(lio_listio, LIO_WAIT, blocks))
    os.write(ends[1], b"x")
    call.result()
    assert [aio_return(block) for block in blocks] == [8, 1]


@rule("R328", "R329")
@pytest.mark.parametrize("slow", [False, True], ids=["done before", "waited for"])
def test_lio_wait_is_eio_when_a_member_failed(
    port: Port, opened: int, ends: Ends, tmp_path: Path, slow: bool
) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(5):
            blocks = [read(port, directory), read(port, ends[0] if slow else opened)]
            if slow:
                os.write(ends[1], b"x")
            assert errno_of(lio_listio, LIO_WAIT, blocks) == errno.EIO
            assert aio_error(blocks[0]) == errno.EISDIR
            assert aio_return(blocks[1]) == (1 if slow else 8)
            assert objects(port.getn(2, 2, SOON)) == set(blocks)
    finally:
        os.close(directory)


@rule("R328")
def test_lio_wait_of_a_cancelled_member_is_eio(port: Port, ends: Ends) -> None:
    block = read(port, ends[0])
    call = waiting(partial(errno_of, lio_listio, LIO_WAIT, [block]))
    aio_cancel(ends[0], block)
    assert call.result() == errno.EIO
    assert aio_error(block) == errno.ECANCELED


class Interrupted(Exception):
    """What a handler raises."""


@rule("R134", "R328")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer")
def test_a_handler_that_raises_ends_lio_wait_and_the_requests_go_on(port: Port, ends: Ends) -> None:
    def interrupt(*_: object) -> None:
        raise Interrupted

    block = read(port, ends[0])
    former = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Interrupted):
            lio_listio(LIO_WAIT, [block])
    finally:
        signal.signal(signal.SIGALRM, former)
    assert aio_error(block) == errno.EINPROGRESS
    os.write(ends[1], b"x")
    taken(port, block)
    assert aio_return(block) == 1


@rule("R330")
def test_lio_nowait_returns_before_its_members_are_done(port: Port, ends: Ends) -> None:
    block = read(port, ends[0])
    before = monotonic()
    lio_listio(LIO_NOWAIT, [block])
    assert monotonic() < before + SOON
    assert aio_error(block) == errno.EINPROGRESS


@rule("R330")
@modes
def test_a_member_with_a_priority_is_eio_and_the_others_run(
    port: Port, opened: int, mode: int
) -> None:
    blocks = [read(port, opened), read(port, opened), read(port, opened)]
    blocks[1].aio_reqprio = 1
    assert errno_of(lio_listio, mode, blocks) == errno.EIO
    assert finished(*blocks) == [0, errno.EINVAL, 0]
    assert objects(port.getn(3, 2, SOON)) == {blocks[0], blocks[2]}
    assert port.getn(1, 1, A_WHILE) == []


@rule("R330")
@modes
def test_with_bad_descriptors_only_it_is_eio(port: Port, mode: int) -> None:
    blocks = [read(port, NOT_OPEN), read(port, -1)]
    assert errno_of(lio_listio, mode, blocks) == errno.EIO
    assert [aio_error(block) for block in blocks] == [errno.EBADF] * 2


@rule("R330")
def test_with_some_bad_descriptors_lio_nowait_succeeds(port: Port, opened: int) -> None:
    blocks = [read(port, NOT_OPEN), read(port, opened)]
    lio_listio(LIO_NOWAIT, blocks)
    assert finished(*blocks) == [errno.EBADF, 0]


@rule("R330")
def test_with_some_bad_descriptors_lio_wait_is_eio(port: Port, opened: int) -> None:
    blocks = [read(port, NOT_OPEN), read(port, opened)]
    assert errno_of(lio_listio, LIO_WAIT, blocks) == errno.EIO
    assert [aio_error(block) for block in blocks] == [errno.EBADF, 0]


@rule("R330")
def test_an_unknown_opcode_is_einval_in_the_member(port: Port, opened: int) -> None:
    blocks = [read(port, opened), read(port, opened)]
    blocks[0].aio_lio_opcode = 77
    assert errno_of(lio_listio, LIO_NOWAIT, blocks) == errno.EIO
    assert finished(*blocks) == [errno.EINVAL, 0]


@rule("R331")
@modes
def test_a_bad_port_for_the_list_is_refused_and_nothing_is_submitted(
    port: Port, make_port: MakePort, opened: int, mode: int
) -> None:
    closed = make_port()
    closed.close()
    with socket_pair() as (ours, _):
        for where in (NOT_OPEN, closed, ours.fileno()):
            block = write(port, opened, b"x")
            assert errno_of(lio_listio, mode, [block], to(where)) is not None
            assert aio_error(block) == 0
    assert port.getn(1, 1, A_WHILE) == []
    assert os.pread(opened, 200, 0) == CONTENT


@rule("R323")
def test_a_long_list_is_done_whole(port: Port, opened: int) -> None:
    blocks = [read(port, opened, number % 90, number) for number in range(500)]
    lio_listio(LIO_NOWAIT, blocks, to(port, "list"))
    events = port.getn(501, 501, SOON)
    assert sorted(event.user for event in events[:-1]) == list(range(500))
    assert events[-1].user == "list"
    assert all(bytes(block.buf) == CONTENT[n % 90 : n % 90 + 8] for n, block in enumerate(blocks))
