"""Signal handlers that raise at each step of what LEVEL, EDGE and selectors do."""

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator

import pytest

from portcompat import POLLIN, POLLOUT, Port, PortEvent, Trigger
from portcompat.conformance._threads import waiting
from portcompat.selectors import EVENT_READ, EVENT_WRITE, PortSelector
from tests.interruptions import Interrupted, Interruption, faults, outcome, throw

SLOTS = 6

pytestmark = pytest.mark.deadline(30)


class Stage:
    """A port, and two descriptors that are readable; the second has more each time."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.one, self.far = socket.socketpair()
        self.other, self.far_other = socket.socketpair()
        self.far.send(b"x")
        self.far_other.send(b"x")

    def close(self) -> None:
        for end in (self.one, self.far, self.other, self.far_other):
            end.close()

    def users(self) -> list[str]:
        return sorted(event.user for event in self.port.getn(100, 1, 0))

    def slots(self) -> int:
        for end in (self.one, self.other):
            with contextlib.suppress(OSError):
                self.port.dissociate(end)
        self.port.getn(100, 1, 0)
        for number in range(2 * SLOTS):
            try:
                self.port.send(0)
            except OSError as error:
                assert error.errno == errno.EAGAIN
                return number
        return 2 * SLOTS


@contextlib.contextmanager
def staged(backend: str) -> Iterator[Stage]:
    with Port(backend, max_events=SLOTS) as port:
        stage = Stage(port)
        try:
            yield stage
        finally:
            stage.close()


def attempt(call: Callable[[], object], step: int) -> tuple[Interruption, object]:
    """Make the call and raise at that step; what it returned, None if it did not."""
    result: object = None
    with Interruption(step, throw) as interruption, contextlib.suppress(Interrupted):
        result = call()
        assert not interruption.place, f"what a handler raised at {interruption.place} is lost"
    return interruption, result


@pytest.fixture
def every(scale: Callable[[int, int, int], int]) -> int:
    """One in so many steps is tried."""
    return scale(4, 1, 1)


RETRIEVALS: dict[str, Callable[[Port], list[PortEvent]]] = {
    "get": lambda port: [port.get()],
    "getn of all": lambda port: port.getn(SLOTS, 1),
    "getn, too few": lambda port: port.getn(SLOTS, SLOTS, 0.001),
}


@pytest.mark.parametrize("queued", [False, True])
@pytest.mark.parametrize("retrieve", RETRIEVALS.values(), ids=RETRIEVALS)
def test_level_goes_on_being_told(
    backend: str, retrieve: Callable[[Port], list[PortEvent]], queued: bool, every: int
) -> None:
    def check(step: int) -> tuple[Interruption, object, object]:
        with staged(backend) as on:
            on.port.associate(on.one, POLLIN, "one", trigger=Trigger.LEVEL)
            on.port.associate(on.other, POLLIN, "other", trigger=Trigger.LEVEL)
            if queued:
                assert on.port.pending() == 2
            interruption, _ = attempt(lambda: retrieve(on.port), step)
            found = [outcome(on.users), outcome(on.users), outcome(on.slots)]
            return interruption, found, [["one", "other"], ["one", "other"], SLOTS]

    assert faults(check, every) == {}


@pytest.mark.parametrize("queued", [False, True])
@pytest.mark.parametrize("retrieve", RETRIEVALS.values(), ids=RETRIEVALS)
def test_no_edge_is_lost(
    backend: str, retrieve: Callable[[Port], list[PortEvent]], queued: bool, every: int
) -> None:
    def check(step: int) -> tuple[Interruption, object, object]:
        with staged(backend) as on:
            if "edge" not in on.port.features:
                pytest.skip("the backend has no edges")
            on.port.associate(on.one, POLLIN, "one", trigger=Trigger.EDGE)
            on.port.associate(on.other, POLLIN, "other", trigger=Trigger.EDGE)
            if queued:
                assert on.port.pending() == 2
            interruption, _ = attempt(lambda: retrieve(on.port), step)
            missed = outcome(on.users)
            on.far.send(b"x")
            on.far_other.send(b"x")
            found = [missed, outcome(on.users), outcome(on.slots)]
            return interruption, found, [["one", "other"], ["one", "other"], SLOTS]

    assert faults(check, every) == {}


@pytest.mark.parametrize("trigger", [Trigger.LEVEL, Trigger.EDGE])
def test_a_change_of_trigger_can_be_made_again(backend: str, trigger: Trigger, every: int) -> None:
    def check(step: int) -> tuple[Interruption, object, object]:
        with staged(backend) as on:
            if trigger is Trigger.EDGE and "edge" not in on.port.features:
                pytest.skip("the backend has no edges")
            on.port.associate(on.other, POLLIN, "other")
            on.port.associate(on.one, POLLIN, "former")
            interruption, _ = attempt(
                lambda: on.port.associate(on.one, POLLOUT, "new", trigger=trigger), step
            )
            on.port.associate(on.one, POLLIN, "one", trigger=Trigger.LEVEL)
            found = [outcome(on.users), outcome(on.users), outcome(on.slots)]
            return interruption, found, [["one", "other"], ["one"], SLOTS]

    assert faults(check, every) == {}


def test_a_leader_whom_a_handler_ends_leaves_level_to_the_next(backend: str, every: int) -> None:
    def check(step: int) -> tuple[Interruption, object, object]:
        with staged(backend) as on:
            on.port.associate(on.one, POLLIN, "one", trigger=Trigger.LEVEL)
            getter = waiting(lambda: on.port.getn(SLOTS, 2))
            interruption, _ = attempt(lambda: on.port.getn(SLOTS, 1, 0.001), step)
            on.port.send(0, "x")
            return interruption, outcome(lambda: {e.user for e in getter.result(2)}), {"one", "x"}

    assert faults(check, every) == {}


# Selectors


@contextlib.contextmanager
def selecting(backend: str) -> Iterator[tuple[PortSelector, socket.socket, socket.socket]]:
    one, far = socket.socketpair()
    with one, far, PortSelector(backend=backend) as selector:
        far.send(b"x")
        yield selector, one, far


def test_a_registration_that_a_handler_ends_is_made_or_not(backend: str, every: int) -> None:
    def check(step: int) -> tuple[Interruption, object, object]:
        with selecting(backend) as (selector, one, _):
            interruption, _ = attempt(lambda: selector.register(one, EVENT_READ, "lost"), step)
            if one in selector.get_map():
                selector.unregister(one)
            found = [outcome(lambda: selector.select(0))]
            key = selector.register(one, EVENT_READ, "new")
            found.append(outcome(lambda: selector.select(1)))
            return interruption, found, [[], [(key, EVENT_READ)]]

    assert faults(check, every) == {}


@pytest.mark.parametrize("change", ["unregister", "modify"])
def test_what_was_known_of_a_descriptor_does_not_outlive_a_change(
    backend: str, change: str, every: int
) -> None:
    def check(step: int) -> tuple[Interruption, object, object]:
        with selecting(backend) as (selector, one, _):
            selector.register(one, EVENT_READ | EVENT_WRITE, "old")
            assert len(selector.select(1)) == 1  # it is in the table now
            if change == "modify":
                interruption, _ = attempt(lambda: selector.modify(one, EVENT_READ, "lost"), step)
            else:
                interruption, _ = attempt(lambda: selector.unregister(one), step)
            if one in selector.get_map():
                selector.unregister(one)
            key = selector.register(one, EVENT_WRITE, "new")
            return interruption, outcome(lambda: selector.select(1)), [(key, EVENT_WRITE)]

    assert faults(check, every) == {}


def test_a_select_that_a_handler_ends_tells_it_the_next_time(backend: str, every: int) -> None:
    def check(step: int) -> tuple[Interruption, object, object]:
        with selecting(backend) as (selector, one, _):
            key = selector.register(one, EVENT_READ)
            interruption, _ = attempt(selector.select, step)
            return interruption, outcome(lambda: selector.select(1)), [(key, EVENT_READ)]

    assert faults(check, every) == {}


def test_the_lock_of_a_selector_is_free_after_a_handler(backend: str, every: int) -> None:
    with open(os.devnull, "rb") as file:

        def use(selector: PortSelector, one: socket.socket) -> None:
            selector.register(one, EVENT_READ)
            selector.register(file, EVENT_READ)
            selector.modify(one, EVENT_WRITE)
            selector.select(0)
            selector.wakeup()
            selector.unregister(file)
            selector.unregister(one)

        def check(step: int) -> tuple[Interruption, object, object]:
            with selecting(backend) as (selector, one, _):
                interruption, _ = attempt(lambda: use(selector, one), step)
                owned = selector._lock._is_owned()  # type: ignore[attr-defined]
                return interruption, owned, False

        assert faults(check, every) == {}
