"""The engine's part of file events, over a watcher that reports what a test tells it to."""

import errno
import os
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest

from portcompat import (
    FILE_ACCESS,
    FILE_ATTRIB,
    FILE_DELETE,
    FILE_MODIFIED,
    FILE_TRUNC,
    FileObject,
    PortEvent,
)
from portcompat._engine import Engine
from portcompat._files import changed
from portcompat.abc import FileStatus, FileWatcher
from portcompat.backends._pair import drain, signal, signal_pair
from tests.scripted import ScriptedDriver

FILE, FIFO = 0o100644, 0o010644
SLOTS = 8


class ScriptedWatcher(FileWatcher):
    bits = int(FILE_MODIFIED | FILE_ATTRIB | FILE_DELETE)
    made: ClassVar[list["ScriptedWatcher"]] = []

    def __init__(self) -> None:
        self.made.append(self)
        self.tokens: dict[int, bytes] = {}
        self.status = FileStatus(1, 2, FILE, 1, 0, 10, 20, 30)
        self.next: list[tuple[int, int]] = []
        self.refuse = False
        self.meanwhile: Callable[[], object] = lambda: None  # what a signal handler does
        self._ends = signal_pair()

    def watch(self, token: int, path: bytes, follow: bool, bits: int) -> FileStatus:
        if self.refuse:
            raise FileNotFoundError(errno.ENOENT, "gone")
        self.meanwhile()
        self.tokens[token] = path
        return self.status

    def unwatch(self, token: int) -> None:
        self.tokens.pop(token, None)

    def read(self, reports: deque[tuple[int, int]]) -> None:
        drain(self._ends[0])
        reports.extend(self.next)
        self.next.clear()

    def fileno(self) -> int:
        return self._ends[0].fileno()

    def close(self) -> None:
        for end in self._ends:
            end.close()

    # The script

    @property
    def last(self) -> int:
        return max(self.tokens)

    def report(self, token: int, bits: int) -> None:
        self.next.append((token, int(bits)))
        signal(self._ends[1])


