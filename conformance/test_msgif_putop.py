"""putop: replies, and which of them are refused."""

import errno
import random
import socket
from collections.abc import Callable

import pytest

from portcompat import Port
from portcompat.conformance import rule
from portcompat.conformance._callers import Caller, Where, caller
from portcompat.conformance._processes import process, tell, told
from portcompat.conformance._servers import Server, refused
from portcompat.conformance._threads import in_thread
from portcompat.msgif import DEFAULT_MAX_SIZE, Cloner, Instance

Scale = Callable[[int, int, int], int]


@rule("M020")
def test_replies_find_their_requests_in_any_order(client: Caller, server: Server) -> None:
    calls = {number: client.call(number) for number in range(16)}
    requests = [server.take() for _ in calls]
    random.Random(1).shuffle(requests)
    for request in requests:
        server.instance.putop(request.id, 0, b"reply %d" % request.optype)
    for number, call in calls.items():
        assert call.result() == b"reply %d" % number


@rule("M020")
def test_the_last_may_be_answered_first(client: Caller, server: Server) -> None:
    first = client.call(1)
    one = server.take()
    second = client.call(2)
    server.instance.putop(server.take().id, 0, b"second")
    assert second.result() == b"second"
    assert not first.over
    server.instance.putop(one.id, 0, b"first")
    assert first.result() == b"first"


@rule("M020")
def test_replies_to_several_callers_are_not_mixed_up(
    instance: Instance, server: Server, where: Where
) -> None:
    with caller(where, instance) as one, caller(where, instance) as another:
        calls = [calling.call(side) for side, calling in enumerate((one, another))]
        for request in sorted((server.take() for _ in calls), key=lambda r: -r.optype):
            instance.putop(request.id, 0, b"to %d" % request.optype)
        assert [call.result() for call in calls] == [b"to 0", b"to 1"]


@rule("M020")
@pytest.mark.parametrize("wrong", [-1, 0, 2, 1000, 2**31, 2**63, 2**64, 10**30])
def test_an_id_that_was_never_given_is_einval_and_wakes_nobody(
    client: Caller, server: Server, wrong: int
) -> None:
    call = client.call(1)
    request = server.take()
    assert request.id == 1
    refused(errno.EINVAL, lambda: server.instance.putop(wrong, 0, b"wrong"))
    assert not call.over
    server.instance.putop(request.id, 0, b"right")
    assert call.result() == b"right"


@rule("M020")
def test_a_second_reply_is_einval(client: Caller, server: Server) -> None:
    call = client.call(1)
    request = server.answer(0, b"first")
    refused(errno.EINVAL, lambda: server.instance.putop(request.id, 0, b"second"))
    assert call.result() == b"first"
    refused(errno.EINVAL, lambda: server.instance.putop(request.id, 0, b"third"))


@rule("M020")
def test_a_second_reply_is_not_the_next_callers(client: Caller, server: Server) -> None:
    client.call(1)
    before = server.answer(0, b"first")
    call = client.call(2)
    refused(errno.EINVAL, lambda: server.instance.putop(before.id, 0, b"second"))
    server.answer(0, b"its own")
    assert call.result() == b"its own"


@rule("M020")
def test_of_two_servers_that_reply_at_once_one_is_heard(
    client: Caller, server: Server, scale: Scale
) -> None:
    for _ in range(scale(50, 500, 5_000)):
        call = client.call(1)
        request = server.take()

        def reply(text: bytes, number: int = request.id) -> bytes:
            try:
                server.instance.putop(number, 0, text)
            except OSError as error:
                assert error.errno == errno.EINVAL
                return b""
            return text

        replies = [in_thread(lambda t=text: reply(t)) for text in (b"one", b"another")]  # type: ignore[misc]
        heard = [said for said in (one.result() for one in replies) if said]
        assert [call.result()] == heard


@rule("M020")
def test_a_request_of_another_mount_is_einval(
    client: Caller, server: Server, cloner: Cloner
) -> None:
    client.call(1)
    request = server.take()
    with cloner.open() as other:
        other.mount()
        refused(errno.EINVAL, lambda: other.putop(request.id))
    server.instance.putop(request.id)


@rule("M020")
def test_what_a_fork_child_took_its_parent_cannot_answer_twice(
    cloner: Cloner, where: Where, port: Port
) -> None:
    with cloner.open(shared=True) as instance:
        instance.mount()

        def serve(channel: socket.socket) -> None:
            request = instance.getop()
            instance.putop(request.id, 0, b"child")
            tell(channel, request.id)

        with caller(where, instance) as client, process("fork", serve) as child:
            call = client.call(1)
            assert call.result() == b"child"
            number = told(child.channel)
            refused(errno.EINVAL, lambda: instance.putop(number, 0, b"parent"))


@rule("M021")
def test_a_reply_larger_than_the_mount_allows_is_efault_for_both(
    client: Caller, server: Server
) -> None:
    call = client.call(1)
    request = server.take()
    large = bytes(DEFAULT_MAX_SIZE + 1)
    refused(errno.EFAULT, lambda: server.instance.putop(request.id, 0, large))
    refused(errno.EFAULT, call.result)
    refused(errno.EINVAL, lambda: server.instance.putop(request.id, 0, b"too late"))


