"""port_dissociate(3C) with PORT_SOURCE_FILE."""

import errno
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest

from portcompat import (
    FILE_DELETE,
    FILE_MODIFIED,
    POLLOUT,
    PORT_SOURCE_FD,
    PORT_SOURCE_FILE,
    FileObject,
    Port,
    port_associate,
    port_close,
    port_create,
    port_dissociate,
)
from portcompat.conformance import rule
from portcompat.conformance._descriptors import socket_pair
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


@rule("R234")
def test_on_a_port_that_never_watched_a_file_it_is_einval(port: Port, file: Path) -> None:
    assert errno_of(port.dissociate, FileObject(file)) == errno.EINVAL


@rule("R234")
def test_associations_of_descriptors_do_not_count(port: Port, file: Path) -> None:
    with socket_pair() as (ours, _):
        port.associate(ours, POLLOUT)
        assert errno_of(port.dissociate, FileObject(file)) == errno.EINVAL


@rule("R234")
def test_files_of_other_ports_do_not_count(make_port: MakePort, file: Path) -> None:
    watched = watch(make_port(), file)
    assert errno_of(make_port().dissociate, watched) == errno.EINVAL


@rule("R234", "R202")
def test_an_association_that_failed_does_not_count(port: Port, file: Path) -> None:
    assert errno_of(port.associate, FileObject("/missing"), FILE_MODIFIED) == errno.ENOENT
    assert errno_of(port.associate, FileObject(file), 0x10) == errno.EINVAL
    assert errno_of(port.dissociate, FileObject(file)) == errno.EINVAL


@rule("R234", "R235")
def test_once_a_file_was_watched_it_is_enoent(port: Port, file: Path) -> None:
    watched = watch(port, file)
    port.dissociate(watched)
    assert errno_of(port.dissociate, watched) == errno.ENOENT


@rule("R235")
def test_an_object_never_associated_is_enoent(port: Port, file: Path) -> None:
    watch(port, file)
    assert errno_of(port.dissociate, FileObject.stat(file)) == errno.ENOENT
    assert errno_of(port.dissociate, FileObject("/missing")) == errno.ENOENT


@rule("R235", "R206")
def test_it_is_the_object_that_counts_and_not_its_name(port: Port, file: Path) -> None:
    watched = watch(port, file, FILE_MODIFIED, "user")
    twin = FileObject(watched.name, watched.atime, watched.mtime, watched.ctime)
    assert errno_of(port.dissociate, twin) == errno.ENOENT
    write(file)
    until_queued(port)
    assert told(port.getn(2, 1, 0)) == [("user", FILE_MODIFIED)]


@rule("R235")
def test_a_watch_dissociated_is_silent(port: Port, file: Path, happened: Happened) -> None:
    watched = watch(port, file)
    assert port.dissociate(watched) is None  # type: ignore[func-returns-value]
    write(file)
    file.unlink()
    assert happened(port) == []


@rule("R235")
@pytest.mark.parametrize("change", ["write", "unlink"])
def test_an_event_queued_is_taken_back(
    port: Port, file: Path, happened: Happened, change: str
) -> None:
    watched = watch(port, file)
    write(file) if change == "write" else file.unlink()
    until_queued(port)
    port.dissociate(watched)
    assert port.pending() == 0
    assert happened(port) == []


@rule("R235")
def test_a_change_not_looked_at_yet_is_taken_back(
    port: Port, file: Path, happened: Happened
) -> None:
    watched = watch(port, file)
    write(file)
    port.dissociate(watched)
    assert happened(port) == []


@rule("R235")
def test_an_event_of_stamps_is_taken_back(port: Port, file: Path) -> None:
    watched = FileObject(file, mtime=1)
    port.associate(watched, FILE_MODIFIED)
    assert port.pending() == 1
    port.dissociate(watched)
    assert port.pending() == 0


@rule("R235")
def test_after_its_event_was_retrieved_it_is_enoent(
    port: Port, file: Path, happened: Happened
) -> None:
    watched = watch(port, file, CHANGED, "user")
    write(file)
    assert told(happened(port)) == [("user", CHANGED)]
    assert errno_of(port.dissociate, watched) == errno.ENOENT
    assert errno_of(port.dissociate, watched) == errno.ENOENT


