"""Virtual time, scripted readiness and scripted faults: anywhere, for tests."""

import math
import os
import select
from _thread import LockType
from collections.abc import Callable
from contextlib import suppress
from errno import EBADF
from threading import Lock, get_ident
from types import TracebackType
from typing import Final, Literal, Self
from weakref import WeakSet

from portcompat._clocks import CLOCK_MONOTONIC, CLOCK_REALTIME
from portcompat._constants import POLLERR, POLLHUP, Trigger
from portcompat.abc import Driver, Renumbered
from portcompat.backends._virtual_time import SECOND, VirtualTime, pauses
from portcompat.backends.poll import PollDriver, SelectDriver

BACKEND: Final = f"{__name__}:SimulatedDriver"

Verb = Literal["arm", "wait", "set_alarm"]

_Files: Final[type[Driver]] = PollDriver if hasattr(select, "poll") else SelectDriver


class _Descriptor:
    """A number that a simulation says everything about."""

    __slots__ = ("always", "bits", "life", "since")

    def __init__(self, life: int) -> None:
        self.life = life  # 0: it is closed
        self.bits = 0
        self.always = False
        self.since = 0  # its place in the order in which they became ready


class Simulation:
    """A world of its own: its clocks, its descriptors, its faults.

    ::

        with Simulation() as simulation, Port(BACKEND) as port:
            simulation.at(3.2, simulation.set, 1005, POLLIN)
            port.associate(1005, POLLIN)
            timer = port.timer()
            timer.set(after=86400)
            port.get()   # 1005 is readable
            port.get()   # the timer; simulation.elapsed is 86400.0, and no time has passed

    The ports that are made in the `with` block live in it, in all threads; outside of any, they
    live in one that lasts as long as the process (`Simulation.current`).

    **Time** (seconds, int or float; what is not a multiple of a nanosecond is rounded). With
    `jumps` it moves when all threads wait, to the next moment that one of them waits for: see
    `VirtualTime`. A single thread is never kept waiting, and is entirely deterministic. Several
    are as far as they wait in ports of the simulation or in `sleep`; for one that waits elsewhere
    (to join another, say) `patience` real seconds are allowed to show that it does, and with None
    it is taken to work for ever. Without `jumps` time moves only by `advance`. A retrieval with
    timeout 0 does not move it; but to read a clock takes `reading` seconds, so that with more than
    0 a loop comes to its time without waiting. CLOCK_MONOTONIC, CLOCK_BOOTTIME and CLOCK_REALTIME
    start far from each other and always at the same times.

    **Descriptors.** `set` makes a number a descriptor of the simulation, with the bits that poll(2)
    would report; take numbers that no file has. All other numbers are the files they are, and
    poll(2) is asked about them. The simulation does not wait for other processes.

    **Faults.** `fail` makes a verb of the drivers fail once, `stray` makes a wait return for
    nothing, or with what means nothing. No wake-up is ever lost: no driver may lose one.

    `advance`, `step` and `at` are not for signal handlers.
    """

    _entered: Final[list["Simulation"]] = []
    _lasting: "Simulation | None" = None

    def __init__(
        self, *, jumps: bool = True, patience: float | None = 0.02, reading: float = 0
    ) -> None:
        self._time = VirtualTime(jumps, patience, _nanoseconds(reading))
        self._descriptors: dict[int, _Descriptor] = {}
        self._count = 0
        self._faults: list[tuple[str, int | None, OSError]] = []
        self._drivers: WeakSet[SimulatedDriver] = WeakSet()

    @classmethod
    def current(cls) -> "Simulation":
        """The one that ports are made in now."""
        if cls._entered:
            return cls._entered[-1]
        if cls._lasting is None:
            cls._lasting = cls()
        return cls._lasting

    def __enter__(self) -> Self:
        self._entered.append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._entered.remove(self)

    # Time

    @property
    def elapsed(self) -> float:
        """The seconds that have passed since the start; no step of a clock changes them."""
        return self._time.elapsed / SECOND

    @property
    def clocks(self) -> frozenset[int]:
        """The clocks that there are."""
        return self._time.clocks

    def now(self, clock: int = CLOCK_MONOTONIC) -> int:
        """What the clock shows, in nanoseconds."""
        return self._time.read(clock)

    def advance(self, seconds: float) -> None:
        """Let time pass while nobody runs: who waits for a moment of it comes late."""
        if seconds < 0:
            raise ValueError(f"time does not go back ({seconds} s): step() sets a clock back")
        self._time.pass_by(_nanoseconds(seconds))

    def step(self, seconds: float, clock: int = CLOCK_REALTIME) -> None:
        """Set a clock forward or, with less than 0, back."""
        if clock == CLOCK_MONOTONIC:
            raise ValueError("CLOCK_MONOTONIC cannot be set")
        self._time.step(clock, _nanoseconds(seconds))
        for driver in list(self._drivers):
            driver.clock_was_set(clock)

    def suspend(self, seconds: float) -> None:
        """Put the machine to sleep: CLOCK_MONOTONIC stands, the others go on."""
        for clock in self._time.clocks - {CLOCK_MONOTONIC}:
            self.step(seconds, clock)

    def sleep(self, seconds: float) -> None:
        """Wait, as a thread that takes part."""
        nobody = Lock()
        nobody.acquire()
        _Turn(self._time, nobody, _nanoseconds(seconds)).wait()

    def at(self, seconds: float, call: Callable[..., object], *arguments: object) -> None:
        """Make a call when `elapsed` is `seconds`.

        Whoever moves the time makes it, in the midst of his wait, so it may do what a signal
        handler may; and what it raises comes out of that wait.
        """
        self._time.call_at(_nanoseconds(seconds), lambda: call(*arguments))

    # Descriptors

    def set(self, fd: int, bits: int, *, always: bool = False) -> None:
        """From now on poll(2) reports `bits` of the descriptor `fd`, which is opened if it is not.

        `always`: it is of the files that are always ready (R109).
        """
        descriptor = self._descriptors.get(fd)
        if descriptor is None or not descriptor.life:
            self._count += 1
            descriptor = self._descriptors[fd] = _Descriptor(self._count)
        if bits & ~descriptor.bits:
            self._count += 1
            descriptor.since = self._count
        descriptor.bits = bits
        descriptor.always = always
        self._time.poke_all()

    def close(self, fd: int) -> None:
        """Close the descriptor `fd`. With `set` the number comes to mean another file."""
        descriptor = self._descriptors[fd]
        descriptor.bits = descriptor.life = 0

    def _descriptor(self, fd: int) -> _Descriptor | None:
        """None if `fd` is none of the simulation's."""
        return self._descriptors.get(fd)

    # Faults

    def fail(self, verb: Verb, number: int, *, fd: int | None = None) -> None:
        """The next call of `verb`, for arm that of `fd` if it is given, raises OSError `number`.

        A wait in progress fails at once.
        """
        self._faults.append((verb, fd, OSError(number, os.strerror(number))))
        self._time.poke_all()

    def stray(self, *reports: tuple[int, int]) -> None:
        """The present wait of each driver, or its next, returns these (token, revents), if any,
        and does so early."""
        for driver in list(self._drivers):
            driver.return_early(reports)

    def _fault(self, verb: Verb, fd: int | None = None) -> None:
        for fault in list(self._faults):
            if fault[0] == verb and fault[1] in (None, fd):
                self._faults.remove(fault)
                raise fault[2]


