"""Signal handlers that raise at each step of the calls that have to do with files."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from portcompat import (
    FILE_DELETE,
    FILE_MODIFIED,
    FileObject,
    Port,
    available_file_watchers,
)
from tests.interruptions import Interrupted, Interruption, places

WATCHERS = [name for name, info in available_file_watchers().items() if info.usable]
SLOTS = 4

pytestmark = [
    pytest.mark.deadline(50),
    # What was being made when the handler raised is closed by its collection.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


@pytest.fixture(params=WATCHERS)
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Port]:
    monkeypatch.setenv("PORTCOMPAT_STAT_INTERVAL", "0.002")
    return lambda: Port(file_watcher=request.param, max_events=SLOTS)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"")
    return path


def interrupt(step: int) -> Interruption:
    def handler() -> None:
        raise Interrupted

    return Interruption(step, handler)


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    before = sorted(os.listdir("/dev/fd"))
    yield
    assert sorted(os.listdir("/dev/fd")) == before


def change(file: Path) -> None:
    with file.open("ab", buffering=0) as writer:
        writer.write(b"x")


def slots(port: Port, *objects: FileObject) -> int:
    """How many slots there are when nothing is associated or queued."""
    for watched in objects:
        with contextlib.suppress(OSError):
            port.dissociate(watched)
    port.getn(100, 1, 0)
    sent = 0
    try:
        while sent < 2 * SLOTS:
            port.send(0)
            sent += 1
    except OSError as error:
        assert error.errno == errno.EAGAIN
    port.getn(100, 1, 0)
    return sent


@pytest.mark.parametrize("what", ["change", "unlink"])
@pytest.mark.parametrize("wait", [0, 10])
def test_no_event_is_lost_or_told_twice(
    make: Callable[[], Port], file: Path, what: str, wait: float
) -> None:
    def attempt(step: int) -> Interruption:
        file.write_bytes(b"")
        with make() as port:
            watched = FileObject.stat(file)
            port.associate(watched, FILE_MODIFIED, "user")
            if what == "change":
                change(file)
            else:
                file.unlink()
            events = []
            with interrupt(step) as interruption, contextlib.suppress(Interrupted):
                events += port.getn(9, 1, wait)
            if not events:
                events += port.getn(9, 1, 10)
            expected = FILE_MODIFIED if what == "change" else FILE_DELETE
            assert [(e.object, e.events, e.user) for e in events] == [
                (watched, expected, "user")
            ], interruption.place
            assert port.getn(9, 1, 0) == [], interruption.place
            assert slots(port, watched) == SLOTS, interruption.place
        return interruption

    with no_descriptor_left():
        assert len(places(attempt)) > 10


def test_an_association_is_the_old_one_or_the_new_one(make: Callable[[], Port], file: Path) -> None:
    def attempt(step: int) -> Interruption:
        with make() as port:
            watched = FileObject.stat(file)
            port.associate(watched, FILE_MODIFIED, "old")
            with interrupt(step) as interruption, contextlib.suppress(Interrupted):
                port.associate(watched, FILE_MODIFIED, "new")
            change(file)
            event = port.get(10)
            assert event.user in ("old", "new"), interruption.place
            assert port.getn(9, 1, 0) == [], interruption.place
            assert slots(port, watched) == SLOTS, interruption.place
        return interruption

    with no_descriptor_left():
        assert len(places(attempt)) > 20


def test_an_event_that_a_new_association_would_replace_is_told_or_replaced(
    make: Callable[[], Port], file: Path
) -> None:
    def attempt(step: int) -> Interruption:
        with make() as port:
            watched = FileObject(file, mtime=1)
            port.associate(watched, FILE_MODIFIED, "old")
            assert port.pending() == 1
            with interrupt(step) as interruption, contextlib.suppress(Interrupted):
                port.associate(watched, FILE_MODIFIED, "new")
            change(file)
            event = port.get(10)
            assert event.user in ("old", "new"), interruption.place
            assert event.events == FILE_MODIFIED
            assert port.getn(9, 1, 0) == [], interruption.place
            assert slots(port, watched) == SLOTS, interruption.place
        return interruption

    assert len(places(attempt)) > 20


def test_a_first_association_is_made_or_leaves_nothing(
    make: Callable[[], Port], file: Path
) -> None:
    def attempt(step: int) -> Interruption:
        with make() as port:
            watched = FileObject(file, mtime=1)
            with interrupt(step) as interruption, contextlib.suppress(Interrupted):
                port.associate(watched, FILE_MODIFIED, "user")
            with contextlib.suppress(OSError):
                port.dissociate(watched)
            port.associate(watched, FILE_MODIFIED, "again")
            assert [event.user for event in port.getn(9, 1, 10)] == ["again"], interruption.place
            assert slots(port, watched) == SLOTS, interruption.place
        return interruption

    with no_descriptor_left():
        assert len(places(attempt)) > 30


def test_a_refused_association_changes_nothing(make: Callable[[], Port], file: Path) -> None:
    def attempt(step: int) -> Interruption:
        with make() as port:
            watched, other = FileObject.stat(file), FileObject(file.with_name("missing"))
            port.associate(watched, FILE_MODIFIED, "user")
            change(file)
            with interrupt(step) as interruption, contextlib.suppress(Interrupted, OSError):
                port.associate(other, FILE_MODIFIED)
            assert [event.user for event in port.getn(9, 1, 10)] == ["user"], interruption.place
            assert port.getn(9, 1, 0) == [], interruption.place
            assert slots(port, watched) == SLOTS, interruption.place
        return interruption

    assert len(places(attempt)) > 20


def test_a_dissociation_is_made_or_not(make: Callable[[], Port], file: Path) -> None:
    def attempt(step: int) -> Interruption:
        with make() as port:
            watched = FileObject.stat(file)
            port.associate(watched, FILE_MODIFIED, "user")
            with interrupt(step) as interruption, contextlib.suppress(Interrupted):
                port.dissociate(watched)
            with contextlib.suppress(OSError):
                port.dissociate(watched)
            change(file)
            port.associate(FileObject(file, mtime=1), FILE_MODIFIED, "other")
            assert [event.user for event in port.getn(9, 1, 10)] == ["other"], interruption.place
            assert slots(port, watched) >= SLOTS - 1, interruption.place
        return interruption

    assert len(places(attempt)) > 10
