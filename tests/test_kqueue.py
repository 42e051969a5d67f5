"""The vnode watcher, over a kqueue that reports what a test tells it to."""

import errno
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from portcompat import (
    FILE_ATTRIB,
    FILE_DELETE,
    FILE_MODIFIED,
    FILE_RENAME_FROM,
    FILE_RENAME_TO,
    FILE_TRUNC,
    UNMOUNTED,
)
from portcompat.backends.kqueue import Kevent, Kqueue, VnodeWatcher

NOTE_DELETE, NOTE_WRITE, NOTE_ATTRIB, NOTE_LINK, NOTE_RENAME, NOTE_REVOKE = 1, 2, 8, 16, 32, 64
CHANGED = FILE_MODIFIED | FILE_ATTRIB


class ScriptedKqueue:
    def __init__(self) -> None:
        self.added: list[tuple[int, int]] = []
        self.ready: list[Any] = []
        self.closed = False

    def control(self, changes: Any, max_events: int, timeout: float | None) -> list[Kevent]:
        assert timeout == 0
        self.added += changes or []
        taken, self.ready = self.ready[:max_events], self.ready[max_events:]
        return taken

    def fileno(self) -> int:
        return 1_000

    def close(self) -> None:
        self.closed = True


class Watcher(VnodeWatcher):
    """`last` is the descriptor of the file that was watched last."""

    def _make_queue(self) -> Kqueue:
        self.queue = ScriptedKqueue()
        return self.queue

    def _kevent(self, fd: int, fflags: int) -> Any:
        return fd, fflags

    @property
    def last(self) -> int:
        return self.queue.added[-1][0]

    def report(self, fd: int, *notes: int) -> list[tuple[int, int]]:
        self.queue.ready += [SimpleNamespace(ident=fd, fflags=note) for note in notes]
        reports: deque[tuple[int, int]] = deque()
        self.read(reports)
        return list(reports)


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    before = sorted(os.listdir("/dev/fd"))
    made = Watcher()
    yield made
    made.close()
    assert made.queue.closed
    assert sorted(os.listdir("/dev/fd")) == before


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"some content")
    return path


def watch(watcher: Watcher, token: int, file: Path, bits: int = CHANGED) -> int:
    """Returns the descriptor."""
    status = watcher.watch(token, bytes(file), True, int(bits))
    assert status.ino == file.stat().st_ino
    return watcher.last


def test_a_write_is_told_of_once(watcher: Watcher, file: Path) -> None:
    fd = watch(watcher, 1, file)
    assert watcher.report(fd, NOTE_WRITE, NOTE_WRITE) == [(1, CHANGED)]
    assert watcher.report(fd, NOTE_WRITE, NOTE_ATTRIB) == []


def test_only_what_was_asked_for_is_told(watcher: Watcher, file: Path) -> None:
    fd = watch(watcher, 1, file, FILE_ATTRIB)
    assert watcher.report(fd, NOTE_WRITE) == [(1, FILE_ATTRIB)]
    fd = watch(watcher, 2, file, 0)
    assert watcher.report(fd, NOTE_WRITE, NOTE_ATTRIB) == []


def test_the_size_tells_a_truncation(watcher: Watcher, file: Path) -> None:
    fd = watch(watcher, 1, file, FILE_TRUNC)
    with file.open("ab") as writer:
        writer.write(b"more")
    assert watcher.report(fd, NOTE_WRITE) == []
    os.truncate(file, 13)  # longer than it was at first
    assert watcher.report(fd, NOTE_WRITE) == [(1, FILE_TRUNC)]


@pytest.mark.parametrize("note", [NOTE_DELETE, NOTE_LINK, NOTE_RENAME])
def test_what_happens_to_another_link_changes_attributes(
    watcher: Watcher, file: Path, note: int
) -> None:
    fd = watch(watcher, 1, file)
    assert watcher.report(fd, note) == [(1, FILE_ATTRIB)]


def test_the_loss_of_the_name_is_told_though_a_link_remains(watcher: Watcher, file: Path) -> None:
    os.link(file, file.with_name("link"))
    fd = watch(watcher, 1, file)
    file.unlink()
    assert watcher.report(fd, NOTE_LINK) == [(1, FILE_DELETE)]


def test_a_file_that_was_renamed_says_so(watcher: Watcher, file: Path) -> None:
    fd = watch(watcher, 1, file)
    file.rename(file.with_name("new"))
    assert watcher.report(fd, NOTE_RENAME) == [(1, FILE_RENAME_FROM)]


def test_a_file_that_was_overwritten_says_so(watcher: Watcher, file: Path) -> None:
    fd = watch(watcher, 1, file)
    other = file.with_name("other")
    other.write_bytes(b"")
    other.rename(file)
    assert watcher.report(fd, NOTE_DELETE) == [(1, FILE_RENAME_TO)]


def test_an_exception_is_told_after_an_ordinary_event(watcher: Watcher, file: Path) -> None:
    fd = watch(watcher, 1, file)
    assert watcher.report(fd, NOTE_WRITE) == [(1, CHANGED)]
    file.unlink()
    assert watcher.report(fd, NOTE_DELETE) == [(1, FILE_DELETE)]


def test_a_revoked_file_was_unmounted(watcher: Watcher, file: Path) -> None:
    assert watcher.report(watch(watcher, 1, file), NOTE_REVOKE) == [(1, UNMOUNTED)]


def test_tokens_of_one_file_are_told_each(watcher: Watcher, file: Path) -> None:
    one, other = watch(watcher, 1, file), watch(watcher, 2, file)
    assert one != other
    assert watcher.report(one, NOTE_WRITE) == [(1, CHANGED)]
    assert watcher.report(other, NOTE_WRITE) == [(2, CHANGED)]


def test_a_token_that_is_forgotten_has_no_descriptor(watcher: Watcher, file: Path) -> None:
    fd = watch(watcher, 1, file)
    watcher.unwatch(1)
    watcher.unwatch(1)
    with pytest.raises(OSError):
        os.fstat(fd)
    assert watcher.report(fd, NOTE_WRITE) == []


@pytest.mark.parametrize(
    ("name", "number"), [("missing", errno.ENOENT), ("file/below", errno.ENOTDIR)]
)
def test_a_path_that_names_no_file_is_refused(
    watcher: Watcher, file: Path, name: str, number: int
) -> None:
    with pytest.raises(OSError) as error:
        watcher.watch(1, bytes(file.parent / name), True, CHANGED)
    assert error.value.errno == number
    assert not watcher.queue.added


def test_a_link_itself_cannot_be_watched(watcher: Watcher, file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to(file)
    watch(watcher, 1, link)
    with pytest.raises(OSError, match="symbolic link") as error:
        watcher.watch(2, bytes(link), False, CHANGED)
    assert error.value.errno == errno.ENOTSUP


def test_a_file_that_is_replaced_while_it_comes_to_be_watched(
    watcher: Watcher, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control, others = watcher.queue.control, [file.with_name("other")]

    def replace_and_control(changes: Any, max_events: int, timeout: float | None) -> list[Kevent]:
        while others:
            other = others.pop()
            other.write_bytes(b"")
            other.rename(file)
        return control(changes, max_events, timeout)

    monkeypatch.setattr(watcher.queue, "control", replace_and_control)
    fd = watch(watcher, 1, file)
    assert os.fstat(fd).st_ino == file.stat().st_ino
