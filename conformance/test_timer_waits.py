"""Who waits in a port while its timers expire: threads, timeouts, descriptors, other ports."""

import select
import time
from collections.abc import Callable
from functools import partial
from threading import Barrier

import pytest

from portcompat import (
    ETIME,
    POLLIN,
    POLLOUT,
    PORT_SOURCE_FD,
    PORT_SOURCE_TIMER,
    Port,
    PortEvent,
    PortTimeout,
)
from portcompat.conformance import rule
from portcompat.conformance._descriptors import A_WHILE, SOON, socket_pair
from portcompat.conformance._errors import errno_of
from portcompat.conformance._threads import in_thread, waiting
from portcompat.conformance._timers import FAR, MS, SECOND, now, sleep_until, users
from portcompat.timers import timer_delete

MakePort = Callable[..., Port]
Scale = Callable[[int, int, int], int]


@rule("R250", "R265")
def test_a_timer_that_is_set_ends_a_wait_that_has_begun(port: Port, clock: int) -> None:
    with port.timer(clock, "user") as timer:
        getter = waiting(port.get)
        before = now(clock)
        timer.set(after=0.01)
        assert getter.result() == PortEvent(PORT_SOURCE_TIMER, timer.id, 1, "user")
        assert now(clock) >= before + 10 * MS


@rule("R250")
def test_a_timer_that_is_set_to_an_earlier_time_ends_a_wait(port: Port, clock: int) -> None:
    with port.timer(clock) as timer:
        timer.set(after_ns=FAR)
        getter = waiting(port.get)
        timer.set(after=0.01)
        assert getter.result().events == 1


@rule("R251")
def test_a_timer_that_is_due_ends_a_wait_at_once(port: Port, clock: int) -> None:
    with port.timer(clock) as timer:
        getter = waiting(port.get)
        timer.set(after=0)
        assert getter.result().events == 1


@rule("R084", "R095", "R251")
@pytest.mark.parametrize("before", [("sent",), ("ready",), ("ready", "sent")], ids=" ".join)
def test_a_timer_that_is_due_comes_after_what_came_while_another_thread_waits(
    port: Port, clock: int, before: tuple[str, ...], scale: Scale
) -> None:
    expected = [*before, "due"]
    with port.timer(clock, "due") as timer, socket_pair() as (ours, _):
        for _ in range(scale(5, 50, 500)):
            getter = waiting(lambda: port.getn(len(expected), len(expected), SOON))
            port.associate(ours, POLLOUT if "ready" in before else POLLIN, "ready")
            if "sent" in before:
                port.send(0, "sent")
            timer.set(after=0)
            assert users(getter.result()) == expected


@rule("R084", "R095", "R251")
@pytest.mark.parametrize("after", [0, MS], ids=["at once", "soon"])
def test_a_timer_that_is_due_comes_after_a_descriptor_that_was_ready_before(
    port: Port, clock: int, after: int
) -> None:
    with port.timer(clock, "due") as timer, socket_pair() as (ours, _):
        port.associate(ours, POLLOUT, "ready")
        timer.set(after_ns=after)
        sleep_until(clock, now(clock) + after)
        assert users(port.getn(4, 2, SOON)) == ["ready", "due"]


@rule("R248")
def test_a_timer_that_is_disarmed_does_not_end_a_wait(port: Port, clock: int) -> None:
    with port.timer(clock, "timer") as timer:
        timer.set(after_ns=FAR)
        getter = waiting(port.get)
        timer.set(after_ns=SECOND)
        timer.cancel()
        getter.at_rest()
        port.send(0, "message")
        assert getter.result().user == "message"


@rule("R269")
def test_deleting_the_timer_that_is_waited_for_does_not_end_the_wait(port: Port) -> None:
    timer = port.timer()
    timer.set(after_ns=FAR)
    getter = waiting(port.get)
    timer.delete()
    getter.at_rest()
    port.send(0, "message")
    assert getter.result().user == "message"


