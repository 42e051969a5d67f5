"""Random scripts of associations of every trigger, against a model of a few lines (X001-X006)."""

import errno
from collections.abc import Callable
from contextlib import ExitStack
from random import Random

import pytest

from portcompat import POLLIN, Port, Trigger
from portcompat.conformance import needs, rule
from portcompat.conformance._descriptors import socket_pair
from portcompat.conformance._errors import errno_of

Scale = Callable[[int, int, int], int]

ONESHOT, LEVEL, EDGE = Trigger
COUNT = 5
STEPS = 60


class Watched:
    """A socket, and what the model knows of it."""

    def __init__(self, number: int, stack: ExitStack) -> None:
        self.number = number
        self.ours, self.theirs = stack.enter_context(socket_pair())
        self.unread = 0
        self.trigger: Trigger | None = None
        self.user = ""
        self.due = False  # of ONESHOT and EDGE: there is something to tell when it is readable
        self.was_ready = False  # and it was readable meanwhile, so it may have been queued

    def feed(self) -> None:
        self.theirs.send(b"x")
        self.unread += 1
        self.due = self.due or self.trigger is EDGE
        self.was_ready = self.due

    def drain(self) -> None:
        if self.unread:
            self.ours.recv(self.unread)
        self.unread = 0

    def must_be_told(self) -> bool:
        return bool(self.unread) and (self.trigger is LEVEL or self.due)

    def may_be_told(self) -> bool:
        return self.must_be_told() or (self.due and self.was_ready)

    def told(self) -> None:
        self.due = self.was_ready = False
        if self.trigger is ONESHOT:
            self.trigger = None

    def associate(self, port: Port, trigger: Trigger, user: str) -> None:
        port.associate(self.ours, POLLIN, user, trigger=trigger)
        self.trigger, self.user, self.due = trigger, user, trigger is not LEVEL
        self.was_ready = self.due and bool(self.unread)

    def dissociate(self, port: Port) -> None:
        was = self.trigger
        error = errno_of(port.dissociate, self.ours)
        assert error == (errno.ENOENT if was is None else None)
        self.trigger, self.due, self.was_ready = None, False, False


@needs("level")
@rule("X001", "X002", "X003", "X005", "X006")
@pytest.mark.parametrize("most", [COUNT, 2])
def test_every_script_tells_what_the_model_tells(port: Port, scale: Scale, most: int) -> None:
    triggers = [each for each in Trigger if each is not EDGE or "edge" in port.features]
    for seed in range(scale(40, 1_000, 20_000)):
        chance = Random(seed)
        with ExitStack() as stack:
            watched = [Watched(number, stack) for number in range(COUNT)]
            by_number = {each.ours.fileno(): each for each in watched}
            for step in range(STEPS):
                one = chance.choice(watched)
                match chance.randrange(8):
                    case 0 | 1:
                        one.feed()
                    case 2:
                        one.drain()
                    case 3:
                        one.associate(port, chance.choice(triggers), f"{seed} {step}")
                    case 4:
                        one.dissociate(port)
                    case _:
                        must = {each.number for each in watched if each.must_be_told()}
                        may = {each.number for each in watched if each.may_be_told()}
                        found = port.getn(most, most, 0)  # so it looks, whatever is queued
                        told = [by_number[event.object] for event in found]
                        numbers = {each.number for each in told}
                        assert len(numbers) == len(told) <= most, (seed, step)
                        assert len(told) >= min(most, len(must)), (seed, step)
                        assert numbers <= may, (seed, step)
                        assert must <= numbers or most < COUNT, (seed, step)
                        assert [event.user for event in found] == [each.user for each in told]
                        for each in told:
                            each.told()
            for each in watched:
                each.dissociate(port)
            assert port.pending() == 0
