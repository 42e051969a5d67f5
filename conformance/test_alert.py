"""port_alert(3C): a mode in which every retrieval returns the alert."""

import errno
from collections.abc import Callable
from select import select

import pytest

from portcompat import (
    POLLIN,
    POLLOUT,
    PORT_ALERT_INVALID,
    PORT_ALERT_SET,
    PORT_ALERT_UPDATE,
    PORT_SOURCE_ALERT,
    Port,
    PortEvent,
    PortTimeout,
)
from portcompat.conformance import rule
from portcompat.conformance._descriptors import SOON, socket_pair
from portcompat.conformance._threads import waiting

MakePort = Callable[..., Port]


def alert_event(events: int, user: object = None) -> PortEvent:
    return PortEvent(PORT_SOURCE_ALERT, 0, events, user)


@rule("R171")
def test_the_event_has_what_was_set(port: Port) -> None:
    port.alert(5, "fire")
    assert port.get(0) == alert_event(5, "fire")


@rule("R171")
def test_user_is_the_very_object_that_was_set(port: Port) -> None:
    user = object()
    port.alert(5, user)
    assert port.get(0).user is user


@rule("R171")
@pytest.mark.parametrize("events", [1, -1, 0x7FFF_FFFF, -0x8000_0000])
def test_events_may_be_any_int_but_0(port: Port, events: int) -> None:
    port.alert(events)
    assert port.get(0).events == events


@rule("R171")
def test_it_is_not_consumed(port: Port) -> None:
    port.alert(5)
    assert [port.get() for _ in range(3)] == [alert_event(5)] * 3


@rule("R154", "R171")
def test_getn_returns_it_alone(port: Port) -> None:
    port.alert(5)
    assert port.getn(8, 8) == [alert_event(5)]


@rule("R154", "R172")
def test_getn_returns_it_alone_whatever_is_queued(port: Port) -> None:
    port.send(1)
    port.send(2)
    port.alert(5)
    assert port.getn(8, 2) == [alert_event(5)]
    assert port.getn(8, 2, 0) == [alert_event(5)]


@rule("R167")
def test_events_0_clears_it(port: Port) -> None:
    port.alert(5)
    port.alert(0)
    with pytest.raises(PortTimeout):
        port.get(0)


@rule("R167")
def test_clearing_what_is_not_set_is_no_error(port: Port) -> None:
    port.alert(0)
    port.alert(0)
    assert port.pending() == 0


@rule("R167")
@pytest.mark.parametrize(
    "flags", [0, PORT_ALERT_SET, PORT_ALERT_UPDATE, PORT_ALERT_INVALID, 4, 7, -1]
)
@pytest.mark.parametrize("was_set", [True, False], ids=["set", "not set"])
def test_clearing_succeeds_whatever_the_flags(port: Port, flags: int, was_set: bool) -> None:
    if was_set:
        port.alert(5)
    port.alert(0, flags=flags)
    with pytest.raises(PortTimeout):
        port.get(0)


@rule("R058", "R168")
@pytest.mark.parametrize("flags", [PORT_ALERT_INVALID, 7, -1])
def test_both_flags_are_einval(port: Port, flags: int) -> None:
    with pytest.raises(OSError) as caught:
        port.alert(5, flags=flags)
    assert caught.value.errno == errno.EINVAL


@rule("R153", "R168")
def test_both_flags_set_nothing(port: Port) -> None:
    with pytest.raises(OSError):
        port.alert(5, flags=PORT_ALERT_INVALID)
    with pytest.raises(PortTimeout):
        port.get(0)


@rule("R168")
def test_both_flags_leave_the_alert_that_is_set(port: Port) -> None:
    port.alert(5, "old")
    with pytest.raises(OSError):
        port.alert(6, "new", flags=PORT_ALERT_INVALID)
    assert port.get(0) == alert_event(5, "old")


@rule("R058", "R169")
def test_update_of_an_alert_is_ebusy(port: Port) -> None:
    port.alert(5)
    with pytest.raises(OSError) as caught:
        port.alert(6, flags=PORT_ALERT_UPDATE)
    assert caught.value.errno == errno.EBUSY


@rule("R169")
def test_update_leaves_the_alert_that_is_set(port: Port) -> None:
    port.alert(5, "old")
    with pytest.raises(OSError):
        port.alert(6, "new", flags=PORT_ALERT_UPDATE)
    assert port.get(0) == alert_event(5, "old")


@rule("R169")
def test_update_without_an_alert_sets_one(port: Port) -> None:
    port.alert(5, flags=PORT_ALERT_UPDATE)
    assert port.get(0) == alert_event(5)


@rule("R167", "R169")
def test_update_after_clearing_sets_one(port: Port) -> None:
    port.alert(5)
    port.alert(0)
    port.alert(6, flags=PORT_ALERT_UPDATE)
    assert port.get(0) == alert_event(6)


@rule("R170")
@pytest.mark.parametrize("flags", [0, PORT_ALERT_SET, 4, 5, 6, 8, -2])
def test_any_other_flags_replace(port: Port, flags: int) -> None:
    port.alert(5, "old")
    port.alert(6, "new", flags=flags)
    assert port.get(0) == alert_event(6, "new")


