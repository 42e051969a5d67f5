"""port_associate(3C): what becomes of the watched name, told whatever was asked."""

import errno
import os
from pathlib import Path

import pytest

from portcompat import (
    FILE_ACCESS,
    FILE_ATTRIB,
    FILE_DELETE,
    FILE_EXCEPTION,
    FILE_MODIFIED,
    FILE_NOFOLLOW,
    FILE_RENAME_FROM,
    FILE_RENAME_TO,
    FILE_TRUNC,
    Port,
)
from portcompat.conformance import needs, rule
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._errors import errno_of
from portcompat.conformance._files import (
    CHANGED,
    Happened,
    MakePort,
    told,
    until_queued,
    watch,
    write,
)

pytestmark = pytest.mark.usefixtures("file_watcher")

MASKS = [0, FILE_MODIFIED, FILE_ATTRIB, CHANGED, FILE_ACCESS | CHANGED | FILE_TRUNC]


@rule("R225", "R229")
@pytest.mark.parametrize("asked", MASKS)
def test_unlink_is_a_deletion_and_nothing_else(
    port: Port, file: Path, happened: Happened, asked: int
) -> None:
    watch(port, file, asked, "user")
    file.unlink()
    assert told(happened(port)) == [("user", FILE_DELETE)]


@rule("R225")
def test_a_name_removed_is_a_deletion_though_the_file_has_others(
    port: Port, file: Path, happened: Happened
) -> None:
    other = file.with_name("other")
    other.hardlink_to(file)
    watch(port, file, CHANGED, "user")
    watch(port, other, CHANGED, "other")
    file.unlink()
    assert sorted(told(happened(port)), key=str) == [
        ("other", FILE_ATTRIB),
        ("user", FILE_DELETE),
    ]
    watch(port, other, CHANGED, "other")
    write(other)
    assert told(happened(port)) == [("other", CHANGED)]


@rule("R225")
def test_unlink_is_a_deletion_though_the_file_is_open(
    port: Port, file: Path, happened: Happened
) -> None:
    with open(file, "ab", buffering=0) as opened:
        watch(port, file, CHANGED, "user")
        file.unlink()
        assert told(happened(port)) == [("user", FILE_DELETE)]
        opened.write(b"x")
        assert happened(port) == []


@rule("R225")
def test_rmdir_is_a_deletion(port: Port, tmp_path: Path, happened: Happened) -> None:
    directory = tmp_path / "directory"
    directory.mkdir()
    watch(port, directory, CHANGED, "user")
    directory.rmdir()
    assert told(happened(port)) == [("user", FILE_DELETE)]


@rule("R225")
def test_a_fifo_and_a_link_can_be_deleted(port: Port, tmp_path: Path, happened: Happened) -> None:
    fifo, link = tmp_path / "fifo", tmp_path / "link"
    os.mkfifo(fifo)
    link.symlink_to(fifo)
    watch(port, fifo, 0, "fifo")
    watch(port, link, FILE_NOFOLLOW, "link")
    link.unlink()
    assert told(happened(port)) == [("link", FILE_DELETE)]
    fifo.unlink()
    assert told(happened(port)) == [("fifo", FILE_DELETE)]


@rule("R225", "R082")
def test_six_files_deleted_are_six_events(port: Port, tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(6)]
    for number, file in enumerate(files):
        file.write_bytes(b"")
        watch(port, file, FILE_MODIFIED, number)
    for file in files:
        file.unlink()
    until_queued(port, 6)
    assert sorted(told(port.getn(8, 6, SOON)), key=str) == [
        (number, FILE_DELETE) for number in range(6)
    ]


@needs("file-rename-from")  # one that tells of names
@rule("R225")
def test_a_file_deleted_and_made_anew_was_deleted(
    port: Port, file: Path, happened: Happened
) -> None:
    watch(port, file, CHANGED, "user")
    file.unlink()
    file.write_bytes(b"new")
    assert told(happened(port)) == [("user", FILE_DELETE)]
    watch(port, file, CHANGED, "new")
    write(file)
    assert told(happened(port)) == [("new", CHANGED)]


@rule("R225", "R229")
def test_another_file_of_the_name_is_an_exception(
    port: Port, file: Path, happened: Happened
) -> None:
    with open(file, "rb"):  # so the new file cannot have its inode
        watch(port, file, CHANGED, "user")
        file.unlink()
        file.write_bytes(b"new")
        ((user, events),) = told(happened(port))
    assert user == "user"
    assert events in (FILE_DELETE, FILE_RENAME_TO)  # a poll may see only that there is another
    watch(port, file, CHANGED, "new")
    write(file)
    assert told(happened(port)) == [("new", CHANGED)]


@needs("file-rename-from")
@rule("R226", "R229")
@pytest.mark.parametrize("asked", MASKS)
def test_a_file_renamed_is_told_so(port: Port, file: Path, happened: Happened, asked: int) -> None:
    watch(port, file, asked, "user")
    file.rename(file.with_name("other"))
    assert told(happened(port)) == [("user", FILE_RENAME_FROM)]


