"""Trigger, portcompat's extension of port_associate: what LEVEL and EDGE tell, and how often."""

import errno
import os
import select
from collections.abc import Callable
from contextlib import ExitStack
from itertools import permutations
from pathlib import Path
from time import monotonic, sleep

import pytest

from portcompat import (
    POLLHUP,
    POLLIN,
    POLLOUT,
    PORT_SOURCE_ALERT,
    PORT_SOURCE_FD,
    FileObject,
    Port,
    PortEvent,
    Trigger,
)
from portcompat.conformance import needs, rule
from portcompat.conformance._descriptors import A_WHILE, SOON, pipe, socket_pair
from portcompat.conformance._errors import errno_of
from portcompat.conformance._lives import Life
from portcompat.conformance._polled import polled
from portcompat.conformance._threads import in_thread, waiting

MakePort = Callable[..., Port]
Scale = Callable[[int, int, int], int]

ONESHOT, LEVEL, EDGE = Trigger
LASTING = [pytest.param(LEVEL, id="level"), pytest.param(EDGE, id="edge", marks=needs("edge"))]
lasting = pytest.mark.parametrize("trigger", LASTING)


def nothing(port: Port) -> bool:
    return port.getn(8, 1, A_WHILE) == []


# LEVEL


@needs("level")
@rule("X001")
def test_level_is_told_by_each_retrieval_while_the_condition_holds(port: Port, life: Life) -> None:
    port.associate(life, POLLIN, "user", trigger=LEVEL)
    assert nothing(port)
    life.feed()
    for _ in range(3):
        assert port.get(SOON) == PortEvent(PORT_SOURCE_FD, life.number, POLLIN, "user")
    life.drain()
    assert nothing(port)
    life.feed()
    assert port.get(SOON).user == "user"


@needs("level")
@rule("X001")
def test_level_is_told_once_by_one_retrieval(port: Port, life: Life) -> None:
    life.feed()
    port.associate(life, POLLIN, trigger=LEVEL)
    for _ in range(3):
        assert len(port.getn(8, 1, SOON)) == 1


@needs("level")
@rule("X001", "R151")
def test_a_retrieval_that_wants_more_does_not_take_the_same_twice(port: Port, life: Life) -> None:
    life.feed()
    port.associate(life, POLLIN, trigger=LEVEL)
    began = monotonic()
    assert len(port.getn(8, 2, A_WHILE)) == 1
    assert monotonic() - began >= A_WHILE
    call = waiting(lambda: port.getn(8, 2, SOON))
    port.send(0, "another")
    assert {event.user for event in call.result()} == {None, "another"}


@needs("level")
@rule("X001")
def test_a_wait_ends_when_the_condition_comes_to_hold(port: Port, life: Life) -> None:
    port.associate(life, POLLIN, trigger=LEVEL)
    for _ in range(3):
        call = waiting(port.get)
        life.feed()
        assert call.result().object == life.number
        life.drain()


@needs("level")
@rule("X001", "R097")
def test_level_tells_the_bits_of_the_moment(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN | POLLOUT, trigger=LEVEL)
        assert port.get(SOON).events == POLLOUT
        theirs.send(b"x")
        assert port.get(SOON).events == POLLIN | POLLOUT
        ours.recv(1)
        assert port.get(SOON).events == POLLOUT


@needs("level")
@needs("hangup")
@rule("X001", "R098")
def test_level_tells_of_a_hangup_unasked(port: Port) -> None:
    with pipe() as (reader, writer):
        port.associate(reader, 0, trigger=LEVEL)
        assert nothing(port)
        writer.close()
        for _ in range(3):
            assert port.get(SOON).events == polled(reader.fileno(), 0) & ~POLLIN == POLLHUP


@needs("level")
@rule("X001", "R146")
def test_level_is_pending_while_the_condition_holds(port: Port, life: Life) -> None:
    port.associate(life, POLLIN, trigger=LEVEL)
    assert port.pending() == 0
    life.feed()
    for _ in range(2):
        assert port.pending() == 1
        port.get(SOON)
    life.drain()
    assert port.pending() == 0


@needs("level")
@rule("X001")
def test_an_event_whose_condition_has_gone_is_not_told(port: Port, life: Life) -> None:
    port.associate(life, POLLIN, trigger=LEVEL)
    life.feed()
    assert port.pending() == 1
    life.drain()
    assert nothing(port)


