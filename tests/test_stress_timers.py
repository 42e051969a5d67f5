"""Many timers, many threads: none early, none lost, none left."""

import errno
import gc
import itertools
import random
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from threading import Barrier, Event

import pytest

from portcompat import SIGEV_PORT, Port, PortEvent
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._errors import errno_of
from portcompat.conformance._threads import in_thread
from portcompat.conformance._timers import (
    FAR,
    MS,
    SECOND,
    US,
    Counted,
    boundaries,
    now,
    sleep_until,
)
from portcompat.timers import SigEvent, Timer, timer_create, timer_delete, timer_settime_ns

MakePort = Callable[..., Port]
Scale = Callable[[int, int, int], int]

THREADS = 8
PATIENCE = 240.0
MONOTONIC = time.CLOCK_MONOTONIC


@pytest.fixture(params=["CLOCK_MONOTONIC", "CLOCK_REALTIME", "CLOCK_BOOTTIME"])
def clock(request: pytest.FixtureRequest, make_port: MakePort) -> int:
    number: int = getattr(time, request.param)
    try:
        make_port().timer(number).delete()
    except OSError as error:
        assert error.errno == errno.EINVAL
        pytest.skip(f"this backend cannot wait on {request.param}")
    return number


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads take turns as often as CPython can."""
    former = sys.getswitchinterval()
    sys.setswitchinterval(0.000_005)
    yield
    sys.setswitchinterval(former)


def blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()


def test_no_timer_is_early(make_port: MakePort, clock: int) -> None:
    count = 10_000
    port = make_port(max_events=count)
    chance = random.Random(3)
    due: dict[int, int] = {}
    timers = [port.timer(clock, number) for number in range(count)]
    for number, timer in enumerate(timers):
        span = chance.randrange(1, SECOND)
        due[number] = now(clock) + span
        if number % 2:
            timer.set(after_ns=span)
        else:
            timer.set(at_ns=due[number])
    seen: list[int] = []
    while len(seen) < count:
        events = port.getn(chance.choice([1, 8, 64]), 1, SOON)
        told = now(clock)
        assert events
        early = [event.user for event in events if due[event.user] > told]
        assert not early
        assert {event.events for event in events} == {1}
        seen += [event.user for event in events]
    assert sorted(seen) == list(range(count))
    assert port.getn(8, 1, 0) == []
    for timer in timers:
        timer.delete()


def test_the_phase_of_many_periods_does_not_drift(port: Port, scale: Scale) -> None:
    periods = scale(2_000, 10_000, 100_000)
    with port.timer(MONOTONIC) as timer:
        start = now(MONOTONIC) + MS
        timer.set(at_ns=start, every_ns=MS)
        counted = Counted(MONOTONIC, start, MS)
        while counted.taken < periods:
            counted.take(port)  # each time within one period of where it should be
        asked = now(MONOTONIC)
        left = timer.remaining_ns
        told = now(MONOTONIC)
        nexts = {start + boundaries(start, MS, moment) * MS for moment in (asked, told)}
        assert any(following - told <= left <= following - asked for following in nexts)


@pytest.mark.deadline(120)
def test_the_counts_of_a_slow_consumer_add_up_exactly(port: Port, scale: Scale) -> None:
    chance = random.Random(5)
    periods = [US * n for n in (50, 130, 700, 1_000, 3_700, 10_000, 41_000)]
    timers = [port.timer(MONOTONIC, number) for number in range(len(periods))]
    start = now(MONOTONIC) + 5 * MS
    for timer, every in zip(timers, periods, strict=True):
        timer.set(at_ns=start, every_ns=every)
    taken: Counter[int] = Counter()
    end = time.monotonic() + scale(1, 10, 100)
    while time.monotonic() < end:
        sleep_until(MONOTONIC, now(MONOTONIC) + chance.randrange(30 * MS))
        for event in port.getn(chance.randrange(1, 8), 1, SOON):
            taken[event.user] += event.events
            moment = now(MONOTONIC)
            assert taken[event.user] <= boundaries(start, periods[event.user], moment)
    bounds = []
    for timer, every in zip(timers, periods, strict=True):
        before = boundaries(start, every, now(MONOTONIC))
        timer.cancel()
        bounds.append((before, boundaries(start, every, now(MONOTONIC))))
    for event in port.getn(8, 1, 0):
        taken[event.user] += event.events
    assert port.getn(8, 1, 0) == []
    for number, (least, most) in enumerate(bounds):
        assert least <= taken[number] <= most
    for timer in timers:
        timer.delete()


class Life:
    """What is known of one timer of a storm, and what its events said."""

    def __init__(self) -> None:
        self.id = -1
        self.at_once = 0  # settings whose expiry is certain
        self.settings = 0
        self.deleted: int | None = None  # the tick at which deleting was over
        self.counts: list[int] = []


class Storm:
    """Threads that make, set, disarm and delete timers of a port, and others that get."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.ticks = itertools.count()
        self.wrong: list[str] = []
        self.over = Event()

    def make(self, clock: int) -> tuple[Timer, Life]:
        life = Life()
        timer = self.port.timer(clock, life)
        life.id = timer.id
        return timer, life

    def work(self, seed: int, rounds: int) -> list[tuple[Timer, Life]]:
        """One thread's share; returns the timers that it has not deleted, with their lives."""
        chance = random.Random(seed)
        timers: list[tuple[Timer, Life]] = []
        for _ in range(rounds):
            what = chance.random()
            if what < 0.3 or not timers:
                if len(timers) < 50:
                    clock = chance.choice([time.CLOCK_MONOTONIC, time.CLOCK_REALTIME])
                    timers.append(self.make(clock))
                continue
            timer, life = timers[chance.randrange(len(timers))]
            if what < 0.5:
                life.settings += 1
                life.at_once += 1
                timer.set(after=0)
            elif what < 0.75:
                life.settings += 1
                timer.set(after_ns=chance.randrange(1, MS))
            elif what < 0.85:
                timer.cancel()
            else:
                timers.remove((timer, life))
                timer.delete()
                life.deleted = next(self.ticks)
        return timers

    def get(self, seed: int) -> int:
        """Take events until the storm is over and nothing is left; returns how many."""
        chance = random.Random(seed)
        taken = 0
        while True:
            last = self.over.is_set()
            began = next(self.ticks)
            events = self.port.getn(chance.choice([1, 4, 64]), 1, 0.002)
            taken += len(events)
            for event in events:
                self._look_at(event, began)
            if len({id(event.user) for event in events}) != len(events):
                self.wrong.append(f"two events of one timer: {events}")
            if last and not events:
                return taken

    def _look_at(self, event: PortEvent, began: int) -> None:
        life: Life = event.user
        life.counts.append(event.events)
        if event.object != life.id:
            self.wrong.append(f"{event} of timer {life.id}")
        if life.deleted is not None and life.deleted < began:
            self.wrong.append(f"{event} after the timer was deleted")