@rule("M021")
def test_an_adjustable_reply_is_no_larger_than_the_mount_allows(
    client: Caller, server: Server
) -> None:
    call = client.call(1, adjustable=True, reply_size=1)
    request = server.take()
    large = bytes(DEFAULT_MAX_SIZE + 1)
    refused(errno.EFAULT, lambda: server.instance.putop(request.id, 0, large))
    refused(errno.EFAULT, call.result)


@rule("M021")
@pytest.mark.parametrize("max_size", [1, 100, 4096])
def test_the_maximum_is_the_mounts(cloner: Cloner, port: Port, where: Where, max_size: int) -> None:
    with cloner.open() as instance:
        instance.mount(max_size=max_size)
        assert instance.max_size == max_size
        server = Server(instance, port)
        with caller(where, instance) as client:
            call = client.call(1, bytes(max_size))
            server.answer(0, b"x" * max_size)
            assert call.result() == b"x" * max_size
            refused(errno.EMSGSIZE, lambda: client.do("call", 1, bytes(max_size + 1)))
            call = client.call(1)
            number = server.take().id
            refused(errno.EFAULT, lambda: instance.putop(number, 0, bytes(max_size + 1)))
            refused(errno.EFAULT, call.result)


@rule("M021")
def test_a_reply_as_large_as_the_mount_allows_is_handed_on(client: Caller, server: Server) -> None:
    call = client.call(1)
    reply = random.Random(2).randbytes(DEFAULT_MAX_SIZE)
    server.answer(0, reply)
    assert call.result() == reply


@rule("M022")
@pytest.mark.parametrize("size", [0, 1, 100])
def test_a_reply_larger_than_the_callers_buffer_is_e2big_and_may_be_given_again(
    client: Caller, server: Server, size: int
) -> None:
    call = client.call(1, reply_size=size)
    request = server.take()
    for _ in range(3):
        refused(errno.E2BIG, lambda: server.instance.putop(request.id, 0, bytes(size + 1)))
    assert not call.over
    server.instance.putop(request.id, 0, b"x" * size)
    assert call.result() == b"x" * size


@rule("M022")
def test_an_error_may_follow_a_reply_that_was_too_large(client: Caller, server: Server) -> None:
    call = client.call(1, reply_size=4)
    request = server.take()
    refused(errno.E2BIG, lambda: server.instance.putop(request.id, 0, b"12345"))
    server.instance.putop(request.id, errno.ENOSPC)
    refused(errno.ENOSPC, call.result)


@rule("M022")
def test_an_adjustable_buffer_grows(client: Caller, server: Server) -> None:
    call = client.call(1, reply_size=4, adjustable=True)
    server.answer(0, b"more than four")
    assert call.result() == b"more than four"


@rule("M022")
def test_a_buffer_larger_than_the_reply_is_not_filled(client: Caller, server: Server) -> None:
    call = client.call(1, reply_size=1000)
    server.answer(0, b"little")
    assert call.result() == b"little"


@rule("M023")
@pytest.mark.parametrize("code", [errno.ENOENT, errno.EIO, errno.EINVAL, errno.EAGAIN, 4000])
def test_an_error_of_the_server_is_raised_at_the_caller(
    client: Caller, server: Server, code: int
) -> None:
    call = client.call(1)
    server.answer(code)
    refused(code, call.result)


@rule("M023")
def test_an_error_comes_without_a_payload(client: Caller, server: Server) -> None:
    call = client.call(1)
    server.answer(errno.ENOENT, b"not handed on")
    with pytest.raises(FileNotFoundError):
        call.result()
    call = client.call(1)
    server.answer(0, b"the next")
    assert call.result() == b"the next"


@rule("M023")
def test_a_reply_without_a_payload_is_empty(client: Caller, server: Server) -> None:
    call = client.call(1)
    server.answer()
    assert call.result() == b""


@rule("M023")
def test_a_reply_is_any_buffer(client: Caller, server: Server) -> None:
    for payload in (bytearray(b"abc"), memoryview(b"abc")):
        call = client.call(1)
        request = server.take()
        server.instance.putop(request.id, 0, payload)
        assert call.result() == b"abc"


@rule("M020", "M023")
def test_bad_arguments_are_refused_and_the_request_stays_open(
    client: Caller, server: Server
) -> None:
    call = client.call(1)
    number = server.take().id
    with pytest.raises(ValueError):
        server.instance.putop(number, -1)
    with pytest.raises(TypeError):
        server.instance.putop(1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        server.instance.putop(number, "0")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        server.instance.putop(number, 0, "text")  # type: ignore[arg-type]
    assert not call.over
    server.instance.putop(number, 0, b"after all")
    assert call.result() == b"after all"


@rule("M020", "M014")
def test_a_reply_after_the_end_of_the_mount_is_enoent_or_enxio(
    client: Caller, server: Server
) -> None:
    call = client.call(1)
    number = server.take().id
    client.do("unmount")
    refused(errno.ENXIO, call.result)
    with pytest.raises(OSError) as caught:
        server.instance.putop(number)
    assert caught.value.errno in (errno.ENOENT, errno.ENXIO)
