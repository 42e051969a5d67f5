"""Many files, many changes, several processes: each change is told, and none twice."""

import os
import random
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Barrier, Event
from time import monotonic

import pytest

from portcompat import (
    FILE_ATTRIB,
    FILE_DELETE,
    FILE_EXCEPTION,
    FILE_MODIFIED,
    PORT_SOURCE_ALERT,
    PORT_SOURCE_FILE,
    FileObject,
    Port,
)
from portcompat.conformance import needs
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._errors import errno_of
from portcompat.conformance._files import CHANGED, Happened, told, write
from portcompat.conformance._threads import in_thread

MakePort = Callable[..., Port]
Scale = Callable[[int, int, int], int]

pytestmark = pytest.mark.usefixtures("file_watcher")

PATIENCE = 240.0

# Waits for a byte, and then a while from 0 to argv[2] microseconds, before it appends to a file.
_CHANGER = """\
import os, random, sys, time
path, most = sys.argv[1], int(sys.argv[2])
file = os.open(path, os.O_WRONLY | os.O_APPEND)
chance = random.Random(7)
while os.read(0, 1):
    end = time.perf_counter() + chance.randrange(most) / 1e6
    while time.perf_counter() < end:
        pass
    os.write(file, b"x")
    os.write(1, b"d")
"""

# Writes its turn into files of a tree, one after the other in an order of chance.
_WRITER = """\
import os, random, sys
root, first, last, changes, seed = sys.argv[1], *map(int, sys.argv[2:])
chance = random.Random(seed)
os.read(0, 1)
for turn in range(changes):
    number = chance.randrange(first, last)
    file = os.open(f"{root}/{number % 100}/{number}", os.O_WRONLY)
    os.write(file, b"%010d" % turn)
    os.close(file)
"""


@contextmanager
def another_process(code: str, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-I", "-S", "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def need_fine_stamps(path: Path) -> None:
    """Skip where a change soon after a look may leave the stamp as it was."""
    for _ in range(200):
        before = path.stat().st_mtime_ns
        write(path)
        if path.stat().st_mtime_ns == before:
            pytest.skip("the stamps of this file system are too coarse to tell two changes apart")


@pytest.mark.deadline(300)
@pytest.mark.parametrize("most", [1, 60, 400], ids="within {} us".format)
def test_a_change_at_any_moment_between_a_look_and_its_event_is_told_once(
    port: Port, file: Path, happened: Happened, scale: Scale, most: int
) -> None:
    need_fine_stamps(file)
    rounds = scale(500, 3_400, 100_000)
    watched = FileObject(file)
    counts: Counter[int] = Counter()
    with another_process(_CHANGER, file, most) as changer:
        assert changer.stdin is not None
        assert changer.stdout is not None
        go, done = changer.stdin.fileno(), changer.stdout.fileno()
        for turn in range(rounds):
            watched.refresh()
            os.write(go, b"g")
            port.associate(watched, FILE_MODIFIED, turn)
            assert os.read(done, 1) == b"d"
            event = port.get(SOON)
            assert (event.source, event.events, event.user) == (
                PORT_SOURCE_FILE,
                FILE_MODIFIED,
                turn,
            )
            counts[event.user] += 1
            if turn % 100 == 0:  # a second event would show at the latest here
                counts.update(event.user for event in happened(port))
    counts.update(event.user for event in happened(port))
    assert counts == Counter(range(rounds))


@pytest.mark.deadline(300)
def test_a_change_that_was_seen_in_the_look_is_not_told(
    port: Port, file: Path, happened: Happened, scale: Scale
) -> None:
    """What happened before the stamps were taken is known; a watcher must not tell it again."""
    need_fine_stamps(file)
    watched = FileObject(file)
    for turn in range(scale(200, 2_000, 50_000)):
        write(file)
        watched.refresh()
        port.associate(watched, CHANGED, turn)
        if turn % 20 == 0:
            assert happened(port) == []
    assert happened(port) == []
    write(file)
    assert [bits for _, bits in told(happened(port))] == [CHANGED]


class Tree:
    """Files in a hundred directories, each known by its last content that was seen."""

    def __init__(self, port: Port, root: Path, count: int) -> None:
        self.port, self.root, self.count = port, root, count
        for number in range(100):
            (root / str(number)).mkdir()
        self.seen: list[bytes] = [b""] * count
        self.events = 0
        for number in range(count):
            self.path(number).write_bytes(b"%010d" % 0)
        self.files = [FileObject(self.path(number)) for number in range(count)]
        for number in range(count):
            self.look(number)

    def path(self, number: int) -> Path:
        return self.root / str(number % 100) / str(number)

    def look(self, number: int) -> None:
        """Take the stamps, then the content, then associate: what comes in between is told."""
        file = self.files[number]
        file.refresh()
        self.seen[number] = self.path(number).read_bytes()
        self.port.associate(file, FILE_MODIFIED, number)

    def follow(self, over: Event) -> int:
        events = 0
        while not over.is_set():
            for event in self.port.getn(64, 1, 0.1):
                if event.source == PORT_SOURCE_ALERT:
                    return events
                assert event.events == FILE_MODIFIED
                assert event.object is self.files[event.user]
                self.look(event.user)
                events += 1
        return events

    def behind(self) -> list[int]:
        """The files whose last content was not seen."""
        return [
            number
            for number in range(self.count)
            if self.path(number).read_bytes() != self.seen[number]
        ]


@pytest.mark.deadline(600)
@pytest.mark.parametrize("followers", [1, 4])
def test_the_last_state_of_each_file_of_a_tree_is_told(
    make_port: MakePort, tmp_path: Path, scale: Scale, followers: int
) -> None:
    count, changes = scale(500, 10_000, 10_000), scale(2_500, 25_000, 500_000)
    (tmp_path / "probe").write_bytes(b"")
    need_fine_stamps(tmp_path / "probe")
    port = make_port(max_events=count + 8)
    tree = Tree(port, tmp_path, count)
    over = Event()
    threads = [in_thread(partial(tree.follow, over)) for _ in range(followers)]
    share = count // 4
    writers = [
        subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", "-c", _WRITER, str(tmp_path)),
                *map(str, (n * share, n * share + share, changes, n)),
            ],
            stdin=subprocess.PIPE,
        )
        for n in range(4)
    ]
    try:
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.close()  # go
        for writer in writers:
            assert writer.wait(PATIENCE) == 0
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    deadline = monotonic() + PATIENCE
    while tree.behind() and monotonic() < deadline:
        assert not any(thread.over for thread in threads)
        over.wait(0.2)  # to look takes the time of those who follow
    over.set()
    events = sum(thread.result(PATIENCE) for thread in threads)
    assert tree.behind() == []
    assert 0 < events <= 4 * changes
    assert port.getn(count, 1, 0) == []


