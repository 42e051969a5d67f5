"""aio_fsync(3C)."""

import errno
import os

import pytest

from portcompat import Port, PortEvent
from portcompat.aio import (
    AIO_CANCELED,
    AIOFSYNC,
    AioControlBlock,
    aio_cancel,
    aio_close,
    aio_error,
    aio_fsync,
    aio_read,
    aio_return,
    aio_write,
)
from portcompat.conformance import rule
from portcompat.conformance._aio import NOT_OPEN, Ends, reading, taken, to
from portcompat.conformance._descriptors import A_WHILE, SOON
from portcompat.conformance._errors import errno_of

pytestmark = pytest.mark.usefixtures("kaio")

operation = pytest.mark.parametrize("op", [os.O_SYNC, os.O_DSYNC], ids=["O_SYNC", "O_DSYNC"])


def syncing(port: Port, fd: int, user: object = None) -> AioControlBlock:
    block = AioControlBlock(fd, sigevent=to(port, user))
    aio_fsync(os.O_SYNC, block)
    return block


@rule("R317")
@pytest.mark.parametrize("op", [os.O_SYNC, os.O_DSYNC, 0, -1, 12345])
def test_without_a_block_nothing_is_done(op: int) -> None:
    assert errno_of(aio_fsync, op, None) is None


@rule("R062", "R317")
@pytest.mark.parametrize("op", [0, 1, -1, os.O_SYNC | os.O_RDWR, os.O_APPEND])
def test_another_operation_is_einval(port: Port, opened: int, ends: Ends, op: int) -> None:
    assert errno_of(aio_fsync, op, AioControlBlock(opened, sigevent=to(port))) == errno.EINVAL
    outstanding = reading(port, ends[0])
    assert errno_of(aio_fsync, op, outstanding) == errno.EINVAL
    block = AioControlBlock(NOT_OPEN, sigevent=to(port))
    assert errno_of(aio_fsync, op, block) == errno.EINVAL
    assert port.getn(1, 1, A_WHILE) == []


@rule("R062", "R317")
@operation
def test_an_outstanding_block_is_ebusy(port: Port, ends: Ends, op: int) -> None:
    block = reading(port, ends[0])
    assert errno_of(aio_fsync, op, block) == errno.EBUSY
    assert aio_error(block) == errno.EINPROGRESS


@rule("R062", "R317")
@operation
def test_a_descriptor_that_is_not_open_is_ebadf(port: Port, op: int) -> None:
    block = AioControlBlock(NOT_OPEN, sigevent=to(port))
    assert errno_of(aio_fsync, op, block) == errno.EBADF
    assert port.getn(1, 1, A_WHILE) == []


@rule("R317", "R320")
@operation
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR])
def test_it_need_not_be_open_for_writing(port: Port, opened: int, op: int, flags: int) -> None:
    fd = os.open(f"/dev/fd/{opened}", flags)
    try:
        block = AioControlBlock(fd, sigevent=to(port))
        aio_fsync(op, block)
        taken(port, block)
        assert aio_return(block) == 0
    finally:
        aio_close(fd)


@rule("R318")
def test_it_waits_for_what_was_asked_before_on_every_descriptor(
    port: Port, opened: int, ends: Ends
) -> None:
    read = reading(port, ends[0])
    sync = syncing(port, opened)
    assert port.getn(1, 1, A_WHILE) == []
    assert aio_error(sync) == errno.EINPROGRESS
    os.write(ends[1], b"x")
    taken(port, read)
    taken(port, sync)
    assert aio_return(sync) == 0


@rule("R318")
def test_it_waits_for_writes(port: Port, opened: int) -> None:
    data = bytes(1 << 18)
    for _ in range(10):
        writes = []
        for number in range(8):
            block = AioControlBlock(opened, data, number << 18, to(port))
            aio_write(block)
            writes.append(block)
        sync = syncing(port, opened)
        events = port.getn(9, 9, SOON)
        assert {event.object for event in events[:8]} == set(writes)
        assert events[8].object is sync


@rule("R318")
def test_it_does_not_wait_for_what_is_asked_later(port: Port, opened: int, ends: Ends) -> None:
    sync = syncing(port, opened)
    reading(port, ends[0])
    taken(port, sync)


@rule("R318")
def test_a_cancelled_request_is_waited_for_no_longer(port: Port, opened: int, ends: Ends) -> None:
    read = reading(port, ends[0])
    sync = syncing(port, opened)
    assert port.getn(1, 1, A_WHILE) == []
    assert aio_cancel(ends[0], read) == AIO_CANCELED
    taken(port, read)
    taken(port, sync)


@rule("R319")
@operation
def test_operation_and_opcode_are_written_into_the_block(port: Port, opened: int, op: int) -> None:
    block = AioControlBlock(opened, offset=5, sigevent=to(port))
    aio_fsync(op, block)
    assert block.aio_offset == op
    assert block.aio_lio_opcode == AIOFSYNC
    taken(port, block)


@rule("R293", "R320")
def test_its_event_says_aiofsync(port: Port, opened: int) -> None:
    block = syncing(port, opened, "user")
    assert port.get(SOON) == PortEvent(1, block, 20, "user")
    assert aio_return(block) == 0
    assert errno_of(aio_return, block) == errno.EINVAL


@rule("R320")
def test_what_cannot_be_synced_is_the_error_of_the_request(port: Port, ends: Ends) -> None:
    block = syncing(port, ends[0])
    taken(port, block)
    assert aio_error(block) == errno_of(os.fsync, ends[0])
    assert errno_of(aio_return, block) == errno_of(os.fsync, ends[0])


@rule("R320")
def test_it_is_cancelled_while_it_waits(port: Port, opened: int, ends: Ends) -> None:
    read = reading(port, ends[0])
    sync = syncing(port, opened)
    assert aio_cancel(opened, sync) == AIO_CANCELED
    assert aio_error(sync) == errno.ECANCELED
    taken(port, sync)
    os.write(ends[1], b"x")
    taken(port, read)


@rule("R305", "R320")
def test_a_block_can_read_write_and_sync_in_turn(port: Port, opened: int) -> None:
    block = AioControlBlock(opened, bytearray(8), 0, to(port))
    for _ in range(3):
        aio_read(block)
        taken(port, block)
        aio_write(block)
        taken(port, block)
        aio_fsync(os.O_SYNC, block)
        assert taken(port, block).events == 20
        assert aio_return(block) == 0
        block.aio_offset = 0
