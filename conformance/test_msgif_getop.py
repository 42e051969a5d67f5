"""getop: taking requests, and what happens to one that is not taken."""

import errno
import signal
import socket
import time
from collections.abc import Callable

import pytest

from portcompat import Port
from portcompat.conformance import rule
from portcompat.conformance._callers import Caller, Where, caller
from portcompat.conformance._descriptors import A_WHILE, SOON
from portcompat.conformance._interruptions import at_each_step
from portcompat.conformance._processes import process, tell, told
from portcompat.conformance._servers import Server, refused
from portcompat.conformance._threads import in_thread, waiting
from portcompat.msgif import Cloner, Instance, Request

Scale = Callable[[int, int, int], int]


class Interrupted(Exception):
    """What a signal handler raises."""


@rule("M010")
def test_an_empty_queue_is_ewouldblock(server: Server) -> None:
    assert server.is_idle()
    with pytest.raises(BlockingIOError) as caught:
        server.instance.getop(block=False)
    assert caught.value.errno == errno.EWOULDBLOCK


@rule("M010")
def test_an_emptied_queue_is_ewouldblock(client: Caller, server: Server) -> None:
    client.cast(1)
    server.take()
    refused(errno.EWOULDBLOCK, lambda: server.instance.getop(block=False))


@rule("M010")
def test_getop_waits_for_a_request(client: Caller, instance: Instance) -> None:
    taking = waiting(instance.getop)
    client.cast(1, b"late")
    assert taking.result().payload == b"late"


@rule("M010")
def test_getop_waits_for_a_call_and_its_reply_is_found(client: Caller, instance: Instance) -> None:
    taking = waiting(instance.getop)
    call = client.call(1, b"late")
    instance.putop(taking.result().id, 0, b"reply")
    assert call.result() == b"reply"


@rule("M010")
def test_waiting_costs_no_processor_time(client: Caller, instance: Instance) -> None:
    def spent() -> float:
        before = time.thread_time()
        instance.getop()
        return time.thread_time() - before

    taking = waiting(spent)
    refused(errno.EWOULDBLOCK, lambda: instance.getop(block=False))
    time.sleep(0.2)
    client.cast(1)
    assert taking.result() < 0.1


@rule("M010")
def test_of_several_servers_that_wait_one_gets_the_request(
    client: Caller, instance: Instance
) -> None:
    taking = [waiting(instance.getop) for _ in range(4)]
    client.cast(0)
    deadline = time.monotonic() + SOON
    while not any(one.over for one in taking):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(A_WHILE)
    assert sum(one.over for one in taking) == 1
    for number in range(1, 4):
        client.cast(number)
    assert sorted(one.result().optype for one in taking) == [0, 1, 2, 3]


@rule("M010", "M005")
def test_each_request_goes_to_one_of_several_servers(
    client: Caller, instance: Instance, scale: Scale
) -> None:
    count = scale(200, 2_000, 20_000)
    end = -1

    def take_until_end() -> list[int]:
        taken: list[int] = []
        while (number := instance.getop().optype) != end:
            taken.append(number)
        return taken

    servers = [in_thread(take_until_end) for _ in range(4)]
    client.casts(count, 0).result(60)
    taken = []
    for _ in servers:
        client.cast(end)
    for one in servers:
        found = one.result()
        assert found == sorted(found)
        taken += found
    assert sorted(taken) == list(range(count))


@rule("M010", "M040")
def test_fork_children_of_the_server_take_requests_too(
    cloner: Cloner, port: Port, where: Where
) -> None:
    with cloner.open(shared=True) as instance:
        instance.mount()

        def serve(channel: socket.socket) -> None:
            while (request := instance.getop()).optype != 0:
                instance.putop(request.id, 0, b"by a child: " + request.payload)

        with (
            caller(where, instance) as client,
            process("fork", serve),
            process("fork", serve),
        ):
            calls = [client.call(1, b"%d" % number) for number in range(20)]
            for number, call in enumerate(calls):
                assert call.result() == b"by a child: %d" % number
            client.cast(0)
            client.cast(0)


@rule("M010", "M020")
def test_a_fork_child_and_its_parent_serve_beside_each_other(
    cloner: Cloner, where: Where, port: Port
) -> None:
    with cloner.open(shared=True) as instance:
        instance.mount()

        def serve(channel: socket.socket) -> None:
            request = instance.getop()
            instance.putop(request.id, 0, b"child")

        with caller(where, instance) as client:
            with process("fork", serve) as child:
                call = client.call(1)
                assert call.result() == b"child"
                child.channel.recv(1)  # until it has ended
            call = client.call(2)
            assert Server(instance, port).answer(0, b"parent").optype == 2
            assert call.result() == b"parent"


