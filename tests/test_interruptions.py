"""Signal handlers that run at each step of each call, one after the other, and raise or send."""

import contextlib
import errno
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from portcompat import POLLIN, POLLOUT, Port, PortEvent
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._threads import Call, in_thread, waiting
from tests.interruptions import Interrupted, Interruption, faults, outcome, throw

SLOTS = 8

pytestmark = [
    pytest.mark.deadline(20),
    # A pair that was being made when the handler raised is closed by its collection.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


class Stage:
    """A port of a few slots, and two descriptors that are ready to be written to."""

    def __init__(self, port: Port, one: socket.socket, other: socket.socket) -> None:
        self.port, self.one, self.other = port, one, other

    def send_two(self) -> list[str]:
        self.port.send(0, "x")
        self.port.send(0, "y")
        return ["x", "y"]

    def watch_one(self) -> list[str]:
        self.port.associate(self.one, POLLOUT, "one")
        return ["one"]

    def mix(self) -> list[str]:
        self.port.send(0, "x")
        self.port.associate(self.one, POLLOUT, "one")
        self.port.associate(self.other, POLLOUT, "other")
        self.port.send(0, "y")
        return ["x", "one", "other", "y"]

    def queue_all(self) -> list[str]:
        users = self.mix()
        assert self.port.pending() == len(users)
        return users

    def show(self) -> list[str]:
        self.port.fileno()
        return self.send_two()

    def users(self) -> list[str]:
        """Those of all events that the port has; none waits for more."""
        return [event.user for event in self.port.getn(100, 1, 0)]

    def slots(self) -> int:
        """How many slots there are when nothing is associated or queued."""
        for descriptor in (self.one, self.other):
            with contextlib.suppress(OSError):
                self.port.dissociate(descriptor)
        self.port.getn(100, 1, 0)
        for number in range(2 * SLOTS):
            try:
                self.port.send(0)
            except OSError as error:
                assert error.errno == errno.EAGAIN
                return number
        return 2 * SLOTS


MakeStage = Callable[[], contextlib.AbstractContextManager[Stage]]


@pytest.fixture
def stage(backend: str) -> MakeStage:
    @contextlib.contextmanager
    def make() -> Iterator[Stage]:
        one, other = socket.socketpair()
        with one, other, Port(backend, max_events=SLOTS) as port:
            yield Stage(port, one, other)

    return make


PREPARATIONS = [Stage.send_two, Stage.watch_one, Stage.mix, Stage.queue_all, Stage.show]
RETRIEVALS: dict[str, Callable[[Port], list[PortEvent]]] = {
    "get": lambda port: [port.get()],
    "get, no time": lambda port: [port.get(0)],
    "getn of two": lambda port: port.getn(2, 2, 0.001),
    "getn of all": lambda port: port.getn(SLOTS, 1),
    "getn, no time": lambda port: port.getn(SLOTS, SLOTS, 0),
    "getn, too few": lambda port: port.getn(SLOTS, SLOTS, 0.001),
}
CHANGES: dict[str, Callable[[Stage], object]] = {
    "send": lambda stage: stage.port.send(0, "new"),
    "associate": lambda stage: stage.port.associate(stage.one, POLLOUT, "new"),
    "dissociate": lambda stage: stage.port.dissociate(stage.one),
    "alert": lambda stage: stage.port.alert(1, "new"),
    "pending": lambda stage: stage.port.pending(),
    "fileno": lambda stage: stage.port.fileno(),
}

REFUSED: dict[str, Callable[[Stage], object]] = {
    "send": lambda stage: stage.port.send(0, "new"),
    "associate": lambda stage: stage.port.associate(stage.one, POLLOUT, "new"),
    "dissociate": lambda stage: stage.port.dissociate(stage.one),
    "timer": lambda stage: stage.port.timer(),
}


@pytest.fixture
def every(scale: Callable[[int, int, int], int]) -> int:
    """Of the steps that take long one in so many is tried."""
    return scale(5, 1, 1)


def attempt(call: Callable[[], object], step: int) -> Interruption:
    """Make the call and raise at that step, if there are so many."""
    with Interruption(step, throw) as interruption, contextlib.suppress(Interrupted):
        call()
        assert not interruption.place, f"what a handler raised at {interruption.place} is lost"
    return interruption


def outcome_of(call: Call[Any]) -> object:
    try:
        return call.result(2)
    except OSError as error:
        return error.errno
    except AssertionError as error:
        return str(error)


@pytest.mark.parametrize("prepare", PREPARATIONS)
@pytest.mark.parametrize("retrieve", RETRIEVALS.values(), ids=RETRIEVALS)
def test_a_retrieval_that_a_handler_ends_takes_nothing_and_costs_no_slot(
    stage: MakeStage,
    prepare: Callable[[Stage], list[str]],
    retrieve: Callable[[Port], list[PortEvent]],
) -> None:
    def check(step: int) -> tuple[Interruption, object, object]:
        with stage() as on:
            users = prepare(on)
            interruption = attempt(lambda: retrieve(on.port), step)
            return interruption, (outcome(on.users), outcome(on.slots)), (users, SLOTS)

    assert faults(check) == {}


@pytest.mark.parametrize("prepare", [Stage.mix, Stage.queue_all])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_call_that_a_handler_ends_disturbs_no_other_event_and_costs_no_slot(
    stage: MakeStage,
    prepare: Callable[[Stage], list[str]],
    change: Callable[[Stage], object],
) -> None:
    def check(step: int) -> tuple[Interruption, object, object]:
        with stage() as on:
            prepare(on)
            interruption = attempt(lambda: change(on), step)
            on.port.alert(0)
            users = outcome(on.users)
            others = users
            if isinstance(users, list):
                others = [user for user in users if user not in ("one", "new")]
            return interruption, (others, outcome(on.slots)), (["x", "other", "y"], SLOTS)

    assert faults(check) == {}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_a_refusal_that_a_handler_ends_lets_other_threads_go_on(
    stage: MakeStage, call: Callable[[Stage], object]
) -> None:
    def check(step: int) -> tuple[Interruption, object, object]:
        with stage() as on:
            for _ in range(SLOTS):
                on.port.send(0, "old")
            with (
                contextlib.suppress(OSError, Interrupted),
                Interruption(step, throw) as interruption,
            ):
                call(on)
            users = outcome_of(in_thread(on.users))
            return interruption, users, ["old"] * SLOTS

    assert faults(check) == {}


def test_an_association_that_a_handler_ends_can_be_made_again(stage: MakeStage) -> None:
    def check(step: int) -> tuple[Interruption, object, object]:
        with stage() as on:
            interruption = attempt(lambda: on.port.associate(on.one, POLLOUT), step)
            on.port.associate(on.one, POLLOUT, "again")
            return interruption, outcome(on.users), ["again"]

    assert faults(check) == {}


@pytest.mark.parametrize("prepare", PREPARATIONS)
@pytest.mark.parametrize("retrieve", RETRIEVALS.values(), ids=RETRIEVALS)
def test_what_a_handler_sends_during_a_retrieval_arrives(
    stage: MakeStage,
    prepare: Callable[[Stage], list[str]],
    retrieve: Callable[[Port], list[PortEvent]],
) -> None:
    def check(step: int) -> tuple[Interruption, object, object]:
        with stage() as on:
            users = prepare(on)
            with Interruption(step, lambda: on.port.send(0, "handler")) as interruption:
                got = [event.user for event in retrieve(on.port)]
            got += on.users()
            return interruption, sorted(got), sorted([*users, "handler"])

    assert faults(check) == {}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_a_handler_sends_during_a_call_arrives(
    stage: MakeStage, change: Callable[[Stage], object]
) -> None:
    def check(step: int) -> tuple[Interruption, object, object]:
        with stage() as on:
            on.mix()
            with Interruption(step, lambda: on.port.send(0, "handler")) as interruption:
                change(on)
            on.port.alert(0)
            return interruption, on.users().count("handler"), 1

    assert faults(check) == {}


def test_a_send_that_a_handler_ends_leaves_waiting_threads_as_they_are(
    stage: MakeStage, every: int
) -> None:
    def check(step: int) -> tuple[Interruption, object, object]:
        with stage() as on:
            getters = [waiting(on.port.get), waiting(on.port.get)]
            interruption = attempt(lambda: on.port.send(1), step)
            on.port.send(1)
            on.port.send(1)
            return interruption, outcome(lambda: [g.result(2).events for g in getters]), [1, 1]

    assert faults(check, every) == {}


def test_an_alert_that_a_handler_ends_leaves_waiting_threads_as_they_are(
    stage: MakeStage, every: int
) -> None:
    def check(step: int) -> tuple[Interruption, object, object]:
        with stage() as on:
            getters = [waiting(on.port.get), waiting(on.port.get)]
            interruption = attempt(lambda: on.port.alert(1), step)
            on.port.alert(1)
            return interruption, outcome(lambda: [g.result(2).events for g in getters]), [1, 1]

    assert faults(check, every) == {}


def test_a_wait_that_a_handler_ends_as_a_descriptor_becomes_ready_loses_nothing(
    stage: MakeStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(step: int) -> tuple[Interruption, object, object]:
        with stage() as on:
            driver = on.port._backend._driver  # type: ignore[attr-defined]
            wait = driver.wait

            def write_and_wait(timeout: float | None) -> list[tuple[int, int]]:
                if timeout != 0:
                    on.other.send(b"x")
                return wait(timeout)  # type: ignore[no-any-return]

            monkeypatch.setattr(driver, "wait", write_and_wait)
            on.port.associate(on.one, POLLIN, "one")
            interruption = attempt(lambda: on.port.get(SOON), step)
            on.other.send(b"x")  # perhaps it was not yet in the driver
            return interruption, outcome(on.users), ["one"]

    assert faults(check) == {}


def test_a_leader_whom_a_handler_ends_lets_callers_go(
    stage: MakeStage, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    def check(step: int) -> tuple[Interruption, object, object]:
        with stage() as on:
            engine = on.port._backend
            wait = engine._driver.wait  # type: ignore[attr-defined]
            callers: list[Call[int]] = []

            def call_and_wait(timeout: float | None) -> list[tuple[int, int]]:
                if timeout != 0 and not callers:
                    callers.append(in_thread(on.port.pending))
                    while not engine._callers:  # type: ignore[attr-defined]
                        assert not callers[0].over
                return wait(timeout)  # type: ignore[no-any-return]

            monkeypatch.setattr(engine._driver, "wait", call_and_wait)  # type: ignore[attr-defined]
            on.port.associate(on.one, POLLIN, "one")
            interruption = attempt(lambda: on.port.getn(2, 2, 0.02), step)
            return interruption, [outcome_of(caller) for caller in callers], [0] * len(callers)

    assert faults(check, every) == {}


@pytest.mark.parametrize("leads", [True, False], ids=["leader", "follower"])
def test_a_wait_that_a_handler_ends_leaves_another_waiting(
    stage: MakeStage, leads: bool, every: int
) -> None:
    def check(step: int) -> tuple[Interruption, object, object]:
        with stage() as on:
            on.port.associate(on.one, POLLIN, "one")
            others = [] if leads else [waiting(on.port.get)]
            interruption = attempt(lambda: on.port.getn(2, 2, 0.001 if others else 0.03), step)
            if leads:
                others.append(waiting(on.port.get))
            on.other.send(b"x")
            return interruption, outcome(lambda: others[0].result(2).user), "one"

    assert faults(check, every) == {}


def test_a_close_that_a_handler_ends_can_be_repeated(stage: MakeStage, every: int) -> None:
    def check(step: int) -> tuple[Interruption, object, object]:
        with stage() as on:
            on.mix()
            on.port.getn(8, 4)
            getters = [waiting(on.port.get), waiting(on.port.get)]
            interruption = attempt(on.port.close, step)
            on.port.close()
            return interruption, [outcome_of(getter) for getter in getters], [errno.EBADF] * 2

    assert faults(check, every) == {}
