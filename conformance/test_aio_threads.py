"""Many requests at once, and the ways to be told other than a port."""

import errno
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from threading import Barrier

import pytest

from portcompat import SIGEV_SIGNAL, SIGEV_THREAD, Port
from portcompat.aio import (
    AioControlBlock,
    SigEvent,
    aio_cancel,
    aio_error,
    aio_read,
    aio_return,
    aio_waitn,
)
from portcompat.conformance import rule
from portcompat.conformance._aio import (
    CONTENT,
    Ends,
    empty_pipe,
    reading,
    taken,
    within,
)
from portcompat.conformance._descriptors import A_WHILE, SOON, socket_pair
from portcompat.conformance._errors import errno_of
from portcompat.conformance._fork import in_fork_child

pytestmark = pytest.mark.usefixtures("kaio")


@rule("R344", "R346")
@pytest.mark.parametrize("count", [4, 40])
def test_requests_that_wait_for_ever_hold_up_no_others(port: Port, opened: int, count: int) -> None:
    with ExitStack() as stack:
        pipes = [stack.enter_context(empty_pipe()) for _ in range(count)]
        waits = [reading(port, pipe[0]) for pipe in pipes]
        for _ in range(10):
            taken(port, reading(port, opened))
        for pipe, block in zip(pipes[::-1], waits[::-1], strict=True):
            os.write(pipe[1], b"x")
            taken(port, block)


@rule("R346")
@pytest.mark.usefixtures("reaped")
def test_nor_do_those_that_tell_nobody(opened: int) -> None:
    with ExitStack() as stack:
        pipes = [stack.enter_context(empty_pipe()) for _ in range(20)]
        waits = [AioControlBlock(pipe[0], 8) for pipe in pipes]
        for block in waits:
            aio_read(block)
        for _ in range(10):
            block = AioControlBlock(opened, 8)
            aio_read(block)
            assert aio_waitn(1, 1, SOON) == [block]
        for block in waits:
            aio_cancel(block.aio_fildes, block)