@rule("R085", "R138")
@pytest.mark.parametrize("threads", [2, 8])
def test_of_many_waiting_threads_one_gets_the_event(port: Port, clock: int, threads: int) -> None:
    with port.timer(clock, "timer") as timer:
        getters = [waiting(port.get) for _ in range(threads)]
        timer.set(after=0.005)
        deadline = time.monotonic() + SOON
        while not any(getter.over for getter in getters):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        assert sum(getter.over for getter in getters) == 1
        for _ in range(threads - 1):
            port.send(0, "message")
        found = [getter.result().user for getter in getters]
        assert sorted(found, key=str) == ["message"] * (threads - 1) + ["timer"]


@rule("R085")
def test_as_many_timers_as_waiting_threads_release_all_of_them(port: Port, clock: int) -> None:
    timers = [port.timer(clock, number) for number in range(8)]
    getters = [waiting(port.get) for _ in timers]
    due = now(clock) + 5 * MS
    for timer in timers:
        timer.set(at_ns=due)
    assert sorted(getter.result().user for getter in getters) == list(range(8))
    for timer in timers:
        timer.delete()


@rule("R133", "R138")
def test_a_wait_for_several_events_counts_timers(port: Port, clock: int) -> None:
    with port.timer(clock, "one") as one, port.timer(clock, "other") as other:
        one.set(after=0.002)
        other.set(after=0.01)
        before = now(clock)
        found = port.getn(8, 3, 0.05)
        assert users(found) == ["one", "other"]
        assert now(clock) >= before + 50 * MS
        getter = waiting(partial(port.getn, 8, 3))
        port.send(0, "message")
        other.set(after=0.002)
        one.set(after=0.01)
        assert sorted(users(getter.result()), key=str) == ["message", "one", "other"]


@rule("R266")
def test_the_expirations_of_one_timer_are_one_event_to_a_wait_for_two(
    port: Port, clock: int
) -> None:
    with port.timer(clock) as timer:
        start = now(clock) + MS
        timer.set(at_ns=start, every_ns=MS)
        found = port.getn(8, 2, 0.02)
        assert len(found) == 1
        assert found[0].events > 1


@rule("R131", "R143")
def test_a_timeout_before_the_timer_is_a_timeout(port: Port, clock: int) -> None:
    with port.timer(clock) as timer:
        timer.set(after_ns=FAR)
        before = time.monotonic_ns()
        with pytest.raises(PortTimeout):
            port.get(0.02)
        assert time.monotonic_ns() >= before + 20 * MS


@rule("R155")
def test_an_event_at_the_moment_of_the_timeout_is_not_lost(
    port: Port, clock: int, scale: Scale
) -> None:
    with port.timer(clock) as timer:
        for turn in range(scale(200, 2_000, 20_000)):
            timer.set(after_ns=500_000)
            events = port.getn(1, 1, 0.0005 + (turn % 21 - 10) * 0.00001)
            events = events or port.getn(1, 1, SOON)
            assert [event.events for event in events] == [1]


@rule("R144", "R150")
def test_a_wait_of_no_time_sees_what_is_due(port: Port, clock: int) -> None:
    with port.timer(clock) as timer:
        timer.set(after_ns=FAR)
        assert port.getn(1, 1, 0) == []
        assert errno_of(port.get, 0) == ETIME
        timer.set(after_ns=MS)
        sleep_until(clock, now(clock) + MS)
        assert len(port.getn(1, 1, 0)) == 1
        timer.set(after_ns=MS)
        sleep_until(clock, now(clock) + MS)
        assert port.get(0).events == 1


@rule("R146")
def test_what_is_due_is_counted(port: Port, clock: int) -> None:
    with port.timer(clock) as timer:
        assert port.pending() == 0
        timer.set(after_ns=MS)
        sleep_until(clock, now(clock) + MS)
        assert port.pending() == 1


