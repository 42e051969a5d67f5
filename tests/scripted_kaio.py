"""A kernel's asynchronous I/O that does what a test says."""

import errno
import os
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from portcompat.abc import Kaio


class Asked(NamedTuple):
    """A request that was taken on."""

    op: int
    fd: int
    buffers: Sequence[memoryview]
    offset: int


class ScriptedKaio(Kaio):
    """It takes on `room` requests at once, and finishes them when it is told to."""

    made: list["ScriptedKaio"] = []  # noqa: RUF012  # each test begins with an empty one
    room = 1000
    refuses: int | None = None  # the errno with which it does not take any

    def __init__(self) -> None:
        self._taken: dict[int, Asked] = {}
        self.flushes = 0
        self.cancelled: list[tuple[int, bool]] = []
        self.closed = False
        self._reports: list[tuple[int, int]] = []
        self._ends = os.pipe()
        self.made.append(self)

    @property
    def taken(self) -> dict[int, Asked]:
        return self._taken

    def submit(
        self, token: int, op: int, fd: int, buffers: Sequence[memoryview], offset: int
    ) -> bool:
        if self.refuses is not None:
            raise OSError(self.refuses, "scripted")
        if len(self.taken) >= self.room:
            return False
        self.taken[token] = Asked(op, fd, buffers, offset)
        return True

    def flush(self) -> bool:
        self.flushes += 1
        return True

    def finish(self, result: int, token: int | None = None) -> None:
        """Finish the request `token`, or the oldest."""
        number = next(iter(self.taken)) if token is None else token
        del self.taken[number]
        self._reports.append((number, result))
        os.write(self._ends[1], b"x")

    def cancel(self, token: int, wait: bool) -> None:
        self.cancelled.append((token, wait))
        if wait:
            self.finish(-errno.ECANCELED, token)

    def read(self, reports: deque[tuple[int, int]]) -> None:
        if self._reports:
            os.read(self._ends[0], len(self._reports))
        reports.extend(self._reports)
        self._reports.clear()

    def fileno(self) -> int:
        return self._ends[0]

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            for end in self._ends:
                os.close(end)

    def abandon(self) -> None:
        self.close()
