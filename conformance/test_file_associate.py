"""port_associate(3C) with PORT_SOURCE_FILE: what is watched, how often it is told, what replaces
what."""

import gc
import os
import weakref
from pathlib import Path

import pytest

from portcompat import (
    FILE_ATTRIB,
    FILE_DELETE,
    FILE_MODIFIED,
    FILE_NOFOLLOW,
    FILE_TRUNC,
    PORT_SOURCE_FILE,
    FileObject,
    Port,
    PortEvent,
    port_associate,
    port_close,
    port_create,
    port_dissociate,
    port_get,
    port_getn,
)
from portcompat.conformance import needs, rule
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._errors import errno_of
from portcompat.conformance._files import (
    CHANGED,
    SECOND,
    Happened,
    MakePort,
    elsewhere,
    told,
    unprivileged,
    until_queued,
    watch,
    write,
)

pytestmark = pytest.mark.usefixtures("file_watcher")


@rule("R199", "R215")
def test_an_event_names_the_object_the_user_and_what_happened(port: Port, file: Path) -> None:
    user = object()
    watched = watch(port, file, FILE_MODIFIED, user)
    write(file)
    event = port.get(SOON)
    assert event == PortEvent(PORT_SOURCE_FILE, watched, FILE_MODIFIED, user)
    assert event.object is watched
    assert event.user is user


