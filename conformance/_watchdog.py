"""The deadline of a test."""

import faulthandler
import os
import signal
import tempfile
import threading
import time
from collections.abc import Generator
from queue import Empty, SimpleQueue

import pytest

GRACE = 15.0
"""Seconds that an interrupted test has to clean up before the whole run is ended."""


class DeadlineExceeded(Exception):
    """A test did not end in time. Its message shows where every thread was."""


class Watchdog:
    """Fails a test whose set-up, call or tear-down takes too long, as a pytest plugin.

    A thread interrupts the main one as Ctrl-C would, again and again: a test that waits in a
    `finally` is interrupted there too. What does not end even so, because it waits where no
    signal handler runs, is ended with the process by faulthandler, whose timer needs no
    interpreter lock. Both show the stacks of all threads.

    The interrupt may strike between any two steps of the main thread, so that side takes no lock.
    It gives orders, each with the number of its phase: the span of a phase that begins, None for
    its end. The thread first says which phase it is about to interrupt and then looks whether
    that has ended; the main thread first ends it and then looks. One of the two sees the other.
    """

    def __init__(self, patience: float) -> None:
        """A test may take the seconds of its mark `deadline` times `patience`."""
        self._patience = patience
        self._stderr = os.dup(2)
        # Made now, as a test may use up the descriptors.
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._orders: SimpleQueue[tuple[int, float | None] | None] = SimpleQueue()
        self._phase = 0
        self._interrupted = 0  # the last phase that was
        self._ended = 0  # the last phase whose end the thread knows
        self._stacks = ""
        self._thread = threading.Thread(target=self._run, name="test deadline", daemon=True)
        self._thread.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        __tracebackhide__ = True
        return (yield from self._watch(item, "set-up"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        __tracebackhide__ = True
        return (yield from self._watch(item, "call"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        __tracebackhide__ = True
        return (yield from self._watch(item, "tear-down"))

    def pytest_unconfigure(self) -> None:
        self._orders.put(None)
        self._thread.join()
        os.close(self._stderr)
        self._file.close()

    def _watch(self, item: pytest.Item, name: str) -> Generator[None, object, object]:
        __tracebackhide__ = True
        mark = item.get_closest_marker("deadline")
        if mark is None:
            return (yield)
        span = mark.args[0] * self._patience
        self._begin(span)
        try:
            result = yield
        except BaseException:
            if not self._end():
                raise
        else:
            if not self._end():
                return result
        raise DeadlineExceeded(
            f"the {name} did not end within {span:g} s; where each thread was:\n{self._stacks}"
        ) from None

    def _begin(self, span: float) -> None:
        self._phase += 1
        self._orders.put((self._phase, span))
        faulthandler.dump_traceback_later(span + GRACE, exit=True, file=self._stderr)

    def _end(self) -> bool:
        """End the phase. Returns whether it had to be interrupted; no interrupt follows."""
        while True:
            try:
                self._orders.put((self._phase, None))
                faulthandler.cancel_dump_traceback_later()
                if self._interrupted != self._phase:
                    return False
                while self._ended != self._phase:
                    time.sleep(0.001)
                return True
            except KeyboardInterrupt:
                if self._interrupted != self._phase:
                    raise

    def _run(self) -> None:
        phase = 0
        span: float | None = None
        while True:
            try:
                order = self._orders.get(timeout=span)
                if order is None:
                    return
                phase, span = order
                if span is None:
                    self._ended = phase
            except Empty:
                self._interrupt(phase)
                span = 1.0

    def _interrupt(self, phase: int) -> None:
        if self._interrupted != phase:
            self._file.seek(0)
            self._file.truncate()
            faulthandler.dump_traceback(self._file)
            self._file.seek(0)
            self._stacks = self._file.read().decode("utf-8", "replace")
        self._interrupted = phase
        if not self._orders.empty():
            return
        ident = threading.main_thread().ident
        assert ident is not None
        signal.pthread_kill(ident, signal.SIGINT)