@rule("R226", "R232")
def test_a_file_renamed_away_is_an_exception_and_its_watch_is_over(
    port: Port, file: Path, happened: Happened
) -> None:
    watch(port, file, CHANGED, "user")
    moved = file.rename(file.with_name("other"))
    ((user, events),) = told(happened(port))
    assert user == "user"
    assert events in (FILE_RENAME_FROM, FILE_DELETE)  # a poll may see only that the name is gone
    write(moved)
    assert happened(port) == []
    watch(port, moved, CHANGED, "moved")
    write(moved)
    assert told(happened(port)) == [("moved", CHANGED)]


@needs("file-rename-from")
@rule("R226")
def test_a_file_moved_to_another_directory_is_renamed(
    port: Port, file: Path, directory: Path, happened: Happened
) -> None:
    watch(port, file, CHANGED, "user")
    file.rename(directory / "moved")
    assert told(happened(port)) == [("user", FILE_RENAME_FROM)]


@needs("file-rename-from")
@rule("R226")
def test_a_directory_renamed_is_told_so(port: Port, directory: Path, happened: Happened) -> None:
    watch(port, directory, CHANGED, "user")
    directory.rename(directory.with_name("moved"))
    assert told(happened(port)) == [("user", FILE_RENAME_FROM)]


@needs("file-rename-from")
@rule("R226", "R205")
def test_a_link_renamed_is_told_so(port: Port, file: Path, happened: Happened) -> None:
    link = file.with_name("link")
    link.symlink_to(file)
    watch(port, link, CHANGED | FILE_NOFOLLOW, "link")
    watch(port, link, CHANGED, "file")
    link.rename(link.with_name("moved"))
    assert told(happened(port)) == [("link", FILE_RENAME_FROM)]


@needs("file-rename-to")
@rule("R226", "R229")
@pytest.mark.parametrize("asked", MASKS)
def test_a_file_that_another_is_renamed_over_is_told_so(
    port: Port, file: Path, happened: Happened, asked: int
) -> None:
    other = file.with_name("other")
    other.write_bytes(b"")
    watch(port, file, asked, "user")
    other.rename(file)
    assert told(happened(port)) == [("user", FILE_RENAME_TO)]


@needs("file-rename-to", "file-rename-from")
@rule("R226")
def test_a_rename_over_a_file_is_told_of_both(
    port: Port, file: Path, directory: Path, happened: Happened
) -> None:
    watch(port, file, CHANGED, "moved")
    watch(port, directory / "old", CHANGED, "overwritten")
    file.rename(directory / "old")
    assert sorted(told(happened(port)), key=str) == [
        ("moved", FILE_RENAME_FROM),
        ("overwritten", FILE_RENAME_TO),
    ]


@needs("file-rename-to")
@rule("R226", "R222")
def test_a_name_overwritten_is_told_so_though_the_file_has_others(
    port: Port, file: Path, happened: Happened
) -> None:
    kept, other = file.with_name("kept"), file.with_name("other")
    kept.hardlink_to(file)
    other.write_bytes(b"")
    watch(port, file, CHANGED, "overwritten")
    watch(port, kept, CHANGED, "kept")
    other.rename(file)
    assert sorted(told(happened(port)), key=str) == [
        ("kept", FILE_ATTRIB),
        ("overwritten", FILE_RENAME_TO),
    ]


@rule("R226", "R232")
def test_a_file_replaced_by_a_rename_is_an_exception(
    port: Port, file: Path, happened: Happened
) -> None:
    watch(port, file, CHANGED, "user")
    other = file.with_name("other")
    other.write_bytes(b"new")
    other.rename(file)
    ((user, events),) = told(happened(port))
    assert user == "user"
    assert events in (FILE_RENAME_TO, FILE_DELETE)
    watch(port, file, CHANGED, "new")
    write(file)
    assert told(happened(port)) == [("new", CHANGED)]


