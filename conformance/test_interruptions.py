"""What a signal handler may do at every single step of a call, not only where signals fell."""

import sys
from collections.abc import Callable

import pytest

from portcompat import POLLIN, POLLOUT, Port, PortEvent, PortTimeout
from portcompat.conformance import rule
from portcompat.conformance._descriptors import SOON, socket_pair
from portcompat.conformance._interruptions import at_each_step
from portcompat.conformance._threads import waiting

if sys.implementation.name != "cpython":
    pytest.skip("only CPython tells its steps to a profiler", allow_module_level=True)

MakePort = Callable[..., Port]


class Interrupted(Exception):
    """What a handler raises."""


def interrupt() -> None:
    raise Interrupted


def users(events: list[PortEvent]) -> list[object]:
    return [event.user for event in events]


@rule("R066")
def test_send_may_be_interrupted_by_send(port: Port) -> None:
    for interruption in at_each_step(lambda: port.send(0, "handler")):
        with interruption.at_work():
            port.send(0, "interrupted")
        expected = ["handler", "interrupted"] if interruption.reached else ["interrupted"]
        assert sorted(users(port.getn(8, 1, 0)), key=str) == expected


@rule("R066", "R138")
def test_a_send_that_is_interrupted_by_send_wakes_who_waits(port: Port) -> None:
    for interruption in at_each_step(lambda: port.send(0, "handler")):
        getter = waiting(lambda: port.getn(2, 2))
        with interruption.at_work():
            port.send(0, "interrupted")
        if not interruption.reached:
            port.send(0, "handler")
        assert sorted(users(getter.result()), key=str) == ["handler", "interrupted"]


@rule("R066")
def test_associate_may_be_interrupted_by_send(port: Port) -> None:
    with socket_pair() as (ours, _):
        for interruption in at_each_step(lambda: port.send(0, "handler")):
            with interruption.at_work():
                port.associate(ours, POLLOUT, "ready")
            expected = ["handler", "ready"] if interruption.reached else ["ready"]
            assert sorted(users(port.getn(8, len(expected), SOON)), key=str) == expected


@rule("R066", "R138")
def test_a_send_that_interrupts_associate_wakes_who_waits(port: Port) -> None:
    with socket_pair() as (ours, _):
        for interruption in at_each_step(lambda: port.send(0, "handler")):
            getter = waiting(port.get)
            with interruption.at_work():
                port.associate(ours, POLLIN)
            if not interruption.reached:
                port.send(0, "handler")
            assert getter.result().user == "handler"


@rule("R066", "R138")
def test_a_send_that_interrupts_dissociate_wakes_who_waits(port: Port) -> None:
    with socket_pair() as (ours, _):
        for interruption in at_each_step(lambda: port.send(0, "handler")):
            port.associate(ours, POLLIN)
            getter = waiting(port.get)
            with interruption.at_work():
                port.dissociate(ours)
            if not interruption.reached:
                port.send(0, "handler")
            assert getter.result().user == "handler"


@rule("R066", "R138")
def test_a_send_that_interrupts_clearing_the_alert_wakes_who_waits(port: Port) -> None:
    for interruption in at_each_step(lambda: port.send(0, "handler")):
        getter = waiting(port.get)
        with interruption.at_work():
            port.alert(0)
        if not interruption.reached:
            port.send(0, "handler")
        assert getter.result().user == "handler"


@rule("R066", "R138")
def test_a_send_that_interrupts_counting_wakes_who_waits(port: Port) -> None:
    for interruption in at_each_step(lambda: port.send(0, "handler")):
        getter = waiting(port.get)
        with interruption.at_work():
            assert port.pending() in (0, 1)
        if not interruption.reached:
            port.send(0, "handler")
        assert getter.result().user == "handler"


@rule("R066", "R138")
def test_a_send_that_interrupts_a_retrieval_wakes_who_waits(port: Port) -> None:
    for interruption in at_each_step(lambda: port.send(0, "handler")):
        getter = waiting(port.get)
        with interruption.at_work():
            taken = port.getn(8, 8, 0)
        if not interruption.reached:
            port.send(0, "handler")
        if taken:
            assert users(taken) == ["handler"]
            port.send(0, "handler")
        assert getter.result().user == "handler"


@rule("R066", "R142")
@pytest.mark.parametrize("nget", [1, 2])
def test_a_send_that_interrupts_a_wait_ends_it(port: Port, nget: int) -> None:
    for interruption in at_each_step(lambda: port.send(0, "handler")):
        port.getn(8, 8, 0)
        for _ in range(nget - 1):
            port.send(0, "before")
        with interruption.at_work():
            events = port.getn(8, nget, 0.5 if interruption.reached else 0.01)
        if interruption.reached:
            assert "handler" in users(events) + users(port.getn(8, 1, 0))


