"""Requests as objects: Port.aio, buffers, and what lives how long."""

import errno
import gc
import os
import weakref
from array import array
from typing import Any

import pytest

from portcompat import PORT_SOURCE_AIO, Port, PortEvent
from portcompat.aio import (
    AIO_ALLDONE,
    AIO_CANCELED,
    AIOAREAD,
    AIOAWRITE,
    AIOFSYNC,
    LIO_WAIT,
    AioControlBlock,
    aio_close,
    aio_fsync,
    aio_read,
    aio_return,
    aio_suspend,
    aio_write,
    lio_listio,
)
from portcompat.conformance import rule
from portcompat.conformance._aio import CONTENT, NOT_OPEN, Ends, finished, reading, taken, to
from portcompat.conformance._descriptors import A_WHILE, SOON, socket_pair
from portcompat.conformance._errors import errno_of
from portcompat.conformance._files import MakePort

pytestmark = pytest.mark.usefixtures("kaio")


@rule("R293")
def test_read_returns_the_block_that_is_in_the_event(port: Port, opened: int) -> None:
    user = object()
    block = port.aio.read(opened, 10, 20, user=user)
    event = port.get(SOON)
    assert event == PortEvent(PORT_SOURCE_AIO, block, AIOAREAD, user)
    assert event.object is block
    assert event.user is user
    assert block.error() == 0
    assert block.result() == 10
    assert bytes(block.data) == CONTENT[20:30]


@rule("R293")
def test_write_returns_the_block_that_is_in_the_event(port: Port, opened: int) -> None:
    block = port.aio.write(opened, b"data", 5, user="user")
    assert port.get(SOON) == PortEvent(PORT_SOURCE_AIO, block, AIOAWRITE, "user")
    assert block.result() == 4
    assert os.pread(opened, 200, 0) == CONTENT[:5] + b"data" + CONTENT[9:]


@rule("R293", "R320")
@pytest.mark.parametrize("data_only", [False, True])
def test_fsync_returns_the_block_that_is_in_the_event(
    port: Port, opened: int, data_only: bool
) -> None:
    block = port.aio.fsync(opened, data_only=data_only, user="user")
    assert port.get(SOON) == PortEvent(PORT_SOURCE_AIO, block, AIOFSYNC, "user")
    assert block.result() == 0


@rule("R290")
def test_readv_fills_several_buffers_in_one_transfer(port: Port, opened: int) -> None:
    buffers = [bytearray(3), bytearray(0), bytearray(5), array("H", [0] * 4)]
    block = port.aio.readv(opened, buffers, 10)
    taken(port, block)
    assert block.result() == 16
    assert b"".join(bytes(buffer) for buffer in buffers) == CONTENT[10:26]
    block = port.aio.readv(opened, [bytearray(90), bytearray(90)], 50, user=1)
    taken(port, block)
    assert block.result() == 50


@rule("R290")
def test_writev_writes_several_buffers_in_one_transfer(port: Port, opened: int) -> None:
    block = port.aio.writev(opened, [b"one", bytearray(b"two"), memoryview(b"three")], 90)
    taken(port, block)
    assert block.result() == 11
    assert os.pread(opened, 200, 0) == CONTENT[:90] + b"onetwothree"


@rule("R290")
def test_many_buffers_are_one_transfer(port: Port, opened: int) -> None:
    data = [bytes([number]) for number in range(200)]
    block = port.aio.writev(opened, data, 0)
    taken(port, block)
    assert block.result() == 200
    buffers = [bytearray(1) for _ in range(200)]
    block = port.aio.readv(opened, buffers, 0)
    taken(port, block)
    assert buffers == data


@rule("R290")
def test_vectors_go_through_pipes_too(port: Port, ends: Ends) -> None:
    buffers = [bytearray(2), bytearray(2)]
    read = port.aio.readv(ends[0], buffers)
    write = port.aio.writev(ends[1], [b"abc", b"d"])
    assert {event.object for event in port.getn(2, 2, SOON)} == {read, write}
    assert (read.result(), write.result()) == (4, 4)
    assert buffers == [b"ab", b"cd"]


