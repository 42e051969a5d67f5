"""A port is a descriptor itself: fileno, fstat, poll, and what other calls make of it."""

import errno
import os
import select
import selectors
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from portcompat import POLLERR, POLLHUP, POLLIN, POLLOUT, POLLPRI, POLLRDNORM, Port
from portcompat.conformance import rule
from portcompat.conformance._descriptors import A_WHILE, SOON, socket_pair
from portcompat.conformance._lives import Life
from portcompat.conformance._threads import waiting, waiting_briefly

MakePort = Callable[..., Port]
Scale = Callable[[int, int, int], int]

S_IFMT = 0xF000
S_IFPORT = 0xE000


def poll(port: Port, events: int, timeout: float = 0) -> int:
    """What poll(2) tells of the port's descriptor."""
    if not hasattr(select, "poll"):
        pytest.skip("this host has no poll(2)")
    poller = select.poll()
    poller.register(port.fileno(), events)
    return dict(poller.poll(timeout * 1000)).get(port.fileno(), 0)


@rule("R067")
def test_a_port_has_an_open_descriptor(port: Port) -> None:
    os.fstat(port.fileno())


@rule("R067")
def test_the_descriptor_of_a_port_stays_the_same(port: Port) -> None:
    number = port.fileno()
    port.send(0)
    port.get(SOON)
    assert port.fileno() == number


@rule("R067")
def test_each_port_has_a_descriptor_of_its_own(make_port: MakePort) -> None:
    assert len({make_port().fileno() for _ in range(5)}) == 5


@rule("R067")
def test_close_on_exec_is_off(port: Port) -> None:
    assert os.get_inheritable(port.fileno())


@rule("R067")
def test_close_on_exec_can_be_set_and_cleared(port: Port) -> None:
    for inheritable in (True, False, True):
        os.set_inheritable(port.fileno(), inheritable)
        assert os.get_inheritable(port.fileno()) is inheritable


@rule("R067", "R072")
def test_a_dup_is_the_same_port_to_poll(port: Port) -> None:
    double = os.dup(port.fileno())
    try:
        assert select.select([double], [], [], A_WHILE) == ([], [], [])
        port.send(0)
        assert select.select([double], [], [], SOON) == ([double], [], [])
    finally:
        os.close(double)


@rule("R069")
def test_fstat_tells_the_type_of_a_port(port: Port) -> None:
    status = os.fstat(port.fileno())
    assert status.st_mode & S_IFMT == S_IFPORT


@rule("R069")
def test_fstat_tells_no_permissions_and_no_place_on_a_disk(port: Port) -> None:
    status = os.fstat(port.fileno())
    assert status.st_mode & 0o7777 == 0
    assert (status.st_ino, status.st_blocks) == (0, 0)


@rule("R069", "R070")
def test_fstat_tells_how_many_events_are_queued(port: Port) -> None:
    for sent in range(3):
        assert os.fstat(port.fileno()).st_size == sent
        port.send(0)


@rule("R070", "R176")
def test_an_alert_is_not_in_the_size(port: Port) -> None:
    port.alert(1)
    assert os.fstat(port.fileno()).st_size == 0


@rule("R069")
def test_fstat_tells_the_creator(port: Port) -> None:
    status = os.fstat(port.fileno())
    assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())


@rule("R071")
def test_a_port_cannot_be_read(port: Port) -> None:
    with pytest.raises(OSError) as caught:
        os.read(port.fileno(), 1)
    assert caught.value.errno == errno.EBADF


@rule("R071")
def test_a_port_cannot_be_written(port: Port) -> None:
    with pytest.raises(OSError) as caught:
        os.write(port.fileno(), b"x")
    assert caught.value.errno == errno.EBADF


@rule("R078")
def test_f_getfl_is_minus_one(port: Port) -> None:
    fcntl = pytest.importorskip("fcntl")
    try:
        flags = fcntl.fcntl(port.fileno(), fcntl.F_GETFL)
    except OSError:  # how Python reads a result of -1
        flags = -1
    assert flags == -1


