"""The driver of io_uring(7), by itself."""

import errno
import os
import select
import tempfile
from collections import deque
from collections.abc import Iterator
from threading import Thread
from time import monotonic

import pytest

from portcompat import Port, available_kaio
from portcompat.aio import AIOAREAD, AIOAWRITE, AIOFSYNC
from portcompat.backends import io_uring
from portcompat.backends.io_uring import IoUring

SOON = 10.0

if not available_kaio()["io_uring"].usable:
    pytest.skip(available_kaio()["io_uring"].reason, allow_module_level=True)


@pytest.fixture
def ring() -> Iterator[IoUring]:
    ring = IoUring()
    yield ring
    assert not ring.taken
    ring.close()


@pytest.fixture
def fd() -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        file.write(bytes(range(256)))
        file.flush()
        yield file.fileno()


def reports(ring: IoUring, count: int) -> dict[int, int]:
    """So many reports, by token."""
    found: deque[tuple[int, int]] = deque()
    ready = select.poll()
    ready.register(ring.fileno(), select.POLLIN)
    end = monotonic() + SOON
    ring.read(found)  # after a `cancel` it may be there whatever the descriptor says
    while len(found) < count:
        ready.poll(1000 * max(0.0, end - monotonic()))
        ring.read(found)
        assert monotonic() < end or len(found) >= count
    assert len(dict(found)) == len(found) == count
    return dict(found)


def test_it_reads_writes_and_syncs(ring: IoUring, fd: int) -> None:
    memory = bytearray(8)
    ring.submit(1, AIOAREAD, fd, [memoryview(memory)], 4)
    ring.submit(2, AIOAWRITE, fd, [memoryview(b"abc"), memoryview(b"defg")], 100)
    assert ring.flush()
    assert reports(ring, 2) == {1: 8, 2: 7}
    assert memory == bytes(range(4, 12))
    assert os.pread(fd, 7, 100) == b"abcdefg"
    for data_only in (0, 1):
        ring.submit(3, AIOFSYNC, fd, [], data_only)
        ring.flush()
        assert reports(ring, 1) == {3: 0}


def test_nothing_begins_before_it_is_flushed(ring: IoUring) -> None:
    ends = os.pipe()
    ring.submit(1, AIOAWRITE, ends[1], [memoryview(b"x")], -1)
    os.set_blocking(ends[0], False)
    with pytest.raises(BlockingIOError):
        os.read(ends[0], 1)
    ring.flush()
    assert reports(ring, 1) == {1: 1}
    assert os.read(ends[0], 1) == b"x"
    for end in ends:
        os.close(end)


def test_errors_are_reported(ring: IoUring, fd: int) -> None:
    closed = os.dup(fd)
    os.close(closed)
    ring.submit(1, AIOAREAD, closed, [memoryview(bytearray(8))], 0)
    ring.flush()
    assert reports(ring, 1) == {1: -errno.EBADF}


def test_it_goes_round_many_times(ring: IoUring, fd: int) -> None:
    memory = [bytearray(1) for _ in range(100)]
    token = 0
    for turn in range(100):
        expected = {}
        for place, byte in enumerate(memory):
            token += 1
            assert ring.submit(token, AIOAREAD, fd, [memoryview(byte)], (turn + place) % 256)
            expected[token] = 1
        ring.flush()
        assert reports(ring, 100) == expected
        assert [byte[0] for byte in memory] == [(turn + n) % 256 for n in range(100)]


def test_it_takes_no_more_than_it_can_report(ring: IoUring) -> None:
    ends = os.pipe()
    taken = 0
    while ring.submit(taken + 1, AIOAREAD, ends[0], [memoryview(bytearray(1))], -1):
        taken += 1
    assert taken >= 256
    ring.flush()
    os.write(ends[1], bytes(taken))
    assert reports(ring, taken) == dict.fromkeys(range(1, taken + 1), 1)
    for end in ends:
        os.close(end)


def test_memory_is_held_until_the_report_is_read(ring: IoUring) -> None:
    ends = os.pipe()
    memory = bytearray(8)
    ring.submit(1, AIOAREAD, ends[0], [memoryview(memory)], -1)
    ring.flush()
    with pytest.raises(BufferError):
        memory.append(0)
    os.write(ends[1], b"12345678")
    assert reports(ring, 1) == {1: 8}
    memory.append(0)
    assert memory == b"12345678\0"
    for end in ends:
        os.close(end)


def test_what_waits_for_a_peer_ends_when_it_is_cancelled(ring: IoUring) -> None:
    ends = os.pipe()
    for token in range(1, 50):
        ring.submit(token, AIOAREAD, ends[0], [memoryview(bytearray(8))], -1)
        ring.flush()
        ring.cancel(token, True)
        assert token not in ring.taken
        assert reports(ring, 1) == {token: -errno.ECANCELED}
    for end in ends:
        os.close(end)


def test_what_a_thread_that_has_ended_submitted_is_waited_for_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends = os.pipe()
    with Port(kaio="io_uring") as port:
        blocks = []

        def submit() -> None:
            blocks.append(port.aio.read(ends[0], 8))

        thread = Thread(target=submit)
        thread.start()
        thread.join()
        assert port.getn(1, 1, 0.05) == []
        os.write(ends[1], b"later")
        assert port.get(SOON).object is blocks[0]
        assert bytes(blocks[0].data) == b"later"
    for end in ends:
        os.close(end)


def test_what_the_kernel_does_not_take_is_reported(
    ring: IoUring, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(io_uring, "ring_enter", lambda fd, count: -1)
    ring.submit(1, AIOAREAD, fd, [memoryview(bytearray(8))], 0)
    ring.submit(2, AIOAREAD, fd, [memoryview(bytearray(8))], 0)
    assert not ring.flush()
    found: deque[tuple[int, int]] = deque()
    ring.read(found)
    assert dict(found) == {1: -errno.EAGAIN, 2: -errno.EAGAIN}
    monkeypatch.undo()
    ring.submit(3, AIOAREAD, fd, [memoryview(bytearray(8))], 0)
    assert ring.flush()
    assert reports(ring, 1) == {3: 8}


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSYS, "Linux 5.7"), (errno.EPERM, "io_uring_disabled")]
)
def test_where_it_cannot_be_set_up_it_says_why(
    monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def refuse(entries: int, params: bytearray) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(io_uring, "ring_setup", refuse)
    with pytest.raises(OSError, match=words) as caught:
        IoUring()
    assert caught.value.errno == number
    found = available_kaio()["io_uring"]
    assert not found.usable
    assert words in found.reason


def test_an_old_kernel_is_refused_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(io_uring, "_NEEDED", {1 << 30: "9.9"})
    with pytest.raises(OSError, match=r"Linux 9\.9"):
        IoUring()
    assert len(os.listdir("/proc/self/fd")) == before


def test_it_works_where_loads_are_not_ordered(
    ring: IoUring, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(io_uring, "_IS_ORDERED", False)
    ring.submit(1, AIOAREAD, fd, [memoryview(bytearray(8))], 0)
    ring.flush()
    assert reports(ring, 1) == {1: 8}


def test_closing_again_has_no_effect(ring: IoUring) -> None:
    ring.close()
    ring.close()
