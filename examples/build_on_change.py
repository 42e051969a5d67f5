"""Build on change: run a command now, and again when files of a tree have changed.

    python examples/build_on_change.py --pattern '*.c' --pattern '*.h' src -- make -C src

- What has been looked at is associated with the stamps of that look, before the command starts. So
  what changes while the command runs is built in the next turn: nothing slips between two builds.
- Directories are watched for files that come and go; a directory alone is no reason to build, or a
  command that writes into the tree would never come to rest.
- An editor makes several changes at once. A build waits until it has been quiet for a moment.
"""

import argparse
import signal
import subprocess
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from portcompat import FILE_EXCEPTION, FILE_MODIFIED, PORT_SOURCE_FILE, FileObject, Port, PortEvent

QUIET = 0.05  # seconds without a change, before a build


class Tree:
    """The directories below a root and the files that match, each with a watch."""

    def __init__(self, port: Port, root: Path, patterns: list[str]) -> None:
        self._port, self._root, self._patterns = port, root, patterns
        self._watched: dict[Path, FileObject] = {}

    @property
    def files(self) -> list[Path]:
        return sorted(path for path in self._watched if self._matches(path))

    def look(self) -> None:
        """Watch all that is there now."""
        self._look_into(self._root)

    def take(self, events: Iterable[PortEvent]) -> set[Path]:
        """Watch again what has changed; returns the files that did, came or went."""
        changed = set()
        for event in events:
            path = event.user
            if self._matches(path):
                changed.add(path)
            if event.events & FILE_EXCEPTION:
                self._watched.pop(path, None)
                path = path.parent  # where something else may have taken its name
            changed |= self._look_into(path)
        return changed

    def _matches(self, path: Path) -> bool:
        return any(fnmatch(path.name, pattern) for pattern in self._patterns)

    def _look_into(self, path: Path) -> set[Path]:
        """Watch `path` and what is in it; returns the files that were not watched before."""
        found: set[Path] = set()
        try:
            if not self._watch(path):
                return found
            entries = list(path.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return found
        for entry in entries:
            if entry in self._watched or entry.is_symlink():
                continue
            if entry.is_dir():
                found |= self._look_into(entry)
            elif self._matches(entry) and self._watch_file(entry):
                found.add(entry)
        return found

    def _watch_file(self, path: Path) -> bool:
        try:
            self._watch(path)
        except FileNotFoundError:
            return False
        return True

    def _watch(self, path: Path) -> bool:
        """Watch `path` with the stamps of now. Whether it is a directory: that is listed next."""
        file = self._watched.setdefault(path, FileObject(path))
        try:
            file.refresh()
            self._port.associate(file, FILE_MODIFIED, path)
        except FileNotFoundError:
            del self._watched[path]
            raise
        return path.is_dir()


def settle(port: Port, events: list[PortEvent]) -> list[PortEvent]:
    """`events` and those that follow, until there are none for a moment."""
    while more := port.getn(256, 1, QUIET):
        events += more
    return events


def main() -> int:
    parser = argparse.ArgumentParser(description="Run a command when files have changed.")
    parser.add_argument("--pattern", action="append", metavar="GLOB", help="default: every file")
    parser.add_argument("directory", type=Path)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    if not args.directory.is_dir():
        parser.error(f"argument directory: {args.directory} is none")

    with Port() as port:
        for which in (signal.SIGINT, signal.SIGTERM):
            signal.signal(which, lambda number, frame: port.send(0))
        tree = Tree(port, args.directory, args.pattern or ["*"])
        tree.look()
        print(f"watching {len(tree.files)} files", flush=True)
        reason = "at the beginning"
        while True:
            print(f"building: {reason}", flush=True)
            code = subprocess.run(args.command).returncode
            print(f"built: exit code {code}", flush=True)
            changed: set[Path] = set()
            while not changed:
                events = settle(port, port.getn(256))
                if any(event.source != PORT_SOURCE_FILE for event in events):
                    return 0
                changed = tree.take(events)
            reason = " ".join(sorted(str(path.relative_to(args.directory)) for path in changed))


if __name__ == "__main__":
    raise SystemExit(main())
