"""aio_waitn(3C): collect requests that tell nobody."""

import errno
import os
import signal
from functools import partial
from time import monotonic
from typing import Any

import pytest

from portcompat import ETIME, SIGEV_THREAD, Port, PortTimeout
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
from portcompat.conformance._aio import CONTENT, Ends, empty_pipe, finished, reading, taken
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._errors import errno_of
from portcompat.conformance._threads import in_thread, waiting

pytestmark = pytest.mark.usefixtures("kaio", "reaped")


def silent(fd: int, size: int = 8) -> AioControlBlock:
    block = AioControlBlock(fd, size)
    aio_read(block)
    return block


@rule("R062", "R337")
@pytest.mark.parametrize(("nent", "nwait"), [(0, 0), (0, 1), (1, 0), (1, 2), (-1, 1), (1, -1)])
def test_bad_counts_are_einval(opened: int, nent: int, nwait: int) -> None:
    block = silent(opened)
    finished(block)
    assert errno_of(aio_waitn, nent, nwait, 0) == errno.EINVAL
    assert aio_waitn(1, 1, 0) == [block]


@rule("R337")
@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan"), float("-inf")])
def test_a_malformed_timeout_is_einval(opened: int, timeout: float) -> None:
    block = silent(opened)
    finished(block)
    assert errno_of(aio_waitn, 1, 1, timeout) == errno.EINVAL
    assert aio_waitn(1, 1, 0) == [block]


@rule("R337")
@pytest.mark.parametrize("wrong", [None, "1", 1.5, []])
def test_what_is_no_count_is_a_type_error(wrong: Any) -> None:
    with pytest.raises(TypeError):
        aio_waitn(wrong, 1, 0)
    with pytest.raises(TypeError):
        aio_waitn(1, wrong, 0)


@rule("R338")
def test_it_collects_none_that_tell_somebody(port: Port, opened: int) -> None:
    called: list[object] = []
    told = reading(port, opened)
    calls = AioControlBlock(opened, 8, 0, SigEvent(SIGEV_THREAD, value=1, function=called.append))
    aio_read(calls)
    finished(told, calls)
    assert errno_of(aio_waitn, 4, 1, 0) == errno.EAGAIN
    block = silent(opened)
    assert aio_waitn(4, 4, SOON) == [block]
    taken(port, told)


@rule("R338", "R339")
def test_it_waits_for_what_is_under_way(ends: Ends) -> None:
    block = silent(ends[0])
    call = waiting(partial(aio_waitn, 1, 1, SOON))
    os.write(ends[1], b"x")
    assert call.result() == [block]
    assert aio_return(block) == 1


@rule("R339")
def test_it_returns_more_than_were_waited_for(opened: int) -> None:
    blocks = [silent(opened) for _ in range(5)]
    finished(*blocks)
    assert set(aio_waitn(5, 1, SOON)) == set(blocks)
    assert errno_of(aio_waitn, 5, 1, 0) == errno.EAGAIN


@rule("R339")
def test_it_returns_no_more_than_there_is_room_for_and_the_oldest_first(ends: Ends) -> None:
    with empty_pipe() as others:
        late, first, second = silent(others[0]), silent(ends[0], 1), silent(ends[0], 1)
        os.write(ends[1], b"ab")
        finished(first, second)
        os.write(others[1], b"c")
        finished(late)
    assert aio_waitn(2, 1, SOON) == [first, second]
    assert aio_waitn(2, 1, SOON) == [late]


@rule("R340")
def test_more_than_are_outstanding_are_not_waited_for(opened: int) -> None:
    blocks = [silent(opened) for _ in range(2)]
    assert set(aio_waitn(10, 5, None)) == set(blocks)


@rule("R062", "R340")
@pytest.mark.parametrize("timeout", [0, 1, None])
def test_with_nothing_outstanding_it_is_eagain(timeout: float | None) -> None:
    assert errno_of(aio_waitn, 1, 1, timeout) == errno.EAGAIN


