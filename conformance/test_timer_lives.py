"""What a timer outlives and what not: its port, fork, exec, and its own deletion."""

import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from threading import Event

import pytest

from portcompat import (
    PORT_SOURCE_TIMER,
    SIGEV_NONE,
    SIGEV_PORT,
    SIGEV_SIGNAL,
    SIGEV_THREAD,
    Port,
    PortEvent,
    port_close,
    port_create,
    port_get,
)
from portcompat.conformance import rule
from portcompat.conformance._descriptors import A_WHILE, SOON
from portcompat.conformance._errors import errno_of
from portcompat.conformance._fork import CHILD_TIME, in_fork_child
from portcompat.conformance._threads import in_thread, waiting
from portcompat.conformance._timers import (
    FAR,
    MS,
    PERIOD,
    SECOND,
    boundaries,
    now,
    sleep_until,
    start_of,
    users,
)
from portcompat.timers import (
    TIMER_ABSTIME,
    SigEvent,
    timer_create,
    timer_delete,
    timer_getoverrun,
    timer_gettime,
    timer_gettime_ns,
    timer_settime,
    timer_settime_ns,
)

MakePort = Callable[..., Port]
Scale = Callable[[int, int, int], int]


@rule("R177", "R271")
def test_a_timer_outlives_its_port(make_port: MakePort, clock: int) -> None:
    port = make_port()
    timer = port.timer(clock, "user")
    start = now(clock) + 5 * MS
    timer.set(at_ns=start, every_ns=PERIOD)
    port.close()
    assert not timer.deleted
    sleep_until(clock, start)
    asked = now(clock)
    left = timer.remaining_ns
    told = now(clock)
    assert start + PERIOD - told <= left <= start + PERIOD - asked
    assert timer.interval_ns == PERIOD
    timer.set(after_ns=FAR)
    assert FAR / 2 < timer.remaining_ns <= FAR
    timer.cancel()
    assert timer.remaining == 0
    timer.delete()
    assert timer.deleted


@rule("R177", "R271")
def test_a_timer_whose_port_is_closed_answers_by_its_id_too(
    make_port: MakePort, clock: int
) -> None:
    port = make_port()
    timer = timer_create(clock, SigEvent(SIGEV_PORT, port=port))
    timer_settime_ns(timer, 0, FAR, 7)
    port.close()
    left, every = timer_gettime_ns(timer)
    assert 0 < left <= FAR
    assert every == 7
    assert timer_settime_ns(timer, TIMER_ABSTIME, 1)[1] == 7
    assert timer_gettime(timer) == (0, 0)
    assert timer_getoverrun(timer) == 0
    timer_delete(timer)
    assert errno_of(timer_delete, timer) == errno.EINVAL


@rule("R269", "R271")
def test_deleting_a_timer_whose_port_is_closed_with_its_event_queued(
    make_port: MakePort,
) -> None:
    port = make_port()
    timer = port.timer()
    timer.set(after=0, every=0.001)
    assert port.pending() == 1
    port.close()
    timer.delete()
    port.close()


@rule("R271")
def test_a_new_port_under_the_same_number_gets_nothing(as_default: str) -> None:
    old = port_create()
    timer = timer_create(time.CLOCK_MONOTONIC, SigEvent(SIGEV_PORT, port=old))
    try:
        timer_settime(timer, 0, 0.001, 0.001)
        port_get(old, SOON)
        port_close(old)
        new = port_create()
        try:
            assert new == old
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    port_get(new, 0.005)
        finally:
            port_close(new)
    finally:
        timer_delete(timer)


@rule("R271")
def test_closing_one_port_leaves_the_timers_of_another(make_port: MakePort, clock: int) -> None:
    one, other = make_port(), make_port()
    gone, kept = one.timer(clock, "gone"), other.timer(clock, "kept")
    due = now(clock) + 5 * MS
    for timer in (gone, kept):
        timer.set(at_ns=due)
    one.close()
    assert users(other.getn(8, 1, SOON)) == ["kept"]
    gone.delete()
    kept.delete()


