"""port_associate(3C): the stamps of a file as last seen, and what has changed since."""

import itertools
import mmap
import os
from pathlib import Path

import pytest

from portcompat import (
    FILE_ACCESS,
    FILE_ATTRIB,
    FILE_MODIFIED,
    FILE_NOFOLLOW,
    FILE_TRUNC,
    PORT_SOURCE_FILE,
    FileObject,
    Port,
    PortEvent,
)
from portcompat.conformance import needs, rule
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._files import (
    CHANGED,
    SECOND,
    Happened,
    told,
    until_queued,
    watch,
    write,
)

pytestmark = pytest.mark.usefixtures("file_watcher")

BITS = {"atime": FILE_ACCESS, "mtime": FILE_MODIFIED, "ctime": FILE_ATTRIB}
SETS = [names for size in range(4) for names in itertools.combinations(BITS, size)]
HOUR = 3600 * SECOND


def bits(names: tuple[str, ...]) -> int:
    return sum(BITS[name] for name in names)


def differing(path: Path, names: tuple[str, ...], by: int) -> FileObject:
    """The stamps of `path`, of which some are not what they are."""
    file = FileObject.stat(path)
    for name in names:
        setattr(file, name, getattr(file, name) + by)
    return file


@rule("R209")
@pytest.mark.parametrize("names", SETS, ids="-".join)
@pytest.mark.parametrize("by", [1, -1, SECOND, -SECOND], ids="by {}".format)
def test_each_stamp_that_differs_is_told_at_once(
    port: Port, file: Path, names: tuple[str, ...], by: int
) -> None:
    watched = differing(file, names, by)
    port.associate(watched, FILE_ACCESS | CHANGED, "user")
    expected = [PortEvent(PORT_SOURCE_FILE, watched, bits(names), "user")] if names else []
    assert port.pending() == len(expected)
    assert port.getn(2, 1, 0) == expected


@rule("R209")
@pytest.mark.parametrize("asked", SETS[1:], ids="-".join)
def test_of_the_stamps_that_differ_those_asked_are_told(
    port: Port, file: Path, asked: tuple[str, ...]
) -> None:
    if asked == ("atime",) and "file-access" not in port.features:
        pytest.skip("to ask for accesses alone needs file-access")
    port.associate(differing(file, tuple(BITS), SECOND), bits(asked))
    assert [event.events for event in port.getn(2, 1, 0)] == [bits(asked)]


@rule("R209")
@pytest.mark.parametrize("known", SETS, ids="-".join)
def test_a_stamp_of_zero_is_not_compared(
    port: Port, file: Path, known: tuple[str, ...], happened: Happened
) -> None:
    watched = differing(file, tuple(BITS), SECOND)
    for name in BITS.keys() - set(known):
        setattr(watched, name, 0)
    port.associate(watched, FILE_ACCESS | CHANGED, "user")
    assert port.pending() == bool(known)
    assert told(happened(port)) == ([("user", bits(known))] if known else [])


@rule("R209")
def test_without_stamps_a_watch_sees_what_comes(port: Port, file: Path, happened: Happened) -> None:
    write(file)
    port.associate(FileObject(file), CHANGED, "user")
    assert happened(port) == []
    write(file)
    assert told(happened(port)) == [("user", CHANGED)]


@rule("R209")
@pytest.mark.parametrize("stamp", [1, SECOND - 1, -1, -SECOND, 2**31 * SECOND])
def test_a_file_of_any_time_can_be_compared(port: Port, file: Path, stamp: int) -> None:
    os.utime(file, ns=(stamp, stamp))
    if file.stat().st_mtime_ns != stamp:
        pytest.skip("this file system keeps no such time")
    watch(port, file, FILE_MODIFIED)
    assert port.pending() == 0
    os.utime(file, ns=(SECOND, 2 * SECOND))
    assert port.get(SOON).events == FILE_MODIFIED
    port.associate(FileObject(file, mtime=stamp), FILE_MODIFIED)
    assert port.pending() == 1


@rule("R209")
@pytest.mark.parametrize("stamp", [1, -1, 2**62, -(2**62)])
def test_a_stamp_may_be_one_that_no_file_has(port: Port, file: Path, stamp: int) -> None:
    port.associate(FileObject(file, mtime=stamp), FILE_MODIFIED)
    assert [event.events for event in port.getn(2, 1, 0)] == [FILE_MODIFIED]


@rule("R209")
def test_a_stamp_in_the_future_differs_too(port: Port, file: Path) -> None:
    watched = FileObject.stat(file)
    watched.mtime += 10 * HOUR
    port.associate(watched, FILE_MODIFIED)
    assert port.pending() == 1


@rule("R209")
@needs("file-trunc")
def test_a_truncation_does_not_show_in_stamps(port: Port, file: Path) -> None:
    watched = FileObject.stat(file)
    os.truncate(file, 0)
    os.utime(file, ns=(SECOND, SECOND))
    port.associate(watched, CHANGED | FILE_TRUNC)
    assert [event.events for event in port.getn(2, 1, 0)] == [CHANGED]


@rule("R209")
@needs("file-trunc")
def test_with_truncations_alone_asked_stamps_say_nothing(
    port: Port, file: Path, happened: Happened
) -> None:
    port.associate(differing(file, tuple(BITS), SECOND), FILE_TRUNC, "user")
    assert happened(port) == []


@rule("R209", "R201")
def test_with_events_zero_stamps_say_nothing(port: Port, file: Path, happened: Happened) -> None:
    port.associate(differing(file, tuple(BITS), SECOND), 0, "user")
    assert happened(port) == []


