"""The event of a timer: one at a time, with the count of expirations, in its place in the queue."""

import errno
import time
from collections.abc import Callable

import pytest

from portcompat import PORT_SOURCE_ALERT, PORT_SOURCE_TIMER, SIGEV_PORT, Port, PortEvent
from portcompat.conformance import rule
from portcompat.conformance._descriptors import A_WHILE, SOON
from portcompat.conformance._errors import errno_of
from portcompat.conformance._timers import (
    FAR,
    INT_MAX,
    MS,
    PERIOD,
    SECOND,
    US,
    Counted,
    boundaries,
    now,
    sleep_until,
    start_of,
    users,
)
from portcompat.timers import (
    TIMER_ABSTIME,
    SigEvent,
    timer_create,
    timer_delete,
    timer_getoverrun,
    timer_settime,
    timer_settime_ns,
)

MakePort = Callable[..., Port]
Scale = Callable[[int, int, int], int]


@rule("R265")
def test_the_first_expiry_is_one_event_with_a_count_of_1(port: Port, clock: int) -> None:
    with port.timer(clock, "user") as timer:
        timer.set(after=0.001)
        assert port.getn(8, 1, SOON) == [PortEvent(PORT_SOURCE_TIMER, timer.id, 1, "user")]


@rule("R265", "R266")
def test_expirations_while_the_event_is_queued_raise_its_count(port: Port, clock: int) -> None:
    with port.timer(clock) as timer:
        start = now(clock) + 2 * MS
        timer.set(at_ns=start, every_ns=2 * MS)
        sleep_until(clock, start + 5 * MS)
        assert port.pending() == 1
        sleep_until(clock, start + 15 * MS)
        assert port.pending() == 1
        assert Counted(clock, start, 2 * MS).take(port) >= 8


@rule("R265", "R266")
def test_the_count_is_that_of_the_retrieval_though_nobody_looked_before(
    port: Port, clock: int
) -> None:
    with port.timer(clock) as timer:
        start = now(clock) + 2 * MS
        timer.set(at_ns=start, every_ns=1 * MS)
        sleep_until(clock, start + 20 * MS)
        assert Counted(clock, start, 1 * MS).take(port) >= 21


@rule("R266")
def test_a_timer_has_one_event_in_the_queue_at_most(port: Port, clock: int) -> None:
    with port.timer(clock) as timer:
        timer.set(after_ns=MS, every_ns=MS)
        for _ in range(10):
            sleep_until(clock, now(clock) + 2 * MS)
            assert port.pending() == 1
        assert len(port.getn(8, 1, SOON)) == 1


@rule("R266")
def test_the_count_stops_at_the_largest_int(port: Port, clock: int) -> None:
    if now(clock) <= INT_MAX:
        pytest.skip("this clock has not run for so many nanoseconds yet")
    with port.timer(clock) as timer:
        timer.set(at_ns=1, every_ns=1)
        assert port.get(SOON).events == INT_MAX


@rule("R253", "R254", "R255")
def test_a_start_that_is_past_counts_every_boundary_since(port: Port, clock: int) -> None:
    with port.timer(clock) as timer:
        start = now(clock) - 1000 * MS
        timer.set(at_ns=start, every_ns=10 * MS)
        counted = Counted(clock, start, 10 * MS)
        assert counted.take(port) >= 101
        counted.take(port)


