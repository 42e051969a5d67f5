"""port_associate(3C): what is done to a file, and the bits that tell of it."""

import mmap
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from portcompat import (
    FILE_ACCESS,
    FILE_ATTRIB,
    FILE_MODIFIED,
    FILE_TRUNC,
    Port,
)
from portcompat.conformance import needs, rule
from portcompat.conformance._files import (
    CHANGED,
    SECOND,
    Happened,
    told,
    touch,
    unprivileged,
    watch,
    write,
)

pytestmark = pytest.mark.usefixtures("file_watcher")

TRUNCATED = CHANGED | FILE_TRUNC


def read(path: Path, size: int = -1) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read(size)


@needs("file-access")
@rule("R218")
@pytest.mark.parametrize("size", [1, 5, -1])
def test_a_read_is_an_access(port: Port, file: Path, happened: Happened, size: int) -> None:
    watch(port, file, FILE_ACCESS | CHANGED | FILE_TRUNC, "user")
    assert read(file, size)
    assert told(happened(port)) == [("user", FILE_ACCESS)]


@needs("file-access")
@rule("R218")
def test_a_read_is_an_access_though_the_stamp_stays(
    port: Port, file: Path, happened: Happened
) -> None:
    read(file)  # the first read after a change is the one that moves the stamp
    for turn in range(3):
        watch(port, file, FILE_ACCESS, turn)
        read(file)
        assert told(happened(port)) == [(turn, FILE_ACCESS)]


@needs("file-access")
@rule("R218")
def test_a_read_at_the_end_is_an_access(port: Port, file: Path, happened: Happened) -> None:
    with open(file, "rb", buffering=0) as opened:
        opened.seek(0, os.SEEK_END)
        watch(port, file, FILE_ACCESS, "user")
        assert opened.read(1) == b""
        assert told(happened(port)) == [("user", FILE_ACCESS)]


