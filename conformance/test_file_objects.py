"""<port.h>: the FILE_* bits, and file_obj_t, which is a FileObject here."""

import os
from pathlib import Path

import pytest

import portcompat
from portcompat import FILE_EXCEPTION, FILE_MODIFIED, PORT_SOURCE_FILE, FileObject, PortEvent
from portcompat.conformance import rule
from portcompat.conformance._files import SECOND

WATCHABLE = {"ACCESS": 0x1, "MODIFIED": 0x2, "ATTRIB": 0x4, "TRUNC": 0x100000}
EXCEPTIONS = {
    "FILE_DELETE": 0x10,
    "FILE_RENAME_TO": 0x20,
    "FILE_RENAME_FROM": 0x40,
    "UNMOUNTED": 0x2000_0000,
    "MOUNTEDOVER": 0x4000_0000,
}


@rule("R008")
@pytest.mark.parametrize("name", WATCHABLE)
def test_what_can_be_watched_has_the_numbers_of_illumos(name: str) -> None:
    assert getattr(portcompat, f"FILE_{name}") == WATCHABLE[name]


@rule("R009")
def test_the_modifier_has_the_number_of_illumos() -> None:
    assert int(portcompat.FILE_NOFOLLOW) == 0x1000_0000


@rule("R010")
@pytest.mark.parametrize("name", EXCEPTIONS)
def test_exceptions_have_the_numbers_of_illumos(name: str) -> None:
    assert getattr(portcompat, name) == EXCEPTIONS[name]


@rule("R011")
def test_the_mask_of_exceptions_is_all_of_them() -> None:
    assert int(FILE_EXCEPTION) == 0x6000_0070 == sum(EXCEPTIONS.values())


@rule("R199")
def test_it_has_a_name_and_three_stamps() -> None:
    file = FileObject("name", 1, 2, 3)
    assert (file.name, file.atime, file.mtime, file.ctime) == ("name", 1, 2, 3)


@rule("R209")
def test_stamps_that_are_not_given_are_zero() -> None:
    file = FileObject("name")
    assert (file.atime, file.mtime, file.ctime) == (0, 0, 0)


@rule("R199")
@pytest.mark.parametrize("kind", [str, os.fsencode, Path])
def test_its_name_may_be_of_any_type_that_names_files(file: Path, kind: type) -> None:
    assert FileObject.stat(kind(str(file))).mtime == file.stat().st_mtime_ns


@rule("R206")
def test_it_is_equal_to_itself_only() -> None:
    one, another = FileObject("name", 1, 2, 3), FileObject("name", 1, 2, 3)
    assert one == one
    assert one != another
    assert len({one, another}) == 2


@rule("R206")
def test_its_hash_stays_when_its_contents_change() -> None:
    file = FileObject("name")
    keys = {file}
    file.name, file.atime, file.mtime, file.ctime = "other", 1, 2, 3
    assert file in keys


@rule("R209")
def test_it_takes_the_stamps_of_the_moment(file: Path) -> None:
    seen = FileObject.stat(file)
    status = file.stat()
    assert (seen.atime, seen.mtime, seen.ctime) == (
        status.st_atime_ns,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


@rule("R209")
def test_it_takes_them_anew(file: Path) -> None:
    seen = FileObject.stat(file)
    os.utime(file, ns=(3 * SECOND + 7, 4 * SECOND + 9))
    assert seen.mtime != 4 * SECOND + 9
    seen.refresh()
    assert (seen.atime, seen.mtime) == (3 * SECOND + 7, 4 * SECOND + 9)
    assert seen.ctime == file.stat().st_ctime_ns


@rule("R205", "R209")
def test_it_takes_those_of_a_link_if_asked(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    os.utime(link, ns=(SECOND, 2 * SECOND), follow_symlinks=False)
    os.utime(file, ns=(3 * SECOND, 4 * SECOND))
    assert FileObject.stat(link).mtime == 4 * SECOND
    unfollowed = FileObject.stat(link, follow=False)
    assert unfollowed.mtime == 2 * SECOND
    os.utime(link, ns=(SECOND, 5 * SECOND), follow_symlinks=False)
    unfollowed.refresh()
    assert unfollowed.mtime == 5 * SECOND


@rule("R202")
def test_the_stamps_of_a_missing_file_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileObject.stat(tmp_path / "missing")
    file = FileObject(tmp_path / "missing", 1, 2, 3)
    with pytest.raises(FileNotFoundError):
        file.refresh()
    assert (file.atime, file.mtime, file.ctime) == (1, 2, 3)


@rule("R008", "R010")
@pytest.mark.parametrize(
    ("events", "words"),
    [
        (FILE_MODIFIED, "events=FILE_MODIFIED,"),
        (0x100007, "events=FILE_ACCESS|FILE_MODIFIED|FILE_ATTRIB|FILE_TRUNC,"),
        (0x10, "events=FILE_DELETE,"),
        (0x4000_0000, "events=MOUNTEDOVER,"),
    ],
)
def test_an_event_shows_its_bits_by_name(events: int, words: str) -> None:
    file = FileObject("a name")
    text = repr(PortEvent(PORT_SOURCE_FILE, file, events, None))
    assert words in text
    assert "PORT_SOURCE_FILE" in text
    assert "a name" in text