@rule("R255", "R265")
def test_a_lag_of_more_than_a_second_is_counted_too(port: Port, clock: int) -> None:
    with port.timer(clock) as timer:
        start = now(clock) - 7 * SECOND
        timer.set(at_ns=start, every_ns=SECOND // 2)
        assert Counted(clock, start, SECOND // 2).take(port) >= 15


@rule("R253", "R254", "R255", "R265", "R267")
def test_the_counts_add_up_to_the_periods_that_have_passed(
    port: Port, clock: int, scale: Scale
) -> None:
    with port.timer(clock) as timer:
        start, every = now(clock) + MS, 500 * US
        timer.set(at_ns=start, every_ns=every)
        counted = Counted(clock, start, every)
        for turn in range(scale(60, 600, 6_000)):
            if turn % 3:  # a consumer that is slow now and then
                sleep_until(clock, now(clock) + turn % 7 * MS)
            counted.take(port)
        assert counted.taken >= 60


@rule("R253")
def test_the_phase_is_kept_however_late_the_events_are_taken(port: Port, clock: int) -> None:
    with port.timer(clock) as timer:
        start, every = now(clock) + 5 * MS, 20 * MS
        timer.set(at_ns=start, every_ns=every)
        for _ in range(5):
            port.get(SOON)
            sleep_until(clock, now(clock) + 7 * MS)  # "handling"
            asked = now(clock)
            left = timer.remaining_ns
            told = now(clock)
            nexts = {start + boundaries(start, every, at) * every for at in (asked, told)}
            assert any(following - told <= left <= following - asked for following in nexts)


@rule("R267")
def test_retrieval_starts_the_count_anew(port: Port, clock: int) -> None:
    with port.timer(clock) as timer:
        timer.set(at_ns=start_of(4, clock), every_ns=PERIOD)
        assert port.get(SOON).events == 4
        assert port.getn(1, 1, A_WHILE) == []
        timer.set(after=0)
        assert port.get(SOON).events == 1


@rule("R084", "R267")
def test_the_next_expiry_is_queued_at_the_tail(port: Port) -> None:
    with port.timer(user="timer") as timer:
        timer.set(after=0)
        port.send(0, "first")
        assert users(port.getn(1, 1, SOON)) == ["timer"]
        timer.set(after=0)
        port.send(0, "second")
        assert users(port.getn(8, 3, SOON)) == ["first", "timer", "second"]


@rule("R084")
def test_a_timer_that_is_due_when_it_is_set_has_its_place_in_the_queue(
    port: Port, clock: int
) -> None:
    with port.timer(clock, "timer") as timer:
        port.send(0, "before")
        timer.set(at_ns=1)
        port.send(0, "after")
        assert users(port.getn(8, 3, SOON)) == ["before", "timer", "after"]


@rule("R084")
def test_a_timer_that_expires_before_a_message_has_its_place_before_it(port: Port) -> None:
    with port.timer(time.CLOCK_MONOTONIC, "timer") as timer:
        due = now(time.CLOCK_MONOTONIC) + 2 * MS
        timer.set(at_ns=due)
        sleep_until(time.CLOCK_MONOTONIC, due + MS)
        port.send(0, "message")
        assert users(port.getn(8, 2, SOON)) == ["timer", "message"]


@rule("R084")
def test_what_has_been_counted_stays_before_a_later_message(port: Port, clock: int) -> None:
    with port.timer(clock, "timer") as timer:
        timer.set(after_ns=MS)
        sleep_until(clock, now(clock) + 2 * MS)
        assert port.pending() == 1
        port.send(0, "message")
        assert users(port.getn(8, 2, SOON)) == ["timer", "message"]


@rule("R084")
def test_timers_of_a_clock_come_in_the_order_of_their_times(port: Port, clock: int) -> None:
    timers = {number: port.timer(clock, number) for number in (3, 0, 4, 1, 2)}
    due = now(clock) + 5 * MS
    for number, timer in timers.items():
        timer.set(at_ns=due + number * 100 * US)
    sleep_until(clock, due + 2 * MS)  # all are due when somebody looks
    assert users(port.getn(8, 5, SOON)) == [0, 1, 2, 3, 4]
    for timer in timers.values():
        timer.delete()


@rule("R085", "R266")
def test_each_of_many_timers_has_its_own_event(port: Port, clock: int) -> None:
    timers = [port.timer(clock, number) for number in range(200)]
    due = now(clock) + 5 * MS
    for timer in timers:
        timer.set(at_ns=due)
    found: list[PortEvent] = []
    while len(found) < 200:
        events = port.getn(64, 1, SOON)
        assert events
        found += events
    assert sorted((event.object, event.user) for event in found) == sorted(
        (timer.id, number) for number, timer in enumerate(timers)
    )
    assert {event.events for event in found} == {1}
    assert port.getn(1, 1, 0) == []
    for timer in timers:
        timer.delete()


@rule("R260")
def test_setting_anew_keeps_the_queued_event_and_its_count(port: Port, clock: int) -> None:
    with port.timer(clock, "timer") as timer:
        timer.set(at_ns=start_of(5, clock), every_ns=PERIOD)
        assert port.pending() == 1
        timer.set(after_ns=FAR)
        assert port.pending() == 1
        assert port.get(SOON) == PortEvent(PORT_SOURCE_TIMER, timer.id, 5, "timer")
        assert port.getn(1, 1, A_WHILE) == []
        assert timer.remaining > 0


@rule("R260", "R266")
def test_later_expirations_add_to_the_queued_count(port: Port, clock: int) -> None:
    with port.timer(clock) as timer:
        timer.set(at_ns=start_of(5, clock), every_ns=PERIOD)
        assert port.pending() == 1
        timer.set(after=0)
        assert port.pending() == 1
        timer.set(at_ns=start_of(1, clock), every_ns=PERIOD)
        assert port.pending() == 1
        assert port.get(SOON).events == 7
        assert port.getn(1, 1, A_WHILE) == []


@rule("R260")
@pytest.mark.parametrize("spelling", ["cancel", "settime 0", "settime absolute 0"])
def test_disarming_keeps_the_queued_event_and_its_count(
    port: Port, clock: int, spelling: str
) -> None:
    with port.timer(clock) as timer:
        timer.set(at_ns=start_of(5, clock), every_ns=PERIOD)
        assert port.pending() == 1
        if spelling == "cancel":
            timer.cancel()
        else:
            timer_settime(timer.id, TIMER_ABSTIME if "absolute" in spelling else 0, 0)
        assert port.pending() == 1
        assert port.get(SOON).events == 5
        assert port.getn(1, 1, A_WHILE) == []


@rule("R260")
def test_what_has_expired_counts_though_nobody_looked_before_the_timer_was_set_anew(
    port: Port, clock: int
) -> None:
    with port.timer(clock) as timer:
        for disarm in (timer.cancel, lambda: timer.set(after_ns=FAR)):
            timer.set(after_ns=MS)
            sleep_until(clock, now(clock) + 2 * MS)
            disarm()
            assert port.getn(8, 1, SOON) == [PortEvent(PORT_SOURCE_TIMER, timer.id, 1, None)]


@rule("R260", "R267")
def test_setting_anew_keeps_the_place_in_the_queue(port: Port, clock: int) -> None:
    with port.timer(clock, "timer") as timer:
        timer.set(after=0)
        port.send(0, "message")
        timer.set(after=0)
        assert users(port.getn(8, 2, SOON)) == ["timer", "message"]


@rule("R268")
def test_the_overrun_of_a_timer_with_a_port_is_0(port: Port, clock: int) -> None:
    timer = timer_create(clock, SigEvent(SIGEV_PORT, port=port))
    try:
        assert timer_getoverrun(timer) == 0
        timer_settime_ns(timer, TIMER_ABSTIME, now(clock) - 100 * MS, MS)
        assert port.pending() == 1
        assert timer_getoverrun(timer) == 0
        assert port.get(SOON).events >= 100
        assert timer_getoverrun(timer) == 0
    finally:
        timer_delete(timer)


@rule("R269")
@pytest.mark.parametrize("armed", [False, True], ids=["expired", "armed"])
def test_deleting_removes_the_queued_event(port: Port, clock: int, armed: bool) -> None:
    timer = port.timer(clock, "timer")
    port.send(0, "before")
    timer.set(at_ns=1, every_ns=FAR if armed else 0)
    port.send(0, "after")
    assert port.pending() == 3
    timer.delete()
    assert port.pending() == 2
    assert users(port.getn(8, 2, SOON)) == ["before", "after"]
    assert port.getn(1, 1, A_WHILE) == []


@rule("R269")
def test_deleting_removes_an_event_that_nobody_has_looked_at(port: Port, clock: int) -> None:
    timer = port.timer(clock)
    timer.set(after_ns=MS, every_ns=MS)
    sleep_until(clock, now(clock) + 3 * MS)
    timer.delete()
    assert port.getn(1, 1, A_WHILE) == []


@rule("R079", "R269")
def test_deleting_with_an_event_queued_frees_the_slot_once(make_port: MakePort) -> None:
    port = make_port(max_events=1)
    for _ in range(3):
        timer = port.timer()
        timer.set(after=0)
        assert port.pending() == 1
        timer.delete()
        assert port.pending() == 0
    port.send(0)
    assert errno_of(port.send, 0) == errno.EAGAIN


@rule("R269")
def test_a_deleted_timer_does_not_expire(port: Port, clock: int) -> None:
    timer = port.timer(clock)
    timer.set(after_ns=20 * MS, every_ns=MS)
    timer.delete()
    assert port.getn(1, 1, 0.04) == []


@rule("R269")
def test_deleting_one_timer_leaves_the_others(port: Port, clock: int) -> None:
    timers = [port.timer(clock, number) for number in range(5)]
    due = now(clock) + 5 * MS
    for timer in timers:
        timer.set(at_ns=due)
    for number in (0, 3):
        timers[number].delete()
    sleep_until(clock, due)
    timers[1].delete()
    assert users(port.getn(8, 2, SOON)) == [2, 4]
    for number in (2, 4):
        timers[number].delete()


@rule("R172", "R273")
def test_in_alert_mode_expirations_are_counted_and_come_after_clearing(
    port: Port, clock: int
) -> None:
    with port.timer(clock, "timer") as timer:
        start = now(clock) + 2 * MS
        timer.set(at_ns=start, every_ns=MS)
        port.alert(7, "alert")
        sleep_until(clock, start + 10 * MS)
        assert port.get(SOON).source == PORT_SOURCE_ALERT
        assert port.pending() == 1
        assert port.getn(8, 2, 0)[0].source == PORT_SOURCE_ALERT
        port.alert(0)
        assert Counted(clock, start, MS).take(port) >= 11


@rule("R273")
def test_a_timer_may_be_set_and_deleted_in_alert_mode(port: Port) -> None:
    kept, gone = port.timer(user="kept"), port.timer(user="gone")
    port.alert(7)
    for timer in (gone, kept):
        timer.set(after=0)
    gone.delete()
    port.alert(0)
    assert users(port.getn(8, 1, SOON)) == ["kept"]
    kept.delete()


@rule("R146", "R265")
def test_counting_the_queued_events_takes_nothing_of_the_count(port: Port, clock: int) -> None:
    with port.timer(clock) as timer:
        start = now(clock) - 10 * MS
        timer.set(at_ns=start, every_ns=MS)
        for _ in range(5):
            assert port.pending() == 1
        assert port.getn(0) == []
        assert port.getn(4, 0) == []
        assert Counted(clock, start, MS).take(port) >= 11