class _Turn:
    """A thread that waits for a lock, or for nothing but time."""

    def __init__(self, time: VirtualTime, lock: LockType, span: int | None) -> None:
        self.thread = get_ident()
        self._time = time
        self._lock = lock
        self._until = None if span is None else time.now(CLOCK_MONOTONIC) + span

    def until(self) -> int | None:
        return self._until

    def is_quiet(self) -> bool:
        return self._lock.locked()

    def poke(self) -> None:
        """It looks often enough."""

    def wait(self) -> bool:
        """Whether it got the lock in time."""
        pause = pauses()
        with self._time.asleep(self):
            while not self._lock.acquire(blocking=False):
                if self._until is not None and self._time.now(CLOCK_MONOTONIC) >= self._until:
                    return False
                if not self._time.move(self) and self._lock.acquire(timeout=next(pause)):
                    break
            return True


class SimulatedDriver(Driver):
    """The driver of the ports in a `Simulation`.

    Made by `Port("portcompat.backends.simulated:SimulatedDriver")`, and never by default. Files,
    the descriptor of `fileno` and wake-ups are those of a driver over poll(2) inside, so a port of
    a simulation can be anywhere where one of that driver can. A wait looks at the simulation's
    descriptors and at the files; if none is ready it has the time moved, and where that cannot be
    now, since others work, it sleeps in poll(2) and looks again.

    An alarm whose time has come keeps every wait from waiting until it is replaced.
    """

    features = _Files.features

    def __init__(self) -> None:
        self._simulation = Simulation.current()
        self._time = self._simulation._time
        self.clocks = self._time.clocks
        self.thread = 0  # in `wait`
        self._files = _Files()
        # Of the simulation and of files: fd -> events, token, trigger.
        self._armed: dict[int, tuple[int, int, Trigger]] = {}
        self._watched: dict[int, tuple[int, int, Trigger]] = {}
        self._lives: dict[int, int] = {}
        self._strays: list[tuple[int, int]] = []
        self._alarms: dict[int, int] = {}
        self._deadline: int | None = None
        self._early = False
        self._simulation._drivers.add(self)

    def arm(self, fd: int, events: int, token: int, trigger: Trigger = Trigger.ONESHOT) -> int:
        self._simulation._fault("arm", fd)
        descriptor = self._simulation._descriptor(fd)
        if descriptor is None:
            always = self._files.arm(fd, events, token, trigger)
            self._watched[fd] = (events, token, trigger)
            return always
        if not descriptor.life:
            raise OSError(EBADF, os.strerror(EBADF))
        if self._lives.setdefault(fd, descriptor.life) != descriptor.life:
            self.disarm(fd)
            raise Renumbered
        if descriptor.always:
            return events & descriptor.bits
        self._armed[fd] = (events, token, trigger)
        self.poke()
        return 0

    def disarm(self, fd: int) -> None:
        self._armed.pop(fd, None)
        self._lives.pop(fd, None)
        self._watched.pop(fd, None)
        self._files.disarm(fd)

    def current(self, fd: int, armed: bool = True) -> bool:
        descriptor = self._simulation._descriptor(fd)
        if descriptor is None:
            return self._files.current(fd)
        return descriptor.life != 0 and self._lives.get(fd) == descriptor.life

    def condition(self, fd: int, events: int) -> int:
        descriptor = self._simulation._descriptor(fd)
        if descriptor is None:
            return self._files.condition(fd, events)
        return descriptor.bits & (events | POLLERR | POLLHUP)

    def wait(self, timeout: float | None) -> list[tuple[int, int]]:
        ready = self._look(0)
        if not (ready or self._is_over() or timeout == 0):
            self.thread = get_ident()
            if timeout is not None:
                self._deadline = self._time.now(CLOCK_MONOTONIC) + _nanoseconds(timeout)
            try:
                with self._time.asleep(self):
                    pause = pauses()
                    while not (ready or self._is_over()):
                        ready = self._look(0 if self._time.move(self) else next(pause))
            finally:
                self._deadline = None
        for clock, when in list(self._alarms.items()):
            if when <= self._time.now(clock):
                del self._alarms[clock]
        return ready

    def now(self, clock: int, /) -> int:
        return self._time.read(clock)

    def set_alarm(self, clock: int, when: int | None) -> None:
        self._simulation._fault("set_alarm")
        if when is None:
            self._alarms.pop(clock, None)
        else:
            self._alarms[clock] = when
            self.poke()

    def sleep(self, turn: LockType, timeout: float | None) -> bool:
        return _Turn(self._time, turn, None if timeout is None else _nanoseconds(timeout)).wait()

    def wake(self) -> None:
        self._early = True
        self._files.wake()

    def close(self) -> None:
        self._simulation._drivers.discard(self)
        self._files.close()

    def fileno(self) -> int:
        return self._files.fileno()

    def is_descriptor(self, fd: int) -> bool:
        return self._files.is_descriptor(fd)

    def show(self, queued: bool) -> None:
        self._files.show(queued)

    # What the simulation and the time ask of it

    def clock_was_set(self, clock: int) -> None:
        if clock in self._alarms:
            self.wake()

    def return_early(self, reports: tuple[tuple[int, int], ...]) -> None:
        self._strays += reports
        self.wake()

    def until(self) -> int | None:
        moments = [self._time.moment(*alarm) for alarm in list(self._alarms.items())]
        if self._deadline is not None:
            moments.append(self._deadline)
        return min(moments, default=None)

    def is_quiet(self) -> bool:
        return not (self._early or self._strays or self._find() or self._files_are_ready())

    def poke(self) -> None:
        self._files.wake()

    def _is_over(self) -> bool:
        early, self._early = self._early, False
        if early:
            return True
        until = self.until()
        return until is not None and until <= self._time.now(CLOCK_MONOTONIC)

    def _look(self, patience: float) -> list[tuple[int, int]]:
        """What is ready; for files to become so it waits that many real seconds."""
        self._simulation._fault("wait")
        ready, self._strays = self._strays, []
        for fd, revents in self._find():
            _, token, trigger = self._armed[fd]
            if trigger == Trigger.ONESHOT:
                del self._armed[fd]
            ready.append((token, revents))
        if ready:
            patience = 0
        if not (patience or self._watched):
            return ready
        if files := self._files.wait(patience):
            told = {token for token, _ in files}
            for fd, (_, token, trigger) in list(self._watched.items()):
                if token in told and trigger == Trigger.ONESHOT:
                    del self._watched[fd]
            ready += files
        return ready

    def _find(self) -> list[tuple[int, int]]:
        """The simulation's descriptors that are ready, in the order in which they became so."""
        found: list[tuple[int, int, int]] = []
        for fd, (events, _, _) in list(self._armed.items()):
            descriptor = self._simulation._descriptors[fd]
            revents = descriptor.bits & (events | POLLERR | POLLHUP)
            if revents and self._lives.get(fd) == descriptor.life:
                found.append((descriptor.since, fd, revents))
        return [(fd, revents) for _, fd, revents in sorted(found)]

    def _files_are_ready(self) -> bool:
        """Asked by another thread than the one in `wait`, so it takes a set of its own."""
        if not self._watched:
            return False
        asked = _Files()
        try:
            for fd, (events, token, _) in list(self._watched.items()):
                if self._files.current(fd):  # else nothing is reported of it
                    with suppress(OSError):
                        asked.arm(fd, events, token)
            return bool(asked.wait(0))
        finally:
            asked.close()


def _nanoseconds(seconds: float) -> int:
    """Rounded up, lest something come early."""
    return seconds * SECOND if isinstance(seconds, int) else math.ceil(seconds * SECOND)
