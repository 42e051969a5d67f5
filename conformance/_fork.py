"""Work in a fork child, and what became of it there."""

import os
import select
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

CHILD_TIME = 30.0
"""Seconds that a child may take."""


def in_fork_child(work: Callable[[], object]) -> None:
    """Run `work` in a fork child and fail with its traceback if it raises there."""
    if not hasattr(os, "fork"):
        pytest.skip("this host has no fork(2)")
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        _run(work, tell)
    os.close(tell)
    try:
        report = _read(told, child)
    finally:
        os.close(told)
        os.waitpid(child, 0)
    if report != b"done":
        pytest.fail(f"in the fork child:\n{report.decode()}")


def _run(work: Callable[[], object], tell: int) -> None:
    """The child's whole life: no finalizer and no test runner after it."""
    try:
        work()
        os.write(tell, b"done")
    except BaseException:
        os.write(tell, traceback.format_exc().encode()[-32_000:])
    finally:
        os._exit(0)


def _read(told: int, child: int) -> bytes:
    report = b""
    while True:
        readable, _, _ = select.select([told], [], [], CHILD_TIME)
        if not readable:
            os.kill(child, signal.SIGKILL)
            return report + b"still running after %d s" % CHILD_TIME
        chunk = os.read(told, 65_536)
        if not chunk:
            return report
        report += chunk


@contextmanager
def fork_child_that_holds_everything() -> Iterator[None]:
    """A fork child that keeps every descriptor open until the block ends."""
    if not hasattr(os, "fork"):
        pytest.skip("this host has no fork(2)")
    held, hold = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(hold)
            os.read(held, 1)
        finally:
            os._exit(0)
    os.close(held)
    try:
        yield
    finally:
        os.close(hold)
        os.waitpid(child, 0)
