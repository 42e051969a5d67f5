"""What no call may be given: it is refused, and the port is as it was."""

import errno
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from portcompat import (
    EBADFD,
    POLLIN,
    POLLOUT,
    PORT_ALERT_INVALID,
    Port,
    PortTimeout,
    limits,
    sendn,
)
from portcompat.conformance import rule
from portcompat.conformance._descriptors import SOON, socket_pair

MakePort = Callable[..., Port]
Call = Callable[[Port, Any], object]

HUGE = 10**400
NO_INTS = [None, "1", b"1", 1.0, 1j, [], {}, object(), math.nan]
NO_C_INTS = [2**31, -(2**31) - 1, 2**32, 2**64, HUGE, -HUGE]
NO_TIMEOUTS = ["1", b"1", 1j, [], {}, object()]
MALFORMED_TIMEOUTS = [math.nan, -math.inf, -1, -1e-9, -1e300, -HUGE]

INT_ARGUMENTS: dict[str, Call] = {
    "associate events": lambda port, value: port.associate(0, value),
    "send events": lambda port, value: port.send(value),
    "sendn events": lambda port, value: sendn([port], value),
    "alert events": lambda port, value: port.alert(value),
    "alert flags": lambda port, value: port.alert(1, flags=value),
    "alert flags, clearing": lambda port, value: port.alert(0, flags=value),
}
SIZE_ARGUMENTS: dict[str, Call] = {
    "getn max": lambda port, value: port.getn(value),
    "getn nget": lambda port, value: port.getn(4, value),
}
OBJECT_ARGUMENTS: dict[str, Call] = {
    "associate object": lambda port, value: port.associate(value, POLLIN),
    "dissociate object": lambda port, value: port.dissociate(value),
}
TIMEOUT_ARGUMENTS: dict[str, Call] = {
    "get timeout": lambda port, value: port.get(value),
    "getn timeout": lambda port, value: port.getn(4, 1, value),
}


