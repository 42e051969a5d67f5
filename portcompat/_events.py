"""The values that pass through a port."""

from typing import Any, Final, NamedTuple

from portcompat._constants import ETIME, POLL_NAMES, PORT_SOURCE_FD, Source

_SOURCE_NAMES: Final = {int(source): source.name for source in Source}


class PortEvent(NamedTuple):
    """One event, as port_get(3C) delivers it (R039).

    `source` is a `PORT_SOURCE_*`. What the other fields mean depends on it:

    | source            | object                 | events              | user              |
    |-------------------|------------------------|---------------------|-------------------|
    | PORT_SOURCE_FD    | the descriptor number  | poll bits (R097)    | from `associate`  |
    | PORT_SOURCE_TIMER | the timer's id         | how often it has    | from the timer    |
    |                   |                        | expired (R265)      |                   |
    | PORT_SOURCE_USER  | 0                      | as sent (R156)      | as sent           |
    | PORT_SOURCE_ALERT | 0                      | as set (R171)       | as set            |
    """

    source: int
    object: int
    events: int
    user: Any

    def __repr__(self) -> str:
        source = _SOURCE_NAMES.get(self.source, str(self.source))
        events = poll_names(self.events) if self.source == PORT_SOURCE_FD else str(self.events)
        return (
            f"PortEvent(source={source}, object={self.object}, events={events}, user={self.user!r})"
        )


def poll_names(events: int) -> str:
    """The poll bits of `events` by name: "POLLIN|POLLHUP"; what has no name as a hex number."""
    names = [name for bit, name in POLL_NAMES.items() if events & bit]
    rest = events & ~sum(POLL_NAMES)
    if rest or not names:
        names.append(hex(rest))
    return "|".join(names)


class PortTimeout(TimeoutError):
    """The wait's time is up and there is no event; `errno` is ETIME (R024, R143)."""

    def __init__(self, message: str = "no event within the timeout") -> None:
        super().__init__(ETIME, message)
