"""Control blocks and requests, where no rule says how they are."""

import array
import errno
import gc
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator

import pytest

from portcompat import Port, _transfers, _workers
from portcompat._requests import requests
from portcompat._workers import Workers
from portcompat.aio import AioControlBlock, AioResult, aio_read, aio_waitn

SOON = 10.0


@pytest.fixture
def fd() -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        file.write(bytes(range(256)))
        file.flush()
        yield file.fileno()


@pytest.fixture(params=[None, "io_uring", "workers"])
def port(request: pytest.FixtureRequest) -> Iterator[Port]:
    try:
        made = Port(kaio=request.param)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        pytest.skip(str(error))
    with made as port:
        yield port


def test_a_block_shows_what_came_of_it(port: Port, fd: int) -> None:
    block = AioControlBlock(fd, 8)
    assert repr(block) == f"<AioControlBlock of {fd}: not used yet>"
    done = port.aio.read(fd, 8)
    port.get(SOON)
    assert repr(done) == f"<AioControlBlock of {fd}: 8 bytes>"
    failed = port.aio.read(fd, 8, -1)
    port.get(SOON)
    assert repr(failed) == f"<AioControlBlock of {fd}: EINVAL>"
    assert repr(AioResult(3, 0)) == "AioResult(aio_return=3, aio_errno=0)"


def test_buffers_may_be_of_anything(port: Port, fd: int) -> None:
    numbers = array.array("i", [0, 0])
    block = port.aio.read(fd, numbers, 4)
    assert port.get(SOON).object is block
    assert numbers.tobytes() == bytes(range(4, 12))
    assert bytes(block.data) == bytes(range(4, 12))


def test_several_buffers_are_one_transfer(port: Port, fd: int) -> None:
    parts = [bytearray(2), bytearray(0), memoryview(bytearray(6))[1:4]]
    block = port.aio.readv(fd, parts, 10)
    assert port.get(SOON).object is block
    assert block.result() == 5
    assert [bytes(part) for part in parts] == [b"\n\x0b", b"", b"\x0c\r\x0e"]
    block = port.aio.writev(fd, (b"ab", b"", b"cde"), 300)
    assert port.get(SOON).object is block
    assert os.pread(fd, 9, 300) == b"abcde"


def test_no_buffers_are_nothing_to_transfer(port: Port, fd: int) -> None:
    block = port.aio.readv(fd, [])
    assert port.get(SOON).object is block
    assert block.result() == 0


def test_bytes_are_not_several_buffers(port: Port, fd: int) -> None:
    for wrong in (b"abc", bytearray(3), "abc"):
        with pytest.raises(TypeError):
            port.aio.writev(fd, wrong)
    assert not requests.outstanding


def test_a_port_is_collected_with_what_it_has_of_its_own(fd: int) -> None:
    port = Port()
    port.aio.read(fd, 8)
    reference = weakref.ref(port)
    port.close()
    del port
    assert reference() is None


def test_a_block_is_let_go_of_when_its_event_is(port: Port, fd: int) -> None:
    block = port.aio.read(fd, 8)
    reference = weakref.ref(block)
    event = port.get(SOON)
    del block, event
    gc.collect()  # exceptions of other tests may have kept it
    assert reference() is None


@pytest.mark.parametrize("missing", [("preadv",), ("preadv", "pread")])
def test_systems_that_have_fewer_calls(
    missing: tuple[str, ...], fd: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Those without preadv(2), and Windows, in a process of their own."""
    program = f"""
import os
for name in {missing!r}:
    delattr(os, name)
    delattr(os, name.replace("read", "write"))
for name in {missing!r}[1:]:
    del os.readv, os.writev
from portcompat import Port
with Port(kaio="workers") as port:
    first = port.aio.readv({fd}, [bytearray(2), bytearray(3)], 7)
    assert port.get(10).object is first and first.result() == 5, first
    assert list(map(bytes, first.buf)) == [bytes([7, 8]), bytes([9, 10, 11])]
    place = os.lseek({fd}, 0, os.SEEK_CUR)
    last = port.aio.writev({fd}, [b"ab", b"c"], 100)
    assert port.get(10).object is last and last.result() == 3, last
    assert os.lseek({fd}, 0, os.SEEK_CUR) == place
    bad = port.aio.read({fd}, 1, -1)
    assert port.get(10).object is bad and bad.error() == 22, bad
"""
    subprocess.run([sys.executable, "-c", program], check=True, pass_fds=[fd], timeout=60)
    assert os.pread(fd, 3, 100) == b"abc"


def test_streams_where_nothing_can_be_tried(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_transfers, "has_nowait", False)
    with Port(kaio="workers") as other:
        ends = os.pipe()
        writing = other.aio.write(ends[1], bytes(300_000))
        left = 300_000
        while left:
            left -= len(os.read(ends[0], left))
        assert other.get(SOON).object is writing
        assert writing.result() == 300_000
        reading = other.aio.read(ends[0], 8)
        assert other.getn(1, 1, 0.02) == []
        os.write(ends[1], b"abc")
        assert other.get(SOON).object is reading
        assert bytes(reading.data) == b"abc"
        waiting = other.aio.read(ends[0], 8)
        assert waiting.cancel() == 0
        assert other.get(SOON).object is waiting
        for end in ends:
            os.close(end)


def test_where_no_thread_can_be_made_it_is_eagain_and_nothing_is_left(
    fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setenv("PORTCOMPAT_KAIO", "0")
    monkeypatch.setattr(requests, "workers", Workers(4, 256))
    monkeypatch.setattr(_workers, "start_new_thread", refuse)
    block = AioControlBlock(fd, 8)
    with pytest.raises(OSError) as caught:
        aio_read(block)
    assert caught.value.errno == errno.EAGAIN
    assert block.error() == errno.EAGAIN
    monkeypatch.undo()
    assert not requests.outstanding
    aio_read(block)
    assert aio_waitn(1, 1, SOON) == [block]
    assert block.result() == 8


def test_a_descriptor_that_a_blocked_request_had_can_be_used_again() -> None:
    """The old request is cancelled when one for the new file would have to wait with it (R316)."""
    with Port(kaio="workers") as port:
        old, new = os.pipe(), os.pipe()
        stale = port.aio.read(old[0], 8, user="stale")
        assert port.getn(1, 1, 0.02) == []
        os.dup2(new[0], old[0])
        fresh = port.aio.read(old[0], 8, user="fresh")
        assert port.get(SOON).object is stale
        assert stale.error() == errno.ECANCELED
        os.write(new[1], b"abc")
        assert port.get(SOON).object is fresh
        for end in (*old, *new):
            os.close(end)


def test_threads_that_are_idle_end(fd: int) -> None:
    with Port(kaio="workers") as port:
        for _ in range(8):
            port.aio.read(fd, 8)
        port.getn(8, 8, SOON)
    gone = threading.Event()
    for _ in range(1000):
        if not requests.workers.threads:
            break
        gone.wait(0.01)
    assert requests.workers.threads == 0