def each(arguments: dict[str, Call]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("call", arguments.values(), ids=list(arguments))


def short(value: object) -> str:
    return repr(value)[:16]


@pytest.fixture(params=["quiet", "alerted"])
def port_at_work(request: pytest.FixtureRequest, make_port: MakePort) -> Iterator[Port]:
    """A port with two messages and an association in four slots, with and without an alert.

    That it is still so is checked after the test.
    """
    port = make_port(max_events=4)
    with socket_pair() as (ours, theirs):
        port.send(1, "first")
        port.send(2, "second")
        port.associate(ours, POLLIN, "readable")
        if request.param == "alerted":
            port.alert(7, "alert")
        yield port
        assert not port.closed
        if request.param == "alerted":
            assert port.get(0)[2:] == (7, "alert")
            port.alert(0)
        assert port.pending() == 2
        port.send(3, "third")
        with pytest.raises(OSError) as caught:
            port.send(4, "one too many")
        assert caught.value.errno == errno.EAGAIN
        assert [event.user for event in port.getn(8, 3, 0)] == ["first", "second", "third"]
        theirs.send(b"x")
        assert port.get(SOON).user == "readable"
        assert port.pending() == 0


def errno_of(call: Call, port: Port, value: Any) -> int | None:
    with pytest.raises(OSError) as caught:
        call(port, value)
    return caught.value.errno


@rule("R052", "R054", "R055", "R056", "R057", "R058", "R153")
@each({**INT_ARGUMENTS, **SIZE_ARGUMENTS})
@pytest.mark.parametrize("value", NO_INTS, ids=short)
def test_what_is_no_int_is_a_type_error(port_at_work: Port, call: Call, value: Any) -> None:
    with pytest.raises(TypeError):
        call(port_at_work, value)


@rule("R052", "R053")
@each(OBJECT_ARGUMENTS)
@pytest.mark.parametrize("value", NO_INTS, ids=short)
def test_what_is_no_descriptor_is_a_type_error(port_at_work: Port, call: Call, value: Any) -> None:
    with pytest.raises(TypeError):
        call(port_at_work, value)


@rule("R056", "R057", "R128")
@each(TIMEOUT_ARGUMENTS)
@pytest.mark.parametrize("value", NO_TIMEOUTS, ids=short)
def test_what_is_no_number_of_seconds_is_a_type_error(
    port_at_work: Port, call: Call, value: Any
) -> None:
    with pytest.raises(TypeError):
        call(port_at_work, value)


@rule("R091", "R157", "R170")
@each(INT_ARGUMENTS)
@pytest.mark.parametrize("value", NO_C_INTS, ids=short)
def test_what_no_c_caller_can_pass_is_a_value_error(
    port_at_work: Port, call: Call, value: int
) -> None:
    with pytest.raises(ValueError):
        call(port_at_work, value)


@rule("R056", "R057", "R128", "R129")
@each(TIMEOUT_ARGUMENTS)
@pytest.mark.parametrize("value", MALFORMED_TIMEOUTS, ids=short)
def test_a_malformed_timeout_is_einval(port_at_work: Port, call: Call, value: float) -> None:
    assert errno_of(call, port_at_work, value) == errno.EINVAL


@rule("R129")
def test_minus_zero_is_a_timeout_of_zero(port: Port) -> None:
    with pytest.raises(PortTimeout):
        port.get(-0.0)


@rule("R057", "R153")
@each(SIZE_ARGUMENTS)
@pytest.mark.parametrize("value", [-1, -(2**31), -(2**64), -HUGE], ids=short)
def test_a_negative_count_is_einval(port_at_work: Port, call: Call, value: int) -> None:
    assert errno_of(call, port_at_work, value) == errno.EINVAL


@rule("R148", "R153")
@pytest.mark.parametrize("nget", [5, 2**31, 2**64, HUGE], ids=short)
def test_an_nget_beyond_max_is_einval(port_at_work: Port, nget: int) -> None:
    assert errno_of(SIZE_ARGUMENTS["getn nget"], port_at_work, nget) == errno.EINVAL


@rule("R065", "R090", "R118")
@each(OBJECT_ARGUMENTS)
@pytest.mark.parametrize("value", [-1, 2**31 - 1, 2**31, 2**64, HUGE, -HUGE], ids=short)
def test_a_number_that_is_no_open_descriptor_is_ebadfd(
    port_at_work: Port, call: Call, value: int
) -> None:
    assert errno_of(call, port_at_work, value) == EBADFD


@rule("R065", "R090", "R118")
@each(OBJECT_ARGUMENTS)
def test_a_closed_object_is_ebadfd(port_at_work: Port, call: Call) -> None:
    with socket_pair() as (ours, _):
        ours.close()
        assert errno_of(call, port_at_work, ours) == EBADFD


@rule("R065", "R090", "R118")
@each(OBJECT_ARGUMENTS)
def test_a_closed_file_is_ebadfd(port_at_work: Port, call: Call) -> None:
    with open(__file__) as file:
        pass
    assert errno_of(call, port_at_work, file) == EBADFD


@rule("R094")
@each(OBJECT_ARGUMENTS)
@pytest.mark.parametrize("number", [None, "0", 0.0, object()], ids=short)
def test_a_fileno_that_is_no_int_is_a_type_error(
    port_at_work: Port, call: Call, number: object
) -> None:
    class Strange:
        def fileno(self) -> object:
            return number

    with pytest.raises(TypeError):
        call(port_at_work, Strange())


class Unruly:
    """An argument that raises when it is looked at."""

    def fileno(self) -> int:
        raise ZeroDivisionError

    def __index__(self) -> int:
        raise ZeroDivisionError

    def __float__(self) -> float:
        raise ZeroDivisionError


@rule("R153")
@each({**INT_ARGUMENTS, **SIZE_ARGUMENTS, **OBJECT_ARGUMENTS, **TIMEOUT_ARGUMENTS})
def test_what_an_argument_raises_comes_out(port_at_work: Port, call: Call) -> None:
    with pytest.raises(ZeroDivisionError):
        call(port_at_work, Unruly())


class Meddling:
    """An argument that does something when it is looked at."""

    def __init__(self, meddle: Callable[[], object]) -> None:
        self._meddle = meddle

    def __index__(self) -> int:
        self._meddle()
        return 1


@rule("R054", "R064")
@each({**INT_ARGUMENTS, **SIZE_ARGUMENTS, **TIMEOUT_ARGUMENTS})
def test_an_argument_that_closes_the_port_gets_ebadf(port: Port, call: Call) -> None:
    if call is INT_ARGUMENTS["sendn events"]:
        assert sendn([port], Meddling(port.close)) == (0, [errno.EBADF])
    else:
        assert errno_of(call, port, Meddling(port.close)) == errno.EBADF


@rule("R054", "R159")
def test_an_argument_that_sends_is_a_message_more(port: Port) -> None:
    port.send(Meddling(lambda: port.send(5)))
    assert [event.events for event in port.getn(4, 2, 0)] == [5, 1]


@rule("R055", "R163")
@pytest.mark.parametrize("ports", [None, 3, "ab", [None], [3], ["port"]], ids=short)
def test_ports_that_are_none_are_a_type_error(ports: Any) -> None:
    with pytest.raises(TypeError):
        sendn(ports, 1)


@rule("R055")
def test_with_one_wrong_port_nothing_is_sent(port_at_work: Port) -> None:
    with pytest.raises(TypeError):
        sendn([port_at_work, 3], 1)  # type: ignore[list-item]


@rule("R168")
def test_both_alert_flags_are_einval(port_at_work: Port) -> None:
    with pytest.raises(OSError) as caught:
        port_at_work.alert(1, flags=PORT_ALERT_INVALID)
    assert caught.value.errno == errno.EINVAL


CALLS_ON_CLOSED_PORTS: dict[str, Callable[[Port], object]] = {
    "associate a bad object": lambda port: port.associate(-1, POLLIN),
    "dissociate a bad object": lambda port: port.dissociate(-1),
    "alert with both flags": lambda port: port.alert(1, flags=PORT_ALERT_INVALID),
    "get with a negative timeout": lambda port: port.get(-1),
    "get with a timeout of NaN": lambda port: port.get(math.nan),
    "getn with nget beyond max": lambda port: port.getn(1, 2),
    "getn with a negative max": lambda port: port.getn(-1),
    "getn with a negative nget": lambda port: port.getn(1, -1),
    "getn with a negative timeout": lambda port: port.getn(1, 1, -1),
}


@rule("R064", "R126")
@pytest.mark.parametrize("name", CALLS_ON_CLOSED_PORTS)
def test_a_closed_port_is_told_before_other_errors(port: Port, name: str) -> None:
    port.close()
    with pytest.raises(OSError) as caught:
        CALLS_ON_CLOSED_PORTS[name](port)
    assert caught.value.errno == errno.EBADF


@rule("R051")
@pytest.mark.parametrize("value", [*NO_INTS[1:], 0, -1, *NO_C_INTS], ids=short)
def test_a_number_of_slots_that_cannot_be(make_port: MakePort, value: Any) -> None:
    ports = limits.ports
    with pytest.raises((TypeError, ValueError)):
        make_port(max_events=value)
    assert limits.ports == ports


@rule("R051")
@pytest.mark.parametrize("name", [3, b"epoll", object(), ["epoll"]], ids=short)
def test_a_backend_is_chosen_by_a_string(name: Any) -> None:
    ports = limits.ports
    with pytest.raises(TypeError):
        Port(name)
    assert limits.ports == ports


@rule("R051")
@pytest.mark.parametrize(
    "name",
    ["no such backend", "", ":", "os:", "os:nothing", "os:path", "os:getpid", "..:x", "a\0b"],
)
def test_a_backend_that_nobody_knows_is_a_value_error(name: str) -> None:
    ports = limits.ports
    with pytest.raises(ValueError):
        Port(name)
    assert limits.ports == ports


@rule("R051")
def test_a_backend_that_cannot_be_imported_is_enotsup() -> None:
    with pytest.raises(OSError) as caught:
        Port("no_such_module:Class")
    assert caught.value.errno == errno.ENOTSUP


@rule("R004", "R005")
@pytest.mark.parametrize("name", ["max_events", "max_ports"])
@pytest.mark.parametrize("value", [*NO_INTS, 0, -1, *NO_C_INTS], ids=short)
def test_a_limit_that_cannot_be(name: str, value: Any) -> None:
    before = getattr(limits, name)
    with pytest.raises((TypeError, ValueError)):
        setattr(limits, name, value)
    assert getattr(limits, name) == before


@rule("R090")
def test_an_object_may_be_anything_with_an_index_or_a_fileno(port: Port) -> None:
    with socket_pair() as (ours, _):

        class Number:
            def __index__(self) -> int:
                return ours.fileno()

        port.associate(Number(), POLLOUT)  # type: ignore[arg-type]
        assert port.get(SOON).object == ours.fileno()
