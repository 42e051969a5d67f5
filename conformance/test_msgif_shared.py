"""Mounts that several processes serve: connections made after a fork are everybody's."""

import errno
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import pytest

from portcompat import Port
from portcompat.conformance import rule
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._processes import Process, Work, process, tell, told
from portcompat.conformance._servers import Server, refused
from portcompat.conformance._threads import in_thread, waiting
from portcompat.msgif import Client, Cloner, Instance

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"),
    reason="elsewhere a server knows the connections that it or its parent made, see Cloner.open",
)


def serve(instance: Instance, channel: socket.socket) -> None:
    """Answer each call with the number of this process; a cast ends it."""
    while (request := instance.getop()).id:
        instance.putop(request.id, 0, b"%d" % os.getpid())


def serve_from_a_port(backend: str, instance: Instance, channel: socket.socket) -> None:
    with Port(backend) as port:
        server = Server(instance, port)
        tell(channel, server.is_idle())
        while True:
            answer(server, b"%d" % os.getpid())


def answer(server: Server, payload: bytes) -> None:
    """Answer the next call; that the descriptor is readable may be for a new connection."""
    while True:
        try:
            server.answer(0, payload)
        except BlockingIOError:
            continue
        return


def hand_out(instance: Instance, channel: socket.socket) -> None:
    """Make as many connections as the channel says, each time, and send them there."""
    with suppress(EOFError):
        while True:
            for _ in range(told(channel)):
                instance.send_handle(channel)


@contextmanager
def killed_at_last(work: Work) -> Iterator[Process]:
    """A fork child that serves for ever, as the mount lives as long as it does."""
    with process("fork", work) as child:
        try:
            yield child
        finally:
            child.kill()


@pytest.fixture
def shared(cloner: Cloner, port: Port) -> Instance:
    instance = cloner.open(shared=True)
    instance.mount()
    return instance


@rule("M010", "M054")
def test_a_child_serves_a_connection_that_its_parent_made_after_the_fork(shared: Instance) -> None:
    with shared, killed_at_last(partial(serve, shared)) as child, shared.client() as client:
        for _ in range(3):
            assert client.call(1, timeout=SOON) == b"%d" % child.pid


@rule("M010", "M040")
def test_a_child_that_waits_in_a_port_serves_it(shared: Instance, backend: str) -> None:
    with shared, killed_at_last(partial(serve_from_a_port, backend, shared)) as child:
        assert told(child.channel)
        for _ in range(3):
            with shared.client() as client:
                for _ in range(2):
                    assert client.call(1, timeout=SOON) == b"%d" % child.pid


@rule("M010", "M054")
def test_a_connection_that_a_child_made_outlives_the_child(
    shared: Instance, make_port: Callable[..., Port]
) -> None:
    server = Server(shared, make_port())
    with shared, process("fork", partial(hand_out, shared)) as child:
        tell(child.channel, 1)
        with Client.recv_handle(child.channel) as client:
            child.kill()
            call = in_thread(lambda: client.call(1, timeout=SOON))
            answer(server, b"answer")
            assert call.result() == b"answer"


@rule("M010", "M054")
def test_siblings_serve_what_any_of_them_makes(shared: Instance) -> None:
    def exchange(maker: Process, pid: int) -> None:
        tell(maker.channel, 1)
        with Client.recv_handle(maker.channel) as client:
            assert client.call(1, timeout=SOON) == b"%d" % pid

    with ExitStack() as stack:
        stack.enter_context(shared)
        makers = [stack.enter_context(process("fork", partial(hand_out, shared))) for _ in range(3)]
        child = stack.enter_context(killed_at_last(partial(serve, shared)))
        for maker in makers:
            exchange(maker, child.pid)


@rule("M010")
def test_connections_made_at_the_same_time_are_all_known(shared: Instance) -> None:
    """Whoever loses the race to be next in the list comes after it."""
    count = 20
    with ExitStack() as stack:
        stack.enter_context(shared)
        child = stack.enter_context(killed_at_last(partial(serve, shared)))
        makers = [stack.enter_context(process("fork", partial(hand_out, shared))) for _ in range(4)]
        for maker in makers:
            tell(maker.channel, count)
        with ExitStack() as clients:
            for maker in makers:
                for _ in range(count):
                    client = clients.enter_context(Client.recv_handle(maker.channel))
                    assert client.call(1, timeout=SOON) == b"%d" % child.pid


@rule("M053", "M054")
def test_the_end_of_the_mount_releases_who_came_after_the_fork(shared: Instance) -> None:
    with killed_at_last(partial(serve, shared)) as child, shared.client() as client:
        assert client.call(1, timeout=SOON) == b"%d" % child.pid
        child.kill()
        parked = waiting(lambda: client.call(2))
        shared.close()
        refused(errno.ENXIO, parked.result)


@rule("M040", "M042")
def test_a_connection_made_elsewhere_is_a_hint_at_most(
    shared: Instance, make_port: Callable[..., Port]
) -> None:
    """It may make the descriptor readable; who looks then finds nothing, and it is not any more."""
    server = Server(shared, make_port())
    with shared, process("fork", partial(hand_out, shared)) as child:
        for _ in range(3):
            tell(child.channel, 1)
            with Client.recv_handle(child.channel) as client:
                refused(errno.EWOULDBLOCK, lambda: shared.getop(block=False))
                assert server.is_idle()
                client.cast(5)
                assert server.take().optype == 5
