"""SIGEV_SIGNAL and SIGEV_NONE: timers that send a signal, and those that tell nobody."""

import errno
import signal
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from portcompat import SIGEV_NONE, SIGEV_SIGNAL, Port, PortTimeout
from portcompat.conformance import rule
from portcompat.conformance._descriptors import A_WHILE, SOON
from portcompat.conformance._errors import errno_of
from portcompat.conformance._fork import in_fork_child
from portcompat.conformance._timers import (
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

if not hasattr(signal, "pthread_sigmask"):
    pytest.skip("this host has no signals that can be blocked", allow_module_level=True)

MakePort = Callable[..., Port]

SI_TIMER = {"linux": -2, "sunos5": -3}.get(sys.platform)

pytestmark = pytest.mark.usefixtures("as_default")


@pytest.fixture
def usr1() -> Iterator[list[float]]:
    """The times at which SIGUSR1 was handled."""
    handled: list[float] = []
    former = signal.signal(signal.SIGUSR1, lambda *_: handled.append(time.monotonic()))
    yield handled
    signal.signal(signal.SIGUSR1, former)


def with_blocked(number: int, work: Callable[[], object]) -> None:
    """Do `work` in a fork child, whose only thread has the signal blocked.

    A signal to a process goes to any thread that does not block it, so nothing would be pending in
    a process that has others.
    """

    def child() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {number})
        work()

    in_fork_child(child)


def becomes_pending(number: int) -> None:
    deadline = time.monotonic() + SOON
    while number not in signal.sigpending():
        assert time.monotonic() < deadline, "the signal does not come"
        time.sleep(0.001)


def take(number: int, timeout: float) -> signal.struct_siginfo | None:
    """The signal, from those that are pending, or None when it does not come in time."""
    if not hasattr(signal, "sigtimedwait"):
        pytest.skip("this host has no sigtimedwait(2)")
    return signal.sigtimedwait({number}, timeout)


@rule("R274")
def test_the_handler_is_called_at_each_expiry(usr1: list[float]) -> None:
    timer = timer_create(time.CLOCK_MONOTONIC, SigEvent(SIGEV_SIGNAL, signal.SIGUSR1))
    try:
        before = time.monotonic()
        timer_settime(timer, 0, 0.01, 0.02)
        deadline = before + SOON
        while len(usr1) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        assert all(usr1[n] >= before + 0.01 + n * 0.02 for n in range(3))
    finally:
        timer_delete(timer)


@rule("R274")
def test_a_one_shot_sends_one_signal(usr1: list[float], clock: int) -> None:
    timer = timer_create(clock, SigEvent(SIGEV_SIGNAL, signal.SIGUSR1))
    try:
        timer_settime(timer, 0, 0.01)
        deadline = time.monotonic() + SOON
        while not usr1:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        sleep_until(clock, now(clock) + 30 * MS)
        assert len(usr1) == 1
        assert timer_getoverrun(timer) == 0
        assert timer_gettime(timer) == (0, 0)
    finally:
        timer_delete(timer)


@rule("R134", "R274")
def test_the_handler_runs_during_a_wait_and_the_wait_goes_on(port: Port, usr1: list[float]) -> None:
    timer = timer_create(time.CLOCK_MONOTONIC, SigEvent(SIGEV_SIGNAL, signal.SIGUSR1))
    try:
        timer_settime(timer, 0, 0.02, 0.02)
        before = time.monotonic()
        with pytest.raises(PortTimeout):
            port.get(0.2)
        assert time.monotonic() >= before + 0.2
        assert usr1
    finally:
        timer_delete(timer)


@rule("R066", "R274")
def test_the_handler_may_send_to_the_port_that_is_waited_in(port: Port) -> None:
    former = signal.signal(signal.SIGUSR1, lambda *_: port.send(0, "from the handler"))
    timer = timer_create(time.CLOCK_MONOTONIC, SigEvent(SIGEV_SIGNAL, signal.SIGUSR1))
    try:
        timer_settime(timer, 0, 0.02, 0.02)
        assert port.get(SOON).user == "from the handler"
    finally:
        timer_delete(timer)
        signal.signal(signal.SIGUSR1, former)


