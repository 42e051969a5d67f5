"""The same random scripts through a PortSelector and the standard EpollSelector: the same answers.

Not compared is the order of what is ready, and the words of the errors.
"""

import math
import selectors as standard
import socket
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from portcompat.selectors import EVENT_READ, EVENT_WRITE, PortSelector

Scale = Callable[[int, int, int], int]
Twins = tuple[PortSelector, standard.BaseSelector]

COUNT = 4
STEPS = 150
EVENTS = (EVENT_READ, EVENT_WRITE, EVENT_READ | EVENT_WRITE, EVENT_READ, 0, 4, -1)
DATA = (None, "data", 7)
TIMEOUTS = (0, -1, 0.001, -math.inf, False, 0.0)


@pytest.fixture
def twins(backend: str) -> Iterator[Twins]:
    if not hasattr(standard, "EpollSelector"):
        pytest.skip("this host has no EpollSelector")
    with PortSelector(backend=backend) as ours, standard.EpollSelector() as theirs:
        yield ours, theirs


class Number:
    """Something with a fileno()."""

    def __init__(self, socket: socket.socket) -> None:
        self.socket = socket

    def fileno(self) -> int:
        return self.socket.fileno()


class Pairs:
    """Sockets that come and go, always at the same places."""

    def __init__(self) -> None:
        self.ends = [socket.socketpair() for _ in range(COUNT)]
        for near, _ in self.ends:
            near.setblocking(False)

    def feed(self, place: int) -> None:
        self.ends[place][1].send(b"x")

    def drain(self, place: int) -> None:
        try:
            self.ends[place][0].recv(1 << 16)
        except BlockingIOError:
            pass

    def hang_up(self, place: int) -> None:
        self.ends[place][1].shutdown(socket.SHUT_WR)

    def renew(self, place: int) -> None:
        """Close it, and open another, which is likely to have the same number."""
        for end in self.ends[place]:
            end.close()
        self.ends[place] = socket.socketpair()
        self.ends[place][0].setblocking(False)

    def close(self) -> None:
        for near, far in self.ends:
            near.close()
            far.close()


def outcome(call: Callable[[], object]) -> object:
    """What a call returns or raises, so that two of them can be compared."""
    try:
        found = call()
    except OSError as error:
        return OSError, error.errno
    except Exception as error:
        return type(error)
    if isinstance(found, list):
        return sorted(
            (key.fd, key.fileobj is not None, key.events, key.data, e) for key, e in found
        )
    return tuple(found) if isinstance(found, standard.SelectorKey) else found


def same(twins: Twins, call: Callable[[standard.BaseSelector], object], what: object) -> object:
    ours, theirs = (outcome(lambda each=each: call(each)) for each in twins)  # type: ignore[misc]
    assert ours == theirs, what
    return ours


def test_every_script_has_the_same_answers(backend: str, scale: Scale) -> None:
    if not hasattr(standard, "EpollSelector"):
        pytest.skip("this host has no EpollSelector")
    for seed in range(scale(20, 500, 10_000)):
        with PortSelector(backend=backend) as ours, standard.EpollSelector() as theirs:
            pairs = Pairs()
            try:
                play((ours, theirs), pairs, Random(seed), seed)
            finally:
                pairs.close()


def play(twins: Twins, pairs: Pairs, chance: Random, seed: int) -> None:
    for step in range(STEPS):
        place = chance.randrange(COUNT)
        near = pairs.ends[place][0]
        file: Any = chance.choice([near, near, near, near.fileno(), Number(near)])
        events, data = chance.choice(EVENTS), chance.choice(DATA)
        what: object = (seed, step)
        match chance.randrange(12):
            case 0:
                pairs.feed(place)
            case 1:
                pairs.drain(place)
            case 2 | 3:
                same(twins, lambda s: s.register(file, events, data), what)  # noqa: B023
            case 4:
                # What modify makes of events that are none differs among the standard ones.
                events = chance.choice(EVENTS[:3])
                same(twins, lambda s: s.modify(file, events, data), what)  # noqa: B023
            case 5:
                same(twins, lambda s: s.unregister(file), what)  # noqa: B023
            case 6:
                same(twins, lambda s: s.get_key(file), what)  # noqa: B023
                same(twins, lambda s: tuple(sorted(map(str, s.get_map()))), what)
                same(twins, lambda s: len(s.get_map()), what)
                same(twins, lambda s: file in s.get_map(), what)  # noqa: B023
            case 7 if chance.random() < 0.3:
                same(twins, lambda s: s.unregister(file), what)  # noqa: B023
                pairs.renew(place)
            case 8 if chance.random() < 0.1:
                pairs.hang_up(place)
                pairs.ends[place][1].close()
                same(twins, lambda s: s.select(0), what)
                same(twins, lambda s: s.unregister(near), what)  # noqa: B023
                pairs.renew(place)
            case _:
                timeout = chance.choice(TIMEOUTS)
                found = same(twins, lambda s: s.select(timeout), what)  # noqa: B023
                if found:
                    same(twins, lambda s: s.select(), what)


