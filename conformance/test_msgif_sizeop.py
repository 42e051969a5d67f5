"""sizeop: a second buffer for an open request."""

import errno

import pytest

from portcompat.conformance import rule
from portcompat.conformance._callers import Caller
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._servers import Server, refused
from portcompat.msgif import SIZEOP_IN, SIZEOP_OUT, SizeOp

pytestmark = rule("M030")


def test_the_two_kinds_are_ints() -> None:
    assert int(SIZEOP_IN) != int(SIZEOP_OUT)
    assert {SIZEOP_IN, SIZEOP_OUT} == set(SizeOp)


@pytest.mark.parametrize(("theirs", "ours"), [(100, 100), (100, 40), (40, 100), (0, 10), (10, 0)])
def test_in_copies_what_the_client_gave_as_far_as_both_have_room(
    client: Caller, server: Server, theirs: int, ours: int
) -> None:
    call = client.call(1, b"payload", sizeop_in=bytes(range(1, theirs + 1)))
    request = server.take()
    assert request.payload == b"payload"
    buffer = bytearray(b"\xff" * ours)
    size = min(theirs, ours)
    assert server.instance.sizeop(request.id, SIZEOP_IN, buffer) == size
    assert buffer == bytes(range(1, size + 1)) + b"\xff" * (ours - size)
    server.instance.putop(request.id)
    call.result()


@pytest.mark.parametrize(("theirs", "ours"), [(100, 100), (100, 40), (40, 100), (0, 10), (10, 0)])
def test_out_copies_to_the_client_as_far_as_both_have_room(
    client: Caller, server: Server, theirs: int, ours: int
) -> None:
    call = client.exchange(theirs)
    request = server.take()
    size = min(theirs, ours)
    moved = server.instance.sizeop(request.id, SIZEOP_OUT, bytes(range(ours)))
    assert moved == size
    server.instance.putop(request.id, 0, b"reply")
    assert call.result() == (b"reply", bytes(range(size)) + b"." * (theirs - size))


def test_a_buffer_may_be_moved_in_and_another_out(client: Caller, server: Server) -> None:
    call = client.exchange(4, sizeop_in=b"abcd")
    request = server.take()
    buffer = bytearray(4)
    assert server.instance.sizeop(request.id, SIZEOP_IN, buffer) == 4
    assert server.instance.sizeop(request.id, SIZEOP_OUT, buffer.upper()) == 4
    server.instance.putop(request.id)
    assert call.result() == (b"", b"ABCD")


def test_in_reads_nothing_of_what_is_for_out(client: Caller, server: Server) -> None:
    call = client.exchange(4, sizeop_in=b"abcd")
    request = server.take()
    server.instance.sizeop(request.id, SIZEOP_OUT, b"1234")
    buffer = bytearray(8)
    assert server.instance.sizeop(request.id, SIZEOP_IN, buffer) == 4
    assert buffer == b"abcd" + bytes(4)
    server.instance.putop(request.id)
    assert call.result() == (b"", b"1234")


def test_a_buffer_may_be_moved_again(client: Caller, server: Server) -> None:
    call = client.exchange(4, sizeop_in=b"abcd")
    request = server.take()
    for _ in range(2):
        buffer = bytearray(4)
        assert server.instance.sizeop(request.id, SIZEOP_IN, buffer) == 4
        assert buffer == b"abcd"
    server.instance.sizeop(request.id, SIZEOP_OUT, b"1234")
    server.instance.sizeop(request.id, SIZEOP_OUT, b"56")
    server.instance.putop(request.id)
    assert call.result() == (b"", b"5634")


def test_each_open_request_has_its_own(client: Caller, server: Server) -> None:
    calls = [client.exchange(1, sizeop_in=b"%d" % number, cookie=number) for number in range(4)]
    requests = [server.take() for _ in calls]
    for request in requests:
        buffer = bytearray(1)
        server.instance.sizeop(request.id, SIZEOP_IN, buffer)
        assert buffer == b"%d" % request.cookie
        server.instance.sizeop(request.id, SIZEOP_OUT, b"%x" % (15 - request.cookie))
    for request in requests:
        server.instance.putop(request.id)
    assert [call.result()[1] for call in calls] == [b"f", b"e", b"d", b"c"]


