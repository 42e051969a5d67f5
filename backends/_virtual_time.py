"""Clocks that move when everybody waits, or when they are told to."""

import heapq
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from threading import RLock, get_ident
from time import monotonic
from typing import Final, Protocol
from weakref import WeakSet

from portcompat._clocks import CLOCK_MONOTONIC, CLOCK_REALTIME

SECOND: Final = 1_000_000_000

# All different, so that who takes one clock for another is found out.
_START: Final = {CLOCK_MONOTONIC: 1_000 * SECOND, CLOCK_REALTIME: 10**9 * SECOND}
if hasattr(time, "CLOCK_BOOTTIME"):  # Linux only
    _START[time.CLOCK_BOOTTIME] = 5_000 * SECOND

_LOOK_AGAIN: Final = 0.002, 0.032  # real seconds: at first and at last


def pauses() -> Iterator[float]:
    """How long to sleep, in real seconds, before one looks again whether all wait by now.

    Who works will not be done so soon if he was not at first.
    """
    pause, longest = _LOOK_AGAIN
    while True:
        yield pause
        pause = min(2 * pause, longest)


class Sleeper(Protocol):
    """A thread that waits for time to pass, or for something else. Anybody may ask it."""

    thread: int

    def until(self) -> int | None:
        """When it is to go on at the latest, on the monotonic clock; None: whenever."""
        ...

    def is_quiet(self) -> bool:
        """Whether nothing else that it waits for has come to pass."""
        ...

    def poke(self) -> None:
        """Have it look again."""
        ...


