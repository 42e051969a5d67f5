"""The executable model: what a port owes to one thread.

This is the specification as a program, to be read before the engine is. Nothing here locks,
waits, asks the system or saves time; each line is there because of the rule that it names.
`test_model_agrees.py` makes every backend give the same answers as this.

A port is four things:

- the `queue`: one line of events for all sources, first in, first out (R084);
- the `associations`: which descriptors it knows, by their numbers;
- the `alert`, which hides the queue while it is set (R172);
- `max_events` slots. An association holds one for as long as it is known, also when its event
  is long retrieved, and a message holds one until it is retrieved (R079).

Readiness is scripted: `Descriptors` is told which descriptors are open and what poll(2) would say
of them, and tells the ports. So in the model a change is noticed at the moment when it happens.
"""

import errno
from collections.abc import Sequence
from typing import Literal, NoReturn

from portcompat import (
    EBADFD,
    POLLERR,
    POLLHUP,
    PORT_ALERT_INVALID,
    PORT_ALERT_SET,
    PORT_ALERT_UPDATE,
    PORT_SOURCE_ALERT,
    PORT_SOURCE_FD,
    PORT_SOURCE_USER,
    PortEvent,
    PortTimeout,
)


class Descriptors:
    """The open descriptors of a process, and the ports that want to know of them."""

    def __init__(self) -> None:
        self.ready: dict[int, int] = {}  # of each open descriptor: all the bits that hold now
        self.ports: list[ModelPort] = []

    def set(self, fd: int, bits: int) -> None:
        """`fd` is open, and `bits` hold. Every port that watches it has its own event (R106)."""
        self.ready[fd] = bits
        for port in self.ports:
            port.notice(fd)

    def close(self, fd: int) -> None:
        """The number is closed, or about to mean another open file (R113).

        The ports forget the number, wherever else the open file lives on (R114); what is opened
        under the number next has no association and no event (R115).
        """
        del self.ready[fd]
        for port in self.ports:
            port.forget(fd)


class Association:
    """What a port knows of a descriptor: known from the first associate on (R108)."""

    def __init__(self, events: int, user: object) -> None:
        self.events = events
        self.user = user
        self.active = True  # until it fires: one associate brings one event (R096)


