"""The event of a request: what is in it, when it comes, and to whom."""

import errno
import os
import select
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from portcompat import PORT_SOURCE_AIO, PORT_SOURCE_ALERT, Port, PortEvent
from portcompat.aio import (
    AIO_CANCELED,
    AIOAREAD,
    AIOAWRITE,
    AIOFSYNC,
    AioControlBlock,
    aio_cancel,
    aio_close,
    aio_error,
    aio_fsync,
    aio_read,
    aio_return,
    aio_write,
)
from portcompat.conformance import rule
from portcompat.conformance._aio import Ends, empty_pipe, finished, reading, taken, to
from portcompat.conformance._descriptors import A_WHILE, SOON
from portcompat.conformance._errors import errno_of
from portcompat.conformance._files import MakePort, until_queued
from portcompat.conformance._fork import in_fork_child
from portcompat.conformance._threads import in_thread, waiting

pytestmark = pytest.mark.usefixtures("kaio")


@rule("R001", "R293")
def test_an_event_names_the_operation_the_block_and_the_user(port: Port, opened: int) -> None:
    user = object()
    read = AioControlBlock(opened, 8, 0, to(port, user))
    aio_read(read)
    event = port.get(SOON)
    assert event == PortEvent(PORT_SOURCE_AIO, read, 11, user)
    assert event.object is read
    assert event.user is user
    write = AioControlBlock(opened, b"x", 0, to(port))
    aio_write(write)
    assert port.get(SOON) == PortEvent(1, write, 12, None)
    sync = AioControlBlock(opened, b"", 0, to(port, 7))
    aio_fsync(os.O_SYNC, sync)
    assert port.get(SOON) == PortEvent(1, sync, 20, 7)


@rule("R025", "R293")
def test_the_events_have_the_numbers_of_illumos_opcodes() -> None:
    assert (AIOAREAD, AIOAWRITE, AIOFSYNC) == (11, 12, 20)


@rule("R293")
def test_one_request_is_one_event(port: Port, opened: int) -> None:
    for number in range(20):
        reading(port, opened, number)
    assert Counter(event.user for event in port.getn(20, 20, SOON)) == Counter(range(20))
    assert port.getn(1, 1, A_WHILE) == []


@rule("R294")
def test_status_and_result_are_there_when_the_event_is(port: Port, opened: int) -> None:
    for _ in range(50):
        reading(port, opened)
        block = port.get(SOON).object
        assert aio_error(block) == 0
        assert aio_return(block) == 8


@rule("R294")
def test_status_and_result_are_there_for_all_of_a_list(port: Port, opened: int) -> None:
    for _ in range(64):
        reading(port, opened)
    for event in port.getn(64, 64, SOON):
        assert aio_error(event.object) == 0
        assert aio_return(event.object) == 8


