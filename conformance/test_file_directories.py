"""port_associate(3C): a directory that is watched tells of its entries, and not of what is in
them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from portcompat import FILE_ACCESS, FILE_ATTRIB, FILE_DELETE, FILE_MODIFIED, FILE_TRUNC, Port
from portcompat.conformance import needs, rule
from portcompat.conformance._files import (
    CHANGED,
    SECOND,
    Happened,
    told,
    watch,
    write,
)

pytestmark = pytest.mark.usefixtures("file_watcher")

Act = Callable[[Path], object]


@pytest.fixture
def full(directory: Path) -> Path:
    """A directory with a file "old", a link "link" and a directory "sub"; beside it "outside"."""
    (directory / "link").symlink_to("old")
    (directory / "sub").mkdir()
    (directory.parent / "outside").write_bytes(b"")
    (directory.parent / "outsides").mkdir()
    return directory


CREATIONS: dict[str, Act] = {
    "a file": lambda path: os.close(os.open(path / "new", os.O_CREAT | os.O_WRONLY)),
    "a file, exclusively": lambda path: os.close(
        os.open(path / "new", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    ),
    "a FIFO": lambda path: os.mkfifo(path / "new"),
}
CHANGES: dict[str, Act] = {
    **CREATIONS,
    "mkdir": lambda path: os.mkdir(path / "new"),
    "symlink": lambda path: os.symlink("nowhere", path / "new"),
    "link": lambda path: os.link(path.parent / "outside", path / "new"),
    "unlink": lambda path: os.unlink(path / "old"),
    "unlink a link": lambda path: os.unlink(path / "link"),
    "rmdir": lambda path: os.rmdir(path / "sub"),
    "rename within": lambda path: os.rename(path / "old", path / "new"),
    "rename into": lambda path: os.rename(path.parent / "outside", path / "new"),
    "rename out of": lambda path: os.rename(path / "old", path.parent / "new"),
    "rename over": lambda path: os.rename(path.parent / "outside", path / "old"),
    "rename a directory within": lambda path: os.rename(path / "sub", path / "new"),
    "rename a directory into": lambda path: os.rename(path.parent / "outsides", path / "new"),
    "rename a directory out of": lambda path: os.rename(path / "sub", path.parent / "new"),
}


@rule("R224")
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_its_entries_is_a_change_of_the_directory(
    port: Port, full: Path, happened: Happened, name: str
) -> None:
    watch(port, full, CHANGED, "user")
    CHANGES[name](full)
    assert told(happened(port)) == [("user", CHANGED)]


@rule("R224")
@pytest.mark.parametrize("asked", [FILE_MODIFIED, FILE_ATTRIB])
def test_such_a_change_is_told_of_what_was_asked(
    port: Port, full: Path, happened: Happened, asked: int
) -> None:
    watch(port, full, asked, "user")
    (full / "new").touch()
    assert told(happened(port)) == [("user", asked)]


@needs("file-trunc")
@rule("R224")
@pytest.mark.parametrize("name", CREATIONS)
def test_a_new_entry_is_a_truncation(port: Port, full: Path, happened: Happened, name: str) -> None:
    watch(port, full, CHANGED | FILE_TRUNC, "user")
    CREATIONS[name](full)
    assert told(happened(port)) == [("user", CHANGED | FILE_TRUNC)]


@needs("file-trunc")
@rule("R224")
def test_a_removed_entry_is_no_truncation(port: Port, full: Path, happened: Happened) -> None:
    watch(port, full, CHANGED | FILE_TRUNC, "user")
    (full / "old").unlink()
    assert told(happened(port)) == [("user", CHANGED)]


@rule("R224")
def test_each_change_is_told_to_who_asks_again(port: Port, full: Path, happened: Happened) -> None:
    watched = watch(port, full, FILE_MODIFIED, 0)
    for turn in range(10):
        (full / f"new {turn}").touch()
        assert told(happened(port)) == [(turn, FILE_MODIFIED)]
        watched.refresh()
        port.associate(watched, FILE_MODIFIED, turn + 1)


INSIDE: dict[str, Act] = {
    "write": lambda path: write(path / "old"),
    "truncate": lambda path: os.truncate(path / "old", 0),
    "chmod": lambda path: os.chmod(path / "old", 0o600),
    "chmod a directory": lambda path: os.chmod(path / "sub", 0o700),
    "utime": lambda path: os.utime(path / "old", ns=(SECOND, SECOND)),
    "read": lambda path: (path / "old").read_bytes(),
    "list a directory": lambda path: os.listdir(path / "sub"),
    "create in a directory": lambda path: (path / "sub" / "new").touch(),
    "open to create what is there": lambda path: os.close(
        os.open(path / "old", os.O_CREAT | os.O_RDWR)
    ),
    "open and truncate what is there": lambda path: (path / "old").write_bytes(b""),
}


@rule("R224")
@pytest.mark.parametrize("name", INSIDE)
def test_what_is_done_to_an_entry_is_nothing_to_the_directory(
    port: Port, full: Path, happened: Happened, name: str
) -> None:
    watch(port, full, CHANGED | FILE_TRUNC | FILE_ACCESS)
    INSIDE[name](full)
    assert happened(port) == []


FAILURES: dict[str, Act] = {
    "mkdir of what is there": lambda path: os.mkdir(path / "sub"),
    "unlink of what is not": lambda path: os.unlink(path / "missing"),
    "rmdir of a file": lambda path: os.rmdir(path / "old"),
    "rename of what is not": lambda path: os.rename(path / "missing", path / "new"),
    "link of what is not": lambda path: os.link(path / "missing", path / "new"),
    "create what is there": lambda path: os.open(path / "old", os.O_CREAT | os.O_EXCL),
}


@rule("R228")
@pytest.mark.parametrize("name", FAILURES)
def test_what_fails_is_nothing(port: Port, full: Path, happened: Happened, name: str) -> None:
    watch(port, full, CHANGED | FILE_TRUNC | FILE_ACCESS)
    with pytest.raises(OSError):
        FAILURES[name](full)
    assert happened(port) == []


@rule("R224", "R206")
def test_a_directory_and_a_file_in_it_are_told_apart(
    port: Port, full: Path, happened: Happened
) -> None:
    watch(port, full, CHANGED, "directory")
    watched = watch(port, full / "old", CHANGED, "file")
    write(full / "old")
    assert told(happened(port)) == [("file", CHANGED)]
    watched.refresh()
    port.associate(watched, CHANGED, "file again")
    (full / "new").touch()
    assert told(happened(port)) == [("directory", CHANGED)]


@rule("R224", "R225")
def test_a_file_deleted_is_told_of_both(port: Port, full: Path, happened: Happened) -> None:
    watch(port, full, CHANGED, "directory")
    watch(port, full / "old", CHANGED, "file")
    (full / "old").unlink()
    assert sorted(told(happened(port)), key=str) == [
        ("directory", CHANGED),
        ("file", FILE_DELETE),
    ]


@rule("R224")
@pytest.mark.parametrize("order", ["directory first", "file first"])
def test_to_dissociate_one_leaves_the_other(
    port: Port, full: Path, happened: Happened, order: str
) -> None:
    watched = {}
    for name in ("directory", "file") if order == "directory first" else ("file", "directory"):
        watched[name] = watch(port, full / "old" if name == "file" else full, CHANGED, name)
    port.dissociate(watched["file"])
    write(full / "old")
    assert happened(port) == []
    watched["file"].refresh()
    port.associate(watched["file"], CHANGED, "file")
    port.dissociate(watched["directory"])
    (full / "new").touch()
    assert happened(port) == []
    write(full / "old")
    assert told(happened(port)) == [("file", CHANGED)]