@rule("R072")
def test_an_empty_port_is_not_readable(port: Port) -> None:
    assert poll(port, POLLIN, A_WHILE) == 0


@rule("R072")
def test_a_port_is_readable_while_an_event_is_queued(port: Port) -> None:
    port.send(1)
    port.send(2)
    for left in (2, 1):
        assert poll(port, POLLIN, SOON) == POLLIN
        assert len(port.getn(1, 1, SOON)) == 1
        assert port.pending() == left - 1
    assert poll(port, POLLIN, A_WHILE) == 0


@rule("R072")
def test_a_port_is_readable_for_what_was_queued_before_it_was_asked(make_port: MakePort) -> None:
    port = make_port()
    port.send(1)
    assert poll(port, POLLIN, SOON) == POLLIN
    port.get(SOON)
    assert poll(port, POLLIN, A_WHILE) == 0


@rule("R072")
def test_a_port_is_readable_when_a_descriptor_fires(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN)
        assert poll(port, POLLIN, A_WHILE) == 0
        theirs.send(b"x")
        assert poll(port, POLLIN, SOON) == POLLIN
        port.get(SOON)
        assert poll(port, POLLIN, A_WHILE) == 0


@rule("R072", "R095")
def test_a_port_is_readable_when_a_ready_descriptor_is_associated(port: Port) -> None:
    with socket_pair() as (ours, _):
        assert poll(port, POLLIN) == 0
        port.associate(ours, POLLOUT)
        assert poll(port, POLLIN, SOON) == POLLIN


