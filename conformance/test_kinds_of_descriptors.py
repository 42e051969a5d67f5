"""Pipes, terminals, FIFOs, devices: what each kind of descriptor tells."""

import os
import select
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from portcompat import (
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
    PORT_SOURCE_FD,
    Port,
    PortEvent,
)
from portcompat.conformance import needs, rule
from portcompat.conformance._descriptors import A_WHILE, SOON, pipe, socket_pair
from portcompat.conformance._polled import polled


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """A pseudo-terminal in raw mode: its master and its terminal side."""
    pty = pytest.importorskip("pty", reason="this host has no pseudo-terminals")
    tty = pytest.importorskip("tty")
    master, slave = pty.openpty()
    tty.setraw(slave)
    try:
        yield master, slave
    finally:
        os.close(master)
        os.close(slave)


@rule("R094", "R096")
def test_a_pipe_is_readable_when_written(port: Port) -> None:
    with pipe() as (reader, writer):
        port.associate(reader, POLLIN, "pipe")
        assert port.getn(2, 1, 0) == []
        writer.write(b"x")
        assert port.get(SOON) == PortEvent(PORT_SOURCE_FD, reader.fileno(), POLLIN, "pipe")


@rule("R094", "R096")
def test_both_ends_of_a_pipe_come_in_one_call(port: Port) -> None:
    with pipe() as (reader, writer):
        port.associate(reader, POLLIN)
        port.associate(writer, POLLOUT)
        writer.write(b"x")
        events = {event.object: event.events for event in port.getn(4, 2, SOON)}
        assert events == {reader.fileno(): POLLIN, writer.fileno(): POLLOUT}


@rule("R096")
def test_a_full_pipe_is_writable_when_it_is_read(port: Port) -> None:
    with pipe() as (reader, writer):
        os.set_blocking(writer.fileno(), False)
        written = 0
        while count := writer.write(bytes(65_536)):
            written += count
        port.associate(writer, POLLOUT)
        assert port.getn(2, 1, A_WHILE) == []
        while written > 0:
            written -= len(reader.read(min(written, 65_536)))
        assert port.get(SOON).events == POLLOUT


@needs("hangup")
@rule("R098", "R110")
@pytest.mark.parametrize("events", [0, POLLIN, POLLIN | POLLOUT])
@pytest.mark.parametrize("left", [b"", b"x"], ids=["empty", "bytes remain"])
def test_a_pipe_whose_writers_are_gone_hangs_up(port: Port, events: int, left: bytes) -> None:
    with pipe() as (reader, writer):
        writer.write(left)
        writer.close()
        port.associate(reader, events)
        told = port.get(SOON).events
        assert told & POLLHUP
        assert bool(told & POLLIN) == bool(left and events & POLLIN)
        assert told == polled(reader.fileno(), events)


@rule("R110")
def test_a_pipe_whose_writers_are_gone_fires_who_asked_to_read(port: Port) -> None:
    with pipe() as (reader, writer):
        port.associate(reader, POLLIN)
        assert port.getn(2, 1, 0) == []
        writer.close()
        assert port.get(SOON).events & (POLLIN | POLLHUP)
        assert reader.read(1) == b""


@needs("hangup")
@rule("R098", "R110")
@pytest.mark.parametrize("events", [0, POLLIN, POLLOUT])
def test_a_pipe_whose_readers_are_gone_tells_what_poll_tells(port: Port, events: int) -> None:
    with pipe() as (reader, writer):
        reader.close()
        port.associate(writer, events)
        told = port.get(SOON).events
        assert told & (POLLHUP | POLLERR)
        assert told == polled(writer.fileno(), events)


@rule("R110")
def test_a_pipe_whose_readers_are_gone_has_no_pollhup_beside_pollout(port: Port) -> None:
    with pipe() as (reader, writer):
        reader.close()
        port.associate(writer, POLLOUT)
        told = port.get(SOON).events
        assert not (told & POLLHUP and told & POLLOUT)


@rule("R096", "R098")
def test_the_reading_end_of_a_pipe_is_never_writable(port: Port) -> None:
    with pipe() as (reader, writer):
        writer.write(b"x")
        port.associate(reader, POLLOUT)
        assert port.getn(2, 1, A_WHILE) == []
        port.associate(reader, POLLIN | POLLOUT)
        assert port.get(SOON).events == POLLIN


@needs("hangup")
@rule("R107", "R110")
def test_a_hangup_is_told_of_every_descriptor(port: Port) -> None:
    with pipe() as (reader, writer):
        double = os.dup(reader.fileno())
        try:
            port.associate(reader, 0)
            port.associate(double, POLLIN)
            writer.close()
            told = {event.object for event in port.getn(4, 2, SOON) if event.events & POLLHUP}
            assert told == {reader.fileno(), double}
        finally:
            os.close(double)


@rule("R110")
def test_a_hangup_is_told_once_for_each_association(port: Port) -> None:
    with pipe() as (reader, writer):
        writer.close()
        for _ in range(3):
            port.associate(reader, POLLIN)
            assert len(port.getn(2, 1, SOON)) == 1
            assert port.getn(2, 1, A_WHILE) == []


@rule("R094", "R096")
def test_a_terminal_is_readable_when_something_is_typed(port: Port) -> None:
    with terminal() as (master, slave):
        port.associate(slave, POLLIN)
        assert port.getn(2, 1, 0) == []
        os.write(master, b"x")
        assert port.get(SOON) == PortEvent(PORT_SOURCE_FD, slave, POLLIN, None)
        assert os.read(slave, 1) == b"x"


