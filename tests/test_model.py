"""The executable model, and that the machine finds out a model which is wrong."""

import errno
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from portcompat import (
    EBADFD,
    POLLHUP,
    POLLIN,
    POLLOUT,
    PORT_ALERT_UPDATE,
    PORT_SOURCE_FD,
    PORT_SOURCE_USER,
    Port,
    PortEvent,
    PortTimeout,
)
from portcompat.conformance._machine import PortMachine
from portcompat.conformance.model import Descriptors, ModelPort, sendn

FD = 7


@pytest.fixture
def descriptors() -> Descriptors:
    return Descriptors()


@pytest.fixture
def port(descriptors: Descriptors) -> ModelPort:
    return ModelPort(descriptors, max_events=2)


def errno_of(call: Any, *arguments: Any, **named: Any) -> int | None:
    with pytest.raises(OSError) as caught:
        call(*arguments, **named)
    number: int | None = caught.value.errno
    return number


def test_messages_come_in_the_order_they_were_sent(port: ModelPort) -> None:
    port.send(1, "one")
    port.send(2, "two")
    assert port.getn(8, 1, 0) == [
        PortEvent(PORT_SOURCE_USER, 0, 1, "one"),
        PortEvent(PORT_SOURCE_USER, 0, 2, "two"),
    ]


def test_an_empty_port_has_nothing_for_a_wait_of_no_time(port: ModelPort) -> None:
    with pytest.raises(PortTimeout):
        port.get(0)
    assert port.getn(8, 8, 0) == []


def test_what_becomes_ready_fires_once(descriptors: Descriptors, port: ModelPort) -> None:
    descriptors.set(FD, 0)
    port.associate(FD, POLLIN, "user")
    assert port.pending() == 0
    descriptors.set(FD, POLLIN | POLLOUT)
    descriptors.set(FD, POLLHUP)
    assert port.get(0) == PortEvent(PORT_SOURCE_FD, FD, POLLIN, "user")
    assert port.pending() == 0


def test_a_retrieved_association_keeps_its_slot(descriptors: Descriptors, port: ModelPort) -> None:
    descriptors.set(FD, POLLOUT)
    port.associate(FD, POLLOUT)
    port.get(0)
    port.send(0)
    assert errno_of(port.send, 0) == errno.EAGAIN
    assert errno_of(port.dissociate, FD) == errno.ENOENT
    port.send(0)


def test_a_number_that_is_closed_is_forgotten(descriptors: Descriptors, port: ModelPort) -> None:
    descriptors.set(FD, POLLOUT)
    port.associate(FD, POLLOUT)
    descriptors.close(FD)
    assert port.pending() == 0
    assert errno_of(port.dissociate, FD) == EBADFD
    descriptors.set(FD, POLLOUT)
    assert errno_of(port.dissociate, FD) == errno.ENOENT


def test_an_alert_hides_the_queue_and_is_not_counted(port: ModelPort) -> None:
    port.send(1)
    port.alert(5)
    assert errno_of(port.alert, 6, flags=PORT_ALERT_UPDATE) == errno.EBUSY
    assert [event.events for event in port.getn(8, 2, 0)] == [5]
    assert port.pending() == 1
    port.alert(0)
    assert port.get(0).events == 1


def test_a_closed_port_is_told_of_nothing(descriptors: Descriptors, port: ModelPort) -> None:
    descriptors.set(FD, 0)
    port.associate(FD, POLLIN)
    port.close()
    descriptors.set(FD, POLLIN)
    assert port.queue == []
    assert errno_of(port.pending) == errno.EBADF


def test_each_of_many_ports_has_an_answer(descriptors: Descriptors) -> None:
    small, closed = ModelPort(descriptors, 1), ModelPort(descriptors, 1)
    closed.close()
    assert sendn([small, closed, small], 1) == (1, [0, errno.EBADF, errno.EAGAIN])
    assert errno_of(sendn, [], 1) == errno.EINVAL


def test_the_model_has_the_methods_of_a_port() -> None:
    methods = {name for name in dir(ModelPort) if not name.startswith("_")}
    assert methods - set(dir(Port)) == {"notice", "forget", "is_full"}


# Broken models, each wrong about one rule, in the place of a port under test.


