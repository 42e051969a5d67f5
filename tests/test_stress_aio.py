"""Many requests: what is read is what was written, each is told once, and nothing is left over."""

import errno
import mmap
import os
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from portcompat import PORT_SOURCE_AIO, PORT_SOURCE_ALERT, Port, PortEvent
from portcompat.aio import (
    AIO_ALLDONE,
    AIO_CANCELED,
    AIO_NOTCANCELED,
    AioControlBlock,
    aio_close,
)
from portcompat.conformance._aio import empty_pipe, hang_up, taken, within
from portcompat.conformance._descriptors import SOON, socket_pair
from portcompat.conformance._errors import errno_of
from portcompat.conformance._mounts import mount, where_mounts_are_private
from portcompat.conformance._threads import in_thread

MakePort = Callable[..., Port]
Scale = Callable[[int, int, int], int]

pytestmark = pytest.mark.usefixtures("kaio")

PATIENCE = 240.0
SIZE = 1 << 26  # of the file that is read and written
MOST = 1 << 20  # bytes of a request
DEPTH = 64
GUARD = 64  # bytes on either side of what is read into


@pytest.fixture(params=["a way", "the usual way"])
def any_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, kaio: str) -> str:
    """As `kaio`, and once as it is when nothing is chosen: cached reads at once, then the best."""
    if request.param == "a way":
        return kaio
    if kaio != "workers":
        pytest.skip("tried once is enough")
    monkeypatch.delenv("PORTCOMPAT_KAIO")
    return "default"


@contextmanager
def nothing_left(seconds: float = SOON) -> Iterator[None]:
    """Descriptors and threads are afterwards no more than before.

    Before, some may be left of what has just been closed: threads end when they are idle.
    """
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("/proc/self/fd is needed to count")
    descriptors = len(os.listdir("/proc/self/fd"))
    threads = threading.active_count()
    yield
    within(seconds, lambda: threading.active_count() <= threads)
    within(seconds, lambda: len(os.listdir("/proc/self/fd")) <= descriptors)


def warm_up(port: Port) -> None:
    """What a port opens for its requests it has then."""
    with open("/dev/zero", "rb", buffering=0) as zeros:
        taken(port, port.aio.read(zeros, 1))


class Asked(NamedTuple):
    """A request under way, and what it is to come to."""

    block: AioControlBlock
    writes: bool
    start: int
    end: int
    data: bytes
    memory: bytearray


class Integrity:
    """Reads and writes at random places of a file, and a copy of what has to be in it.

    No two requests at once are about the same bytes if one of them writes, so what each has to
    come to is known.
    """

    def __init__(self, port: Port, fd: int, seed: int) -> None:
        self.port, self.fd = port, fd
        self.chance = random.Random(seed)
        self.noise = self.chance.randbytes(2 * MOST)
        self.shadow = bytearray(SIZE)
        self.under_way: dict[AioControlBlock, Asked] = {}
        self.cancelled: Counter[int] = Counter()
        self.answers: dict[AioControlBlock, int] = {}
        self.told = 0

    def span(self, writes: bool) -> tuple[int, int]:
        """Where nobody else is at work. Sizes are of every magnitude, and some pass the end."""
        while True:
            size = min(MOST, int(2 ** self.chance.uniform(0, 20)))
            start = self.chance.randrange(SIZE - size if writes else SIZE + 4096)
            end = start + size
            if not any(
                start < other.end and other.start < end and (writes or other.writes)
                for other in self.under_way.values()
            ):
                return start, end

    def ask(self) -> None:
        writes = self.chance.random() < 0.5
        start, end = self.span(writes)
        size = end - start
        if writes:
            place = self.chance.randrange(MOST)
            data = self.noise[place : place + size]
            memory = bytearray(data)
            block = self.port.aio.write(self.fd, memory, start, user=self)
        else:
            data = bytes(self.shadow[start:end])
            memory = bytearray(b"\xaa" * (size + 2 * GUARD))
            view = memoryview(memory)[GUARD:-GUARD]
            block = self.port.aio.read(self.fd, view, start, user=self)
            view.release()
        assert block not in self.under_way
        self.under_way[block] = Asked(block, writes, start, end, data, memory)

    def cancel_one(self) -> None:
        block = self.chance.choice(list(self.under_way))
        answer = block.cancel()
        assert answer in (AIO_CANCELED, AIO_ALLDONE, AIO_NOTCANCELED)
        self.cancelled[answer] += 1
        if answer == AIO_CANCELED:
            assert block.error() == errno.ECANCELED
            self.answers[block] = answer

    def take(self, event: PortEvent) -> None:
        assert event.source == PORT_SOURCE_AIO
        assert event.user is self
        asked = self.under_way.pop(event.object)  # KeyError: it was told twice
        self.told += 1
        if self.answers.pop(event.object, None) is not None:
            assert errno_of(event.object.result) == errno.ECANCELED
            if not asked.writes:
                assert asked.memory.count(0xAA) == len(asked.memory)
            return
        assert event.object.result() == len(asked.data)
        if asked.writes:
            self.shadow[asked.start : asked.end] = asked.data
        else:
            end = GUARD + len(asked.data)
            assert asked.memory[GUARD:end] == asked.data
            assert asked.memory[:GUARD] == b"\xaa" * GUARD
            assert asked.memory[end:].count(0xAA) == len(asked.memory) - end
        asked.memory.append(0)  # nobody holds it any more

    def run(self, count: int, cancels: float) -> None:
        asked = 0
        while asked < count or self.under_way:
            while asked < count and len(self.under_way) < DEPTH:
                self.ask()
                asked += 1
                if self.chance.random() < cancels:
                    self.cancel_one()
            events = self.port.getn(self.chance.choice((1, 3, DEPTH)), 1, SOON)
            assert events, "a completion is missing"
            for event in events:
                self.take(event)
        assert self.told == count
        assert self.port.getn(1, 1, 0) == []
        self.check()

    def check(self) -> None:
        for start in range(0, SIZE, MOST):
            assert os.pread(self.fd, MOST, start) == self.shadow[start : start + MOST]


