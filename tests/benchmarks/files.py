"""From a write to the event that tells of it: a port against those who only watch."""

import ctypes
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import repeat
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter
from typing import Any

from portcompat import FILE_MODIFIED, FileObject, Port
from tests.benchmarks.measure import Timer, Timers

IN_MODIFY = 0x2


class Inotify:
    """inotify(7) by hand: the least that tells of a write."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._call("inotify_init1", os.O_CLOEXEC | os.O_NONBLOCK)

    def watch(self, path: Path, mask: int = IN_MODIFY) -> int:
        return self._call("inotify_add_watch", self.fd, os.fsencode(path), mask)

    def unwatch(self, descriptor: int) -> None:
        self._call("inotify_rm_watch", self.fd, descriptor)

    def watches(self) -> list[int]:
        """The watch descriptors of what there is to read, by the kernel's record."""
        try:
            data = os.read(self.fd, 4096)
        except BlockingIOError:
            return []
        found = []
        while data:
            descriptor, mask, _, length = struct.unpack_from("iIII", data)
            if mask & IN_MODIFY:
                found.append(descriptor)
            data = data[16 + length :]
        return found

    def close(self) -> None:
        os.close(self.fd)

    def _call(self, name: str, *arguments: object) -> int:
        result: int = getattr(self._libc, name)(*arguments)
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result


@contextmanager
def against_inotify(backend: str) -> Iterator[Timers]:
    with (
        _file() as (path, descriptor),
        _latency(backend, path, descriptor) as by_port,
        _inotify(path, descriptor) as by_hand,
    ):
        yield by_port, by_hand


@contextmanager
def cycle_against_inotify(backend: str) -> Iterator[Timers]:
    with (
        _file() as (path, descriptor),
        _cycle(backend, path, descriptor) as by_port,
        _inotify(path, descriptor) as by_hand,
    ):
        yield by_port, by_hand


@contextmanager
def _inotify(path: Path, descriptor: int) -> Iterator[Timer]:
    inotify = Inotify()
    inotify.watch(path)
    fd, write, read = inotify.fd, os.write, os.read

    def by_hand(loops: int) -> float:
        start = perf_counter()
        for _ in repeat(None, loops):
            write(descriptor, b"x")
            read(fd, 4096)
        return perf_counter() - start

    try:
        yield _drained(by_hand, inotify.watches)
    finally:
        inotify.close()


@contextmanager
def against_watchdog(backend: str) -> Iterator[Timers]:
    with _file() as (path, descriptor), _latency(backend, path, descriptor) as by_port:
        told: SimpleQueue[None] = SimpleQueue()
        observer = watchdog_observer(path, told)
        write, get = os.write, told.get

        def by_watchdog(loops: int) -> float:
            start = perf_counter()
            for _ in repeat(None, loops):
                write(descriptor, b"x")
                get()
            return perf_counter() - start

        def drain() -> None:
            while not told.empty():
                told.get()

        try:
            yield by_port, _drained(by_watchdog, drain)
        finally:
            observer.stop()
            observer.join()


@contextmanager
def against_watchfiles(backend: str) -> Iterator[Timers]:
    with _file() as (path, descriptor), _latency(backend, path, descriptor) as by_port:
        notify = watchfiles_notify(path)
        write, watch = os.write, notify.watch

        def by_watchfiles(loops: int) -> float:
            start = perf_counter()
            for _ in repeat(None, loops):
                write(descriptor, b"x")
                watch(1, 1, 1000, None)
            return perf_counter() - start

        try:
            yield by_port, _drained(by_watchfiles, lambda: watch(1, 1, 5, None))
        finally:
            notify.close()


def watchdog_observer(path: Path, told: "SimpleQueue[None]") -> Any:
    """watchdog with a handler that does nothing but tell of a write to `path`."""
    events = import_module("watchdog.events")
    observers = import_module("watchdog.observers")
    base: Any = events.FileSystemEventHandler

    class Handler(base):  # type: ignore[misc]
        def on_modified(self, event: Any) -> None:
            if not event.is_directory:
                told.put(None)

    observer = observers.Observer()
    observer.schedule(Handler(), str(path))
    observer.start()
    return observer


def watchfiles_notify(path: Path) -> Any:
    """What is under watchfiles.watch, which waits for quiet: here it is told not to."""
    return import_module("watchfiles._rust_notify").RustNotify(
        [str(path)], False, False, 1, False, False
    )


def _drained(timer: Timer, drain: Any) -> Timer:
    """`timer`, when what the other side's writes have left is taken."""

    def drained(loops: int) -> float:
        drain()
        return timer(loops)

    return drained


@contextmanager
def _latency(backend: str, path: Path, descriptor: int) -> Iterator[Timer]:
    """Write, get. That the file is looked at and associated again does not count."""
    file = FileObject(path)
    with Port(backend, file_watcher="inotify") as port:
        write, get, refresh, associate = os.write, port.get, file.refresh, port.associate

        def by_port(loops: int) -> float:
            taken = 0.0
            for _ in repeat(None, loops):
                refresh()
                associate(file, FILE_MODIFIED)
                start = perf_counter()
                write(descriptor, b"x")
                get()
                taken += perf_counter() - start
            return taken

        yield by_port


@contextmanager
def _cycle(backend: str, path: Path, descriptor: int) -> Iterator[Timer]:
    """Write, get, look and associate again: the loop that misses nothing."""
    file = FileObject(path)
    with Port(backend, file_watcher="inotify") as port:
        write, get, refresh, associate = os.write, port.get, file.refresh, port.associate

        def by_port(loops: int) -> float:
            refresh()
            associate(file, FILE_MODIFIED)
            start = perf_counter()
            for _ in repeat(None, loops):
                write(descriptor, b"x")
                get()
                refresh()
                associate(file, FILE_MODIFIED)
            taken = perf_counter() - start
            port.dissociate(file)
            return taken

        yield by_port


@contextmanager
def _file() -> Iterator[tuple[Path, int]]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "file"
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
        try:
            yield path, descriptor
        finally:
            os.close(descriptor)