@needs("level")
@rule("X001", "R072")
def test_the_descriptor_of_a_port_is_readable_while_level_holds(port: Port, life: Life) -> None:
    port.associate(life, POLLIN, trigger=LEVEL)
    number = port.fileno()
    life.feed()
    for _ in range(3):
        assert select.select([number], [], [], SOON)[0] == [number]
        port.get(SOON)
    life.drain()
    assert port.getn(8, 1, 0) == []  # what was queued before the condition had gone
    assert select.select([number], [], [], A_WHILE)[0] == []


@needs("level")
@rule("X001", "X006")
@pytest.mark.parametrize("most", [1, 2, 3])
def test_all_that_are_ready_have_their_turn(port: Port, most: int) -> None:
    with ExitStack() as stack:
        ready = []
        for _ in range(6):
            ours, theirs = stack.enter_context(socket_pair())
            theirs.send(b"x")
            port.associate(ours, POLLIN, trigger=LEVEL)
            ready.append(ours.fileno())
        for _ in range(3):
            told = [event.object for _ in range(6 // most) for event in port.getn(most, 1, SOON)]
            assert sorted(told) == sorted(ready)


@needs("level")
@rule("X006")
def test_what_is_always_ready_does_not_keep_messages_waiting(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.associate(ours, POLLOUT, trigger=LEVEL)
        for number in range(5):
            port.send(0, number)
            assert number in [port.get(SOON).user for _ in range(2)]


@needs("level")
@rule("X007")
def test_each_thread_that_asks_is_told_of_level(port: Port, life: Life) -> None:
    port.associate(life, POLLIN, trigger=LEVEL)
    calls = [waiting(port.get) for _ in range(3)]
    life.feed()
    assert [call.result().object for call in calls] == [life.number] * 3


@needs("level")
@rule("X001", "R172")
def test_an_alert_comes_first_and_level_is_told_after_it(port: Port, life: Life) -> None:
    port.associate(life, POLLIN, trigger=LEVEL)
    life.feed()
    port.alert(1)
    assert port.get(SOON).source == PORT_SOURCE_ALERT
    port.alert(0)
    assert port.get(SOON).object == life.number


# EDGE


@needs("edge")
@rule("X002")
def test_edge_is_told_each_time_that_something_arrives(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN, "user", trigger=EDGE)
        assert nothing(port)
        for _ in range(3):
            theirs.send(b"x")
            assert port.get(SOON) == PortEvent(PORT_SOURCE_FD, ours.fileno(), POLLIN, "user")
            assert nothing(port)
        ours.recv(8)
        assert nothing(port)
        theirs.send(b"x")
        assert port.get(SOON).user == "user"


@needs("edge")
@rule("X002")
def test_what_holds_when_edge_is_associated_is_the_first_time(port: Port, life: Life) -> None:
    life.feed()
    port.associate(life, POLLIN, trigger=EDGE)
    assert port.get(SOON).object == life.number
    assert nothing(port)
    port.associate(life, POLLIN, trigger=EDGE)
    assert port.get(SOON).object == life.number


@needs("edge")
@rule("X002")
def test_what_arrives_before_a_retrieval_is_one_event(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN, trigger=EDGE)
        for _ in range(3):
            theirs.send(b"x")
            assert port.pending() == 1
        assert len(port.getn(8, 1, SOON)) == 1
        assert nothing(port)


@needs("edge")
@rule("X002")
def test_one_thread_is_told_of_an_edge(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN, trigger=EDGE)
        calls = [waiting(lambda: port.getn(1, 1, SOON)) for _ in range(3)]
        for left in (2, 1, 0):
            theirs.send(b"x")
            deadline = monotonic() + SOON
            while sum(not call.over for call in calls) > left:
                assert monotonic() < deadline
            for call in calls:
                if not call.over:
                    call.at_rest()
        assert [call.result()[0].object for call in calls] == [ours.fileno()] * 3


@rule("X009")
def test_edge_is_refused_where_it_is_not_to_be_had(port: Port, life: Life) -> None:
    if "edge" in port.features:
        pytest.skip("this backend has the feature edge")
    port.associate(life, POLLIN, "former")
    assert errno_of(port.associate, life, POLLIN, "latter", trigger=EDGE) == errno.ENOTSUP
    life.feed()
    assert port.get(SOON).user == "former"


# Changing, slots, the end


@needs("level")
@rule("X003")
@pytest.mark.parametrize(
    ("former", "latter"),
    [
        pytest.param(
            a, b, id=f"{a.name}-{b.name}".lower(), marks=needs("edge") if EDGE in (a, b) else ()
        )
        for a, b in permutations(Trigger, 2)
    ],
)
def test_associating_again_replaces_the_trigger(
    port: Port, life: Life, former: Trigger, latter: Trigger
) -> None:
    port.associate(life, POLLOUT if former is ONESHOT else POLLIN, "former", trigger=former)
    life.feed()
    assert port.pending() <= 1
    port.associate(life, POLLIN, "latter", trigger=latter)
    told = [event.user for _ in range(3) for event in port.getn(8, 1, A_WHILE)]
    assert told == ["latter"] * (3 if latter is LEVEL else 1)


@needs("level")
@rule("X003")
def test_a_retrieved_event_of_oneshot_can_be_followed_by_level(port: Port, life: Life) -> None:
    life.feed()
    for _ in range(2):
        port.associate(life, POLLIN)
        port.get(SOON)
        assert nothing(port)
        port.associate(life, POLLIN, trigger=LEVEL)
        for _ in range(2):
            port.get(SOON)


@lasting
@rule("X003", "R103")
def test_associating_again_replaces_events_and_user(port: Port, trigger: Trigger) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN, "in", trigger=trigger)
        assert nothing(port)
        port.associate(ours, POLLOUT, "out", trigger=trigger)
        assert port.get(SOON) == PortEvent(PORT_SOURCE_FD, ours.fileno(), POLLOUT, "out")
        port.associate(ours, POLLIN, "in again", trigger=trigger)
        assert nothing(port)
        theirs.send(b"x")
        assert port.get(SOON) == PortEvent(PORT_SOURCE_FD, ours.fileno(), POLLIN, "in again")


@lasting
@rule("X004")
def test_an_association_that_lasts_keeps_its_slot(
    make_port: MakePort, life: Life, trigger: Trigger
) -> None:
    port = make_port(max_events=2)
    life.feed()
    port.associate(life, POLLIN, trigger=trigger)
    for _ in range(5):
        port.send(0)
        assert errno_of(port.send, 0) == errno.EAGAIN
        port.associate(life, POLLIN, trigger=trigger)
        assert len(port.getn(8, 2, SOON)) == 2
    port.dissociate(life)
    port.send(0)
    port.send(0)
    assert len(port.getn(8, 2, SOON)) == 2


@lasting
@rule("X005", "R118")
def test_dissociating_ends_it_and_withdraws_its_event(
    port: Port, life: Life, trigger: Trigger
) -> None:
    life.feed()
    port.associate(life, POLLIN, trigger=trigger)
    port.get(SOON)
    port.dissociate(life)
    assert nothing(port)
    port.associate(life, POLLIN, trigger=trigger)
    assert port.pending() == 1
    port.dissociate(life)
    assert port.pending() == 0
    life.feed()
    assert nothing(port)
    assert errno_of(port.dissociate, life) == errno.ENOENT


@lasting
@rule("X005", "R112", "R114")
@pytest.mark.parametrize("retrieved", [False, True], ids=["queued", "retrieved"])
def test_closing_the_descriptor_ends_it(
    port: Port, life: Life, keep_dup: bool, trigger: Trigger, retrieved: bool
) -> None:
    port.associate(life, POLLIN, trigger=trigger)
    life.feed()
    if retrieved:
        port.get(SOON)
    life.close(keep_dup=keep_dup)
    assert nothing(port)
    life.feed()
    assert nothing(port)
    assert port.pending() == 0


@lasting
@rule("X005", "R115")
def test_the_next_file_of_the_number_starts_without_an_association(
    port: Port, life: Life, keep_dup: bool, trigger: Trigger
) -> None:
    port.associate(life, POLLIN, "former", trigger=trigger)
    life.feed()
    port.get(SOON)
    life.close(keep_dup=keep_dup)
    with Life() as next_life:
        next_life.feed()
        life.feed()
        if next_life.number == life.number:
            assert nothing(port)
            assert errno_of(port.dissociate, next_life) == errno.ENOENT
        port.associate(next_life, POLLIN, "latter", trigger=trigger)
        assert port.get(SOON) == PortEvent(PORT_SOURCE_FD, next_life.number, POLLIN, "latter")


@lasting
@rule("X001", "X002", "R177")
def test_closing_the_port_ends_a_wait_for_what_lasts(
    make_port: MakePort, life: Life, trigger: Trigger
) -> None:
    port = make_port()
    port.associate(life, POLLIN, trigger=trigger)
    call = waiting(port.get)
    port.close()
    assert errno_of(call.result) == errno.EBADF


# Files, ports, arguments


@lasting
@rule("X008", "R109")
def test_a_regular_file_is_always_ready(port: Port, tmp_path: Path, trigger: Trigger) -> None:
    with open(tmp_path / "file", "w+b") as file:
        port.associate(file, POLLIN, "file", trigger=trigger)
        told = [event.user for _ in range(3) for event in port.getn(8, 1, 0)]
        assert told == ["file"] * (3 if trigger is LEVEL else 1)
        port.dissociate(file)
        assert port.pending() == 0


@needs("level")
@rule("X008", "R109")
def test_a_file_that_is_always_ready_starves_nobody(port: Port, tmp_path: Path, life: Life) -> None:
    with open(tmp_path / "file", "w+b") as file:
        port.associate(file, POLLIN, "file", trigger=LEVEL)
        port.associate(life, POLLIN, "life", trigger=LEVEL)
        life.feed()
        for _ in range(4):
            assert {port.get(SOON).user, port.get(SOON).user} == {"file", "life"}
        life.drain()
        assert [port.get(SOON).user for _ in range(2)] == ["file", "file"]


@needs("level")
@rule("X001", "R193")
def test_an_inner_port_is_told_of_while_it_has_an_event(port: Port, make_port: MakePort) -> None:
    inner = make_port()
    port.associate(inner, POLLIN, "inner", trigger=LEVEL)
    assert nothing(port)
    call = waiting(port.get)
    inner.send(0)
    assert call.result().user == "inner"
    assert port.get(SOON).user == "inner"
    inner.get(SOON)
    assert nothing(port)


@rule("X010")
@pytest.mark.parametrize("wrong", ["LEVEL", None, 1.0, object()])
def test_a_trigger_of_another_type_is_a_type_error(port: Port, life: Life, wrong: object) -> None:
    port.associate(life, POLLIN, "former")
    with pytest.raises(TypeError, match="trigger"):
        port.associate(life, POLLIN, "latter", trigger=wrong)  # type: ignore[arg-type]
    life.feed()
    assert port.get(SOON).user == "former"


@rule("X010")
@pytest.mark.parametrize("wrong", [-1, 3, 1 << 70])
def test_a_trigger_that_there_is_not_is_a_value_error(port: Port, life: Life, wrong: int) -> None:
    port.associate(life, POLLIN, "former")
    with pytest.raises((ValueError, OverflowError), match="trigger"):
        port.associate(life, POLLIN, "latter", trigger=wrong)  # type: ignore[arg-type]
    life.feed()
    assert port.get(SOON).user == "former"


@rule("X010")
def test_a_file_object_takes_no_trigger(port: Port, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="trigger"):
        port.associate(FileObject.stat(tmp_path), 2, trigger=LEVEL)


# Threads


@needs("level")
@rule("X001", "X007")
def test_what_is_level_is_found_again_and_again_while_another_thread_waits_for_more(
    port: Port, scale: Scale
) -> None:
    waiter = waiting(lambda: port.getn(9, 9))
    with pipe() as (reader, writer):
        writer.write(b"x")
        port.associate(reader, POLLIN, "level", trigger=LEVEL)
        for _ in range(scale(200, 2_000, 20_000)):
            assert [event.user for event in port.getn(1, 1, 0)] == ["level"]
            assert port.pending() == 1
    port.alert(1)
    waiter.result()


@needs("level")
@rule("X001", "X007")
def test_threads_share_what_is_level_and_lose_nothing(port: Port, scale: Scale) -> None:
    """Whoever takes a byte out of a pipe counts it; in the end all have been counted."""
    rounds = scale(300, 3_000, 30_000)
    with ExitStack() as stack:
        ends = [stack.enter_context(pipe()) for _ in range(4)]
        for reader, _ in ends:
            os.set_blocking(reader.fileno(), False)
            port.associate(reader, POLLIN, reader, trigger=LEVEL)

        taken: list[bytes] = []

        def take() -> None:
            while (event := port.get(SOON)).source == PORT_SOURCE_FD:
                taken.append(event.user.read(1) or b"")

        def give() -> None:
            for number in range(rounds):
                ends[number % 4][1].write(b"x")

        takers = [in_thread(take) for _ in range(3)]
        givers = [in_thread(give) for _ in range(2)]
        for giver in givers:
            giver.result()
        deadline = monotonic() + SOON
        while taken.count(b"x") < 2 * rounds:
            assert monotonic() < deadline
            sleep(0.001)
        port.alert(1)
        for taker in takers:
            taker.result()
        assert taken.count(b"x") == 2 * rounds
