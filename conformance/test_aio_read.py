"""aio_read(3C) and aio_write(3C): what they take and refuse, and what is transferred."""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portcompat import EBADFD, SIGEV_NONE, Port, port_close, port_create, port_get, port_getn
from portcompat.aio import (
    LIO_READ,
    LIO_WRITE,
    AioControlBlock,
    SigEvent,
    aio_close,
    aio_error,
    aio_read,
    aio_return,
    aio_waitn,
    aio_write,
)
from portcompat.conformance import rule
from portcompat.conformance._aio import CONTENT, NOT_OPEN, Ends, finished, hang_up, taken, to
from portcompat.conformance._descriptors import A_WHILE, SOON, socket_pair
from portcompat.conformance._errors import errno_of

Submit = Callable[[AioControlBlock | None], None]

pytestmark = pytest.mark.usefixtures("kaio")

both = pytest.mark.parametrize("submit", [aio_read, aio_write], ids=["aio_read", "aio_write"])


def room(size: int = 8) -> bytearray:
    return bytearray(size)


@rule("R061", "R282")
@both
def test_no_block_is_einval(submit: Submit) -> None:
    assert errno_of(submit, None) == errno.EINVAL


@rule("R061", "R282")
@both
@pytest.mark.parametrize("priority", [1, -1, 2**31 - 1])
def test_a_priority_is_einval(port: Port, opened: int, submit: Submit, priority: int) -> None:
    block = AioControlBlock(opened, room(), 0, to(port))
    block.aio_reqprio = priority
    assert errno_of(submit, block) == errno.EINVAL
    assert port.getn(1, 1, A_WHILE) == []
    assert os.pread(opened, 200, 0) == CONTENT
    block.aio_reqprio = 0
    submit(block)
    taken(port, block)


@rule("R061", "R282")
def test_an_outstanding_block_is_ebusy_and_goes_on(port: Port, ends: Ends) -> None:
    block = AioControlBlock(ends[0], room(), 0, to(port))
    aio_read(block)
    assert errno_of(aio_read, block) == errno.EBUSY
    assert errno_of(aio_write, block) == errno.EBUSY
    assert aio_error(block) == errno.EINPROGRESS
    os.write(ends[1], b"data")
    taken(port, block)
    assert aio_return(block) == 4
    assert bytes(block.buf) == b"data\0\0\0\0"
    assert port.getn(1, 1, A_WHILE) == []


@rule("R282")
def test_the_opcode_is_written_into_the_block(port: Port, opened: int) -> None:
    block = AioControlBlock(opened, room(), 0, to(port), lio_opcode=77)
    opcodes = []
    for submit in (aio_read, aio_write):
        submit(block)
        opcodes.append(block.aio_lio_opcode)
        taken(port, block)
    assert opcodes == [LIO_READ, LIO_WRITE]


@rule("R283")
def test_a_block_that_is_done_can_be_submitted_though_its_event_waits(
    port: Port, opened: int
) -> None:
    block = AioControlBlock(opened, room(), 0, to(port))
    aio_read(block)
    finished(block)
    block.aio_offset = 8
    aio_read(block)
    assert [event.object for event in port.getn(2, 2, SOON)] == [block, block]
    finished(block)
    assert aio_return(block) == 8
    assert bytes(block.buf) == CONTENT[8:16]


@rule("R283")
@pytest.mark.usefixtures("reaped")
@pytest.mark.parametrize("take", ["aio_return", "aio_waitn"])
def test_a_block_that_tells_nobody_is_outstanding_until_its_result_is_taken(
    opened: int, take: str
) -> None:
    block = AioControlBlock(opened, room())
    aio_read(block)
    assert finished(block) == [0]
    assert errno_of(aio_read, block) == errno.EBUSY
    if take == "aio_return":
        assert aio_return(block) == 8
    else:
        assert aio_waitn(1, 1, SOON) == [block]
    aio_read(block)
    assert finished(block) == [0]
    assert aio_return(block) == 8


@rule("R014")
@pytest.mark.usefixtures("reaped")
@pytest.mark.parametrize("notify", [0, 5, -1, SIGEV_NONE])
def test_a_notification_that_there_is_not_is_none_at_all(opened: int, notify: int) -> None:
    block = AioControlBlock(opened, room(), 0, SigEvent(notify))
    aio_read(block)
    assert aio_waitn(1, 1, SOON) == [block]
    assert aio_return(block) == 8


