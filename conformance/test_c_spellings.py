"""The calls by their C names: what they take, what they return, and what they say first."""

import errno
import math
import os
from collections.abc import Callable, Iterator
from threading import Barrier
from typing import Any

import pytest

from portcompat import (
    EBADFD,
    ETIME,
    POLLIN,
    POLLOUT,
    PORT_ALERT_INVALID,
    PORT_ALERT_SET,
    PORT_ALERT_UPDATE,
    PORT_SOURCE_ALERT,
    PORT_SOURCE_FD,
    PORT_SOURCE_USER,
    Port,
    PortEvent,
    PortTimeout,
    limits,
    port_alert,
    port_associate,
    port_close,
    port_create,
    port_dissociate,
    port_get,
    port_getn,
    port_send,
    port_sendn,
)
from portcompat.conformance import rule
from portcompat.conformance._descriptors import SOON, closed_number, socket_pair
from portcompat.conformance._errors import errno_of
from portcompat.conformance._threads import in_thread, waiting

Create = Callable[[], int]

CALLS: dict[str, Callable[[Any], object]] = {
    "port_close": port_close,
    "port_associate": lambda port: port_associate(port, PORT_SOURCE_FD, 0, POLLIN),
    "port_associate, bad source": lambda port: port_associate(port, 99, 0, POLLIN),
    "port_associate, bad object": lambda port: port_associate(port, PORT_SOURCE_FD, -1, POLLIN),
    "port_dissociate": lambda port: port_dissociate(port, PORT_SOURCE_FD, 0),
    "port_dissociate, bad source": lambda port: port_dissociate(port, 99, 0),
    "port_dissociate, bad object": lambda port: port_dissociate(port, PORT_SOURCE_FD, -1),
    "port_send": lambda port: port_send(port, 1),
    "port_get": lambda port: port_get(port, 0),
    "port_get, negative timeout": lambda port: port_get(port, -1),
    "port_get, NaN": lambda port: port_get(port, math.nan),
    "port_getn": lambda port: port_getn(port, 1, 1, 0),
    "port_getn, max 0": lambda port: port_getn(port, 0),
    "port_getn, nget 0": lambda port: port_getn(port, 1, 0),
    "port_getn, nget beyond max": lambda port: port_getn(port, 1, 2),
    "port_getn, negative timeout": lambda port: port_getn(port, 1, 1, -1),
    "port_alert": lambda port: port_alert(port, PORT_ALERT_SET, 1),
    "port_alert, clearing": lambda port: port_alert(port, PORT_ALERT_SET, 0),
    "port_alert, both flags": lambda port: port_alert(port, PORT_ALERT_INVALID, 1),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))


@pytest.fixture
def create(backend: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Create]:
    """port_create on the backend under test. The ports are closed when the test is over."""
    monkeypatch.setenv("PORTCOMPAT_BACKEND", backend)
    made: set[int] = set()

    def create() -> int:
        number = port_create()
        made.add(number)
        return number

    yield create
    for number in made:
        if errno_of(port_getn, number, 0) is None:
            port_close(number)


@pytest.fixture
def number(create: Create) -> int:
    """A port."""
    return create()


@rule("R051", "R067")
def test_a_port_is_a_number(create: Create) -> None:
    one, other = create(), create()
    assert isinstance(one, int)
    assert one >= 0
    assert one != other


@rule("R051", "R067")
def test_it_is_the_number_of_an_open_descriptor(number: int) -> None:
    os.fstat(number)
    port_close(number)
    assert errno_of(os.fstat, number) == errno.EBADF


@rule("R067")
def test_it_is_the_lowest_free_number(create: Create) -> None:
    with socket_pair() as (ours, theirs):
        lowest = min(ours.fileno(), theirs.fileno())
    assert create() == lowest


@rule("R051", "R068")
def test_a_port_too_many_is_eagain(create: Create, monkeypatch: pytest.MonkeyPatch) -> None:
    create()
    monkeypatch.setattr(limits, "max_ports", limits.ports)
    assert errno_of(create) == errno.EAGAIN


@rule("R054", "R056", "R156")
def test_send_and_get(number: int) -> None:
    user = object()
    port_send(number, 5, user)
    event = port_get(number)
    assert event == PortEvent(PORT_SOURCE_USER, 0, 5, user)
    assert event.user is user


@rule("R052", "R056", "R097")
def test_associate_and_get(number: int) -> None:
    with socket_pair() as (ours, _):
        port_associate(number, PORT_SOURCE_FD, ours.fileno(), POLLOUT, "writable")
        expected = PortEvent(PORT_SOURCE_FD, ours.fileno(), POLLOUT, "writable")
        assert port_get(number, SOON) == expected