@rule("R209", "R084")
def test_the_event_has_the_place_of_the_call(port: Port, file: Path) -> None:
    port.send(0, "before")
    port.associate(FileObject(file, mtime=1), FILE_MODIFIED, "file")
    port.send(0, "after")
    assert [event.user for event in port.getn(4, 3, 0)] == ["before", "file", "after"]


@rule("R209", "R214")
def test_a_watch_that_fired_for_its_stamps_is_inactive(
    port: Port, file: Path, happened: Happened
) -> None:
    port.associate(FileObject(file, mtime=1), CHANGED, "user")
    write(file)
    assert told(happened(port)) == [("user", FILE_MODIFIED)]


@rule("R209")
def test_a_change_between_the_look_and_the_call_is_told(port: Port, file: Path) -> None:
    watched = FileObject.stat(file)
    os.utime(file, ns=(watched.atime, watched.mtime + 1))
    port.associate(watched, FILE_MODIFIED, "user")
    assert told(port.getn(2, 1, 0)) == [("user", FILE_MODIFIED)]


@rule("R209", "R205")
@pytest.mark.parametrize("follow", [True, False])
def test_the_stamps_are_those_of_what_is_watched(
    port: Port, file: Path, tmp_path: Path, follow: bool
) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    os.utime(link, ns=(SECOND, 2 * SECOND), follow_symlinks=False)
    os.utime(file, ns=(SECOND, 3 * SECOND))
    events = FILE_MODIFIED if follow else FILE_MODIFIED | FILE_NOFOLLOW
    port.associate(FileObject(link, mtime=2 * SECOND), events, "as the link's")
    port.associate(FileObject(link, mtime=3 * SECOND), events, "as the file's")
    expected = "as the link's" if follow else "as the file's"
    assert [event.user for event in port.getn(4, 1, 0)] == [expected]


@rule("R209")
def test_a_directory_is_compared_too(port: Port, directory: Path) -> None:
    watched = FileObject.stat(directory)
    os.utime(directory, ns=(SECOND, SECOND))
    port.associate(watched, FILE_MODIFIED, "user")
    assert told(port.getn(2, 1, 0)) == [("user", FILE_MODIFIED)]


@rule("R210")
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this host has no FIFOs")
def test_the_stamps_of_a_fifo_are_not_compared(
    port: Port, tmp_path: Path, happened: Happened
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    port.associate(FileObject(fifo, 1, 1, 1), FILE_ACCESS | CHANGED, "user")
    assert happened(port) == []
    fifo.chmod(0o600)
    assert told(happened(port)) == [("user", FILE_ATTRIB)]


@rule("R211")
def test_the_stamps_are_compared_at_every_association(port: Port, file: Path) -> None:
    watched = FileObject.stat(file)
    os.utime(file, ns=(SECOND, SECOND))
    for turn in range(5):
        port.associate(watched, FILE_MODIFIED, turn)
        assert told(port.getn(2, 1, 0)) == [(turn, FILE_MODIFIED)]
    watched.refresh()
    port.associate(watched, FILE_MODIFIED, "refreshed")
    assert port.pending() == 0


@rule("R211", "R212")
def test_the_stamps_are_compared_when_an_active_watch_is_associated_again(
    port: Port, file: Path
) -> None:
    watched = watch(port, file, FILE_MODIFIED, "first")
    watched.mtime += 1
    port.associate(watched, FILE_MODIFIED, "second")
    assert told(port.getn(2, 1, 0)) == [("second", FILE_MODIFIED)]


@rule("R211", "R235")
def test_a_change_withdrawn_is_told_to_who_associates_with_the_old_stamps(
    port: Port, file: Path
) -> None:
    watched = watch(port, file, FILE_MODIFIED, "first")
    os.utime(file, ns=(SECOND, SECOND))
    until_queued(port)
    port.dissociate(watched)
    assert port.pending() == 0
    port.associate(watched, FILE_MODIFIED, "second")
    assert told(port.getn(2, 1, 0)) == [("second", FILE_MODIFIED)]


@rule("R211", "R235")
def test_a_change_withdrawn_is_not_told_to_who_has_seen_it(
    port: Port, file: Path, happened: Happened
) -> None:
    watched = watch(port, file, FILE_MODIFIED, "first")
    os.utime(file, ns=(SECOND, SECOND))
    until_queued(port)
    port.dissociate(watched)
    watched.refresh()
    port.associate(watched, FILE_MODIFIED, "second")
    assert happened(port) == []


@rule("R211")
def test_a_change_while_its_event_waits_is_told_at_the_next_association(
    port: Port, file: Path
) -> None:
    watched = watch(port, file, FILE_MODIFIED, "first")
    os.utime(file, ns=(SECOND, SECOND))
    until_queued(port)
    watched.refresh()
    os.utime(file, ns=(SECOND, 2 * SECOND))
    assert told(port.getn(2, 1, 0)) == [("first", FILE_MODIFIED)]
    port.associate(watched, FILE_MODIFIED, "second")
    assert told(port.getn(2, 1, 0)) == [("second", FILE_MODIFIED)]


@rule("R209", "R211")
def test_what_was_stored_through_a_mapping_shows_in_the_stamps(
    port: Port, file: Path, happened: Happened
) -> None:
    """Whether an active watch is told of a store the rules do not say; the stamps tell by msync."""
    os.utime(file, ns=(SECOND, SECOND))
    seen = FileObject.stat(file)
    with open(file, "r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapping:
        mapping[:4] = b"same"
        mapping.flush()
        port.associate(seen, CHANGED, "user")
        assert told(happened(port)) == [("user", CHANGED)]
