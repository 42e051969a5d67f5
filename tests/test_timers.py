"""Timers over a driver that does as it is told, and the parts that have no rule."""

import errno
import gc
import signal
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from portcompat import Port, limits
from portcompat._engine import Engine
from portcompat._expirations import PortTimer
from portcompat._timer_ids import TimerIds, ids
from portcompat._timer_kinds import KillingTimer, SilentTimer
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._fork import in_fork_child
from portcompat.conformance._threads import waiting
from portcompat.timers import Timer
from tests.scripted import ScriptedDriver

SECOND = 1_000_000_000
MONOTONIC = time.CLOCK_MONOTONIC
REALTIME = time.CLOCK_REALTIME


@pytest.fixture
def driver() -> ScriptedDriver:
    return ScriptedDriver()


@pytest.fixture
def engine(driver: ScriptedDriver) -> Iterator[Engine]:
    engine = Engine(driver, 10)
    yield engine
    engine.close()


def counts(engine: Engine) -> list[tuple[int, int]]:
    """(number, count) of the events of timers that there are."""
    return [(event.object, event.events) for event in engine.getn(10, 1, 0)]


def alarms(driver: ScriptedDriver) -> int:
    return sum(call[0] == "set_alarm" for call in driver.calls)


class TestAlarms:
    def test_to_set_and_cancel_while_nobody_waits_does_not_bother_the_driver(
        self, engine: Engine, driver: ScriptedDriver
    ) -> None:
        timer = engine.timer(MONOTONIC, 1, None)
        before = alarms(driver)
        for value in (3 * SECOND, SECOND, None, 5 * SECOND):
            timer.set(value, 0, False)
        assert alarms(driver) == before

    def test_what_it_takes_to_wait_is_asked_for_when_a_timer_is_made(
        self, engine: Engine, driver: ScriptedDriver
    ) -> None:
        engine.timer(MONOTONIC, 1, None)
        assert driver.calls == [("set_alarm", MONOTONIC, None)]
        engine.timer(MONOTONIC, 2, None)
        assert alarms(driver) == 1

    def test_who_waits_is_told_when_the_first_deadline_comes_nearer(
        self, engine: Engine, driver: ScriptedDriver
    ) -> None:
        late, soon = (engine.timer(MONOTONIC, number, None) for number in (1, 2))
        late.set(100 * SECOND, 0, False)
        getter = waiting(lambda: engine.get(None))
        soon.set(10 * SECOND, 0, False)
        driver.advance(10)
        event = getter.result()
        assert event is not None
        assert event.object == 2

    def test_an_alarm_that_is_past_is_dropped_before_the_next_wait(
        self, engine: Engine, driver: ScriptedDriver
    ) -> None:
        timer = engine.timer(MONOTONIC, 1, None)
        timer.set(SECOND, 0, False)
        getter = waiting(lambda: engine.getn(2, 2, None))
        driver.advance(1)
        while not engine._queue.line:
            time.sleep(0.001)
        getter.at_rest()
        assert driver.alarms == {}
        engine.send(1, None)
        assert len(getter.result()) == 2

    def test_the_descriptor_is_not_readable_for_a_timer_that_was_cancelled(
        self, engine: Engine, driver: ScriptedDriver
    ) -> None:
        engine.fileno()
        timer = engine.timer(MONOTONIC, 1, None)
        timer.set(SECOND, 0, False)
        assert driver.alarms
        timer.set(None, 0, False)
        assert not driver.alarms

    def test_the_date_moves_what_is_absolute_and_nothing_else(
        self, engine: Engine, driver: ScriptedDriver
    ) -> None:
        absolute, relative = (engine.timer(REALTIME, number, None) for number in (1, 2))
        absolute.set(driver.now(REALTIME) + 100 * SECOND, 0, True)
        relative.set(100 * SECOND, 0, False)
        driver.advance(100, REALTIME)
        assert counts(engine) == [(1, 1)]
        driver.advance(100)
        assert counts(engine) == [(2, 1)]

    def test_the_date_is_set_back(self, engine: Engine, driver: ScriptedDriver) -> None:
        timer = engine.timer(REALTIME, 1, None)
        timer.set(driver.now(REALTIME) + SECOND, 0, True)
        driver.advance(-50, REALTIME)
        driver.advance(50)
        assert counts(engine) == []
        getter = waiting(lambda: engine.get(None))
        driver.advance(2)
        assert getter.result() is not None


