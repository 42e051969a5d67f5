"""cp -r: copy files and directories, with many reads and writes under way at once.

    python examples/copy_tool.py big.iso /mnt/backup/big.iso
    python examples/copy_tool.py --depth 64 --sync photos /mnt/backup/photos

- A fixed number of buffers is all the memory that it takes. Each belongs to one block of one file:
  it is read into, written out, and then begins the next block. The event of a request carries the
  buffer as its `user`, so there is no table of who waits for what.
- A file is copied up to the size that it had when it was opened. A read that comes short is asked
  for the rest, until it says 0: the file has shrunk. A write that comes short goes on with the
  rest, or says why it cannot.
- A file is synced, if that is asked for, and closed when its last block is written: a descriptor is
  not closed while a request uses it.
- One port has it all: finished requests, the timer that says how far it is, and Ctrl-C, which is a
  message. What is under way is cancelled then, and files that are not complete are removed.
"""

import argparse
import errno
import os
import signal
import stat
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from portcompat import PORT_SOURCE_AIO, PORT_SOURCE_USER, Port, PortEvent
from portcompat.aio import AIOAREAD, AIOFSYNC, AioControlBlock

TURN = 64  # events that are taken at once
FILES = 16  # files that are open at once, each with two descriptors
EVERY = 1.0  # seconds between two lines that say how far it is


