"""Two things measured in turns, and the ratio of their times."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from statistics import median, quantiles
from typing import NamedTuple

import pyperf  # type: ignore[import-untyped]

Timer = Callable[[int], float]
"""Does a thing so many times and returns the seconds that took."""

Timers = tuple[Timer, Timer]
"""That of portcompat and that of its peer."""


class Comparison(NamedTuple):
    """`name` with portcompat against `peer`.

    `timers` makes both, for a backend. The ratio of their times should be at most `target`. One
    loop of a timer does `inner` of what is counted. `only` is the backend that the peer belongs
    to: its own facility by hand, or "" for what has nothing to do with backends; None: any.
    `needs` is a module without which there is nothing to compare with.
    """

    name: str
    peer: str
    target: float | None
    timers: Callable[[str], AbstractContextManager[Timers]]
    inner: int = 1
    only: str | None = None
    needs: str | None = None


class Plan(NamedTuple):
    """How long to measure: in so many processes, so many rounds of two turns of `turn` seconds.

    What takes longer than that by nature gets fewer rounds, as many as fit into `most` seconds.
    """

    processes: int
    rounds: int
    turn: float
    most: float


FULL = Plan(processes=5, rounds=80, turn=0.005, most=2.0)
FAST = Plan(processes=1, rounds=40, turn=0.002, most=1.0)


class Result(NamedTuple):
    """What came out, in nanoseconds (medians); `low` and `high` are the quartiles of the ratio."""

    portcompat_ns: float
    peer_ns: float
    ratio: float
    low: float
    high: float


def take_turns(comparison: Comparison, backend: str, plan: Plan) -> pyperf.BenchmarkSuite:
    """Measure in this process. The values of the two benchmarks belong together by pairs."""
    with comparison.timers(backend) as timers:
        loops = [_calibrate(timer, plan.turn) for timer in timers]
        values: tuple[list[float], list[float]] = ([], [])
        end = pyperf.perf_counter() + plan.most
        for number in range(plan.rounds):
            for side in (0, 1) if number % 2 else (1, 0):
                values[side].append(timers[side](loops[side]) / loops[side] / comparison.inner)
            if number and pyperf.perf_counter() > end:
                break
    names = (comparison.name, comparison.peer)
    return pyperf.BenchmarkSuite(
        [
            pyperf.Benchmark(
                [pyperf.Run(times, metadata={"name": name, "loops": count}, collect_metadata=False)]
            )
            for name, times, count in zip(names, values, loops, strict=True)
        ]
    )


def _calibrate(timer: Timer, seconds: float) -> int:
    """How many loops take so long. The first ones warm up."""
    loops = 1
    while (taken := timer(loops)) < seconds / 4:
        loops *= 2
    return max(1, round(loops * seconds / taken))


def summarize(suites: list[pyperf.BenchmarkSuite]) -> Result:
    """The result of the suites that `take_turns` made in several processes."""
    ours: list[float] = []
    theirs: list[float] = []
    for suite in suites:
        portcompat, peer = suite.get_benchmarks()
        ours += portcompat.get_values()
        theirs += peer.get_values()
    low, ratio, high = quantiles(
        (our / their for our, their in zip(ours, theirs, strict=True)), n=4, method="inclusive"
    )
    return Result(median(ours) * 1e9, median(theirs) * 1e9, ratio, low, high)