@rule("R094", "R096")
def test_the_master_of_a_terminal_is_readable_when_something_is_printed(port: Port) -> None:
    with terminal() as (master, slave):
        port.associate(master, POLLIN)
        assert port.getn(2, 1, 0) == []
        os.write(slave, b"x")
        assert port.get(SOON).events == POLLIN


@needs("hangup")
@rule("R098")
def test_a_terminal_that_hangs_up_tells_what_poll_tells(port: Port) -> None:
    with terminal() as (master, slave):
        watched = os.dup(slave)
        hung = os.dup(master)
        try:
            port.associate(watched, 0)
            os.dup2(slave, master)  # the last descriptor of the master but one
            os.close(hung)
            assert port.get(SOON).events & POLLHUP
            port.associate(watched, POLLIN | POLLOUT)
            assert port.get(SOON).events == polled(watched, POLLIN | POLLOUT)
        finally:
            os.close(watched)


@needs("hangup")
@rule("R098")
def test_the_master_of_a_terminal_tells_that_its_other_side_is_gone(port: Port) -> None:
    with terminal() as (master, slave):
        spare = os.dup(slave)
        port.associate(master, 0)
        assert port.getn(2, 1, 0) == []
        os.dup2(master, slave)  # the last descriptor of the other side but one
        os.close(spare)
        assert port.get(SOON).events & POLLHUP
        port.associate(master, POLLIN | POLLOUT)
        assert port.get(SOON).events == polled(master, POLLIN | POLLOUT)


@rule("R094", "R096")
def test_a_fifo_open_for_both_is_readable_by_what_it_wrote(port: Port, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    both = os.open(path, os.O_RDWR)
    try:
        port.associate(both, POLLIN)
        assert port.getn(2, 1, A_WHILE) == []
        os.write(both, b"abc")
        assert port.get(SOON).events == POLLIN
        port.associate(both, POLLIN | POLLOUT)
        assert port.get(SOON).events == POLLIN | POLLOUT
    finally:
        os.close(both)


@rule("R094", "R096")
def test_a_fifo_is_readable_when_written(port: Port, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with ExitStack() as opened:
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        opened.callback(os.close, reading)
        port.associate(reading, POLLIN)
        assert port.getn(2, 1, A_WHILE) == []
        writing = os.open(path, os.O_WRONLY)
        opened.callback(os.close, writing)
        os.write(writing, b"x")
        assert port.get(SOON).events == POLLIN


@needs("hangup")
@rule("R098", "R110")
def test_a_fifo_whose_writer_goes_hangs_up(port: Port, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with ExitStack() as opened:
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        opened.callback(os.close, reading)
        writing = os.open(path, os.O_WRONLY)
        port.associate(reading, 0)
        os.close(writing)
        assert port.get(SOON).events == polled(reading, 0)


@rule("R094", "R095")
@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero", "/dev/urandom"])
def test_a_device_without_a_wait_is_ready_at_once(port: Port, device: str) -> None:
    opened = os.open(device, os.O_RDWR)
    try:
        for turn, events in enumerate([POLLIN, POLLOUT, POLLIN | POLLOUT]):
            port.associate(opened, events, turn)
            assert port.get(SOON) == PortEvent(PORT_SOURCE_FD, opened, events, turn)
            assert port.getn(2, 1, 0) == []
    finally:
        os.close(opened)


@rule("R094", "R096")
@pytest.mark.skipif(not hasattr(os, "eventfd"), reason="this host has no eventfd(2)")
def test_an_eventfd_is_readable_when_counted(port: Port) -> None:
    counter = os.eventfd(0)
    try:
        port.associate(counter, POLLIN)
        assert port.getn(2, 1, 0) == []
        os.eventfd_write(counter, 1)
        assert port.get(SOON).events == POLLIN
        port.associate(counter, POLLIN | POLLOUT)
        assert port.get(SOON).events == POLLIN | POLLOUT
    finally:
        os.close(counter)


@rule("R094", "R096")
@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this host has no pidfd_open(2)")
def test_a_process_is_readable_when_it_ends(port: Port) -> None:
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(tell)
        os.read(told, 1)
        os._exit(0)
    os.close(told)
    process = os.pidfd_open(child)
    try:
        port.associate(process, POLLIN)
        assert port.getn(2, 1, 0) == []
        os.close(tell)
        assert port.get(SOON).events & POLLIN
    finally:
        os.close(process)
        os.waitpid(child, 0)


@rule("R094", "R193")
@pytest.mark.skipif(not hasattr(select, "epoll"), reason="this host has no epoll(7)")
def test_an_epoll_is_readable_when_it_has_an_event(port: Port) -> None:
    with select.epoll() as inner, socket_pair() as (ours, theirs):
        inner.register(ours, select.EPOLLIN)
        port.associate(inner, POLLIN)
        assert port.getn(2, 1, 0) == []
        theirs.send(b"x")
        assert port.get(SOON).events == POLLIN


@needs("any-descriptor")
@rule("R094")
def test_a_descriptor_of_any_number_is_accepted(port: Port) -> None:
    resource = pytest.importorskip("resource")
    fcntl = pytest.importorskip("fcntl")
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 2_000:
        pytest.skip("this process may not have a descriptor above 1024")
    with socket_pair() as (ours, theirs):
        high = fcntl.fcntl(ours.fileno(), fcntl.F_DUPFD, 1_500)
        try:
            port.associate(high, POLLIN)
            assert port.getn(2, 1, 0) == []
            theirs.send(b"x")
            assert port.get(SOON).object == high
        finally:
            os.close(high)