@pytest.fixture
def large(tmp_path: Path) -> Iterator[int]:
    """A file of SIZE zero bytes, most of which take no room."""
    path = tmp_path / "large"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.truncate(fd, SIZE)
    yield fd
    aio_close(fd)
    path.unlink()


@pytest.mark.deadline(120)
@pytest.mark.parametrize(
    ("slots", "cancels"), [(None, 0.0), (8, 0.3)], ids=["plain", "cancels and 8 slots"]
)
def test_what_is_read_is_what_was_written(
    make_port: MakePort,
    any_way: str,
    large: int,
    scale: Scale,
    slots: int | None,
    cancels: float,
) -> None:
    with nothing_left():
        port = make_port(max_events=slots)
        Integrity(port, large, 1).run(scale(600, 100_000, 1_000_000), cancels)
        port.close()


@pytest.mark.deadline(120)
def test_several_threads_ask_and_take_in_one_port(
    make_port: MakePort, large: int, scale: Scale
) -> None:
    rounds, batch = scale(30, 1_000, 20_000), 16
    with nothing_left():
        port = make_port()
        os.pwrite(large, b"".join(n.to_bytes(4, "big") for n in range(1024)), 0)
        found: Counter[object] = Counter()
        lock = threading.Lock()

        def ask(who: int) -> None:
            chance = random.Random(who)
            for turn in range(rounds):
                for n in range(batch):
                    page = chance.randrange(1024)
                    port.aio.read(large, 4, 4 * page, user=(who, turn, n, page))

        def take() -> None:
            while True:
                for event in port.getn(batch, 1, PATIENCE):
                    if event.source == PORT_SOURCE_ALERT:
                        return
                    page = event.user[3]
                    assert event.object.data == page.to_bytes(4, "big")
                    with lock:
                        found[event.user] += 1

        takers = [in_thread(take) for _ in range(3)]
        askers = [in_thread(partial(ask, who)) for who in range(3)]
        for asker in askers:
            asker.result(PATIENCE)
        total = 3 * rounds * batch
        within(PATIENCE, lambda: len(found) == total or any(taker.over for taker in takers))
        port.alert(1)
        for taker in takers:
            taker.result(PATIENCE)
        assert found.total() == len(found) == total
        port.close()


