"""port_associate(3C) with PORT_SOURCE_FILE: what it refuses, and how."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import portcompat
from portcompat import (
    FILE_EXCEPTION,
    FILE_MODIFIED,
    FILE_NOFOLLOW,
    PORT_SOURCE_FILE,
    FileObject,
    Port,
    port_associate,
)
from portcompat.conformance import rule
from portcompat.conformance._descriptors import closed_number
from portcompat.conformance._errors import errno_of
from portcompat.conformance._files import (
    CHANGED,
    Happened,
    MakePort,
    told,
    unprivileged,
    watch,
    write,
)

pytestmark = pytest.mark.usefixtures("file_watcher")

ACCEPTED = 0x1010_0007
REFUSED = [1 << bit for bit in range(31) if not 1 << bit & ACCEPTED]
EXCEPTIONS = ["FILE_DELETE", "FILE_RENAME_TO", "FILE_RENAME_FROM", "UNMOUNTED", "MOUNTEDOVER"]


@pytest.fixture(params=["at first", "again"])
def refuse(request: pytest.FixtureRequest, make_port: MakePort, file: Path) -> Iterator[Any]:
    """Associate what is to be refused: a new object, or one that is being watched.

    What was watched is checked to be watched still, and the slots not to be fewer.
    """
    port = make_port(max_events=2)
    others = watch(port, file, FILE_MODIFIED, "watched")
    again = request.param == "again"

    def associate(name: Any, events: Any = CHANGED, user: object = None) -> None:
        target = others if again else FileObject(file)
        target.name = name
        try:
            port.associate(target, events, user)
        finally:
            target.name = file

    yield associate
    assert port.pending() == 0
    port.send(0, "in the other slot")
    assert errno_of(port.send, 0) == errno.EAGAIN
    assert port.get(0).user == "in the other slot"
    port.dissociate(others)


@rule("R200")
def test_a_bit_that_cannot_be_watched_is_einval(refuse: Any, file: Path) -> None:
    for bit in REFUSED:
        assert errno_of(refuse, file, bit) == errno.EINVAL, hex(bit)
        assert errno_of(refuse, file, bit | FILE_MODIFIED) == errno.EINVAL, hex(bit)


@rule("R200", "R010")
@pytest.mark.parametrize("name", EXCEPTIONS)
def test_to_ask_for_an_exception_is_einval(refuse: Any, file: Path, name: str) -> None:
    assert errno_of(refuse, file, getattr(portcompat, name) | FILE_MODIFIED) == errno.EINVAL
    assert errno_of(refuse, file, FILE_EXCEPTION) == errno.EINVAL


@rule("R200")
@pytest.mark.parametrize("events", [-1, -0x8000_0000])
def test_negative_events_are_einval(refuse: Any, file: Path, events: int) -> None:
    assert errno_of(refuse, file, events) == errno.EINVAL


@rule("R200")
@pytest.mark.parametrize("name", ["", "/missing", "x" * 5000])
def test_bad_events_are_told_before_a_bad_name(port: Port, name: str) -> None:
    assert errno_of(port.associate, FileObject(name), 0x8) == errno.EINVAL


@rule("R200", "R011")
@pytest.mark.parametrize("events", [FILE_MODIFIED, CHANGED, ACCEPTED, ACCEPTED & ~FILE_NOFOLLOW])
def test_what_can_be_watched_is_accepted(port: Port, file: Path, events: int) -> None:
    watched = FileObject.stat(file)
    port.associate(watched, events)
    port.dissociate(watched)


@rule("R200", "R064")
def test_a_closed_port_is_told_first(port: Port) -> None:
    port.close()
    assert errno_of(port.associate, FileObject("/missing"), 0x8) == errno.EBADF
    assert errno_of(port.dissociate, FileObject("/missing")) == errno.EBADF


@rule("R199", "R064")
def test_a_port_number_that_is_not_open_is_ebadf(file: Path) -> None:
    arguments = closed_number(), PORT_SOURCE_FILE, FileObject(file), FILE_MODIFIED, None
    assert errno_of(port_associate, *arguments) == errno.EBADF


@rule("R202")
def test_a_missing_file_is_enoent(refuse: Any, tmp_path: Path) -> None:
    assert errno_of(refuse, tmp_path / "missing") == errno.ENOENT


@rule("R202")
@pytest.mark.parametrize("name", ["", b""])
def test_an_empty_name_is_enoent(refuse: Any, name: object) -> None:
    assert errno_of(refuse, name) == errno.ENOENT


@rule("R202")
def test_a_file_used_as_a_directory_is_enotdir(refuse: Any, file: Path) -> None:
    assert errno_of(refuse, file / "name") == errno.ENOTDIR
    assert errno_of(refuse, f"{file}/") == errno.ENOTDIR


@rule("R202")
def test_a_directory_on_the_way_that_is_missing_is_enoent(refuse: Any, tmp_path: Path) -> None:
    assert errno_of(refuse, tmp_path / "missing" / "name") == errno.ENOENT


@rule("R202")
def test_a_name_that_is_too_long_is_enametoolong(refuse: Any, tmp_path: Path) -> None:
    assert errno_of(refuse, tmp_path / ("x" * 300)) == errno.ENAMETOOLONG
    assert errno_of(refuse, "x/" * 5000) == errno.ENAMETOOLONG


@rule("R202")
def test_links_in_a_circle_are_eloop(refuse: Any, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.symlink_to(two)
    two.symlink_to(one)
    assert errno_of(refuse, one) == errno.ELOOP
    assert errno_of(refuse, one / "name") == errno.ELOOP


@rule("R202", "R205")
def test_a_circle_of_links_can_be_watched_itself(
    port: Port, tmp_path: Path, happened: Happened
) -> None:
    link = tmp_path / "link"
    link.symlink_to(link)
    watched = FileObject(link)
    port.associate(watched, FILE_MODIFIED | FILE_NOFOLLOW)
    assert happened(port) == []
    port.dissociate(watched)


@rule("R202", "R203")
def test_a_directory_that_may_not_be_searched_is_eacces(
    make_port: MakePort, open_to_all: Path
) -> None:
    closed = open_to_all / "closed"
    closed.mkdir()
    (closed / "file").write_bytes(b"")
    closed.chmod(0o600)
    with unprivileged():
        port = make_port()
        assert errno_of(port.associate, FileObject(closed / "file"), CHANGED) == errno.EACCES
    closed.chmod(0o700)


@rule("R202")
@pytest.mark.parametrize("name", ["nul\0byte", b"nul\0byte", "\0", "\ud800"], ids=ascii)
def test_a_name_that_no_file_can_have_is_a_value_error(refuse: Any, name: object) -> None:
    with pytest.raises(ValueError):
        refuse(name)


@rule("R202")
@pytest.mark.parametrize("name", [None, 3, 1.0, [], ..., bytearray(b"name")], ids=repr)
def test_a_name_of_another_type_is_a_type_error(refuse: Any, name: object) -> None:
    with pytest.raises(TypeError):
        refuse(name)


@rule("R199", "R202")
@pytest.mark.parametrize("stamp", ["atime", "mtime", "ctime"])
@pytest.mark.parametrize("value", [None, "1", 1.5, []], ids=repr)
def test_a_stamp_of_another_type_is_a_type_error(
    port: Port, file: Path, happened: Happened, stamp: str, value: Any
) -> None:
    with pytest.raises(TypeError):
        port.associate(FileObject(file, **{stamp: value}), CHANGED)
    watched = watch(port, file, CHANGED, "user")
    with pytest.raises(TypeError):
        setattr(watched, stamp, value)
        port.associate(watched, CHANGED, "never")
    write(file)
    assert told(happened(port)) == [("user", CHANGED)]


@rule("R200")
@pytest.mark.parametrize("events", [None, "2", 2.0, []], ids=repr)
def test_events_of_another_type_are_a_type_error(refuse: Any, file: Path, events: Any) -> None:
    with pytest.raises(TypeError):
        refuse(file, events)


@rule("R200")
@pytest.mark.parametrize("events", [2**31, -(2**31) - 1, 2**64])
def test_events_beyond_a_c_int_are_a_value_error(refuse: Any, file: Path, events: int) -> None:
    with pytest.raises(ValueError):
        refuse(file, events)


@rule("R204")
@pytest.mark.parametrize("path", ["/proc/self/status", "/proc/version", "/dev/null", "/dev/zero"])
def test_a_file_that_tells_nothing_is_enotsup(refuse: Any, path: str) -> None:
    if not os.path.exists(path):
        pytest.skip(f"this host has no {path}")
    assert errno_of(refuse, path) == errno.ENOTSUP


@rule("R204")
def test_asking_only_for_what_the_watcher_cannot_see_is_enotsup(port: Port, file: Path) -> None:
    for bit in (0x1, 0x2, 0x4, 0x100000):
        name = {0x1: "file-access", 0x2: "file-modified", 0x4: "file-attrib"}.get(bit, "file-trunc")
        expected = None if name in port.features else errno.ENOTSUP
        assert errno_of(port.associate, FileObject(file), bit) == expected
        assert errno_of(port.associate, FileObject(file), bit | CHANGED) is None


@rule("R202")
def test_a_file_that_goes_after_it_was_looked_at_is_enoent(
    port: Port, file: Path, happened: Happened
) -> None:
    watched = FileObject.stat(file)
    file.unlink()
    assert errno_of(port.associate, watched, CHANGED) == errno.ENOENT
    assert happened(port) == []


@rule("R199")
@pytest.mark.parametrize("name", ["nobody", "", ":", "os:nothing", "os:path", "a\0b"])
def test_a_watcher_that_nobody_knows_is_a_value_error(backend: str, name: str) -> None:
    with pytest.raises(ValueError):
        Port(backend, file_watcher=name)


@rule("R199")
@pytest.mark.parametrize("name", [3, b"stat", ..., ["stat"]], ids=ascii)
def test_a_watcher_is_chosen_by_a_string(backend: str, name: Any) -> None:
    with pytest.raises(TypeError):
        Port(backend, file_watcher=name)
