"""Interruptions at a chosen step, as a signal handler would make them there, and by real ones."""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_STEPS = ("call", "c_return")
"""Where Python runs signal handlers: as a function begins, and when a built-in one has returned."""


class Interruption:
    """Does something at one step of a call; `reached` says whether the call had that many."""

    def __init__(self, step: int, act: Callable[[], object]) -> None:
        self._left = step
        self._act = act
        self.reached = False

    def _observe(self, frame: FrameType, event: str, argument: object) -> None:
        if event in _STEPS and not self.reached:
            if self._left == 0:
                self.reached = True
                self._act()
            self._left -= 1

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The calls of this thread that are made in the block are interrupted."""
        former = sys.getprofile()
        with uncollected():
            sys.setprofile(self._observe)
            try:
                yield
            finally:
                sys.setprofile(former)


def at_each_step(act: Callable[[], object]) -> Iterator[Interruption]:
    """An interruption for each step of a call, until the call has no more."""
    step = 0
    while True:
        interruption = Interruption(step, act)
        yield interruption
        if not interruption.reached:
            return
        step += 1


@contextmanager
def uncollected() -> Iterator[None]:
    """The garbage collector does not run in the block.

    What a signal handler raises while the collector calls back (Hypothesis has it do so, and so do
    the threads of other tests that it frees) goes to sys.unraisablehook and ends nothing.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
