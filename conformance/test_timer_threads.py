"""SIGEV_THREAD: a timer that calls a function, one call at a time."""

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from portcompat import SIGEV_THREAD, limits
from portcompat.conformance import rule
from portcompat.conformance._descriptors import A_WHILE, SOON
from portcompat.conformance._errors import errno_of
from portcompat.conformance._timers import (
    FAR,
    MS,
    PERIOD,
    boundaries,
    now,
    sleep_until,
    start_of,
)
from portcompat.timers import (
    TIMER_ABSTIME,
    SigEvent,
    timer_create,
    timer_delete,
    timer_getoverrun,
    timer_gettime,
    timer_settime,
    timer_settime_ns,
)

pytestmark = pytest.mark.usefixtures("as_default")

Create = Callable[..., int]


@pytest.fixture
def create() -> Iterator[Create]:
    """Make a timer that calls a function. It is deleted when the test is over."""
    made: list[int] = []
    before = limits.ports

    def create(
        function: Callable[[Any], object],
        value: object = None,
        clock: int = time.CLOCK_MONOTONIC,
    ) -> int:
        sigevent = SigEvent(SIGEV_THREAD, value=value, function=function)
        made.append(timer_create(clock, sigevent))
        return made[-1]

    yield create
    for timer in set(made):
        errno_of(timer_delete, timer)
    within(SOON, lambda: limits.ports <= before)  # their threads close them