@needs("file-access")
@rule("R218")
def test_a_mapping_is_an_access(port: Port, file: Path, happened: Happened) -> None:
    watch(port, file, FILE_ACCESS, "user")
    with open(file, "rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as view:
        assert view[:4] == b"some"
    assert told(happened(port)) == [("user", FILE_ACCESS)]


@needs("file-access")
@rule("R218")
def test_listing_a_directory_is_an_access(port: Port, directory: Path, happened: Happened) -> None:
    watch(port, directory, FILE_ACCESS | CHANGED, "user")
    assert os.listdir(directory) == ["old"]
    assert told(happened(port)) == [("user", FILE_ACCESS)]


@rule("R218")
def test_a_read_is_no_change(port: Port, file: Path, happened: Happened) -> None:
    watch(port, file, TRUNCATED)
    read(file)
    assert happened(port) == []


def _pwrite(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, b"x", 2)
    finally:
        os.close(descriptor)


def _writev(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.writev(descriptor, [b"x", b"y"])
    finally:
        os.close(descriptor)


def _sendfile(path: Path) -> None:
    with open(__file__, "rb") as source, open(path, "r+b") as target:
        os.sendfile(target.fileno(), source.fileno(), 0, 10)


WRITES: dict[str, Callable[[Path], object]] = {
    "append": write,
    "overwrite": _pwrite,
    "writev": _writev,
    "sendfile": _sendfile,
    "much": lambda path: write(path, bytes(1 << 20)),
}


@rule("R219")
@pytest.mark.parametrize("name", WRITES)
def test_a_write_changes_content_and_attributes(
    port: Port, file: Path, happened: Happened, name: str
) -> None:
    watch(port, file, CHANGED, "user")
    WRITES[name](file)
    assert told(happened(port)) == [("user", CHANGED)]


@rule("R219")
@pytest.mark.parametrize("asked", [FILE_MODIFIED, FILE_ATTRIB])
def test_a_write_is_told_of_what_was_asked(
    port: Port, file: Path, happened: Happened, asked: int
) -> None:
    watch(port, file, asked, "user")
    write(file)
    assert told(happened(port)) == [("user", asked)]


@needs("file-trunc")
@rule("R219", "R221")
def test_a_write_is_no_truncation(port: Port, file: Path, happened: Happened) -> None:
    watch(port, file, FILE_TRUNC)
    write(file)
    assert happened(port) == []


@rule("R219")
def test_a_write_through_another_name_is_told(port: Port, file: Path, happened: Happened) -> None:
    other = file.with_name("other")
    other.hardlink_to(file)
    watch(port, file, FILE_MODIFIED, "user")
    write(other)
    assert told(happened(port)) == [("user", FILE_MODIFIED)]


@rule("R219")
def test_a_write_to_a_fifo_is_told(port: Port, tmp_path: Path, happened: Happened) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        watch(port, fifo, FILE_MODIFIED, "user")
        write(fifo)
        assert told(happened(port)) == [("user", FILE_MODIFIED)]
    finally:
        os.close(reader)


@rule("R220")
def test_chmod_changes_attributes(port: Port, file: Path, happened: Happened) -> None:
    watch(port, file, TRUNCATED, "user")
    file.chmod(0o600)
    assert told(happened(port)) == [("user", FILE_ATTRIB)]


@rule("R220")
def test_chown_changes_attributes(port: Port, file: Path, happened: Happened) -> None:
    watch(port, file, TRUNCATED, "user")
    os.chown(file, os.getuid(), os.getgid())
    assert told(happened(port)) == [("user", FILE_ATTRIB)]


@rule("R220")
def test_chmod_is_no_change_of_content(port: Port, file: Path, happened: Happened) -> None:
    watch(port, file, FILE_MODIFIED)
    file.chmod(0o600)
    assert happened(port) == []


@rule("R220")
def test_chmod_of_a_directory_changes_its_attributes(
    port: Port, directory: Path, happened: Happened
) -> None:
    watch(port, directory, CHANGED, "user")
    directory.chmod(0o700)
    assert told(happened(port)) == [("user", FILE_ATTRIB)]


@rule("R220")
def test_setting_both_times_is_a_modification(port: Port, file: Path, happened: Happened) -> None:
    watch(port, file, TRUNCATED, "user")
    os.utime(file, ns=(SECOND, 2 * SECOND))
    assert told(happened(port)) == [("user", CHANGED)]


@rule("R220")
def test_setting_the_time_of_modification_alone_is_told(
    port: Port, file: Path, happened: Happened
) -> None:
    watch(port, file, TRUNCATED, "user")
    touch(file, "-m", "-t", "200001010000")
    assert told(happened(port)) == [("user", CHANGED)]


@rule("R220")
def test_setting_the_time_of_access_alone_is_told(
    port: Port, file: Path, happened: Happened
) -> None:
    watch(port, file, TRUNCATED, "user")
    touch(file, "-a", "-t", "200001010000")
    assert told(happened(port)) == [("user", FILE_ATTRIB)]


@needs("file-access")
@rule("R220")
@pytest.mark.parametrize(
    ("option", "expected"),
    [("-m", CHANGED), ("-a", FILE_ATTRIB | FILE_ACCESS)],
    ids=["mtime", "atime"],
)
def test_setting_the_time_of_access_is_an_access(
    port: Port, file: Path, happened: Happened, option: str, expected: int
) -> None:
    watch(port, file, TRUNCATED | FILE_ACCESS, "user")
    touch(file, option, "-t", "200001010000")
    assert told(happened(port)) == [("user", expected)]


@needs("file-access")
@rule("R220")
def test_setting_both_times_is_told_to_who_asked_for_accesses(
    port: Port, file: Path, happened: Happened
) -> None:
    watch(port, file, FILE_ACCESS, "user")
    os.utime(file, ns=(SECOND, 2 * SECOND))
    assert told(happened(port)) == [("user", FILE_ACCESS)]


@rule("R220")
def test_setting_times_of_a_directory(port: Port, directory: Path, happened: Happened) -> None:
    watch(port, directory, CHANGED, "user")
    os.utime(directory, ns=(SECOND, 2 * SECOND))
    assert told(happened(port)) == [("user", CHANGED)]


@needs("file-trunc")
@rule("R221")
def test_shortening_is_a_truncation(port: Port, file: Path, happened: Happened) -> None:
    watch(port, file, TRUNCATED, "user")
    os.truncate(file, 3)
    assert told(happened(port)) == [("user", TRUNCATED)]


def _open_for_writing(path: Path) -> None:
    with open(path, "wb"):
        pass


EMPTYINGS: dict[str, Callable[[Path], object]] = {
    "truncate": lambda path: os.truncate(path, 0),
    "open": _open_for_writing,
}


@needs("file-trunc")
@rule("R221")
@pytest.mark.parametrize("name", EMPTYINGS)
def test_emptying_is_a_truncation(port: Port, file: Path, happened: Happened, name: str) -> None:
    watch(port, file, TRUNCATED, "user")
    EMPTYINGS[name](file)
    ((user, events),) = told(happened(port))
    assert user == "user"
    assert events in (FILE_TRUNC, TRUNCATED)  # zfs tells of the truncation first, and alone


@rule("R221")
@pytest.mark.parametrize("name", EMPTYINGS)
def test_emptying_is_a_modification(port: Port, file: Path, happened: Happened, name: str) -> None:
    watch(port, file, CHANGED, "user")
    EMPTYINGS[name](file)
    assert told(happened(port)) == [("user", CHANGED)]


@needs("file-trunc")
@rule("R221")
def test_truncations_alone_can_be_watched(port: Port, file: Path, happened: Happened) -> None:
    watch(port, file, FILE_TRUNC, "user")
    file.chmod(0o600)
    write(file)
    assert happened(port) == []
    os.truncate(file, 3)
    assert told(happened(port)) == [("user", FILE_TRUNC)]


@needs("file-trunc")
@rule("R221")
def test_shortening_what_has_grown_is_a_truncation(
    port: Port, file: Path, happened: Happened
) -> None:
    watch(port, file, FILE_TRUNC, "user")
    size = file.stat().st_size
    write(file, bytes(100))
    assert happened(port) == []
    os.truncate(file, size + 50)
    assert told(happened(port)) == [("user", FILE_TRUNC)]


@rule("R221")
def test_lengthening_is_a_modification(port: Port, file: Path, happened: Happened) -> None:
    watch(port, file, CHANGED, "user")
    os.truncate(file, 1000)
    assert told(happened(port)) == [("user", CHANGED)]


@needs("file-trunc")
@rule("R221")
def test_lengthening_by_truncate_is_a_truncation(
    port: Port, file: Path, happened: Happened
) -> None:
    watch(port, file, TRUNCATED, "user")
    os.truncate(file, 1000)
    assert told(happened(port)) == [("user", TRUNCATED)]


@needs("file-trunc")
@rule("R221")
def test_emptying_an_empty_file_is_a_truncation(port: Port, file: Path, happened: Happened) -> None:
    os.truncate(file, 0)
    watch(port, file, FILE_TRUNC, "user")
    os.truncate(file, 0)
    assert told(happened(port)) == [("user", FILE_TRUNC)]


@rule("R222")
def test_another_name_changes_attributes(port: Port, file: Path, happened: Happened) -> None:
    watch(port, file, TRUNCATED, "user")
    file.with_name("other").hardlink_to(file)
    assert told(happened(port)) == [("user", FILE_ATTRIB)]


@rule("R222")
def test_removing_another_name_changes_attributes(
    port: Port, file: Path, happened: Happened
) -> None:
    other = file.with_name("other")
    other.hardlink_to(file)
    watch(port, file, TRUNCATED, "user")
    other.unlink()
    assert told(happened(port)) == [("user", FILE_ATTRIB)]


@rule("R222")
def test_renaming_another_name_changes_attributes(
    port: Port, file: Path, happened: Happened
) -> None:
    other = file.with_name("other")
    other.hardlink_to(file)
    watch(port, file, TRUNCATED, "user")
    other.rename(file.with_name("another"))
    assert told(happened(port)) == [("user", FILE_ATTRIB)]


@rule("R222")
def test_other_names_are_no_matter_to_who_asked_for_content(
    port: Port, file: Path, happened: Happened
) -> None:
    watch(port, file, FILE_MODIFIED, "user")
    other = file.with_name("other")
    other.hardlink_to(file)
    another = other.rename(file.with_name("another"))
    another.unlink()
    assert happened(port) == []
    write(file)
    assert told(happened(port)) == [("user", FILE_MODIFIED)]


@rule("R223")
@pytest.mark.parametrize("mode", ["rb", "r+b", "ab"])
def test_opening_and_closing_is_nothing(
    port: Port, file: Path, happened: Happened, mode: str
) -> None:
    watch(port, file, TRUNCATED | FILE_ACCESS)
    with open(file, mode, buffering=0):
        pass
    os.close(os.open(file, os.O_RDWR | os.O_CREAT))
    assert happened(port) == []


@rule("R223")
def test_looking_at_a_file_is_nothing(port: Port, file: Path, happened: Happened) -> None:
    watch(port, file, TRUNCATED | FILE_ACCESS)
    file.stat()
    os.access(file, os.R_OK)
    assert happened(port) == []


def fails(operation: Callable[[], object]) -> None:
    with pytest.raises(OSError):
        operation()


@rule("R228")
def test_what_fails_is_nothing(port: Port, file: Path, happened: Happened) -> None:
    watch(port, file, TRUNCATED | FILE_ACCESS)
    with open(file, "rb") as reader:
        fails(lambda: os.write(reader.fileno(), b"x"))
        fails(lambda: os.ftruncate(reader.fileno(), 0))
    fails(lambda: os.truncate(file, -1))
    fails(lambda: os.rename(file, file.parent / "missing" / "file"))
    fails(lambda: os.rename(file, file.parent))
    fails(lambda: os.link(file, file))
    fails(lambda: os.rmdir(file))
    assert happened(port) == []


@rule("R228")
def test_what_is_not_permitted_is_nothing(
    port: Port, open_to_all: Path, happened: Happened
) -> None:
    if os.geteuid() != 0:
        pytest.skip("a file of somebody else is needed: run this as root")
    directory = open_to_all / "directory"
    directory.mkdir()
    file = directory / "file"
    file.write_bytes(b"some content")
    file.chmod(0o644)
    watch(port, file, TRUNCATED | FILE_ACCESS)
    watch(port, directory, CHANGED)
    with unprivileged():
        fails(lambda: write(file))
        fails(lambda: file.chmod(0o600))
        fails(lambda: os.utime(file, ns=(SECOND, SECOND)))
        fails(file.unlink)
        fails(lambda: file.rename(directory / "other"))
    assert happened(port) == []