def test_a_socket_that_was_closed_keeps_its_key_and_is_not_reported(twins: Twins) -> None:
    near, far = socket.socketpair()
    with near, far:
        same(twins, lambda s: s.register(near, EVENT_READ, "data"), "register")
        far.send(b"x")
        same(twins, lambda s: s.select(0), "ready")
        number = near.fileno()
        near.close()
        assert same(twins, lambda s: s.select(0), "closed") == []
        same(twins, lambda s: s.get_key(near), "the key of a closed socket")
        same(twins, lambda s: s.get_key(number), "and by its number")
        same(twins, lambda s: s.modify(near, EVENT_READ, "other"), "other data")
        same(twins, lambda s: s.modify(near, EVENT_WRITE), "other events")
        same(twins, lambda s: s.get_key(near), "no key any more")
        same(twins, lambda s: s.unregister(near), "unregister")


def test_the_next_owner_of_a_number_has_to_be_registered(twins: Twins) -> None:
    for how in ("unregister", "modify"):
        near, far = socket.socketpair()
        number = near.fileno()
        same(twins, lambda s: s.register(near, EVENT_READ, "former"), how)  # noqa: B023
        near.close()
        far.close()
        near, far = socket.socketpair()
        with near, far:
            assert near.fileno() == number
            far.send(b"x")
            same(twins, lambda s: s.register(near, EVENT_READ, "latter"), how)  # noqa: B023
            if how == "modify":
                same(twins, lambda s: s.modify(near, EVENT_WRITE, "latter"), how)  # noqa: B023
            else:
                same(twins, lambda s: s.unregister(near), how)  # noqa: B023
            assert same(twins, lambda s: s.select(0), how) == []
            same(twins, lambda s: s.register(near, EVENT_READ, "latter"), how)  # noqa: B023
            assert same(twins, lambda s: s.select(0), how) != []
            same(twins, lambda s: s.unregister(near), how)  # noqa: B023


@pytest.mark.parametrize(
    "file", [-1, 1 << 40, None, "name", 1.5, object(), True + 10**6, b"", [], Exception]
)
def test_what_is_no_descriptor_is_refused_alike(twins: Twins, file: Any) -> None:
    for name in ("unregister", "modify", "register", "get_key", "unregister"):
        arguments = () if name in ("unregister", "get_key") else (EVENT_READ,)
        same(twins, lambda s: getattr(s, name)(file, *arguments), name)  # noqa: B023
    assert (
        same(twins, lambda s: tuple(sorted(map(str, s.get_map()))), "nothing is registered") == ()
    )


@pytest.mark.parametrize("events", [None, "1", 1.0, [], 0, 8, 1 << 70])
def test_what_is_no_events_is_refused_alike(twins: Twins, events: Any) -> None:
    near, far = socket.socketpair()
    with near, far:
        same(twins, lambda s: s.register(near, events), "register")
        same(twins, lambda s: len(s.get_map()), "how many")


@pytest.mark.parametrize("timeout", [math.nan, math.inf, 1e300, 10**30, "1", [], 1j])
def test_what_is_no_timeout_is_refused_alike(twins: Twins, timeout: Any) -> None:
    same(twins, lambda s: s.select(timeout), "empty")
    near, far = socket.socketpair()
    with near, far:
        far.send(b"x")
        same(twins, lambda s: s.register(near, EVENT_READ), "register")
        same(twins, lambda s: s.select(timeout), "ready")


def test_a_closed_selector_refuses_alike(twins: Twins) -> None:
    near, far = socket.socketpair()
    with near, far:
        for _ in range(2):
            same(twins, lambda s: s.close(), "close")
            same(twins, lambda s: s.get_map(), "map")
            same(twins, lambda s: s.get_key(near), "key")
            same(twins, lambda s: s.unregister(near), "unregister")