@rule("R284")
def test_a_descriptor_may_be_what_has_a_fileno(port: Port, tmp_path: Any) -> None:
    with open(tmp_path / "file", "w+b", buffering=0) as file, socket_pair() as (ours, theirs):
        taken(port, port.aio.write(file, b"data"))
        block = port.aio.read(file, 10)
        taken(port, block)
        assert bytes(block.data) == b"data"
        taken(port, port.aio.fsync(file))
        taken(port, port.aio.write(theirs, b"sock"))
        block = port.aio.read(ours, 10)
        taken(port, block)
        assert bytes(block.data) == b"sock"


@rule("R286")
def test_the_callers_memory_is_used_and_not_copied(port: Port, opened: int) -> None:
    memory = bytearray(20)
    block = port.aio.read(opened, memoryview(memory)[5:10], 50)
    taken(port, block)
    assert bytes(memory) == bytes(5) + CONTENT[50:55] + bytes(10)


@rule("R286")
def test_what_was_read_is_told_with_its_length(port: Port, opened: int) -> None:
    block = port.aio.read(opened, 50, 90)
    taken(port, block)
    assert len(block.buf) == 50
    assert isinstance(block.data, memoryview)
    assert bytes(block.data) == CONTENT[90:]


@rule("R301")
def test_of_a_request_under_way_there_is_no_data(port: Port, ends: Ends) -> None:
    block = port.aio.read(ends[0], 5)
    assert errno_of(lambda: block.data) == errno.EINPROGRESS
    assert errno_of(block.result) == errno.EINPROGRESS
    assert block.error() == errno.EINPROGRESS


@rule("R309", "R310")
def test_a_request_is_cancelled_by_its_block(port: Port, ends: Ends) -> None:
    blocks = [port.aio.read(ends[0], 5) for _ in range(2)]
    assert blocks[1].cancel() == AIO_CANCELED
    assert blocks[1].error() == errno.ECANCELED
    assert blocks[1].cancel() == AIO_ALLDONE
    taken(port, blocks[1])
    os.write(ends[1], b"x")
    taken(port, blocks[0])


@rule("R177")
def test_a_closed_port_is_ebadf(make_port: MakePort, opened: int) -> None:
    port = make_port()
    aio = port.aio
    port.close()
    for call in (
        lambda: aio.read(opened, 1),
        lambda: aio.write(opened, b"x"),
        lambda: aio.readv(opened, [bytearray(1)]),
        lambda: aio.writev(opened, [b"x"]),
        lambda: aio.fsync(opened),
    ):
        assert errno_of(call) == errno.EBADF
    assert os.pread(opened, 200, 0) == CONTENT


@rule("R285")
def test_a_descriptor_that_is_not_open_is_ebadf(port: Port) -> None:
    fd = NOT_OPEN
    for number in (fd, -1):
        assert errno_of(port.aio.read, number, 1) == errno.EBADF
        assert errno_of(port.aio.write, number, b"x") == errno.EBADF
        assert errno_of(port.aio.readv, number, [bytearray(1)]) == errno.EBADF
        assert errno_of(port.aio.writev, number, [b"x"]) == errno.EBADF
        assert errno_of(port.aio.fsync, number) == errno.EBADF
    assert port.getn(1, 1, A_WHILE) == []


# Wrong types


@rule("R286")
@pytest.mark.parametrize("wrong", [None, 1.5, "text", [b"constant"], b"constant", object()])
def test_what_cannot_be_read_into_is_a_type_error(port: Port, opened: int, wrong: Any) -> None:
    with pytest.raises(TypeError):
        port.aio.read(opened, wrong)
    assert port.getn(1, 1, 0) == []
    with pytest.raises(TypeError):
        port.aio.readv(opened, [bytearray(1), wrong])
    with pytest.raises(TypeError):
        aio_read(AioControlBlock(opened, wrong, 0, to(port)))
    taken(port, port.aio.read(opened, 1))


