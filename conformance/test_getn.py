"""port_getn(3C): many events, how many to wait for, and how many there are."""

import errno
import time
from collections.abc import Callable

import pytest

from portcompat import POLLIN, POLLOUT, PORT_MAX_LIST, Port, PortEvent
from portcompat.conformance import rule
from portcompat.conformance._descriptors import SOON, pipe
from portcompat.conformance._threads import waiting

MakePort = Callable[..., Port]

TINY = 1e-9


def numbers(events: list[PortEvent]) -> list[int]:
    return [event.events for event in events]


@pytest.fixture
def six(port: Port) -> Port:
    """A port with six messages: 0 to 5."""
    for number in range(6):
        port.send(number)
    return port


@rule("R146")
def test_a_new_port_has_nothing_pending(port: Port) -> None:
    assert port.pending() == 0


@rule("R146")
def test_pending_counts_what_is_queued(six: Port) -> None:
    assert six.pending() == 6


@rule("R146")
def test_counting_takes_nothing(six: Port) -> None:
    six.pending()
    assert numbers(six.getn(10)) == [0, 1, 2, 3, 4, 5]


@rule("R126", "R146")
@pytest.mark.parametrize("nget", [0, 1, 100])
def test_max_0_takes_nothing_whatever_nget(six: Port, nget: int) -> None:
    assert six.getn(0, nget) == []
    assert six.pending() == 6


@rule("R146")
@pytest.mark.parametrize("timeout", [None, 0, 100])
def test_max_0_does_not_wait(port: Port, timeout: float | None) -> None:
    assert port.getn(0, 5, timeout) == []


@rule("R146", "R176")
def test_counting_in_alert_mode(six: Port) -> None:
    six.alert(1)
    assert six.pending() == 6
    assert six.getn(0) == []


@rule("R147")
def test_nget_0_takes_nothing(six: Port) -> None:
    assert six.getn(4, 0) == []
    assert six.pending() == 6


@rule("R147")
@pytest.mark.parametrize("timeout", [None, 0, 100])
def test_nget_0_does_not_wait(port: Port, timeout: float | None) -> None:
    assert port.getn(4, 0, timeout) == []


@rule("R126", "R147")
def test_nget_0_returns_nothing_even_in_alert_mode(six: Port) -> None:
    six.alert(1)
    assert six.getn(4, 0) == []


@rule("R057", "R148")
def test_nget_beyond_max_is_einval(port: Port) -> None:
    with pytest.raises(OSError) as caught:
        port.getn(4, 5)
    assert caught.value.errno == errno.EINVAL


@rule("R148", "R153")
def test_nget_beyond_max_takes_nothing(six: Port) -> None:
    with pytest.raises(OSError):
        six.getn(4, 5)
    assert six.pending() == 6


@rule("R126", "R148")
def test_nget_beyond_max_is_einval_even_in_alert_mode(port: Port) -> None:
    port.alert(1)
    with pytest.raises(OSError) as caught:
        port.getn(4, 5)
    assert caught.value.errno == errno.EINVAL


@rule("R149")
def test_enough_events_are_returned_at_once(six: Port) -> None:
    assert numbers(six.getn(4, 3, TINY)) == [0, 1, 2, 3]


@rule("R149")
def test_as_many_as_asked_for_fill_the_list(six: Port) -> None:
    assert numbers(six.getn(6, 6)) == [0, 1, 2, 3, 4, 5]


@rule("R132", "R149")
def test_more_than_nget_are_returned_up_to_max(six: Port) -> None:
    assert numbers(six.getn(100, 1)) == [0, 1, 2, 3, 4, 5]


@rule("R132", "R149")
def test_never_more_than_max(six: Port) -> None:
    assert len(six.getn(2, 1)) == 2
    assert six.pending() == 4


@rule("R084", "R149")
def test_what_is_left_comes_next_in_order(six: Port) -> None:
    taken = [numbers(six.getn(4)), numbers(six.getn(4))]
    assert taken == [[0, 1, 2, 3], [4, 5]]


@rule("R003", "R132")
def test_more_than_a_kernel_list_can_be_taken_at_once(port: Port) -> None:
    many = PORT_MAX_LIST + 10
    for number in range(many):
        port.send(number)
    assert numbers(port.getn(many, many)) == list(range(many))


@rule("R132")
@pytest.mark.parametrize("maximum", [2**31, 2**63, 2**64, 10**30])
def test_max_has_no_upper_bound(six: Port, maximum: int) -> None:
    assert len(six.getn(maximum)) == 6