class TestCounts:
    def test_a_slow_consumer_gets_one_event_with_all_that_passed(
        self, engine: Engine, driver: ScriptedDriver
    ) -> None:
        timer = engine.timer(MONOTONIC, 1, None)
        timer.set(SECOND, SECOND, False)
        driver.advance(1)
        assert engine.pending() == 1
        driver.advance(9)
        assert counts(engine) == [(1, 10)]
        driver.advance(0.5)
        assert counts(engine) == []
        driver.advance(0.5)
        assert counts(engine) == [(1, 1)]

    def test_the_count_has_a_limit(self, engine: Engine, driver: ScriptedDriver) -> None:
        timer = engine.timer(MONOTONIC, 1, None)
        timer.set(1, 1, False)
        driver.advance(3600)
        assert counts(engine) == [(1, 2**31 - 1)]

    def test_settings_add_up_while_the_event_is_queued(
        self, engine: Engine, driver: ScriptedDriver
    ) -> None:
        timer = engine.timer(MONOTONIC, 1, None)
        timer.set(SECOND, SECOND, False)
        driver.advance(2)
        assert engine.pending() == 1
        timer.set(10 * SECOND, 0, False)
        driver.advance(10)
        timer.set(None, 0, False)
        driver.advance(100)
        assert counts(engine) == [(1, 3)]

    def test_what_is_put_back_keeps_its_count(self, engine: Engine, driver: ScriptedDriver) -> None:
        timer = engine.timer(MONOTONIC, 1, None)
        ids.timers[1] = timer
        timer.set(SECOND, SECOND, False)
        driver.advance(5)
        assert engine.getn(2, 2, 0)[0].events == 5
        driver.advance(5)
        events = engine.getn(1, 1, 0)
        engine._give_back(events)
        driver.advance(2)
        assert counts(engine) == [(1, 7)]
        del ids.timers[1]


class TestSlots:
    def test_a_timer_takes_a_slot_and_gives_it_back(self, engine: Engine) -> None:
        timers = [engine.timer(MONOTONIC, number, None) for number in range(10)]
        with pytest.raises(OSError) as error:
            engine.timer(MONOTONIC, 10, None)
        assert error.value.errno == errno.EAGAIN
        with pytest.raises(OSError):
            engine.send(1, None)
        timers[3].delete()
        engine.send(1, None)
        with pytest.raises(OSError):
            engine.send(1, None)

    def test_a_timer_of_a_port_that_is_gone_can_be_collected(self) -> None:
        port = Port()
        timer = port.timer(user=[])
        number = timer.id
        port.close()
        assert ids.timers[number] is not None
        del timer
        gc.collect()
        assert number not in ids.timers

    def test_a_port_that_is_closed_ends_timers_that_nobody_has(self) -> None:
        port = Port()
        number = port.timer().id
        gc.collect()
        assert number in ids.timers
        port.close()
        assert number not in ids.timers

    def test_an_armed_timer_takes_less_than_500_bytes(self) -> None:
        count = 20_000
        with Port(max_events=count + 1) as port:
            timers: list[Timer] = []
            before = sys.getallocatedblocks()
            tracemalloc.start()
            try:
                start = tracemalloc.get_traced_memory()[0]
                for number in range(count):
                    timers.append(port.timer())
                    timers[-1].set(after_ns=1000 * SECOND + number * 12_347)
                used = tracemalloc.get_traced_memory()[0] - start
            finally:
                tracemalloc.stop()
            assert used / count < 500
            while timers:
                timers.pop().delete()
            gc.collect()
            assert sys.getallocatedblocks() - before < count / 10