@rule("R341")
def test_when_time_is_up_it_returns_what_it_has(opened: int, ends: Ends) -> None:
    waits, done = silent(ends[0]), silent(opened)
    finished(done)
    before = monotonic()
    assert aio_waitn(2, 2, 0.05) == [done]
    assert monotonic() >= before + 0.05
    assert aio_return(done) == 8
    aio_cancel(ends[0], waits)


@rule("R024", "R341")
def test_when_time_is_up_and_there_is_none_it_is_etime(ends: Ends) -> None:
    block = silent(ends[0])
    before = monotonic()
    with pytest.raises(PortTimeout) as caught:
        aio_waitn(1, 1, 0.05)
    assert caught.value.errno == ETIME
    assert monotonic() >= before + 0.05
    assert aio_error(block) == errno.EINPROGRESS
    os.write(ends[1], b"x")
    assert aio_waitn(1, 1, SOON) == [block]


@rule("R341")
def test_a_timeout_of_0_looks_and_does_not_wait(opened: int, ends: Ends) -> None:
    waits = silent(ends[0])
    assert aio_waitn(2, 1, 0) == []
    done = silent(opened)
    finished(done)
    assert aio_waitn(2, 2, 0) == [done]
    assert aio_waitn(2, 2, 0) == []
    aio_cancel(ends[0], waits)
    assert aio_waitn(2, 2, SOON) == [waits]


class Interrupted(Exception):
    """What a handler raises."""


@rule("R134", "R341")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer")
def test_when_a_handler_raises_nothing_is_lost(opened: int, ends: Ends) -> None:
    def interrupt(*_: object) -> None:
        raise Interrupted

    waits, done = silent(ends[0]), silent(opened)
    finished(done)
    former = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Interrupted):
            aio_waitn(2, 2, SOON)
    finally:
        signal.signal(signal.SIGALRM, former)
    os.write(ends[1], b"x")
    assert aio_waitn(2, 2, SOON) == [done, waits]


@rule("R342")
def test_a_second_caller_that_does_not_wait_gets_nothing(opened: int, ends: Ends) -> None:
    waits = silent(ends[0])
    first = waiting(partial(aio_waitn, 4, 2, SOON))
    assert aio_waitn(4, 1, 0) == []
    first.at_rest()
    done = silent(opened)
    finished(done)
    os.write(ends[1], b"x")
    found = first.result()
    assert done in found
    assert set(found) <= {done, waits}


@rule("R342")
def test_a_second_caller_waits_for_its_turn(ends: Ends) -> None:
    blocks = [silent(ends[0], 1) for _ in range(2)]
    first = waiting(partial(aio_waitn, 1, 1, SOON))
    second = waiting(partial(aio_waitn, 1, 1, SOON))
    os.write(ends[1], b"ab")
    assert sorted(map(id, first.result() + second.result())) == sorted(map(id, blocks))


@rule("R342")
def test_waiting_for_the_turn_does_not_count_against_the_timeout(ends: Ends) -> None:
    blocks = [silent(ends[0], 1) for _ in range(2)]
    first = waiting(partial(aio_waitn, 1, 1, SOON))
    second = in_thread(partial(aio_waitn, 1, 1, 0.01))
    second.at_rest()
    os.write(ends[1], b"ab")
    assert first.result() == [blocks[0]]
    finished(*blocks)
    assert second.result() == [blocks[1]]


@rule("R343")
def test_what_was_returned_still_has_its_result_and_can_be_submitted(opened: int) -> None:
    block = AioControlBlock(opened, bytearray(8), 4)
    for _ in range(3):
        aio_read(block)
        assert aio_waitn(1, 1, SOON) == [block]
    assert aio_error(block) == 0
    assert aio_return(block) == 8
    assert bytes(block.buf) == CONTENT[4:12]


@rule("R085", "R342")
def test_each_request_is_collected_once(opened: int) -> None:
    blocks = [silent(opened) for _ in range(40)]

    def collect() -> list[AioControlBlock]:
        found: list[AioControlBlock] = []
        while True:
            try:
                found += aio_waitn(3, 1, SOON)
            except BlockingIOError:
                return found

    calls = [in_thread(collect) for _ in range(3)]
    found = [block for call in calls for block in call.result()]
    assert sorted(map(id, found)) == sorted(map(id, blocks))