class ModelPort:
    """A port. Its methods are those of `portcompat.Port`, with every timeout 0.

    `notice` and `forget` are called by `Descriptors` too.
    """

    def __init__(self, descriptors: Descriptors, max_events: int) -> None:
        self.max_events = max_events
        self.closed = False
        self.queue: list[PortEvent] = []
        self.associations: dict[int, Association] = {}
        self.ever_associated = False
        self.alerted: PortEvent | None = None
        self._descriptors = descriptors
        descriptors.ports.append(self)

    # Descriptors

    def associate(self, fd: int, events: int, user: object = None) -> None:
        self._check_open()
        if not self._is_open(fd):
            _fail(EBADFD)  # R090; events are not checked at all (R091)
        if fd not in self.associations and self.is_full():
            _fail(errno.EAGAIN)  # R080: a known descriptor needs no further slot
        self._withdraw(fd)  # R088, R102: its event leaves its place, whatever comes next
        self.associations[fd] = Association(events, user)  # R102, R103: the latest counts
        self.ever_associated = True
        self.notice(fd)  # R095: a condition that holds already is an event at once

    def dissociate(self, fd: int) -> None:
        self._check_open()
        if fd < 0:
            _fail(EBADFD)  # R118, and so the order of the checks
        if not self.ever_associated:
            _fail(errno.ENOENT)
        if not self._is_open(fd):
            _fail(EBADFD)
        if fd not in self.associations:
            _fail(errno.ENOENT)  # R122
        retrieved = not self.associations[fd].active and not self._is_queued(fd)
        self.forget(fd)  # R119, and R120: with its event
        if retrieved:
            _fail(errno.ENOENT)  # R121: nothing was waited for, but the slot is free now

    def notice(self, fd: int) -> None:
        """Queue the event of `fd` if it is waited for and its condition holds."""
        association = self.associations.get(fd)
        if association is None or not association.active:
            return  # R100: what an event says is not changed any more
        # R097, R098: of the bits that hold, those asked for and the two that need no asking.
        bits = self._descriptors.ready[fd] & (association.events | POLLHUP | POLLERR)
        if bits:
            association.active = False  # R096
            self.queue.append(PortEvent(PORT_SOURCE_FD, fd, bits, association.user))

    def forget(self, fd: int) -> None:
        """Drop the association of `fd`, if there is one, with its event."""
        self._withdraw(fd)  # R112
        self.associations.pop(fd, None)

    def _withdraw(self, fd: int) -> None:
        self.queue = [event for event in self.queue if not _is_of(event, fd)]

    def _is_queued(self, fd: int) -> bool:
        return any(_is_of(event, fd) for event in self.queue)

    def _is_open(self, fd: int) -> bool:
        return fd in self._descriptors.ready

    # Messages

    def send(self, events: int, user: object = None) -> None:
        self._check_open()
        if self.is_full():
            _fail(errno.EAGAIN)  # R080
        # R157: events may be anything; R158: also in alert mode; R159: two sends are two events.
        self.queue.append(PortEvent(PORT_SOURCE_USER, 0, events, user))  # R156

    def is_full(self) -> bool:
        messages = sum(event.source == PORT_SOURCE_USER for event in self.queue)
        return len(self.associations) + messages >= self.max_events  # R079

    # The alert

    def alert(self, events: int, user: object = None, *, flags: int = PORT_ALERT_SET) -> None:
        self._check_open()
        if events == 0:
            self.alerted = None  # R167: whatever the flags are, and whether it was set or not
        elif flags & PORT_ALERT_INVALID == PORT_ALERT_INVALID:
            _fail(errno.EINVAL)  # R168
        elif flags == PORT_ALERT_UPDATE and self.alerted is not None:
            _fail(errno.EBUSY)  # R169
        else:  # R170: every other number sets, 0 and unknown bits too
            self.alerted = PortEvent(PORT_SOURCE_ALERT, 0, events, user)  # R171, R176: no slot

    # Retrieval

    def get(self, timeout: Literal[0]) -> PortEvent:
        events = self.getn(1, 1, timeout)  # R145
        if not events:
            raise PortTimeout  # R144
        return events[0]

    def getn(self, max: int, nget: int, timeout: Literal[0]) -> list[PortEvent]:
        self._check_open()  # R126, and so the order of the checks
        if 0 < max < nget:
            _fail(errno.EINVAL)  # R148: also in alert mode
        if max == 0 or nget == 0:
            return []  # R146, R147: also in alert mode
        if self.alerted is not None:
            return [self.alerted]  # R154, R172; it is not consumed (R171)
        # R132, R149: up to `max` and not just `nget`; R150: and fewer than `nget` if that is all.
        events, self.queue = self.queue[:max], self.queue[max:]
        return events  # R101: as they were queued; their descriptors are not asked again

    def pending(self) -> int:
        self._check_open()
        return len(self.queue)  # R146: all of them, also in alert mode; the alert is none (R176)

    # Closing

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._descriptors.ports.remove(self)
            self.queue.clear()  # R177
            self.associations.clear()

    def _check_open(self) -> None:
        if self.closed:
            _fail(errno.EBADF)  # R064: before anything else is looked at


def sendn(ports: Sequence[ModelPort], events: int, user: object = None) -> tuple[int, list[int]]:
    """The model of `portcompat.sendn`."""
    if not ports:
        _fail(errno.EINVAL)  # R160
    errors = []
    for port in ports:  # R165: in their order; one that is named twice gets two
        if port.closed:
            errors.append(errno.EBADF)  # R163
        elif port.is_full():
            errors.append(errno.EAGAIN)
        else:
            port.send(events, user)
            errors.append(0)
    return errors.count(0), errors  # R161: 0 and no error if none could be sent


def _is_of(event: PortEvent, fd: int) -> bool:
    return event.source == PORT_SOURCE_FD and event.object == fd  # R082: there is at most one


def _fail(number: int) -> NoReturn:
    raise OSError(number, "")