class TestTheObject:
    def test_it_prints_its_number(self) -> None:
        with Port() as port:
            timer = port.timer()
            assert repr(timer) == f"<Timer {timer.id}>"
            timer.delete()
            assert repr(timer) == f"<Timer {timer.id} deleted>"

    def test_only_a_port_makes_one(self) -> None:
        with pytest.raises(TypeError, match="Port.timer"):
            Timer()

    @pytest.mark.parametrize(
        "arguments", [{}, {"after": 1, "at": 1}, {"after": 1, "at_ns": 1}, {"every": 1}]
    )
    def test_it_wants_to_know_when_once(self, arguments: dict[str, Any]) -> None:
        with Port() as port, port.timer() as timer:
            with pytest.raises(TypeError, match="after, at, after_ns and at_ns"):
                timer.set(**arguments)
            with pytest.raises(TypeError, match="exclude"):
                timer.set(after=1, every=1, every_ns=1)


class TestIds:
    def test_the_lowest_that_is_free_comes_first(self) -> None:
        table = TimerIds()
        assert [table.reserve() for _ in range(5)] == [0, 1, 2, 3, 4]
        for number in (3, 1):
            table.release(number)
        assert [table.reserve() for _ in range(3)] == [1, 3, 5]

    def test_only_its_timer_can_give_a_number_back(self, engine: Engine) -> None:
        table = TimerIds()
        number = table.reserve()
        timer = table.timers[number] = engine.timer(MONOTONIC, number, None)
        table.release(number)
        assert table.timers[number] is timer
        table.release(number, timer)
        table.release(number, timer)
        assert table.reserve() == number
        assert table.reserve() == number + 1

    def test_at_the_limit_it_is_eagain(self, monkeypatch: pytest.MonkeyPatch) -> None:
        table = TimerIds()
        monkeypatch.setattr(limits, "max_timers", 2)
        assert [table.reserve(), table.reserve()] == [0, 1]
        with pytest.raises(OSError) as error:
            table.reserve()
        assert error.value.errno == errno.EAGAIN
        table.release(0)
        assert table.reserve() == 0

    def test_a_child_can_make_timers_whoever_held_the_lock(self) -> None:
        held, done = threading.Event(), threading.Event()

        def hold() -> None:
            with ids._lock:
                held.set()
                done.wait(SOON)

        holder = threading.Thread(target=hold)
        holder.start()
        assert held.wait(SOON)

        def child() -> None:
            with Port() as port, port.timer() as timer:
                assert timer.id == 0
                timer.set(after=0)
                port.get(SOON)

        try:
            in_fork_child(child)
        finally:
            done.set()
            holder.join()


class TestKinds:
    @pytest.fixture
    def timer(self) -> Iterator[KillingTimer]:
        number = ids.reserve()
        timer = KillingTimer(MONOTONIC, number, signal.SIGUSR2)
        yield timer
        if not timer.deleted:
            timer.delete()
        ids.release(number)

    @pytest.fixture
    def handled(self) -> Iterator[list[int]]:
        handled: list[int] = []
        former = signal.signal(signal.SIGUSR2, lambda number, _: handled.append(number))
        yield handled
        signal.signal(signal.SIGUSR2, former)

    def test_a_thread_sends_the_signal_where_the_kernel_does_not(
        self, timer: KillingTimer, handled: list[int]
    ) -> None:
        timer.set(1_000_000, 0, False)
        deadline = time.monotonic() + SOON
        while not handled:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        assert handled == [signal.SIGUSR2]
        assert timer.overrun() == 0
        timer.delete()
        with pytest.raises(OSError) as error:
            timer.overrun()
        assert error.value.errno == errno.EINVAL

    def test_it_counts_what_expires_while_the_signal_is_pending(self) -> None:
        def child() -> None:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
            timer = KillingTimer(MONOTONIC, ids.reserve(), signal.SIGUSR2)
            timer.set(1_000_000, 1_000_000, False)
            deadline = time.monotonic() + SOON
            while timer.overrun() < 5:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            timer.set(None, 0, False)
            assert signal.sigtimedwait({signal.SIGUSR2}, SOON) is not None
            timer.delete()

        in_fork_child(child)

    def test_a_silent_timer_is_deleted_once(self) -> None:
        timer = SilentTimer(MONOTONIC)
        timer.set(SECOND, 5, False)
        timer.delete()
        assert timer.deleted
        for call in (timer.get, timer.overrun, timer.delete, lambda: timer.set(1, 1, False)):
            with pytest.raises(OSError) as error:
                call()
            assert error.value.errno == errno.EINVAL