@rule("R295")
def test_a_request_that_fails_sends_the_same_event(port: Port, tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        block = reading(port, fd, "user")
        assert port.get(SOON) == PortEvent(PORT_SOURCE_AIO, block, AIOAREAD, "user")
        assert aio_error(block) == errno.EISDIR
    finally:
        aio_close(fd)


@rule("R295", "R311")
def test_a_request_that_is_cancelled_sends_the_same_event(port: Port, ends: Ends) -> None:
    block = reading(port, ends[0], "user")
    assert aio_cancel(ends[0], block) == AIO_CANCELED
    assert port.get(SOON) == PortEvent(PORT_SOURCE_AIO, block, AIOAREAD, "user")
    assert port.getn(1, 1, A_WHILE) == []


@rule("R296")
def test_a_request_that_is_done_first_is_told_first(port: Port, opened: int, ends: Ends) -> None:
    slow = reading(port, ends[0])
    fast = reading(port, opened)
    taken(port, fast)
    os.write(ends[1], b"x")
    taken(port, slow)


@rule("R084", "R296")
def test_events_come_in_the_order_in_which_the_requests_were_done(port: Port) -> None:
    with empty_pipe() as a, empty_pipe() as b, empty_pipe() as c, empty_pipe() as d:
        pipes = [a, b, c, d]
        blocks = [reading(port, pipe[0]) for pipe in pipes]
        order = [2, 0, 3, 1]
        for number in order:
            os.write(pipes[number][1], b"x")
            finished(blocks[number])
        events = port.getn(4, 4, SOON)
    assert [event.object for event in events] == [blocks[number] for number in order]


@rule("R079")
def test_a_request_under_way_holds_no_slot(make_port: MakePort, ends: Ends) -> None:
    port = make_port(max_events=1)
    for _ in range(5):
        reading(port, ends[0])
    port.send(1)
    assert errno_of(port.send, 1) == errno.EAGAIN
    assert port.get(SOON).events == 1


@rule("R081", "R297")
def test_with_all_slots_taken_a_request_runs_and_its_event_waits(
    make_port: MakePort, opened: int
) -> None:
    port = make_port(max_events=2)
    port.send(1)
    port.send(2)
    block = AioControlBlock(opened, b"written", 0, to(port))
    aio_write(block)
    assert finished(block) == [0]
    assert os.pread(opened, 7, 0) == b"written"
    assert [event.events for event in port.getn(3, 2, 0)] == [1, 2]
    taken(port, block)
    assert aio_return(block) == 7


@rule("R079", "R297")
def test_an_event_of_a_request_takes_a_slot(make_port: MakePort, opened: int) -> None:
    port = make_port(max_events=2)
    block = reading(port, opened)
    until_queued(port)
    port.send(1)
    assert errno_of(port.send, 2) == errno.EAGAIN
    taken(port, block)
    port.send(2)
    assert [event.events for event in port.getn(2, 2, 0)] == [1, 2]


@rule("R081", "R297")
@pytest.mark.parametrize("at_once", [1, 3, 8])
def test_more_events_than_slots_all_come_and_each_once(
    make_port: MakePort, opened: int, at_once: int
) -> None:
    port = make_port(max_events=8)
    blocks = [reading(port, opened, number) for number in range(100)]
    found: Counter[int] = Counter()
    while found.total() < 100:
        events = port.getn(at_once, 1, SOON)
        assert events
        found.update(event.user for event in events)
    assert found == Counter(range(100))
    assert {aio_error(block) for block in blocks} == {0}
    assert port.getn(1, 1, A_WHILE) == []


@rule("R296", "R297")
def test_events_that_waited_for_a_slot_keep_their_order(make_port: MakePort, ends: Ends) -> None:
    port = make_port(max_events=2)
    blocks = [reading(port, ends[0], size=1) for _ in range(10)]
    os.write(ends[1], bytes(10))
    finished(*blocks)
    events: list[PortEvent] = []
    while len(events) < 10:
        events += port.getn(2, 1, SOON)
    assert [event.object for event in events] == blocks


@rule("R297")
def test_a_full_port_does_not_hold_up_another(make_port: MakePort, opened: int) -> None:
    full, other = make_port(max_events=1), make_port()
    full.send(1)
    late = [reading(full, opened) for _ in range(10)]
    finished(*late)
    taken(other, reading(other, opened))
    assert full.get(0).events == 1
    assert {full.get(SOON).object for _ in late} == set(late)


@rule("R177", "R297")
def test_a_full_port_is_closed_while_events_wait_for_it(make_port: MakePort, opened: int) -> None:
    full, other = make_port(max_events=1), make_port()
    blocks = [reading(full, opened) for _ in range(10)]
    finished(*blocks)
    full.close()
    assert [aio_return(block) for block in blocks] == [8] * 10
    taken(other, reading(other, opened))


@rule("R171", "R293")
def test_in_alert_mode_the_event_waits(port: Port, opened: int) -> None:
    port.alert(1, "alert")
    block = reading(port, opened)
    finished(block)
    assert port.get(SOON).source == PORT_SOURCE_ALERT
    port.alert(0)
    taken(port, block)


@rule("R146", "R293")
def test_an_event_counts_as_pending(port: Port, opened: int) -> None:
    blocks = [reading(port, opened) for _ in range(3)]
    until_queued(port, 3)
    assert {event.object for event in port.getn(3, 3, 0)} == set(blocks)
    assert port.pending() == 0


@rule("R072", "R293")
def test_the_descriptor_of_the_port_tells_of_the_event(port: Port, ends: Ends) -> None:
    block = reading(port, ends[0])
    poll = select.poll()
    poll.register(port.fileno(), select.POLLIN)
    assert poll.poll(1000 * A_WHILE) == []
    os.write(ends[1], b"x")
    if "passive-fileno" not in port.features:
        finished(block)
        until_queued(port)
    assert poll.poll(1000 * SOON) == [(port.fileno(), select.POLLIN)]
    taken(port, block)
    assert poll.poll(0) == []


@rule("R293")
def test_a_thread_that_waits_is_woken(port: Port, opened: int, ends: Ends) -> None:
    waiter = waiting(partial(port.get, SOON))
    block = reading(port, opened)
    assert waiter.result().object is block
    block = reading(port, ends[0])
    waiter = waiting(partial(port.get, SOON))
    os.write(ends[1], b"x")
    assert waiter.result().object is block


@rule("R085", "R293")
def test_each_of_several_threads_gets_events_of_its_own(port: Port, opened: int) -> None:
    waiters = [waiting(partial(port.getn, 5, 5, SOON)) for _ in range(4)]
    for number in range(20):
        reading(port, opened, number)
    found = [event.user for waiter in waiters for event in waiter.result()]
    assert sorted(found) == list(range(20))


@rule("R293")
def test_requests_of_several_threads_come_to_their_ports(make_port: MakePort, opened: int) -> None:
    ports = [make_port() for _ in range(3)]

    def requests(port: Port) -> list[object]:
        for number in range(50):
            reading(port, opened, (port, number))
        return [event.user for event in port.getn(50, 50, SOON)]

    calls = [in_thread(partial(requests, port)) for port in ports]
    for port, call in zip(ports, calls, strict=True):
        assert Counter(call.result()) == Counter((port, number) for number in range(50))


@rule("R298", "R348")
def test_a_fork_child_does_not_get_the_event(port: Port, ends: Ends) -> None:
    block = reading(port, ends[0])

    def child() -> None:
        assert errno_of(port.get, 0) == errno.EBADF

    in_fork_child(child)
    os.write(ends[1], b"x")
    taken(port, block)


@rule("R348")
def test_a_fork_child_makes_requests_of_its_own(port: Port, opened: int, ends: Ends) -> None:
    mine = reading(port, ends[0])
    taken(port, reading(port, opened))

    def child() -> None:
        with Port(port.backend) as own:
            for _ in range(10):
                taken(own, reading(own, opened))
            os.write(ends[1], b"child")
            again = AioControlBlock(opened, b"x", 0, to(own))
            aio_write(again)
            taken(own, again)

    in_fork_child(child)
    taken(port, mine)
    assert bytes(mine.buf) == b"child\0\0\0"
    assert os.pread(opened, 1, 0) == b"x"


@rule("R348")
def test_what_the_parent_has_under_way_is_nobodys_in_a_fork_child(port: Port, ends: Ends) -> None:
    blocks = [reading(port, ends[0]) for _ in range(3)]

    def child() -> None:
        assert errno_of(aio_cancel, ends[0]) is None  # it has none to cancel
        with Port(port.backend) as own:
            os.write(ends[1], b"x")  # for the parent
            assert own.getn(1, 1, A_WHILE) == []

    in_fork_child(child)
    taken(port, blocks[0])
    assert [aio_error(block) for block in blocks] == [0, errno.EINPROGRESS, errno.EINPROGRESS]