@rule("R239")
def test_without_a_sigevent_the_signal_is_sigalrm(clock: int) -> None:
    def child() -> None:
        timer = timer_create(clock)
        timer_settime(timer, 0, 0.001)
        becomes_pending(signal.SIGALRM)
        timer_delete(timer)

    with_blocked(signal.SIGALRM, child)


@rule("R274")
def test_the_overrun_is_what_expired_while_the_signal_was_pending(clock: int) -> None:
    def child() -> None:
        handled: list[int] = []
        timer = timer_create(clock, SigEvent(SIGEV_SIGNAL, signal.SIGUSR1))
        signal.signal(signal.SIGUSR1, lambda *_: handled.append(timer_getoverrun(timer)))
        timer_settime_ns(timer, TIMER_ABSTIME, start_of(5, clock), PERIOD)
        becomes_pending(signal.SIGUSR1)
        assert handled == []
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        sleep_until(clock, now(clock) + MS)
        assert handled == [4]
        assert timer_getoverrun(timer) == 4
        timer_delete(timer)

    with_blocked(signal.SIGUSR1, child)


@rule("R274")
def test_the_overrun_is_set_at_delivery(clock: int) -> None:
    def child() -> None:
        timer = timer_create(clock, SigEvent(SIGEV_SIGNAL, signal.SIGUSR1))
        start = now(clock) + MS
        timer_settime_ns(timer, TIMER_ABSTIME, start, MS)
        sleep_until(clock, start + 20 * MS)
        becomes_pending(signal.SIGUSR1)
        before = boundaries(start, MS, now(clock))
        assert take(signal.SIGUSR1, SOON) is not None
        overrun = timer_getoverrun(timer)
        after = boundaries(start, MS, now(clock))
        assert before - 1 <= overrun <= after - 1
        timer_delete(timer)

    with_blocked(signal.SIGUSR1, child)


@rule("R274")
def test_the_overruns_add_up_to_the_periods_that_have_passed(clock: int) -> None:
    def child() -> None:
        timer = timer_create(clock, SigEvent(SIGEV_SIGNAL, signal.SIGUSR1))
        start = now(clock) + MS
        timer_settime_ns(timer, TIMER_ABSTIME, start, MS)
        taken = 0
        for turn in range(20):
            sleep_until(clock, now(clock) + turn % 4 * MS)
            before = boundaries(start, MS, now(clock))
            assert take(signal.SIGUSR1, SOON) is not None
            taken += 1 + timer_getoverrun(timer)
            assert before <= taken <= boundaries(start, MS, now(clock))
        timer_delete(timer)

    with_blocked(signal.SIGUSR1, child)


@rule("R274")
def test_one_signal_of_a_timer_is_pending_at_most(clock: int) -> None:
    if not hasattr(signal, "SIGRTMIN"):
        pytest.skip("this host has no signals that queue")
    number = signal.SIGRTMIN + 3

    def child() -> None:
        timer = timer_create(clock, SigEvent(SIGEV_SIGNAL, number))
        timer_settime_ns(timer, TIMER_ABSTIME, start_of(5, clock), PERIOD)
        assert take(number, SOON) is not None
        assert timer_getoverrun(timer) == 4
        assert take(number, A_WHILE) is None
        timer_delete(timer)

    with_blocked(number, child)


@rule("R274")
def test_each_timer_has_a_signal_of_its_own(clock: int) -> None:
    if not hasattr(signal, "SIGRTMIN"):
        pytest.skip("this host has no signals that queue")
    number = signal.SIGRTMIN + 3

    def child() -> None:
        timers = [timer_create(clock, SigEvent(SIGEV_SIGNAL, number)) for _ in range(3)]
        for timer in timers:
            timer_settime(timer, 0, 0.001)
        for _ in timers:
            assert take(number, SOON) is not None
        assert take(number, A_WHILE) is None
        for timer in timers:
            timer_delete(timer)

    with_blocked(number, child)