def test_a_timer_that_is_deleted_while_queued_leaves_no_event(
    engine: Engine, driver: ScriptedDriver
) -> None:
    timers = [engine.timer(MONOTONIC, number, None) for number in range(3)]
    for timer in timers:
        timer.set(SECOND, SECOND, False)
    driver.advance(1)
    assert engine.pending() == 3
    timers[1].delete()
    assert engine.pending() == 2
    assert counts(engine) == [(0, 1), (2, 1)]


@pytest.mark.skipif(sys.platform != "linux", reason="the numbers are those of Linux")
@pytest.mark.parametrize("clock", [4, 5, 6, 8, 9, 11])
@pytest.mark.parametrize("backend", ["epoll", "poll", "select"])
def test_a_clock_that_only_some_drivers_could_wait_on_is_refused(backend: str, clock: int) -> None:
    with Port(backend) as port, pytest.raises(OSError) as error:
        port.timer(clock)
    assert error.value.errno == errno.EINVAL


def test_the_rest_of_many_that_are_due_stays(engine: Engine, driver: ScriptedDriver) -> None:
    timers: list[PortTimer] = [engine.timer(MONOTONIC, number, None) for number in range(6)]
    for timer in timers:
        timer.set(SECOND, 0, False)
    driver.advance(2)
    assert [event.object for event in engine.getn(2, 1, 0)] == [0, 1]
    engine.send(7, None)
    assert [event.object for event in engine.getn(10, 1, 0)] == [2, 3, 4, 5, 0]


def test_many_that_are_due_come_in_their_order_whatever_kind_they_are() -> None:
    count = 3_000
    driver = ScriptedDriver()
    engine = Engine(driver, count)
    start = driver.now(MONOTONIC)
    expected = []
    for number in range(count):
        timer = engine.timer(MONOTONIC, number, None)
        after = number * 7_919 % count // (1 if number % 3 else 2)  # some at the same time
        timer.set(start + SECOND + after, 100 * SECOND if number % 500 == 0 else 0, True)
        expected.append((after, number))
        if number % 7 == 0:
            timer.set(None, 0, False)
            expected.pop()
    driver.advance(2)
    got: list[int] = []
    while events := engine.getn(700, 1, 0):
        got += [event.object for event in events]
        assert all(event.events == 1 for event in events)
    assert got == [number for _, number in sorted(expected)]
    engine.close()


@pytest.mark.parametrize("count", [5, 3_000])
def test_the_rest_of_many_that_are_due_waits_anew_if_the_date_is_set_back(count: int) -> None:
    driver = ScriptedDriver()
    engine = Engine(driver, count)
    timers = [engine.timer(REALTIME, number, None) for number in range(count)]
    start = driver.now(REALTIME) + SECOND
    for number, timer in enumerate(timers):
        timer.set(start + number // 2, 0, True)
    driver.advance(5)
    assert [event.object for event in engine.getn(3, 1, 0)] == [0, 1, 2]
    driver.advance(-60, REALTIME)
    assert engine.getn(count, 1, 0) == []
    assert all(50 * SECOND < timer.get()[0] < 60 * SECOND for timer in timers[3:])
    driver.advance(60, REALTIME)
    assert [event.object for event in engine.getn(count, 1, 0)] == list(range(3, count))
    engine.close()