@rule("R072", "R120")
def test_a_port_is_not_readable_after_the_only_event_is_withdrawn(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.associate(ours, POLLOUT)
        assert poll(port, POLLIN, SOON) == POLLIN
        port.dissociate(ours)
        assert poll(port, POLLIN, A_WHILE) == 0


@rule("R072", "R105")
def test_a_port_is_not_readable_after_the_only_event_is_replaced(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.associate(ours, POLLOUT)
        assert poll(port, POLLIN, SOON) == POLLIN
        port.associate(ours, POLLIN)
        assert poll(port, POLLIN, A_WHILE) == 0


@rule("R072", "R112")
def test_a_port_is_not_readable_after_the_descriptor_is_closed(port: Port) -> None:
    with Life() as life:
        port.associate(life, POLLIN)
        life.feed()
        assert poll(port, POLLIN, SOON) == POLLIN
        life.close()
        assert port.pending() == 0
        assert poll(port, POLLIN, A_WHILE) == 0


@rule("R072", "R114")
def test_a_file_that_lives_on_in_a_dup_does_not_make_the_port_readable(port: Port) -> None:
    with Life() as life:
        port.associate(life, POLLIN)
        assert poll(port, POLLIN) == 0
        life.close(keep_dup=True)
        life.feed()
        assert poll(port, POLLIN, A_WHILE) == 0


@rule("R072", "R108")
def test_a_hang_up_after_the_event_was_retrieved_does_not_make_the_port_readable(
    port: Port,
) -> None:
    with socket_pair() as (ours, theirs):
        theirs.send(b"x")
        port.associate(ours, POLLIN)
        port.get(SOON)
        port.fileno()
        theirs.close()
        assert not poll(port, POLLIN, A_WHILE)


@rule("R072", "R109")
def test_a_port_is_readable_when_a_regular_file_is_associated(port: Port) -> None:
    assert poll(port, POLLIN) == 0
    with open(__file__) as file:
        port.associate(file, POLLIN)
        assert poll(port, POLLIN, SOON) == POLLIN


@rule("R072")
def test_of_a_readable_port_only_what_is_asked_is_told(port: Port) -> None:
    port.send(0)
    assert poll(port, POLLIN | POLLPRI, SOON) == POLLIN
    assert poll(port, 0, A_WHILE) == 0
    assert not poll(port, POLLIN) & (POLLHUP | POLLERR)


@rule("R072")
def test_a_port_with_free_slots_is_writable(port: Port) -> None:
    assert poll(port, POLLOUT, A_WHILE) == POLLOUT


@rule("R072")
def test_a_port_without_free_slots_is_not_writable(make_port: MakePort) -> None:
    port = make_port(max_events=1)
    port.send(0)
    assert poll(port, POLLOUT, A_WHILE) == 0


@rule("R076")
def test_a_freed_slot_wakes_who_polls_for_writing(make_port: MakePort) -> None:
    port = make_port(max_events=1)
    port.send(0)
    assert poll(port, POLLOUT) == 0
    polling = waiting(lambda: poll(port, POLLOUT, 0.2))
    port.get(SOON)
    assert polling.result() == POLLOUT


@rule("R073", "R176")
def test_an_alert_does_not_make_a_port_readable(port: Port) -> None:
    port.alert(1)
    assert poll(port, POLLIN, A_WHILE) == 0
    port.alert(0)
    assert poll(port, POLLIN, A_WHILE) == 0


@rule("R073")
def test_an_alert_does_not_wake_who_polls(port: Port) -> None:
    polling = waiting_briefly(lambda: poll(port, POLLIN, 0.2))
    port.alert(1)
    port.alert(2)
    assert polling.result() == 0


@rule("R073", "R158")
def test_a_port_in_alert_mode_is_readable_for_what_is_queued(port: Port) -> None:
    port.alert(1)
    port.send(0)
    assert poll(port, POLLIN, SOON) == POLLIN
    port.alert(0)
    assert poll(port, POLLIN, SOON) == POLLIN
    port.get(SOON)
    assert poll(port, POLLIN, A_WHILE) == 0


@rule("R074")
@pytest.mark.skipif(not POLLRDNORM, reason="this host has no POLLRDNORM")
def test_a_port_is_not_readable_by_the_name_of_ordinary_data(port: Port) -> None:
    port.send(0)
    assert poll(port, POLLRDNORM, A_WHILE) == 0


@rule("R074")
def test_select_never_tells_a_readable_port(port: Port) -> None:
    port.send(0)
    assert select.select([port.fileno()], [], [], A_WHILE) == ([], [], [])


@rule("R074")
def test_select_tells_a_writable_port(port: Port) -> None:
    number = port.fileno()
    assert select.select([], [number], [], A_WHILE) == ([], [number], [])


@rule("R072")
def test_a_thread_that_polls_is_woken_by_a_send(port: Port) -> None:
    polling = waiting(lambda: poll(port, POLLIN, SOON))
    port.send(0)
    assert polling.result() == POLLIN


@rule("R072")
def test_a_thread_that_polls_is_woken_by_a_descriptor(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN)
        polling = waiting(lambda: poll(port, POLLIN, SOON))
        theirs.send(b"x")
        assert polling.result() == POLLIN


@rule("R072")
def test_a_port_is_watched_by_a_selector_of_the_standard_library(port: Port) -> None:
    with selectors.DefaultSelector() as selector, socket_pair() as (ours, theirs):
        selector.register(port, selectors.EVENT_READ)
        port.associate(ours, POLLIN)
        assert selector.select(A_WHILE) == []
        for turn in range(5):
            theirs.send(b"x")
            assert [key.fileobj for key, _ in selector.select(SOON)] == [port]
            assert len(port.getn(2, 1, 0)) == 1
            ours.recv(1)
            port.associate(ours, POLLIN, turn)
            assert selector.select(A_WHILE) == []


@rule("R072", "R085")
def test_polling_and_retrieving_threads_get_along(port: Port, scale: Scale) -> None:
    rounds = scale(200, 1_000, 10_000)

    def take() -> int:
        taken = 0
        while taken < rounds:
            assert poll(port, POLLIN, SOON)
            taken += len(port.getn(4, 1, 0))
        return taken

    port.fileno()
    with ThreadPoolExecutor(1) as pool:
        taking = pool.submit(take)
        for _ in range(rounds):
            port.send(0)
        assert taking.result(SOON) == rounds
    assert poll(port, POLLIN, A_WHILE) == 0
