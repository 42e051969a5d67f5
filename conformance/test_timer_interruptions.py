"""What a signal handler may do at every single step of a call that is about timers."""

import errno
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from portcompat import Port, PortEvent
from portcompat.conformance import rule
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._errors import errno_of
from portcompat.conformance._interruptions import at_each_step
from portcompat.conformance._threads import waiting
from portcompat.conformance._timers import (
    FAR,
    MS,
    PERIOD,
    now,
    sleep_until,
    start_of,
    users,
)
from portcompat.timers import Timer, timer_delete

if sys.implementation.name != "cpython":
    pytest.skip("only CPython tells its steps to a profiler", allow_module_level=True)

MakePort = Callable[..., Port]

MONOTONIC = time.CLOCK_MONOTONIC


class Interrupted(Exception):
    """What a handler raises."""


def interrupt() -> None:
    raise Interrupted


SETTINGS: dict[str, Callable[[Timer], object]] = {
    "set": lambda timer: timer.set(after_ns=FAR),
    "set, due": lambda timer: timer.set(after=0),
    "set, periodic": lambda timer: timer.set(at_ns=start_of(2, MONOTONIC), every_ns=PERIOD),
    "cancel": lambda timer: timer.cancel(),
}
each_setting = pytest.mark.parametrize("setting", SETTINGS.values(), ids=list(SETTINGS))


@rule("R066")
@each_setting
def test_setting_may_be_interrupted_by_send(port: Port, setting: Callable[[Timer], object]) -> None:
    expired = {"set, due": 1, "set, periodic": 2}
    for interruption in at_each_step(lambda: port.send(0, "handler")):
        with port.timer(MONOTONIC, "timer") as timer:
            timer.set(after_ns=FAR)
            with interruption.at_work():
                setting(timer)
            events = port.getn(8, 1, 0)
            count = next((expired[name] for name in expired if SETTINGS[name] is setting), 0)
            assert users(events).count("handler") == interruption.reached
            assert [event.events for event in events if event.user == "timer"] == [count] * bool(
                count
            )


@rule("R066", "R269")
def test_deleting_may_be_interrupted_by_send(make_port: MakePort) -> None:
    port = make_port(max_events=2)
    for interruption in at_each_step(lambda: port.send(0, "handler")):
        timer = port.timer(user="timer")
        timer.set(after=0)
        with interruption.at_work():
            timer.delete()
        assert users(port.getn(8, 1, 0)) == ["handler"] * interruption.reached
        assert timer.deleted


@rule("R066", "R244")
def test_making_may_be_interrupted_by_send(make_port: MakePort) -> None:
    port = make_port(max_events=2)
    for interruption in at_each_step(lambda: port.send(0, "handler")):
        with interruption.at_work():
            timer = port.timer(user="timer")
        assert users(port.getn(8, 1, 0)) == ["handler"] * interruption.reached
        timer.set(after=0)
        assert users(port.getn(8, 1, SOON)) == ["timer"]
        timer.delete()


@rule("R066", "R138")
def test_a_send_that_interrupts_setting_wakes_who_waits(port: Port) -> None:
    with port.timer() as timer:
        for interruption in at_each_step(lambda: port.send(0, "handler")):
            getter = waiting(port.get)
            with interruption.at_work():
                timer.set(after_ns=FAR)
            if not interruption.reached:
                port.send(0, "handler")
            assert getter.result().user == "handler"


@rule("R134", "R247")
@each_setting
def test_setting_that_a_handler_ends_is_done_or_not(
    port: Port, setting: Callable[[Timer], object]
) -> None:
    for interruption in at_each_step(interrupt):
        with port.timer(MONOTONIC, "timer") as timer:
            timer.set(after_ns=2 * FAR, every_ns=7)
            with suppress(Interrupted), interruption.at_work():
                setting(timer)
            left, every = timer.remaining_ns, timer.interval_ns
            events = port.getn(8, 1, 0)
            if every == 7:
                assert left > FAR  # as it was
                assert events == []
            elif setting is SETTINGS["set"]:
                assert 0 < left <= FAR
                assert events == []
            elif setting is SETTINGS["set, periodic"]:
                assert every == PERIOD
                assert [event.events for event in events] == [2]
            else:
                assert left == 0
                assert len(events) == (setting is SETTINGS["set, due"])
            timer.set(after=0)
            assert [event.events for event in port.getn(8, 1, SOON)] == [1]


@rule("R134", "R269")
def test_deleting_that_a_handler_ends_is_done_or_not(make_port: MakePort) -> None:
    port = make_port(max_events=1)
    for interruption in at_each_step(interrupt):
        timer = port.timer(user="timer")
        timer.set(after=0, every_ns=FAR)
        with suppress(Interrupted), interruption.at_work():
            timer.delete()
        if not timer.deleted:
            assert port.pending() == 1
            timer.delete()
        assert port.pending() == 0
        assert errno_of(timer_delete, timer.id) == errno.EINVAL
        port.send(0)
        assert errno_of(port.send, 0) == errno.EAGAIN
        port.get(0)


@rule("R134", "R244")
def test_making_that_a_handler_ends_takes_neither_slot_nor_id(make_port: MakePort) -> None:
    port = make_port(max_events=1)
    with port.timer() as first:
        number = first.id
    for interruption in at_each_step(interrupt):
        made = None
        with suppress(Interrupted), interruption.at_work():
            made = port.timer()
        if made is not None:
            made.delete()
        with port.timer() as timer:
            assert timer.id == number


@rule("R134", "R153", "R265")
@pytest.mark.parametrize("looked", [False, True], ids=["not seen yet", "queued"])
def test_a_retrieval_that_a_handler_ends_loses_no_expiry(port: Port, looked: bool) -> None:
    for interruption in at_each_step(interrupt):
        with port.timer(MONOTONIC, "timer") as timer:
            timer.set(after_ns=MS if not looked else 0)
            sleep_until(MONOTONIC, now(MONOTONIC) + MS)
            port.send(0, "message")
            events: list[PortEvent] = []
            with suppress(Interrupted), interruption.at_work():
                events = port.getn(8, 2)
            events = events or port.getn(8, 2, SOON)
            assert sorted(users(events), key=str) == ["message", "timer"]
            assert [event.events for event in events if event.user == "timer"] == [1]
            assert port.getn(8, 1, 0) == []


@rule("R134", "R153", "R266")
def test_a_retrieval_that_a_handler_ends_loses_no_count(port: Port) -> None:
    for interruption in at_each_step(interrupt):
        with port.timer(MONOTONIC, "timer") as timer:
            timer.set(at_ns=start_of(3, MONOTONIC), every_ns=PERIOD)
            taken = 0
            with suppress(Interrupted), interruption.at_work():
                taken = port.get().events
            if not taken:
                taken = port.get(SOON).events
            assert taken == 3
            assert port.getn(8, 1, 0) == []


@rule("R134", "R250")
def test_a_setting_that_a_handler_ends_when_it_is_done_ends_the_wait_of_others(port: Port) -> None:
    for interruption in at_each_step(interrupt):
        with port.timer(MONOTONIC, "timer") as timer:
            timer.set(after_ns=2 * FAR)
            getter = waiting(port.get)
            with suppress(Interrupted), interruption.at_work():
                timer.set(after_ns=MS)
            if timer.remaining_ns > FAR:  # not done
                timer.set(after_ns=MS)
            assert getter.result().user == "timer"
            assert port.getn(8, 1, 0) == []