@rule("R235")
def test_the_places_of_others_in_the_queue_stay(port: Port, tmp_path: Path) -> None:
    watched = []
    for number in range(5):
        (tmp_path / str(number)).write_bytes(b"")
        watched.append(FileObject(tmp_path / str(number), mtime=1))
        port.associate(watched[-1], FILE_MODIFIED, number)
        port.send(number, "message")
    port.dissociate(watched[1])
    port.dissociate(watched[3])
    found = [event.user if event.object else event.events for event in port.getn(20, 8, 0)]
    assert found == [0, 0, 1, 2, 2, 3, 4, 4]


@rule("R235")
def test_one_dissociated_can_be_associated_again(
    port: Port, file: Path, happened: Happened
) -> None:
    watched = FileObject.stat(file)
    for turn in range(20):
        port.associate(watched, CHANGED, turn)
        port.dissociate(watched)
    port.associate(watched, CHANGED, "last")
    write(file)
    assert told(happened(port)) == [("last", CHANGED)]


@rule("R235")
def test_other_watches_of_the_file_go_on(port: Port, file: Path, happened: Happened) -> None:
    watched = [watch(port, file, CHANGED, number) for number in range(4)]
    port.dissociate(watched[0])
    port.dissociate(watched[2])
    write(file)
    assert told(happened(port)) == [(1, CHANGED), (3, CHANGED)]
    last = watch(port, file, 0, "last")
    file.unlink()
    assert told(happened(port)) == [("last", FILE_DELETE)]
    assert errno_of(port.dissociate, last) == errno.ENOENT


@rule("R235")
def test_a_watch_whose_file_is_gone_unseen_can_be_dissociated(port: Port, file: Path) -> None:
    watched = watch(port, file)
    file.unlink()
    port.dissociate(watched)
    assert port.pending() == 0
    assert errno_of(port.dissociate, watched) == errno.ENOENT


@rule("R235")
def test_user_and_object_are_let_go(port: Port, file: Path) -> None:
    class Cookie:
        pass

    cookie = Cookie()
    watched = watch(port, file, CHANGED, cookie)
    references: list[weakref.ref[object]] = [weakref.ref(cookie), weakref.ref(watched)]
    del cookie
    port.dissociate(watched)
    del watched
    gc.collect(0)
    assert [reference() for reference in references] == [None, None]


@rule("R234", "R235")
def test_the_c_spelling_takes_port_source_object(
    backend: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTCOMPAT_BACKEND", backend)
    number = port_create()
    try:
        watched = FileObject.stat(file)
        found = errno_of(port_dissociate, number, PORT_SOURCE_FILE, watched)
        assert found == errno.EINVAL
        port_associate(number, PORT_SOURCE_FILE, watched, FILE_MODIFIED, None)
        port_dissociate(number, PORT_SOURCE_FILE, watched)
        found = errno_of(port_dissociate, number, PORT_SOURCE_FILE, watched)
        assert found == errno.ENOENT
    finally:
        port_close(number)


@rule("R235", "R053")
@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        (PORT_SOURCE_FILE, 0),
        (PORT_SOURCE_FILE, "name"),
        (PORT_SOURCE_FILE, None),
        (PORT_SOURCE_FD, FileObject("name")),
    ],
)
def test_an_object_of_another_source_is_a_type_error(
    backend: str, file: Path, monkeypatch: pytest.MonkeyPatch, source: int, wrong: Any
) -> None:
    monkeypatch.setenv("PORTCOMPAT_BACKEND", backend)
    number = port_create()
    try:
        port_associate(number, PORT_SOURCE_FILE, FileObject(file), FILE_MODIFIED, None)
        with pytest.raises(TypeError):
            port_dissociate(number, source, wrong)
        with pytest.raises(TypeError):
            port_associate(number, source, wrong, FILE_MODIFIED, None)
    finally:
        port_close(number)