@rule("R170")
@pytest.mark.parametrize("flags", [0, PORT_ALERT_SET, 4, 5, 6, 8, -2])
def test_any_other_flags_set(port: Port, flags: int) -> None:
    port.alert(5, flags=flags)
    assert port.get(0) == alert_event(5)


@rule("R158", "R172")
def test_what_was_queued_comes_out_in_its_order_after_clearing(port: Port) -> None:
    port.send(1)
    port.alert(5)
    port.send(2)
    port.get(0)
    port.send(3)
    port.alert(0)
    assert [event.events for event in port.getn(8, 3)] == [1, 2, 3]


@rule("R172")
def test_a_descriptors_event_stays_queued_under_an_alert(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.alert(5)
        port.associate(ours, POLLOUT, "ready")
        assert port.getn(8) == [alert_event(5)]
        port.alert(0)
        assert [event.user for event in port.getn(8, 1, SOON)] == ["ready"]


@rule("R084", "R172")
def test_a_descriptor_that_was_ready_before_a_message_stays_before_it(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.alert(5)
        port.associate(ours, POLLOUT, "ready")
        port.send(0, "sent")
        port.alert(0)
        assert [event.user for event in port.getn(8, 2, SOON)] == ["ready", "sent"]


@rule("R176")
def test_it_is_not_counted(port: Port) -> None:
    port.alert(5)
    assert port.pending() == 0


@rule("R176")
def test_it_takes_no_slot(make_port: MakePort) -> None:
    port = make_port(max_events=1)
    port.alert(5)
    port.send(1)
    port.alert(0)
    assert port.get(0).events == 1


@rule("R079", "R176")
def test_it_can_be_set_with_all_slots_taken(make_port: MakePort) -> None:
    port = make_port(max_events=1)
    port.send(1)
    port.alert(5)
    assert port.get(0) == alert_event(5)


@rule("R073", "R176")
def test_it_does_not_make_the_port_readable(port: Port) -> None:
    descriptor = port.fileno()
    port.alert(5)
    assert select([descriptor], [], [], 0)[0] == []


@rule("R154", "R173")
def test_it_wakes_who_waits_for_one(port: Port) -> None:
    getter = waiting(port.get)
    port.alert(5, "all out")
    assert getter.result() == alert_event(5, "all out")


@rule("R154", "R173")
def test_it_wakes_who_waits_for_many(port: Port) -> None:
    port.send(1)
    getter = waiting(lambda: port.getn(8, 8))
    port.alert(5)
    assert getter.result() == [alert_event(5)]
    assert port.pending() == 1


@rule("R154", "R173")
def test_it_wakes_who_waits_with_a_timeout(port: Port) -> None:
    getter = waiting(lambda: port.getn(8, 8, SOON))
    port.alert(5)
    assert getter.result() == [alert_event(5)]


@rule("R173")
def test_it_wakes_every_waiting_thread(port: Port) -> None:
    getters = [waiting(port.get) for _ in range(8)]
    port.alert(5)
    assert [getter.result(1) for getter in getters] == [alert_event(5)] * 8


@rule("R173")
def test_a_woken_thread_has_the_alert_although_it_is_cleared_at_once(port: Port) -> None:
    getters = [waiting(port.get) for _ in range(4)]
    port.alert(5)
    port.alert(0)
    assert [getter.result() for getter in getters] == [alert_event(5)] * 4


@rule("R173")
def test_a_woken_thread_has_the_first_alert_although_it_is_replaced_at_once(port: Port) -> None:
    getters = [waiting(port.get) for _ in range(4)]
    port.alert(5, "first")
    port.alert(6, "second")
    assert [getter.result() for getter in getters] == [alert_event(5, "first")] * 4
    assert port.get(0) == alert_event(6, "second")


@rule("R173")
def test_it_wakes_who_waits_for_descriptors_too(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN)
        getter = waiting(port.get)
        port.alert(5)
        assert getter.result() == alert_event(5)
        port.alert(0)
        theirs.send(b"x")
        assert port.get(SOON).object == ours.fileno()


@rule("R174")
def test_clearing_wakes_nobody(port: Port) -> None:
    port.send(1)
    getter = waiting(lambda: port.getn(4, 2))
    port.alert(0)
    getter.at_rest()
    port.send(2)
    assert [event.events for event in getter.result()] == [1, 2]


@rule("R126", "R154")
def test_it_comes_before_the_wait(port: Port) -> None:
    port.alert(5)
    assert port.get(0) == alert_event(5)
    assert port.getn(4, 4, 0) == [alert_event(5)]


@rule("R058")
def test_an_alert_on_a_closed_port_is_ebadf(port: Port) -> None:
    port.close()
    with pytest.raises(OSError) as caught:
        port.alert(5)
    assert caught.value.errno == errno.EBADF


@rule("R167")
def test_clearing_on_a_closed_port_is_ebadf(port: Port) -> None:
    port.close()
    with pytest.raises(OSError) as caught:
        port.alert(0)
    assert caught.value.errno == errno.EBADF


@rule("R167", "R174")
def test_who_waits_after_clearing_waits_for_events(port: Port) -> None:
    port.alert(5)
    port.alert(0)
    getter = waiting(port.get)
    port.send(1)
    assert getter.result().events == 1
