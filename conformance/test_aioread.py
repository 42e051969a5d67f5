"""aioread(3AIO), aiowrite(3AIO), aiowait(3AIO) and aiocancel(3AIO), the older calls."""

import errno
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from portcompat import Port
from portcompat.aio import (
    AIO_INPROGRESS,
    AioControlBlock,
    AioResult,
    aio_close,
    aio_read,
    aio_return,
    aio_waitn,
    aiocancel,
    aioread,
    aiowait,
    aiowrite,
)
from portcompat.conformance import rule
from portcompat.conformance._aio import CONTENT, NOT_OPEN, Ends, finished, reading, taken, within
from portcompat.conformance._descriptors import A_WHILE, SOON
from portcompat.conformance._errors import errno_of
from portcompat.conformance._fork import in_fork_child
from portcompat.conformance._threads import waiting

pytestmark = pytest.mark.usefixtures("drained")

both = pytest.mark.parametrize("submit", [aioread, aiowrite], ids=["aioread", "aiowrite"])

Submit = Callable[..., None]


def drain() -> None:
    while errno_of(aiowait, 0.1) is None:
        pass


@pytest.fixture
def drained() -> Iterator[None]:
    """None of these requests is left over, by this test or by one before."""
    drain()
    yield
    drain()


def done(result: AioResult) -> None:
    within(SOON, lambda: result.aio_return != AIO_INPROGRESS)


@rule("R029")
def test_a_result_is_in_progress_from_the_beginning() -> None:
    assert AIO_INPROGRESS == -2
    assert AioResult().aio_return == AIO_INPROGRESS


@rule("R063", "R349")
@pytest.mark.parametrize(
    ("offset", "whence", "start"),
    [(10, os.SEEK_SET, 10), (10, os.SEEK_CUR, 30), (-10, os.SEEK_CUR, 10), (-10, os.SEEK_END, 90)],
)
def test_the_offset_is_resolved_at_the_call(
    opened: int, offset: int, whence: int, start: int
) -> None:
    os.lseek(opened, 20, os.SEEK_SET)
    buffer, result = bytearray(4), AioResult()
    aioread(opened, buffer, offset, whence, result)
    os.lseek(opened, 0, os.SEEK_SET)
    assert aiowait(SOON) is result
    assert (result.aio_return, result.aio_errno) == (4, 0)
    assert bytes(buffer) == CONTENT[start : start + 4]
    result = AioResult()
    os.lseek(opened, 20, os.SEEK_SET)
    aiowrite(opened, b"data", offset, whence, result)
    assert aiowait(SOON) is result
    assert result.aio_return == 4
    assert os.pread(opened, 4, start) == b"data"
    assert os.lseek(opened, 0, os.SEEK_CUR) == 20


@rule("R063", "R349")
@both
@pytest.mark.parametrize("whence", [3, -1, 77])
def test_another_whence_is_einval(opened: int, submit: Submit, whence: int) -> None:
    assert errno_of(submit, opened, bytearray(4), 0, whence, AioResult()) == errno.EINVAL
    assert errno_of(aiowait, 0) == errno.EINVAL


@rule("R349")
@pytest.mark.parametrize("whence", [os.SEEK_CUR, os.SEEK_END])
def test_what_lseek_says_passes_through(ends: Ends, whence: int) -> None:
    expected = errno_of(os.lseek, ends[0], 0, whence)
    if whence == os.SEEK_CUR:
        assert errno_of(aioread, ends[0], bytearray(4), 0, whence, AioResult()) == expected
    assert errno_of(aioread, NOT_OPEN, bytearray(4), 0, whence, AioResult()) == errno.EBADF


@rule("R063", "R349")
@both
def test_a_result_that_is_in_use_is_einval(opened: int, ends: Ends, submit: Submit) -> None:
    result = AioResult()
    aioread(ends[0], bytearray(4), 0, os.SEEK_SET, result)
    assert errno_of(submit, opened, bytearray(4), 0, os.SEEK_SET, result) == errno.EINVAL
    assert result.aio_return == AIO_INPROGRESS
    os.write(ends[1], b"x")
    assert aiowait(SOON) is result
    assert result.aio_return == 1


@rule("R349")
@both
def test_a_descriptor_that_is_not_open_for_it_is_ebadf(tmp_path: Path, submit: Submit) -> None:
    fd = os.open(tmp_path / "one-way", os.O_CREAT | (os.O_WRONLY, os.O_RDONLY)[submit is aiowrite])
    try:
        for number in (fd, NOT_OPEN, -1):
            arguments = (number, bytearray(4), 0, os.SEEK_SET, AioResult())
            assert errno_of(submit, *arguments) == errno.EBADF
    finally:
        aio_close(fd)
    assert errno_of(aiowait, 0) == errno.EINVAL


@rule("R350")
def test_a_result_can_be_polled(opened: int, ends: Ends) -> None:
    result = AioResult()
    aioread(ends[0], bytearray(4), 0, os.SEEK_SET, result)
    assert result.aio_return == AIO_INPROGRESS
    os.write(ends[1], b"abc")
    done(result)
    assert (result.aio_return, result.aio_errno) == (3, 0)
    assert aiowait(0) is result