def test_an_overflow_of_the_watcher_loses_nothing(port: Port, tmp_path: Path, scale: Scale) -> None:
    """More changes than the kernel keeps for a port that does not ask."""
    kept = Path("/proc/sys/fs/inotify/max_queued_events")
    changes = 2 * int(kept.read_text()) if kept.exists() else 40_000
    paths = [tmp_path / str(number) for number in range(8)]
    for number, path in enumerate(paths):
        path.write_bytes(b"")
        port.associate(FileObject.stat(path), CHANGED, number)
    noise = paths[:2]
    descriptors = [os.open(path, os.O_WRONLY) for path in noise]
    try:
        for _ in range(changes // 2):  # in turns, or the kernel makes one of them
            for descriptor in descriptors:
                os.pwrite(descriptor, b"x", 0)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    write(paths[4])
    paths[5].unlink()
    paths[6].chmod(0o600)
    paths[7].rename(tmp_path / "moved")
    found: dict[int, int] = {}
    while len(found) < 6:
        found |= {event.user: event.events for event in port.getn(8, 1, SOON)}
        assert found
    assert found.pop(7) & FILE_EXCEPTION
    assert found == {0: CHANGED, 1: CHANGED, 4: CHANGED, 5: FILE_DELETE, 6: FILE_ATTRIB}
    assert port.getn(8, 1, 0) == []


def test_after_an_overflow_of_the_watcher_it_goes_on(
    port: Port, tmp_path: Path, happened: Happened
) -> None:
    kept = Path("/proc/sys/fs/inotify/max_queued_events")
    changes = 2 * int(kept.read_text()) if kept.exists() else 40_000
    paths = [tmp_path / str(number) for number in range(2)]
    for path in paths:
        path.write_bytes(b"")
        port.associate(FileObject.stat(path), FILE_MODIFIED, path.name)
    for _ in range(changes // 2):
        for path in paths:
            os.utime(path)
    assert sorted(told(happened(port))) == [("0", FILE_MODIFIED), ("1", FILE_MODIFIED)]
    for path in paths:
        port.associate(FileObject.stat(path), FILE_MODIFIED, path.name)
    assert happened(port) == []
    write(paths[0])
    assert told(happened(port)) == [("0", FILE_MODIFIED)]


def test_threads_that_associate_and_dissociate_the_same_object_leave_nothing(
    port: Port, file: Path, happened: Happened, scale: Scale
) -> None:
    turns = scale(300, 3_000, 100_000)
    watched = FileObject(file)
    start = Barrier(4)

    def churn() -> None:
        start.wait()
        for _ in range(turns):
            port.associate(watched, FILE_MODIFIED)
            errno_of(port.dissociate, watched)

    def change() -> None:
        start.wait()
        for _ in range(turns):
            write(file)
            port.getn(4, 1, 0)

    threads = [in_thread(each) for each in (churn, churn, churn, change)]
    for thread in threads:
        thread.result(PATIENCE)
    errno_of(port.dissociate, watched)
    write(file)
    assert happened(port) == []
    port.associate(FileObject(file), FILE_MODIFIED, "last")
    write(file)
    assert told(happened(port)) == [("last", FILE_MODIFIED)]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="/proc/self/fd is needed to count")
def test_files_that_come_and_go_leave_no_descriptor_and_no_memory(
    port: Port, tmp_path: Path, happened: Happened, scale: Scale
) -> None:
    def lives(count: int) -> None:
        for number in range(count):
            path = tmp_path / str(number % 7)
            path.write_bytes(b"")
            port.associate(FileObject.stat(path), CHANGED, number)
            if number % 3 == 0:
                write(path)
            path.unlink()
            assert port.get(SOON).user == number

    lives(100)
    happened(port)
    descriptors = sorted(os.listdir("/proc/self/fd"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lives(scale(300, 20_000, 1_000_000))
    assert happened(port) == []
    assert sorted(os.listdir("/proc/self/fd")) == descriptors
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 8 << 10  # KiB on Linux


@needs("file-rename-from")  # one that polls may tell of the write first
@pytest.mark.deadline(300)
def test_renames_to_and_fro_are_told_each(
    port: Port, tmp_path: Path, happened: Happened, scale: Scale
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"")
    chance = random.Random(3)
    for turn in range(scale(150, 1_500, 50_000)):
        port.associate(FileObject.stat(one), CHANGED, turn)
        if chance.random() < 0.5:
            write(one)
        one.rename(two)
        ((user, events),) = told(happened(port))
        assert user == turn
        assert events & FILE_EXCEPTION
        assert events.bit_count() == 1
        one, two = two, one
