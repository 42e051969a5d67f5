"""The end of a mount: who is released, when a server closes it or dies or a client unmounts."""

import errno
import os
import signal
import socket
import time
from collections.abc import Callable

import pytest

from portcompat import Port
from portcompat.conformance import rule
from portcompat.conformance._callers import Caller, Where, caller, caller_of
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._processes import How, process, tell, told
from portcompat.conformance._servers import Server, refused, serve_a_mount
from portcompat.conformance._threads import in_thread, waiting
from portcompat.msgif import Client, Cloner, Instance, State

Scale = Callable[[int, int, int], int]


@rule("M053")
@pytest.mark.parametrize("ends", ["close", "unmount"])
def test_every_parked_caller_is_released_with_enxio(
    client: Caller, server: Server, instance: Instance, where: Where, ends: str
) -> None:
    with caller(where, instance) as other:
        taken = [calling.call(1) for calling in (client, other) for _ in range(4)]
        for _ in taken:
            server.take()
        queued = [calling.call(2) for calling in (client, other) for _ in range(4)]
        assert server.readable(SOON)
        if ends == "close":
            instance.close()
        else:
            client.do("unmount")
        for call in [*taken, *queued]:
            refused(errno.ENXIO, call.result)
        for calling in (client, other):
            refused(errno.ENXIO, lambda c=calling: c.do("call", 3))  # type: ignore[misc]


@rule("M053")
def test_a_call_that_was_answered_before_the_end_has_its_answer(
    client: Caller, server: Server, instance: Instance
) -> None:
    call = client.call(1)
    server.answer(0, b"answered")
    instance.close()
    assert call.result() == b"answered"


@rule("M053", "M006")
def test_calls_that_begin_as_the_mount_ends_are_released_too(
    cloner: Cloner, port: Port, where: Where, scale: Scale
) -> None:
    for _ in range(scale(10, 100, 1_000)):
        with cloner.open() as instance:
            instance.mount()
            with caller("thread" if where == "process" else where, instance) as client:
                calls = [client.call(number) for number in range(8)]
                instance.close()
                for call in calls:
                    refused(errno.ENXIO, call.result)


@rule("M053")
def test_closing_is_for_this_mount_only(cloner: Cloner, client: Caller, server: Server) -> None:
    call = client.call(1)
    with cloner.open() as other:
        other.mount()
    server.answer(0, b"lives")
    assert call.result() == b"lives"


@rule("M053")
def test_closing_twice_does_nothing(client: Caller, instance: Instance) -> None:
    instance.close()
    instance.close()
    refused(errno.ENXIO, lambda: client.do("call", 1))


@rule("M053")
def test_a_client_that_closes_releases_its_own_callers_only(
    instance: Instance, client: Caller, server: Server
) -> None:
    with instance.client() as closing:
        mine = waiting(lambda: closing.call(1))
        lost = server.take()
        others = client.call(2)
        kept = server.take()
        closing.close()
        refused(errno.EBADF, mine.result)
        refused(errno.EBADF, lambda: closing.call(1))
        refused(errno.EBADF, lambda: closing.cast(1))
        deadline = time.monotonic() + SOON
        while True:  # the server learns of it as of everything else that clients send
            try:
                instance.getop(block=False)
            except BlockingIOError:
                pass
            try:
                instance.putop(lost.id, 0, b"late")
            except OSError as error:
                assert error.errno == errno.EINVAL
                break
            assert time.monotonic() < deadline
        instance.putop(kept.id, 0, b"kept")
        assert others.result() == b"kept"