@rule("R177", "R271")
def test_very_many_timers_of_a_port_that_is_closed(make_port: MakePort) -> None:
    port = make_port()
    timers = [port.timer() for _ in range(2_000)]
    for number, timer in enumerate(timers):
        timer.set(after_ns=number * 1_000 + 1)
    port.close()
    assert all(not timer.deleted for timer in timers)
    for timer in timers:
        timer.delete()


@rule("R245")
def test_timers_are_not_inherited_by_fork(port: Port, clock: int) -> None:
    timer = port.timer(clock, "parent's")
    start = now(clock) + 20 * MS
    timer.set(at_ns=start, every_ns=PERIOD)

    def child() -> None:
        assert errno_of(timer_gettime, timer.id) == errno.EINVAL
        assert errno_of(timer_settime, timer.id, 0, 1) == errno.EINVAL
        assert errno_of(timer_getoverrun, timer.id) == errno.EINVAL
        assert errno_of(timer_delete, timer.id) == errno.EINVAL
        assert timer.deleted
        assert errno_of(timer.set, after=0) == errno.EINVAL
        assert errno_of(timer.cancel) == errno.EINVAL
        with timer:  # which deletes nothing any more
            pass
        sleep_until(clock, start + MS)
        assert port.closed

    in_fork_child(child)
    assert not timer.deleted
    assert port.get(SOON) == PortEvent(PORT_SOURCE_TIMER, timer.id, 1, "parent's")
    assert timer.interval_ns == PERIOD
    timer.delete()


@rule("R245")
@pytest.mark.parametrize("kind", ["none", "signal", "thread"])
def test_timers_of_the_other_kinds_are_not_inherited_either(as_default: str, kind: str) -> None:
    called = Event()
    sigevent = {
        "none": SigEvent(SIGEV_NONE),
        "signal": SigEvent(SIGEV_SIGNAL, signal.SIGTERM),  # which would be the child's end
        "thread": SigEvent(SIGEV_THREAD, function=lambda value: called.set()),
    }[kind]
    timer = timer_create(time.CLOCK_MONOTONIC, sigevent)
    due = now(time.CLOCK_MONOTONIC) + SECOND // 2

    def child() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        assert errno_of(timer_gettime, timer) == errno.EINVAL
        sleep_until(time.CLOCK_MONOTONIC, due + 20 * MS)
        assert not called.is_set()
        assert errno_of(timer_delete, timer) == errno.EINVAL

    former = signal.signal(signal.SIGTERM, lambda *_: called.set())
    try:
        timer_settime_ns(timer, TIMER_ABSTIME, due)
        in_fork_child(child)
        assert kind == "none" or called.wait(SOON)
    finally:
        timer_delete(timer)
        signal.signal(signal.SIGTERM, former)


@rule("R240", "R245")
def test_a_fork_child_makes_timers_of_its_own(port: Port, backend: str, clock: int) -> None:
    timers = [port.timer(clock) for _ in range(3)]
    for timer in timers:
        timer.set(after_ns=FAR)

    def child() -> None:
        with Port(backend) as own, own.timer(clock, "child's") as timer:
            assert timer.id == 0
            timer.set(after_ns=MS)
            assert own.get(SOON) == PortEvent(PORT_SOURCE_TIMER, 0, 1, "child's")

    in_fork_child(child)
    assert all(timer.remaining > 0 for timer in timers)
    for timer in timers:
        timer.delete()


@rule("R245")
def test_a_fork_while_others_set_and_wait_for_timers_does_not_hang_the_child(
    port: Port, backend: str, scale: Scale
) -> None:
    over = Event()
    waiter = waiting(lambda: port.getn(2, 2, 4 * SOON))

    def work(which: Port) -> None:
        while not over.is_set():
            with which.timer() as timer:
                timer.set(after=0)
                timer.set(after=100)

    other = Port(backend)
    workers = [in_thread(lambda: work(port)), in_thread(lambda: work(other))]

    def child() -> None:
        with Port(backend) as own, own.timer() as timer:
            timer.set(after=0.001)
            assert own.get(SOON).events == 1

    try:
        for _ in range(scale(10, 100, 1_000)):
            in_fork_child(child)
    finally:
        over.set()
        for worker in workers:
            worker.result()
        other.close()
    port.send(0)
    port.send(0)
    waiter.result()


