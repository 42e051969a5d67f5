"""Timers: a port's against asyncio's, few against many, and how late each is.

What only computes is measured in processor time, so that it does not matter who else computes.

`python -m tests.benchmarks.timers` prints what is no ratio of turns: lateness by median and 99th
percentile, what very many changes in a row cost (the heap is tidied up now and then, which a median
of short turns does not see), and the memory that a timer takes.
"""

import argparse
import asyncio
import ctypes
import os
import random
import resource
import select
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import repeat
from statistics import median, quantiles
from time import monotonic, monotonic_ns, thread_time

import portcompat
from portcompat import SIGEV_PORT, Port
from portcompat.timers import SigEvent, Timer, timer_create, timer_settime_ns
from tests.benchmarks import find_drivers
from tests.benchmarks.measure import Timer as Measured
from tests.benchmarks.measure import Timers

COUNT = 100_000
"""Timers that are armed, or fire, in one loop."""

FEW = 1_000
MANY = 1_000_000

_HOUR = 3600.0
_TAKE = 1_024  # events that a getn takes at most
_AHEAD_NS = 1_000_000  # how far ahead a timer is set whose lateness is measured
_ARMING = 20e-6  # seconds that arming a timer may take before the first is due


def _nothing() -> None:
    """What a timer of asyncio calls."""


def _delays(count: int) -> list[float]:
    """Spans between one hour and two, the same on both sides."""
    chance = random.Random(11)
    return [_HOUR * (1 + chance.random()) for _ in range(count)]


@contextmanager
def _timers(backend: str, count: int) -> Iterator[tuple[Port, list[Timer]]]:
    with Port(backend, max_events=count) as port, ExitStack() as stack:
        timers = [port.timer() for _ in range(count)]
        for timer in timers:
            stack.callback(timer.delete)
        yield port, timers


@contextmanager
def arming(backend: str) -> Iterator[Timers]:
    """COUNT timers that exist are armed, against call_later."""
    delays = _delays(COUNT)
    with _timers(backend, COUNT) as (_, timers):

        def by_port(loops: int) -> float:
            taken = 0.0
            for _ in repeat(None, loops):
                start = thread_time()
                for timer, delay in zip(timers, delays, strict=True):
                    timer.set(after=delay)
                taken += thread_time() - start
                for timer in timers:
                    timer.cancel()
            return taken

        yield by_port, _arming_by_asyncio(delays)


@contextmanager
def making_and_arming(backend: str) -> Iterator[Timers]:
    """COUNT timers are made and armed, against call_later."""
    delays = _delays(COUNT)
    with Port(backend, max_events=COUNT) as port:

        def by_port(loops: int) -> float:
            taken = 0.0
            for _ in repeat(None, loops):
                start = thread_time()
                timers = []
                for delay in delays:
                    timer = port.timer()
                    timer.set(after=delay)
                    timers.append(timer)
                taken += thread_time() - start
                for timer in timers:
                    timer.delete()
            return taken

        yield by_port, _arming_by_asyncio(delays)


def _arming_by_asyncio(delays: list[float]) -> Measured:
    def by_asyncio(loops: int) -> float:
        taken = 0.0
        for _ in repeat(None, loops):
            loop = asyncio.new_event_loop()
            call_later = loop.call_later
            start = thread_time()
            handles = [call_later(delay, _nothing) for delay in delays]
            taken += thread_time() - start
            del handles
            loop.close()
        return taken

    return by_asyncio


@contextmanager
def firing(backend: str) -> Iterator[Timers]:
    """COUNT timers that are due are told, through getn and through callbacks."""
    spread = [delay / _HOUR - 1 for delay in _delays(COUNT)]  # 0 to 1
    ahead = COUNT * _ARMING
    with _timers(backend, COUNT) as (port, timers):

        def by_port(loops: int) -> float:
            taken = 0.0
            getn = port.getn
            for _ in repeat(None, loops):
                first = monotonic() + ahead
                for timer, more in zip(timers, spread, strict=True):
                    timer.set(at=first + more / 10)
                time.sleep(max(0.0, first + 0.11 - monotonic()))
                left = COUNT
                start = thread_time()
                while left:
                    for _ in getn(_TAKE):
                        left -= 1
                taken += thread_time() - start
            return taken

        def by_asyncio(loops: int) -> float:
            taken = 0.0
            for _ in repeat(None, loops):
                loop = asyncio.new_event_loop()
                first = loop.time() + ahead
                for more in spread:
                    loop.call_at(first + more / 10, _nothing)
                loop.call_at(first + 0.105, loop.stop)
                time.sleep(max(0.0, first + 0.11 - loop.time()))
                start = thread_time()
                loop.run_forever()
                taken += thread_time() - start
                loop.close()
            return taken

        yield by_port, by_asyncio


@contextmanager
def many_armed(backend: str) -> Iterator[Timers]:
    """Arm and disarm one more timer where MANY are armed, and where FEW are."""
    with _timers(backend, MANY) as (_, crowd), _timers(backend, FEW) as (_, handful):
        for timers in (crowd, handful):
            for timer, delay in zip(timers, _delays(len(timers)), strict=True):
                timer.set(after=delay)
        yield _arm_and_cancel(crowd), _arm_and_cancel(handful)


def _arm_and_cancel(timers: list[Timer]) -> Measured:
    """Each loop disarms one of the timers and arms it anew, for as long as they last."""
    chance = random.Random(13)
    # Beforehand, so that choosing costs nothing; at random, as memory is gone through by programs.
    chosen = [(chance.choice(timers), delay) for delay in _delays(20_000)]

    def measured(loops: int) -> float:
        taken = 0.0
        while loops:
            part = chosen[:loops]
            start = thread_time()
            for timer, delay in part:
                timer.cancel()
                timer.set(after=delay)
            taken += thread_time() - start
            loops -= len(part)
        return taken

    return measured