@rule("M011")
@pytest.mark.parametrize("room", [0, 1, 99])
def test_a_request_larger_than_the_room_stays_at_the_head(
    client: Caller, server: Server, room: int
) -> None:
    client.cast(1, bytes(100))
    client.cast(2)
    for _ in range(3):
        with pytest.raises(OSError) as caught:
            server.take(room)
        assert caught.value.errno == errno.E2BIG
    assert server.take(100)[1:5] == (0, 1, 0, bytes(100))
    assert server.take(0).optype == 2


@rule("M011")
def test_a_request_that_was_counted_stays_at_the_head_too(client: Caller, server: Server) -> None:
    client.cast(1, bytes(100))
    client.cast(2)
    assert server.readable(SOON)
    for _ in range(2):
        assert server.instance.pending() == 2
        refused(errno.E2BIG, lambda: server.instance.getop(99, block=False))
    assert [server.take(100).optype for _ in range(2)] == [1, 2]


@rule("M011")
def test_a_call_larger_than_the_room_is_still_answered(client: Caller, server: Server) -> None:
    call = client.call(1, bytes(5000))
    with pytest.raises(OSError) as caught:
        server.take(4999)
    assert caught.value.errno == errno.E2BIG
    assert not call.over
    request = server.take(5000)
    assert request.payload == bytes(5000)
    server.instance.putop(request.id, 0, b"reply")
    assert call.result() == b"reply"


@rule("M011")
def test_a_waiting_getop_without_the_room_leaves_the_request_to_another(
    client: Caller, instance: Instance
) -> None:
    small = waiting(lambda: instance.getop(10))
    client.cast(1, bytes(11))
    with pytest.raises(OSError) as caught:
        small.result()
    assert caught.value.errno == errno.E2BIG
    assert instance.getop().payload == bytes(11)


@rule("M011", "M010")
def test_a_request_that_one_has_no_room_for_wakes_the_next(
    client: Caller, instance: Instance
) -> None:
    large = [waiting(instance.getop) for _ in range(2)]
    small = [waiting(lambda: instance.getop(10)) for _ in range(2)]
    client.cast(1, bytes(11))
    client.cast(2, bytes(11))
    assert sorted(taking.result().optype for taking in large) == [1, 2]
    instance.close()
    for taking in small:  # each was asked first, or not at all
        with pytest.raises(OSError) as caught:
            taking.result()
        assert caught.value.errno in (errno.E2BIG, errno.ENXIO)


@rule("M011")
def test_a_request_as_large_as_the_mount_allows_fits_the_default_room(
    client: Caller, server: Server
) -> None:
    client.call(1, bytes(1 << 16))
    assert server.take().payload == bytes(1 << 16)


@rule("M012")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in a finalizer
def test_an_interrupted_getop_loses_no_request(instance: Instance, port: Port) -> None:
    def interrupt() -> None:
        raise Interrupted

    steps = 0
    with instance.client() as client:
        for interruption in at_each_step(interrupt):
            client.cast(1, b"first")
            client.cast(2, b"second")
            taken = None
            try:
                with interruption.at_work():
                    taken = instance.getop(block=False)
            except Interrupted:
                taken = taken or instance.getop()
            assert (taken.optype, taken.payload) == (1, b"first")
            assert instance.getop(block=False).optype == 2
            assert instance.pending() == 0
            steps += 1
    assert steps > 1


@rule("M012", "M013")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in a finalizer
def test_an_interrupted_getop_of_a_call_leaves_it_to_the_next(
    instance: Instance, server: Server
) -> None:
    def interrupt() -> None:
        raise Interrupted

    with instance.client() as client:
        for interruption in at_each_step(interrupt):
            call = in_thread(lambda: client.call(1, b"x"))
            assert server.readable(SOON)
            request = None
            try:
                with interruption.at_work():
                    request = instance.getop(block=False)
            except Interrupted:
                request = request or server.take()
            instance.putop(request.id, 0, b"reply")
            assert call.result() == b"reply"


