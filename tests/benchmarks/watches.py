"""`python -m tests.benchmarks.watches`: what each file watcher loses, and what a watch weighs.

The race: look at a file, have another process change it within some hundred microseconds, watch
it. Who only watches does not hear of a change that came before. A port is told the stamps of the
look, and tells of it.
"""

import argparse
import gc
import importlib.util
import os
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue

import portcompat
from portcompat import FILE_MODIFIED, FileObject, Port
from tests.benchmarks import find_drivers
from tests.benchmarks.files import Inotify, watchdog_observer, watchfiles_notify

Told = Callable[[], int]
"""Ends the watch, and says how many changes were told."""

Watch = Callable[[], Told]
Watching = tuple[Callable[[], object], Watch]
"""What looks at the file, and what watches it."""

LATE = 0.25  # seconds in which who has threads of his own may tell
INTERVAL = 0.005  # seconds between two looks of who polls

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


def main() -> None:
    find_drivers()
    os.environ["PORTCOMPAT_STAT_INTERVAL"] = str(INTERVAL)
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.watches", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10_000, help="of the race (%(default)s)")
    parser.add_argument("--within", type=int, default=400, metavar="US", help="%(default)s")
    parser.add_argument("--files", type=int, default=10_000, help="to weigh (%(default)s)")
    options = parser.parse_args()
    print(f"a change within {options.within} us of the look:")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "file"
        path.write_bytes(b"")
        for name, rounds, watching in _watchers(path, options.rounds):
            with watching as (look, watch):
                once, lost, more = race(path, options.within, rounds, look, watch)
            print(
                f"  {name:22} {rounds:6} rounds: {once} told once, {lost} lost, {more} told twice"
            )
    for name, info in portcompat.available_file_watchers().items():
        if info.usable:
            heap, resident = weigh(name, options.files)
            print(
                f"{name}: a watch weighs {heap:.0f} bytes of Python's heap, "
                f"{resident:.0f} resident ({options.files} files)"
            )


def race(
    path: Path, most: int, rounds: int, look: Callable[[], object], watch: Watch
) -> tuple[int, int, int]:
    """How many changes were told once, never, and more than once."""
    counts = [0, 0, 0]
    command = [sys.executable, "-I", "-S", "-c", _CHANGER, str(path), str(most)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as changer:
        assert changer.stdin is not None
        assert changer.stdout is not None
        go, done = changer.stdin.fileno(), changer.stdout.fileno()
        for _ in range(rounds):
            look()
            os.write(go, b"g")
            told = watch()
            os.read(done, 1)
            counts[min(told(), 2)] += 1
        changer.kill()
    never, once, more = counts
    return once, never, more


@contextmanager
def _by_port(path: Path, watcher: str) -> Iterator[Watching]:
    file = FileObject(path)
    with Port(file_watcher=watcher) as port:

        def watch() -> Told:
            port.associate(file, FILE_MODIFIED)
            return told

        def told() -> int:
            found = len(port.getn(4, 1, LATE))
            return found + len(port.getn(4, 1, 0))

        yield file.refresh, watch


@contextmanager
def _by_hand(path: Path) -> Iterator[Watching]:
    inotify = Inotify()

    def watch() -> Told:
        descriptor = inotify.watch(path)

        def told() -> int:
            found = inotify.watches().count(descriptor)
            inotify.unwatch(descriptor)
            inotify.watches()
            return found

        return told

    try:
        yield path.stat, watch
    finally:
        inotify.close()


@contextmanager
def _by_watchdog(path: Path) -> Iterator[Watching]:
    def watch() -> Told:
        events: SimpleQueue[None] = SimpleQueue()
        observer = watchdog_observer(path, events)

        def told() -> int:
            found = 0
            try:
                events.get(timeout=LATE)
                found = 1
            except Empty:
                pass
            observer.stop()
            observer.join()
            return found

        return told

    yield path.stat, watch


@contextmanager
def _by_watchfiles(path: Path) -> Iterator[Watching]:
    def watch() -> Told:
        notify = watchfiles_notify(path)

        def told() -> int:
            found = notify.watch(1, 1, int(LATE * 1000), None)
            notify.close()
            return isinstance(found, set)

        return told

    yield path.stat, watch


def _watchers(
    path: Path, rounds: int
) -> Iterator[tuple[str, int, AbstractContextManager[Watching]]]:
    for name, info in portcompat.available_file_watchers().items():
        if info.usable:
            # Who polls takes its time.
            some = rounds // 10 if name == "stat" else rounds
            yield f"portcompat, {name}", some, _by_port(path, name)
    if sys.platform == "linux":
        yield "inotify by hand", rounds, _by_hand(path)
    if importlib.util.find_spec("watchdog"):
        yield "watchdog", rounds // 20, _by_watchdog(path)
    if importlib.util.find_spec("watchfiles"):
        yield "watchfiles", rounds // 20, _by_watchfiles(path)


def weigh(watcher: str, count: int) -> tuple[float, float]:
    """Bytes of a watch of a file with its FileObject: of Python's heap, and resident.

    Each in a port of its own, as to count the heap takes memory.
    """
    resident = _grown_by(watcher, count, _resident)
    tracemalloc.start()
    heap = _grown_by(watcher, count, lambda: tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    return heap / count, resident / count


def _grown_by(watcher: str, count: int, measure: Callable[[], int]) -> int:
    with tempfile.TemporaryDirectory() as directory, Port(file_watcher=watcher) as port:
        paths = [f"{directory}/{number}" for number in range(count)]
        for path in paths:
            with open(path, "wb"):
                pass
        port.associate(FileObject.stat(directory), FILE_MODIFIED)
        files = []
        gc.collect()
        before = measure()
        for path in paths:
            files.append(FileObject.stat(path))
            port.associate(files[-1], FILE_MODIFIED)
        return measure() - before


def _resident() -> int:
    """Bytes of memory that the process has, where the system tells."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
