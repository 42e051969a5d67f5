"""Several numbers of one port, as dup(2) makes them."""

import errno
import os
from collections.abc import Callable, Iterator

import pytest

from portcompat import (
    EBADFD,
    POLLIN,
    PORT_SOURCE_FD,
    port_associate,
    port_close,
    port_create,
    port_get,
    port_getn,
    port_send,
)
from portcompat.conformance import rule
from portcompat.conformance._descriptors import SOON, socket_pair
from portcompat.conformance._errors import errno_of
from portcompat.conformance._fork import in_fork_child


@pytest.fixture
def number(backend: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A port."""
    monkeypatch.setenv("PORTCOMPAT_BACKEND", backend)
    number = port_create()
    yield number
    if errno_of(port_getn, number, 0) is None:
        port_close(number)


@pytest.fixture
def double(number: int) -> Iterator[int]:
    """Another number of it."""
    double = os.dup(number)
    yield double
    if errno_of(port_getn, double, 0) != errno.EBADF:
        os.close(double)


@rule("R067")
def test_a_dup_of_a_port_is_the_same_port(number: int, double: int) -> None:
    port_send(double, 1)
    assert port_get(number, 0).events == 1
    port_send(number, 2)
    assert port_get(double, 0).events == 2


@rule("R067", "R180")
@pytest.mark.parametrize("close", [os.close, port_close], ids=["os.close", "port_close"])
def test_closing_a_dup_leaves_the_port_and_its_messages(
    number: int, double: int, close: Callable[[int], None]
) -> None:
    port_send(number, 1)
    close(double)
    assert port_get(number, 0).events == 1
    assert errno_of(port_getn, double, 0) in (errno.EBADF, EBADFD)


@rule("R067", "R180")
def test_a_dup_outlives_the_first_number(number: int, double: int) -> None:
    port_send(number, 1)
    port_close(number)
    assert port_get(double, 0).events == 1


@rule("R116", "R180")
def test_a_fork_child_that_closes_its_copy_leaves_the_port(number: int) -> None:
    with socket_pair() as (ours, theirs):
        port_send(number, 1)
        port_associate(number, PORT_SOURCE_FD, ours.fileno(), POLLIN, "parent's")
        in_fork_child(lambda: os.close(number))
        assert port_get(number, 0).events == 1
        theirs.send(b"x")
        assert [event.user for event in port_getn(number, 2, 1, SOON)] == ["parent's"]


@rule("R177", "R180")
def test_a_port_is_closed_with_the_last_of_its_numbers(number: int, double: int) -> None:
    port_close(number)
    assert errno_of(port_getn, double, 0) is None
    port_close(double)
    assert errno_of(port_getn, double, 0) == errno.EBADF