@rule("R178", "R271")
def test_closing_the_port_ends_a_wait_for_a_timer(make_port: MakePort) -> None:
    port = make_port()
    with port.timer() as timer:
        timer.set(after_ns=FAR)
        getter = waiting(port.get)
        port.close()
        with pytest.raises(OSError):
            getter.result()


@rule("R173", "R273")
def test_an_alert_ends_a_wait_for_a_timer(port: Port) -> None:
    with port.timer() as timer:
        timer.set(after_ns=FAR)
        getters = [waiting(port.get) for _ in range(3)]
        port.alert(7)
        assert [getter.result().events for getter in getters] == [7, 7, 7]


@rule("R273")
def test_a_timer_that_expires_under_an_alert_is_there_when_it_is_cleared(
    port: Port, clock: int
) -> None:
    with port.timer(clock, "timer") as timer:
        timer.set(after_ns=2 * MS)
        port.alert(7)
        sleep_until(clock, now(clock) + 3 * MS)
        port.alert(0)
        assert port.get(SOON).user == "timer"


@rule("R265")
def test_timers_and_descriptors_are_served_together(port: Port, clock: int) -> None:
    with socket_pair() as (ours, theirs), port.timer(clock) as timer:
        timer.set(after_ns=MS, every_ns=MS)
        served: dict[int, int] = {PORT_SOURCE_FD: 0, PORT_SOURCE_TIMER: 0}
        port.associate(ours, POLLIN, None)
        theirs.send(b"x")
        while min(served.values()) < 20:
            event = port.get(SOON)
            served[event.source] += 1
            assert event.user is None
            if event.source == PORT_SOURCE_FD:
                ours.recv(1)
                port.associate(ours, POLLIN, None)
                theirs.send(b"x")


@rule("R082", "R265")
def test_a_descriptor_that_is_always_ready_does_not_hold_timers_up(port: Port, clock: int) -> None:
    with socket_pair() as (ours, _), port.timer(clock, "timer") as timer:
        timer.set(after_ns=5 * MS)
        port.associate(ours, POLLOUT)
        deadline = time.monotonic() + SOON
        while port.get(SOON).user != "timer":
            assert time.monotonic() < deadline
            port.associate(ours, POLLOUT)


@rule("R265")
def test_messages_that_keep_coming_do_not_hold_timers_up(port: Port, clock: int) -> None:
    with port.timer(clock, "timer") as timer:
        timer.set(after_ns=5 * MS)
        port.send(0)
        deadline = time.monotonic() + SOON
        while port.get(SOON).user != "timer":
            assert time.monotonic() < deadline
            port.send(0)


@rule("R072", "R265")
def test_the_ports_descriptor_becomes_readable_when_a_timer_expires(port: Port, clock: int) -> None:
    number = port.fileno()
    with port.timer(clock) as timer:
        assert select.select([number], [], [], 0) == ([], [], [])
        before = now(clock)
        timer.set(after_ns=10 * MS)
        assert select.select([number], [], [], SOON) == ([number], [], [])
        assert now(clock) >= before + 10 * MS
        assert len(port.getn(1, 1, SOON)) == 1
        assert select.select([number], [], [], A_WHILE) == ([], [], [])


@rule("R072")
def test_a_timer_that_was_set_before_makes_the_descriptor_readable(port: Port, clock: int) -> None:
    with port.timer(clock) as timer:
        timer.set(after_ns=10 * MS)
        number = port.fileno()
        assert select.select([number], [], [], SOON) == ([number], [], [])
        assert len(port.getn(1, 1, SOON)) == 1


@rule("R072")
def test_a_periodic_timer_makes_the_descriptor_readable_again(port: Port, clock: int) -> None:
    number = port.fileno()
    with port.timer(clock) as timer:
        timer.set(after_ns=MS, every_ns=5 * MS)
        for _ in range(10):
            assert select.select([number], [], [], SOON) == ([number], [], [])
            assert len(port.getn(1, 1, SOON)) == 1


