"""The list of connections that the processes of a shared mount have in common."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from portcompat import _msg_sockets as sockets
from portcompat._msg_links import HAVE_LINKS, Links

pytestmark = pytest.mark.skipif(not HAVE_LINKS, reason="peeking does not bring descriptors here")


class Relatives:
    """The list as several processes have it, each with its own place in it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.first = Links()
        stack.callback(self.first.close)

    def another(self) -> Links:
        other = Links()
        other.close()
        other._far, other._near = self.first._far.dup(), self.first._near.dup()
        self._stack.callback(other.close)
        return other

    def connection(self) -> socket.socket:
        ends = socket.socketpair()
        for end in ends:
            self._stack.callback(end.close)
        return ends[0]


@pytest.fixture
def relatives() -> Iterator[Relatives]:
    with ExitStack() as stack:
        yield Relatives(stack)


def identity(end: socket.socket) -> int:
    return os.fstat(end.fileno()).st_ino


def inode(descriptors: list[int] | None) -> int:
    """Which socket it is that was read, and is closed then."""
    assert descriptors is not None
    (fd,) = descriptors
    found = os.fstat(fd).st_ino
    sockets.close_all(descriptors)
    return found


def test_each_reads_all_in_the_order_of_adding(relatives: Relatives) -> None:
    others = [relatives.another() for _ in range(3)]
    added = [relatives.connection() for _ in range(5)]
    for end in added:
        assert relatives.first.add([end.fileno()]) == []
    for other in others:
        assert [inode(other.read()) for _ in added] == [identity(end) for end in added]
        assert other.read() is None


def test_who_adds_reads_on_the_way_what_others_have_added(relatives: Relatives) -> None:
    other = relatives.another()
    ends = [relatives.connection() for _ in range(3)]
    for end in ends[:2]:
        relatives.first.add([end.fileno()])
    before = other.add([ends[2].fileno()])
    assert [inode(each) for each in before] == [identity(end) for end in ends[:2]]
    assert other.read() is None
    assert inode(relatives.first.read()) == identity(ends[2])


def test_the_gate_is_ready_while_there_is_something_to_read(relatives: Relatives) -> None:
    other = relatives.another()
    gate = sockets.Gate()
    try:
        other.watch(gate)
        assert not gate.poll(0)
        for _ in range(2):
            relatives.first.add([relatives.connection().fileno()])
        for _ in range(2):
            assert gate.poll(0)
            sockets.close_all(other.read() or [])
        assert not gate.poll(0)
    finally:
        gate.close()


def test_no_descriptor_stays_open(relatives: Relatives) -> None:
    other = relatives.another()
    end = relatives.connection()
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(20):
        relatives.first.add([end.fileno()])
        sockets.close_all(other.read() or [])
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_adding_what_is_no_descriptor_changes_nothing(relatives: Relatives) -> None:
    other = relatives.another()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError) as caught:
        relatives.first.add([1_000_000])
    assert caught.value.errno == errno.EBADF
    assert other.read() is None
    assert len(os.listdir("/proc/self/fd")) == before
