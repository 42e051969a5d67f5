"""The calls of Linux by cffi."""

import errno
import os
import select
import signal
import time
from pathlib import Path

import pytest

if not hasattr(select, "epoll"):
    pytest.skip("not Linux", allow_module_level=True)

from portcompat.backends import _linux, _linux_cffi
from portcompat.conformance._descriptors import pipe


def test_the_compiled_declarations_are_those_of_the_source() -> None:
    pytest.importorskip("pycparser", reason="cffi compiles declarations with pycparser")
    from portcompat.backends import _linux_cdef

    compiled = Path(_linux_cffi.__file__).read_text()
    assert compiled == _linux_cdef.source(), "run backends/_linux_cdef.py"


def test_compiling_leaves_no_file_behind() -> None:
    pytest.importorskip("pycparser", reason="cffi compiles declarations with pycparser")
    from portcompat.backends import _linux_cdef

    folder = Path(_linux_cdef.__file__).parent
    before = set(folder.iterdir())
    _linux_cdef.source()
    assert set(folder.iterdir()) - before <= {folder / "__pycache__"}


@pytest.mark.parametrize("token", [0, 7, -1, -(2**31), 2**31 - 1])
def test_a_token_comes_back_as_it_was_given(token: int) -> None:
    with select.epoll() as epoll, pipe() as (reader, writer):
        _linux.epoll_ctl(epoll.fileno(), _linux.ADD, reader.fileno(), select.EPOLLIN, token)
        writer.write(b"x")
        assert epoll.poll(0) == [(token, select.EPOLLIN)]


def test_a_refused_call_raises_its_errno() -> None:
    with select.epoll() as epoll, pipe() as (reader, _):
        with pytest.raises(OSError, match="No such file") as error:
            _linux.epoll_ctl(epoll.fileno(), _linux.MOD, reader.fileno(), 0, 0)
        assert error.value.errno == errno.ENOENT


def test_asking_whether_a_descriptor_is_registered_changes_nothing() -> None:
    with select.epoll() as epoll, pipe() as (reader, writer):
        writer.write(b"x")
        assert not _linux.is_registered(epoll.fileno(), reader.fileno())
        assert epoll.poll(0) == []
        epoll.register(reader, select.EPOLLIN)
        assert _linux.is_registered(epoll.fileno(), reader.fileno())
        assert epoll.poll(0) == [(reader.fileno(), select.EPOLLIN)]


def test_another_file_under_the_number_is_not_registered() -> None:
    with select.epoll() as epoll, pipe() as (reader, _writer), pipe() as (other, _):
        epoll.register(reader, select.EPOLLIN)
        saved = os.dup(reader.fileno())  # keeps the registration alive
        try:
            os.dup2(other.fileno(), reader.fileno())
            assert not _linux.is_registered(epoll.fileno(), reader.fileno())
        finally:
            os.close(saved)


def test_a_wait_ends_when_the_descriptor_is_readable() -> None:
    with pipe() as (reader, writer):
        writer.write(b"x")
        before = time.monotonic()
        _linux.wait_readable(reader.fileno(), 10)
        assert time.monotonic() - before < 5


@pytest.mark.parametrize("span", [0.000_2, 0.01, 1.001])
def test_a_wait_does_not_end_early(span: float) -> None:
    with pipe() as (reader, _):
        before = time.monotonic()
        _linux.wait_readable(reader.fileno(), span)
        assert time.monotonic() - before >= span


def readable(fd: int, timeout: float) -> bool:
    return bool(select.select([fd], [], [], timeout)[0])


@pytest.mark.parametrize("clock", [time.CLOCK_MONOTONIC, time.CLOCK_REALTIME, time.CLOCK_BOOTTIME])
def test_a_timerfd_is_readable_when_its_time_has_come_and_not_before(clock: int) -> None:
    fd = _linux.timerfd(clock)
    try:
        when = time.clock_gettime_ns(clock) + 5_000_000
        _linux.set_timerfd(fd, when)
        assert readable(fd, 10)
        assert time.clock_gettime_ns(clock) >= when
        _linux.set_timerfd(fd, 2**63 - 1)
        assert not readable(fd, 0)
        _linux.set_timerfd(fd, 0)  # a moment that is past, not none
        assert readable(fd, 10)
        _linux.set_timerfd(fd, None)
        assert not readable(fd, 0.01)
    finally:
        os.close(fd)


def test_a_timer_of_the_kernel_reads_as_it_was_set() -> None:
    timer = _linux.PosixTimer(time.CLOCK_MONOTONIC, signal.SIGUSR1, -1)
    assert timer.get() == (0, 0)
    assert timer.set(100 * 10**9 + 7, 10**9 + 3, False) == (0, 0)
    value, interval = timer.get()
    assert 50 * 10**9 < value <= 100 * 10**9 + 7
    assert interval == 10**9 + 3
    assert timer.set(None, 0, False)[1] == interval
    assert timer.get() == (0, 0)
    assert timer.overrun() == 0
    timer.delete()


def test_a_signal_that_is_none_is_einval() -> None:
    with pytest.raises(OSError) as error:
        _linux.PosixTimer(time.CLOCK_MONOTONIC, 4096, 0)
    assert error.value.errno == errno.EINVAL


class LibcWithErrors:
    """Its inotify_add_watch fails with one errno after the other, and then finds 7."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = list(numbers)

    def inotify_add_watch(self, fd: int, path: bytes, mask: int) -> int:
        if not self.numbers:
            return 7
        _linux._ffi.errno = self.numbers.pop(0)
        return -1


def test_an_errno_that_a_signal_handler_may_have_left_is_not_believed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_linux, "_libc", LibcWithErrors(errno.EBADF))
    assert _linux.inotify_add_watch(0, b"path", 0) == 7
    monkeypatch.setattr(_linux, "_libc", LibcWithErrors(errno.EBADF, errno.ENOSPC, errno.ENOSPC))
    with pytest.raises(OSError) as error:
        _linux.inotify_add_watch(0, b"path", 0)
    assert error.value.errno == errno.ENOSPC
