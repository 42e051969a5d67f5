"""Closing a port: what goes with it, who waits in it, and what a fork child has of it."""

import errno
import gc
import os
import warnings
from collections.abc import Callable
from functools import partial
from threading import Barrier
from typing import Any

import pytest

from portcompat import (
    POLLIN,
    POLLOUT,
    PORT_SOURCE_FD,
    Port,
    port_associate,
    port_close,
    port_create,
    port_get,
    port_getn,
    port_send,
    sendn,
)
from portcompat.conformance import rule
from portcompat.conformance._descriptors import A_WHILE, SOON, closed_number, socket_pair
from portcompat.conformance._errors import errno_of
from portcompat.conformance._fork import in_fork_child
from portcompat.conformance._threads import Call, in_thread, waiting

MakePort = Callable[..., Port]
Scale = Callable[[int, int, int], int]

CALLS: dict[str, Callable[[Port], object]] = {
    "associate": lambda port: port.associate(0, POLLIN),
    "dissociate": lambda port: port.dissociate(0),
    "send": lambda port: port.send(0),
    "alert": lambda port: port.alert(1),
    "alert off": lambda port: port.alert(0),
    "get": lambda port: port.get(0),
    "get for ever": lambda port: port.get(),
    "getn": lambda port: port.getn(1, 1, 0),
    "getn for ever": lambda port: port.getn(1),
    "getn none": lambda port: port.getn(1, 0),
    "count": lambda port: port.getn(0),
    "pending": lambda port: port.pending(),
    "fileno": lambda port: port.fileno(),
}


def errno_of_each(calls: list[Call[Any]]) -> list[int | None]:
    return [errno_of(call.result) for call in calls]


def open_descriptors() -> set[str]:
    for directory in ("/proc/self/fd", "/dev/fd"):
        if os.path.isdir(directory):
            return set(os.listdir(directory))
    pytest.skip("this host does not list the open descriptors of a process")


@rule("R177")
@pytest.mark.parametrize("name", CALLS)
def test_a_closed_port_is_ebadf_to(make_port: MakePort, name: str) -> None:
    port = make_port()
    port.close()
    assert errno_of(lambda: CALLS[name](port)) == errno.EBADF


@rule("R177")
def test_a_closed_port_is_ebadf_to_sendn(make_port: MakePort) -> None:
    port = make_port()
    port.close()
    assert sendn([port], 0) == (0, [errno.EBADF])


@rule("R177")
def test_closing_twice_is_no_error(make_port: MakePort) -> None:
    port = make_port()
    assert not port.closed
    port.close()
    port.close()
    assert port.closed


@rule("R177")
def test_leaving_the_block_closes(backend: str) -> None:
    with Port(backend) as port:
        assert not port.closed
    assert port.closed


@rule("R177")
def test_closing_gives_every_descriptor_back(backend: str) -> None:
    with socket_pair() as (ours, _):
        before = open_descriptors()
        for _ in range(10):
            port = Port(backend)
            port.associate(ours, POLLOUT)
            port.fileno()
            port.send(0)
            port.get(SOON)
            port.close()
        assert open_descriptors() == before


@rule("R177")
def test_what_was_watched_stays_open(backend: str) -> None:
    with socket_pair() as (ours, theirs):
        with Port(backend) as port:
            port.associate(ours, POLLIN)
        theirs.send(b"x")
        assert ours.recv(1) == b"x"


@rule("R106", "R177")
def test_closing_a_port_leaves_the_associations_of_another(port: Port, backend: str) -> None:
    with socket_pair() as (ours, theirs):
        with Port(backend) as another:
            port.associate(ours, POLLIN)
            another.associate(ours, POLLIN)
        theirs.send(b"x")
        assert len(port.getn(2, 1, SOON)) == 1