# Lateness: how long after its time a timer is known of. A loop's "time" is that.


@contextmanager
def lateness_and_asyncio(backend: str) -> Iterator[Timers]:
    with _port_latenesses(backend) as ours, _asyncio_latenesses() as theirs:
        yield _sum(ours), _sum(theirs)


@contextmanager
def lateness_and_timerfd(backend: str) -> Iterator[Timers]:
    with _port_latenesses(backend) as ours, _timerfd_latenesses() as theirs:
        yield _sum(ours), _sum(theirs)


Latenesses = Callable[[int], list[int]]
"""So many, in nanoseconds."""


def _sum(latenesses: Latenesses) -> Measured:
    return lambda loops: sum(latenesses(loops)) / 1e9


@contextmanager
def _port_latenesses(backend: str) -> Iterator[Latenesses]:
    with Port(backend) as port, port.timer() as timer:

        def measured(loops: int) -> list[int]:
            found = []
            for _ in repeat(None, loops):
                when = monotonic_ns() + _AHEAD_NS
                timer.set(at_ns=when)
                port.get()
                found.append(monotonic_ns() - when)
            return found

        yield measured


@contextmanager
def _asyncio_latenesses() -> Iterator[Latenesses]:
    loop = asyncio.new_event_loop()

    def measured(loops: int) -> list[int]:
        found: list[int] = []

        def expired(when: int) -> None:
            found.append(monotonic_ns() - when)
            if len(found) < loops:
                arm()
            else:
                loop.stop()

        def arm() -> None:
            when = monotonic_ns() + _AHEAD_NS
            loop.call_at(when / 1e9, expired, when)

        loop.call_soon(arm)
        loop.run_forever()
        return found

    try:
        yield measured
    finally:
        loop.close()


class _Timespecs(ctypes.Structure):
    """struct itimerspec of timerfd_settime(2)."""

    _fields_ = (
        ("interval_seconds", ctypes.c_long),
        ("interval_nanoseconds", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    )


@contextmanager
def _timerfd_latenesses() -> Iterator[Latenesses]:
    libc = ctypes.CDLL(None)
    number = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK)
    with select.epoll() as epoll:
        epoll.register(number, select.EPOLLIN)

        def measured(loops: int) -> list[int]:
            found = []
            for _ in repeat(None, loops):
                when = monotonic_ns() + _AHEAD_NS
                setting = _Timespecs(0, 0, *divmod(when, 1_000_000_000))
                libc.timerfd_settime(number, 1, ctypes.byref(setting), None)
                epoll.poll()
                found.append(monotonic_ns() - when)
                os.read(number, 8)
            return found

        try:
            yield measured
        finally:
            os.close(number)


def cost_among(backend: str, count: int, changes: int) -> float:
    """Seconds to cancel and arm a timer anew among `count`, by the average of `changes`."""
    with _timers(backend, count) as (_, timers):
        for timer, delay in zip(timers, _delays(count), strict=True):
            timer.set(after=delay)
        return _arm_and_cancel(timers)(changes) / changes


def bytes_per_timer(backend: str, count: int) -> float:
    """What `count` armed timers add to the process, each, made by the C spelling.

    In a fork child, as memory that was used once is not given back.
    """
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        port = Port(backend, max_events=count)
        sigevent = SigEvent(SIGEV_PORT, port=port)
        chance = random.Random(17)
        before = _resident()
        for _ in range(count):
            span = int((1 + chance.random()) * _HOUR * 1e9)
            timer_settime_ns(timer_create(time.CLOCK_MONOTONIC, sigevent), 0, span)
        os.write(tell, str((_resident() - before) / count).encode())
        os._exit(0)
    os.close(tell)
    with open(told, encoding="ascii") as report:
        answer = float(report.read())
    os.waitpid(child, 0)
    return answer


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def main(arguments: Sequence[str] | None = None) -> int:
    find_drivers()
    usable = [name for name, info in portcompat.available_backends().items() if info.usable]
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.timers")
    parser.add_argument("--backend", action="append", choices=usable)
    parser.add_argument("--loops", type=int, default=5_000, help="timers, one after the other")
    parser.add_argument("--armed", type=int, default=MANY, help="timers whose memory is measured")
    options = parser.parse_args(arguments)
    backends: list[str] = options.backend or usable
    with ExitStack() as stack:
        sides = {"asyncio": stack.enter_context(_asyncio_latenesses())}
        if sys.platform == "linux":
            sides["timerfd"] = stack.enter_context(_timerfd_latenesses())
        for backend in backends:
            sides[backend] = stack.enter_context(_port_latenesses(backend))
        found: dict[str, list[int]] = {name: [] for name in sides}
        for _ in range(10):  # in turns: what disturbs the machine disturbs all
            for name, latenesses in sides.items():
                found[name] += latenesses(max(1, options.loops // 10))
    print("late by, us   least   median   99 %")
    for name, values in found.items():
        high = quantiles(values, n=100, method="inclusive")[98]
        print(f"{name:<12}{min(values) / 1e3:>7.1f}{median(values) / 1e3:>9.1f}{high / 1e3:>7.0f}")
    for backend in backends:
        few = cost_among(backend, FEW, 2 * options.armed)
        many = cost_among(backend, options.armed, 2 * options.armed)
        print(
            f"{backend}: cancel and arm among {FEW:,} {few * 1e6:.1f} us, "
            f"among {options.armed:,} {many * 1e6:.1f} us, {many / few:.2f} times as long"
        )
        each = bytes_per_timer(backend, options.armed)
        print(f"{backend}: {each:.0f} bytes for each of {options.armed:,} armed timers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