@rule("R053", "R120")
def test_dissociate_takes_the_event_back(number: int) -> None:
    with socket_pair() as (ours, _):
        port_associate(number, PORT_SOURCE_FD, ours.fileno(), POLLOUT)
        port_dissociate(number, PORT_SOURCE_FD, ours.fileno())
        assert port_getn(number, 0) == 0


@rule("R053", "R122")
@pytest.mark.parametrize("source", [0, 1, 2, 3, 5, 6, 8, -1])
def test_a_source_that_cannot_be_dissociated_is_einval(number: int, source: int) -> None:
    assert errno_of(port_dissociate, number, source, 0) == errno.EINVAL


@rule("R056", "R143")
@pytest.mark.parametrize("timeout", [0, 0.001])
def test_get_whose_time_is_up_is_etime(number: int, timeout: float) -> None:
    assert errno_of(port_get, number, timeout) == ETIME


@rule("R057", "R146")
def test_getn_with_max_0_counts(number: int) -> None:
    for _ in range(3):
        port_send(number, 1)
    assert port_getn(number, 0) == 3
    assert port_getn(number, 0, 99, 0) == 3


@rule("R146", "R176")
def test_getn_with_max_0_counts_in_alert_mode(number: int) -> None:
    port_send(number, 1)
    port_alert(number, PORT_ALERT_SET, 7)
    assert port_getn(number, 0) == 1


@rule("R147")
def test_getn_with_nget_0_takes_nothing(number: int) -> None:
    port_send(number, 1)
    assert port_getn(number, 4, 0) == []
    assert port_getn(number, 4, 0, 0.001) == []
    assert port_getn(number, 0) == 1


@rule("R148")
def test_getn_with_nget_beyond_max_is_einval(number: int) -> None:
    assert errno_of(port_getn, number, 4, 5) == errno.EINVAL


@rule("R149")
def test_getn_returns_what_is_there_up_to_max(number: int) -> None:
    for events in range(6):
        port_send(number, events)
    assert [event.events for event in port_getn(number, 4, 3)] == [0, 1, 2, 3]


@rule("R150")
def test_getn_with_a_timeout_of_zero_returns_what_there_is(number: int) -> None:
    assert port_getn(number, 4, 3, 0) == []
    port_send(number, 1)
    assert len(port_getn(number, 4, 3, 0)) == 1


@rule("R057", "R151")
def test_getn_whose_time_is_up_without_events_is_etime(number: int) -> None:
    with pytest.raises(PortTimeout) as caught:
        port_getn(number, 4, 3, 0.001)
    assert caught.value.errno == ETIME


@rule("R151")
def test_getn_whose_time_is_up_returns_fewer(number: int) -> None:
    port_send(number, 1)
    assert len(port_getn(number, 4, 3, 0.001)) == 1


@rule("R057", "R129")
@pytest.mark.parametrize("timeout", [-1, math.nan, -math.inf])
@pytest.mark.parametrize("maximum", [0, 1])
def test_a_malformed_timeout_is_einval(number: int, maximum: int, timeout: float) -> None:
    port_send(number, 1)
    assert errno_of(port_getn, number, maximum, 1, timeout) == errno.EINVAL
    assert errno_of(port_get, number, timeout) == errno.EINVAL
    assert port_getn(number, 0) == 1


@rule("R055", "R161", "R163")
def test_sendn_tells_how_many_and_who_not(create: Create) -> None:
    one, other = create(), create()
    with socket_pair() as (ours, _):
        sent = port_sendn([one, closed_number(), ours.fileno(), other], 1)
    assert sent == (2, [0, errno.EBADF, EBADFD, 0])
    assert port_get(one, 0).events == port_get(other, 0).events == 1


@rule("R161")
def test_sendn_that_serves_nobody_is_no_error(backend: str) -> None:
    assert port_sendn([closed_number(), -1], 1) == (0, [errno.EBADF, errno.EBADF])


@rule("R055", "R160")
def test_sendn_to_no_port_is_einval() -> None:
    assert errno_of(port_sendn, [], 1) == errno.EINVAL


@rule("R055")
@pytest.mark.parametrize("ports", [None, 3, ["port"], [None], [1.0]], ids=repr)
def test_sendn_to_what_are_no_numbers_is_a_type_error(ports: Any) -> None:
    with pytest.raises(TypeError):
        port_sendn(ports, 1)