@rule("R177")
def test_a_new_port_has_nothing_of_one_closed(backend: str) -> None:
    with socket_pair() as (ours, _):
        with Port(backend) as old:
            old.associate(ours, POLLOUT)
            old.send(0)
            old.alert(1)
        with Port(backend) as new:
            assert new.pending() == 0
            assert new.getn(2, 1, A_WHILE) == []
            assert errno_of(lambda: new.dissociate(ours)) == errno.ENOENT


@rule("R177")
def test_what_the_queue_held_is_let_go(backend: str) -> None:
    class Cookie:
        gone = 0

        def __del__(self) -> None:
            Cookie.gone += 1

    with socket_pair() as (ours, theirs):
        port = Port(backend)
        port.associate(ours, POLLOUT, Cookie())
        port.associate(theirs, POLLIN, Cookie())
        port.send(0, Cookie())
        port.alert(1, Cookie())
        assert port.pending() == 2
        assert Cookie.gone == 0
        port.close()
        gc.collect()
        assert Cookie.gone == 4


@rule("R178")
@pytest.mark.parametrize("threads", [1, 2, 64])
def test_threads_blocked_in_get_have_ebadf(make_port: MakePort, threads: int) -> None:
    port = make_port()
    waits = [in_thread(port.get) for _ in range(threads)]
    port.close()
    assert errno_of_each(waits) == [errno.EBADF] * threads


@rule("R178")
def test_threads_that_wait_for_different_counts_have_ebadf(make_port: MakePort) -> None:
    port = make_port()
    port.send(0)  # too few for any of them
    waits = [
        in_thread(partial(port.getn, 8, want, timeout))
        for want in (2, 3, 5)
        for timeout in (None, SOON)
    ]
    port.close()
    assert errno_of_each(waits) == [errno.EBADF] * 6


@rule("R178")
def test_threads_that_wait_on_descriptors_have_ebadf(make_port: MakePort) -> None:
    port = make_port()
    with socket_pair() as (ours, _):
        port.associate(ours, POLLIN)
        waits = [in_thread(partial(port.get, SOON)) for _ in range(3)]
        port.close()
        assert errno_of_each(waits) == [errno.EBADF] * 3


@rule("R178")
def test_threads_certainly_asleep_have_ebadf(make_port: MakePort) -> None:
    port = make_port()
    waiters = [waiting(port.get) for _ in range(4)]
    port.close()
    assert errno_of_each(waiters) == [errno.EBADF] * 4


@rule("R177", "R179")
@pytest.mark.parametrize("threads", [1, 4])
def test_when_close_returns_no_thread_holds_a_descriptor_of_the_port(
    backend: str, threads: int
) -> None:
    before = open_descriptors()
    port = Port(backend)
    waiters = [waiting(port.get) for _ in range(threads)]
    port.close()
    assert open_descriptors() == before
    assert errno_of_each(waiters) == [errno.EBADF] * threads


@rule("R178")
def test_several_threads_may_close_a_port_at_once(make_port: MakePort, scale: Scale) -> None:
    for _ in range(scale(20, 200, 2_000)):
        port = make_port()
        start = Barrier(4)

        def close(port: Port = port, start: Barrier = start) -> None:
            start.wait(SOON)
            port.close()

        waits = [in_thread(port.get) for _ in range(2)]
        closings = [in_thread(close) for _ in range(4)]
        assert [closing.result() for closing in closings] == [None] * 4
        assert errno_of_each(waits) == [errno.EBADF] * 2


@rule("R178", "R179")
def test_a_thread_that_waits_in_a_closed_port_sees_nothing_of_the_next(
    backend: str, scale: Scale
) -> None:
    for _ in range(scale(50, 500, 5_000)):
        port = Port(backend)
        waits = [in_thread(partial(port.get, SOON)) for _ in range(2)]
        port.close()
        with Port(backend) as following:  # very likely with the same descriptors
            following.send(7)
            assert [event.events for event in following.getn(2, 1, SOON)] == [7]
        assert errno_of_each(waits) == [errno.EBADF] * 2


