"""port_send(3C) and port_sendn(3C): messages."""

import errno
import gc
import weakref
from collections.abc import Callable

import pytest

from portcompat import (
    POLLOUT,
    PORT_MAX_LIST,
    PORT_SOURCE_FD,
    PORT_SOURCE_USER,
    Port,
    PortEvent,
    sendn,
)
from portcompat.conformance import rule
from portcompat.conformance._descriptors import SOON, socket_pair
from portcompat.conformance._threads import waiting

MakePort = Callable[..., Port]


@rule("R054", "R156")
def test_the_event_has_what_was_sent(port: Port) -> None:
    port.send(5, "hello")
    assert port.get(0) == PortEvent(PORT_SOURCE_USER, 0, 5, "hello")


@rule("R156")
def test_user_is_none_if_not_given(port: Port) -> None:
    port.send(5)
    assert port.get(0).user is None


@rule("R156")
def test_user_is_the_very_object_that_was_sent(port: Port) -> None:
    user = object()
    port.send(0, user)
    assert port.get(0).user is user


@rule("R156")
def test_the_port_keeps_no_user_after_delivery(port: Port) -> None:
    class User:
        pass

    user = User()
    gone = weakref.ref(user)
    port.send(0, user)
    del user
    assert gone() is not None
    port.get(0)
    gc.collect()
    assert gone() is None


@rule("R157")
@pytest.mark.parametrize("events", [0, 1, -1, 0x7FFF_FFFF, -0x8000_0000])
def test_events_may_be_any_int(port: Port, events: int) -> None:
    port.send(events)
    assert port.get(0).events == events


@rule("R158")
def test_sending_to_a_full_port_does_not_block(make_port: MakePort) -> None:
    port = make_port(max_events=1)
    port.send(1)
    with pytest.raises(OSError) as caught:
        port.send(2)
    assert caught.value.errno == errno.EAGAIN


@rule("R158", "R172")
def test_what_is_sent_in_alert_mode_comes_after_it(port: Port) -> None:
    port.alert(1)
    port.send(2, "sent")
    port.alert(0)
    assert port.get(0) == PortEvent(PORT_SOURCE_USER, 0, 2, "sent")


@rule("R159")
def test_nothing_is_merged(port: Port) -> None:
    port.send(5, "same")
    port.send(5, "same")
    assert len(port.getn(4)) == 2


@rule("R084")
def test_messages_come_in_the_order_they_were_sent(port: Port) -> None:
    for number in range(100):
        port.send(number)
    assert [port.get(0).events for _ in range(100)] == list(range(100))


@rule("R084")
def test_sending_between_retrievals_keeps_the_order(port: Port) -> None:
    received = []
    for number in range(0, 90, 3):
        port.send(number)
        port.send(number + 1)
        received.append(port.get(0).events)
        port.send(number + 2)
    received += [event.events for event in port.getn(100)]
    assert received == list(range(90))


@rule("R158")
def test_what_is_sent_before_anybody_waits_is_not_lost(port: Port) -> None:
    port.send(1, "early")
    assert port.get().user == "early"


@rule("R156", "R142")
def test_a_message_without_bits_wakes_who_waits(port: Port) -> None:
    getter = waiting(port.get)
    port.send(0, "wake up")
    assert getter.result() == PortEvent(PORT_SOURCE_USER, 0, 0, "wake up")


@rule("R085", "R156")
def test_each_message_is_one_wake_up(port: Port) -> None:
    for number in range(10):
        port.send(number)
        assert port.get(SOON).events == number
    assert port.pending() == 0


@rule("R054")
def test_a_message_to_one_port_does_not_reach_another(make_port: MakePort) -> None:
    one, other = make_port(), make_port()
    one.send(1)
    assert other.getn(1, 1, 0) == []


@rule("R084", "R097", "R156")
def test_messages_and_descriptors_are_told_apart(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.associate(ours, POLLOUT)
        port.send(0)
        sources = [event.source for event in port.getn(2, 2, SOON)]
        assert sources == [PORT_SOURCE_FD, PORT_SOURCE_USER]


@rule("R054")
def test_sending_to_a_closed_port_is_ebadf(port: Port) -> None:
    port.close()
    with pytest.raises(OSError) as caught:
        port.send(0)
    assert caught.value.errno == errno.EBADF


@rule("R055", "R161", "R162")
def test_sendn_sends_to_each_port(make_port: MakePort) -> None:
    ports = [make_port() for _ in range(3)]
    assert sendn(ports, 4, "all") == (3, [0, 0, 0])
    for port in ports:
        assert port.get(0) == PortEvent(PORT_SOURCE_USER, 0, 4, "all")


@rule("R055", "R160")
def test_sendn_to_no_port_is_einval() -> None:
    with pytest.raises(OSError) as caught:
        sendn([], 0)
    assert caught.value.errno == errno.EINVAL


@rule("R160")
def test_sendn_takes_ports_from_an_iterator(port: Port) -> None:
    assert sendn(iter([port, port]), 0) == (2, [0, 0])


@rule("R161", "R162", "R163")
def test_sendn_tells_who_was_not_served(make_port: MakePort) -> None:
    good, closed, full = make_port(), make_port(), make_port(max_events=1)
    closed.close()
    full.send(0)
    assert sendn([closed, good, full, good], 1) == (2, [errno.EBADF, 0, errno.EAGAIN, 0])


@rule("R161")
def test_sendn_that_serves_nobody_is_no_error(make_port: MakePort) -> None:
    closed = make_port()
    closed.close()
    assert sendn([closed, closed], 1) == (0, [errno.EBADF, errno.EBADF])


@rule("R165")
def test_a_port_that_is_named_twice_gets_two(port: Port) -> None:
    assert sendn([port, port], 1) == (2, [0, 0])
    assert port.pending() == 2


@rule("R163", "R165")
def test_entries_are_served_in_order(make_port: MakePort) -> None:
    port = make_port(max_events=2)
    assert sendn([port] * 4, 1) == (2, [0, 0, errno.EAGAIN, errno.EAGAIN])


@rule("R003", "R160")
def test_sendn_takes_more_than_one_kernel_list(port: Port) -> None:
    many = PORT_MAX_LIST + 10
    sent, errors = sendn([port] * many, 1)
    assert (sent, len(errors), any(errors)) == (many, many, False)
    assert port.pending() == many


@rule("R003", "R162")
def test_a_failure_beyond_the_first_kernel_list_is_told_in_its_place(make_port: MakePort) -> None:
    port, closed = make_port(), make_port()
    closed.close()
    sent, errors = sendn([port] * PORT_MAX_LIST + [port, closed, port], 1)
    assert sent == PORT_MAX_LIST + 2
    assert errors[PORT_MAX_LIST:] == [0, errno.EBADF, 0]


@rule("R158", "R161")
def test_sendn_wakes_who_waits_in_each_port(make_port: MakePort) -> None:
    ports = [make_port() for _ in range(3)]
    getters = [waiting(port.get) for port in ports]
    sendn(ports, 9)
    assert [getter.result().events for getter in getters] == [9, 9, 9]