@rule("R286")
@pytest.mark.parametrize("wrong", [None, 1.5, "text", object()])
def test_what_has_no_bytes_to_write_is_a_type_error(port: Port, opened: int, wrong: Any) -> None:
    with pytest.raises(TypeError):
        port.aio.write(opened, wrong)
    with pytest.raises(TypeError):
        port.aio.writev(opened, [b"x", wrong])
    assert port.getn(1, 1, A_WHILE) == []
    assert os.pread(opened, 200, 0) == CONTENT


@rule("R286")
def test_memory_that_is_not_in_one_piece_is_refused(port: Port, opened: int) -> None:
    memory = memoryview(bytearray(20))[::2]
    with pytest.raises((TypeError, ValueError, BufferError)):
        port.aio.read(opened, memory)
    with pytest.raises((TypeError, ValueError, BufferError)):
        port.aio.write(opened, memory)
    assert port.getn(1, 1, A_WHILE) == []


@rule("R286")
@pytest.mark.parametrize("wrong", [None, "0", 1.5, [], object()])
def test_what_is_no_offset_is_a_type_error(port: Port, opened: int, wrong: Any) -> None:
    with pytest.raises(TypeError):
        port.aio.read(opened, 1, wrong)
    with pytest.raises(TypeError):
        port.aio.write(opened, b"x", wrong)
    assert port.getn(1, 1, A_WHILE) == []


@rule("R286")
@pytest.mark.parametrize("offset", [2**63, -(2**63) - 1, 2**100])
def test_an_offset_that_c_has_not_is_a_value_error(port: Port, opened: int, offset: int) -> None:
    with pytest.raises(ValueError):
        port.aio.read(opened, 1, offset)
    with pytest.raises(ValueError):
        port.aio.write(opened, b"x", offset)
    assert port.getn(1, 1, A_WHILE) == []


@rule("R286")
def test_a_number_of_bytes_below_0_is_refused(port: Port, opened: int) -> None:
    with pytest.raises((ValueError, OSError)):
        port.aio.read(opened, -1)
    assert port.getn(1, 1, A_WHILE) == []


@rule("R282")
@pytest.mark.parametrize("wrong", [1, "block", object(), []])
def test_what_is_no_block_is_a_type_error(wrong: Any) -> None:
    for call in (aio_read, aio_write, aio_return):
        with pytest.raises(TypeError):
            call(wrong)
    with pytest.raises(TypeError):
        aio_fsync(os.O_SYNC, wrong)


@rule("R321", "R332")
@pytest.mark.parametrize("wrong", [None, 1, {}, "list", [1]])
def test_what_is_no_list_of_blocks_is_a_type_error(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"[Cc]ontrol ?[Bb]lock"):
        lio_listio(LIO_WAIT, wrong)
    with pytest.raises(TypeError, match=r"[Cc]ontrol ?[Bb]lock"):
        aio_suspend(wrong)


@rule("R287")
@pytest.mark.parametrize("wrong", [1, "port", object()])
def test_what_is_no_sigevent_is_a_type_error(opened: int, wrong: Any) -> None:
    with pytest.raises(TypeError):
        aio_read(AioControlBlock(opened, 1, 0, wrong))


@rule("R282")
@pytest.mark.parametrize("wrong", [None, "1", 1.5, object()])
def test_what_is_no_descriptor_is_a_type_error(port: Port, wrong: Any) -> None:
    with pytest.raises(TypeError):
        port.aio.read(wrong, 1)
    with pytest.raises(TypeError):
        aio_read(AioControlBlock(wrong, 1, 0, to(port)))
    assert port.getn(1, 1, A_WHILE) == []


# Lifetimes