@rule("R178", "R179")
def test_the_c_spelling_ends_the_wait_with_ebadf(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTCOMPAT_BACKEND", backend)
    port = port_create()
    waits = [in_thread(partial(port_get, port)) for _ in range(2)]
    port_close(port)
    assert errno_of_each(waits) == [errno.EBADF] * 2
    assert errno_of(lambda: port_send(port, 0)) == errno.EBADF


@rule("R177")
def test_the_c_spelling_of_a_closed_port_is_ebadf(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTCOMPAT_BACKEND", backend)
    port = port_create()
    port_close(port)
    assert errno_of(lambda: port_get(port, 0)) == errno.EBADF
    assert errno_of(lambda: port_close(port)) == errno.EBADF
    assert errno_of(lambda: port_close(closed_number())) == errno.EBADF


@rule("R177")
def test_close_2_of_a_ports_number_is_noticed_at_the_next_call(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTCOMPAT_BACKEND", backend)
    calls: list[Callable[[int], object]] = [
        lambda port: port_send(port, 0),
        lambda port: port_get(port, 0),
        lambda port: port_getn(port, 0),
        lambda port: port_associate(port, PORT_SOURCE_FD, 0, POLLIN),
        port_close,
    ]
    for call in calls:
        port = port_create()
        os.close(port)
        assert errno_of(partial(call, port)) == errno.EBADF


@rule("R177")
def test_a_port_let_go_unclosed_is_warned_of(backend: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = open_descriptors()
        port = Port(backend)
        port.send(0)
        del port
        gc.collect()
        assert [warning.category for warning in caught] == [ResourceWarning]
        assert open_descriptors() == before


@rule("R177")
def test_a_port_closed_is_not_warned_of(backend: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Port(backend).close()
        gc.collect()


@rule("R178")
def test_in_a_fork_child_a_port_is_closed(port: Port) -> None:
    port.send(0)

    def child() -> None:
        assert port.closed
        for name, call in CALLS.items():
            with pytest.raises(OSError) as caught:
                call(port)
            assert caught.value.errno == errno.EBADF, name
            assert "fork" in str(caught.value), name
        port.close()

    in_fork_child(child)
    assert len(port.getn(2, 1, SOON)) == 1


@rule("R116", "R178")
def test_what_a_fork_child_does_to_its_closed_port_leaves_the_parents(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN, "parent's")
        port.send(0, "message")

        def child() -> None:
            port.close()
            gc.collect()

        in_fork_child(child)
        assert port.get(SOON).user == "message"
        theirs.send(b"x")
        assert [event.user for event in port.getn(2, 1, SOON)] == ["parent's"]


@rule("R116")
def test_a_fork_child_can_make_a_port_of_its_own(port: Port, backend: str) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN, "parent's")

        def child() -> None:
            port.close()
            with Port(backend) as own:
                own.associate(ours, POLLIN, "child's")
                assert own.getn(2, 1, 0) == []
                theirs.send(b"x")
                assert [event.user for event in own.getn(2, 1, SOON)] == ["child's"]
                ours.recv(1)

        in_fork_child(child)
        assert port.getn(2, 1, 0) == []
        theirs.send(b"x")
        assert [event.user for event in port.getn(2, 1, SOON)] == ["parent's"]


@rule("R178")
def test_a_fork_while_a_thread_waits_does_not_hang_the_child(port: Port, backend: str) -> None:
    waiter = waiting(lambda: port.getn(2, 2, SOON))

    def child() -> None:
        assert errno_of(lambda: port.send(0)) == errno.EBADF
        with Port(backend) as own:
            own.send(3)
            assert own.get(SOON).events == 3

    for _ in range(5):
        in_fork_child(child)
    port.send(1)
    port.send(2)
    assert [event.events for event in waiter.result()] == [1, 2]
