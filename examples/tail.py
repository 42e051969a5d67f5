"""tail -F: follow files by name, through truncation and rotation.

    python examples/tail.py /var/log/syslog other.log

- Each look at a file has the same order: take the stamps, read what is there, associate with those
  stamps. A line that is written after the stamps were taken makes the association fire at once, so
  no line waits for the next one, however the writer and the reader take turns.
- Exceptions come unasked. When the name is renamed or deleted, what is left in the old file is read
  when the name is there again; until then the directory is watched, by the same order: stamps,
  look whether the name is there, associate.
- Ctrl-C sends a message to the port, which is the one call that a signal handler may make at any
  moment.
"""

import argparse
import os
import signal
import sys
from collections import deque
from pathlib import Path
from typing import BinaryIO

from portcompat import FILE_MODIFIED, FILE_TRUNC, FileObject, Port, PortEvent

CHUNK = 1 << 16


class Output:
    """Standard output, with a headline when another of several files goes on."""

    def __init__(self, headlines: bool) -> None:
        self._headlines = headlines
        self._last: Path | None = None

    def write(self, path: Path, data: bytes) -> None:
        if self._headlines and path != self._last:
            gap = "\n" if self._last else ""
            sys.stdout.buffer.write(f"{gap}==> {path} <==\n".encode(errors="surrogateescape"))
            self._last = path
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def say(path: object, what: str) -> None:
    print(f"tail.py: {path}: {what}", file=sys.stderr, flush=True)


class Followed:
    """A name, and the file that it was when it was last looked at."""

    def __init__(self, port: Port, path: Path, output: Output) -> None:
        self._port, self._path, self._output = port, path, output
        self._named, self._directory = FileObject(path), FileObject(path.parent)
        self._file: BinaryIO | None = None
        self._away = False

    def start(self, lines: int) -> None:
        """Show the last lines and begin to follow."""
        try:
            self._file = self._path.open("rb", buffering=0)
        except FileNotFoundError:
            pass
        else:
            with self._path.open("rb") as file:
                last = b"".join(deque(file, lines))
                self._file.seek(file.tell())
            if last:
                self._output.write(self._path, last)
        self.look()

    def take(self, event: PortEvent) -> None:
        """Something has happened to the name, or in its directory."""
        if event.events & FILE_TRUNC and self._file is not None:
            say(self._path, "truncated")
            self._file.seek(0)
        self.look()

    def look(self) -> None:
        """Show what is new, and be told of what comes after."""
        while True:
            try:
                self._named.refresh()
                self._open_if_new()
                self._read()
                self._port.associate(self._named, FILE_MODIFIED | FILE_TRUNC, self)
                return
            except FileNotFoundError:
                if self._wait_for_name():
                    return

    def _open_if_new(self) -> None:
        found = self._path.open("rb", buffering=0)
        if self._file is not None and os.path.sameopenfile(self._file.fileno(), found.fileno()):
            found.close()
            return
        if self._file is not None:
            self._read()  # what was written to the old file until now
            self._file.close()
            say(self._path, "another file")
        elif self._away:
            say(self._path, "there")
        self._file, self._away = found, False

    def _read(self) -> None:
        assert self._file is not None
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            say(self._path, "truncated")
            self._file.seek(0)
        while data := self._file.read(CHUNK):
            self._output.write(self._path, data)

    def _wait_for_name(self) -> bool:
        """Watch the directory; False if the name is there again."""
        self._directory.refresh()
        if self._path.exists():
            return False
        if not self._away:
            say(self._path, "not there")
            self._away = True
        self._port.associate(self._directory, FILE_MODIFIED, self)
        return True

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def number(text: str) -> int:
    found = int(text)
    if found < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Follow files by name, as tail -F does.")
    parser.add_argument("--lines", type=number, default=10, metavar="N", help="to begin with")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    args = parser.parse_args()

    output = Output(headlines=len(args.files) > 1)
    with Port() as port:
        for which in (signal.SIGINT, signal.SIGTERM):
            signal.signal(which, lambda number, frame: port.send(0))
        followed = [Followed(port, path, output) for path in args.files]
        try:
            for each in followed:
                each.start(args.lines)
            while (event := port.get()).user is not None:
                event.user.take(event)
        except OSError as error:
            say(error.filename or "error", error.strerror or str(error))
            return 1
        finally:
            for each in followed:
                each.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
