"""aio_suspend(3C): wait until one of some requests is done."""

import errno
import os
import signal
from functools import partial
from time import monotonic
from typing import Any

import pytest

from portcompat import Port
from portcompat.aio import (
    AioControlBlock,
    aio_cancel,
    aio_error,
    aio_read,
    aio_return,
    aio_suspend,
)
from portcompat.conformance import rule
from portcompat.conformance._aio import Ends, empty_pipe, finished, reading, taken
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._errors import errno_of
from portcompat.conformance._threads import waiting

pytestmark = pytest.mark.usefixtures("kaio")


@rule("R332")
def test_an_empty_list_and_a_long_one_are_einval(port: Port, opened: int) -> None:
    assert errno_of(aio_suspend, []) == errno.EINVAL
    assert errno_of(aio_suspend, [], 0) == errno.EINVAL
    block = reading(port, opened)
    finished(block)
    assert errno_of(aio_suspend, [block] + [None] * 4096) == errno.EINVAL
    assert errno_of(aio_suspend, [block] + [None] * 4095) is None


@rule("R332")
@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan"), float("-inf")])
def test_a_malformed_timeout_is_einval(port: Port, opened: int, timeout: float) -> None:
    block = reading(port, opened)
    assert errno_of(aio_suspend, [block], timeout) == errno.EINVAL
    taken(port, block)
    assert aio_return(block) == 8


@rule("R332")
@pytest.mark.parametrize("timeout", ["1", b"1", [], object()])
def test_what_is_no_timeout_is_a_type_error(port: Port, opened: int, timeout: Any) -> None:
    with pytest.raises(TypeError):
        aio_suspend([reading(port, opened)], timeout)


@rule("R332")
def test_what_is_no_list_of_blocks_is_a_type_error(port: Port, opened: int) -> None:
    block: Any = reading(port, opened)
    wrong: Any
    for wrong in (None, 1, block, [block, 1], ["block"]):
        with pytest.raises(TypeError):
            aio_suspend(wrong, 0)


@rule("R062", "R333")
@pytest.mark.parametrize("timeout", [0, 0.0, 0.05])
def test_when_time_is_up_it_is_eagain(port: Port, ends: Ends, timeout: float) -> None:
    block = reading(port, ends[0])
    before = monotonic()
    assert errno_of(aio_suspend, [block], timeout) == errno.EAGAIN
    assert monotonic() >= before + timeout
    assert aio_error(block) == errno.EINPROGRESS


@rule("R333", "R334")
@pytest.mark.parametrize("timeout", [0, 1, None, float("inf")])
def test_it_returns_at_once_when_one_is_done(
    port: Port, opened: int, ends: Ends, timeout: float | None
) -> None:
    done = reading(port, opened)
    finished(done)
    aio_suspend([reading(port, ends[0]), done], timeout)


@rule("R334")
@pytest.mark.parametrize("listed", [1, 3])
def test_it_returns_when_one_is_done(port: Port, ends: Ends, listed: int) -> None:
    with empty_pipe() as others:
        blocks = [reading(port, others[0]) for _ in range(listed - 1)]
        last = reading(port, ends[0])
        call = waiting(partial(aio_suspend, [*blocks, last], SOON))
        os.write(ends[1], b"x")
        call.result()
        assert aio_error(last) == 0
        taken(port, last)


@rule("R334")
@pytest.mark.usefixtures("reaped")
def test_it_waits_for_requests_that_tell_nobody_too(ends: Ends) -> None:
    block = AioControlBlock(ends[0], 8)
    aio_read(block)
    call = waiting(partial(aio_suspend, [block], SOON))
    os.write(ends[1], b"x")
    call.result()
    assert aio_return(block) == 1


@rule("R334")
def test_a_request_that_failed_is_done(port: Port, opened: int) -> None:
    block = AioControlBlock(opened, 8, -1)
    aio_read(block)
    aio_suspend([block], SOON)
    assert errno_of(aio_return, block) == errno.EINVAL


@rule("R334")
def test_a_cancelled_request_does_not_count_as_done(port: Port, ends: Ends) -> None:
    with empty_pipe() as others:
        cancelled, waits = reading(port, ends[0]), reading(port, others[0])
        aio_cancel(ends[0], cancelled)
        assert errno_of(aio_suspend, [cancelled, waits], 0) == errno.EAGAIN
        assert errno_of(aio_suspend, [cancelled, waits], 0.05) == errno.EAGAIN
        call = waiting(partial(aio_suspend, [cancelled, waits], SOON))
        os.write(others[1], b"x")
        call.result()


@rule("R334")
def test_one_that_is_cancelled_meanwhile_does_not_end_the_wait(port: Port, ends: Ends) -> None:
    with empty_pipe() as others:
        cancelled, waits = reading(port, ends[0]), reading(port, others[0])
        call = waiting(partial(aio_suspend, [cancelled, waits], SOON))
        aio_cancel(ends[0], cancelled)
        taken(port, cancelled)
        call.at_rest()
        os.write(others[1], b"x")
        call.result()


@rule("R335")
def test_requests_that_were_done_long_ago_end_it_at_once(port: Port, opened: int) -> None:
    block = reading(port, opened)
    taken(port, block)
    aio_suspend([block])
    assert aio_return(block) == 8
    aio_suspend([block])


@rule("R335")
def test_with_nothing_outstanding_it_does_not_wait(port: Port, ends: Ends) -> None:
    block = reading(port, ends[0])
    aio_cancel(ends[0], block)
    taken(port, block)
    assert errno_of(aio_suspend, [block]) == errno.EAGAIN
    assert errno_of(aio_suspend, [None]) == errno.EAGAIN


@rule("R336")
def test_none_is_passed_over_and_nothing_is_taken(port: Port, opened: int) -> None:
    block = reading(port, opened)
    for _ in range(3):
        aio_suspend([None, block, None], SOON)
    taken(port, block)
    assert aio_return(block) == 8


@rule("R336")
def test_several_threads_wait_for_the_same_request(port: Port, ends: Ends) -> None:
    block = reading(port, ends[0])
    calls = [waiting(partial(aio_suspend, [block], SOON)) for _ in range(3)]
    os.write(ends[1], b"x")
    for call in calls:
        call.result()
    taken(port, block)


class Interrupted(Exception):
    """What a handler raises."""


@rule("R134", "R333")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer")
@pytest.mark.parametrize("raises", [False, True])
def test_a_signal_ends_it_only_if_its_handler_raises(port: Port, ends: Ends, raises: bool) -> None:
    handled: list[object] = []

    def handle(*_: object) -> None:
        handled.append(None)
        if raises:
            raise Interrupted

    block = reading(port, ends[0])
    former = signal.signal(signal.SIGALRM, handle)
    try:
        before = monotonic()
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        if raises:
            with pytest.raises(Interrupted):
                aio_suspend([block], SOON)
        else:
            assert errno_of(aio_suspend, [block], 0.1) == errno.EAGAIN
            assert monotonic() >= before + 0.1
        assert handled
    finally:
        signal.signal(signal.SIGALRM, former)
    os.write(ends[1], b"x")
    taken(port, block)
