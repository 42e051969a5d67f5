"""The server's descriptor: when it is readable, and to whom."""

import asyncio
import errno
import os
import select
import selectors
import socket
import threading
from collections.abc import Callable
from functools import partial

import pytest

from portcompat import POLLIN, POLLOUT, PORT_SOURCE_ALERT, Port
from portcompat.conformance import rule
from portcompat.conformance._callers import Caller, Where, caller
from portcompat.conformance._descriptors import A_WHILE, SOON
from portcompat.conformance._processes import process, tell, told
from portcompat.conformance._servers import Server, refused
from portcompat.conformance._threads import in_thread, waiting
from portcompat.msgif import Cloner, Instance

Readable = Callable[[float], bool]
Scale = Callable[[int, int, int], int]


def by_poll(instance: Instance, timeout: float) -> bool:
    if not hasattr(select, "poll"):
        pytest.skip("this host has no poll(2)")
    poll = select.poll()
    poll.register(instance, POLLIN)
    return bool(poll.poll(timeout * 1000))


def by_select(instance: Instance, timeout: float) -> bool:
    return bool(select.select([instance], [], [], timeout)[0])


def by_a_selector(instance: Instance, timeout: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(instance, selectors.EVENT_READ)
        return bool(selector.select(timeout))


def by_asyncio(instance: Instance, timeout: float) -> bool:
    async def wait() -> bool:
        loop = asyncio.get_running_loop()
        told = asyncio.Event()
        loop.add_reader(instance, told.set)
        try:
            await asyncio.wait_for(told.wait(), timeout or A_WHILE)
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(instance)
        return True

    return asyncio.run(wait())


WATCHERS = {
    "poll": by_poll,
    "select": by_select,
    "selector": by_a_selector,
    "asyncio": by_asyncio,
}


@pytest.fixture(params=["port", *WATCHERS])
def readable(request: pytest.FixtureRequest, instance: Instance, server: Server) -> Readable:
    """Whether the descriptor is readable, in so many seconds, for one of those who can watch it."""
    if request.param == "port":
        return server.readable
    return partial(WATCHERS[request.param], instance)


@rule("M040")
def test_it_is_readable_exactly_while_requests_wait(
    client: Caller, instance: Instance, readable: Readable
) -> None:
    assert not readable(A_WHILE)
    client.cast(1)
    client.cast(2)
    for left in (1, 0):
        assert readable(SOON)
        instance.getop(block=False)
        assert instance.pending() == left
    assert not readable(A_WHILE)
    client.call(3)
    assert readable(SOON)
    request = instance.getop(block=False)
    assert not readable(A_WHILE)
    instance.putop(request.id)
    assert not readable(A_WHILE)


@rule("M040", "M005")
def test_how_many_wait_can_be_asked(client: Caller, server: Server) -> None:
    assert server.instance.pending() == 0
    for number in range(5):
        client.cast(number)
    assert server.readable(SOON)
    assert server.instance.pending() == 5
    server.take()
    assert server.instance.pending() == 4


@rule("M040")
def test_counting_makes_it_neither_readable_nor_not(client: Caller, server: Server) -> None:
    client.cast(1)
    assert server.readable(SOON)
    assert server.instance.pending() == 1
    assert server.readable()
    server.instance.getop(block=False)
    assert not server.readable()
    assert server.instance.pending() == 0
    assert not server.readable()


@rule("M040")
def test_a_request_that_waits_is_seen_by_who_comes_later(
    client: Caller, instance: Instance, make_port: Callable[..., Port]
) -> None:
    client.cast(1)
    assert by_select(instance, SOON)
    assert Server(instance, make_port()).readable(SOON)
    assert Server(instance, make_port()).readable(SOON)


@rule("M040", "M011")
def test_a_request_that_there_was_no_room_for_keeps_it_readable(
    client: Caller, instance: Instance, readable: Readable
) -> None:
    client.cast(1, b"too large")
    assert readable(SOON)
    refused(errno.E2BIG, lambda: instance.getop(3))
    assert readable(SOON)
    instance.getop()
    assert not readable(A_WHILE)


@rule("M040", "M056")
def test_a_caller_that_gives_up_makes_it_unreadable(
    client: Caller, instance: Instance, readable: Readable
) -> None:
    with pytest.raises(TimeoutError):
        client.do("call", 1, timeout=0.05)
    assert not readable(A_WHILE)
    refused(errno.EWOULDBLOCK, lambda: instance.getop(block=False))


@rule("M040")
def test_who_watches_is_woken(client: Caller, instance: Instance, readable: Readable) -> None:
    watching = in_thread(lambda: readable(SOON))
    client.cast(1)
    assert watching.result()


@rule("M040")
def test_a_thread_that_waits_in_the_port_is_woken(
    client: Caller, instance: Instance, port: Port
) -> None:
    port.associate(instance, POLLIN, "requests")
    getter = waiting(port.get)
    client.call(1)
    assert getter.result().user == "requests"
    assert port.pending() == 0


@rule("M040")
@pytest.mark.parametrize("size", [60_000, 65_536])
def test_a_large_request_is_readable_when_all_of_it_is_there(
    client: Caller, server: Server, size: int
) -> None:
    for number in range(20):
        call = client.call(number, bytes(size))
        assert len(server.take().payload) == size  # EWOULDBLOCK if it were seen too early
        server.instance.putop(number + 1)
        call.result()


@rule("M040")
def test_it_is_readable_when_the_mount_is_dead(
    client: Caller, instance: Instance, readable: Readable
) -> None:
    client.do("unmount")
    assert readable(SOON)
    with pytest.raises(OSError) as caught:
        instance.getop(block=False)
    assert caught.value.errno in (errno.ENXIO, errno.ENOENT)


@rule("M040")
def test_what_clients_do_otherwise_makes_it_not_readable(
    instance: Instance, readable: Readable, where: Where
) -> None:
    with caller(where, instance):
        assert not readable(A_WHILE)
        refused(errno.EWOULDBLOCK, lambda: instance.getop(block=False))
    assert not readable(A_WHILE)
    refused(errno.EWOULDBLOCK, lambda: instance.getop(block=False))


@rule("M040")
def test_it_is_always_writable(instance: Instance, port: Port) -> None:
    with instance.client() as client:
        for _ in range(2):
            port.associate(instance, POLLOUT)
            assert port.get(A_WHILE).events == POLLOUT
            client.cast(1)


@rule("M040")
def test_its_number_stays_the_same(cloner: Cloner, server: Server, client: Caller) -> None:
    number = server.instance.fileno()
    client.cast(1)
    server.take()
    client.do("unmount")
    assert server.instance.fileno() == number


@rule("M040")
def test_it_is_readable_in_a_fork_child_that_serves(
    cloner: Cloner, where: Where, make_port: Callable[..., Port], backend: str
) -> None:
    with cloner.open(shared=True) as instance:
        instance.mount()

        def serve(channel: socket.socket) -> None:
            with Port(backend) as port:
                server = Server(instance, port)
                idle = server.is_idle()
                tell(channel, idle)
                server.answer(0, b"from the port of a child")

        with caller(where, instance) as client, process("fork", serve) as child:
            assert told(child.channel)
            assert client.call(1).result() == b"from the port of a child"


@rule("M042", "M010")
def test_who_comes_too_late_gets_ewouldblock(
    client: Caller, instance: Instance, make_port: Callable[..., Port]
) -> None:
    servers = [Server(instance, make_port()) for _ in range(3)]
    client.cast(1)
    assert [server.readable(SOON) for server in servers] == [True] * 3
    servers[1].instance.getop(block=False)
    for _ in (servers[0], servers[2]):
        refused(errno.EWOULDBLOCK, lambda: instance.getop(block=False))


@rule("M042", "M010")
def test_servers_with_ports_of_their_own_share_the_requests(
    client: Caller, instance: Instance, make_port: Callable[..., Port], scale: Scale
) -> None:
    count = scale(100, 1_000, 10_000)
    over = threading.Event()

    def serve(server: Server) -> list[int]:
        taken = []
        while not over.is_set():
            if server.readable(0.01):
                try:
                    request = instance.getop(block=False)
                except BlockingIOError:
                    continue
                taken.append(request.optype)
                if request.id:
                    instance.putop(request.id)
        return taken

    serving = [in_thread(partial(serve, Server(instance, make_port()))) for _ in range(4)]
    client.casts(count, 0).result(60)
    client.call(count).result()
    over.set()
    assert sorted(number for one in serving for number in one.result()) == list(range(count + 1))


@rule("M042", "M010")
def test_threads_that_share_one_port_share_the_requests(
    client: Caller, instance: Instance, port: Port, scale: Scale
) -> None:
    count = scale(100, 1_000, 10_000)

    def serve() -> list[int]:
        taken = []
        while port.get().source != PORT_SOURCE_ALERT:
            request = instance.getop(block=False)
            port.associate(instance, POLLIN)
            taken.append(request.optype)
            if request.id:
                instance.putop(request.id)
        return taken

    port.associate(instance, POLLIN)
    serving = [waiting(serve) for _ in range(3)]
    client.casts(count, 0).result(60)
    client.call(count).result()
    port.alert(1)
    assert sorted(number for one in serving for number in one.result()) == list(range(count + 1))


@rule("M043")
def test_it_cannot_be_read(instance: Instance, port: Port) -> None:
    refused(errno.ENODEV, lambda: os.read(instance.fileno(), 1))


@rule("M043")
def test_it_cannot_be_written(instance: Instance, port: Port) -> None:
    refused(errno.ENODEV, lambda: os.write(instance.fileno(), b"x"))


@rule("M043")
def test_an_unknown_control_operation_is_einval(instance: Instance, port: Port) -> None:
    fcntl = pytest.importorskip("fcntl")
    refused(errno.EINVAL, lambda: fcntl.fcntl(instance.fileno(), 0x7FFF))
