"""The values that pass through a port."""

import os
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Self

from portcompat._constants import (
    ETIME,
    FILE_NAMES,
    POLL_NAMES,
    PORT_SOURCE_FD,
    PORT_SOURCE_FILE,
    Source,
)

_SOURCE_NAMES: Final = {int(source): source.name for source in Source}


class PortEvent(NamedTuple):
    """One event, as port_get(3C) delivers it (R039).

    `source` is a `PORT_SOURCE_*`. What the other fields mean depends on it:

    | source            | object                 | events              | user              |
    |-------------------|------------------------|---------------------|-------------------|
    | PORT_SOURCE_FD    | the descriptor number  | poll bits (R097)    | from `associate`  |
    | PORT_SOURCE_TIMER | the timer's id         | how often it has    | from the timer    |
    |                   |                        | expired (R265)      |                   |
    | PORT_SOURCE_FILE  | the FileObject         | FILE_* bits (R215)  | from `associate`  |
    | PORT_SOURCE_AIO   | the AioControlBlock    | AIOAREAD, AIOAWRITE | from the request  |
    |                   |                        | or AIOFSYNC (R293)  |                   |
    | PORT_SOURCE_USER  | 0                      | as sent (R156)      | as sent           |
    | PORT_SOURCE_ALERT | 0                      | as set (R171)       | as set            |
    """

    source: int
    object: Any
    events: int
    user: Any

    def __repr__(self) -> str:
        source = _SOURCE_NAMES.get(self.source, str(self.source))
        if self.source == PORT_SOURCE_FD:
            events = poll_names(self.events)
        elif self.source == PORT_SOURCE_FILE:
            events = file_names(self.events)
        else:
            events = str(self.events)
        fields = f"source={source}, object={self.object!r}, events={events}, user={self.user!r}"
        return f"PortEvent({fields})"


def poll_names(events: int) -> str:
    """The poll bits of `events` by name: "POLLIN|POLLHUP"; what has no name as a hex number."""
    return _names(events, POLL_NAMES)


def file_names(events: int) -> str:
    """The FILE_* bits of `events` by name, likewise."""
    return _names(events, FILE_NAMES)


def _names(events: int, known: Mapping[int, str]) -> str:
    names = [name for bit, name in known.items() if events & bit]
    rest = events & ~sum(known)
    if rest or not names:
        names.append(hex(rest))
    return "|".join(names)


class FileObject:
    """A file to watch, and how it was when it was last seen: C's file_obj_t (R043, R199).

    `name` is a str, bytes or os.PathLike; `atime`, `mtime` and `ctime` are nanoseconds since the
    epoch, 0 when not known. An association compares those that are known with the file as it is
    then, so a change between your look and the association is told at once (R209).

    What is associated is this object, not the path: several may watch one file, each for itself
    (R206). The fields may be changed at any time; `associate` copies them (R208).
    """

    __slots__ = ("__weakref__", "_follow", "atime", "ctime", "mtime", "name")

    def __init__(
        self,
        name: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        atime: int = 0,
        mtime: int = 0,
        ctime: int = 0,
    ) -> None:
        self.name = name
        self.atime = atime
        self.mtime = mtime
        self.ctime = ctime
        self._follow = True

    @classmethod
    def stat(
        cls,
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        *,
        follow: bool = True,
    ) -> Self:
        """A file object with the stamps that `path` has now.

        With `follow` False those of a symbolic link itself: it is for FILE_NOFOLLOW. Raises what
        os.stat does.
        """
        made = cls(path)
        made._follow = follow
        made.refresh()
        return made

    def refresh(self) -> None:
        """Take the stamps that the file has now. Raises what os.stat does."""
        status = os.stat(self.name, follow_symlinks=self._follow)
        self.atime, self.mtime, self.ctime = (
            status.st_atime_ns,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )

    def __repr__(self) -> str:
        known = [
            f", {stamp}={getattr(self, stamp)}"
            for stamp in ("atime", "mtime", "ctime")
            if getattr(self, stamp)
        ]
        return f"FileObject({self.name!r}{''.join(known)})"


class PortTimeout(TimeoutError):
    """The wait's time is up and there is no event; `errno` is ETIME (R024, R143)."""

    def __init__(self, message: str = "no event within the timeout") -> None:
        super().__init__(ETIME, message)
