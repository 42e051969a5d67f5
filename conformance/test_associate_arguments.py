"""port_associate(3C): what it accepts, and what it says to the rest."""

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from portcompat import (
    EBADFD,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLNVAL,
    POLLOUT,
    PORT_SOURCE_FD,
    PORT_SOURCE_USER,
    Port,
    PortEvent,
    port_associate,
    port_get,
    port_getn,
)
from portcompat.conformance import needs, rule
from portcompat.conformance._descriptors import SOON, closed_number, pipe, socket_pair
from portcompat.conformance._errors import WRONG_SOURCES, errno_of
from portcompat.conformance._polled import polled

MakePort = Callable[..., Port]

INT_MAX = 0x7FFF_FFFF
INT_MIN = -0x8000_0000
UNKNOWN_BITS = [1 << bit for bit in range(16, 31)] + [INT_MIN]


@rule("R052")
def test_it_returns_nothing(port: Port) -> None:
    with socket_pair() as (ours, _):
        assert port.associate(ours, POLLIN) is None  # type: ignore[func-returns-value]


@rule("R052", "R097")
def test_the_c_spelling_takes_port_source_object_events_user(number: int) -> None:
    user = object()
    with socket_pair() as (ours, theirs):
        port_associate(number, PORT_SOURCE_FD, ours.fileno(), POLLIN, user)
        theirs.send(b"x")
        assert port_get(number, SOON) == PortEvent(PORT_SOURCE_FD, ours.fileno(), POLLIN, user)


@rule("R052", "R064")
def test_a_closed_port_is_ebadf(make_port: MakePort) -> None:
    port = make_port()
    port.close()
    with socket_pair() as (ours, _):
        assert errno_of(port.associate, ours, POLLIN) == errno.EBADF


@rule("R052", "R064", "R065")
def test_a_port_number_that_is_not_open_is_ebadf(backend: str) -> None:
    with socket_pair() as (ours, _):
        with pytest.raises(OSError) as caught:
            port_associate(closed_number(), PORT_SOURCE_FD, ours.fileno(), POLLIN, None)
        assert caught.value.errno == errno.EBADF


@rule("R052", "R064", "R065")
def test_a_port_number_that_is_another_file_is_ebadfd(backend: str) -> None:
    with socket_pair() as (ours, theirs):
        with pytest.raises(OSError) as caught:
            port_associate(theirs.fileno(), PORT_SOURCE_FD, ours.fileno(), POLLIN, None)
        assert caught.value.errno == EBADFD


@rule("R064", "R065")
def test_a_closed_port_is_told_before_a_closed_object(make_port: MakePort) -> None:
    port = make_port()
    port.close()
    assert errno_of(port.associate, closed_number(), POLLIN) == errno.EBADF


@rule("R064", "R089")
def test_a_closed_port_is_told_before_a_bad_source(backend: str) -> None:
    with pytest.raises(OSError) as caught:
        port_associate(closed_number(), PORT_SOURCE_USER, 0, POLLIN, None)
    assert caught.value.errno == errno.EBADF


@rule("R052", "R089")
@pytest.mark.parametrize(
    "source",
    WRONG_SOURCES,
)
def test_a_source_that_takes_no_association_is_einval(number: int, source: int) -> None:
    with socket_pair() as (ours, theirs):
        theirs.send(b"x")
        with pytest.raises(OSError) as caught:
            port_associate(number, source, ours.fileno(), POLLIN, None)
        assert caught.value.errno == errno.EINVAL
        assert port_getn(number, 0) == 0


@rule("R052", "R065", "R090")
def test_an_object_that_is_not_open_is_ebadfd(port: Port) -> None:
    assert errno_of(port.associate, closed_number(), POLLIN) == EBADFD


@rule("R090")
@pytest.mark.parametrize("wild", [-1, INT_MIN, INT_MAX, INT_MAX + 1, 2**63, 2**64 - 1, 2**200])
def test_an_object_that_no_descriptor_can_be_is_ebadfd(port: Port, wild: int) -> None:
    assert errno_of(port.associate, wild, POLLIN) == EBADFD


@rule("R065", "R090")
def test_a_closed_socket_is_ebadfd(port: Port) -> None:
    with socket_pair() as (ours, _):
        ours.close()
        assert errno_of(port.associate, ours, POLLIN) == EBADFD


@rule("R065", "R090")
def test_a_closed_file_is_ebadfd(port: Port) -> None:
    with pipe() as (reader, _):
        reader.close()
        assert errno_of(port.associate, reader, POLLIN) == EBADFD


