"""timer_create(3C): what it takes, the ids it gives, and what a new timer is and holds."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import portcompat
from portcompat import (
    EBADFD,
    PORT_SOURCE_TIMER,
    SIGEV_NONE,
    SIGEV_PORT,
    SIGEV_SIGNAL,
    SIGEV_THREAD,
    Port,
    PortEvent,
    limits,
    port_close,
    port_create,
    port_get,
)
from portcompat.conformance import rule
from portcompat.conformance._descriptors import A_WHILE, SOON, closed_number, socket_pair
from portcompat.conformance._errors import errno_of
from portcompat.conformance._fork import in_fork_child
from portcompat.conformance._timers import FAR, users
from portcompat.timers import (
    TIMER_ABSTIME,
    SigEvent,
    timer_create,
    timer_delete,
    timer_getoverrun,
    timer_gettime,
    timer_gettime_ns,
    timer_settime,
    timer_settime_ns,
)

MakePort = Callable[..., Port]
Create = Callable[..., int]

UNKNOWN_CLOCKS = [-1, 50, 2**31 - 1, -(2**31), 1_073_743_192, -1_073_743_192]
CPU_CLOCKS = ["CLOCK_PROCESS_CPUTIME_ID", "CLOCK_THREAD_CPUTIME_ID", "CLOCK_PROF", "CLOCK_VIRTUAL"]


@pytest.fixture
def create() -> Iterator[Create]:
    """timer_create. The timers are deleted when the test is over."""
    made: list[int] = []

    def create(clock: int, sigevent: SigEvent | None = None) -> int:
        made.append(timer_create(clock, sigevent))
        return made[-1]

    yield create
    for timer in set(made):
        errno_of(timer_delete, timer)


def to(port: Port | int, user: object = None) -> SigEvent:
    return SigEvent(SIGEV_PORT, port=port, user=user)


@rule("R013")
def test_the_kinds_of_notification_have_the_numbers_of_illumos() -> None:
    names = ["NONE", "SIGNAL", "THREAD", "PORT"]
    assert [getattr(portcompat, f"SIGEV_{name}") for name in names] == [1, 2, 3, 4]
    assert [SIGEV_NONE, SIGEV_SIGNAL, SIGEV_THREAD, SIGEV_PORT] == [1, 2, 3, 4]


@rule("R034")
def test_the_flag_of_an_absolute_time_is_1() -> None:
    assert TIMER_ABSTIME == 1


@rule("R033", "R237")
def test_a_timer_can_run_on(port: Port, create: Create, clock: int) -> None:
    timer = create(clock, to(port, "user"))
    timer_settime(timer, 0, 0.001)
    assert port.get(SOON) == PortEvent(PORT_SOURCE_TIMER, timer, 1, "user")


@rule("R033", "R237")
def test_the_object_form_runs_on(port: Port, clock: int) -> None:
    with port.timer(clock, "user") as timer:
        assert timer.clock == clock
        timer.set(after=0.001)
        assert port.get(SOON) == PortEvent(PORT_SOURCE_TIMER, timer.id, 1, "user")


@rule("R237")
def test_the_clock_of_the_object_form_is_monotonic_unless_said(port: Port) -> None:
    with port.timer() as timer:
        assert timer.clock == time.CLOCK_MONOTONIC


@rule("R059", "R237")
@pytest.mark.parametrize("clock", UNKNOWN_CLOCKS)
def test_an_unknown_clock_is_einval(port: Port, create: Create, clock: int) -> None:
    assert errno_of(create, clock, to(port)) == errno.EINVAL
    assert errno_of(create, clock) == errno.EINVAL
    assert errno_of(create, clock, SigEvent(SIGEV_NONE)) == errno.EINVAL
    assert errno_of(port.timer, clock) == errno.EINVAL


@rule("R237")
@pytest.mark.parametrize("name", CPU_CLOCKS)
def test_a_clock_of_processor_time_is_einval(port: Port, create: Create, name: str) -> None:
    clock = getattr(time, name, None)
    if clock is None:
        pytest.skip(f"this host has no {name}")
    assert errno_of(create, clock, to(port)) == errno.EINVAL
    assert errno_of(port.timer, clock) == errno.EINVAL


@rule("R014", "R059", "R238")
@pytest.mark.parametrize("notify", [0, 5, -1, 2**31 - 1])
def test_an_unknown_notification_is_einval(port: Port, create: Create, notify: int) -> None:
    sigevent = SigEvent(notify, port=port)
    assert errno_of(create, time.CLOCK_MONOTONIC, sigevent) == errno.EINVAL


@rule("R059", "R238")
@pytest.mark.parametrize("signo", [0, -1, 4096, 2**31 - 1])
def test_a_number_that_is_no_signal_is_einval(create: Create, signo: int) -> None:
    sigevent = SigEvent(SIGEV_SIGNAL, signo)
    assert errno_of(create, time.CLOCK_MONOTONIC, sigevent) == errno.EINVAL


@rule("R059", "R238")
def test_a_closed_port_is_ebadf(make_port: MakePort, create: Create) -> None:
    closed = make_port()
    closed.close()
    assert errno_of(create, time.CLOCK_MONOTONIC, to(closed)) == errno.EBADF
    assert errno_of(create, time.CLOCK_MONOTONIC, to(closed_number())) == errno.EBADF
    assert errno_of(create, time.CLOCK_MONOTONIC, to(-1)) == errno.EBADF
    assert errno_of(closed.timer) == errno.EBADF


@rule("R059", "R065", "R238")
def test_a_descriptor_that_is_no_port_is_ebadfd(create: Create) -> None:
    with socket_pair() as (ours, _):
        assert errno_of(create, time.CLOCK_MONOTONIC, to(ours.fileno())) == EBADFD


@rule("R238")
def test_the_clock_is_looked_at_before_the_port(create: Create) -> None:
    assert errno_of(create, -1, to(closed_number())) == errno.EINVAL


@rule("R238")
def test_the_notification_is_looked_at_before_the_number_of_timers(
    create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(time.CLOCK_MONOTONIC, SigEvent(SIGEV_NONE))
    monkeypatch.setattr(limits, "max_timers", 1)
    monotonic = time.CLOCK_MONOTONIC
    assert errno_of(create, monotonic, SigEvent(0)) == errno.EINVAL
    assert errno_of(create, monotonic, SigEvent(SIGEV_SIGNAL, 0)) == errno.EINVAL
    assert errno_of(create, -1, SigEvent(SIGEV_NONE)) == errno.EINVAL
    assert errno_of(create, monotonic, SigEvent(SIGEV_NONE)) == errno.EAGAIN


@rule("R238")
def test_the_number_of_timers_is_looked_at_before_the_port(
    create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(time.CLOCK_MONOTONIC, SigEvent(SIGEV_NONE))
    monkeypatch.setattr(limits, "max_timers", 1)
    assert errno_of(create, time.CLOCK_MONOTONIC, to(closed_number())) == errno.EAGAIN


@rule("R238", "R244")
def test_a_timer_that_was_refused_holds_no_id(make_port: MakePort, create: Create) -> None:
    port = make_port(max_events=1)
    port.send(0)
    first = create(time.CLOCK_MONOTONIC, SigEvent(SIGEV_NONE))
    for _ in range(3):
        assert errno_of(create, time.CLOCK_MONOTONIC, to(port)) == errno.EAGAIN
        assert errno_of(create, time.CLOCK_MONOTONIC, to(closed_number())) == errno.EBADF
        assert errno_of(create, -1, to(port)) == errno.EINVAL
    port.get(0)
    following = [create(time.CLOCK_MONOTONIC, to(port))]
    following.append(create(time.CLOCK_MONOTONIC, SigEvent(SIGEV_NONE)))
    assert min(following) == first + 1 or min(following) < first
    assert timer_gettime(first) == (0, 0)


@rule("R035", "R240")
def test_ids_are_ints_and_all_different(port: Port, create: Create) -> None:
    ids = [create(time.CLOCK_MONOTONIC, to(port)) for _ in range(100)]
    assert all(type(timer) is int and timer >= 0 for timer in ids)
    assert len(set(ids)) == 100


@rule("R240")
def test_a_deleted_id_is_given_to_the_next_timer(port: Port, create: Create) -> None:
    ids = sorted(create(time.CLOCK_MONOTONIC, to(port)) for _ in range(8))
    for freed in (ids[5], ids[0], ids[7]):
        timer_delete(freed)
        assert create(time.CLOCK_REALTIME, to(port)) == freed


@rule("R240")
def test_of_several_free_ids_the_lowest_is_taken(port: Port, create: Create) -> None:
    ids = sorted(create(time.CLOCK_MONOTONIC, to(port)) for _ in range(8))
    for place in (3, 6, 1):
        timer_delete(ids[place])
    taken = [create(time.CLOCK_MONOTONIC, to(port)) for _ in range(3)]
    assert taken == [ids[1], ids[3], ids[6]]


@rule("R240")
def test_both_spellings_and_all_kinds_share_the_ids(port: Port, create: Create) -> None:
    ids = sorted(create(time.CLOCK_MONOTONIC, SigEvent(SIGEV_NONE)) for _ in range(4))
    timer_delete(ids[2])
    with port.timer() as timer:
        assert timer.id == ids[2]
        assert timer_gettime(timer.id) == (0, 0)
        timer_delete(ids[1])
        assert create(time.CLOCK_REALTIME, to(port)) == ids[1]
    assert create(time.CLOCK_MONOTONIC) == ids[2]


@rule("R240", "R241")
def test_the_first_id_of_a_process_is_0(backend: str) -> None:
    def child() -> None:
        with Port(backend) as port:
            ids = [timer_create(time.CLOCK_MONOTONIC, to(port)) for _ in range(3)]
            assert ids == [0, 1, 2]

    in_fork_child(child)


@rule("R241")
def test_0_is_a_timer_like_any_other(backend: str) -> None:
    def child() -> None:
        with Port(backend) as port, port.timer(user="zero") as timer:
            assert timer.id == 0
            assert timer_settime(0, 0, 100, 7) == (0, 0)
            assert timer_settime(0, 0, 0.001)[1] == 7
            assert port.get(SOON) == PortEvent(PORT_SOURCE_TIMER, 0, 1, "zero")
            assert timer_gettime(0) == (0, 0)
            assert timer_getoverrun(0) == 0
            timer_delete(0)
            assert errno_of(timer_delete, 0) == errno.EINVAL

    in_fork_child(child)


@rule("R242", "R262")
def test_a_new_timer_is_disarmed(port: Port, create: Create, clock: int) -> None:
    timer = create(clock, to(port))
    assert timer_gettime(timer) == (0, 0)
    assert timer_gettime_ns(timer) == (0, 0)
    assert port.getn(1, 1, A_WHILE) == []
    with port.timer(clock) as other:
        assert (other.remaining, other.remaining_ns) == (0, 0)
        assert (other.interval, other.interval_ns) == (0, 0)
        assert not other.deleted
        assert port.getn(1, 1, A_WHILE) == []


@rule("R242")
def test_an_id_used_again_has_nothing_of_the_former_timer(port: Port, create: Create) -> None:
    old = create(time.CLOCK_REALTIME, to(port, "old"))
    timer_settime(old, 0, 0.001, 100)
    assert port.pending() <= 1
    timer_delete(old)
    new = create(time.CLOCK_MONOTONIC, to(port, "new"))
    assert new == old
    assert timer_gettime(new) == (0, 0)
    assert port.getn(1, 1, A_WHILE) == []
    timer_settime(new, 0, 0.001)
    assert port.get(SOON) == PortEvent(PORT_SOURCE_TIMER, new, 1, "new")


@rule("R243")
def test_the_timer_is_bound_to_the_port_of_a_number(as_default: str, create: Create) -> None:
    number = port_create()
    try:
        timer = create(time.CLOCK_MONOTONIC, to(number, "user"))
        timer_settime(timer, 0, 0.001)
        assert port_get(number, SOON) == PortEvent(PORT_SOURCE_TIMER, timer, 1, "user")
    finally:
        port_close(number)


@rule("R243", "R271")
def test_the_timer_is_bound_to_the_port_and_not_to_its_number(
    as_default: str, create: Create
) -> None:
    old = port_create()
    timer = create(time.CLOCK_MONOTONIC, to(old, "old"))
    port_close(old)
    new = port_create()
    try:
        timer_settime(timer, 0, 0.001)
        with pytest.raises(TimeoutError):
            port_get(new, A_WHILE)
        with pytest.raises(TimeoutError):
            port_get(new, A_WHILE)
    finally:
        port_close(new)


@rule("R243")
def test_a_dup_of_the_ports_number_is_the_same_port(as_default: str, create: Create) -> None:
    number = port_create()
    double = os.dup(number)
    try:
        timer = create(time.CLOCK_MONOTONIC, to(double, "user"))
        os.close(double)
        timer_settime(timer, 0, 0.001)
        assert port_get(number, SOON).user == "user"
    finally:
        port_close(number)


@rule("R243")
@pytest.mark.parametrize("user", [None, 0, "text", (), 3.5])
def test_the_user_comes_back(port: Port, create: Create, user: object) -> None:
    timer = create(time.CLOCK_MONOTONIC, to(port, user))
    timer_settime(timer, 0, 0.001)
    assert port.get(SOON).user is user


@rule("R243")
def test_the_user_is_the_same_object_every_time(port: Port) -> None:
    user = object()
    with port.timer(user=user) as timer:
        for _ in range(3):
            timer.set(after=0)
            assert port.get(SOON).user is user


@rule("R079", "R244")
def test_a_timer_holds_a_slot_from_the_beginning(make_port: MakePort) -> None:
    port = make_port(max_events=1)
    with port.timer() as timer:
        assert errno_of(port.send, 0) == errno.EAGAIN
        timer.set(after=0)
        assert errno_of(port.send, 0) == errno.EAGAIN
        assert port.get(SOON).events == 1
        assert errno_of(port.send, 0) == errno.EAGAIN
    port.send(0)


@rule("R059", "R080", "R244")
def test_without_a_free_slot_a_timer_is_eagain(make_port: MakePort, create: Create) -> None:
    port = make_port(max_events=2)
    port.send(0, "message")
    with port.timer():
        assert errno_of(port.timer) == errno.EAGAIN
        assert errno_of(create, time.CLOCK_REALTIME, to(port)) == errno.EAGAIN
        assert users(port.getn(4, 1, 0)) == ["message"]
        create(time.CLOCK_REALTIME, to(port))
        assert errno_of(port.timer) == errno.EAGAIN


@rule("R079")
def test_the_other_kinds_hold_no_slot_of_anybody(make_port: MakePort, create: Create) -> None:
    port = make_port(max_events=1)
    create(time.CLOCK_MONOTONIC, SigEvent(SIGEV_NONE))
    create(time.CLOCK_MONOTONIC)
    port.send(0)


@rule("R082", "R244")
def test_no_expiry_is_lost_when_every_slot_is_taken(make_port: MakePort) -> None:
    port = make_port(max_events=40)
    timers = [port.timer(user=number) for number in range(20)]
    while errno_of(port.send, -1, "message") is None:
        pass
    for timer in timers:
        timer.set(after=0.001)
    found: list[object] = []
    while len(found) < 40:
        events = port.getn(64, 1, SOON)
        assert events
        found += users(events)
    assert sorted(user for user in found if isinstance(user, int)) == list(range(20))
    assert found.count("message") == 20
    for timer in timers:
        timer.delete()


@rule("R036", "R059")
def test_a_timer_too_many_is_eagain(
    port: Port, create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "max_timers", 40)
    made: list[int] = []
    with pytest.raises(OSError) as caught:
        while len(made) <= 40:
            made.append(create(time.CLOCK_MONOTONIC, to(port)))
    assert caught.value.errno == errno.EAGAIN
    assert max(made) == 39
    assert errno_of(port.timer) == errno.EAGAIN
    assert errno_of(create, time.CLOCK_MONOTONIC) == errno.EAGAIN
    assert errno_of(create, time.CLOCK_MONOTONIC, SigEvent(SIGEV_NONE)) == errno.EAGAIN
    timer_delete(made[3])
    assert create(time.CLOCK_MONOTONIC, to(port)) == made[3]
    assert errno_of(create, time.CLOCK_MONOTONIC, to(port)) == errno.EAGAIN


@rule("R036")
def test_a_process_may_have_a_million_timers() -> None:
    assert limits.max_timers >= 1_000_000


@rule("R036")
def test_timers_that_are_there_already_outlive_a_lower_limit(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    with port.timer(user="one") as one, port.timer(user="other") as other:
        monkeypatch.setattr(limits, "max_timers", 1)
        one.set(after_ns=FAR)
        other.set(after=0.001)
        assert port.get(SOON).user == "other"
        assert one.remaining > 0


@rule("R036")
@pytest.mark.parametrize("value", [0, -1])
def test_a_limit_of_timers_below_1_is_a_value_error(value: int) -> None:
    with pytest.raises(ValueError):
        limits.max_timers = value


@rule("R036")
@pytest.mark.parametrize("value", [None, "1", 1.5])
def test_a_limit_of_timers_that_is_no_int_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError):
        limits.max_timers = value


@rule("R060", "R270")
@pytest.mark.parametrize("timer", [-1, 2**31 - 1, 123_456_789])
def test_an_id_that_was_never_given_is_einval(timer: int) -> None:
    assert errno_of(timer_settime, timer, 0, 1) == errno.EINVAL
    assert errno_of(timer_settime_ns, timer, 0, 1) == errno.EINVAL
    assert errno_of(timer_gettime, timer) == errno.EINVAL
    assert errno_of(timer_gettime_ns, timer) == errno.EINVAL
    assert errno_of(timer_getoverrun, timer) == errno.EINVAL
    assert errno_of(timer_delete, timer) == errno.EINVAL


@rule("R060")
@pytest.mark.parametrize("timer", [None, "1", b"1", 1.0, [], object()], ids=lambda v: repr(v)[:16])
def test_what_is_no_id_is_a_type_error(timer: Any) -> None:
    calls: list[Callable[[Any], object]] = [
        lambda timer: timer_settime(timer, 0, 1),
        lambda timer: timer_settime_ns(timer, 0, 1),
        timer_gettime,
        timer_gettime_ns,
        timer_getoverrun,
        timer_delete,
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call(timer)


@rule("R059")
@pytest.mark.parametrize(
    "sigevent",
    [
        4,
        (SIGEV_NONE,),
        "SIGEV_NONE",
        SigEvent("4"),  # type: ignore[arg-type]
        SigEvent(SIGEV_SIGNAL, 1.5),  # type: ignore[arg-type]
        SigEvent(SIGEV_PORT),
        SigEvent(SIGEV_PORT, port="port"),  # type: ignore[arg-type]
    ],
    ids=repr,
)
def test_what_is_no_sigevent_is_a_type_error(create: Create, sigevent: Any) -> None:
    first = create(time.CLOCK_MONOTONIC, SigEvent(SIGEV_NONE))
    with pytest.raises(TypeError):
        create(time.CLOCK_MONOTONIC, sigevent)
    timer_delete(first)
    assert create(time.CLOCK_MONOTONIC, SigEvent(SIGEV_NONE)) == first


@rule("R060")
@pytest.mark.parametrize("flags", [None, "1", 1.0], ids=repr)
def test_flags_that_are_no_int_are_a_type_error(create: Create, flags: Any) -> None:
    timer = create(time.CLOCK_MONOTONIC, SigEvent(SIGEV_NONE))
    timer_settime_ns(timer, 0, FAR)
    with pytest.raises(TypeError):
        timer_settime(timer, flags, 1)
    assert timer_gettime_ns(timer)[0] > FAR / 2
