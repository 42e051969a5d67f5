"""Calls made in threads of their own, and whether they wait."""

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Generic, TypeVar

from portcompat.conformance._descriptors import SOON

_Result = TypeVar("_Result")

_LOOKS = 5
"""How often in a row a thread has to be found in the same place."""

_BETWEEN_LOOKS = 0.004


class Call(Generic[_Result]):
    """A call under way in a daemon thread."""

    def __init__(self, call: Callable[[], _Result]) -> None:
        self._call = call
        self._value: list[_Result] = []
        self._error: BaseException | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="call of a test", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value.append(self._call())
        except BaseException as error:
            self._error = error
        finally:
            self._over.set()

    @property
    def over(self) -> bool:
        """Whether the call has returned or raised."""
        return self._over.is_set()

    @property
    def thread(self) -> int:
        """The thread's `ident`."""
        assert self._thread.ident is not None
        return self._thread.ident

    def result(self, timeout: float = SOON) -> _Result:
        """What the call returned; raises what it raised. Fails if it is not over in time."""
        assert self._over.wait(timeout), f"still under way after {timeout:g} s"
        self._thread.join(timeout)
        if self._error is not None:
            raise self._error
        return self._value[0]

    def at_rest(self, or_over: bool = False) -> None:
        """Return when the thread waits for something, which it has to do soon.

        Its Python frame has not moved meanwhile, and where the kernel tells, it has slept.
        `or_over`: the call may have returned meanwhile.
        """
        deadline = monotonic() + SOON
        place, looks = self._place(), 0
        while looks < _LOOKS:
            assert monotonic() < deadline, "the thread does not come to rest"
            if self._over.wait(_BETWEEN_LOOKS):
                if or_over:
                    return
                raise AssertionError(f"the call did not wait: it returned {self.result()!r}")
            was, place = place, self._place()
            looks = looks + 1 if place is not None and place == was else 0

    def _place(self) -> tuple[int, int] | None:
        """Where in its Python code the thread is; None if it may be about to move on."""
        frame = sys._current_frames().get(self.thread)
        if frame is None or not self._sleeps():
            return None
        return id(frame), frame.f_lasti

    def _sleeps(self) -> bool:
        try:
            status = Path(f"/proc/self/task/{self._thread.native_id}/stat").read_text()
        except OSError:  # not on Linux
            return True
        return status.rpartition(")")[2].split()[0] == "S"


def in_thread(call: Callable[[], _Result]) -> Call[_Result]:
    """Make `call` in a thread of its own."""
    return Call(call)


def waiting(call: Callable[[], _Result]) -> Call[_Result]:
    """Make `call` in a thread of its own, and return when it waits there."""
    made = Call(call)
    made.at_rest()
    return made


def waiting_briefly(call: Callable[[], _Result]) -> Call[_Result]:
    """As `waiting`, of a call whose time may be up before a busy machine has seen it wait."""
    made = Call(call)
    made.at_rest(or_over=True)
    return made