def within(deadline: float, condition: Callable[[], object]) -> None:
    """Fail unless `condition` comes true in so many seconds."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


class Calls:
    """A function that notes its calls, and how many are under way at once."""

    def __init__(self, during: Callable[[], object] = lambda: None) -> None:
        self.values: list[object] = []
        self.threads: list[threading.Thread] = []
        self.overlaps = 0
        self._during = during
        self._under_way = 0

    def __call__(self, value: object) -> None:
        self._under_way += 1
        self.overlaps += self._under_way > 1
        self.threads.append(threading.current_thread())
        self._during()
        self._under_way -= 1
        self.values.append(value)


@rule("R276", "R278")
def test_the_function_is_called_with_the_value(create: Create, clock: int) -> None:
    calls, value = Calls(), object()
    timer = create(calls, value, clock)
    before = now(clock)
    timer_settime(timer, 0, 0.01)
    within(SOON, lambda: calls.values)
    assert now(clock) >= before + 10 * MS
    assert calls.values == [value]
    assert calls.values[0] is value
    sleep_until(clock, now(clock) + 20 * MS)
    assert len(calls.values) == 1


@rule("R276", "R278")
def test_it_is_called_in_a_daemon_thread_of_its_own(create: Create) -> None:
    calls = Calls()
    timer_settime(create(calls), 0, 0.001)
    within(SOON, lambda: calls.values)
    assert calls.threads[0] is not threading.current_thread()
    assert calls.threads[0].daemon


@rule("R276")
def test_a_periodic_timer_calls_again_and_again(create: Create, clock: int) -> None:
    calls = Calls()
    timer = create(calls, None, clock)
    start = now(clock) + MS
    timer_settime_ns(timer, TIMER_ABSTIME, start, 2 * MS)
    within(SOON, lambda: len(calls.values) >= 10)
    assert len(calls.values) <= boundaries(start, 2 * MS, now(clock))


@rule("R278")
@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="this host masks no signals")
def test_all_signals_are_blocked_in_the_function(create: Create) -> None:
    blocked: list[set[int]] = []
    timer = create(lambda _: blocked.append(signal.pthread_sigmask(signal.SIG_BLOCK, [])))
    timer_settime(timer, 0, 0.001)
    within(SOON, lambda: blocked)
    asked = [signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGUSR1, signal.SIGCHLD]
    assert blocked[0] >= set(asked)
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@rule("R276")
def test_calls_of_one_timer_never_overlap(create: Create) -> None:
    calls = Calls(lambda: time.sleep(0.003))
    timer_settime(create(calls), 0, 0.001, 0.001)
    within(SOON, lambda: len(calls.values) >= 15)
    assert calls.overlaps == 0


@rule("R276", "R277")
def test_expirations_during_a_call_are_merged_into_the_next(create: Create, clock: int) -> None:
    first, go_on = threading.Event(), threading.Event()
    overruns: list[int] = []

    def function(_: object) -> None:
        overruns.append(timer_getoverrun(timer))
        first.set()
        assert go_on.wait(SOON)

    timer = create(function, None, clock)
    timer_settime(timer, 0, 0.001)
    assert first.wait(SOON)
    timer_settime_ns(timer, TIMER_ABSTIME, start_of(5, clock), PERIOD)
    sleep_until(clock, now(clock) + 10 * MS)
    assert len(overruns) == 1
    go_on.set()
    within(SOON, lambda: len(overruns) == 2)
    assert overruns == [0, 4]
    sleep_until(clock, now(clock) + 20 * MS)
    assert len(overruns) == 2


@rule("R277")
def test_the_overrun_is_the_count_of_the_call_less_one(create: Create, clock: int) -> None:
    calls = Calls()
    timer = create(calls, None, clock)
    assert timer_getoverrun(timer) == 0
    timer_settime_ns(timer, TIMER_ABSTIME, start_of(7, clock), PERIOD)
    within(SOON, lambda: calls.values)
    assert timer_getoverrun(timer) == 6
    timer_settime(timer, 0, 0.001)
    within(SOON, lambda: len(calls.values) == 2)
    assert timer_getoverrun(timer) == 0


@rule("R276", "R277")
def test_the_calls_and_their_overruns_add_up(create: Create, clock: int) -> None:
    counts: list[int] = []

    def function(_: object) -> None:
        counts.append(1 + timer_getoverrun(timer))
        time.sleep(len(counts) % 4 * 0.002)

    timer = create(function, None, clock)
    start = now(clock) + MS
    timer_settime_ns(timer, TIMER_ABSTIME, start, MS)
    within(SOON, lambda: len(counts) >= 20)
    before = boundaries(start, MS, now(clock))
    timer_settime_ns(timer, TIMER_ABSTIME, 1)  # the last expiry
    after = boundaries(start, MS, now(clock))
    within(SOON, lambda: sum(counts) >= before + 1)
    sleep_until(clock, now(clock) + 20 * MS)
    assert sum(counts) <= after + 1


@rule("R276")
def test_two_timers_may_call_at_the_same_time(create: Create) -> None:
    together = threading.Barrier(2)
    met: list[int] = []
    for _ in range(2):
        timer = create(lambda _: met.append(together.wait(SOON)))
        timer_settime(timer, 0, 0.001)
    within(SOON, lambda: len(met) == 2)
    assert sorted(met) == [0, 1]


@rule("R276")
def test_a_function_that_raises_is_called_again(
    create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda told: raised.append(told.exc_value))

    def fail(_: object) -> None:
        raise ValueError("of the function")

    timer_settime(create(fail), 0, 0.001, 0.001)
    within(SOON, lambda: len(raised) >= 3)
    assert {str(error) for error in raised} == {"of the function"}


@rule("R276")
def test_the_function_may_set_its_timer(create: Create) -> None:
    calls: list[int] = []

    def function(_: object) -> None:
        calls.append(len(calls))
        if len(calls) < 5:
            timer_settime(timer, 0, 0.001)

    timer = create(function)
    timer_settime(timer, 0, 0.001)
    within(SOON, lambda: len(calls) == 5)
    assert timer_gettime(timer) == (0, 0)


@rule("R269", "R276")
def test_the_function_may_delete_its_timer(create: Create) -> None:
    calls: list[int] = []

    def function(_: object) -> None:
        calls.append(0)
        timer_delete(timer)

    timer = create(function)
    timer_settime(timer, 0, 0.01, 0.001)
    within(SOON, lambda: errno_of(timer_gettime, timer) == errno.EINVAL)
    sleep_until(time.CLOCK_MONOTONIC, now(time.CLOCK_MONOTONIC) + 20 * MS)
    assert len(calls) == 1


@rule("R279")
def test_a_deleted_timer_calls_no_more(create: Create) -> None:
    calls = Calls()
    timer = create(calls)
    timer_settime(timer, 0, 0.001, 0.001)
    within(SOON, lambda: calls.values)
    timer_delete(timer)
    sleep_until(time.CLOCK_MONOTONIC, now(time.CLOCK_MONOTONIC) + 5 * MS)  # the call under way
    made = len(calls.values)
    sleep_until(time.CLOCK_MONOTONIC, now(time.CLOCK_MONOTONIC) + 20 * MS)
    assert len(calls.values) <= made + 1


@rule("R279")
def test_deleting_does_not_wait_for_the_call_under_way(create: Create) -> None:
    called, go_on, over = threading.Event(), threading.Event(), threading.Event()

    def function(_: object) -> None:
        called.set()
        go_on.wait(SOON)
        over.set()

    timer = create(function)
    timer_settime(timer, 0, 0.001, 0.001)
    assert called.wait(SOON)
    timer_delete(timer)
    assert not over.is_set()
    assert errno_of(timer_gettime, timer) == errno.EINVAL
    go_on.set()
    assert over.wait(SOON)


@rule("R279")
def test_each_timer_takes_a_port_until_it_is_deleted(create: Create) -> None:
    before = limits.ports
    timers = [create(print) for _ in range(3)]
    assert limits.ports == before + 3
    timer_settime_ns(timers[0], 0, FAR)
    for timer in timers:
        timer_delete(timer)
    within(SOON, lambda: limits.ports == before)


@rule("R279")
def test_without_a_port_to_have_it_is_eagain(
    create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "max_ports", limits.ports + 1)
    timer = create(print)
    assert errno_of(create, print) == errno.EAGAIN
    timer_delete(timer)
    within(SOON, lambda: limits.ports < limits.max_ports)
    create(print)


@rule("R279")
def test_threads_and_descriptors_come_back(create: Create) -> None:
    if not os.path.isdir("/dev/fd"):
        pytest.skip("this host does not list the open descriptors of a process")
    calls = Calls()

    def live() -> None:
        made = len(calls.values)
        timer = create(calls)
        timer_settime(timer, 0, 0.001)
        within(SOON, lambda: len(calls.values) > made)
        timer_delete(timer)

    live()
    within(SOON, lambda: not [t for t in calls.threads if t.is_alive()])
    descriptors, threads = len(os.listdir("/dev/fd")), threading.active_count()
    for _ in range(10):
        live()
    within(
        SOON,
        lambda: (len(os.listdir("/dev/fd")), threading.active_count()) == (descriptors, threads),
    )


@rule("R280")
def test_no_function_is_efault_and_takes_no_port() -> None:
    before = limits.ports
    assert errno_of(timer_create, time.CLOCK_MONOTONIC, SigEvent(SIGEV_THREAD)) == errno.EFAULT
    assert limits.ports == before


@rule("R280")
@pytest.mark.parametrize("function", [3, "function", ()], ids=repr)
def test_what_cannot_be_called_is_a_type_error(function: Any) -> None:
    before = limits.ports
    with pytest.raises(TypeError):
        timer_create(time.CLOCK_MONOTONIC, SigEvent(SIGEV_THREAD, function=function))
    assert limits.ports == before


@rule("R247", "R261", "R276")
def test_a_timer_with_a_function_is_set_and_read_like_any_other(create: Create, clock: int) -> None:
    calls = Calls()
    timer = create(calls, None, clock)
    assert timer_settime(timer, 0, 100, 7) == (0, 0)
    assert errno_of(timer_settime, timer, 0, -1) == errno.EINVAL
    left, every = timer_gettime(timer)
    assert 50 < left <= 100
    assert every == 7
    assert timer_settime(timer, 0, 0)[1] == 7
    assert timer_gettime(timer) == (0, 0)
    time.sleep(A_WHILE)
    assert calls.values == []
