"""port_create(3C), and how many ports and events there may be."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from portcompat import POLLOUT, Port, limits, sendn
from portcompat.conformance import rule
from portcompat.conformance._descriptors import SOON, socket_pair
from portcompat.conformance._errors import errno_of

if sys.platform != "win32":
    import resource

MakePort = Callable[..., Port]


@pytest.fixture
def set_limits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set `portcompat.limits` for the time of the test."""

    def set(**values: int) -> None:
        for name, value in values.items():
            monkeypatch.setattr(limits, name, value)

    return set


def first_free_descriptor() -> int:
    number = os.open(os.devnull, os.O_RDONLY)
    os.close(number)
    return number


@contextmanager
def descriptors_to_spare(count: int) -> Iterator[None]:
    """Let the process open `count` descriptors more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first_free_descriptor() + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@rule("R051")
def test_a_new_port_is_open_and_empty(port: Port) -> None:
    assert not port.closed
    assert port.pending() == 0


@rule("R051")
def test_two_ports_have_two_queues(make_port: MakePort) -> None:
    one, other = make_port(), make_port()
    one.send(1)
    assert other.pending() == 0


@rule("R004")
def test_a_port_has_65536_slots() -> None:
    assert limits.max_events == 65536


@rule("R004")
def test_the_limit_is_copied_into_the_port(
    make_port: MakePort, set_limits: Callable[..., None]
) -> None:
    set_limits(max_events=2)
    port = make_port()
    set_limits(max_events=4)
    assert port.max_events == 2
    port.send(1)
    port.send(2)
    assert errno_of(port.send, 0) == errno.EAGAIN


@rule("R004")
def test_a_port_can_have_a_limit_of_its_own(make_port: MakePort) -> None:
    port = make_port(max_events=3)
    assert port.max_events == 3
    for number in range(3):
        port.send(number)
    assert errno_of(port.send, 0) == errno.EAGAIN


@rule("R004", "R079", "R080")
def test_65536_events_fit_and_no_more(port: Port) -> None:
    for number in range(65536):
        port.send(number)
    assert errno_of(port.send, 0) == errno.EAGAIN
    events = port.getn(100_000)
    assert [event.events for event in events] == list(range(65536))


@rule("R005")
def test_8192_ports_may_exist() -> None:
    assert limits.max_ports == 8192


@rule("R005", "R006", "R051", "R068")
def test_a_port_too_many_is_eagain(make_port: MakePort, set_limits: Callable[..., None]) -> None:
    set_limits(max_ports=limits.ports + 2)
    make_port()
    make_port()
    with pytest.raises(OSError) as caught:
        make_port()
    assert caught.value.errno == errno.EAGAIN


@rule("R005", "R006")
def test_a_closed_port_makes_room_for_another(
    make_port: MakePort, set_limits: Callable[..., None]
) -> None:
    set_limits(max_ports=limits.ports + 1)
    for _ in range(5):
        make_port().close()
    make_port()
    with pytest.raises(OSError):
        make_port()


@rule("R051", "R068")
@pytest.mark.skipif(sys.platform == "win32", reason="this host has no limit of descriptors")
def test_a_process_without_descriptors_gets_emfile(make_port: MakePort, port: Port) -> None:
    with descriptors_to_spare(0), pytest.raises(OSError) as caught:
        make_port()
    assert caught.value.errno == errno.EMFILE


@rule("R068")
@pytest.mark.skipif(sys.platform == "win32", reason="this host has no limit of descriptors")
def test_a_port_that_cannot_be_made_leaves_no_descriptor(make_port: MakePort, port: Port) -> None:
    for spare in range(16):
        before = first_free_descriptor()
        told = None
        with descriptors_to_spare(spare):
            try:
                make_port()
            except OSError as error:
                told = error.errno
        if told is None:
            return
        assert told == errno.EMFILE
        assert first_free_descriptor() == before
    pytest.fail("a port needs more than 16 descriptors")


@rule("R006", "R068")
@pytest.mark.skipif(sys.platform == "win32", reason="this host has no limit of descriptors")
def test_a_port_that_cannot_be_made_is_not_counted(
    make_port: MakePort, port: Port, set_limits: Callable[..., None]
) -> None:
    set_limits(max_ports=limits.ports + 1)
    with descriptors_to_spare(0), pytest.raises(OSError):
        make_port()
    make_port()


@rule("R068")
@pytest.mark.skipif(sys.platform == "win32", reason="this host has no limit of descriptors")
def test_the_limit_of_ports_is_looked_at_first(
    make_port: MakePort, port: Port, set_limits: Callable[..., None]
) -> None:
    set_limits(max_ports=limits.ports)
    with descriptors_to_spare(0), pytest.raises(OSError) as caught:
        make_port()
    assert caught.value.errno == errno.EAGAIN


@rule("R079")
def test_a_queued_message_holds_a_slot_until_it_is_retrieved(make_port: MakePort) -> None:
    port = make_port(max_events=2)
    port.send(1)
    port.send(2)
    assert errno_of(port.send, 0) == errno.EAGAIN
    port.get(0)
    port.send(3)
    assert errno_of(port.send, 0) == errno.EAGAIN


@rule("R079")
def test_retrieving_many_frees_many(make_port: MakePort) -> None:
    port = make_port(max_events=8)
    for _ in range(3):
        for number in range(8):
            port.send(number)
        assert errno_of(port.send, 0) == errno.EAGAIN
        assert len(port.getn(8, 8, 0)) == 8


@rule("R079", "R088")
def test_messages_before_and_behind_a_descriptors_event_free_their_slots(
    make_port: MakePort,
) -> None:
    port = make_port(max_events=3)
    with socket_pair() as (ours, _):
        for _ in range(5):
            port.send(1)
            port.associate(ours, POLLOUT)
            port.send(2)
            assert errno_of(port.send, 0) == errno.EAGAIN
            assert len(port.getn(8, 3, SOON)) == 3


@rule("R079", "R146")
def test_counting_frees_no_slot(make_port: MakePort) -> None:
    port = make_port(max_events=1)
    port.send(1)
    assert port.pending() == 1
    assert errno_of(port.send, 0) == errno.EAGAIN


@rule("R079", "R147")
def test_taking_none_frees_no_slot(make_port: MakePort) -> None:
    port = make_port(max_events=1)
    port.send(1)
    assert port.getn(1, 0) == []
    assert errno_of(port.send, 0) == errno.EAGAIN


@rule("R080")
def test_a_message_that_did_not_fit_is_not_queued(make_port: MakePort) -> None:
    port = make_port(max_events=1)
    port.send(1, "fits")
    assert errno_of(port.send, 0) == errno.EAGAIN
    assert [event.user for event in port.getn(4)] == ["fits"]


@rule("R080", "R163")
def test_an_entry_of_sendn_that_did_not_fit_is_eagain(make_port: MakePort) -> None:
    full, free = make_port(max_events=1), make_port(max_events=1)
    full.send(1)
    assert sendn([full, free], 2) == (1, [errno.EAGAIN, 0])
    assert full.get(0).events == 1
    assert free.get(0).events == 2


@rule("R080")
def test_each_port_has_its_own_slots(make_port: MakePort) -> None:
    one, other = make_port(max_events=1), make_port(max_events=1)
    one.send(1)
    other.send(2)
    assert errno_of(one.send, 0) == errno.EAGAIN
    assert errno_of(other.send, 0) == errno.EAGAIN


@rule("R079", "R172")
def test_a_message_under_an_alert_holds_its_slot(make_port: MakePort) -> None:
    port = make_port(max_events=1)
    port.send(1)
    port.alert(7)
    port.get(0)
    assert errno_of(port.send, 0) == errno.EAGAIN
