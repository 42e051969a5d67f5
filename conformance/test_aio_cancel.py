"""aio_cancel(3C), and what close(2) does to requests."""

import errno
import os
from functools import partial

import pytest

from portcompat import Port
from portcompat.aio import (
    AIO_ALLDONE,
    AIO_CANCELED,
    AIO_NOTCANCELED,
    AioControlBlock,
    aio_cancel,
    aio_close,
    aio_error,
    aio_read,
    aio_return,
    aio_waitn,
    aio_write,
)
from portcompat.conformance import rule
from portcompat.conformance._aio import (
    NOT_OPEN,
    Ends,
    empty_pipe,
    fill,
    finished,
    hang_up,
    reading,
    taken,
    to,
)
from portcompat.conformance._descriptors import (
    A_WHILE,
    SOON,
    connection,
    socket_pair,
)
from portcompat.conformance._errors import errno_of
from portcompat.conformance._threads import in_thread

pytestmark = pytest.mark.usefixtures("kaio")


@rule("R028")
def test_the_answers_have_the_numbers_of_illumos() -> None:
    assert (AIO_CANCELED, AIO_ALLDONE, AIO_NOTCANCELED) == (0, 1, 2)


@rule("R062", "R308")
def test_a_descriptor_that_is_not_open_is_ebadf(port: Port, ends: Ends) -> None:
    block = reading(port, ends[0])
    for fd in (NOT_OPEN, -1):
        assert errno_of(aio_cancel, fd) == errno.EBADF
        assert errno_of(aio_cancel, fd, block) == errno.EBADF
    assert aio_error(block) == errno.EINPROGRESS


@rule("R062", "R308")
def test_a_block_of_another_descriptor_is_einval(port: Port, opened: int, ends: Ends) -> None:
    block = reading(port, ends[0])
    assert errno_of(aio_cancel, opened, block) == errno.EINVAL
    assert errno_of(aio_cancel, ends[1], block) == errno.EINVAL
    assert aio_error(block) == errno.EINPROGRESS


@rule("R309")
def test_a_request_that_is_done_is_alldone(port: Port, opened: int) -> None:
    block = reading(port, opened)
    finished(block)
    assert aio_cancel(opened, block) == AIO_ALLDONE
    taken(port, block)
    assert aio_cancel(opened, block) == AIO_ALLDONE
    assert block.cancel() == AIO_ALLDONE
    assert aio_return(block) == 8
    assert aio_cancel(opened, block) == AIO_ALLDONE


@rule("R309", "R310")
def test_a_request_behind_another_is_cancelled_alone(port: Port, ends: Ends) -> None:
    blocks = [reading(port, ends[0], size=1) for _ in range(3)]
    assert aio_cancel(ends[0], blocks[1]) == AIO_CANCELED
    assert [aio_error(block) for block in blocks] == [
        errno.EINPROGRESS,
        errno.ECANCELED,
        errno.EINPROGRESS,
    ]
    taken(port, blocks[1])
    os.write(ends[1], b"ab")
    for block, data in ((blocks[0], b"a"), (blocks[2], b"b")):
        taken(port, block)
        assert bytes(block.buf) == data
    assert errno_of(aio_return, blocks[1]) == errno.ECANCELED
    assert bytes(blocks[1].buf) == b"\0"


@rule("R310")
@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal", "TCP"])
def test_a_read_that_waits_is_cancelled(port: Port, ends: Ends, kind: str) -> None:
    terminal, other = os.openpty()
    with socket_pair() as (ours, _), connection() as (client, _):
        client.settimeout(None)  # which is a descriptor that may block
        fds = {
            "pipe": ends[0],
            "socket": ours.fileno(),
            "terminal": terminal,
            "TCP": client.fileno(),
        }
        block = reading(port, fds[kind])
        assert port.getn(1, 1, A_WHILE) == []
        assert aio_cancel(fds[kind], block) == AIO_CANCELED
        assert aio_error(block) == errno.ECANCELED
        taken(port, block)
        assert errno_of(aio_return, block) == errno.ECANCELED
    for fd in (terminal, other):
        os.close(fd)


@rule("R310")
def test_a_write_that_waits_is_cancelled(port: Port, ends: Ends) -> None:
    size = fill(ends[1])
    block = AioControlBlock(ends[1], b"late", 0, to(port))
    aio_write(block)
    assert port.getn(1, 1, A_WHILE) == []
    assert aio_cancel(ends[1], block) == AIO_CANCELED
    assert aio_error(block) == errno.ECANCELED
    taken(port, block)
    hang_up(ends[1])
    read = 0
    while data := os.read(ends[0], 1 << 20):
        assert b"late" not in data
        read += len(data)
    assert read == size


@rule("R310")
def test_what_comes_after_a_cancelled_read_is_there_for_the_next(port: Port, ends: Ends) -> None:
    for _ in range(10):
        block = reading(port, ends[0])
        assert aio_cancel(ends[0], block) == AIO_CANCELED
        taken(port, block)
        os.write(ends[1], b"whole")
        again = reading(port, ends[0])
        taken(port, again)
        assert bytes(again.data) == b"whole"


@rule("R310")
def test_a_cancelled_block_can_be_submitted_again(port: Port, ends: Ends) -> None:
    block = reading(port, ends[0])
    assert block.cancel() == AIO_CANCELED
    taken(port, block)
    aio_read(block)
    assert aio_error(block) == errno.EINPROGRESS
    os.write(ends[1], b"x")
    taken(port, block)
    assert aio_return(block) == 1


