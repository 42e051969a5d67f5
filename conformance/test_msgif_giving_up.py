"""Callers that give up, are interrupted or die: what they leave behind."""

import errno
from collections.abc import Callable
from time import monotonic

import pytest

from portcompat.conformance import rule
from portcompat.conformance._callers import Answer, Caller, Interrupted, Where, caller
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._servers import Server, refused
from portcompat.conformance._threads import in_thread
from portcompat.msgif import Instance, Request

Scale = Callable[[int, int, int], int]


def taken_in_time(
    server: Server, ask: Callable[[float], Answer], span: float
) -> tuple[Answer, Request]:
    """A call that is given up after `span`, and its request, which has been taken before.

    On a machine that is too busy for that it is tried again, with more time.
    """
    deadline = monotonic() + 3 * SOON
    while monotonic() < deadline:
        call = ask(span)
        while not call.over:
            if server.readable(0.01):
                try:
                    return call, server.instance.getop(block=False)
                except BlockingIOError:
                    pass  # he was faster
        span *= 2
    raise AssertionError("each call was given up before its request could be taken")


@rule("M056")
def test_a_late_reply_to_a_caller_that_ran_out_of_time_is_einval(
    client: Caller, server: Server
) -> None:
    call, request = taken_in_time(server, lambda span: client.call(1, timeout=span), 0.3)
    with pytest.raises(TimeoutError):
        call.result()
    reply_late(server, request.id)
    call = client.call(2)
    server.answer(0, b"its own")
    assert call.result() == b"its own"


def reply_late(server: Server, number: int) -> None:
    """Reply to a request that was given up, which the server learns in its time."""
    server.is_idle()
    refused(errno.EINVAL, lambda: server.instance.putop(number, 0, b"late"))


@rule("M056")
def test_a_queued_request_that_ran_out_of_time_is_not_taken(client: Caller, server: Server) -> None:
    client.cast(1)
    with pytest.raises(TimeoutError):
        client.do("call", 2, b"given up", timeout=0.05)
    client.cast(3)
    assert [server.take().optype for _ in range(2)] == [1, 3]
    assert server.is_idle()


@rule("M056", "M022")
def test_a_caller_that_ran_out_of_time_after_e2big_leaves_nothing(
    client: Caller, server: Server
) -> None:
    call, request = taken_in_time(
        server, lambda span: client.call(1, reply_size=1, timeout=span), 0.6
    )
    refused(errno.E2BIG, lambda: server.instance.putop(request.id, 0, b"12"))
    with pytest.raises(TimeoutError):
        call.result()
    reply_late(server, request.id)


@rule("M056")
def test_an_interrupted_caller_leaves_its_request_in_no_queue(
    instance: Instance, server: Server, where: Where
) -> None:
    with caller(where, instance) as client:
        call = client.interrupted_call(1, b"queued")
        with pytest.raises(Interrupted):
            call.result()
        assert server.is_idle()
        refused(errno.EWOULDBLOCK, lambda: instance.getop(block=False))


@rule("M056")
def test_a_late_reply_to_an_interrupted_caller_is_einval(client: Caller, server: Server) -> None:
    call, request = taken_in_time(
        server, lambda span: client.interrupted_call(1, b"taken", span), 0.05
    )
    with pytest.raises(Interrupted):
        call.result()
    reply_late(server, request.id)
    call = client.call(2)
    server.answer(0, b"its own")
    assert call.result() == b"its own"


@rule("M056")
def test_a_process_that_dies_leaves_none_of_its_requests(
    instance: Instance, server: Server, where: Where
) -> None:
    if where == "thread":
        pytest.skip("a thread cannot be killed")
    with caller(where, instance) as client:
        client.call(1)
        taken = server.take()
        client.call(2)
        client.call(3)
        assert server.readable(SOON)
        client.kill()
        # What it had queued may show until somebody asks for it.
        refused(errno.EWOULDBLOCK, lambda: instance.getop(block=False))
        assert server.is_idle()
        refused(errno.EINVAL, lambda: instance.putop(taken.id, 0, b"late"))
    with instance.client() as other:
        call = in_thread(lambda: other.call(4))
        assert server.answer(0, b"alive").optype == 4
        assert call.result() == b"alive"
