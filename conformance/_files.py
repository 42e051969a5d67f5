"""Files to watch, what is done to them, and what has been told of it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from portcompat import FILE_ATTRIB, FILE_MODIFIED, FILE_NOFOLLOW, FileObject, Port, PortEvent
from portcompat.conformance._descriptors import SOON

CHANGED = FILE_MODIFIED | FILE_ATTRIB
"""What a write comes to."""

SECOND = 1_000_000_000
"""In nanoseconds, as stamps are."""

NOBODY = 65534

MakePort = Callable[..., Port]


def watch(port: Port, path: Any, events: int = CHANGED, user: object = None) -> FileObject:
    """Associate `path` as it is now."""
    file = FileObject.stat(path, follow=not events & FILE_NOFOLLOW)
    port.associate(file, events, user)
    return file


def write(path: Path, data: bytes = b"x") -> None:
    """Append to a file that exists, in one write."""
    with open(path, "ab", buffering=0) as file:
        file.write(data)


def told(events: list[PortEvent]) -> list[tuple[object, int]]:
    """Whose events these are, and their bits."""
    return [(event.user, event.events) for event in events]


def until_queued(port: Port, count: int = 1) -> None:
    """Return when `count` events are queued, which has to be soon; none is taken."""
    deadline = monotonic() + SOON
    while port.pending() < count:
        assert monotonic() < deadline, f"{port.pending()} events are queued, not {count}"
        sleep(0.001)


class Happened:
    """Tells what a port has to say of all that has happened until now.

    A file of its own is watched and written to. When that is told, so is what came before. A
    watcher that polls may have passed the others by when it sees the change of this one, but not
    when it sees the next change too. The third is for one that tells in no order.
    """

    def __init__(self, path: Path) -> None:
        path.write_bytes(b"")
        self._path = path
        self._files: dict[Port, FileObject] = {}

    def __call__(self, port: Port) -> list[PortEvent]:
        """The events of `port`, taken; the port has a free slot for this."""
        events = []
        file = self._files.setdefault(port, FileObject(self._path))
        for _ in range(3):
            file.refresh()
            port.associate(file, FILE_MODIFIED, self)
            write(self._path)
            while (event := port.get(SOON)).user is not self:
                events.append(event)
        return events


@contextmanager
def unprivileged() -> Iterator[None]:
    """The calls in the block are made without the rights of the superuser."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def touch(path: Path, *options: str) -> None:
    """touch(1), which can set one of the two times alone. With -c it does not open the file."""
    subprocess.run(["touch", "-c", *options, path], check=True)


def elsewhere(code: str, *arguments: object) -> None:
    """Run Python `code` in another process, with `arguments` as its sys.argv[1:]."""
    command = [sys.executable, "-I", "-S", "-c", code, *map(str, arguments)]
    subprocess.run(command, check=True, timeout=SOON)
