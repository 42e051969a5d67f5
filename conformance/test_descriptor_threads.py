"""Many threads on one port's descriptors: nothing lost, nothing twice, nobody asleep for ever."""

import random
import socket
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier, Event, Lock

import pytest

from portcompat import POLLIN, POLLOUT, Port, PortEvent
from portcompat.conformance import rule
from portcompat.conformance._descriptors import A_WHILE, SOON, socket_pair
from portcompat.conformance._threads import waiting

MakePort = Callable[..., Port]

Scale = Callable[[int, int, int], int]


@rule("R085", "R095")
def test_a_thread_that_waits_is_woken_by_an_association_that_is_ready(
    port: Port, scale: Scale
) -> None:
    with socket_pair() as (ours, _), ThreadPoolExecutor(1) as pool:
        for turn in range(scale(200, 1_000, 10_000)):
            waited = pool.submit(port.get, SOON)
            port.associate(ours, POLLOUT, turn)
            assert waited.result(SOON).user == turn


@rule("R095", "R146")
def test_what_is_ready_is_counted_while_another_thread_waits_for_more(port: Port) -> None:
    with socket_pair() as (ours, _):
        waiter = waiting(lambda: port.getn(4, 3, SOON))
        for turn in range(50):
            port.associate(ours, POLLOUT, turn)
            assert port.pending() == 1
            port.dissociate(ours)
            assert port.pending() == 0
        for _ in range(3):
            port.send(0)
        assert len(waiter.result()) == 3


@rule("R095", "R140")
def test_what_is_ready_is_taken_at_once_past_a_thread_that_waits_for_more(port: Port) -> None:
    with socket_pair() as (ours, _):
        waiter = waiting(lambda: port.getn(4, 3, SOON))
        for turn in range(50):
            port.associate(ours, POLLOUT, turn)
            assert [event.user for event in port.getn(2, 1, 0)] == [turn]
        for _ in range(3):
            port.send(0)
        assert len(waiter.result()) == 3