@rule("R311")
def test_the_events_of_cancelled_requests_come_once_each(port: Port, ends: Ends) -> None:
    blocks = [reading(port, ends[0]) for _ in range(10)]
    assert aio_cancel(ends[0]) == AIO_CANCELED
    assert {event.object for event in port.getn(10, 10, SOON)} == set(blocks)
    assert port.getn(1, 1, A_WHILE) == []


@rule("R310", "R312")
def test_what_aio_cancel_says_is_what_becomes_of_the_request(port: Port, opened: int) -> None:
    """Whether a transfer has begun nobody can know; the answer and the end have to agree."""
    data = bytes(1 << 20)
    for turn in range(30):
        blocks = [AioControlBlock(opened, data, 0, to(port)) for _ in range(8)]
        for block in blocks:
            aio_write(block)
        answers = [aio_cancel(opened, block) for block in blocks[turn % 8 :]]
        assert len(port.getn(8, 8, SOON)) == 8
        for block, answer in zip(blocks[turn % 8 :], answers, strict=True):
            if answer == AIO_CANCELED:
                assert aio_error(block) == errno.ECANCELED
            else:
                assert answer in (AIO_ALLDONE, AIO_NOTCANCELED)
                assert aio_return(block) == len(data)


@rule("R312")
def test_of_several_cancels_one_says_that_it_cancelled(port: Port, ends: Ends) -> None:
    for _ in range(20):
        block = reading(port, ends[0])
        calls = [in_thread(partial(aio_cancel, ends[0], block)) for _ in range(3)]
        answers = [call.result() for call in calls]
        assert answers.count(AIO_CANCELED) == 1
        taken(port, block)
        assert errno_of(aio_return, block) == errno.ECANCELED
        assert port.getn(1, 1, 0) == []


@rule("R313")
def test_without_a_block_all_on_the_descriptor_are_cancelled(port: Port, ends: Ends) -> None:
    with empty_pipe() as others:
        other = reading(port, others[0])
        blocks = [reading(port, ends[0]) for _ in range(5)]
        assert aio_cancel(ends[0]) == AIO_CANCELED
        assert {aio_error(block) for block in blocks} == {errno.ECANCELED}
        assert aio_error(other) == errno.EINPROGRESS
        assert {event.object for event in port.getn(5, 5, SOON)} == set(blocks)


@rule("R313")
def test_without_requests_it_is_alldone(port: Port, opened: int, ends: Ends) -> None:
    assert aio_cancel(ends[0]) == AIO_ALLDONE
    taken(port, reading(port, opened))
    assert aio_cancel(opened) == AIO_ALLDONE


@rule("R313")
def test_the_two_ends_of_a_pipe_are_two_descriptors(port: Port, ends: Ends) -> None:
    block = reading(port, ends[0])
    assert aio_cancel(ends[1]) == AIO_ALLDONE
    assert aio_error(block) == errno.EINPROGRESS


@rule("R314")
def test_a_descriptor_without_requests_is_alldone_whatever_others_have(
    port: Port, opened: int, ends: Ends
) -> None:
    taken(port, reading(port, opened))
    reading(port, ends[0])
    assert aio_cancel(opened) == AIO_ALLDONE
    assert aio_cancel(ends[1]) == AIO_ALLDONE


@rule("R315")
def test_a_block_that_was_never_submitted_is_alldone(opened: int) -> None:
    block = AioControlBlock(opened, 8)
    assert aio_cancel(opened, block) == AIO_ALLDONE
    assert block.cancel() == AIO_ALLDONE
    assert aio_error(block) == 0


@rule("R316")
def test_aio_close_cancels_the_requests_and_closes(port: Port) -> None:
    reader, writer = os.pipe()
    try:
        blocks = [reading(port, reader) for _ in range(3)]
        aio_close(reader)
        assert errno_of(os.fstat, reader) == errno.EBADF
        assert {aio_error(block) for block in blocks} == {errno.ECANCELED}
        assert {event.object for event in port.getn(3, 3, SOON)} == set(blocks)
        assert errno_of(aio_close, reader) == errno.EBADF
    finally:
        os.close(writer)


@rule("R316")
def test_closing_a_descriptor_cancels_its_requests(port: Port) -> None:
    reader, writer = os.pipe()
    try:
        block = reading(port, reader)
        os.close(reader)
        assert [event.object for event in port.getn(1, 1, A_WHILE)] == [block]
        assert aio_error(block) == errno.ECANCELED
    finally:
        os.close(writer)


@rule("R316")
def test_a_number_that_is_used_again_has_none_of_the_old_requests(port: Port) -> None:
    reader, writer = os.pipe()
    block = reading(port, reader)
    aio_close(reader)
    taken(port, block)
    again, other = os.pipe()
    try:
        assert again == reader
        assert aio_cancel(again) == AIO_ALLDONE
        os.write(other, b"new")
        fresh = reading(port, again)
        taken(port, fresh)
        assert bytes(fresh.data) == b"new"
    finally:
        for fd in (again, other, writer):
            os.close(fd)


@rule("R310", "R338")
@pytest.mark.usefixtures("reaped")
def test_a_request_that_tells_nobody_is_cancelled_too(ends: Ends) -> None:
    block = AioControlBlock(ends[0], 8)
    aio_read(block)
    assert aio_cancel(ends[0], block) == AIO_CANCELED
    assert aio_error(block) == errno.ECANCELED
    assert aio_waitn(1, 1, SOON) == [block]
    assert errno_of(aio_return, block) == errno.ECANCELED
