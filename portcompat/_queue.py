"""The queue of a port: which events wait, in which order, and how many there is room for."""

from collections import deque
from collections.abc import Callable
from itertools import islice

from portcompat._constants import PORT_SOURCE_AIO, PORT_SOURCE_ALERT, PORT_SOURCE_USER
from portcompat._events import PortEvent


class Slot:
    """What holds a slot of the queue from the day it is made, and has at most one event in it."""

    __slots__ = ("queued", "stale", "user")

    lasting = False  # whether `user` is for more events than one

    def __init__(self) -> None:
        self.user: object = None  # what the event will carry; let go when it is taken
        self.queued = False
        self.stale = 0  # places in the line that it was withdrawn from and that still stand there

    def deliver(self) -> PortEvent | None:
        """The event, made when it is taken; None if there is nothing to tell any more."""
        raise NotImplementedError


class EventQueue:
    """One first-in-first-out line for all sources, in two parts.

    `inbox` is where senders append without a lock: `deque.append` is one step, for threads and for
    signal handlers. All that is in `line` is older than all that is in the inbox; `settle`
    moves the inbox there, which whoever looks for the events of slots does at the right moment.

    A slot is withdrawn in O(1) by marking it: it keeps its place in the line as a *stale* one.
    Since a slot joins at the tail, its stale places stand before its live one, so a count of
    them is all that is needed to tell them apart.

    `room` is how long the inbox may get. Objects take their slot off it when they are made (R079),
    so queueing their events cannot fail (R082); user events take theirs when they join the line.
    What the inbox holds is counted by its length alone; what is in it beyond `room` is not there
    for anybody: messages are about to be retracted by their senders, completions of asynchronous
    I/O wait there for room (R081).

    Nothing here locks, waits or asks the system, but for what `Slot.deliver` does.
    """

    __slots__ = ("declined", "inbox", "limit", "line", "room", "sent", "slot_of", "stale")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.inbox: deque[PortEvent] = deque()
        self.sent = iter(self.inbox.popleft, None)  # takes from the inbox; IndexError at the end
        # Whose event it was; None if that has nothing to tell any more.
        self.slot_of: Callable[[PortEvent], Slot | None] = lambda event: None
        # What `take` came across that is to be looked after: it had nothing to tell any more, or
        # it is to be watched again.
        self.declined: list[Slot] = []
        self.line: deque[PortEvent | Slot] = deque()
        self.stale = 0
        self.room = limit

    def __len__(self) -> int:
        return len(self.line) - self.stale + max(0, min(len(self.inbox), self.room))

    def __bool__(self) -> bool:
        return len(self.line) > self.stale or (len(self.inbox) > 0 and self.room > 0)

    @property
    def settled(self) -> int:
        """How many events are before the inbox."""
        return len(self.line) - self.stale

    def settle(self) -> None:
        """Move the inbox behind the line."""
        line = self.line
        count, before = max(0, min(len(self.inbox), self.room)), len(line)
        sent = islice(self.sent, count)
        self.room -= count
        try:
            line.extend(sent)
        except IndexError:  # a `get` without the lock was faster
            pass
        finally:
            self.room += count - (len(line) - before)

    def withdraw(self, slot: Slot) -> None:
        """Take the queued `slot` out again."""
        slot.queued = False
        slot.stale += 1
        self.stale += 1
        self.tidy()

    def tidy(self) -> None:
        """Drop the stale places when they are most of the line."""
        if self.stale > 64 and self.stale > len(self.line) // 2:
            self._compact()

    def retract(self, event: PortEvent | None) -> bool:
        """Take back what was just appended to the inbox; False if it is no longer there."""
        inbox = self.inbox
        for place in range(len(inbox) - 1, -1, -1):
            try:
                if inbox[place] is event:
                    del inbox[place]
                    return True
            except IndexError:  # a `get` without the lock has made it shorter
                continue
        return False

    def take(self, limit: int, least: int = 0) -> list[PortEvent]:
        """Remove and return the first events, up to `limit`; none if there are less than `least`.

        A signal handler may raise between any two steps. So nothing is held by a local name alone
        while the interpreter looks for signals (it does after calls), and what was taken goes back.
        """
        line, inbox = self.line, self.inbox
        events: list[PortEvent] = []
        slot: Slot | None = None
        try:
            while line and len(events) < limit:
                entry = line[0]
                if isinstance(entry, Slot):
                    if entry.stale:
                        entry.stale -= 1
                        self.stale -= 1
                        del line[0]
                        continue
                    slot = entry
                    del line[0]
                    slot.queued = False
                    event = slot.deliver()
                    if event is None:
                        self.declined.append(slot)
                    else:
                        events.append(event)
                        if not slot.lasting:
                            slot.user = None
                    slot = None
                else:
                    del line[0]
                    self.room += 1
                    events.append(entry)
            if inbox and len(events) < limit:
                self.take_sent(events, limit - len(events))
            if len(events) < least:
                self.put_back(events)
                events = []
        except BaseException:
            if slot is not None:
                slot.queued = True
                line.appendleft(slot)
            self.put_back(events)
            raise
        return events

    def take_sent(self, events: list[PortEvent], limit: int) -> None:
        """Move up to `limit` events from the inbox to `events`."""
        if limit > 1 or self.room < 1:
            limit = max(0, min(limit, self.room, len(self.inbox)))
        try:
            events.extend(islice(self.sent, limit))
        except IndexError:  # a `get` without the lock was faster
            pass

    def put_back(self, events: list[PortEvent]) -> None:
        """Put events that were taken and not delivered to the head again; `events` gets empty.

        An alert never was in the queue (R176). If a signal handler raises, `events` holds what is
        still to be put back: there is no call between the two steps of each.
        """
        line = self.line
        while events:
            event = events[-1]
            if event.source == PORT_SOURCE_USER or event.source == PORT_SOURCE_AIO:
                del events[-1]
                self.room -= 1
                line.appendleft(event)
                continue
            slot = None if event.source == PORT_SOURCE_ALERT else self.slot_of(event)
            del events[-1]
            if slot is not None:
                slot.queued = True
                line.appendleft(slot)

    def clear(self) -> list[object]:
        """Drop everything, the port is closing; returns it, to be let go elsewhere."""
        dropped: list[object] = [*self.line, *self.inbox]
        self.line.clear()
        self.inbox.clear()
        self.stale = 0
        return dropped

    def slots(self) -> list[Slot]:
        """The slots that are queued now."""
        return [
            slot
            for slot in dict.fromkeys(e for e in self.line if isinstance(e, Slot))
            if slot.queued
        ]

    def _compact(self) -> None:
        line: deque[PortEvent | Slot] = deque()
        for entry in self.line:
            if isinstance(entry, Slot) and entry.stale:
                entry.stale -= 1
            else:
                line.append(entry)
        self.line = line
        self.stale = 0