@rule("M054")
@pytest.mark.parametrize("how", ["fork", "process"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_a_signal_ends_releases_everybody(
    port: Port, how: How, number: signal.Signals
) -> None:
    with (
        process(how, serve_a_mount) as server,
        Client.recv_handle(server.channel) as client,
    ):
        assert client.call(1, b"first") == b"first"
        calls = [waiting(lambda: client.call(0)) for _ in range(8)]
        os.kill(server.pid, number)
        for call in calls:
            refused(errno.ENXIO, call.result)
        refused(errno.ENXIO, lambda: client.call(1))
        refused(errno.ENXIO, lambda: client.cast(1))


@rule("M054")
@pytest.mark.parametrize("where", ["fork", "process"], indirect=True)
@pytest.mark.parametrize("how", ["fork", "process"])
def test_a_killed_server_releases_callers_in_other_processes(
    port: Port, how: How, where: Where
) -> None:
    with (
        process(how, serve_a_mount) as server,
        Client.recv_handle(server.channel) as mine,
        caller_of(where, mine, server.channel) as client,
    ):
        assert mine.call(1, b"x") == b"x"
        assert client.call(1, b"x").result() == b"x"
        calls = [client.call(0) for _ in range(4)]
        client.call(1).result()
        server.kill()
        for call in calls:
            refused(errno.ENXIO, call.result)
        refused(errno.ENXIO, lambda: mine.call(1))


@rule("M054")
def test_a_killed_server_with_a_child_that_is_a_client_releases_it(port: Port) -> None:
    """The child has, by fork, all that its parent the server has."""
    with process("fork", serve_with_a_client_child) as server:
        assert told(server.channel) == "parked"
        server.kill()
        assert told(server.channel) == errno.ENXIO


def serve_with_a_client_child(channel: socket.socket) -> None:
    with Cloner().open() as instance:
        instance.mount()
        with instance.client() as client:
            if os.fork() == 0:
                try:
                    parked = waiting(lambda: client.call(1))
                    tell(channel, "parked")
                    parked.result()
                except OSError as error:
                    tell(channel, error.errno)
                finally:
                    os._exit(0)
            instance.getop()
            signal.pause()


@rule("M054")
def test_a_shared_mount_lives_until_its_last_server_has_died(cloner: Cloner, port: Port) -> None:
    instance = cloner.open(shared=True)
    instance.mount()

    def serve(channel: socket.socket) -> None:
        while True:
            request = instance.getop()
            instance.putop(request.id, 0, b"child")

    with instance.client() as client, process("fork", serve) as first:
        assert client.call(1, timeout=SOON) == b"child"
        first.kill()
        call = in_thread(lambda: client.call(2))
        assert Server(instance, port).answer(0, b"parent").optype == 2
        assert call.result() == b"parent"
        parked = waiting(lambda: client.call(3))
        instance.close()
        refused(errno.ENXIO, parked.result)


@rule("M055")
def test_unmounting_marks_the_instance_dead(client: Caller, server: Server) -> None:
    client.do("unmount")
    assert server.readable(SOON)
    assert server.instance.state is State.DEAD


@rule("M055")
def test_unmounting_wakes_the_waiting_servers_with_enxio(
    client: Caller, instance: Instance
) -> None:
    taking = [waiting(instance.getop) for _ in range(3)]
    client.do("unmount")
    for one in taking:
        refused(errno.ENXIO, one.result)


@rule("M055")
def test_closing_what_was_unmounted_frees_it_and_nothing_more(
    cloner: Cloner, client: Caller, instance: Instance, port: Port
) -> None:
    client.do("unmount")
    instance.close()
    with cloner.open() as next_one:
        assert next_one.index == instance.index
        next_one.mount()
        server = Server(next_one, port)
        with next_one.client() as other:
            call = in_thread(lambda: other.call(1))
            server.answer(0, b"the next mount")
            assert call.result() == b"the next mount"


@rule("M055")
def test_unmounting_what_is_dead_does_nothing(
    client: Caller, instance: Instance, where: Where
) -> None:
    with caller(where, instance) as other:
        client.do("unmount")
        refused(errno.ENXIO, lambda: other.do("call", 1))
        client.do("unmount")
        other.do("unmount")


@rule("M055", "M050")
def test_unmounting_what_is_not_mounted_yet_is_enxio(cloner: Cloner, port: Port) -> None:
    with cloner.open() as instance, instance.client() as client:
        refused(errno.ENXIO, client.unmount)
        instance.mount()
        client.cast(1)
        assert Server(instance, port).take().optype == 1
