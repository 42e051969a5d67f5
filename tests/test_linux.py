"""The calls of Linux by cffi."""

import errno
import os
import select
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