@rule("R133", "R149")
def test_it_waits_until_nget_are_there(port: Port) -> None:
    getter = waiting(lambda: port.getn(8, 3))
    port.send(0)
    port.send(1)
    getter.at_rest()
    port.send(2)
    assert numbers(getter.result()) == [0, 1, 2]


@rule("R133")
def test_one_is_waited_for_if_not_told(port: Port) -> None:
    getter = waiting(lambda: port.getn(8))
    port.send(7)
    assert numbers(getter.result()) == [7]


@rule("R133")
def test_both_ends_of_a_pipe_in_one_call(port: Port) -> None:
    with pipe() as (reader, writer):
        writer.write(b"x")
        port.associate(reader, POLLIN)
        port.associate(writer, POLLOUT)
        events = port.getn(4, 2, SOON)
        assert {event.object for event in events} == {reader.fileno(), writer.fileno()}


@rule("R150")
def test_a_timeout_of_zero_returns_nothing_of_nothing(port: Port) -> None:
    assert port.getn(1, 1, 0) == []


@rule("R150")
def test_a_timeout_of_zero_returns_fewer_than_nget(six: Port) -> None:
    assert numbers(six.getn(100, 50, 0)) == [0, 1, 2, 3, 4, 5]


@rule("R150")
def test_what_a_timeout_of_zero_returns_is_taken(six: Port) -> None:
    six.getn(100, 50, 0)
    assert six.pending() == 0


@rule("R150")
def test_a_hundred_times_zero_is_at_once(port: Port) -> None:
    before = time.monotonic()
    for _ in range(100):
        assert port.getn(8, 8, 0) == []
    assert time.monotonic() - before < 1


@rule("R151")
def test_when_the_time_is_up_fewer_than_nget_are_returned(six: Port) -> None:
    assert len(six.getn(4, 3, TINY)) == 4
    assert numbers(six.getn(4, 3, TINY)) == [4, 5]


@rule("R151")
def test_what_is_returned_when_the_time_is_up_is_taken(six: Port) -> None:
    six.getn(10, 10, 0.001)
    assert six.pending() == 0


@rule("R151")
def test_when_the_time_is_up_without_events_the_list_is_empty(port: Port) -> None:
    assert port.getn(4, 3, 0.001) == []


@rule("R131", "R151")
@pytest.mark.parametrize("timeout", [0.0001, 0.0031, 0.05])
def test_a_wait_for_more_than_there_are_is_never_too_short(six: Port, timeout: float) -> None:
    before = time.monotonic()
    six.getn(10, 10, timeout)
    assert time.monotonic() - before >= timeout


@rule("R151")
def test_what_comes_during_the_wait_is_returned_at_its_end(port: Port) -> None:
    getter = waiting(lambda: port.getn(8, 8, 0.5))
    port.send(1)
    port.send(2)
    assert numbers(getter.result()) == [1, 2]


@rule("R140", "R151")
def test_what_others_take_during_the_wait_is_gone_at_its_end(port: Port) -> None:
    getter = waiting(lambda: port.getn(8, 8, 0.5))
    port.send(1)
    port.send(2)
    assert port.get(0).events == 1
    assert numbers(getter.result()) == [2]


@rule("R128", "R129")
def test_a_malformed_timeout_is_refused_although_there_is_enough(six: Port) -> None:
    with pytest.raises(OSError) as caught:
        six.getn(4, 1, -1)
    assert caught.value.errno == errno.EINVAL
    assert six.pending() == 6


@rule("R128")
@pytest.mark.parametrize(("maximum", "nget"), [(0, 1), (1, 0)])
def test_a_malformed_timeout_is_refused_although_nothing_is_asked(
    port: Port, maximum: int, nget: int
) -> None:
    with pytest.raises(OSError) as caught:
        port.getn(maximum, nget, -1)
    assert caught.value.errno == errno.EINVAL


@rule("R128")
def test_a_malformed_timeout_is_refused_in_alert_mode(port: Port) -> None:
    port.alert(1)
    with pytest.raises(OSError) as caught:
        port.getn(1, 1, -1)
    assert caught.value.errno == errno.EINVAL


@rule("R085", "R132")
@pytest.mark.parametrize("length", [1, 7, 64, 512, 1000])
def test_a_queue_is_drained_list_by_list(port: Port, length: int) -> None:
    for number in range(1000):
        port.send(number)
    received: list[int] = []
    while events := port.getn(length, 1, 0):
        assert len(events) == min(length, 1000 - len(received))
        received += numbers(events)
    assert received == list(range(1000))
