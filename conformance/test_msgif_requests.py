"""call and cast: what goes into the queue of a mount, and who waits for what."""

import errno
import random
import time
from collections.abc import Callable

import pytest

from portcompat import Port
from portcompat.conformance import rule
from portcompat.conformance._callers import Caller, Where, caller
from portcompat.conformance._descriptors import A_WHILE, SOON
from portcompat.conformance._servers import Server
from portcompat.msgif import Cloner, Instance

Scale = Callable[[int, int, int], int]


@rule("M001", "M003")
def test_a_request_arrives_as_it_was_sent(client: Caller, server: Server) -> None:
    client.call(7, b"payload", opclass=3, cookie=99)
    request = server.take()
    assert (request.opclass, request.optype, request.cookie) == (3, 7, 99)
    assert request.payload == b"payload"
    assert request.id > 0


@rule("M001", "M004")
def test_a_cast_arrives_as_it_was_sent(client: Caller, server: Server) -> None:
    client.cast(7, b"payload", opclass=3, cookie=99)
    request = server.take()
    assert (request.opclass, request.optype, request.cookie) == (3, 7, 99)
    assert request.payload == b"payload"


@rule("M001", "M002")
def test_flags_tell_a_call_from_a_cast(client: Caller, server: Server) -> None:
    client.cast(1)
    client.call(1)
    cast, call = server.take(), server.take()
    assert cast.flags != call.flags


@rule("M001")
def test_class_and_cookie_are_0_unless_given(client: Caller, server: Server) -> None:
    client.call(7)
    request = server.take()
    assert (request.opclass, request.cookie, request.payload) == (0, 0, b"")


@rule("M001")
@pytest.mark.parametrize("number", [-(2**31), -1, 0, 2**31 - 1])
@pytest.mark.parametrize("cookie", [0, 2**63, 2**64 - 1])
def test_the_numbers_of_a_request_have_their_whole_range(
    instance: Instance, server: Server, number: int, cookie: int
) -> None:
    with instance.client() as client:
        client.cast(number, opclass=-1 - number, cookie=cookie)
        request = server.take()
    assert (request.optype, request.opclass, request.cookie) == (number, -1 - number, cookie)


@rule("M001")
@pytest.mark.parametrize("size", [0, 1, 63, 64, 4096, 65_535, 65_536])
def test_every_byte_arrives_and_comes_back(client: Caller, server: Server, size: int) -> None:
    payload = random.Random(size).randbytes(size)
    call = client.call(1, payload)
    request = server.take()
    assert request.payload == payload
    server.instance.putop(request.id, 0, payload[::-1])
    assert call.result() == payload[::-1]


@rule("M002")
def test_the_ids_of_calls_rise_by_one_and_casts_have_none(client: Caller, server: Server) -> None:
    ids = []
    for _ in range(3):
        client.call(1)
        ids.append(server.take().id)
        client.cast(1)
        assert server.take().id == 0
    assert ids == list(range(ids[0], ids[0] + 3))
    assert ids[0] > 0


@rule("M002")
def test_the_ids_of_two_callers_come_from_one_count(
    instance: Instance, client: Caller, server: Server, where: Where
) -> None:
    with caller(where, instance) as other:
        ids = []
        for _ in range(3):
            for calling in (client, other):
                calling.call(1)
                ids.append(server.answer().id)
    assert ids == list(range(ids[0], ids[0] + 6))


@rule("M002")
def test_an_id_is_not_given_again_when_it_was_answered(client: Caller, server: Server) -> None:
    ids = []
    for _ in range(20):
        call = client.call(1)
        ids.append(server.answer().id)
        call.result()
    assert len(set(ids)) == 20


@rule("M003")
def test_a_caller_is_parked_until_the_reply(client: Caller, server: Server) -> None:
    call = client.call(1)
    request = server.take()
    time.sleep(A_WHILE)
    assert not call.over
    server.instance.putop(request.id, 0, b"reply")
    assert call.result() == b"reply"