class OrderForgotten(ModelPort):  # R088
    def associate(self, fd: int, events: int, user: object = None) -> None:
        known, queue = self.associations.get(fd), list(self.queue)
        super().associate(fd, events, user)
        old = [event for event in queue if event.source == PORT_SOURCE_FD and event.object == fd]
        if known and old and not self.associations[fd].active:
            queue[queue.index(old[0])] = self.queue[-1]
            self.queue = queue


class FiresAgain(ModelPort):  # R096
    def get(self, timeout: Any) -> PortEvent:
        event = super().get(timeout)
        if event.source == PORT_SOURCE_FD:
            self.associations[event.object].active = True
            self.notice(event.object)
        return event


class HangUpOnlyIfAsked(ModelPort):  # R098
    def notice(self, fd: int) -> None:
        known = self.associations.get(fd)
        if known and self._descriptors.ready[fd] & known.events:
            super().notice(fd)


class AsksAgainAtRetrieval(ModelPort):  # R101
    def getn(self, max: int, nget: int, timeout: Any) -> list[PortEvent]:
        if not self.closed:
            ready = self._descriptors.ready
            self.queue = [
                event
                for event in self.queue
                if event.source != PORT_SOURCE_FD or ready[event.object] & event.events
            ]
        return super().getn(max, nget, timeout)


class KeepsTheFirstUser(ModelPort):  # R102
    def associate(self, fd: int, events: int, user: object = None) -> None:
        known = self.associations.get(fd)
        super().associate(fd, events, known.user if known else user)


class ForgetsAtRetrieval(ModelPort):  # R108
    def get(self, timeout: Any) -> PortEvent:
        event = super().get(timeout)
        if event.source == PORT_SOURCE_FD:
            self.forget(event.object)
        return event


class OutlivesItsNumber(ModelPort):  # R112, R115
    def forget(self, fd: int) -> None:
        if fd in self._descriptors.ready:
            super().forget(fd)


class KeepsTheEventOfWhatIsDissociated(ModelPort):  # R120
    def dissociate(self, fd: int) -> None:
        queue = list(self.queue)
        super().dissociate(fd)
        self.queue = queue


class TakesNoMoreThanWasWaitedFor(ModelPort):  # R132
    def getn(self, max: int, nget: int, timeout: Any) -> list[PortEvent]:
        return super().getn(min(max, nget) or max, nget, timeout)


class CountsTheAlert(ModelPort):  # R176
    def pending(self) -> int:
        return super().pending() + (self.alerted is not None)


class AlertIsConsumed(ModelPort):  # R171
    def getn(self, max: int, nget: int, timeout: Any) -> list[PortEvent]:
        events = super().getn(max, nget, timeout)
        if events:
            self.alerted = None
        return events


class AnyUpdateIsBusy(ModelPort):  # R170
    def alert(self, events: int, user: object = None, *, flags: int = 1) -> None:
        super().alert(events, user, flags=flags & 3 or flags)


class OneSlotTooMany(ModelPort):  # R079
    def is_full(self) -> bool:
        return len(self.associations) + len(self.queue) > self.max_events


class LastInFirstOut(ModelPort):  # R084
    def get(self, timeout: Any) -> PortEvent:
        self.queue.reverse()
        try:
            return super().get(timeout)
        finally:
            self.queue.reverse()


WRONG = ModelPort.__subclasses__()


def machine_of(kind: type[ModelPort]) -> type[PortMachine]:
    class Machine(PortMachine):
        features = frozenset({"hangup", "bands", "rdhup"})

        def make_port(self, max_events: int) -> ModelPort:
            return kind(self.descriptors, max_events)

        def sendn(self, ports: Sequence[Any], events: int, user: object) -> tuple[int, list[int]]:
            return sendn(ports, events, user)

    return Machine


def run(kind: type[ModelPort], examples: int) -> None:
    run_state_machine_as_test(
        machine_of(kind),
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            deadline=None,
            derandomize=True,  # by chance some take a minute to be found, which shows nothing
            database=None,
            phases=[Phase.generate],
            suppress_health_check=[
                HealthCheck.too_slow,
                HealthCheck.filter_too_much,
                HealthCheck.data_too_large,
            ],
        ),
    )


def test_the_model_agrees_with_itself() -> None:
    run(ModelPort, examples=50)


@pytest.mark.deadline(300)
@pytest.mark.parametrize("kind", WRONG, ids=lambda kind: kind.__name__)
def test_a_wrong_model_is_found_out(kind: type[ModelPort]) -> None:
    with pytest.raises(AssertionError, match="the port says"):
        run(kind, examples=5_000)