@rule("R095", "R101")
def test_what_is_ready_at_an_alert_stays_though_another_thread_waited(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        for _ in range(10):
            theirs.send(b"x")
            waiter = waiting(lambda: port.getn(4, 3, SOON))
            port.associate(ours, POLLIN, "ready")
            port.alert(7)
            ours.recv(1)
            assert [event.events for event in waiter.result()] == [7]
            port.alert(0)
            assert [event.user for event in port.getn(2, 1, SOON)] == ["ready"]


@rule("R102", "R105")
def test_an_event_that_a_waiting_thread_found_too_few_is_replaced(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.associate(ours, POLLOUT, "too few")
        waiter = waiting(lambda: port.getn(4, 2, SOON))
        port.associate(ours, POLLIN, "not ready")
        port.send(1)
        port.send(2)
        assert [event.events for event in waiter.result()] == [1, 2]


@rule("R102", "R088")
def test_an_event_that_a_waiting_thread_found_too_few_moves_to_the_tail(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.associate(ours, POLLOUT, "too few")
        waiter = waiting(lambda: port.getn(4, 3, SOON))
        port.send(0, "sent")
        port.associate(ours, POLLOUT, "again")
        port.send(0, "last")
        assert [event.user for event in waiter.result()] == ["sent", "again", "last"]


@rule("R120")
def test_an_event_that_a_waiting_thread_found_too_few_is_dissociated(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.associate(ours, POLLOUT)
        waiter = waiting(lambda: port.getn(4, 2, SOON))
        assert port.pending() == 1
        port.dissociate(ours)
        assert port.pending() == 0
        port.send(1)
        port.send(2)
        assert [event.events for event in waiter.result()] == [1, 2]


@rule("R112", "R115")
def test_an_event_that_a_waiting_thread_found_too_few_goes_with_its_descriptor(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.associate(ours, POLLOUT)
        waiter = waiting(lambda: port.getn(4, 2, SOON))
        ours.close()
        assert port.pending() == 0
        port.send(1)
        port.send(2)
        assert [event.events for event in waiter.result()] == [1, 2]


@rule("R096", "R103")
def test_a_thread_that_waits_is_told_of_an_interest_that_grew(port: Port, scale: Scale) -> None:
    with ThreadPoolExecutor(1) as pool:
        for _ in range(scale(50, 500, 5_000)):
            with socket_pair() as (ours, theirs):
                waited = pool.submit(port.getn, 4, 1, SOON)
                port.associate(ours, 0, "nothing")
                port.associate(ours, POLLIN, "readable")
                theirs.send(b"x")
                assert [event.user for event in waited.result(SOON)] == ["readable"]
                assert port.getn(4, 1, 0) == []


@rule("R096", "R103")
def test_a_thread_that_waits_is_not_told_of_an_interest_that_shrank(port: Port) -> None:
    with socket_pair() as (ours, _), ThreadPoolExecutor(1) as pool:
        for turn in range(50):
            waited = pool.submit(port.getn, 4, 2, SOON)
            port.associate(ours, POLLOUT, "writable")
            port.associate(ours, POLLIN, "readable")
            port.send(turn)
            port.send(turn)
            assert [event.events for event in waited.result(SOON)] == [turn, turn]
            port.dissociate(ours)


@rule("R085", "R119")
def test_a_thread_that_waits_is_not_told_of_what_is_dissociated(port: Port) -> None:
    with socket_pair() as (ours, theirs), ThreadPoolExecutor(1) as pool:
        for turn in range(50):
            waited = pool.submit(port.getn, 4, 1, SOON)
            port.associate(ours, POLLIN)
            port.dissociate(ours)
            theirs.send(b"x")
            port.send(turn)
            assert [event.events for event in waited.result(SOON)] == [turn]
            ours.recv(1)


@rule("R102", "R105")
def test_a_thread_that_waits_does_not_take_an_old_report_for_a_new_association(
    port: Port, scale: Scale
) -> None:
    end = object()

    def take() -> set[str]:
        taken = set()
        while (user := port.get(SOON).user) is not end:
            taken.add(user)
        return taken

    with ExitStack() as opened, ThreadPoolExecutor(1) as pool:
        pairs = [opened.enter_context(socket_pair()) for _ in range(16)]
        taking = pool.submit(take)
        for _ in range(scale(200, 2_000, 20_000)):
            for ours, _ in pairs:
                port.associate(ours, POLLIN, "readable for a moment")
            for _, theirs in pairs:
                theirs.send(b"x")
            for ours, _ in pairs:
                ours.recv(1)
                port.associate(ours, POLLIN, "never readable")
        port.send(0, end)
        assert taking.result(SOON) <= {"readable for a moment"}


@rule("R085")
@pytest.mark.parametrize("threads", [2, 8])
def test_one_event_goes_to_one_thread(port: Port, threads: int) -> None:
    with socket_pair() as (ours, theirs), ThreadPoolExecutor(threads) as pool:
        for _ in range(10):
            port.associate(ours, POLLIN)
            waited = [pool.submit(port.getn, 1, 1, 0.1) for _ in range(threads)]
            theirs.send(b"x")
            assert sorted(len(wait.result(SOON)) for wait in waited) == [0] * (threads - 1) + [1]
            ours.recv(1)


@rule("R085")
def test_between_retrieval_and_association_no_other_thread_has_the_descriptor(
    port: Port, scale: Scale
) -> None:
    sockets, workers = 4, 4
    turns = scale(1_000, 10_000, 100_000)
    held = {number: Lock() for number in range(sockets)}
    done: Counter[int] = Counter()
    end = Event()

    with ExitStack() as opened, ThreadPoolExecutor(workers) as pool:
        pairs = [opened.enter_context(socket_pair()) for _ in range(sockets)]
        for _, theirs in pairs:
            theirs.send(b"x")  # and nobody reads it: ready for ever

        def work() -> None:
            while not end.is_set():
                for event in port.getn(2, 1, 0.05):
                    assert held[event.user].acquire(blocking=False)
                    done[event.user] += 1
                    held[event.user].release()
                    port.associate(event.object, POLLIN, event.user)

        working = [pool.submit(work) for _ in range(workers)]
        for number, (ours, _) in enumerate(pairs):
            port.associate(ours, POLLIN, number)
        while sum(done.values()) < turns and not any(worker.done() for worker in working):
            end.wait(0.01)
        end.set()
        for worker in working:
            worker.result(SOON)
    assert set(done) == set(range(sockets))


@rule("R085", "R104")
@pytest.mark.parametrize("workers", [1, 4])
def test_every_byte_is_read_once_by_workers_that_associate_again(
    port: Port, scale: Scale, workers: int
) -> None:
    sockets = scale(20, 100, 500)
    messages = scale(40, 100, 400)
    expected = sockets * messages
    received: Counter[int] = Counter()
    counted = Lock()
    everything = Event()

    with ExitStack() as opened, ThreadPoolExecutor(workers + 2) as pool:
        pairs = [opened.enter_context(socket_pair()) for _ in range(sockets)]
        ours: list[socket.socket] = [pair[0] for pair in pairs]

        def work() -> None:
            while not everything.is_set():
                for event in port.getn(16, 1, 0.05):
                    watched = ours[event.user]
                    assert watched.fileno() == event.object
                    data = watched.recv(3)
                    port.associate(watched, POLLIN, event.user)
                    with counted:
                        received[event.user] += len(data)
                        if received.total() == expected:
                            everything.set()

        def write(seed: int) -> None:
            choose = random.Random(seed)
            turns = [pair[1] for pair in pairs[seed::2] for _ in range(messages)]
            choose.shuffle(turns)
            for theirs in turns:
                theirs.send(b"x")

        for number, watched in enumerate(ours):
            watched.setblocking(False)
            port.associate(watched, POLLIN, number)
        running = [pool.submit(work) for _ in range(workers)]
        writing = [pool.submit(write, seed) for seed in (0, 1)]
        for one in writing:
            one.result(6 * SOON)
        complete = everything.wait(SOON)
        everything.set()
        for worker in running:
            worker.result(SOON)
    assert complete, f"{expected - received.total()} bytes were never told of"
    assert received == Counter(dict.fromkeys(range(sockets), messages))


@rule("R085", "R102")
def test_associating_from_many_threads_leaves_one_event(port: Port, scale: Scale) -> None:
    threads = 4
    with socket_pair() as (ours, _), ThreadPoolExecutor(threads) as pool:
        for _ in range(scale(50, 500, 5_000)):
            start = Barrier(threads)

            def associate(user: int, start: Barrier = start) -> None:
                start.wait(SOON)
                port.associate(ours, POLLOUT, user)

            users = list(pool.map(associate, range(threads)))
            assert len(users) == threads
            events = port.getn(8, 1, SOON)
            assert len(events) == 1
            assert events[0].user in range(threads)
            assert port.getn(8, 1, 0) == []


@rule("R085", "R106")
def test_threads_on_two_ports_have_an_event_each(make_port: MakePort, scale: Scale) -> None:
    ports = [make_port(), make_port()]
    with socket_pair() as (ours, theirs), ThreadPoolExecutor(2) as pool:
        for _ in range(scale(50, 500, 5_000)):
            waited = [pool.submit(port.getn, 4, 1, SOON) for port in ports]
            for number, port in enumerate(ports):
                port.associate(ours, POLLIN, number)
            theirs.send(b"x")
            assert [[event.user for event in wait.result(SOON)] for wait in waited] == [[0], [1]]
            ours.recv(1)


@rule("R085", "R137")
def test_messages_and_descriptors_reach_waiting_threads_together(port: Port, scale: Scale) -> None:
    rounds = scale(300, 2_000, 20_000)
    threads = 4
    taken: list[PortEvent] = []
    end = object()

    def take() -> None:
        while (event := port.get(SOON)).user is not end:
            taken.append(event)  # one step: no lock needed
            if event.object:
                port.associate(event.object, POLLIN, "socket")

    with ExitStack() as opened, ThreadPoolExecutor(threads) as pool:
        pairs = [opened.enter_context(socket_pair()) for _ in range(8)]
        taking = [pool.submit(take) for _ in range(threads)]
        for ours, _ in pairs:
            port.associate(ours, POLLIN, "socket")
        for turn in range(rounds):
            port.send(turn, "message")
        for _, theirs in pairs:
            theirs.send(b"x")  # ready for ever, so told at least once each
        while {event.object for event in list(taken)} < {ours.fileno() for ours, _ in pairs}:
            assert not any(one.done() for one in taking)
        for _ in taking:
            port.send(0, end)
        for one in taking:
            one.result(SOON)
    messages = [event.events for event in taken if event.user == "message"]
    assert sorted(messages) == list(range(rounds))


@rule("R085")
def test_dissociating_while_threads_retrieve_ends_in_either_and_not_in_both(
    port: Port, scale: Scale
) -> None:
    with socket_pair() as (ours, _), ThreadPoolExecutor(1) as pool:
        for turn in range(scale(200, 1_000, 10_000)):
            port.associate(ours, POLLOUT, turn)
            taking = pool.submit(port.getn, 4, 1, 0)
            try:
                port.dissociate(ours)
                dissociated = True
            except OSError:
                dissociated = False
            taken = [event.user for event in taking.result(SOON)]
            assert taken == ([] if dissociated else [turn])
            assert port.getn(4, 1, 0) == []


@rule("R096")
def test_a_thread_that_waits_for_several_descriptors_has_them_all(port: Port) -> None:
    with ExitStack() as opened, ThreadPoolExecutor(1) as pool:
        pairs = [opened.enter_context(socket_pair()) for _ in range(5)]
        for ours, _ in pairs:
            port.associate(ours, POLLIN)
        waited = pool.submit(port.getn, 8, 5, SOON)
        for _, theirs in pairs:
            assert not waited.done()
            theirs.send(b"x")
        assert {event.object for event in waited.result(SOON)} == {
            ours.fileno() for ours, _ in pairs
        }
        assert port.getn(8, 1, A_WHILE) == []