class Failure(Exception):
    """What went wrong with which file. The message is for people."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path}: {error.strerror}")


class File:
    """A file that is being copied."""

    def __init__(self, source: Path, target: Path) -> None:
        self.source, self.target = source, target
        self.reading = open_to_copy(source, os.O_RDONLY)
        try:
            self.status = os.fstat(self.reading)
            self.writing = open_to_copy(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except BaseException:
            os.close(self.reading)
            raise
        self.size = self.status.st_size
        self.next = 0  # where the next block begins
        self.blocks = 0  # that are under way

    @property
    def done(self) -> bool:
        return self.next >= self.size and self.blocks == 0

    def close(self) -> None:
        """No request uses it, and it is complete unless it is not `done`."""
        try:
            if self.done:
                os.fchmod(self.writing, stat.S_IMODE(self.status.st_mode))
                os.utime(self.writing, ns=(self.status.st_atime_ns, self.status.st_mtime_ns))
            else:
                self.target.unlink(missing_ok=True)
        except OSError as error:
            raise Failure(self.target, error) from error
        finally:
            os.close(self.reading)
            os.close(self.writing)


def open_to_copy(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags, 0o600)
    except OSError as error:
        raise Failure(path, error) from error


class Block:
    """A buffer, and the part of a file that it is at work on."""

    def __init__(self, size: int) -> None:
        self.memory = memoryview(bytearray(size))
        self.file: File
        self.offset = 0
        self.length = 0  # bytes to copy
        self.read = self.written = 0

    def begin(self, file: File) -> None:
        self.file, self.offset = file, file.next
        self.length = min(len(self.memory), file.size - file.next)
        self.read = self.written = 0
        file.next += self.length
        file.blocks += 1


class Copier:
    """Copies what an iterator of sources and targets names, `depth` blocks at a time."""

    def __init__(
        self, port: Port, files: Iterator[tuple[Path, Path]], depth: int, size: int, sync: bool
    ) -> None:
        self.port, self.files, self.sync = port, files, sync
        self.free = deque(Block(size) for _ in range(depth))
        self.requests: set[AioControlBlock] = set()  # that are under way
        self.open: set[File] = set()
        self.current: File | None = None  # whose blocks are being begun
        self.bytes = self.copied = 0

    def begin(self) -> None:
        """Put every free buffer to work."""
        while self.free:
            file = self.current
            if file is None or file.next >= file.size:
                if len(self.open) == FILES:
                    return
                pair = next(self.files, None)
                if pair is None:
                    return
                file = self.current = File(*pair)
                self.open.add(file)
                if file.done:  # it is empty
                    self.finish(file)
                    continue
            block = self.free.popleft()
            block.begin(file)
            self.go_on(block)

    def take(self, event: PortEvent) -> None:
        """A request is done."""
        request: AioControlBlock = event.object
        block: Block = event.user
        file = block.file
        self.requests.discard(request)
        try:
            count = request.result()
        except OSError as error:
            path = file.source if event.events == AIOAREAD else file.target
            raise Failure(path, error) from error
        if event.events == AIOAREAD:
            block.read += count
            if count == 0:
                block.length = block.read
        elif event.events != AIOFSYNC:
            block.written += count
            self.bytes += count
        else:
            self.finish(file)
            self.free.append(block)
            return
        self.go_on(block)

    def go_on(self, block: Block) -> None:
        """Ask for what the block needs next."""
        aio, file = self.port.aio, block.file
        if block.read < block.length:
            rest = block.memory[block.read : block.length]
            request = aio.read(file.reading, rest, block.offset + block.read, user=block)
        elif block.written < block.read:
            rest = block.memory[block.written : block.read]
            request = aio.write(file.writing, rest, block.offset + block.written, user=block)
        else:
            file.blocks -= 1
            if not (file.done and self.sync):
                self.free.append(block)
                if file.done:
                    self.finish(file)
                return
            request = aio.fsync(file.writing, user=block)
        self.requests.add(request)

    def finish(self, file: File) -> None:
        self.open.discard(file)
        file.close()
        self.copied += 1

    def abandon(self) -> None:
        """Let go of everything: requests first, since they use the files and the buffers."""
        for request in self.requests:
            request.cancel()
        while any(request.error() == errno.EINPROGRESS for request in self.requests):
            self.port.get()  # the event of one comes when it is done
        for file in self.open:
            file.next = 0  # not complete, whatever has been written
            file.close()

    def run(self) -> bool:
        """Copy everything; False if it was interrupted."""
        with self.port.timer() as timer:
            timer.set(after=EVERY, every=EVERY)
            try:
                self.begin()
                while self.requests:
                    for event in self.port.getn(TURN):
                        if event.source == PORT_SOURCE_AIO:
                            self.take(event)
                        elif event.source == PORT_SOURCE_USER:
                            return False
                        else:
                            print(f"{self.copied} files, {self.bytes} bytes", flush=True)
                    self.begin()
                return True
            finally:
                self.abandon()


def walk(source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    """The files to copy, each directory being made before what is in it."""
    if not source.is_dir():
        yield source, target
        return
    try:
        target.mkdir()
        entries = sorted(source.iterdir())
        for link in filter(Path.is_symlink, entries):
            (target / link.name).symlink_to(link.readlink())
    except OSError as error:
        raise Failure(Path(error.filename), error) from error
    for entry in entries:
        if entry.is_symlink():
            continue
        if entry.is_dir() or entry.is_file():
            yield from walk(entry, target / entry.name)
        else:
            raise Failure(entry, OSError(errno.EINVAL, "neither a file nor a directory"))


def count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def main() -> int:
    parser = argparse.ArgumentParser(description="Copy a file or a directory.")
    parser.add_argument("--depth", type=count, default=16, metavar="N", help="blocks under way")
    parser.add_argument("--block", type=count, default=1 << 17, metavar="BYTES")
    parser.add_argument("--sync", action="store_true", help="have it on the disk when it is done")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path, help="which must not exist yet")
    args = parser.parse_args()

    with Port() as port:
        for which in (signal.SIGINT, signal.SIGTERM):
            signal.signal(which, lambda number, frame: port.send(number))
        copier = Copier(port, walk(args.source, args.target), args.depth, args.block, args.sync)
        try:
            complete = copier.run()
        except Failure as failure:
            print(f"copy_tool.py: {failure}", file=sys.stderr)
            return 1
    print(f"{copier.copied} files, {copier.bytes} bytes{'' if complete else ': interrupted'}")
    return 0 if complete else 1


if __name__ == "__main__":
    raise SystemExit(main())