@rule("R284", "R290")
@pytest.mark.parametrize("kind", ["file", "pipe", "socket", "device", "terminal"])
def test_every_kind_of_descriptor_is_read_from(
    port: Port, opened: int, ends: Ends, kind: str
) -> None:
    with socket_pair() as (ours, theirs), open("/dev/zero", "rb") as device:
        terminal, other = os.openpty()
        fds = {
            "file": opened,
            "pipe": ends[0],
            "socket": ours.fileno(),
            "device": device.fileno(),
            "terminal": terminal,
        }
        block = AioControlBlock(fds[kind], room(4), 4, to(port))
        aio_read(block)
        os.write(ends[1], b"pipe")
        theirs.send(b"sock")
        os.write(other, b"tty!")
        taken(port, block)
        for fd in (terminal, other):
            os.close(fd)
    assert aio_return(block) == 4
    expected = {"file": CONTENT[4:8], "pipe": b"pipe", "socket": b"sock", "terminal": b"tty!"}
    assert bytes(block.buf) == expected.get(kind, bytes(4))


@rule("R284", "R290")
@pytest.mark.parametrize("kind", ["file", "pipe", "socket", "device"])
def test_every_kind_of_descriptor_is_written_to(
    port: Port, opened: int, ends: Ends, kind: str
) -> None:
    with socket_pair() as (ours, theirs), open("/dev/null", "wb") as device:
        fds = {
            "file": opened,
            "pipe": ends[1],
            "socket": ours.fileno(),
            "device": device.fileno(),
        }
        block = AioControlBlock(fds[kind], b"data", 4, to(port))
        aio_write(block)
        taken(port, block)
        assert aio_return(block) == 4
        if kind == "file":
            assert os.pread(opened, 200, 0) == CONTENT[:4] + b"data" + CONTENT[8:]
        elif kind == "pipe":
            assert os.read(ends[0], 100) == b"data"
        elif kind == "socket":
            assert theirs.recv(100) == b"data"


@rule("R061", "R285")
@both
def test_a_descriptor_that_is_not_open_is_ebadf_at_the_call(port: Port, submit: Submit) -> None:
    for fd in (NOT_OPEN, -1, 2**31 - 1):
        block = AioControlBlock(fd, room(), 0, to(port))
        assert errno_of(submit, block) == errno.EBADF
        assert aio_error(block) == errno.EBADF
        assert errno_of(aio_return, block) == errno.EBADF
    assert port.getn(1, 1, A_WHILE) == []


@rule("R285")
@pytest.mark.parametrize("used", [False, True], ids=["new", "used before"])
@both
def test_a_descriptor_that_is_not_open_for_the_direction_is_ebadf_at_the_call(
    port: Port, tmp_path: Path, submit: Submit, used: bool
) -> None:
    path = tmp_path / "one-way"
    path.write_bytes(b"data")
    reads = submit is aio_read
    fd = os.open(path, os.O_WRONLY if reads else os.O_RDONLY)
    try:
        if used:
            other = AioControlBlock(fd, room(1), 0, to(port))
            (aio_write if reads else aio_read)(other)
            taken(port, other)
        block = AioControlBlock(fd, room(), 0, to(port))
        assert errno_of(submit, block) == errno.EBADF
        assert aio_error(block) == errno.EBADF
        assert errno_of(aio_return, block) == errno.EBADF
        assert port.getn(1, 1, A_WHILE) == []
    finally:
        aio_close(fd)


@rule("R285")
def test_the_wrong_end_of_a_pipe_is_ebadf(port: Port, ends: Ends) -> None:
    assert errno_of(aio_read, AioControlBlock(ends[1], 1, 0, to(port))) == errno.EBADF
    assert errno_of(aio_write, AioControlBlock(ends[0], b"x", 0, to(port))) == errno.EBADF