@needs("file-rename-to")
@rule("R226")
def test_an_empty_directory_that_another_is_renamed_over_is_told_so(
    port: Port, tmp_path: Path, happened: Happened
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    watch(port, two, CHANGED, "user")
    one.rename(two)
    assert told(happened(port)) == [("user", FILE_RENAME_TO)]


@rule("R226", "R228")
@pytest.mark.parametrize("names", ["the same", "two of one file"])
def test_a_rename_that_does_nothing_is_nothing(
    port: Port, file: Path, happened: Happened, names: str
) -> None:
    target = file
    if names == "two of one file":
        target = file.with_name("other")
        target.hardlink_to(file)
    watch(port, file, CHANGED, "user")
    os.rename(file, target)
    assert happened(port) == []
    write(file)
    assert told(happened(port)) == [("user", CHANGED)]


@rule("R229")
def test_every_watch_of_the_name_is_told(port: Port, file: Path, happened: Happened) -> None:
    for number in range(5):
        watch(port, file, CHANGED if number % 2 else 0, number)
    file.unlink()
    assert told(happened(port)) == [(number, FILE_DELETE) for number in range(5)]


@rule("R229")
def test_a_file_of_the_same_name_elsewhere_is_not_told(
    port: Port, file: Path, directory: Path, happened: Happened
) -> None:
    other = directory / file.name
    other.write_bytes(b"")
    watch(port, other, CHANGED, "other")
    watch(port, file, CHANGED, "user")
    file.unlink()
    assert told(happened(port)) == [("user", FILE_DELETE)]


@rule("R229")
def test_an_event_has_one_exception_and_nothing_else(
    port: Port, file: Path, happened: Happened
) -> None:
    watch(port, file, FILE_ACCESS | CHANGED | FILE_TRUNC, "user")
    watch(port, file, 0, "it is gone")
    file.chmod(0o600)
    moved = file.rename(file.with_name("other"))
    moved.unlink()
    until_queued(port, 2)
    for _, events in told(happened(port)):
        assert events & FILE_EXCEPTION
        assert events.bit_count() == 1


@rule("R230", "R231")
@pytest.mark.parametrize("seen", [True, False], ids=["seen before", "seen together"])
def test_an_exception_replaces_an_event_that_is_queued(
    port: Port, file: Path, happened: Happened, seen: bool
) -> None:
    watch(port, file, CHANGED, "user")
    watch(port, file, 0, "it is gone")
    write(file)
    if seen:
        until_queued(port)
    file.unlink()
    until_queued(port, 2)
    assert sorted(told(happened(port))) == [("it is gone", FILE_DELETE), ("user", FILE_DELETE)]


@rule("R230")
def test_an_event_retrieved_is_followed_by_no_exception(
    port: Port, file: Path, happened: Happened
) -> None:
    watch(port, file, CHANGED, "user")
    write(file)
    assert told(happened(port)) == [("user", CHANGED)]
    file.unlink()
    assert happened(port) == []


@rule("R230", "R231", "R232")
def test_a_file_gone_shows_at_the_next_association(
    port: Port, file: Path, happened: Happened
) -> None:
    watched = watch(port, file, CHANGED, "user")
    write(file)
    assert told(happened(port)) == [("user", CHANGED)]
    file.unlink()
    assert errno_of(port.associate, watched, CHANGED) == errno.ENOENT
    assert happened(port) == []


@rule("R232")
@pytest.mark.parametrize("retrieved", [True, False])
def test_after_an_exception_the_watch_is_gone(port: Port, file: Path, retrieved: bool) -> None:
    watched = watch(port, file, CHANGED)
    file.unlink()
    until_queued(port)
    if retrieved:
        assert port.get(0).events == FILE_DELETE
    else:
        port.dissociate(watched)  # what is queued can be taken back
        assert port.pending() == 0
    assert errno_of(port.dissociate, watched) == errno.ENOENT


@rule("R232")
def test_after_an_exception_it_can_be_associated_again(
    port: Port, file: Path, happened: Happened
) -> None:
    watched = watch(port, file, CHANGED, "first")
    other = file.rename(file.with_name("other"))
    ((user, _),) = told(happened(port))
    assert user == "first"
    other.rename(file)
    watched.refresh()
    port.associate(watched, CHANGED, "second")
    write(file)
    assert told(happened(port)) == [("second", CHANGED)]


@rule("R232", "R079")
def test_after_an_exception_the_slot_is_free(make_port: MakePort, file: Path) -> None:
    small = make_port(max_events=1)
    for _ in range(5):
        file.write_bytes(b"")
        watch(small, file, CHANGED)
        file.unlink()
        assert small.get(SOON).events == FILE_DELETE
    small.send(0)


@rule("R229", "R232")
def test_an_exception_ends_the_watches_of_one_name_only(
    port: Port, file: Path, happened: Happened
) -> None:
    other = file.with_name("other")
    other.hardlink_to(file)
    watch(port, file, FILE_MODIFIED, "gone")
    watch(port, other, FILE_MODIFIED, "other")
    file.unlink()
    assert told(happened(port)) == [("gone", FILE_DELETE)]
    write(other)
    assert told(happened(port)) == [("other", FILE_MODIFIED)]


@rule("R225", "R229")
def test_a_whole_tree_removed_is_told_of_each(
    port: Port, tmp_path: Path, happened: Happened
) -> None:
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"")
    for path in (deep / "file", deep, deep.parent, deep.parent.parent):
        watch(port, path, 0, path.name)
    (deep / "file").unlink()
    for path in (deep, deep.parent, deep.parent.parent):
        path.rmdir()
    assert sorted(told(happened(port)), key=str) == [
        (name, FILE_DELETE) for name in ("a", "b", "c", "file")
    ]


@rule("R199", "R226")
@pytest.mark.parametrize("end", ["/", "/.", "//", "/sub/.."])
def test_the_name_of_a_directory_is_known_however_its_path_ends(
    port: Port, directory: Path, end: str
) -> None:
    (directory / "sub").mkdir()
    watch(port, f"{directory}{end}", 0, "user")
    directory.rename(directory.with_name("other"))
    ((user, events),) = told(port.getn(2, 1, SOON))
    assert user == "user"
    assert events & FILE_EXCEPTION
