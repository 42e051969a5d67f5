"""Sockets: data, hang-ups and errors of connections, listening and connecting."""

import errno
import socket
import sys
from collections.abc import Iterator

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
    Port,
)
from portcompat.conformance import needs, rule
from portcompat.conformance._descriptors import A_WHILE, SOON, connection, socket_pair
from portcompat.conformance._polled import polled

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=[socket_pair, connection], ids=["local", "tcp"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with request.param() as connected:
        yield connected


@rule("R094", "R096")
def test_a_socket_is_readable_when_its_peer_sends(port: Port, pair: Pair) -> None:
    ours, theirs = pair
    port.associate(ours, POLLIN)
    assert port.getn(2, 1, 0) == []
    theirs.send(b"x")
    assert port.get(SOON).events == POLLIN


@rule("R099", "R111")
def test_a_half_closed_socket_is_readable(port: Port, pair: Pair) -> None:
    ours, theirs = pair
    port.associate(ours, POLLIN)
    theirs.shutdown(socket.SHUT_WR)
    assert port.get(SOON).events == POLLIN
    assert ours.recv(1) == b""


@needs("rdhup")
@rule("R111")
def test_a_half_closed_socket_tells_pollrdhup_if_asked(port: Port, pair: Pair) -> None:
    ours, theirs = pair
    port.associate(ours, POLLRDHUP)
    assert port.getn(2, 1, 0) == []
    theirs.shutdown(socket.SHUT_WR)
    assert port.get(SOON).events == POLLRDHUP


@needs("hangup")
@rule("R098", "R111")
@pytest.mark.parametrize("events", [0, POLLIN, POLLOUT])
def test_a_socket_finished_in_both_directions_hangs_up(port: Port, pair: Pair, events: int) -> None:
    ours, theirs = pair
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


@rule("R094", "R095")
def test_a_datagram_socket_is_writable_at_once(port: Port) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        port.associate(ours, POLLIN | POLLOUT)
        assert port.get(SOON).events == POLLOUT


@rule("R096", "R098")
def test_a_listening_socket_is_never_writable(port: Port) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port.associate(listener, POLLOUT)
        with socket.create_connection(listener.getsockname(), SOON):
            assert port.getn(2, 1, A_WHILE) == []
            port.associate(listener, POLLIN | POLLOUT)
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