@rule("R286")
def test_memory_cannot_be_resized_while_a_request_uses_it(port: Port, ends: Ends) -> None:
    memory = bytearray(8)
    block = port.aio.read(ends[0], memory)
    with pytest.raises(BufferError):
        memory.append(0)
    os.write(ends[1], b"x")
    taken(port, block)
    memory.append(0)
    block = port.aio.read(ends[0], memory)
    assert block.cancel() == AIO_CANCELED
    taken(port, block)
    memory.append(0)


@rule("R286")
def test_memory_is_let_go_of_when_a_request_is_refused(port: Port) -> None:
    memory = bytearray(8)
    assert errno_of(port.aio.read, NOT_OPEN, memory) == errno.EBADF
    assert errno_of(port.aio.readv, NOT_OPEN, [memory]) == errno.EBADF
    with pytest.raises(TypeError):
        port.aio.readv(0, [memory, b"constant"])
    memory.append(0)


@rule("R293")
def test_a_request_that_nobody_refers_to_goes_on(port: Port, ends: Ends) -> None:
    port.aio.read(ends[0], 8, user="user")
    gc.collect()
    os.write(ends[1], b"data")
    event = port.get(SOON)
    assert event.user == "user"
    assert event.object.data == b"data"


@rule("R293")
def test_nothing_of_a_request_is_kept_when_its_event_was_taken(port: Port, opened: int) -> None:
    class User:
        pass

    user = User()
    block = port.aio.read(opened, 8, user=user)
    kept, gone = weakref.ref(block), weakref.ref(user)
    del block, user
    port.get(SOON)
    port.send(0)  # and what the last retrieval may have kept
    port.get(SOON)
    gc.collect()
    assert gone() is None
    assert kept() is None


@rule("R177", "R288")
def test_a_port_that_is_closed_lets_go_of_users_and_blocks(make_port: MakePort, ends: Ends) -> None:
    class User:
        pass

    port, user = make_port(), User()
    block = port.aio.read(ends[0], 8, user=user)
    gone = weakref.ref(user)
    del user
    port.close()
    os.write(ends[1], b"x")
    finished(block)
    gc.collect()
    assert gone() is None


@rule("R177", "R288")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_port_is_collected_while_requests_are_under_way(backend: str, ends: Ends) -> None:
    port = Port(backend)
    blocks = [port.aio.read(ends[0], 1) for _ in range(3)]
    gone = weakref.ref(port)
    del port
    gc.collect()
    assert gone() is None
    os.write(ends[1], b"xyz")
    finished(*blocks)
    with Port(backend) as other:
        os.write(ends[1], b"w")
        taken(other, reading(other, ends[0]))


@rule("R177", "R286")
def test_memory_is_held_by_a_request_whose_port_was_closed(make_port: MakePort, ends: Ends) -> None:
    port = make_port()
    memory = bytearray(8)
    block = port.aio.read(ends[0], memory)
    port.close()
    assert block.error() == errno.EINPROGRESS
    with pytest.raises(BufferError):
        memory.append(0)
    os.write(ends[1], b"data")
    assert finished(block) == [0]
    assert bytes(memory) == b"data\0\0\0\0"
    memory.append(0)


@rule("R066")
def test_requests_are_made_by_a_finalizer(port: Port, opened: int) -> None:
    class Last:
        def __del__(self) -> None:
            port.aio.read(opened, 8, user="last")

    last = Last()
    del last
    gc.collect()
    assert port.get(SOON).user == "last"


@rule("R285")
def test_a_number_that_is_used_again_is_another_file(port: Port, tmp_path: Any) -> None:
    for turn in range(20):
        path = tmp_path / str(turn)
        path.write_bytes(b"%04d" % turn)
        fd = os.open(path, os.O_RDONLY)
        block = port.aio.read(fd, 4)
        taken(port, block)
        assert bytes(block.data) == b"%04d" % turn
        aio_close(fd)
