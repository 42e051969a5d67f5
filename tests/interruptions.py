"""A signal handler that runs at a step of one's choice, and so at each one in turn."""

import dis
import gc
import itertools
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, Self

import portcompat
from portcompat import backends

_FOLDERS: Final = tuple(
    str(Path(place)) for place in (portcompat.__path__[0], backends.__path__[0])
)
_IN_PYTHON: Final = -1  # the last step of a frame was to call a function of Python


class Interrupted(Exception):
    """What a handler raises."""


def throw() -> None:
    """A handler that raises."""
    raise Interrupted


class Interruption:
    """In a `with`: run `handler` at step number `step` of what this thread does in the library.

    Steps are the places where CPython looks for signals: where a function of Python begins, after
    a function of C returned (not after one of Python), and where a loop turns. `place` tells which
    it was, and is empty if there were not so many.

    What the handler raises is raised at the instruction that comes next. Where that is not in the
    `try` that a signal's exception would be in, it is no step. The garbage collector does not run
    meanwhile: what is raised in a finalizer that it calls ends nothing.
    """

    def __init__(self, step: int, handler: Callable[[], object]) -> None:
        self.place = ""
        self._left = step
        self._handler = handler
        self._last: dict[FrameType, int] = {}
        self._collects = False

    def __enter__(self) -> Self:
        self._collects = gc.isenabled()
        gc.disable()
        sys.settrace(self._enter_frame)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        self._last.clear()
        if self._collects:
            gc.enable()

    def _enter_frame(self, frame: FrameType, event: str, argument: Any) -> Any:
        caller = frame.f_back
        if caller is not None and caller in self._last:
            self._last[caller] = _IN_PYTHON
        if self.place or not frame.f_code.co_filename.startswith(_FOLDERS):
            return None
        frame.f_trace_opcodes = True
        return self._trace

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            frame.f_trace_opcodes = True  # CPython 3.13 may have forgotten it since the call began
        elif event == "return":
            self._last.pop(frame, None)
        elif event == "opcode" and not self.place:
            here = frame.f_lasti
            last = self._last.get(frame)
            self._last[frame] = here
            if last is None or (last, here) in _steps(frame.f_code):
                self._left -= 1
                if self._left < 0:
                    self.place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                    sys.settrace(None)
                    self._handler()
        return self._trace


@cache
def _steps(code: CodeType) -> frozenset[tuple[int, int]]:
    """The pairs of offsets between which CPython looks for signals."""
    table = dis._parse_exception_table(code)  # type: ignore[attr-defined]

    def region(offset: int) -> int:
        """Where an exception at `offset` goes; the inner regions stand first."""
        return next((e.target for e in table if e.start <= offset < e.end), -1)

    steps = set()
    instructions = list(dis.get_instructions(code))
    for instruction, following in itertools.pairwise(instructions):
        here, name = instruction.offset, instruction.opname
        if name.startswith("CALL"):
            there = following.offset
        elif "JUMP_BACKWARD" in name:
            there = instruction.argval
        else:
            continue
        if region(here) == region(there):
            steps.add((here, there))
    return frozenset(steps)


def places(attempt: Callable[[int], Interruption], every: int = 1) -> list[str]:
    """Attempt the steps 0, `every`, 2 * `every` ... until there are no more.

    Returns where they were.
    """
    attempt(sys.maxsize)  # CPython 3.12 traces opcodes from the second call on that asks for it
    found: list[str] = []
    while place := attempt(len(found) * every).place:
        found.append(place)
    return found


def faults(
    check: Callable[[int], tuple[Interruption, object, object]], every: int = 1
) -> dict[str, object]:
    """Where what is found differs from what is wanted, and what is found."""
    found: dict[str, object] = {}

    def once(step: int) -> Interruption:
        interruption, result, wanted = check(step)
        if interruption.place and result != wanted:
            found[interruption.place] = result
        return interruption

    assert places(once, every), "no step at all: the interruption does not work"
    return found


def outcome(call: Callable[[], object]) -> object:
    """What the call returns, or the text of what it raises."""
    try:
        return call()
    except Exception as error:
        return repr(error)