@rule("R072", "R248")
def test_a_timer_that_is_disarmed_does_not_make_the_descriptor_readable(
    port: Port, clock: int
) -> None:
    number = port.fileno()
    with port.timer(clock) as timer:
        timer.set(after_ns=SECOND)
        timer.cancel()
        assert select.select([number], [], [], A_WHILE) == ([], [], [])
        timer.set(after_ns=FAR)
        assert select.select([number], [], [], A_WHILE) == ([], [], [])


@rule("R072", "R269")
def test_deleting_an_expired_timer_makes_the_descriptor_quiet(port: Port, clock: int) -> None:
    number = port.fileno()
    timer = port.timer(clock)
    timer.set(after_ns=MS)
    assert select.select([number], [], [], SOON) == ([number], [], [])
    assert port.pending() == 1
    timer.delete()
    assert port.pending() == 0
    assert select.select([number], [], [], A_WHILE) == ([], [], [])


@rule("R193")
def test_a_timer_of_an_inner_port_fires_the_outer_one(make_port: MakePort, clock: int) -> None:
    inner, outer = make_port(), make_port()
    outer.associate(inner, POLLIN, "inner")
    with inner.timer(clock, "timer") as timer:
        timer.set(after_ns=5 * MS)
        assert outer.get(SOON) == PortEvent(PORT_SOURCE_FD, inner.fileno(), POLLIN, "inner")
        assert inner.get(SOON).user == "timer"


@rule("R085", "R265")
def test_timers_of_several_ports_keep_apart(make_port: MakePort, clock: int) -> None:
    ports = [make_port() for _ in range(3)]
    timers = [port.timer(clock, number) for number, port in enumerate(ports)]
    for timer in timers:
        timer.set(after_ns=MS)
    for number, port in enumerate(ports):
        assert users(port.getn(8, 1, SOON)) == [number]
        assert port.getn(8, 1, 0) == []
    for timer in timers:
        timer.delete()


@rule("R265")
def test_timers_of_several_clocks_live_in_one_port(port: Port) -> None:
    clocks = [time.CLOCK_MONOTONIC, time.CLOCK_REALTIME]
    timers = [port.timer(clock, clock) for clock in clocks]
    for _ in range(5):
        for timer in timers:
            timer.set(after_ns=MS)
        assert sorted(users(port.getn(8, 2, SOON)), key=str) == sorted(clocks, key=str)
    for timer in timers:
        timer.delete()


@rule("R260", "R269")
def test_setting_and_deleting_from_the_thread_that_got_the_event(port: Port, clock: int) -> None:
    timer = port.timer(clock)
    timer.set(after=0)

    def rearm() -> int:
        for _ in range(50):
            assert port.get(SOON).events == 1
            timer.set(after_ns=50_000)
        assert port.get(SOON).events == 1
        timer.delete()
        return port.pending()

    assert in_thread(rearm).result() == 0


@rule("R260")
def test_threads_may_set_one_timer_at_once(port: Port, scale: Scale) -> None:
    with port.timer() as timer:
        for _ in range(scale(30, 300, 3_000)):
            together = Barrier(4)

            def set_it(together: Barrier = together) -> None:
                together.wait(SOON)
                timer.set(after=0)

            for setter in [in_thread(set_it) for _ in range(4)]:
                setter.result()
            taken = port.getn(8, 1, SOON)
            assert [event.events for event in taken] == [4]


@rule("R270")
def test_of_threads_that_delete_one_timer_all_but_one_are_told(port: Port, scale: Scale) -> None:
    for _ in range(scale(30, 300, 3_000)):
        timer = port.timer()
        timer.set(after=0)
        together = Barrier(4)

        def delete(number: int = timer.id, together: Barrier = together) -> int | None:
            together.wait(SOON)
            return errno_of(timer_delete, number)

        told = [deleter.result() for deleter in [in_thread(delete) for _ in range(4)]]
        assert told.count(None) == 1
        assert port.pending() == 0