@rule("M003")
def test_a_caller_is_parked_while_the_request_is_queued(client: Caller, server: Server) -> None:
    call = client.call(1)
    assert server.readable(SOON)
    time.sleep(A_WHILE)
    assert not call.over


@rule("M003")
def test_calls_of_one_client_wait_beside_each_other(client: Caller, server: Server) -> None:
    calls = {number: client.call(number) for number in range(8)}
    requests = [server.take() for _ in calls]
    assert {request.optype for request in requests} == set(calls)
    for request in requests:
        server.instance.putop(request.id, 0, b"%d" % request.optype)
    for number, call in calls.items():
        assert call.result() == b"%d" % number


@rule("M003", "M056")
@pytest.mark.parametrize("timeout", [0.001, 0.05])
def test_a_timeout_ends_a_call(client: Caller, server: Server, timeout: float) -> None:
    before = time.monotonic()
    with pytest.raises(TimeoutError) as caught:
        client.do("call", 1, b"", timeout=timeout)
    assert caught.value.errno == errno.ETIMEDOUT
    assert timeout <= time.monotonic() - before < timeout + 5


@rule("M003")
def test_a_reply_within_the_timeout_is_returned(client: Caller, server: Server) -> None:
    call = client.call(1, timeout=10)
    server.answer(0, b"reply")
    assert call.result() == b"reply"


@rule("M003")
def test_a_client_of_the_servers_own_thread_can_cast(instance: Instance, server: Server) -> None:
    with instance.client() as client:
        client.cast(5, b"own")
        request = server.take()
    assert (request.optype, request.payload) == (5, b"own")


@rule("M004")
def test_a_cast_returns_while_nobody_serves(client: Caller, instance: Instance) -> None:
    for number in range(10):
        client.cast(number)
    assert [instance.getop().optype for _ in range(10)] == list(range(10))


@rule("M004")
def test_the_bytes_of_a_cast_belong_to_the_queue(instance: Instance, server: Server) -> None:
    mine = bytearray(b"as it was")
    with instance.client() as client:
        client.cast(1, mine)
        mine[:] = b"something"
        assert server.take().payload == b"as it was"


@rule("M004", "M020")
def test_a_cast_is_not_answered(client: Caller, server: Server) -> None:
    client.cast(1)
    request = server.take()
    with pytest.raises(OSError) as caught:
        server.instance.putop(request.id, 0)
    assert caught.value.errno == errno.EINVAL


@rule("M004")
def test_casts_that_find_no_room_are_dropped_and_counted(
    instance: Instance, server: Server
) -> None:
    with instance.client() as client:
        sent = 0
        while not client.dropped:
            client.cast(sent, bytes(1 << 16))
            sent += 1
            assert sent < 1_000_000
        for _ in range(10):  # nor do these wait
            client.cast(sent, bytes(1 << 16))
            sent += 1
        taken = []
        while server.readable(A_WHILE):
            taken.append(instance.getop(block=False).optype)
        assert len(taken) + client.dropped == sent
        assert taken == sorted(taken)


@rule("M004")
def test_a_cast_tells_whether_it_was_dropped(instance: Instance) -> None:
    with instance.client() as client:
        while client.cast(0, bytes(1 << 16)):
            assert client.dropped == 0
        assert client.dropped == 1


@rule("M004")
def test_the_server_learns_how_many_casts_were_dropped(client: Caller, server: Server) -> None:
    while client.do("cast", 0, bytes(1 << 16)):
        pass
    lost = client.do("dropped")
    assert lost > 0
    while server.readable(A_WHILE):
        server.take()
    client.call(1)
    assert server.take().optype == 1
    assert server.instance.dropped == lost


