"""What a port has its kernel do, over one that is scripted."""

import errno
import os
import tempfile
from collections.abc import Iterator

import pytest

from portcompat import Port
from portcompat.aio import (
    AIO_CANCELED,
    AIO_NOTCANCELED,
    AIOAREAD,
    AIOAWRITE,
    LIO_NOWAIT,
    LIO_WRITE,
    SIGEV_PORT,
    AioControlBlock,
    SigEvent,
    aio_cancel,
    lio_listio,
)
from tests.scripted_kaio import ScriptedKaio

SOON = 10.0
SCRIPTED = "tests.scripted_kaio:ScriptedKaio"


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScriptedKaio, "made", [])


@pytest.fixture
def port() -> Iterator[Port]:
    with Port(kaio=SCRIPTED) as port:
        ScriptedKaio.made.clear()  # what only tried whether it works
        yield port


@pytest.fixture
def fd() -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        file.write(bytes(range(256)))
        file.flush()
        yield file.fileno()


def the_kernel() -> ScriptedKaio:
    (made,) = ScriptedKaio.made
    return made


def test_it_is_made_at_the_first_request(port: Port, fd: int) -> None:
    assert ScriptedKaio.made == []
    port.aio.read(fd, 8, 4)
    port.aio.write(fd, b"abc", 7)
    asked = list(the_kernel().taken.values())
    assert [(each.op, each.fd, each.offset) for each in asked] == [
        (AIOAREAD, fd, 4),
        (AIOAWRITE, fd, 7),
    ]
    assert the_kernel().flushes
    the_kernel().finish(8)
    the_kernel().finish(-errno.ENOSPC)
    first, second = port.getn(2, 2, SOON)
    assert first.object.result() == 8
    assert second.object.error() == errno.ENOSPC


def test_a_list_is_begun_with_at_once(port: Port, fd: int) -> None:
    blocks = [
        AioControlBlock(fd, b"x", n, SigEvent(SIGEV_PORT, port=port), lio_opcode=LIO_WRITE)
        for n in range(8)
    ]
    lio_listio(LIO_NOWAIT, blocks)
    assert len(the_kernel().taken) == 8
    assert the_kernel().flushes == 1
    for _ in blocks:
        the_kernel().finish(1)
    assert len(port.getn(8, 8, SOON)) == 8


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL, errno.ECANCELED, errno.EINTR])
def test_what_it_refuses_the_workers_do(port: Port, fd: int, number: int) -> None:
    block = port.aio.read(fd, 8, 4)
    the_kernel().finish(-number)
    assert port.get(SOON).object is block
    assert bytes(block.data) == bytes(range(4, 12))


def test_what_it_does_not_take_the_workers_do(
    port: Port, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScriptedKaio, "refuses", errno.EPERM)
    block = port.aio.read(fd, 8, 4)
    assert port.get(SOON).object is block
    assert block.result() == 8


def test_what_there_is_no_room_for_waits_in_order(
    port: Port, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScriptedKaio, "room", 2)
    blocks = [port.aio.read(fd, 1, n) for n in range(6)]
    taken = []
    for _ in blocks:
        assert len(the_kernel().taken) <= 2
        taken.append(next(iter(the_kernel().taken.values())).offset)
        the_kernel().finish(1)
        port.get(SOON)
    assert taken == list(range(6))


def test_what_waits_for_room_can_be_cancelled(
    port: Port, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScriptedKaio, "room", 1)
    first, second = port.aio.read(fd, 1), port.aio.read(fd, 1)
    assert aio_cancel(fd, second) == AIO_CANCELED
    assert port.get(SOON).object is second
    assert the_kernel().cancelled == []
    the_kernel().finish(1)
    assert port.get(SOON).object is first
    assert the_kernel().taken == {}


def test_a_transfer_of_a_disk_that_goes_on_is_not_cancelled(port: Port, fd: int) -> None:
    block = port.aio.write(fd, b"abc")
    assert aio_cancel(fd, block) == AIO_NOTCANCELED
    assert block.error() == errno.EINPROGRESS
    the_kernel().finish(3)
    assert port.get(SOON).object is block
    assert block.result() == 3


def test_what_waits_for_a_peer_is_cancelled(port: Port) -> None:
    ends = os.pipe()
    block = port.aio.read(ends[0], 8)
    assert aio_cancel(ends[0], block) == AIO_CANCELED
    assert block.error() == errno.ECANCELED
    assert port.get(SOON).object is block
    for end in ends:
        os.close(end)


def test_a_write_to_a_stream_goes_on_until_all_is_written(port: Port) -> None:
    ends = os.pipe()
    block = port.aio.write(ends[1], b"abcdef")
    the_kernel().finish(2)
    assert port.getn(1, 1, 0) == []
    (asked,) = the_kernel().taken.values()
    assert [bytes(buffer) for buffer in asked.buffers] == [b"cdef"]
    the_kernel().finish(4)
    assert port.get(SOON).object is block
    assert block.result() == 6
    for end in ends:
        os.close(end)


def test_what_goes_on_when_the_port_is_closed_is_finished(fd: int) -> None:
    memory = bytearray(8)
    with Port(kaio=SCRIPTED) as port:
        ScriptedKaio.made.clear()
        block = port.aio.read(fd, memory)
    assert block.error() == errno.EINPROGRESS
    assert not the_kernel().closed
    with pytest.raises(BufferError):
        memory.append(0)
    the_kernel().finish(8)
    assert block.error() == 0
    memory.append(0)


def test_a_port_without_requests_closes_it_at_once(port: Port, fd: int) -> None:
    port.aio.read(fd, 8)
    the_kernel().finish(8)
    port.get(SOON)
    port.close()
    assert the_kernel().closed


def test_an_offset_below_0_is_not_for_the_kernel(port: Port, fd: int) -> None:
    block = port.aio.read(fd, 8, -1)
    assert port.get(SOON).object is block
    assert block.error() == errno.EINVAL
    assert the_kernel().taken == {}
