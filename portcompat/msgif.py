"""The message interface of a user-space server: requests, replies by id, and a mount's life."""

import errno
from threading import RLock
from typing import SupportsIndex

from portcompat import _msg_sockets as sockets
from portcompat._checks import as_count
from portcompat._msg_client import Client
from portcompat._msg_instance import Instance
from portcompat._msg_values import (
    DEFAULT_MAX_SIZE,
    SIZEOP_IN,
    SIZEOP_OUT,
    Flags,
    Request,
    SizeOp,
    State,
)

__all__ = [
    "DEFAULT_MAX_SIZE",
    "SIZEOP_IN",
    "SIZEOP_OUT",
    "Client",
    "Cloner",
    "Flags",
    "Instance",
    "Request",
    "SizeOp",
    "State",
]


class Cloner:
    """Hands out instances by number (M051): at most `max_instances` at a time.

    Raises ValueError when `max_instances` is less than 1, TypeError when it is no int.
    """

    def __init__(self, max_instances: SupportsIndex = 64) -> None:
        self._max_instances = as_count(max_instances, "max_instances")
        self._lock = RLock()
        self._taken: set[int] = set()
        sockets.tell_when_forked(self)

    def open(self, *, shared: bool = False) -> Instance:
        """A new instance with the lowest free index, embryonic.

        `shared`: fork children of this process have the server's end too, and may serve; the mount
        then lives until the last of them has closed it or died. On Linux each of them serves the
        connections that any of them makes; its descriptor may be readable, as a hint, for a new
        connection too. Elsewhere connections made after a fork are served by who made them and his
        children; make them before. A process that has the mount, and neither serves nor closes it,
        keeps a few descriptors of each connection in the kernel. An instance that is not shared is
        closed in a fork child, so that the death of the server's process is the mount's.

        Raises OSError EBUSY when `max_instances` are open (M051), EMFILE when descriptors run out,
        ENOTSUP where the system lacks what it takes (Windows).
        """
        sockets.require()
        with self._lock:
            number = next(n for n in range(len(self._taken) + 1) if n not in self._taken)
            if number >= self._max_instances:
                raise OSError(errno.EBUSY, f"{self._max_instances} instances are open; close one")
            with sockets.making:
                instance = Instance(self, number, shared)
            self._taken.add(number)
            return instance

    def release(self, number: int) -> None:
        """For an instance that is closed: its index is free again."""
        self._taken.discard(number)

    def forked(self) -> None:
        """In a fork child: the thread that had the lock is not there."""
        self._lock = RLock()
