"""One life of a descriptor number, from open to close, with or without a dup that outlives it."""

import os
import socket
from contextlib import suppress
from io import FileIO
from types import TracebackType
from typing import Literal, Self

Kind = Literal["socket", "pipe"]


class Life:
    """A descriptor to watch and the other end that makes it readable.

    `number` is the descriptor's, also when it is closed and means something else already.
    `fed` says whether `feed` was ever called: until then no event can rightly come.
    """

    def __init__(self, kind: Kind = "socket") -> None:
        self._watched: socket.socket | FileIO
        self._other: socket.socket | FileIO
        if kind == "socket":
            self._watched, self._other = socket.socketpair()
        else:
            reading, writing = os.pipe()
            self._watched, self._other = FileIO(reading, "r"), FileIO(writing, "w")
        self._dup: socket.socket | FileIO | None = None
        self.number = self._watched.fileno()
        self.fed = False

    def fileno(self) -> int:
        return self._watched.fileno()

    def feed(self) -> None:
        """Make it readable, if it is still open anywhere."""
        self.fed = True
        with suppress(BrokenPipeError, ConnectionError):
            if isinstance(self._other, socket.socket):
                self._other.send(b"x")
            else:
                self._other.write(b"x")

    def drain(self) -> None:
        """Read what `feed` wrote."""
        if isinstance(self._watched, socket.socket):
            self._watched.recv(1)
        else:
            self._watched.read(1)

    def close(self, *, keep_dup: bool = False) -> None:
        """Close the number; with `keep_dup` the open file goes on under another one."""
        if keep_dup:
            if isinstance(self._watched, socket.socket):
                self._dup = self._watched.dup()
            else:
                self._dup = FileIO(os.dup(self.number), "r")
        self._watched.close()

    @property
    def dup(self) -> int:
        """The number that the open file has after `close(keep_dup=True)`."""
        assert self._dup is not None
        return self._dup.fileno()

    def end(self) -> None:
        """Close all that is left."""
        for end in (self._watched, self._other, self._dup):
            if end is not None:
                end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()