class Stage:
    """A port, its watcher, and a driver that knows nothing but the watcher's descriptor."""

    def __init__(self) -> None:
        self.driver = ScriptedDriver()
        self.engine = Engine(self.driver, SLOTS, lambda: ScriptedWatcher)
        self.file = FileObject("x")
        self.associate(self.file, "first")
        self.watcher = ScriptedWatcher.made[-1]

    def associate(
        self,
        file: FileObject,
        user: object = None,
        events: int = FILE_MODIFIED,
        stamps: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        self.engine.associate_file(file, os.fsencode(file.name), stamps, int(events), user)

    def happens(self, token: int, bits: int) -> None:
        self.watcher.report(token, bits)
        if self.watcher.fileno() in self.driver.armed:
            self.driver.report(self.watcher.fileno(), 1)

    def take(self) -> list[PortEvent]:
        return self.engine.getn(99, 1, 0)


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.engine.close()


@pytest.mark.parametrize(
    ("stamps", "mode", "expected"),
    [
        ((0, 0, 0), FILE, 0),
        ((10, 20, 30), FILE, 0),
        ((11, 20, 30), FILE, FILE_ACCESS),
        ((10, 19, 30), FILE, FILE_MODIFIED),
        ((10, 20, 31), FILE, FILE_ATTRIB),
        ((1, 1, 1), FILE, FILE_ACCESS | FILE_MODIFIED | FILE_ATTRIB),
        ((0, 1, 0), FILE, FILE_MODIFIED),
        ((1, 1, 1), FIFO, 0),
    ],
)
def test_stamps_that_are_known_are_compared(
    stamps: tuple[int, int, int], mode: int, expected: int
) -> None:
    assert changed(stamps, FileStatus(1, 2, mode, 1, 0, 10, 20, 30)) == expected


def test_a_report_is_an_event_and_ends_the_interest(stage: Stage) -> None:
    token = stage.watcher.last
    stage.happens(token, FILE_MODIFIED)
    assert [(e.object, e.events, e.user) for e in stage.take()] == [
        (stage.file, FILE_MODIFIED, "first")
    ]
    stage.happens(token, FILE_MODIFIED)
    assert stage.take() == []


def test_a_report_about_a_former_life_means_nothing(stage: Stage) -> None:
    former = stage.watcher.last
    stage.associate(stage.file, "second")
    assert list(stage.watcher.tokens) == [stage.watcher.last] != [former]
    stage.happens(former, FILE_MODIFIED)
    stage.happens(former, FILE_DELETE)
    assert stage.take() == []
    stage.happens(stage.watcher.last, FILE_MODIFIED)
    assert [event.user for event in stage.take()] == ["second"]


def test_what_the_watcher_comes_across_stands_before_the_event_of_the_stamps(stage: Stage) -> None:
    stage.watcher.report(stage.watcher.last, FILE_MODIFIED)  # read by the next `associate`
    stage.associate(FileObject("y"), "second", stamps=(0, 1, 0))
    assert [event.user for event in stage.take()] == ["first", "second"]


def test_a_refused_association_leaves_the_former_one(stage: Stage) -> None:
    token = stage.watcher.last
    stage.watcher.refuse = True
    with pytest.raises(FileNotFoundError):
        stage.associate(stage.file, "second")
    assert list(stage.watcher.tokens) == [token]
    stage.happens(token, FILE_MODIFIED)
    assert [event.user for event in stage.take()] == ["first"]


def test_what_the_watcher_cannot_see_may_be_asked_beside_what_it_can(stage: Stage) -> None:
    stage.associate(stage.file, events=FILE_MODIFIED | FILE_TRUNC)
    with pytest.raises(OSError) as error:
        stage.associate(stage.file, events=FILE_TRUNC)
    assert error.value.errno == errno.ENOTSUP
    stage.associate(stage.file, events=0)


def test_an_exception_takes_the_place_of_an_event_and_ends_the_association(stage: Stage) -> None:
    token = stage.watcher.last
    stage.happens(token, FILE_MODIFIED)
    assert stage.engine.pending() == 1
    stage.happens(token, FILE_DELETE)
    assert [event.events for event in stage.take()] == [FILE_DELETE]
    assert stage.watcher.tokens == {}
    with pytest.raises(OSError) as error:
        stage.engine.dissociate_file(stage.file)
    assert error.value.errno == errno.ENOENT


def test_a_watcher_that_says_nothing_of_use_forgets_what_was_retrieved(stage: Stage) -> None:
    token = stage.watcher.last
    stage.happens(token, FILE_MODIFIED)
    stage.take()
    for _ in range(16):
        assert token in stage.watcher.tokens
        stage.driver.report(stage.watcher.fileno(), 1)
        stage.take()
    assert stage.watcher.tokens == {}
    stage.associate(stage.file, "again")
    stage.happens(stage.watcher.last, FILE_MODIFIED)
    assert [event.user for event in stage.take()] == ["again"]


def test_an_object_whose_event_was_retrieved_is_let_go_with_its_slot(stage: Stage) -> None:
    for _ in range(3 * SLOTS):
        file = FileObject("x")
        stage.associate(file)
        stage.happens(stage.watcher.last, FILE_MODIFIED)
        assert [event.object for event in stage.take()] == [file]
        reference = weakref.ref(file)
        del file
        assert reference() is None
    for _ in range(SLOTS - 2):  # all but those of the first and of the last object
        stage.engine.send(0, None)


def test_files_whose_objects_nobody_has_do_not_fill_the_port(stage: Stage) -> None:
    for number in range(3 * SLOTS):
        stage.watcher.status = stage.watcher.status._replace(ino=number)
        stage.associate(FileObject("x"), number)
        stage.happens(stage.watcher.last, FILE_MODIFIED)
        assert [event.user for event in stage.take()] == [number]


def test_the_watcher_has_some_hundred_tokens_of_what_was_retrieved_and_no_more() -> None:
    stage = Stage()
    stage.engine.close()
    stage.engine = Engine(stage.driver, 1000, lambda: ScriptedWatcher)
    files = [FileObject("x") for _ in range(600)]
    for number, file in enumerate(files):
        stage.associate(file)
        stage.watcher = ScriptedWatcher.made[-1]
        stage.watcher.status = stage.watcher.status._replace(ino=number)
        stage.happens(stage.watcher.last, FILE_MODIFIED)
        assert len(stage.take()) == 1
        assert len(stage.watcher.tokens) < 300
    stage.associate(files[0], "again")
    stage.happens(stage.watcher.last, FILE_MODIFIED)
    assert [event.user for event in stage.take()] == ["again"]
    stage.engine.close()


def test_what_is_reported_of_a_new_life_and_what_its_stamps_say_is_one_event(stage: Stage) -> None:
    stage.watcher.report(stage.watcher.last + 1, FILE_ATTRIB)
    stage.associate(FileObject("y"), "new", FILE_MODIFIED | FILE_ATTRIB, (0, 1, 0))
    assert [(event.user, event.events) for event in stage.take()] == [
        ("new", FILE_MODIFIED | FILE_ATTRIB)
    ]


def test_an_exception_of_a_new_life_is_alone_whatever_its_stamps_say(stage: Stage) -> None:
    stage.watcher.report(stage.watcher.last + 1, FILE_DELETE)
    stage.associate(FileObject("y"), "new", FILE_MODIFIED | FILE_ATTRIB, (0, 1, 0))
    assert [(event.user, event.events) for event in stage.take()] == [("new", FILE_DELETE)]


def test_the_last_slot_is_not_given_to_an_association_when_a_handler_has_taken_it(
    stage: Stage,
) -> None:
    for _ in range(SLOTS - 2):
        stage.engine.send(0, None)
    stage.watcher.meanwhile = lambda: stage.engine.send(0, "the last")
    with pytest.raises(OSError) as error:
        stage.associate(FileObject("y"))
    assert error.value.errno == errno.EAGAIN
    assert len(stage.watcher.tokens) == 1
    assert [event.user for event in stage.take()][-1] == "the last"
    stage.watcher.meanwhile = lambda: None
    stage.associate(FileObject("y"))
    assert len(stage.watcher.tokens) == 2


def test_of_one_file_twenty_that_were_retrieved_are_kept() -> None:
    stage = Stage()
    stage.engine.close()
    stage.engine = Engine(stage.driver, 100, lambda: ScriptedWatcher)
    files = [FileObject("x") for _ in range(50)]
    for file in files:
        stage.associate(file)
        stage.watcher = ScriptedWatcher.made[-1]
        stage.happens(stage.watcher.last, FILE_MODIFIED)
        assert len(stage.take()) == 1
    for _ in range(100 - 21):
        stage.engine.send(0, None)
    with pytest.raises(OSError) as error:
        stage.engine.send(0, None)
    assert error.value.errno == errno.EAGAIN
    stage.engine.close()


def test_an_event_that_was_taken_can_be_put_back(stage: Stage) -> None:
    stage.happens(stage.watcher.last, FILE_DELETE)
    events = stage.take()
    stage.engine._give_back(list(events))
    assert stage.take() == events


def test_an_event_that_was_taken_is_not_put_back_over_a_new_association(stage: Stage) -> None:
    stage.happens(stage.watcher.last, FILE_MODIFIED)
    events = stage.take()
    stage.associate(stage.file, "again")
    stage.engine._give_back(events)
    assert stage.take() == []
    stage.happens(stage.watcher.last, FILE_MODIFIED)
    assert [event.user for event in stage.take()] == ["again"]


def test_an_event_that_was_taken_is_not_put_back_when_its_object_was_dropped(stage: Stage) -> None:
    stage.happens(stage.watcher.last, FILE_MODIFIED)
    events = stage.take()
    with pytest.raises(FileNotFoundError):
        stage.engine.dissociate_file(stage.file)
    stage.engine._give_back(events)
    assert stage.take() == []


def test_an_exception_is_alone_whatever_the_watcher_says_with_it(stage: Stage) -> None:
    stage.happens(stage.watcher.last, FILE_DELETE | FILE_MODIFIED)
    assert [event.events for event in stage.take()] == [FILE_DELETE]


def test_a_port_that_is_closed_lets_go_of_files_and_users(stage: Stage) -> None:
    file, user = FileObject("y"), FileObject("a user")
    references = [weakref.ref(file), weakref.ref(user)]
    stage.associate(file, user)
    del file, user
    assert None not in [reference() for reference in references]
    stage.engine.close()
    assert [reference() for reference in references] == [None, None]