@rule("R090")
def test_a_number_closed_since_its_association_is_ebadfd(port: Port) -> None:
    with socket_pair() as (ours, _):
        number = ours.fileno()
        port.associate(number, POLLIN)
        ours.close()
        assert errno_of(port.associate, number, POLLIN) == EBADFD


@rule("R079", "R090")
def test_an_object_refused_leaves_the_port_as_it_was(make_port: MakePort) -> None:
    port = make_port(max_events=1)
    with socket_pair() as (ours, _):
        for _ in range(3):
            assert errno_of(port.associate, closed_number(), POLLOUT) == EBADFD
        assert port.pending() == 0
        port.associate(ours, POLLOUT, "the only slot")
        assert port.get(SOON).user == "the only slot"


@rule("R091")
@pytest.mark.parametrize("events", [0, -1, POLLNVAL, 0xFFFF, INT_MAX, INT_MIN])
def test_any_events_are_accepted(port: Port, events: int) -> None:
    with socket_pair() as (ours, _):
        assert errno_of(port.associate, ours, events) is None
        port.dissociate(ours)


@rule("R091", "R097")
@pytest.mark.parametrize("bit", UNKNOWN_BITS)
def test_an_unknown_bit_changes_nothing(port: Port, bit: int) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN | bit, "first")
        assert port.getn(2, 1, 0) == []
        theirs.send(b"x")
        assert port.get(SOON) == PortEvent(PORT_SOURCE_FD, ours.fileno(), POLLIN, "first")
        assert port.getn(2, 1, 0) == []
        port.associate(ours, POLLIN | bit, "second")
        assert port.get(SOON) == PortEvent(PORT_SOURCE_FD, ours.fileno(), POLLIN, "second")


@needs("bands")
@rule("R091", "R097")
@pytest.mark.parametrize("events", [-1, 0xFFFF, INT_MAX])
def test_all_bits_asked_are_told_as_poll_tells_them(port: Port, events: int) -> None:
    with socket_pair() as (ours, theirs):
        theirs.send(b"x")
        port.associate(ours, events)
        assert port.get(SOON).events == polled(ours.fileno(), events & 0xFFFF & ~POLLNVAL)


@rule("R092")
def test_events_zero_is_an_association(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, 0)
        theirs.send(b"x")
        assert port.getn(2, 1, 0) == []
        port.dissociate(ours)


@needs("hangup")
@rule("R092", "R098")
@pytest.mark.parametrize("events", [0, POLLNVAL, 1 << 20])
def test_a_hangup_fires_an_association_for_nothing(port: Port, events: int) -> None:
    with pipe() as (reader, writer):
        port.associate(reader, events, "nothing asked")
        assert port.getn(2, 1, 0) == []
        writer.close()
        event = port.get(SOON)
        assert event.events == polled(reader.fileno(), 0)
        assert event.events & (POLLHUP | POLLERR)
        assert event.user == "nothing asked"


@rule("R094", "R198")
def test_the_port_itself_is_an_object(port: Port) -> None:
    port.associate(port, POLLIN)


@rule("R094")
def test_another_port_is_an_object(port: Port, make_port: MakePort) -> None:
    port.associate(make_port(), POLLIN)


@rule("R094")
def test_an_int_and_whatever_has_a_fileno_name_the_same_object(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN, "object")
        port.associate(ours.fileno(), POLLIN, "number")
        theirs.send(b"x")
        assert port.getn(2, 1, SOON) == [
            PortEvent(PORT_SOURCE_FD, ours.fileno(), POLLIN, "number"),
        ]


@rule("R052")
@pytest.mark.parametrize("thing", [None, "0", 1.0, b"0", [], object()])
def test_an_object_of_another_type_is_a_type_error(port: Port, thing: Any) -> None:
    with pytest.raises(TypeError):
        port.associate(thing, POLLIN)


@rule("R052")
@pytest.mark.parametrize("events", [None, "1", 1.0, []])
def test_events_of_another_type_are_a_type_error(port: Port, events: Any) -> None:
    with socket_pair() as (ours, _):
        with pytest.raises(TypeError):
            port.associate(ours, events)
        with pytest.raises(OSError):
            port.dissociate(ours)


@rule("R052")
@pytest.mark.parametrize("events", [INT_MAX + 1, INT_MIN - 1, 2**200])
def test_events_beyond_a_c_int_are_a_value_error(port: Port, events: int) -> None:
    with socket_pair() as (ours, _):
        with pytest.raises(ValueError):
            port.associate(ours, events)
        with pytest.raises(OSError):
            port.dissociate(ours)


@rule("R052", "R094")
def test_a_descriptor_of_a_device_is_accepted(port: Port) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    try:
        port.associate(null, POLLIN, "null")
        port.dissociate(null)
    finally:
        os.close(null)