@pytest.mark.deadline(90)
def test_what_goes_through_many_pipes_comes_out_whole_and_in_order(
    port: Port, scale: Scale
) -> None:
    """Reads wait in all of them at once, and writes are larger than a pipe holds."""
    pipes, total = scale(20, 100, 100), scale(300_000, 3_000_000, 30_000_000)
    chance = random.Random(5)
    data = chance.randbytes(total)
    warm_up(port)
    with ExitStack() as stack, nothing_left():
        ends = [stack.enter_context(empty_pipe()) for _ in range(pipes)]
        out = [bytearray() for _ in ends]
        sent = [0 for _ in ends]

        def read(which: int) -> None:
            port.aio.read(ends[which][0], chance.randrange(1, 100_000), user=(read, which))

        def write(which: int) -> None:
            part = memoryview(data)[sent[which] : sent[which] + 200_000]
            if part:
                port.aio.write(ends[which][1], part, user=(write, which))
            else:
                hang_up(ends[which][1])

        for which in range(pipes):
            read(which)
            write(which)
        open_ends = pipes
        while open_ends:
            events = port.getn(64, 1, SOON)
            assert events, "a completion is missing"
            for event in events:
                again, which = event.user
                count = event.object.result()
                if again is write:
                    assert count > 0
                    sent[which] += count
                    write(which)
                elif count:
                    out[which] += event.object.data
                    read(which)
                else:
                    open_ends -= 1
        assert all(each == data for each in out)
        stack.close()


@pytest.mark.deadline(90)
def test_requests_to_a_socket_go_on_in_both_directions(port: Port, scale: Scale) -> None:
    rounds = scale(100, 3_000, 100_000)
    chance = random.Random(9)
    with socket_pair() as (ours, theirs):
        for _ in range(rounds):
            data = chance.randbytes(chance.randrange(1, 5_000))
            port.aio.read(ours, len(data), user="in")
            port.aio.write(ours, data, user="out")
            received = b""
            while len(received) < len(data):
                received += theirs.recv(len(data))
            assert received == data
            theirs.sendall(data)
            events = {event.user: event.object for event in port.getn(2, 2, SOON)}
            assert events["out"].result() == len(data)
            assert data.startswith(events["in"].data)
            rest = len(data) - events["in"].result()
            while rest:
                block = port.aio.read(ours, rest)
                taken(port, block)
                rest -= block.result()


@pytest.mark.parametrize("descriptors", [1, 4])
def test_records_that_are_appended_are_all_there_and_whole(
    port: Port, tmp_path: Path, scale: Scale, descriptors: int
) -> None:
    count = scale(400, 10_000, 200_000)
    path = tmp_path / "log"
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    fds = [os.open(path, flags) for _ in range(descriptors)]
    try:
        for number in range(count):
            fd = fds[number % descriptors]
            port.aio.write(fd, b"%08d%s\n" % (number, b"." * (number % 50)), offset=0)
        assert len(port.getn(count, count, PATIENCE)) == count
    finally:
        for fd in fds:
            aio_close(fd)
    lines = path.read_bytes().splitlines()
    assert Counter(int(line[:8]) for line in lines) == Counter(range(count))
    assert all(line[8:] == b"." * (int(line[:8]) % 50) for line in lines)
    if descriptors == 1:
        assert lines == sorted(lines)


def test_a_file_system_that_is_full_says_so_and_nothing_is_lost(tmp_path: Path) -> None:
    def work() -> None:
        mount(tmp_path, "-o", "size=64k")
        with Port() as port:
            fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
            blocks = [port.aio.write(fd, b"x" * 4096, 4096 * n, user=n) for n in range(64)]
            assert len(port.getn(64, 64, SOON)) == 64
            errors = Counter(block.error() for block in blocks)
            assert set(errors) == {0, errno.ENOSPC}
            for number, block in enumerate(blocks):
                expected = b"x" if block.error() == 0 else b"\0"
                assert set(os.pread(fd, 4096, 4096 * number)) <= set(expected)
            os.ftruncate(fd, 0)
            block = port.aio.write(fd, b"y" * 200_000)
            taken(port, block)
            assert 0 < block.result() < 200_000  # as write(2) does
            assert os.fstat(fd).st_size == block.result()
            os.close(fd)

    where_mounts_are_private(work)