@rule("M004")
def test_a_call_waits_for_the_room_that_a_cast_does_not_get(client: Caller, server: Server) -> None:
    while client.do("cast", 0, bytes(1 << 16)):
        pass
    call = client.call(1, b"here")
    while (request := server.take()).optype == 0:
        assert not call.over
    assert request.payload == b"here"
    server.instance.putop(request.id, 0, b"seen")
    assert call.result() == b"seen"


@rule("M003", "M004")
def test_a_call_that_waits_for_room_ends_in_time(client: Caller, server: Server) -> None:
    while client.do("cast", 0, bytes(1 << 16)):
        pass
    with pytest.raises(TimeoutError) as caught:
        client.do("call", 1, bytes(1 << 16), timeout=0.05)
    assert caught.value.errno == errno.ETIMEDOUT
    while server.readable(A_WHILE):
        assert server.take().optype == 0


@rule("M005")
def test_requests_are_taken_in_their_order(client: Caller, server: Server) -> None:
    for number in range(50):
        client.cast(number)
    client.call(50)
    assert [server.take().optype for _ in range(51)] == list(range(51))


@rule("M005")
def test_the_requests_of_two_callers_are_taken_in_their_order(
    instance: Instance, client: Caller, server: Server, where: Where
) -> None:
    with caller(where, instance) as other:
        for number in range(20):
            (client, other)[number % 2].cast(number)
        assert [server.take().optype for _ in range(20)] == list(range(20))


@rule("M005")
def test_each_caller_keeps_its_order_whoever_else_casts(
    instance: Instance, server: Server, where: Where, scale: Scale
) -> None:
    count = scale(100, 1000, 10_000)
    with caller(where, instance) as one, caller(where, instance) as another:
        casting = [one.casts(count, 0), another.casts(count, 1)]
        taken = [server.take() for _ in range(2 * count)]
        for answer in casting:
            answer.result()
    for side in (0, 1):
        assert [r.optype for r in taken if r.opclass == side] == list(range(count))


@rule("M006", "M053")
def test_a_request_to_a_closed_mount_is_enxio_at_once(client: Caller, instance: Instance) -> None:
    instance.close()
    for work in ("call", "cast"):
        with pytest.raises(OSError) as caught:
            client.do(work, 1, b"x")
        assert caught.value.errno == errno.ENXIO


@rule("M006", "M055")
def test_a_request_to_an_unmounted_mount_is_enxio_at_once(
    client: Caller, server: Server, instance: Instance
) -> None:
    client.do("unmount")
    for work in ("call", "cast"):
        with pytest.raises(OSError) as caught:
            client.do(work, 1, b"x")
        assert caught.value.errno == errno.ENXIO


@rule("M006", "M050")
def test_a_mount_that_is_mounting_queues_requests(cloner: Cloner, port: Port, where: Where) -> None:
    with cloner.open() as instance:
        instance.mount(start=False)
        with caller(where, instance) as client:
            client.cast(1)
            call = client.call(2)
            time.sleep(A_WHILE)
            assert not call.over
            instance.start()
            server = Server(instance, port)
            assert server.take().optype == 1
            assert server.answer(0, b"reply").optype == 2
            assert call.result() == b"reply"


@rule("M006")
def test_a_request_that_is_too_large_for_the_mount_is_emsgsize_and_not_queued(
    client: Caller, server: Server
) -> None:
    for work in ("call", "cast"):
        with pytest.raises(OSError) as caught:
            client.do(work, 1, bytes((1 << 16) + 1))
        assert caught.value.errno == errno.EMSGSIZE
    assert server.is_idle()


@rule("M006", "M050")
def test_a_request_to_what_is_not_mounted_yet_is_enxio_and_not_queued(cloner: Cloner) -> None:
    with cloner.open() as instance:
        with pytest.raises(OSError) as caught, instance.client() as client:
            client.call(1)
        assert caught.value.errno == errno.ENXIO
        instance.mount()
        with pytest.raises(OSError) as caught:
            instance.getop(block=False)
        assert caught.value.errno == errno.EWOULDBLOCK