class VirtualTime:
    """The clocks, in nanoseconds, and those who wait for them.

    Time stands while anybody works. It moves when all threads wait: to the nearest moment that one
    of them waits for or that something is to happen at, and no further. So a wait of a year takes
    no time, a wait in one thread never ends before what another is about to do, and a program
    that takes turns is as deterministic as its turns are.

    Who waits in here is known (`asleep`). Of any other thread nobody knows what it is about to
    do, it may be in a lock or in the kernel. It is believed to wait when its Python frame has not
    moved, and it has slept, for `patience` real seconds after the last time that anybody went on;
    with None it is never believed. Threads that were there before are bystanders: they do not
    count until they wait in here themselves. A single thread is thus never waited for.

    The thread that finds all others waiting moves the time, and makes the calls that are due, as
    a signal handler would: `send` is always right, see R066. Each that has come to its moment is
    poked; time does not move again until it has gone on.

    The lock protects all but `_now`, which is replaced in one step and read without it. It is
    held while others are asked `is_quiet`, never while anybody waits, and no call is made under it.
    In a fork child time goes on, for the one thread that is there.
    """

    def __init__(self, jumps: bool, patience: float | None, reading: int) -> None:
        self._lock = RLock()
        self._now = dict(_START)
        self._agenda: list[tuple[int, int, Callable[[], object]]] = []
        self._order = count()
        self._sleepers: dict[int, Sleeper] = {}  # by thread: a handler may sleep in a wait
        self._busy = 0  # threads that make calls of the agenda
        self._patience = patience
        self._places: dict[int, tuple[object, float]] = {}  # where other threads were, since when
        self._bystanders = set(sys._current_frames()) - {get_ident()}
        _all.add(self)
        self._jumps = jumps
        self._reading = reading

    def forget_threads(self) -> None:
        """In a fork child: those of the parent are not there, and one may have held the lock."""
        self._lock = RLock()
        self._sleepers.clear()
        self._busy = 0
        self._bystanders.clear()

    @property
    def clocks(self) -> frozenset[int]:
        return frozenset(self._now)

    @property
    def elapsed(self) -> int:
        return self._now[CLOCK_MONOTONIC] - _START[CLOCK_MONOTONIC]

    def now(self, clock: int) -> int:
        return self._now[clock]

    def read(self, clock: int) -> int:
        """`now`, which takes some time itself."""
        if self._reading:
            with self._lock:
                self._now = {other: now + self._reading for other, now in self._now.items()}
        return self._now[clock]

    def moment(self, clock: int, when: int) -> int:
        """When `clock` will show `when`, on the monotonic clock, if nobody sets it."""
        now = self._now
        return when - now[clock] + now[CLOCK_MONOTONIC]

    # By hand

    def pass_by(self, span: int) -> None:
        """Let time pass at once, with what is to happen meanwhile. Who waits comes too late."""
        self._run_to(self._now[CLOCK_MONOTONIC] + span)

    def step(self, clock: int, span: int) -> None:
        """Set a clock forward or back."""
        with self._lock:
            self._now = {**self._now, clock: self._now[clock] + span}
        self.poke_all()

    def call_at(self, elapsed: int, call: Callable[[], object]) -> None:
        """Call it when so much time is over."""
        with self._lock:
            when = _START[CLOCK_MONOTONIC] + elapsed
            heapq.heappush(self._agenda, (when, next(self._order), call))
        self.poke_all()

    # By waiting

    @contextmanager
    def asleep(self, sleeper: Sleeper) -> Iterator[None]:
        """Count its thread among those that wait."""
        with self._lock:
            self._bystanders.discard(sleeper.thread)
            self._sleepers[sleeper.thread] = sleeper
        try:
            yield
        finally:
            with self._lock:
                self._sleepers.pop(sleeper.thread, None)
                self._places.clear()  # what it does now may set others going

    def move(self, sleeper: Sleeper) -> bool:
        """Move on to the next moment, if all wait. `sleeper` has just looked. Whether it did."""
        if not self._jumps:
            return False
        with self._lock:
            self._sleepers[sleeper.thread] = sleeper  # again, if a handler has slept meanwhile
            moments = [
                when for other in self._sleepers.values() if (when := other.until()) is not None
            ]
            if self._agenda:
                moments.append(self._agenda[0][0])
            if not moments or not self._all_wait(sleeper):
                return False
            self._busy += 1
            self._places.clear()
        try:
            self._run_to(min(moments), sleeper)
        finally:
            with self._lock:
                self._busy -= 1
        return True

    def poke_all(self) -> None:
        for sleeper in list(self._sleepers.values()):
            sleeper.poke()

    def _run_to(self, target: int, mover: Sleeper | None = None) -> None:
        while True:
            with self._lock:
                due = bool(self._agenda) and self._agenda[0][0] <= target
                passed = (self._agenda[0][0] if due else target) - self._now[CLOCK_MONOTONIC]
                if passed > 0:
                    self._now = {clock: now + passed for clock, now in self._now.items()}
                call = heapq.heappop(self._agenda)[2] if due else None
            if call is None:
                break
            call()
        now = self._now[CLOCK_MONOTONIC]
        for sleeper in list(self._sleepers.values()):
            if sleeper is not mover and (when := sleeper.until()) is not None and when <= now:
                sleeper.poke()

    def _all_wait(self, asking: Sleeper) -> bool:
        now = self._now[CLOCK_MONOTONIC]
        for sleeper in self._sleepers.values():
            if (when := sleeper.until()) is not None and when <= now:
                return False
            if sleeper is not asking and not sleeper.is_quiet():
                return False
        if self._busy:
            return False
        threads = set(sys._current_frames())
        self._bystanders &= threads
        others = threads - self._bystanders - self._sleepers.keys()
        return not others or self._are_at_rest(others)

    def _are_at_rest(self, threads: set[int]) -> bool:
        if self._patience is None:
            return False
        now = monotonic()
        frames = sys._current_frames()
        native = {thread.ident: thread.native_id for thread in threading.enumerate()}
        rested = True
        for thread in threads & frames.keys():
            frame = frames[thread]
            place = (id(frame), frame.f_lasti, _slices(native.get(thread)))
            known = self._places.get(thread)
            if known is None or known[0] != place:
                self._places[thread] = (place, now)
                rested = False
            elif now - known[1] < self._patience:
                rested = False
        return rested


_all: Final[WeakSet[VirtualTime]] = WeakSet()


def _forget_threads() -> None:
    for each in list(_all):
        each.forget_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


def _slices(native: int | None) -> object:
    """What changes when the thread runs, where the kernel tells; never the same while it could."""
    try:
        with open(f"/proc/self/task/{native}/stat") as stat:
            state = stat.read().rpartition(")")[2].split()[0]
        with open(f"/proc/self/task/{native}/schedstat") as schedstat:
            slices = schedstat.read()
    except OSError:
        return None
    return slices if state == "S" else object()
