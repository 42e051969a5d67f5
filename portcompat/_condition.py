"""What poll(2) says of one descriptor now."""

import select
from typing import Final

from portcompat._constants import POLLIN, POLLNVAL, POLLOUT, POLLPRI, POLLRDNORM, POLLWRNORM

_READ: Final = POLLIN | POLLRDNORM
_WRITE: Final = POLLOUT | POLLWRNORM

if hasattr(select, "poll"):

    def condition(fd: int, events: int) -> int:
        """The poll bits of `fd` that hold, of `events` and those nobody asks for; 0 if closed."""
        asked = select.poll()
        asked.register(fd, events)
        found = asked.poll(0)
        return found[0][1] & ~POLLNVAL if found else 0
else:

    def condition(fd: int, events: int) -> int:
        """The poll bits of `fd` that hold, of `events`; 0 if it is closed."""
        try:
            readable, writable, exceptional = select.select(
                [fd] if events & _READ else [],
                [fd] if events & _WRITE else [],
                [fd] if events & POLLPRI else [],
                0,
            )
        except (OSError, ValueError):
            return 0
        found = _READ * bool(readable) | _WRITE * bool(writable) | POLLPRI * bool(exceptional)
        return found & events
