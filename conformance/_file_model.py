"""What the rules say of a small tree of files: which operation is told to whom.

The model knows inodes, names and watches. It knows no kernel; where files are it does the same
operations on them, and the test compares what a port tells with what the model says.
"""

import os
import random
from collections.abc import Callable
from pathlib import Path

from portcompat import (
    FILE_ATTRIB,
    FILE_DELETE,
    FILE_EXCEPTION,
    FILE_MODIFIED,
    FILE_RENAME_FROM,
    FILE_RENAME_TO,
    FileObject,
    Port,
)
from portcompat.conformance._files import CHANGED, SECOND, write

MASKS = [0, int(FILE_MODIFIED), int(FILE_ATTRIB), int(CHANGED)]
NAMES = ["a", "b", "c"]


class Inode:
    def __init__(self, *, directory: bool) -> None:
        self.entries: dict[str, Inode] | None = {} if directory else None


class Watch:
    """An association: of an inode, found by a name in a directory."""

    def __init__(self, file: FileObject, inode: Inode, place: tuple[Inode, str], mask: int) -> None:
        self.file, self.inode, self.place, self.mask = file, inode, place, mask
        self.first = 0  # the bits of the first event
        self.all = 0  # and of those that followed, while it was not retrieved

    def happens(self, bits: int) -> None:
        if not self.first & FILE_EXCEPTION:
            self.first = self.first or bits & self.mask
            self.all |= bits & self.mask

    def excepts(self, bit: int) -> None:
        if not self.first & FILE_EXCEPTION:  # R230
            self.first = self.all = bit


