"""The threads that work off jobs."""

import threading
from collections.abc import Callable
from functools import partial
from threading import Event
from time import monotonic, sleep

import pytest

from portcompat import _workers
from portcompat._workers import Workers

SOON = 10.0


def within(condition: Callable[[], bool]) -> None:
    end = monotonic() + SOON
    while not condition():
        assert monotonic() < end
        sleep(0.001)


@pytest.fixture
def gate() -> Event:
    return Event()


def test_jobs_are_taken_in_order() -> None:
    done: list[int] = []
    workers = Workers(1, 1)
    for number in range(100):
        workers.put(partial(done.append, number))
    within(lambda: len(done) == 100)
    assert done == list(range(100))


def test_so_many_run_side_by_side(gate: Event) -> None:
    meeting = threading.Barrier(4)
    done: list[int] = []
    workers = Workers(4, 4)
    for _ in range(4):
        workers.put(lambda: done.append(meeting.wait(SOON)))
    within(lambda: len(done) == 4)


def test_more_are_made_when_jobs_pile_up_but_not_too_many(gate: Event) -> None:
    workers = Workers(2, 5)
    for _ in range(100):
        workers.put(lambda: gate.wait(SOON))
    within(lambda: workers.threads == 5)
    gate.set()
    within(lambda: workers.jobs.empty())


def test_what_may_block_for_ever_holds_up_nobody(gate: Event) -> None:
    workers = Workers(1, 50)
    for _ in range(20):
        workers.put(lambda: gate.wait(SOON), may_block=True)
    done = Event()
    workers.put(done.set)
    assert done.wait(SOON)
    assert not gate.is_set()
    gate.set()


def test_idle_ones_end_and_others_are_made_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_workers, "_IDLE", 0.001)
    workers = Workers(4, 8)
    for _ in range(50):
        done = Event()
        workers.put(done.set)
        assert done.wait(SOON)
        within(lambda: workers.threads == 0)


def test_no_job_is_forgotten_while_threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_workers, "_IDLE", 0.0001)
    workers = Workers(2, 4)
    for _ in range(2000):
        done = Event()
        workers.put(done.set)
        assert done.wait(SOON)


def test_a_job_that_raises_is_told_and_the_thread_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(str(args.exc_value)))
    workers = Workers(1, 1)

    def fail() -> None:
        raise RuntimeError("of the job")

    done = Event()
    workers.put(fail)
    workers.put(done.set)
    assert done.wait(SOON)
    assert told == ["of the job"]
    assert workers.threads == 1


def test_where_no_thread_can_be_made_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    workers = Workers(1, 1)
    monkeypatch.setattr(_workers, "start_new_thread", refuse)
    with pytest.raises(RuntimeError):
        workers.put(lambda: None)
    monkeypatch.undo()
    done = Event()
    workers.put(done.set)  # and the former one, too
    assert done.wait(SOON)
    assert workers.jobs.empty()