@pytest.mark.usefixtures("switching")
@pytest.mark.deadline(120)
def test_a_storm_of_timers(make_port: MakePort, scale: Scale) -> None:
    port = make_port(max_events=1_000)
    first = port.timer()
    lowest = first.id
    first.delete()
    storm = Storm(port)
    getters = [in_thread(partial(storm.get, n)) for n in range(THREADS // 2)]
    rounds = scale(1_500, 15_000, 300_000)
    workers = [in_thread(partial(storm.work, n, rounds)) for n in range(THREADS // 2)]
    left = [both for worker in workers for both in worker.result(PATIENCE)]
    for timer, life in left:  # now each expires for certain
        life.settings += 1
        life.at_once += 1
        timer.set(after=0)
    storm.over.set()
    assert sum(getter.result(PATIENCE) for getter in getters) > 0
    assert storm.wrong == []
    for _, life in left:
        assert life.at_once <= sum(life.counts) <= life.settings
    assert port.pending() == 0
    for timer, _ in left:
        timer.delete()
    with port.timer() as timer:
        assert timer.id == lowest
    for _ in range(1_000):
        port.send(0)
    assert errno_of(port.send, 0) == errno.EAGAIN


@pytest.mark.usefixtures("switching")
def test_every_expiry_is_told_once_however_many_threads_get(port: Port, scale: Scale) -> None:
    rounds = scale(200, 2_000, 20_000)
    timers = [port.timer(MONOTONIC, number) for number in range(THREADS)]
    over = Event()

    def get() -> Counter[int]:
        taken: Counter[int] = Counter()
        while True:
            last = over.is_set()
            events = port.getn(3, 1, 0.002)
            for event in events:
                taken[event.user] += event.events
            if last and not events:
                return taken

    def set_often(timer: Timer) -> None:
        for _ in range(rounds):
            timer.set(after=0)

    getters = [in_thread(get) for _ in range(THREADS)]
    for setter in [in_thread(partial(set_often, timer)) for timer in timers]:
        setter.result(PATIENCE)
    over.set()
    taken = sum((getter.result(PATIENCE) for getter in getters), Counter[int]())
    assert taken == dict.fromkeys(range(THREADS), rounds)
    for timer in timers:
        timer.delete()


@pytest.mark.usefixtures("switching")
def test_a_timer_that_is_deleted_as_it_expires_is_told_before_or_never(
    port: Port, scale: Scale
) -> None:
    for turn in range(scale(300, 3_000, 30_000)):
        timer = port.timer(user=turn)
        together = Barrier(2)

        def get(together: Barrier = together) -> list[PortEvent]:
            together.wait(SOON)
            return port.getn(4, 1, 0.002)

        getter = in_thread(get)
        timer.set(after_ns=100 * US)
        together.wait(SOON)
        sleep_until(MONOTONIC, now(MONOTONIC) + turn % 40 * 10 * US)
        timer.delete()
        assert port.getn(4, 1, 0) == []
        assert {event.user for event in getter.result()} <= {turn}


@pytest.mark.usefixtures("switching")
def test_ids_are_given_once_to_threads_that_make_timers_at_once(port: Port, scale: Scale) -> None:
    each = scale(100, 1_000, 10_000)
    together = Barrier(THREADS)

    def make() -> list[int]:
        together.wait(SOON)
        sigevent = SigEvent(SIGEV_PORT, port=port)
        return [timer_create(MONOTONIC, sigevent) for _ in range(each)]

    for _ in range(3):
        ids = [n for maker in [in_thread(make) for _ in range(THREADS)] for n in maker.result()]
        assert len(set(ids)) == len(ids)

        def delete(some: list[int]) -> None:
            for number in some:
                timer_delete(number)

        shares = [ids[n::THREADS] for n in range(THREADS)]
        for deleter in [in_thread(partial(delete, share)) for share in shares]:
            deleter.result()
        with port.timer() as timer:
            assert timer.id <= min(ids)


def test_timers_that_are_made_used_and_deleted_leave_no_memory_behind(
    port: Port, scale: Scale
) -> None:
    def turn() -> None:
        timers = [port.timer(user=object()) for _ in range(10)]
        for timer in timers:
            timer.set(after=0, every=100)
            timer.set(after=0)
        timers[0].cancel()
        port.getn(8, 8, SOON)
        for timer in timers:
            timer.set(after_ns=FAR)
            timer.delete()
        assert port.pending() == 0

    rounds = scale(200, 2_000, 20_000)
    for _ in range(50):
        turn()
    before = blocks()
    for _ in range(rounds):
        turn()
    assert blocks() - before < rounds / 4


@pytest.mark.parametrize("how", ["set anew", "cancel", "delete"])
def test_what_is_no_longer_armed_takes_no_memory(port: Port, scale: Scale, how: str) -> None:
    rounds = scale(20_000, 200_000, 2_000_000)
    timer = port.timer()

    def turn(number: int) -> None:
        nonlocal timer
        timer.set(after_ns=FAR + number)
        if how == "cancel":
            timer.cancel()
        elif how == "delete":
            timer.delete()
            timer = port.timer()

    for number in range(2_000):
        turn(number)
    before = blocks()
    for number in range(rounds):
        turn(number)
    assert blocks() - before < rounds / 10
    timer.delete()


@pytest.mark.deadline(300)  # to trace each allocation takes its time
def test_an_armed_timer_takes_less_than_500_bytes(make_port: MakePort, scale: Scale) -> None:
    count = scale(50_000, 1_000_000, 1_000_000)
    port = make_port(max_events=count)
    chance = random.Random(7)
    sigevent = SigEvent(SIGEV_PORT, port=port)
    timer_delete(timer_create(MONOTONIC, sigevent))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        first = timer_create(MONOTONIC, sigevent)
        timer_settime_ns(first, 0, FAR)
        for _ in range(count - 1):
            timer_settime_ns(timer_create(MONOTONIC, sigevent), 0, FAR + chance.randrange(FAR))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / count < 500
    for number in range(first, first + count):
        with suppress(OSError):
            timer_delete(number)
    assert errno_of(port.send, 0) is None