@rule("R134", "R153")
@pytest.mark.parametrize("nget", [1, 2, 3, 8])
def test_a_handler_that_raises_in_getn_loses_nothing(port: Port, nget: int) -> None:
    with socket_pair() as (ours, _):
        for interruption in at_each_step(interrupt):
            port.send(0, "first")
            port.associate(ours, POLLOUT, "ready")
            port.send(0, "last")
            events: list[PortEvent] = []
            try:
                with interruption.at_work():
                    events = port.getn(8, nget, 0.001)
            except Interrupted:
                pass
            events += port.getn(8, 3 - len(events), SOON) if len(events) < 3 else []
            assert users(events) == ["first", "ready", "last"]


@rule("R134", "R153")
@pytest.mark.parametrize("count", [1, 3])
def test_a_handler_that_raises_as_descriptors_are_reported_loses_nothing(
    port: Port, count: int
) -> None:
    with socket_pair() as (one, _), socket_pair() as (two, _), socket_pair() as (three, _):
        ready = [one, two, three][:count]
        for interruption in at_each_step(interrupt):
            for number, end in enumerate(ready):
                port.associate(end, POLLOUT, number)
            events: list[PortEvent] = []
            try:
                with interruption.at_work():
                    events = port.getn(8, count)
            except Interrupted:
                pass
            events = events or port.getn(8, count, SOON)
            assert sorted(users(events), key=str) == list(range(count))


@rule("R134", "R153")
def test_a_handler_that_raises_in_get_loses_nothing(port: Port) -> None:
    for interruption in at_each_step(interrupt):
        port.send(1)
        port.send(2)
        numbers = []
        try:
            with interruption.at_work():
                numbers.append(port.get().events)
        except Interrupted:
            pass
        numbers += [event.events for event in port.getn(8, 1, 0)]
        assert numbers == [1, 2]


@rule("R134", "R153")
def test_a_handler_that_raises_in_counting_loses_nothing(port: Port) -> None:
    with socket_pair() as (ours, _):
        for interruption in at_each_step(interrupt):
            port.send(0, "sent")
            port.associate(ours, POLLOUT, "ready")
            try:
                with interruption.at_work():
                    port.pending()
            except Interrupted:
                pass
            assert users(port.getn(8, 2, SOON)) == ["sent", "ready"]


@rule("R134", "R173")
def test_a_handler_that_raises_in_alert_mode_queues_no_alert(port: Port) -> None:
    for interruption in at_each_step(interrupt):
        port.alert(7)
        try:
            with interruption.at_work():
                port.get()
        except Interrupted:
            pass
        port.alert(0)
        with pytest.raises(PortTimeout):
            port.get(0)


@rule("R134", "R138")
@pytest.mark.parametrize("order", ["behind", "before"])
def test_a_handler_that_raises_in_a_wait_leaves_the_others_waiting(port: Port, order: str) -> None:
    for interruption in at_each_step(interrupt):
        other = waiting(lambda: port.getn(2, 2) if order == "behind" else port.getn(1))
        try:
            with interruption.at_work():
                port.getn(2, 2, 0.001)
        except Interrupted:
            pass
        port.send(1)
        port.send(2)
        events = other.result() + port.getn(2, 1, 0)
        assert [event.events for event in events] == [1, 2]


@rule("R134")
@pytest.mark.parametrize("name", ["associate", "dissociate", "send", "alert"])
def test_a_port_works_after_a_handler_raised_in(make_port: MakePort, name: str) -> None:
    port = make_port(max_events=3)
    calls: dict[str, Callable[[], object]] = {
        "associate": lambda: port.associate(ours, POLLIN, "old"),
        "dissociate": lambda: port.dissociate(ours),
        "send": lambda: port.send(0, "old"),
        "alert": lambda: port.alert(7),
    }
    with socket_pair() as (ours, _):
        for interruption in at_each_step(interrupt):
            if name == "dissociate":
                port.associate(ours, POLLIN)
            try:
                with interruption.at_work():
                    calls[name]()
            except Interrupted:
                pass
            port.alert(0)
            port.getn(8, 1, 0)
            port.associate(ours, POLLOUT, "new")
            port.send(0, "sent")
            port.send(0, "sent")
            assert users(port.getn(8, 3, SOON)) == ["new", "sent", "sent"]