@rule("R350")
def test_when_the_count_is_there_the_error_is_too(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(50):
            result = AioResult()
            aioread(fd, bytearray(4), 0, os.SEEK_SET, result)
            while result.aio_return == AIO_INPROGRESS:
                pass
            assert (result.aio_return, result.aio_errno) == (-1, errno.EISDIR)
            assert aiowait(SOON) is result
    finally:
        aio_close(fd)


@rule("R351")
def test_aiowait_returns_results_in_the_order_of_completion(opened: int, ends: Ends) -> None:
    slow, fast = AioResult(), AioResult()
    aioread(ends[0], bytearray(4), 0, os.SEEK_SET, slow)
    aioread(opened, bytearray(4), 0, os.SEEK_SET, fast)
    assert aiowait(SOON) is fast
    os.write(ends[1], b"x")
    assert aiowait() is slow


@rule("R351")
def test_aiowait_waits(ends: Ends) -> None:
    result = AioResult()
    aioread(ends[0], bytearray(4), 0, os.SEEK_SET, result)
    call = waiting(partial(aiowait, None))
    os.write(ends[1], b"x")
    assert call.result() is result


@rule("R351")
@pytest.mark.parametrize("timeout", [None, 0, 1])
def test_with_nothing_outstanding_aiowait_is_einval(timeout: float | None) -> None:
    assert errno_of(aiowait, timeout) == errno.EINVAL


@rule("R351")
@pytest.mark.parametrize("timeout", [-1, -0.1, float("nan")])
def test_a_malformed_timeout_is_einval(opened: int, timeout: float) -> None:
    result = AioResult()
    aioread(opened, bytearray(4), 0, os.SEEK_SET, result)
    assert errno_of(aiowait, timeout) == errno.EINVAL
    assert aiowait(SOON) is result


@rule("R351")
@pytest.mark.parametrize("timeout", [0, 0.02])
def test_when_time_is_up_aiowait_returns_none(ends: Ends, timeout: float) -> None:
    result = AioResult()
    aioread(ends[0], bytearray(4), 0, os.SEEK_SET, result)
    assert aiowait(timeout) is None
    aiocancel(result)


@rule("R352")
def test_a_request_that_waits_is_cancelled_and_not_returned(ends: Ends) -> None:
    results = [AioResult(), AioResult()]
    for result in results:
        aioread(ends[0], bytearray(4), 0, os.SEEK_SET, result)
    for result in results[::-1]:
        aiocancel(result)
        assert (result.aio_return, result.aio_errno) == (-1, errno.ECANCELED)
    assert errno_of(aiowait, 0) == errno.EINVAL


@rule("R352")
def test_what_is_unknown_is_eacces_or_with_nothing_outstanding_einval(
    opened: int, ends: Ends
) -> None:
    assert errno_of(aiocancel, AioResult()) == errno.EINVAL
    waits, finished_one = AioResult(), AioResult()
    aioread(ends[0], bytearray(4), 0, os.SEEK_SET, waits)
    assert errno_of(aiocancel, AioResult()) == errno.EACCES
    aioread(opened, bytearray(4), 0, os.SEEK_SET, finished_one)
    assert aiowait(SOON) is finished_one
    assert errno_of(aiocancel, finished_one) == errno.EACCES
    aiocancel(waits)
    assert errno_of(aiocancel, waits) == errno.EINVAL
    assert errno_of(aiocancel, finished_one) == errno.EINVAL


@rule("R352")
@pytest.mark.parametrize("wrong", [None, 1, "result"])
def test_what_is_no_result_is_a_type_error(opened: int, wrong: Any) -> None:
    with pytest.raises(TypeError):
        aiocancel(wrong)
    with pytest.raises(TypeError):
        aioread(opened, bytearray(4), 0, os.SEEK_SET, wrong)


@rule("R354")
@pytest.mark.usefixtures("reaped")
def test_aiowait_returns_none_of_the_other_calls(port: Port, opened: int) -> None:
    told, silent = reading(port, opened), AioControlBlock(opened, 8)
    aio_read(silent)
    finished(told, silent)
    assert errno_of(aiowait, 0) == errno.EINVAL
    result = AioResult()
    aioread(opened, bytearray(4), 0, os.SEEK_SET, result)
    assert aiowait(SOON) is result
    taken(port, told)
    assert aio_waitn(4, 1, SOON) == [silent]
    assert aio_return(silent) == 8


@rule("R353")
@pytest.mark.skipif(not hasattr(signal, "SIGIO"), reason="this host has no SIGIO")
def test_sigio_is_sent_if_a_handler_is_there_and_nobody_is_in_aiowait(
    opened: int, ends: Ends
) -> None:
    handled: list[int] = []
    former = signal.signal(signal.SIGIO, lambda number, _: handled.append(number))
    try:
        result = AioResult()
        aioread(opened, bytearray(4), 0, os.SEEK_SET, result)
        within(SOON, lambda: handled)
        assert result.aio_return == 4
        assert aiowait(SOON) is result
        aioread(ends[0], bytearray(4), 0, os.SEEK_SET, result)
        call = waiting(partial(aiowait, SOON))
        os.write(ends[1], b"x")
        assert call.result() is result
        assert handled == [signal.SIGIO]
    finally:
        signal.signal(signal.SIGIO, former)


@rule("R353", "R354")
@pytest.mark.usefixtures("reaped")
def test_the_older_calls_send_no_events(port: Port, opened: int) -> None:
    result = AioResult()
    aioread(opened, bytearray(4), 0, os.SEEK_SET, result)
    done(result)
    assert port.getn(1, 1, A_WHILE) == []
    assert errno_of(aio_waitn, 1, 1, 0) == errno.EAGAIN
    assert aiowait(SOON) is result


@rule("R348", "R354")
def test_a_fork_child_has_none_of_the_parents_requests(opened: int, ends: Ends) -> None:
    result = AioResult()
    aioread(ends[0], bytearray(4), 0, os.SEEK_SET, result)

    def child() -> None:
        assert errno_of(aiowait, 0) == errno.EINVAL
        own = AioResult()
        aioread(opened, bytearray(4), 0, os.SEEK_SET, own)
        assert aiowait(SOON) is own

    in_fork_child(child)
    os.write(ends[1], b"x")
    assert aiowait(SOON) is result
