"""The watcher that looks again and again."""

import mmap
import os
import select
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from portcompat import (
    FILE_ATTRIB,
    FILE_DELETE,
    FILE_MODIFIED,
    FILE_RENAME_TO,
    FILE_TRUNC,
    available_file_watchers,
)
from portcompat.abc import FileStatus
from portcompat.backends import statpoll
from portcompat.backends._paths import Place, look
from portcompat.backends.statpoll import ENVIRONMENT, StatWatcher

CHANGED = int(FILE_MODIFIED | FILE_ATTRIB)
SOON = 10.0


@pytest.fixture
def watcher(monkeypatch: pytest.MonkeyPatch) -> Iterator[StatWatcher]:
    monkeypatch.setenv(ENVIRONMENT, "0.002")
    made = StatWatcher()
    yield made
    made.close()
    if made._thread is not None:
        made._thread.join(SOON)
        assert not made._thread.is_alive()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"some content")
    return path


def reports(watcher: StatWatcher, count: int) -> list[tuple[int, int]]:
    """The next reports, as many as must come."""
    found: deque[tuple[int, int]] = deque()
    while len(found) < count:
        assert select.select([watcher.fileno()], [], [], SOON)[0]
        watcher.read(found)
    return list(found)


def change(file: Path) -> None:
    with file.open("ab", buffering=0) as writer:
        writer.write(b"x")


def test_a_change_is_told_to_each_token_in_turn(watcher: StatWatcher, file: Path) -> None:
    for token in range(50):
        watcher.watch(token, bytes(file), True, CHANGED)
    change(file)
    assert reports(watcher, 50) == [(token, CHANGED) for token in range(50)]


def test_after_a_change_only_the_loss_of_the_name_is_told(watcher: StatWatcher, file: Path) -> None:
    watcher.watch(1, bytes(file), True, int(FILE_MODIFIED))
    change(file)
    assert reports(watcher, 1) == [(1, FILE_MODIFIED)]
    change(file)
    file.unlink()
    assert reports(watcher, 1) == [(1, FILE_DELETE)]
    assert watcher._watches == {}


def test_what_was_not_asked_for_is_the_beginning_of_what_comes(
    watcher: StatWatcher, file: Path
) -> None:
    watcher.watch(1, bytes(file), True, int(FILE_TRUNC))
    watcher.watch(2, bytes(file), True, CHANGED)
    change(file)
    assert reports(watcher, 1) == [(2, CHANGED)]
    os.truncate(file, len(b"some content"))  # as long as it was at first
    assert reports(watcher, 1) == [(1, FILE_TRUNC)]


def test_what_came_before_is_told_before(
    watcher: StatWatcher, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "_run", lambda: None)
    last = file.with_name("last")
    last.write_bytes(b"")
    watcher.watch(1, bytes(file), True, CHANGED)
    watcher.watch(2, bytes(last), True, CHANGED)
    changes = [last, file]

    def change_both_and_look(place: Place) -> FileStatus:
        while changes and place.path == bytes(last):  # the first has been looked at
            change(changes.pop())
        return look(place)

    monkeypatch.setattr(statpoll, "look", change_both_and_look)
    assert watcher._look_until_still() == [(1, CHANGED), (2, CHANGED)]


def test_what_is_stored_through_a_mapping_is_told_while_that_is_open(
    watcher: StatWatcher, file: Path
) -> None:
    os.utime(file, ns=(1, 1))
    watcher.watch(1, bytes(file), True, CHANGED)
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapping:
        mapping[:4] = b"same"
        mapping.flush()
        assert reports(watcher, 1) == [(1, CHANGED)]


def test_another_file_of_the_name_has_been_renamed_to_it(watcher: StatWatcher, file: Path) -> None:
    watcher.watch(1, bytes(file), True, 0)
    other = file.with_name("other")
    other.write_bytes(b"")
    other.rename(file)
    assert reports(watcher, 1) == [(1, FILE_RENAME_TO)]


def test_one_that_watches_nothing_has_no_thread(watcher: StatWatcher, file: Path) -> None:
    before = threading.active_count()
    assert watcher._thread is None
    watcher.watch(1, bytes(file), True, CHANGED)
    watcher.watch(2, bytes(file), True, CHANGED)
    assert threading.active_count() == before + 1


def test_a_file_that_many_watch_is_looked_at_once(
    watcher: StatWatcher, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "_run", lambda: None)
    for token in range(10):
        watcher.watch(token, bytes(file), True, CHANGED)
    looks: list[Place] = []

    def count(place: Place) -> FileStatus:
        looks.append(place)
        return look(place)

    monkeypatch.setattr(statpoll, "look", count)
    assert watcher._look_around() == []
    assert len(looks) == 1


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_an_interval_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(ENVIRONMENT, text)
    with pytest.raises(ValueError, match=ENVIRONMENT):
        StatWatcher()
    assert ENVIRONMENT in available_file_watchers()["stat"].reason


def test_half_a_second_is_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    watcher = StatWatcher()
    assert watcher.interval == 0.5
    watcher.close()