class Model:
    """A tree, its watches on `port`, and what should be told of them."""

    def __init__(self, port: Port, root: Path, seed: int) -> None:
        self.port, self.root = port, root
        self.chance = random.Random(seed)
        self.top = Inode(directory=True)
        self.paths: dict[Inode, Path] = {self.top: root}
        self.watches: dict[int, Watch] = {}
        self.users = 0
        self.log: list[str] = []
        for name in ("x", "y"):
            self._make(self.top, name, directory=True)

    # What may be done

    def step(self) -> None:
        """Do one operation of chance, on the files and in the model."""
        steps: list[Callable[[], None]] = [
            *[self.write] * 4,
            *[self.chmod] * 2,
            self.utime,
            *[self.create] * 3,
            *[self.unlink] * 2,
            *[self.rename] * 4,
            *[self.link] * 2,
            self.mkdir,
            self.rmdir,
            *[self.watch] * 6,
            self.dissociate,
        ]
        self.chance.choice(steps)()

    def write(self) -> None:
        if found := self._a_file():
            write(self._path(found))
            self._note("write", found)
            self._happens(self._inode(found), int(CHANGED))

    def chmod(self) -> None:
        if found := self._a_file():
            self._path(found).chmod(self.chance.choice([0o600, 0o644]))
            self._note("chmod", found)
            self._happens(self._inode(found), int(FILE_ATTRIB))

    def utime(self) -> None:
        if found := self._a_file():
            stamp = self.chance.randrange(1, 10**9) * SECOND
            os.utime(self._path(found), ns=(stamp, stamp))
            self._note("utime", found)
            self._happens(self._inode(found), int(CHANGED))

    def create(self) -> None:
        if found := self._a_free_name():
            self._make(*found, directory=False)
            self._happens(found[0], int(CHANGED))

    def mkdir(self) -> None:
        if found := self._a_free_name():
            self._make(*found, directory=True)
            self._happens(found[0], int(CHANGED))

    def unlink(self) -> None:
        if found := self._a_file():
            os.unlink(self._path(found))
            self._note("unlink", found)
            self._goes(found, int(FILE_DELETE))
            self._happens(found[0], int(CHANGED))

    def rmdir(self) -> None:
        empty = [
            (inode, name)
            for inode in self._directories()
            for name, entry in self._entries(inode).items()
            if entry.entries == {} and inode is not self.top
        ]
        if empty:
            found = self.chance.choice(empty)
            os.rmdir(self._path(found))
            self._note("rmdir", found)
            self._goes(found, int(FILE_DELETE))
            self._happens(found[0], int(CHANGED))

    def link(self) -> None:
        old, new = self._a_file(), self._a_free_name()
        if old and new:
            os.link(self._path(old), self._path(new))
            self._note("link", old, new)
            self._entries(new[0])[new[1]] = self._inode(old)
            self._happens(self._inode(old), int(FILE_ATTRIB))
            self._happens(new[0], int(CHANGED))

    def rename(self) -> None:
        old = self._a_file()
        new = self._a_file() if self.chance.random() < 0.4 else self._a_free_name()
        if not old or not new:
            return
        os.rename(self._path(old), self._path(new))
        self._note("rename", old, new)
        inode = self._inode(old)
        over = self._entries(new[0]).get(new[1])
        if over is inode:
            return  # R228
        if over is not None:
            self._goes(new, int(FILE_RENAME_TO))
        self._goes(old, int(FILE_RENAME_FROM))
        self._entries(new[0])[new[1]] = inode
        for directory in {old[0], new[0]}:
            self._happens(directory, int(CHANGED))

    def watch(self) -> None:
        place = self._a_file() if self.chance.random() < 0.7 else self._a_directory()
        if place is None:
            return
        user, file = self.users, FileObject(self._path(place))
        self.users += 1
        mask = self.chance.choice(MASKS)
        file.refresh()
        self.port.associate(file, mask, user)
        self.watches[user] = Watch(file, self._inode(place), place, mask)
        self._note(f"watch {user} for {mask}", place)

    def dissociate(self) -> None:
        if self.watches:
            user = self.chance.choice(list(self.watches))
            self.port.dissociate(self.watches.pop(user).file)
            self.log.append(f"dissociate {user}")

    # What is told

    def compare(self, told: list[tuple[object, int]], *, exact: bool) -> None:
        """Whether `told` is what is due; if not `exact`, bits of later operations may be there."""
        self.log.append("look")
        due = {user: watch for user, watch in self.watches.items() if watch.first}
        history = "\n".join(["", *self.log[-40:]])
        assert sorted(str(user) for user, _ in told) == sorted(map(str, due)), history
        for user, bits in told:
            assert isinstance(user, int)
            watch = self.watches.pop(user)
            if exact:
                assert bits == watch.first, f"{user}: {bits}, not {watch.first}{history}"
            else:
                assert bits & watch.first == watch.first, f"{user}: {bits}{history}"
                assert not bits & ~watch.all, f"{user}: {bits}, not of {watch.all}{history}"

    def _happens(self, inode: Inode, bits: int) -> None:
        for watch in self.watches.values():
            if watch.inode is inode:
                watch.happens(bits)

    def _goes(self, place: tuple[Inode, str], exception: int) -> None:
        """A name is no more: who watches it, and who watches the inode by another name."""
        inode = self._entries(place[0]).pop(place[1])
        for watch in self.watches.values():
            if watch.place == place and watch.inode is inode:
                watch.excepts(exception)
            elif watch.inode is inode:
                watch.happens(int(FILE_ATTRIB))

    # Where things are

    def _make(self, parent: Inode, name: str, *, directory: bool) -> None:
        inode = Inode(directory=directory)
        path = self._path((parent, name))
        if inode.entries is None:
            path.write_bytes(b"")
        else:
            path.mkdir()
            self.paths[inode] = path
        self._note("mkdir" if directory else "create", (parent, name))
        self._entries(parent)[name] = inode

    def _entries(self, inode: Inode) -> dict[str, Inode]:
        assert inode.entries is not None
        return inode.entries

    def _inode(self, place: tuple[Inode, str]) -> Inode:
        return self._entries(place[0])[place[1]]

    def _path(self, place: tuple[Inode, str]) -> Path:
        return self.paths[place[0]] / place[1]

    def _directories(self) -> list[Inode]:
        """The top, and those in it, and those in them."""
        found = [self.top]
        for inode in found:
            found += [each for each in self._entries(inode).values() if each.entries is not None]
        return found

    def _a_directory(self) -> tuple[Inode, str] | None:
        return self._choose(lambda entry: entry.entries is not None)

    def _a_file(self) -> tuple[Inode, str] | None:
        return self._choose(lambda entry: entry.entries is None)

    def _choose(self, fits: Callable[[Inode], bool]) -> tuple[Inode, str] | None:
        found = [
            (inode, name)
            for inode in self._directories()
            for name, entry in self._entries(inode).items()
            if fits(entry)
        ]
        return self.chance.choice(found) if found else None

    def _a_free_name(self) -> tuple[Inode, str] | None:
        found = [
            (inode, name)
            for inode in self._directories()[1:5]
            for name in NAMES
            if name not in self._entries(inode)
        ]
        return self.chance.choice(found) if found else None

    def _note(self, what: str, *places: tuple[Inode, str]) -> None:
        names = [str(self._path(place).relative_to(self.root)) for place in places]
        self.log.append(" ".join([what, *names]))