@rule("R199")
def test_the_c_spelling_takes_port_source_object_events_user(
    backend: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTCOMPAT_BACKEND", backend)
    number = port_create()
    try:
        watched = FileObject.stat(file)
        port_associate(number, PORT_SOURCE_FILE, watched, FILE_MODIFIED, "user")
        write(file)
        event = port_get(number, SOON)
        assert event == PortEvent(PORT_SOURCE_FILE, watched, FILE_MODIFIED, "user")
        watched.refresh()
        port_associate(number, PORT_SOURCE_FILE, watched, FILE_MODIFIED, "again")
        port_dissociate(number, PORT_SOURCE_FILE, watched)
        assert port_getn(number, 0) == 0
    finally:
        port_close(number)


@rule("R199")
def test_associating_returns_nothing(port: Port, file: Path) -> None:
    watched = FileObject.stat(file)
    assert port.associate(watched, FILE_MODIFIED) is None  # type: ignore[func-returns-value]


@rule("R199")
def test_the_user_is_none_when_none_is_given(port: Port, file: Path) -> None:
    port.associate(FileObject.stat(file), FILE_MODIFIED)
    write(file)
    assert port.get(SOON).user is None


@rule("R199", "R214")
def test_a_file_that_does_not_change_is_silent(port: Port, file: Path, happened: Happened) -> None:
    watch(port, file)
    assert happened(port) == []


@rule("R199", "R214")
def test_a_change_before_the_association_is_not_told(
    port: Port, file: Path, happened: Happened
) -> None:
    write(file)
    watch(port, file)
    assert happened(port) == []


@rule("R199")
def test_nothing_is_told_to_a_port_that_watches_nothing(
    port: Port, file: Path, happened: Happened
) -> None:
    write(file)
    assert happened(port) == []


@rule("R199")
def test_a_change_by_another_process_is_told(port: Port, file: Path) -> None:
    watch(port, file, FILE_MODIFIED, "user")
    elsewhere("import sys; open(sys.argv[1], 'a').write('x')", file)
    assert told([port.get(SOON)]) == [("user", FILE_MODIFIED)]


@rule("R199")
@pytest.mark.parametrize("kind", [str, os.fsencode, Path])
def test_a_name_may_be_of_any_type_that_names_files(port: Port, file: Path, kind: type) -> None:
    watched = watch(port, kind(str(file)))
    write(file)
    assert port.get(SOON).object is watched


@rule("R199")
@pytest.mark.parametrize("name", [b"\xff\xfe", b"with\nlines", "äöü".encode(), b"x" * 255, b" "])
def test_a_name_may_be_any_bytes(port: Port, tmp_path: Path, name: bytes) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    for spelling in (path, os.fsdecode(path)):
        try:
            with open(path, "wb"):
                pass
        except OSError as error:
            pytest.skip(f"this file system has no such name: {error.strerror}")
        watched = watch(port, spelling)
        os.unlink(path)
        assert port.getn(2, 1, SOON) == [PortEvent(PORT_SOURCE_FILE, watched, FILE_DELETE, None)]


@rule("R199")
def test_a_relative_path_is_resolved_at_the_call(
    port: Port, file: Path, directory: Path, monkeypatch: pytest.MonkeyPatch, happened: Happened
) -> None:
    other = directory / file.name
    other.write_bytes(b"")
    monkeypatch.chdir(file.parent)
    watch(port, file.name, FILE_MODIFIED, "user")
    monkeypatch.chdir(directory)
    write(other)
    assert happened(port) == []
    write(file)
    assert told(happened(port)) == [("user", FILE_MODIFIED)]


@rule("R199")
def test_a_relative_path_is_resolved_anew_at_the_next_call(
    port: Port, file: Path, directory: Path, monkeypatch: pytest.MonkeyPatch, happened: Happened
) -> None:
    other = directory / file.name
    other.write_bytes(b"")
    monkeypatch.chdir(file.parent)
    watched = watch(port, file.name)
    monkeypatch.chdir(directory)
    watched.refresh()
    port.associate(watched, FILE_MODIFIED, "other")
    write(file)
    assert happened(port) == []
    write(other)
    assert told(happened(port)) == [("other", FILE_MODIFIED)]


@rule("R199")
def test_a_directory_above_that_is_renamed_is_no_matter(
    port: Port, directory: Path, happened: Happened
) -> None:
    watch(port, directory / "old", FILE_MODIFIED, "user")
    moved = directory.rename(directory.with_name("moved"))
    assert happened(port) == []
    write(moved / "old")
    assert told(happened(port)) == [("user", FILE_MODIFIED)]


@rule("R201")
@pytest.mark.parametrize("change", ["write", "chmod", "truncate"])
def test_events_zero_is_silent_about_changes(
    port: Port, file: Path, happened: Happened, change: str
) -> None:
    watch(port, file, 0)
    if change == "write":
        write(file)
    elif change == "chmod":
        file.chmod(0o600)
    else:
        os.truncate(file, 1)
    assert happened(port) == []


@rule("R201")
def test_events_zero_is_told_of_exceptions(port: Port, file: Path) -> None:
    watch(port, file, 0, "user")
    file.unlink()
    assert told(port.getn(2, 1, SOON)) == [("user", FILE_DELETE)]


@rule("R203")
def test_a_file_that_may_not_be_read_can_be_watched(make_port: MakePort, open_to_all: Path) -> None:
    secret = open_to_all / "secret"
    secret.write_bytes(b"")
    secret.chmod(0)
    with unprivileged():
        port = make_port()
        watch(port, secret, CHANGED, "user")
    os.utime(secret, ns=(SECOND, SECOND))
    assert told(port.getn(2, 1, SOON)) == [("user", CHANGED)]


@rule("R203")
def test_a_directory_that_may_not_be_read_can_be_watched(
    make_port: MakePort, open_to_all: Path
) -> None:
    directory = open_to_all / "directory"
    directory.mkdir()
    directory.chmod(0o711)
    with unprivileged():
        port = make_port()
        watch(port, directory, CHANGED, "user")
    (directory / "new").touch()
    assert told(port.getn(2, 1, SOON)) == [("user", CHANGED)]


@rule("R203")
def test_neither_a_file_nor_its_directory_need_be_readable(
    make_port: MakePort, open_to_all: Path
) -> None:
    secret = open_to_all / "directory" / "secret"
    secret.parent.mkdir()
    secret.write_bytes(b"")
    secret.chmod(0)
    secret.parent.chmod(0o711)
    with unprivileged():
        port = make_port()
        watch(port, secret, FILE_MODIFIED, "user")
    os.utime(secret, ns=(SECOND, SECOND))
    assert told(port.getn(2, 1, SOON)) == [("user", FILE_MODIFIED)]


@rule("R203")
def test_a_file_in_a_directory_that_may_not_be_read_can_be_watched(
    make_port: MakePort, open_to_all: Path
) -> None:
    file = open_to_all / "directory" / "file"
    file.parent.mkdir()
    file.write_bytes(b"")
    file.parent.chmod(0o711)
    with unprivileged():
        port = make_port()
        watch(port, file, FILE_MODIFIED, "user")
    write(file)
    assert told(port.getn(2, 1, SOON)) == [("user", FILE_MODIFIED)]


@rule("R205")
def test_a_link_is_followed(port: Port, file: Path, tmp_path: Path, happened: Happened) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    watch(port, link, CHANGED, "link")
    os.utime(link, ns=(SECOND, SECOND), follow_symlinks=False)
    assert happened(port) == []
    write(file)
    assert told(happened(port)) == [("link", CHANGED)]


@rule("R205")
def test_a_link_followed_may_go(port: Port, file: Path, tmp_path: Path, happened: Happened) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    watch(port, link, CHANGED, "link")
    link.unlink()
    assert happened(port) == []
    write(file)
    assert told(happened(port)) == [("link", CHANGED)]


@rule("R205", "R225")
def test_the_file_behind_a_link_that_is_followed_is_the_one_that_is_deleted(
    port: Port, file: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    watch(port, link, 0, "link")
    file.unlink()
    assert told(port.getn(2, 1, SOON)) == [("link", FILE_DELETE)]


@rule("R205", "R009")
def test_with_nofollow_the_link_itself_is_watched(
    port: Port, file: Path, tmp_path: Path, happened: Happened
) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    watch(port, link, CHANGED | FILE_NOFOLLOW, "link")
    write(file)
    file.chmod(0o600)
    assert happened(port) == []
    os.utime(link, ns=(SECOND, SECOND), follow_symlinks=False)
    assert told(happened(port)) == [("link", CHANGED)]


@rule("R205")
@pytest.mark.parametrize("follow", [False, True])
def test_with_nofollow_a_link_to_nowhere_can_be_watched(
    port: Port, tmp_path: Path, follow: bool
) -> None:
    link = tmp_path / "link"
    link.symlink_to("nowhere")
    if follow:
        with pytest.raises(FileNotFoundError):
            port.associate(FileObject(link), FILE_MODIFIED)
    else:
        watch(port, link, FILE_MODIFIED | FILE_NOFOLLOW, "link")
        link.unlink()
        assert told(port.getn(2, 1, SOON)) == [("link", FILE_DELETE)]


@rule("R205", "R009")
def test_nofollow_means_nothing_to_a_file_that_is_no_link(port: Port, file: Path) -> None:
    watch(port, file, FILE_MODIFIED | FILE_NOFOLLOW, "user")
    write(file)
    assert told(port.getn(2, 1, SOON)) == [("user", FILE_MODIFIED)]


@rule("R205")
def test_only_the_last_link_of_a_path_is_not_followed(
    port: Port, directory: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(directory)
    watch(port, link / "old", FILE_MODIFIED | FILE_NOFOLLOW, "user")
    write(directory / "old")
    assert told(port.getn(2, 1, SOON)) == [("user", FILE_MODIFIED)]


@rule("R206")
def test_each_object_is_a_watch_of_its_own(port: Port, file: Path) -> None:
    watched = [watch(port, file, FILE_MODIFIED, number) for number in range(5)]
    write(file)
    assert port.getn(8, 5, SOON) == [
        PortEvent(PORT_SOURCE_FILE, each, FILE_MODIFIED, number)
        for number, each in enumerate(watched)
    ]


@rule("R206", "R214")
def test_watches_of_one_file_are_independent(port: Port, file: Path, happened: Happened) -> None:
    one = watch(port, file, FILE_MODIFIED, "one")
    watch(port, file, FILE_ATTRIB, "two")
    three = watch(port, file, CHANGED, "three")
    port.dissociate(three)
    write(file)
    assert told(happened(port)) == [("one", FILE_MODIFIED), ("two", FILE_ATTRIB)]
    one.refresh()
    port.associate(one, FILE_MODIFIED, "one again")
    write(file)
    assert told(happened(port)) == [("one again", FILE_MODIFIED)]


@rule("R206")
def test_each_port_gets_its_own_event(make_port: MakePort, file: Path) -> None:
    watched = FileObject.stat(file)
    ports = [make_port() for _ in range(3)]
    for number, port in enumerate(ports):
        port.associate(watched, FILE_MODIFIED, number)
    write(file)
    assert [told(port.getn(2, 1, SOON)) for port in ports] == [
        [(number, FILE_MODIFIED)] for number in range(3)
    ]


@rule("R207")
@pytest.mark.parametrize("queued", [False, True])
def test_an_object_with_another_name_leaves_the_old_file(
    port: Port, file: Path, directory: Path, happened: Happened, queued: bool
) -> None:
    watched = watch(port, file, CHANGED, "old")
    if queued:
        write(file)
        until_queued(port)
    watched.name = directory / "old"
    watched.refresh()
    port.associate(watched, CHANGED, "new")
    assert port.pending() == 0
    write(file)
    assert happened(port) == []
    write(directory / "old")
    assert told(happened(port)) == [("new", CHANGED)]


@rule("R208")
def test_an_object_is_copied_at_the_call(
    port: Port, file: Path, directory: Path, happened: Happened
) -> None:
    watched = watch(port, file, CHANGED, "user")
    watched.name = directory / "old"
    watched.atime = watched.mtime = watched.ctime = 1
    write(directory / "old")
    assert happened(port) == []
    write(file)
    assert told(happened(port)) == [("user", CHANGED)]


@rule("R208", "R235")
def test_an_object_whose_name_has_changed_can_be_dissociated(port: Port, file: Path) -> None:
    watched = watch(port, file)
    watched.name = "nothing"
    port.dissociate(watched)
    assert errno_of(port.dissociate, watched)


@rule("R212")
def test_associating_again_replaces_events_and_user(
    port: Port, file: Path, happened: Happened
) -> None:
    watched = watch(port, file, FILE_MODIFIED, "old")
    port.associate(watched, FILE_ATTRIB, "new")
    write(file)
    assert told(happened(port)) == [("new", FILE_ATTRIB)]


@rule("R212")
@pytest.mark.parametrize("times", [2, 3, 100])
def test_there_is_one_event_however_often_it_is_associated(
    port: Port, file: Path, happened: Happened, times: int
) -> None:
    watched = FileObject.stat(file)
    for turn in range(times):
        port.associate(watched, CHANGED, turn)
    write(file)
    assert told(happened(port)) == [(times - 1, CHANGED)]


@rule("R212")
def test_associating_again_takes_back_an_event_not_retrieved(
    port: Port, file: Path, happened: Happened
) -> None:
    watched = watch(port, file, CHANGED, "old")
    write(file)
    until_queued(port)
    watched.refresh()
    port.associate(watched, CHANGED, "new")
    assert port.pending() == 0
    assert happened(port) == []
    write(file)
    assert told(happened(port)) == [("new", CHANGED)]


@rule("R212")
def test_associating_again_with_the_old_stamps_tells_of_the_same_change(
    port: Port, file: Path, happened: Happened
) -> None:
    watched = watch(port, file, FILE_MODIFIED, "old")
    os.utime(file, ns=(SECOND, SECOND))
    until_queued(port)
    port.associate(watched, FILE_MODIFIED, "new")
    assert told(happened(port)) == [("new", FILE_MODIFIED)]


@rule("R213")
def test_bits_of_an_event_taken_back_are_forgotten(
    port: Port, file: Path, happened: Happened
) -> None:
    watched = watch(port, file, CHANGED)
    write(file)
    until_queued(port)
    watched.refresh()
    port.associate(watched, CHANGED, "new")
    file.chmod(0o600)
    assert told(happened(port)) == [("new", FILE_ATTRIB)]


@rule("R214")
def test_one_association_is_one_event(port: Port, file: Path, happened: Happened) -> None:
    watch(port, file, CHANGED, "user")
    for _ in range(5):
        write(file)
    assert told(happened(port)) == [("user", CHANGED)]
    write(file)
    file.chmod(0o600)
    assert happened(port) == []


@rule("R214")
def test_associating_again_after_each_event_tells_of_each_change(port: Port, file: Path) -> None:
    watched = watch(port, file, FILE_MODIFIED, 0)
    for turn in range(50):
        write(file)
        assert told(port.getn(2, 1, SOON)) == [(turn, FILE_MODIFIED)]
        watched.refresh()
        port.associate(watched, FILE_MODIFIED, turn + 1)


@rule("R214", "R216")
def test_an_object_is_let_go_when_its_event_has_been_retrieved(port: Port, file: Path) -> None:
    watched = watch(port, file)
    reference = weakref.ref(watched)
    write(file)
    assert port.get(SOON).object is watched
    del watched
    gc.collect(0)
    assert reference() is None


@rule("R199")
def test_an_object_that_nobody_else_holds_is_watched(port: Port, file: Path) -> None:
    watch(port, file)
    gc.collect(0)
    write(file)
    event = port.get(SOON)
    assert isinstance(event.object, FileObject)
    assert event.object.name == file


@rule("R215", "R219")
@needs("file-trunc")
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (FILE_MODIFIED, FILE_MODIFIED),
        (FILE_ATTRIB, FILE_ATTRIB),
        (CHANGED, CHANGED),
        (0x100006, CHANGED),
        (0x100007, CHANGED),
    ],
)
def test_of_what_happened_what_was_asked_is_told(
    port: Port, file: Path, asked: int, expected: int
) -> None:
    watch(port, file, asked)
    write(file)
    assert port.get(SOON).events == expected


@rule("R216")
def test_watches_that_have_fired_do_not_use_up_the_slots(make_port: MakePort, file: Path) -> None:
    port = make_port(max_events=24)
    kept = []
    for number in range(100):
        kept.append(watch(port, file, FILE_MODIFIED, number))
        write(file)
        assert told(port.getn(2, 1, SOON)) == [(number, FILE_MODIFIED)]


@rule("R217")
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no open file has a path here")
@pytest.mark.parametrize("fate", ["stays", "is renamed", "is deleted"])
def test_an_open_file_can_be_watched_by_its_descriptor(
    port: Port, file: Path, happened: Happened, fate: str
) -> None:
    with open(file, "ab", buffering=0) as opened:
        if fate == "is deleted":
            file.unlink()
        watch(port, f"/proc/self/fd/{opened.fileno()}", FILE_MODIFIED, "user")
        if fate == "is renamed":
            file.rename(file.with_name("other"))
        assert happened(port) == []
        opened.write(b"x")
        assert told(happened(port)) == [("user", FILE_MODIFIED)]


@rule("R217", "R220", "R221")
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no open file has a path here")
@pytest.mark.parametrize(
    ("asked", "expected"),
    [(FILE_TRUNC, FILE_TRUNC), (FILE_MODIFIED, FILE_MODIFIED)],
    ids=["truncation", "time"],
)
@needs("file-trunc")
def test_an_open_file_without_a_name_tells_as_much_as_another(
    port: Port, file: Path, happened: Happened, asked: int, expected: int
) -> None:
    with open(file, "ab", buffering=0) as opened:
        file.unlink()
        watch(port, f"/proc/self/fd/{opened.fileno()}", asked, "user")
        if asked == FILE_TRUNC:
            opened.truncate(1)
        else:
            os.utime(opened.fileno(), ns=(SECOND, 2 * SECOND))
        assert told(happened(port)) == [("user", expected)]
