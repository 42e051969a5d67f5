"""The same scripts on the simulated driver and on real ones: the same events at the same times.

Time goes in slots of six ticks. What a script does it does at the first tick of a slot, and its
timers, up to three, expire at the second, the fourth and the sixth. So there is no doubt about
what comes first, on a machine that is not late by a tick; and on one that is, ticks are longer the
next time.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from portcompat import POLLIN, PORT_SOURCE_TIMER, Port
from portcompat.backends.simulated import BACKEND, Simulation
from portcompat.conformance._descriptors import pipe
from portcompat.timers import Timer

SLOT: Final = 6
TICKS: Final = (
    4_000_000,
    16_000_000,
    64_000_000,
    256_000_000,
)  # nanoseconds
FD: Final = 100_000
CLOCKS: Final = tuple(
    getattr(time, name)
    for name in ("CLOCK_MONOTONIC", "CLOCK_REALTIME", "CLOCK_BOOTTIME")
    if hasattr(time, name)
)

Operation = tuple[Any, ...]
"""One of
("set", timer, clock, slots, period): expire in so many slots, and every `period` slots again;
("set at", timer, clock, slots, period): the same, by an absolute time;
("past", timer, clock, periods): as if set so many periods of a slot ago;
("cancel", timer), ("delete", timer), ("read", timer),
("associate", number), ("ready", number), ("send", number),
("sleep", slots): do nothing, and ("take",): what is queued then,
("collect", slots): retrieve each event as it comes.
"""


@dataclass
class RealWorld:
    """A port of the host, and files."""

    backend: str
    files: ExitStack = field(default_factory=ExitStack)
    pipes: dict[int, Any] = field(default_factory=dict)

    def now(self, clock: int) -> int:
        return time.clock_gettime_ns(clock)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def descriptor(self, number: int) -> int:
        if number not in self.pipes:
            self.pipes[number] = self.files.enter_context(pipe())
        return int(self.pipes[number][0].fileno())

    def make_ready(self, number: int) -> None:
        self.descriptor(number)
        self.pipes[number][1].write(b"x")


@dataclass
class VirtualWorld:
    """A port of a simulation, and descriptors of it."""

    simulation: Simulation
    backend: str = BACKEND

    def now(self, clock: int) -> int:
        return self.simulation.now(clock)

    def sleep(self, seconds: float) -> None:
        self.simulation.sleep(seconds)

    def descriptor(self, number: int) -> int:
        if FD + number not in self.simulation._descriptors:
            self.simulation.set(FD + number, 0)
        return FD + number

    def make_ready(self, number: int) -> None:
        self.simulation.set(FD + number, POLLIN)


@contextmanager
def real_world(backend: str) -> Iterator[RealWorld]:
    world = RealWorld(backend)
    with world.files:
        yield world


@contextmanager
def virtual_world() -> Iterator[VirtualWorld]:
    with Simulation(patience=None) as simulation:
        yield VirtualWorld(simulation)


class Run:
    """A script under way in one of the worlds."""

    def __init__(self, world: RealWorld | VirtualWorld, port: Port, tick: int) -> None:
        self.world, self.port, self.tick = world, port, tick
        self.start = world.now(time.CLOCK_MONOTONIC) - tick  # the first operation is at tick 1
        self.slot = 0
        self.timers: dict[int, Timer] = {}
        self.settings: dict[int, tuple[int, int, int]] = {}  # clock, first expiry, period
        self.former: dict[int, int] = {}  # how often it can have expired by former settings
        self.told_of: dict[int, int] = {}
        self.seen: list[object] = []

    def do(self, what: str, *arguments: int) -> None:
        getattr(self, what.replace(" ", "_"))(*arguments)

    def timer(self, number: int, clock: int) -> Timer:
        known = self.timers.get(number)
        if known is not None and (known.clock != clock or known.deleted):
            self.delete(number)
            known = None
        if known is None:
            known = self.timers[number] = self.port.timer(clock, number)
        return known

    def after(self, number: int, slots: int) -> int:
        return (slots * SLOT + 2 * number + 1) * self.tick

    def set(self, number: int, clock: int, slots: int, period: int) -> None:
        span, every = self.after(number, slots), period * SLOT * self.tick
        timer = self.timer(number, clock)
        moment = self.world.now(clock) + span
        timer.set(after_ns=span, every_ns=every)
        self.replace(number, (clock, moment, every))

    def set_at(self, number: int, clock: int, slots: int, period: int) -> None:
        every = period * SLOT * self.tick
        timer = self.timer(number, clock)
        moment = self.world.now(clock) + self.after(number, slots)
        timer.set(at_ns=moment, every_ns=every)
        self.replace(number, (clock, moment, every))

    def past(self, number: int, clock: int, periods: int) -> None:
        every = SLOT * self.tick
        timer = self.timer(number, clock)
        moment = self.world.now(clock) + self.after(number, 0) - periods * every
        timer.set(at_ns=moment, every_ns=every)
        self.replace(number, (clock, moment, every))

    def cancel(self, number: int) -> None:
        if number in self.timers:
            self.timers[number].cancel()
            self.replace(number, None)

    def replace(self, number: int, setting: tuple[int, int, int] | None) -> None:
        self.former[number] = self.most(number)
        self.settings.pop(number, None)
        if setting is not None:
            self.settings[number] = setting

    def most(self, number: int) -> int:
        """How often the timer can have expired."""
        passed = self.former.get(number, 0)
        if number in self.settings:
            clock, first, every = self.settings[number]
            late = self.world.now(clock) - first
            if late >= 0:
                passed += 1 + (late // every if every else 0)
        return passed

    def delete(self, number: int) -> None:
        if number in self.timers:
            self.timers.pop(number).delete()
            for table in (self.settings, self.former, self.told_of):
                table.pop(number, None)

    def read(self, number: int) -> None:
        if number in self.timers:
            timer = self.timers[number]
            left = (timer.remaining_ns + self.tick // 2) // self.tick  # it was set a little late
            self.seen.append(("read", number, left, timer.interval_ns // self.tick))

    def associate(self, number: int) -> None:
        self.port.associate(self.world.descriptor(number), POLLIN, f"descriptor {number}")

    def ready(self, number: int) -> None:
        self.world.descriptor(number)
        self.world.make_ready(number)

    def send(self, number: int) -> None:
        self.port.send(number, "message")

    def sleep(self, slots: int) -> None:
        self.slot += slots
        self.world.sleep(self.left() / 1e9)

    def take(self) -> None:
        self.seen.append(("take", [self.told(event) for event in self.port.getn(64, 1, 0)]))

    def collect(self, slots: int) -> None:
        self.slot += slots
        while (left := self.left()) > 0:
            for event in self.port.getn(1, 1, left / 1e9):
                self.seen.append((self.ticks(), self.told(event)))

    def told(self, event: Any) -> tuple[object, int]:
        if event.source == PORT_SOURCE_TIMER:
            self.told_of[event.user] = self.told_of.get(event.user, 0) + event.events
            assert self.told_of[event.user] <= self.most(event.user), "it came early"
        return event.user, event.events

    def ticks(self) -> int:
        return (self.world.now(time.CLOCK_MONOTONIC) - self.start) // self.tick

    def left(self) -> int:
        """Nanoseconds to the first tick of the slot."""
        moment = self.start + (self.slot * SLOT + 1) * self.tick
        return max(0, moment - self.world.now(time.CLOCK_MONOTONIC))


def run(script: list[Operation], world: RealWorld | VirtualWorld, tick: int) -> list[object]:
    with Port(world.backend) as port:
        script_run = Run(world, port, tick)
        for operation in script:
            script_run.do(*operation)
        script_run.collect(1)
        script_run.take()
        for number in list(script_run.timers):
            script_run.delete(number)
    return script_run.seen


def in_any_order(seen: list[object]) -> list[object]:
    """Descriptors that were told of one after the other, in a fixed order.

    poll(2) and select(2) tell which are ready and not which was first.
    """

    def is_descriptor(entry: Any) -> bool:
        return str(entry[-1][0] if isinstance(entry[-1], tuple) else entry[0]).startswith("desc")

    ordered: list[object] = []
    for together, entries in groupby(seen, is_descriptor):
        run = [
            (e[0], in_any_order(e[1])) if isinstance(e, tuple) and e[0] == "take" else e
            for e in entries
        ]
        ordered += sorted(run, key=str) if together else run
    return ordered


def agree(script: list[Operation], backend: str) -> list[object]:
    """Run it in both worlds; what both saw."""
    virtual: list[object] = []
    real: list[object] = []
    for tick in TICKS:
        with virtual_world() as simulated:
            virtual = run(script, simulated, tick)
        with real_world(backend) as host:
            real = run(script, host, tick)
        if backend != "epoll":
            virtual, real = in_any_order(virtual), in_any_order(real)
        if real == virtual:
            break
    assert real == virtual
    return virtual


MONOTONIC, REALTIME = CLOCKS[:2]

SCRIPTS: Final[dict[str, tuple[list[Operation], list[object]]]] = {
    "a timer expires at its time": (
        [("set", 0, MONOTONIC, 1, 0), ("collect", 2)],
        [(8, (0, 1)), ("take", [])],
    ),
    "timers expire in the order of their times, whatever their clocks": (
        [
            ("set", 2, MONOTONIC, 0, 0),
            ("set", 0, REALTIME, 1, 0),
            ("set", 1, REALTIME, 0, 0),
            ("collect", 2),
        ],
        [(4, (1, 1)), (6, (2, 1)), (8, (0, 1)), ("take", [])],
    ),
    "who is slow is told how often": (
        [("set", 1, MONOTONIC, 0, 1), ("sleep", 5), ("take",), ("sleep", 2), ("take",)],
        [("take", [(1, 5)]), ("take", [(1, 2)]), (46, (1, 1)), ("take", [])],
    ),
    "what began in the past has expired at every boundary": (
        [("past", 0, REALTIME, 7), ("take",), ("cancel", 0)],
        [("take", [(0, 7)]), ("take", [])],
    ),
    "a timer that is cancelled keeps what it had told": (
        [("set", 0, MONOTONIC, 0, 1), ("sleep", 2), ("cancel", 0), ("sleep", 2), ("take",)],
        [("take", [(0, 2)]), ("take", [])],
    ),
    "a timer that is deleted takes it back": (
        [("set", 0, MONOTONIC, 0, 1), ("sleep", 2), ("delete", 0), ("take",)],
        [("take", []), ("take", [])],
    ),
    "a timer that is set anew adds to what it had told": (
        [
            *(("set", 0, MONOTONIC, 0, 1), ("sleep", 2), ("set", 0, MONOTONIC, 3, 0)),
            *(("read", 0), ("sleep", 4), ("read", 0), ("take",)),
        ],
        [("read", 0, 19, 0), ("read", 0, 0, 0), ("take", [(0, 3)]), ("take", [])],
    ),
    "timers, descriptors and messages are in one line": (
        [
            *(("associate", 1), ("set", 0, MONOTONIC, 0, 0), ("set", 2, REALTIME, 1, 2)),
            *(("sleep", 1), ("send", 5), ("ready", 1), ("sleep", 1), ("send", 6), ("take",)),
        ],
        # Enough is queued without the descriptor, so nobody asks for it.
        [
            ("take", [(0, 1), ("message", 5), (2, 1), ("message", 6)]),
            *((13, ("descriptor 1", 1)), ("take", [])),
        ],
    ),
    "an absolute time is one of its clock": (
        [("set at", 0, REALTIME, 1, 1), ("set at", 1, MONOTONIC, 1, 2), ("collect", 4)],
        [
            *((8, (0, 1)), (10, (1, 1)), (14, (0, 1)), (20, (0, 1)), (22, (1, 1))),
            *((26, (0, 1)), ("take", [])),
        ],
    ),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs_the_same_in_both_worlds(backend: str, name: str) -> None:
    script, expected = SCRIPTS[name]
    assert agree(script, backend) == expected


numbers = st.integers(0, 2)
clocks = st.sampled_from(CLOCKS)
few = st.integers(0, 2)
operations = st.one_of(
    st.tuples(st.sampled_from(["set", "set at"]), numbers, clocks, few, few),
    st.tuples(st.just("past"), numbers, clocks, st.integers(1, 5)),
    st.tuples(st.sampled_from(["cancel", "delete", "read"]), numbers),
    st.tuples(st.sampled_from(["associate", "ready", "send"]), numbers),
    st.tuples(st.sampled_from(["sleep", "collect"]), st.integers(1, 2)),
    st.just(("take",)),
)


@pytest.mark.deadline(400)  # to shorten a script that fails takes Hypothesis up to five minutes
def test_any_script_runs_the_same_in_both_worlds(backend: str, scale: Any) -> None:
    @settings(
        max_examples=scale(15, 300, 5_000),
        deadline=None,
        database=None,
        print_blob=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.lists(operations, min_size=3, max_size=16))
    def check(script: list[Operation]) -> None:
        agree(script, backend)

    check()
