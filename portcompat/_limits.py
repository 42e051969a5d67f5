"""How many ports and timers a process may have, and how many events a port."""

from threading import Lock
from typing import Final

from portcompat._checks import as_count


class Limits:
    """The resource controls: settable, each read when a port or a timer is made.

    `max_events`: slots of a port that is made without a limit of its own (R004: 65536).
    `max_ports`: ports that this process may have at once (R005, R006: 8192).
    `max_timers`: timers that this process may have at once (16 million; a kernel's few are what it
    can bear, R036).
    """

    __slots__ = ("_lock", "_max_events", "_max_ports", "_max_timers", "_ports")

    def __init__(self) -> None:
        self._lock = Lock()
        self._max_events = 0x10000
        self._max_ports = 0x2000
        self._max_timers = 0x100_0000
        self._ports = 0

    @property
    def max_events(self) -> int:
        return self._max_events

    @max_events.setter
    def max_events(self, value: int) -> None:
        self._max_events = as_count(value, "max_events")

    @property
    def max_ports(self) -> int:
        return self._max_ports

    @max_ports.setter
    def max_ports(self, value: int) -> None:
        self._max_ports = as_count(value, "max_ports")

    @property
    def max_timers(self) -> int:
        return self._max_timers

    @max_timers.setter
    def max_timers(self, value: int) -> None:
        self._max_timers = as_count(value, "max_timers")

    @property
    def ports(self) -> int:
        """How many ports this process has now."""
        return self._ports

    def admit_port(self) -> bool:
        """Count one port more, unless that is one too many."""
        with self._lock:
            if self._ports >= self._max_ports:
                return False
            self._ports += 1
            return True

    def dismiss_port(self) -> None:
        with self._lock:
            self._ports -= 1

    def forget_ports(self) -> None:
        """In a fork child: none is left, and a thread that is not here may hold the lock."""
        self._lock = Lock()
        self._ports = 0

    def __repr__(self) -> str:
        return (
            f"Limits(max_ports={self._max_ports}, max_events={self._max_events}, "
            f"max_timers={self._max_timers})"
        )


limits: Final = Limits()