def test_errors_of_devices_come_through(port: Port) -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        block = port.aio.write(full, b"x")
        taken(port, block)
        assert block.error() == errno.ENOSPC
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        block = port.aio.read(memory, 8, 0)  # nothing is mapped there
        taken(port, block)
        assert block.error() == errno.EIO


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="this host has no O_DIRECT")
@pytest.mark.parametrize("offset", [0, 1, 512, 4096])
@pytest.mark.parametrize("shift", [0, 1, 512])
@pytest.mark.parametrize("size", [1, 4096])
def test_o_direct_does_what_preadv_does(
    port: Port, tmp_path: Path, offset: int, shift: int, size: int
) -> None:
    path = tmp_path / "direct"
    data = os.urandom(16384)
    path.write_bytes(data)
    try:
        fd = os.open(path, os.O_RDWR | os.O_DIRECT)
    except OSError as error:
        pytest.skip(f"this file system has no O_DIRECT: {error.strerror}")
    try:
        with mmap.mmap(-1, 16384) as pages, memoryview(pages)[shift : shift + size] as memory:
            expected = errno_of(os.preadv, fd, [memory], offset)
            memory[:] = bytes(size)
            block = port.aio.read(fd, memory, offset)
            taken(port, block)
            assert block.error() == (expected or 0)
            if not expected:
                assert memory == data[offset : offset + size]
            expected = errno_of(os.pwritev, fd, [memory], offset)
            block = port.aio.write(fd, memory, offset)
            taken(port, block)
            assert block.error() == (expected or 0)
            del block
    finally:
        aio_close(fd)


@pytest.mark.deadline(90)
def test_ports_that_are_closed_with_requests_under_way_leave_nothing(
    make_port: MakePort, large: int, scale: Scale
) -> None:
    def lives(count: int) -> None:
        for turn in range(count):
            port = make_port(max_events=turn % 5 + 1)
            with empty_pipe() as ends:
                memory = [bytearray(4096) for _ in range(20)]
                for number, each in enumerate(memory):
                    fd = ends[0] if number % 3 == 0 else large
                    port.aio.read(fd, each, 4096 * number)
                if turn % 2:
                    port.getn(3, 1, SOON)
                port.close()

    with nothing_left():
        lives(scale(20, 500, 20_000))


@pytest.mark.deadline(90)
def test_requests_that_are_cancelled_as_they_end_are_told_once(port: Port, scale: Scale) -> None:
    """A byte comes to a pipe while the read that waits for it is cancelled by another thread."""
    rounds = scale(200, 5_000, 200_000)
    outcomes: Counter[str] = Counter()
    with empty_pipe() as (reader, writer):
        for turn in range(rounds):
            block = port.aio.read(reader, 1, user=turn)
            cancel = in_thread(block.cancel)
            os.write(writer, b"x")
            event = port.get(SOON)
            answer = cancel.result()
            assert (event.object, event.user) == (block, turn)
            if answer == AIO_CANCELED:
                outcomes["cancelled"] += 1
                assert block.error() == errno.ECANCELED
                assert os.read(reader, 1) == b"x"  # nobody has swallowed it
            else:
                outcomes["read"] += 1
                assert block.result() == 1
        assert port.getn(1, 1, 0) == []
    assert outcomes.total() == rounds


@pytest.mark.deadline(90)
def test_with_many_that_wait_for_ever_the_rest_goes_on(
    port: Port, large: int, scale: Scale
) -> None:
    warm_up(port)
    count = scale(100, 300, 300)  # in the full profile more than there may be threads
    with ExitStack() as stack, nothing_left():
        pairs = [stack.enter_context(empty_pipe()) for _ in range(count)]
        threads = threading.active_count()
        waits = [port.aio.read(reader, 1, user=number) for number, (reader, _) in enumerate(pairs)]
        assert threading.active_count() <= threads + 256 + 8
        if count <= 200:
            for _ in range(20):
                taken(port, port.aio.read(large, 4096))
        for number in random.Random(3).sample(range(count), count):
            os.write(pairs[number][1], b"x")
            assert port.get(SOON).user == number
        assert {block.result() for block in waits} == {1}
        stack.close()


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets")
def test_datagrams_are_read_one_by_one(port: Port) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        blocks = [port.aio.read(ours, 100) for _ in range(20)]
        for number in range(20):
            theirs.send(b"%d" % number)
        for number, block in enumerate(blocks):
            taken(port, block)
            assert bytes(block.data) == b"%d" % number