@rule("R346")
def test_a_read_that_waits_does_not_hold_up_a_write_to_the_same_socket(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        read = reading(port, ours.fileno())
        write = port.aio.write(ours, b"out")
        taken(port, write)
        assert theirs.recv(100) == b"out"
        theirs.send(b"in")
        taken(port, read)


@rule("R344", "R345")
def test_more_requests_than_threads_are_accepted_and_done(port: Port, opened: int) -> None:
    before = threading.active_count()
    blocks = [reading(port, opened, number) for number in range(2000)]
    assert threading.active_count() <= before + 256 + 8
    events = port.getn(2000, 2000, 3 * SOON)
    assert sorted(event.user for event in events) == list(range(2000))
    assert all(bytes(block.data) == CONTENT[:8] for block in blocks)


@rule("R345")
def test_many_requests_wait_in_one_pipe(port: Port, ends: Ends) -> None:
    blocks = [reading(port, ends[0], size=1) for _ in range(1000)]
    os.write(ends[1], bytes(n % 251 for n in range(1000)))
    assert [event.object for event in port.getn(1000, 1000, 3 * SOON)] == blocks
    assert b"".join(block.buf for block in blocks) == bytes(n % 251 for n in range(1000))


def _longer(values: list[int], than: int) -> bool:
    return len(values) > than


class Calls:
    """A function that notes what it is called with, and where."""

    def __init__(self) -> None:
        self.values: list[object] = []
        self.threads: list[threading.Thread] = []

    def __call__(self, value: object) -> None:
        self.threads.append(threading.current_thread())
        self.values.append(value)


@rule("R278", "R347")
def test_sigev_thread_calls_the_function_with_the_value(opened: int) -> None:
    calls, value = Calls(), object()
    block = AioControlBlock(opened, 8, 0, SigEvent(SIGEV_THREAD, value=value, function=calls))
    aio_read(block)
    within(SOON, lambda: calls.values)
    assert calls.values == [value]
    assert calls.threads[0] is not threading.current_thread()
    assert calls.threads[0].daemon
    assert aio_return(block) == 8


@rule("R294", "R347")
def test_status_and_result_are_there_when_the_function_is_called(opened: int) -> None:
    errors: list[int] = []
    for _ in range(20):
        before = len(errors)
        block = AioControlBlock(opened, 8)
        block.aio_sigevent = SigEvent(
            SIGEV_THREAD, value=block, function=lambda block: errors.append(aio_error(block))
        )
        aio_read(block)
        within(SOON, partial(_longer, errors, before))
    assert errors == [0] * 20


@rule("R347")
def test_the_calls_of_sigev_thread_may_run_side_by_side(opened: int) -> None:
    together = Barrier(3)
    met: list[int] = []

    def meet(value: int) -> None:
        together.wait(SOON)
        met.append(value)

    for number in range(3):
        sigevent = SigEvent(SIGEV_THREAD, value=number, function=meet)
        aio_read(AioControlBlock(opened, 8, 0, sigevent))
    within(SOON, lambda: len(met) == 3)
    assert sorted(met) == [0, 1, 2]


@rule("R347")
def test_a_cancelled_request_calls_its_function(ends: Ends) -> None:
    calls = Calls()
    block = AioControlBlock(ends[0], 8, 0, SigEvent(SIGEV_THREAD, value=1, function=calls))
    aio_read(block)
    aio_cancel(ends[0], block)
    within(SOON, lambda: calls.values)
    assert calls.values == [1]


@rule("R280", "R347")
def test_sigev_thread_without_a_function_is_efault(opened: int) -> None:
    block = AioControlBlock(opened, 8, 0, SigEvent(SIGEV_THREAD))
    assert errno_of(aio_read, block) == errno.EFAULT


@rule("R347")
def test_a_function_that_raises_harms_no_others(
    opened: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, raised = Calls(), []
    monkeypatch.setattr(threading, "excepthook", lambda told: raised.append(told.exc_type))

    def fail(value: object) -> None:
        raise RuntimeError(value)

    for function in (fail, calls):
        aio_read(AioControlBlock(opened, 8, 0, SigEvent(SIGEV_THREAD, value=1, function=function)))
    within(SOON, lambda: calls.values and raised)
    assert raised == [RuntimeError]


@pytest.fixture
def usr1() -> Iterator[list[int]]:
    """The signals that were handled."""
    handled: list[int] = []
    former = signal.signal(signal.SIGUSR1, lambda number, _: handled.append(number))
    yield handled
    signal.signal(signal.SIGUSR1, former)


@rule("R283", "R293")
@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no SIGUSR1")
def test_sigev_signal_sends_the_signal_when_it_is_done(
    opened: int, ends: Ends, usr1: list[int]
) -> None:
    block = AioControlBlock(ends[0], 8, 0, SigEvent(SIGEV_SIGNAL, signal.SIGUSR1))
    aio_read(block)
    assert aio_error(block) == errno.EINPROGRESS
    assert usr1 == []
    os.write(ends[1], b"x")
    within(SOON, lambda: usr1)
    assert aio_return(block) == 1
    aio_read(block)  # it is not outstanding any more
    aio_cancel(ends[0], block)
    within(SOON, lambda: len(usr1) == 2)


@rule("R348")
def test_in_a_fork_child_there_are_no_threads_and_it_makes_its_own(opened: int, ends: Ends) -> None:
    calls = Calls()
    mine = AioControlBlock(ends[0], 8, 0, SigEvent(SIGEV_THREAD, value="mine", function=calls))
    aio_read(mine)

    def child() -> None:
        own = Calls()
        sigevent = SigEvent(SIGEV_THREAD, value="child's", function=own)
        aio_read(AioControlBlock(opened, 8, 0, sigevent))
        within(SOON, lambda: own.values)
        block = AioControlBlock(opened, 8)
        aio_read(block)
        assert aio_waitn(4, 2, SOON) == [block]
        os.write(ends[1], b"child")

    in_fork_child(child)
    within(SOON, lambda: calls.values)
    assert aio_return(mine) == 5
    assert calls.values == ["mine"]


@rule("R348")
def test_a_fork_child_exits_while_its_parent_has_requests(port: Port, ends: Ends) -> None:
    blocks = [reading(port, ends[0]) for _ in range(5)]
    in_fork_child(lambda: None)
    assert port.getn(1, 1, A_WHILE) == []
    os.write(ends[1], b"x")
    taken(port, blocks[0])
