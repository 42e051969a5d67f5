"""Pipes, sockets, terminals, FIFOs, devices: what each kind of descriptor tells."""

import errno
import os
import select
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from portcompat import (
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
    POLLPRI,
    POLLRDHUP,
    POLLRDNORM,
    POLLWRNORM,
    PORT_SOURCE_FD,
    Port,
    PortEvent,
)
from portcompat.conformance import needs, rule
from portcompat.conformance._descriptors import A_WHILE, SOON, connection, pipe, socket_pair
from portcompat.conformance._polled import polled

ANY = POLLIN | POLLOUT | POLLERR | POLLHUP


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


@rule("R110")
def test_a_hangup_is_told_once_for_each_association(port: Port) -> None:
    with pipe() as (reader, writer):
        writer.close()
        for _ in range(3):
            port.associate(reader, POLLIN)
            assert len(port.getn(2, 1, SOON)) == 1
            assert port.getn(2, 1, A_WHILE) == []


@rule("R094", "R096")
@pytest.mark.parametrize("both", [socket_pair, connection], ids=["local", "tcp"])
def test_a_socket_is_readable_when_its_peer_sends(port: Port, both: object) -> None:
    assert callable(both)
    with both() as (ours, theirs):
        port.associate(ours, POLLIN)
        assert port.getn(2, 1, 0) == []
        theirs.send(b"x")
        assert port.get(SOON).events == POLLIN


@rule("R099", "R111")
@pytest.mark.parametrize("both", [socket_pair, connection], ids=["local", "tcp"])
def test_a_half_closed_socket_is_readable(port: Port, both: object) -> None:
    assert callable(both)
    with both() as (ours, theirs):
        port.associate(ours, POLLIN)
        theirs.shutdown(socket.SHUT_WR)
        assert port.get(SOON).events == POLLIN
        assert ours.recv(1) == b""


@needs("rdhup")
@rule("R111")
@pytest.mark.parametrize("both", [socket_pair, connection], ids=["local", "tcp"])
def test_a_half_closed_socket_tells_pollrdhup_if_asked(port: Port, both: object) -> None:
    assert callable(both)
    with both() as (ours, theirs):
        port.associate(ours, POLLRDHUP)
        assert port.getn(2, 1, 0) == []
        theirs.shutdown(socket.SHUT_WR)
        assert port.get(SOON).events == POLLRDHUP


@needs("hangup")
@rule("R098", "R111")
@pytest.mark.parametrize("both", [socket_pair, connection], ids=["local", "tcp"])
@pytest.mark.parametrize("events", [0, POLLIN, POLLOUT])
def test_a_socket_finished_in_both_directions_hangs_up(
    port: Port, both: object, events: int
) -> None:
    assert callable(both)
    with both() as (ours, theirs):
        port.associate(ours, 0)
        theirs.shutdown(socket.SHUT_WR)
        ours.shutdown(socket.SHUT_WR)
        assert port.get(SOON).events & POLLHUP
        port.associate(ours, events)
        assert port.get(SOON).events == polled(ours.fileno(), events)


@rule("R096")
def test_a_full_socket_is_writable_when_its_peer_reads(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        ours.setblocking(False)
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                ours.send(bytes(65_536))
        port.associate(ours, POLLOUT)
        assert port.getn(2, 1, A_WHILE) == []
        with pytest.raises(BlockingIOError):
            while True:
                theirs.recv(65_536)
        assert port.get(SOON).events == POLLOUT


@rule("R094", "R104")
def test_a_listening_socket_is_readable_until_the_client_is_accepted(port: Port) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port.associate(listener, POLLIN)
        assert port.getn(2, 1, 0) == []
        with socket.create_connection(listener.getsockname(), SOON):
            assert port.get(SOON).events == POLLIN
            port.associate(listener, POLLIN)
            assert port.get(SOON).events == POLLIN
            listener.accept()[0].close()
            port.associate(listener, POLLIN)
            assert port.getn(2, 1, A_WHILE) == []


@rule("R094", "R096")
def test_a_connection_made_without_blocking_is_writable_when_it_stands(port: Port) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as ours:
        ours.setblocking(False)
        assert ours.connect_ex(listener.getsockname()) in (0, errno.EINPROGRESS)
        port.associate(ours, POLLOUT)
        assert port.get(SOON).events == POLLOUT
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


@rule("R111")
def test_a_connection_refused_is_told_to_who_waits_for_it(port: Port) -> None:
    with socket.socket() as nobody, socket.socket() as ours:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        ours.setblocking(False)
        assert ours.connect_ex(nobody.getsockname()) in (errno.EINPROGRESS, errno.ECONNREFUSED)
        port.associate(ours, POLLOUT)
        told = port.get(SOON).events
        assert told & (POLLOUT | POLLERR | POLLHUP)
        assert not told & ~(POLLOUT | POLLERR | POLLHUP)


@rule("R111")
def test_a_reset_is_told_to_who_waits_to_read(port: Port) -> None:
    with connection() as (ours, theirs):
        port.associate(ours, POLLIN)
        linger = (1).to_bytes(4, sys.byteorder) + bytes(4)  # on, for 0 s: close sends a reset
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        theirs.close()
        assert port.get(SOON).events & (POLLIN | POLLERR)
        with pytest.raises(ConnectionResetError):
            ours.recv(1)


@needs("hangup")
@rule("R111")
def test_an_error_of_a_socket_is_told_as_poll_tells_it(port: Port) -> None:
    with connection() as (ours, theirs):
        linger = (1).to_bytes(4, sys.byteorder) + bytes(4)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        port.associate(ours, 0)
        theirs.close()
        assert port.get(SOON).events == polled(ours.fileno(), 0)
        port.associate(ours, POLLIN | POLLOUT)
        assert port.get(SOON).events == polled(ours.fileno(), POLLIN | POLLOUT)


@rule("R094", "R096")
def test_a_datagram_makes_its_socket_readable(port: Port) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs,
    ):
        ours.bind(("127.0.0.1", 0))
        port.associate(ours, POLLIN)
        assert port.getn(2, 1, 0) == []
        theirs.sendto(b"", ours.getsockname())
        assert port.get(SOON).events == POLLIN


@needs("bands")
@rule("R098")
def test_ordinary_data_is_told_by_the_name_it_was_asked_by(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        theirs.send(b"x")
        for events in (POLLRDNORM, POLLWRNORM, POLLRDNORM | POLLOUT, POLLIN | POLLWRNORM):
            port.associate(ours, events)
            assert port.get(SOON).events == events


@needs("bands")
@rule("R098")
def test_urgent_data_is_told_if_asked(port: Port) -> None:
    with connection() as (ours, theirs):
        port.associate(ours, POLLPRI)
        theirs.send(b"!", socket.MSG_OOB)
        assert port.get(SOON).events == POLLPRI


@needs("bands")
@rule("R098")
def test_urgent_data_is_not_told_if_not_asked(port: Port) -> None:
    with connection() as (ours, theirs):
        port.associate(ours, POLLIN)
        theirs.send(b"!", socket.MSG_OOB)
        assert port.getn(2, 1, A_WHILE) == []
        theirs.send(b"x")
        assert port.get(SOON).events == POLLIN


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
    opened = os.open(device, os.O_RDONLY)
    try:
        for turn in range(3):
            port.associate(opened, POLLIN, turn)
            assert port.get(SOON) == PortEvent(PORT_SOURCE_FD, opened, POLLIN, turn)
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
