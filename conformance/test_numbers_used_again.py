"""Descriptors that close and numbers that are used again, at random: no event goes astray."""

import errno
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from portcompat import POLLIN, PORT_SOURCE_FD, Port, PortEvent
from portcompat.conformance import rule
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._lives import Kind, Life

Scale = Callable[[int, int, int], int]

KINDS: list[Kind] = ["socket", "pipe"]
LIVING = 12
"""How many lives there are at once; their numbers are used again and again."""

PAST = 24
"""How many files go on under a dup after their descriptor was closed."""


class Cookie:
    """What a life is associated with: one for each association."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.over = False  # so long ago that no event may come any more

    def __repr__(self) -> str:
        return f"<cookie of {self.life.number}, {'fed' if self.life.fed else 'never fed'}>"


class World:
    """Descriptors that come and go at random, and the events that a port owes for them."""

    def __init__(self, port: Port, seed: int, dups: str) -> None:
        self.port = port
        self.random = random.Random(seed)
        self.dups = dups
        self.living: list[Life] = []
        self.past: list[Life] = []
        self.cookies: dict[Life, Cookie] = {}  # the association of each life that has one
        self.withdrawn: list[Cookie] = []  # by closing, dissociating or associating anew
        self.refused: list[Cookie] = []  # dissociated when they had been retrieved

    def step(self) -> None:
        """Do one thing at random."""
        acts = [self.open, self.associate, self.associate, self.feed, self.feed_the_past]
        acts += [self.close, self.close, self.dissociate]
        self.random.choice(acts)()

    def open(self) -> None:
        if len(self.living) < LIVING:
            self.living.append(Life(self.random.choice(KINDS)))

    def associate(self) -> None:
        if self.living:
            life = self.random.choice(self.living)
            former = self.cookies.get(life)
            cookie = self.cookies[life] = Cookie(life)
            self.port.associate(life, POLLIN, cookie)
            if former is not None:
                self.withdrawn.append(former)

    def dissociate(self) -> None:
        if self.living:
            cookie = self.cookies.pop(self.random.choice(self.living), None)
            if cookie is not None:
                try:
                    self.port.dissociate(cookie.life)
                    self.withdrawn.append(cookie)
                except OSError as error:
                    if error.errno != errno.ENOENT:
                        raise
                    self.refused.append(cookie)

    def feed(self) -> None:
        if self.living:
            self.random.choice(self.living).feed()

    def feed_the_past(self) -> None:
        """Make an old file readable; under a number that means something else by now."""
        if self.past:
            self.random.choice(self.past).feed()

    def close(self) -> None:
        if self.living:
            life = self.living.pop(self.random.randrange(len(self.living)))
            keep = self.dups == "dups alive" or (self.dups == "some" and self.random.random() < 0.5)
            life.close(keep_dup=keep)
            cookie = self.cookies.pop(life, None)
            if cookie is not None:
                self.withdrawn.append(cookie)
            self.past.append(life)
            if len(self.past) > PAST:
                self.past.pop(0).end()

    def owed(self) -> list[Cookie]:
        return [cookie for cookie in self.cookies.values() if cookie.life.fed]

    def end(self) -> None:
        for life in self.living + self.past:
            life.end()


def check(event: PortEvent) -> None:
    """What holds of each event whenever it is retrieved."""
    cookie = event.user
    assert event.source == PORT_SOURCE_FD
    assert event.object == cookie.life.number, f"{cookie} told of {event.object}"
    assert event.events == POLLIN
    assert cookie.life.fed, f"{cookie}: nothing was ever written to it"


@rule("R112", "R113", "R114", "R115", "R102")
@pytest.mark.deadline(3_600)
@pytest.mark.parametrize("dups", ["no dups", "dups alive", "some"])
@pytest.mark.parametrize("at_most", [1, 3, 64])
def test_events_are_those_owed_and_no_others(
    port: Port, scale: Scale, dups: str, at_most: int
) -> None:
    world = World(port, seed=at_most, dups=dups)
    try:
        for _ in range(scale(300, 5_000, 100_000)):
            for _ in range(world.random.randrange(12)):
                world.step()
            owed = world.owed()
            events = port.getn(at_most, 1, 0)
            assert len(events) == min(at_most, len(owed))
            for event in events:
                check(event)
                assert world.cookies.pop(event.user.life) is event.user
            assert world.refused == []
    finally:
        world.end()


@rule("R112", "R114", "R115", "R146")
@pytest.mark.parametrize("dups", ["no dups", "dups alive"])
def test_the_count_is_of_the_events_owed(port: Port, scale: Scale, dups: str) -> None:
    world = World(port, seed=7, dups=dups)
    try:
        for _ in range(scale(300, 5_000, 100_000)):
            world.step()
            assert port.pending() == len(world.owed())
            if world.random.random() < 0.2:
                for event in port.getn(2, 1, 0):
                    check(event)
                    del world.cookies[event.user.life]
    finally:
        world.end()


@rule("R085", "R112", "R114", "R115")
@pytest.mark.deadline(3_600)
@pytest.mark.parametrize("dups", ["no dups", "dups alive", "some"])
@pytest.mark.parametrize("at_most", [1, 8])
def test_no_event_goes_astray_while_another_thread_retrieves(
    port: Port, scale: Scale, dups: str, at_most: int
) -> None:
    world = World(port, seed=at_most, dups=dups)
    taken: list[Cookie] = []
    end = object()

    def take_once(timeout: float) -> bool:
        """Whether to go on."""
        events = port.getn(at_most, 1, timeout)
        for event in events:
            if event.source == PORT_SOURCE_FD:
                check(event)
                assert not event.user.over, f"{event.user} came long after it was withdrawn"
                taken.append(event.user)
            elif event.user is not end:
                for cookie in event.user:  # withdrawn before this was sent
                    cookie.over = True
        return bool(events) and all(event.user is not end for event in events)

    def take() -> None:
        while take_once(SOON):
            pass

    with ThreadPoolExecutor(1) as pool:
        taking = pool.submit(take)
        try:
            for _ in range(scale(300, 5_000, 100_000)):
                for _ in range(world.random.randrange(8)):
                    world.step()
                port.send(0, world.withdrawn)
                world.withdrawn = []
                if taking.done():
                    break
            owed = world.owed()
        finally:
            port.send(0, end)
            try:
                taking.result(SOON)
                while take_once(0):
                    pass
            finally:
                world.end()
    assert len(set(taken)) == len(taken), "an event was delivered twice"
    assert set(taken) >= set(owed)
    assert set(taken) >= set(world.refused)
