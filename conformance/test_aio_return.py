"""aio_error(3C) and aio_return(3C)."""

import errno
import os
from functools import partial
from pathlib import Path
from threading import Barrier

import pytest

from portcompat import Port
from portcompat.aio import (
    AIO_CANCELED,
    AioControlBlock,
    aio_cancel,
    aio_close,
    aio_error,
    aio_fsync,
    aio_read,
    aio_return,
    aio_waitn,
    aio_write,
)
from portcompat.conformance import rule
from portcompat.conformance._aio import CONTENT, Ends, finished, taken, to
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._errors import errno_of
from portcompat.conformance._threads import in_thread

pytestmark = pytest.mark.usefixtures("kaio")


def done(port: Port, fd: int, offset: int = 0) -> AioControlBlock:
    block = AioControlBlock(fd, bytearray(8), offset, to(port))
    aio_read(block)
    taken(port, block)
    return block


@rule("R300")
def test_a_block_that_was_never_submitted_has_no_error(opened: int) -> None:
    assert aio_error(AioControlBlock(opened, 8)) == 0


@rule("R300")
def test_aio_error_returns_the_errno_and_raises_nothing(port: Port, tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        block = done(port, fd)
        for _ in range(3):
            assert aio_error(block) == errno.EISDIR
            assert block.error() == errno.EISDIR
    finally:
        aio_close(fd)


@rule("R301")
def test_aio_return_of_a_request_under_way_is_einprogress(port: Port, ends: Ends) -> None:
    block = AioControlBlock(ends[0], 8, 0, to(port))
    aio_read(block)
    for _ in range(2):
        assert errno_of(aio_return, block) == errno.EINPROGRESS
        assert errno_of(block.result) == errno.EINPROGRESS
    os.write(ends[1], b"data")
    taken(port, block)
    assert aio_return(block) == 4


@rule("R302")
def test_the_first_aio_return_gives_the_count(port: Port, opened: int) -> None:
    assert aio_return(done(port, opened)) == 8
    assert aio_return(done(port, opened, 97)) == 3
    assert aio_return(done(port, opened, 100)) == 0
    write = AioControlBlock(opened, b"data", 0, to(port))
    aio_write(write)
    taken(port, write)
    assert aio_return(write) == 4
    sync = AioControlBlock(opened, sigevent=to(port))
    aio_fsync(os.O_DSYNC, sync)
    taken(port, sync)
    assert aio_return(sync) == 0


@rule("R302")
def test_the_first_aio_return_raises_the_error(port: Port, tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        block = done(port, fd)
        assert errno_of(block.result) == errno.EISDIR
        assert errno_of(aio_return, block) == errno.EISDIR
        assert errno_of(aio_return, block) == errno.EINVAL
    finally:
        aio_close(fd)


@rule("R302", "R309")
def test_aio_return_of_a_cancelled_request_is_ecanceled(port: Port, ends: Ends) -> None:
    block = AioControlBlock(ends[0], 8, 0, to(port))
    aio_read(block)
    assert aio_cancel(ends[0], block) == AIO_CANCELED
    taken(port, block)
    assert aio_error(block) == errno.ECANCELED
    assert errno_of(aio_return, block) == errno.ECANCELED
    assert errno_of(aio_return, block) == errno.EINVAL


@rule("R303")
def test_a_second_aio_return_is_einval_and_so_is_aio_error_then(port: Port, opened: int) -> None:
    block = done(port, opened)
    assert aio_error(block) == 0
    assert aio_return(block) == 8
    for _ in range(3):
        assert errno_of(aio_return, block) == errno.EINVAL
        assert aio_error(block) == errno.EINVAL


@rule("R303")
def test_result_takes_nothing(port: Port, opened: int) -> None:
    block = done(port, opened)
    for _ in range(3):
        assert block.result() == 8
    assert aio_error(block) == 0
    assert aio_return(block) == 8


@rule("R304")
def test_a_request_that_failed_with_einval_can_be_asked_again(port: Port, opened: int) -> None:
    block = done(port, opened, -1)
    for _ in range(3):
        assert aio_error(block) == errno.EINVAL
        assert errno_of(aio_return, block) == errno.EINVAL


@rule("R305")
def test_a_block_whose_result_was_taken_is_as_new_when_it_is_submitted(
    port: Port, opened: int, ends: Ends
) -> None:
    block = done(port, opened)
    aio_return(block)
    block.aio_fildes = ends[0]
    aio_read(block)
    assert aio_error(block) == errno.EINPROGRESS
    os.write(ends[1], b"x")
    taken(port, block)
    assert aio_error(block) == 0
    assert aio_return(block) == 1


@rule("R305")
def test_a_block_reads_on_from_call_to_call(port: Port, opened: int) -> None:
    block = AioControlBlock(opened, bytearray(10), 0, to(port))
    data = b""
    while True:
        aio_read(block)
        taken(port, block)
        count = aio_return(block)
        if not count:
            break
        data += block.buf[:count]
        block.aio_offset = len(data)
    assert data == CONTENT


@rule("R306")
@pytest.mark.usefixtures("reaped")
def test_aio_error_does_not_take_what_aio_waitn_returns(opened: int) -> None:
    block = AioControlBlock(opened, 8)
    aio_read(block)
    assert finished(block) == [0]
    assert aio_error(block) == 0
    assert aio_waitn(1, 1, SOON) == [block]
    assert aio_return(block) == 8


@rule("R307")
def test_of_several_threads_one_gets_the_result(port: Port, opened: int) -> None:
    for _ in range(20):
        block = done(port, opened)
        start = Barrier(4)

        def take(block: AioControlBlock, start: Barrier) -> int | None:
            start.wait(SOON)
            try:
                return aio_return(block)
            except OSError as error:
                assert error.errno == errno.EINVAL
                return None

        calls = [in_thread(partial(take, block, start)) for _ in range(4)]
        assert sorted(str(call.result()) for call in calls) == ["8", "None", "None", "None"]