@rule("R015", "R274")
def test_the_signal_tells_that_it_is_of_a_timer() -> None:
    if SI_TIMER is None:
        pytest.skip("this host's number of SI_TIMER is not known here")

    def child() -> None:
        timer = timer_create(time.CLOCK_MONOTONIC, SigEvent(SIGEV_SIGNAL, signal.SIGUSR1, value=7))
        timer_settime(timer, 0, 0.001)
        told = take(signal.SIGUSR1, SOON)
        assert told is not None
        assert (told.si_signo, told.si_code) == (signal.SIGUSR1, SI_TIMER)
        timer_delete(timer)

    with_blocked(signal.SIGUSR1, child)


@rule("R248", "R274")
def test_a_timer_that_is_disarmed_sends_no_signal(clock: int) -> None:
    def child() -> None:
        timer = timer_create(clock, SigEvent(SIGEV_SIGNAL, signal.SIGUSR1))
        timer_settime(timer, 0, 0.5, 0.5)
        old_value, old_interval = timer_settime(timer, 0, 0)
        assert 0 < old_value <= 0.5
        assert old_interval == 0.5
        assert timer_gettime(timer) == (0, 0)
        assert take(signal.SIGUSR1, A_WHILE) is None
        timer_delete(timer)

    with_blocked(signal.SIGUSR1, child)


@rule("R270", "R274")
def test_a_timer_that_is_deleted_sends_no_signal(clock: int) -> None:
    def child() -> None:
        timer = timer_create(clock, SigEvent(SIGEV_SIGNAL, signal.SIGUSR1))
        timer_settime(timer, 0, 0.05, 0.05)
        timer_delete(timer)
        assert take(signal.SIGUSR1, 0.1) is None

    with_blocked(signal.SIGUSR1, child)


@rule("R247", "R261", "R274")
def test_a_timer_with_a_signal_is_set_and_read_like_any_other(clock: int) -> None:
    timer = timer_create(clock, SigEvent(SIGEV_SIGNAL, signal.SIGUSR1))
    try:
        assert timer_settime(timer, 0, 100, 7) == (0, 0)
        assert errno_of(timer_settime, timer, 0, -1) == errno.EINVAL
        assert errno_of(timer_settime, timer, 0, 1, -1) == errno.EINVAL
        left, every = timer_gettime(timer)
        assert 50 < left <= 100
        assert every == 7
        timer_settime_ns(timer, TIMER_ABSTIME, now(clock) + 1000 * PERIOD)
        assert 50 < timer_gettime(timer)[0] <= 10_000
        assert timer_settime(timer, 0, 0, -5)[1] == 0
        assert timer_gettime(timer) == (0, 0)
    finally:
        timer_delete(timer)


@rule("R275")
def test_a_timer_that_tells_nobody(port: Port, clock: int) -> None:
    timer = timer_create(clock, SigEvent(SIGEV_NONE))
    try:
        start = now(clock) + MS
        timer_settime_ns(timer, TIMER_ABSTIME, start, PERIOD)
        assert port.getn(1, 1, A_WHILE) == []
        assert timer_getoverrun(timer) == 0
        asked = now(clock)
        left, every = timer_gettime(timer)
        assert every == 10
        assert left <= (start + PERIOD - asked) / 1e9
        assert left > 0
    finally:
        timer_delete(timer)


@rule("R262", "R275")
def test_a_one_shot_that_tells_nobody_reads_zero_afterwards(clock: int) -> None:
    timer = timer_create(clock, SigEvent(SIGEV_NONE))
    try:
        timer_settime(timer, 0, 0.001)
        sleep_until(clock, now(clock) + 2 * MS)
        assert timer_gettime(timer) == (0, 0)
        assert timer_settime(timer, 0, 0) == (0, 0)
    finally:
        timer_delete(timer)