@rule("R058", "R171")
def test_alert_takes_flags_then_events(number: int) -> None:
    port_alert(number, PORT_ALERT_SET, 7, "alert")
    assert port_get(number) == PortEvent(PORT_SOURCE_ALERT, 0, 7, "alert")
    assert port_getn(number, 4, 4) == [PortEvent(PORT_SOURCE_ALERT, 0, 7, "alert")]


@rule("R058", "R169")
def test_alert_update_of_an_alert_is_ebusy(number: int) -> None:
    port_alert(number, PORT_ALERT_UPDATE, 7)
    assert errno_of(port_alert, number, PORT_ALERT_UPDATE, 8) == errno.EBUSY
    port_alert(number, PORT_ALERT_SET, 0)
    assert port_getn(number, 1, 1, 0) == []


@rule("R058", "R168")
def test_alert_with_both_flags_is_einval(number: int) -> None:
    assert errno_of(port_alert, number, PORT_ALERT_INVALID, 7) == errno.EINVAL
    assert port_getn(number, 1, 1, 0) == []


@rule("R064", "R065")
@each_call
def test_a_number_that_is_not_open_is_ebadf_before_all_else(
    backend: str, call: Callable[[Any], object]
) -> None:
    assert errno_of(call, closed_number()) == errno.EBADF
    assert errno_of(call, -1) == errno.EBADF


@rule("R064", "R065")
@each_call
def test_a_number_that_is_no_port_is_ebadfd_before_all_else(
    backend: str, call: Callable[[Any], object]
) -> None:
    with socket_pair() as (ours, _):
        assert errno_of(call, ours.fileno()) == EBADFD
        os.fstat(ours.fileno())


@rule("R064")
@each_call
def test_a_closed_port_is_ebadf(number: int, call: Callable[[Any], object]) -> None:
    port_close(number)
    assert errno_of(call, number) == errno.EBADF


@rule("R064")
@each_call
def test_a_port_closed_by_os_close_is_ebadf(number: int, call: Callable[[Any], object]) -> None:
    os.close(number)
    assert errno_of(call, number) == errno.EBADF


@rule("R064")
@each_call
@pytest.mark.parametrize("port", [None, "3", b"3", 3.0, [], math.nan], ids=repr)
def test_a_port_of_another_type_is_a_type_error(call: Callable[[Any], object], port: Any) -> None:
    with pytest.raises(TypeError):
        call(port)


@rule("R064")
@each_call
@pytest.mark.parametrize(
    "port", [2**31, -(2**31) - 1, 2**64, 10**400], ids=["31", "-31", "64", "400"]
)
def test_a_port_beyond_a_c_int_is_a_value_error(call: Callable[[Any], object], port: int) -> None:
    with pytest.raises(ValueError):
        call(port)


@rule("R065", "R067")
def test_a_number_that_has_become_another_file_is_ebadfd(number: int) -> None:
    with socket_pair() as (ours, _):
        os.dup2(ours.fileno(), number)
        assert errno_of(port_send, number, 1) == EBADFD
        assert errno_of(port_close, number) == EBADFD
        os.close(number)


@rule("R065", "R067")
def test_a_number_that_has_become_the_descriptor_of_another_port_is_not_the_old_port(
    number: int, port: Port
) -> None:
    port_send(number, 1, "to the old one")
    os.dup2(port.fileno(), number)
    try:
        assert errno_of(port_get, number, 0) in (EBADFD, ETIME)
    finally:
        os.close(number)


@rule("R067", "R177")
def test_a_number_used_again_by_a_new_port_is_that_port(create: Create) -> None:
    old = create()
    port_send(old, 1)
    os.close(old)
    ports = [create() for _ in range(4)]
    assert [port_getn(port, 0) for port in ports] == [0, 0, 0, 0]


@rule("R178")
def test_closing_releases_who_waits(number: int) -> None:
    getter = waiting(lambda: port_get(number))
    port_close(number)
    assert errno_of(getter.result) == errno.EBADF


@rule("R142", "R173")
def test_an_alert_wakes_who_waits(number: int) -> None:
    getter = waiting(lambda: port_getn(number, 4, 4))
    port_alert(number, PORT_ALERT_SET, 7)
    assert getter.result() == [PortEvent(PORT_SOURCE_ALERT, 0, 7, None)]


@rule("R064")
def test_of_many_threads_that_close_a_port_one_does(create: Create) -> None:
    for _ in range(50):
        number = create()
        together = Barrier(4)

        def close(number: int = number, together: Barrier = together) -> int | None:
            together.wait(SOON)
            return errno_of(port_close, number)

        told = [closer.result() for closer in [in_thread(close) for _ in range(4)]]
        assert sorted(told, key=str) == [errno.EBADF] * 3 + [None]
