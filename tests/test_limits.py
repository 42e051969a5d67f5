"""How many ports and events there may be."""

import errno
import threading
from collections.abc import Iterator

import pytest

from portcompat import Port, limits
from portcompat._limits import Limits
from portcompat.conformance._fork import in_fork_child
from tests.locks import held_elsewhere


@pytest.fixture
def former() -> Iterator[None]:
    events, ports = limits.max_events, limits.max_ports
    yield
    limits.max_events, limits.max_ports = events, ports


def test_the_limits_are_those_of_illumos() -> None:
    assert (Limits().max_ports, Limits().max_events) == (8192, 65536)


def test_a_port_is_admitted_while_there_is_room() -> None:
    few = Limits()
    few.max_ports = 2
    assert [few.admit_port() for _ in range(3)] == [True, True, False]
    few.dismiss_port()
    assert few.admit_port()


def test_threads_are_counted_together() -> None:
    few = Limits()
    few.max_ports = 1_000
    admitted: list[bool] = []

    def admit() -> None:
        admitted.extend(few.admit_port() for _ in range(400))

    threads = [threading.Thread(target=admit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert admitted.count(True) == few.ports == 1_000


@pytest.mark.parametrize("value", [0, -1, 2**31])
def test_a_limit_that_is_no_count_is_a_value_error(value: int) -> None:
    for name in ("max_ports", "max_events"):
        with pytest.raises(ValueError, match=name):
            setattr(Limits(), name, value)


@pytest.mark.usefixtures("former")
def test_one_port_too_many_is_eagain(backend: str) -> None:
    limits.max_ports = limits.ports + 1
    with Port(backend):
        with pytest.raises(OSError, match="raise limits.max_ports") as error:
            Port(backend)
        assert error.value.errno == errno.EAGAIN
    Port(backend).close()


@pytest.mark.usefixtures("former")
def test_a_limit_holds_for_ports_that_are_made_after_it_was_set(backend: str) -> None:
    with Port(backend) as before:
        limits.max_events = 3
        with Port(backend) as after:
            assert (before.max_events, after.max_events) == (65536, 3)


def test_in_a_child_no_port_is_counted_whoever_held_the_lock_at_the_fork(backend: str) -> None:
    def child() -> None:
        counts = [limits.ports]
        with Port(backend):
            counts.append(limits.ports)
        counts.append(limits.ports)
        assert counts == [0, 1, 0]

    with Port(backend), held_elsewhere(limits._lock):
        before = limits.ports
        in_fork_child(child)
        assert limits.ports == before


def test_the_limits_print_themselves() -> None:
    assert repr(Limits()) == "Limits(max_ports=8192, max_events=65536, max_timers=16777216)"