@rule("R286")
@pytest.mark.parametrize("offset", [-1, -2, -(2**63), 2**63 - 1, 2**62])
def test_a_bad_offset_is_what_pread_and_pwrite_say_of_it(
    port: Port, opened: int, offset: int
) -> None:
    os.lseek(opened, 10, os.SEEK_SET)
    block = AioControlBlock(opened, room(), offset, to(port))
    aio_read(block)
    taken(port, block)
    assert aio_error(block) == (errno_of(os.pread, opened, 8, offset) or 0)
    block = AioControlBlock(opened, b"x" * 8, offset, to(port))
    aio_write(block)
    taken(port, block)
    assert aio_error(block) == (errno_of(os.pwrite, opened, b"x" * 8, offset) or 0)
    assert os.pread(opened, 200, 0) == CONTENT


@rule("R286")
def test_what_cannot_be_read_is_the_error_of_the_request(port: Port, tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        block = AioControlBlock(fd, room(), 0, to(port))
        aio_read(block)
        taken(port, block)
        assert aio_error(block) == errno.EISDIR
    finally:
        aio_close(fd)


@rule("R287")
@both
def test_a_port_that_is_none_is_refused_and_nothing_begins(
    port: Port, opened: int, submit: Submit
) -> None:
    with socket.socket() as other:
        for where, expected in (
            (NOT_OPEN, errno.EBADF),
            (-1, errno.EBADF),
            (other.fileno(), EBADFD),
        ):
            block = AioControlBlock(opened, b"x" * 8 if submit is aio_write else 8, 0, to(where))
            assert errno_of(submit, block) == expected
            block.aio_sigevent = to(port)
            submit(block)  # it is not outstanding
            taken(port, block)
    assert port.getn(1, 1, A_WHILE) == []


@rule("R177", "R287")
@both
def test_a_closed_port_is_ebadf(make_port: Any, opened: int, submit: Submit) -> None:
    port = make_port()
    port.close()
    assert errno_of(submit, AioControlBlock(opened, bytearray(b"x"), 0, to(port))) == errno.EBADF
    assert os.pread(opened, 200, 0) == CONTENT


@rule("R287")
def test_a_port_is_named_by_its_number_too(number: int, opened: int) -> None:
    block = AioControlBlock(opened, room(), 0, to(number, "user"))
    aio_read(block)
    event = port_get(number, SOON)
    assert (event.object, event.user) == (block, "user")


@rule("R287")
def test_port_and_cookie_are_those_of_the_call(port: Port, make_port: Any, ends: Ends) -> None:
    block = AioControlBlock(ends[0], room(), 0, to(port, "then"))
    aio_read(block)
    other = make_port()
    block.aio_sigevent = to(other, "later")
    os.write(ends[1], b"x")
    assert taken(port, block).user == "then"
    assert other.getn(1, 1, A_WHILE) == []


@rule("R288")
@pytest.mark.usefixtures("as_default")
def test_a_port_with_the_number_of_a_closed_one_gets_nothing(ends: Ends) -> None:
    number = port_create()
    block = AioControlBlock(ends[0], room(), 0, to(number))
    aio_read(block)
    port_close(number)
    others = [port_create() for _ in range(4)]  # of which the first has the number, if it is free
    try:
        os.write(ends[1], b"x")
        assert finished(block) == [0]
        for other in others:
            assert port_getn(other, 1, 0, A_WHILE) == []
    finally:
        for other in others:
            port_close(other)
    assert aio_return(block) == 1


@rule("R288")
def test_a_request_goes_on_when_its_port_is_closed(make_port: Any, ends: Ends) -> None:
    port = make_port()
    blocks = [AioControlBlock(ends[0], room(), 0, to(port)) for _ in range(3)]
    for block in blocks:
        aio_read(block)
    port.close()
    for block in blocks:
        assert aio_error(block) in (errno.EINPROGRESS, 0)
        os.write(ends[1], b"x")
        assert finished(block) == [0]
        assert aio_return(block) == 1


@rule("R289")
def test_a_request_that_was_accepted_is_in_progress(port: Port, ends: Ends) -> None:
    block = AioControlBlock(ends[0], room(), 0, to(port))
    assert aio_error(block) == 0
    aio_read(block)
    assert aio_error(block) == errno.EINPROGRESS
    assert port.getn(1, 1, A_WHILE) == []
    assert aio_error(block) == errno.EINPROGRESS


@rule("R290", "R291")
def test_a_file_is_read_at_the_offset_and_its_own_offset_stays(port: Port, opened: int) -> None:
    os.lseek(opened, 50, os.SEEK_SET)
    block = AioControlBlock(opened, room(10), 20, to(port))
    aio_read(block)
    taken(port, block)
    assert aio_return(block) == 10
    assert bytes(block.buf) == CONTENT[20:30]
    assert os.lseek(opened, 0, os.SEEK_CUR) == 50


@rule("R290", "R291")
def test_a_file_is_written_at_the_offset_and_its_own_offset_stays(port: Port, opened: int) -> None:
    os.lseek(opened, 50, os.SEEK_SET)
    block = AioControlBlock(opened, b"data", 98, to(port))
    aio_write(block)
    taken(port, block)
    assert aio_return(block) == 4
    assert os.pread(opened, 200, 0) == CONTENT[:98] + b"data"
    assert os.lseek(opened, 0, os.SEEK_CUR) == 50


@rule("R290")
def test_a_read_at_the_end_comes_short(port: Port, opened: int) -> None:
    for offset, expected in ((95, 5), (100, 0), (1000, 0)):
        block = AioControlBlock(opened, room(10), offset, to(port))
        aio_read(block)
        taken(port, block)
        assert aio_return(block) == expected
        assert bytes(block.buf) == CONTENT[offset:].ljust(10, b"\0")


@rule("R290")
def test_writes_to_a_descriptor_with_o_append_go_to_the_end(port: Port, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"first\n")
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        for number in range(20):
            aio_write(AioControlBlock(fd, b"%d\n" % number, 0, to(port)))
        assert len(port.getn(20, 20, SOON)) == 20
    finally:
        aio_close(fd)
    assert path.read_bytes().split() == [b"first", *(b"%d" % number for number in range(20))]


@rule("R290")
def test_the_reads_of_a_pipe_take_its_bytes_in_their_order(port: Port, ends: Ends) -> None:
    blocks = [AioControlBlock(ends[0], room(2), 0, to(port)) for _ in range(10)]
    for block in blocks:
        aio_read(block)
    os.write(ends[1], bytes(range(20)))
    assert [event.object for event in port.getn(10, 10, SOON)] == blocks
    assert b"".join(block.buf for block in blocks) == bytes(range(20))


@rule("R290")
def test_the_writes_to_a_socket_go_in_their_order(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        for number in range(10):
            aio_write(AioControlBlock(ours, bytes([number]) * 1000, 0, to(port)))
        assert len(port.getn(10, 10, SOON)) == 10
        data = b""
        while len(data) < 10_000:
            data += theirs.recv(20_000)
    assert data == b"".join(bytes([number]) * 1000 for number in range(10))


@rule("R290")
def test_a_read_at_the_end_of_a_pipe_gives_0(port: Port, ends: Ends) -> None:
    block = AioControlBlock(ends[0], room(), 0, to(port))
    aio_read(block)
    hang_up(ends[1])
    taken(port, block)
    assert aio_return(block) == 0


@rule("R290")
def test_a_write_that_nobody_will_read_is_epipe(port: Port, ends: Ends) -> None:
    hang_up(ends[0])
    block = AioControlBlock(ends[1], b"x", 0, to(port))
    aio_write(block)
    taken(port, block)
    assert aio_error(block) == errno.EPIPE


@rule("R290")
@pytest.mark.parametrize("blocking", [True, False])
def test_a_request_waits_unless_the_descriptor_must_not(
    port: Port, ends: Ends, blocking: bool
) -> None:
    os.set_blocking(ends[0], blocking)
    block = AioControlBlock(ends[0], room(), 0, to(port))
    aio_read(block)
    if blocking:
        assert port.getn(1, 1, A_WHILE) == []
        os.write(ends[1], b"x")
        taken(port, block)
        assert aio_return(block) == 1
    else:
        taken(port, block)
        assert aio_error(block) == errno.EAGAIN


@rule("R292")
def test_a_transfer_of_nothing_gives_0_and_its_event(port: Port, opened: int) -> None:
    for submit, buffer in ((aio_read, 0), (aio_read, bytearray()), (aio_write, b"")):
        block = AioControlBlock(opened, buffer, 5, to(port))
        submit(block)
        taken(port, block)
        assert aio_error(block) == 0
        assert aio_return(block) == 0
    assert os.pread(opened, 200, 0) == CONTENT