@rule("R281")
def test_the_threads_of_callbacks_are_not_there_in_a_fork_child(as_default: str) -> None:
    called: list[int] = []
    timer = timer_create(
        time.CLOCK_MONOTONIC, SigEvent(SIGEV_THREAD, function=lambda _: called.append(os.getpid()))
    )
    timer_settime(timer, 0, 0.001, 0.001)

    def child() -> None:
        before = called.count(os.getpid())
        sleep_until(time.CLOCK_MONOTONIC, now(time.CLOCK_MONOTONIC) + 20 * MS)
        assert called.count(os.getpid()) == before == 0
        done = Event()
        own = timer_create(
            time.CLOCK_MONOTONIC, SigEvent(SIGEV_THREAD, function=lambda _: done.set())
        )
        timer_settime(own, 0, 0.001)
        assert done.wait(SOON)
        timer_delete(own)

    try:
        for _ in range(3):
            in_fork_child(child)
        assert set(called) <= {os.getpid()}
    finally:
        timer_delete(timer)


@rule("R245")
def test_exec_deletes_the_timers() -> None:
    if not hasattr(os, "fork"):
        pytest.skip("this host has no fork(2)")
    image = "import select; select.select([], [], [], 0.4)"
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the end of who gets it
            timer = timer_create(time.CLOCK_MONOTONIC)
            timer_settime(timer, 0, 0.2)
            os.execv(sys.executable, [sys.executable, "-S", "-c", image])
        finally:
            os._exit(99)
    deadline = time.monotonic() + CHILD_TIME
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.005)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


@rule("R270")
@pytest.mark.parametrize("kind", ["port", "none", "signal", "thread"])
def test_a_deleted_timer_is_einval(as_default: str, port: Port, kind: str) -> None:
    sigevent = {
        "port": SigEvent(SIGEV_PORT, port=port),
        "none": SigEvent(SIGEV_NONE),
        "signal": SigEvent(SIGEV_SIGNAL, signal.SIGALRM),
        "thread": SigEvent(SIGEV_THREAD, function=print),
    }[kind]
    timer = timer_create(time.CLOCK_MONOTONIC, sigevent)
    timer_settime_ns(timer, 0, FAR, FAR)
    timer_delete(timer)
    assert errno_of(timer_settime, timer, 0, 1) == errno.EINVAL
    assert errno_of(timer_settime, timer, 0, 0) == errno.EINVAL
    assert errno_of(timer_gettime, timer) == errno.EINVAL
    assert errno_of(timer_getoverrun, timer) == errno.EINVAL
    assert errno_of(timer_delete, timer) == errno.EINVAL


@rule("R253", "R265")
def test_a_timer_that_nobody_watches_for_a_while_goes_on(port: Port, clock: int) -> None:
    with port.timer(clock) as timer:
        timer.set(at_ns=start_of(3, clock), every_ns=PERIOD)
        assert port.get(SOON).events == 3
        start = now(clock)
        timer.set(at_ns=start, every_ns=2 * MS)
        sleep_until(clock, start + 30 * MS)
        before = boundaries(start, 2 * MS, now(clock))
        assert port.get(SOON).events >= before


@rule("R245", "R269")
def test_a_thread_that_made_a_timer_may_end(port: Port, clock: int) -> None:
    timer = in_thread(lambda: port.timer(clock, "user")).result()
    in_thread(lambda: timer.set(after=0.01)).result()
    assert port.get(SOON).user == "user"
    in_thread(timer.delete).result()
    assert port.getn(1, 1, A_WHILE) == []