def test_a_caller_that_gave_no_buffer_has_one_of_size_0(client: Caller, server: Server) -> None:
    call = client.call(1)
    request = server.take()
    assert server.instance.sizeop(request.id, SIZEOP_IN, bytearray(9)) == 0
    assert server.instance.sizeop(request.id, SIZEOP_OUT, b"something") == 0
    server.instance.putop(request.id)
    assert call.result() == b""


def test_an_error_may_follow_what_was_moved(client: Caller, server: Server) -> None:
    call = client.exchange(4)
    request = server.take()
    server.instance.sizeop(request.id, SIZEOP_OUT, b"1234")
    server.instance.putop(request.id, errno.EIO)
    refused(errno.EIO, call.result)


@pytest.mark.parametrize("number", [-1, 0, 2, 2**64])
def test_an_unknown_id_is_einval(client: Caller, server: Server, number: int) -> None:
    call = client.call(1, sizeop_in=b"x")
    request = server.take()
    assert request.id == 1
    buffer = bytearray(b".")
    refused(errno.EINVAL, lambda: server.instance.sizeop(number, SIZEOP_IN, buffer))
    refused(errno.EINVAL, lambda: server.instance.sizeop(number, SIZEOP_OUT, buffer))
    assert buffer == b"."
    server.instance.putop(request.id)
    call.result()


def test_a_request_that_is_answered_is_einval(client: Caller, server: Server) -> None:
    call = client.call(1, sizeop_in=b"x")
    request = server.answer()
    call.result()
    refused(errno.EINVAL, lambda: server.instance.sizeop(request.id, SIZEOP_IN, bytearray(1)))


def test_a_request_that_is_queued_is_einval(client: Caller, server: Server) -> None:
    client.call(1, sizeop_in=b"x")
    assert server.readable(SOON)
    refused(errno.EINVAL, lambda: server.instance.sizeop(1, SIZEOP_IN, bytearray(1)))


def test_a_cast_is_einval(client: Caller, server: Server) -> None:
    client.cast(1)
    request = server.take()
    refused(errno.EINVAL, lambda: server.instance.sizeop(request.id, SIZEOP_IN, bytearray(1)))


@pytest.mark.parametrize("kind", [-1, 0, 3, 2**31 - 1])
def test_an_unknown_kind_is_einval(client: Caller, server: Server, kind: int) -> None:
    call = client.call(1, sizeop_in=b"x")
    request = server.take()
    refused(errno.EINVAL, lambda: server.instance.sizeop(request.id, kind, bytearray(1)))
    server.instance.putop(request.id)
    call.result()


def test_bad_arguments_are_type_errors_and_move_nothing(client: Caller, server: Server) -> None:
    call = client.call(1, sizeop_in=b"x")
    request = server.take()
    with pytest.raises(TypeError):
        server.instance.sizeop(request.id, SIZEOP_IN, b"not writable")
    with pytest.raises(TypeError):
        server.instance.sizeop(request.id, SIZEOP_OUT, "text")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        server.instance.sizeop(1.0, SIZEOP_IN, bytearray(1))  # type: ignore[arg-type]
    server.instance.putop(request.id)
    call.result()


def test_after_the_end_of_the_mount_it_is_enoent_or_enxio(client: Caller, server: Server) -> None:
    call = client.call(1, sizeop_in=b"x")
    number = server.take().id
    client.do("unmount")
    refused(errno.ENXIO, call.result)
    with pytest.raises(OSError) as caught:
        server.instance.sizeop(number, SIZEOP_IN, bytearray(1))
    assert caught.value.errno in (errno.ENOENT, errno.ENXIO)