@rule("M012")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this host has no interval timer")
def test_a_handler_that_raises_ends_a_waiting_getop_and_takes_nothing(
    client: Caller, server: Server
) -> None:
    def interrupt(*_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise Interrupted

    former = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        with pytest.raises(Interrupted):
            server.instance.getop()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    client.cast(1, b"later")
    assert server.take().payload == b"later"


@rule("M010")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this host has no interval timer")
def test_a_signal_does_not_end_a_waiting_getop(client: Caller, server: Server) -> None:
    handled: list[float] = []
    former = signal.signal(signal.SIGALRM, lambda *_: handled.append(time.monotonic()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        sending = in_thread(lambda: _cast_after(client, handled, 3))
        assert server.instance.getop().optype == 1
        sending.result()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


@rule("M010")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this host has no interval timer")
def test_a_handler_that_looks_for_requests_does_not_disturb_the_getop_it_interrupts(
    client: Caller, server: Server
) -> None:
    handled: list[float] = []

    def look(*_: object) -> None:
        refused(errno.EWOULDBLOCK, lambda: server.instance.getop(block=False))
        handled.append(time.monotonic())

    former = signal.signal(signal.SIGALRM, look)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        sending = in_thread(lambda: _cast_after(client, handled, 1))
        assert server.instance.getop().optype == 1
        sending.result()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    other = waiting(server.instance.getop)
    client.cast(2)
    assert other.result().optype == 2


def _cast_after(client: Caller, handled: list[float], count: int) -> None:
    deadline = time.monotonic() + SOON
    while len(handled) < count:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    client.cast(1)


@rule("M013", "M020")
def test_a_call_awaits_its_reply_when_it_was_taken(client: Caller, server: Server) -> None:
    client.call(1)
    refused(errno.EINVAL, lambda: server.instance.putop(1, 0))  # it is queued, not taken
    request = server.take()
    server.instance.putop(request.id)


@rule("M013")
def test_a_cast_is_done_with_when_it_was_taken(client: Caller, server: Server) -> None:
    client.cast(1)
    request = server.take()
    assert server.is_idle()
    assert request.id == 0
    refused(errno.EINVAL, lambda: server.instance.putop(request.id))
    refused(errno.EINVAL, lambda: server.instance.putop(1))


@rule("M014")
@pytest.mark.parametrize("ends", ["close", "unmount"])
def test_a_mount_that_ends_is_enxio_for_those_who_wait(
    client: Caller, instance: Instance, ends: str
) -> None:
    taking = [waiting(instance.getop) for _ in range(4)]
    if ends == "close":
        instance.close()
    else:
        client.do("unmount")
    for one in taking:
        with pytest.raises(OSError) as caught:
            one.result()
        assert caught.value.errno == errno.ENXIO


@rule("M014", "M050")
def test_a_mount_that_does_not_run_yet_is_enxio(cloner: Cloner, port: Port) -> None:
    with cloner.open() as instance:
        instance.mount(start=False)
        refused(errno.ENXIO, instance.getop)
        refused(errno.ENXIO, lambda: instance.getop(block=False))


@rule("M014")
def test_who_waits_in_a_fork_child_is_released_when_the_mount_ends(
    cloner: Cloner, where: Where, port: Port
) -> None:
    with cloner.open(shared=True) as instance:
        instance.mount()

        def wait(channel: socket.socket) -> None:
            taking = waiting(instance.getop)
            tell(channel, "waits")
            try:
                taking.result()
            except OSError as error:
                tell(channel, error.errno)

        with caller(where, instance) as client, process("fork", wait) as child:
            assert told(child.channel) == "waits"
            client.do("unmount")
            assert told(child.channel) == errno.ENXIO


@rule("M010")
@pytest.mark.parametrize("room", [-1, -(2**40)])
def test_a_negative_room_is_einval(instance: Instance, port: Port, room: int) -> None:
    refused(errno.EINVAL, lambda: instance.getop(room))


@rule("M011")
def test_room_beyond_every_size_is_enough(client: Caller, instance: Instance) -> None:
    client.cast(1, b"x")
    request: Request = instance.getop(10**30)
    assert request.payload == b"x"


@rule("M010")
@pytest.mark.parametrize("room", [1.0, "1", None])
def test_a_room_that_is_no_int_is_a_type_error_and_takes_nothing(
    instance: Instance, server: Server, room: int
) -> None:
    with instance.client() as client:
        client.cast(1)
        with pytest.raises(TypeError):
            instance.getop(room)
        assert server.take().optype == 1
