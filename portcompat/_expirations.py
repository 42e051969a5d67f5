"""The timers of a port: armed, expired, counted, and gone."""

import errno
from collections import deque
from heapq import heappush
from itertools import islice
from typing import TYPE_CHECKING, Final

from portcompat._clocks import CLOCK_MONOTONIC, CLOCK_REALTIME, LAST, require_shown
from portcompat._constants import PORT_SOURCE_TIMER
from portcompat._deadlines import Crowd, Deadlines, expirations, remaining
from portcompat._events import PortEvent
from portcompat._queue import EventQueue, Slot
from portcompat._timer_ids import ids
from portcompat.abc import BackendTimer, Driver

if TYPE_CHECKING:
    from portcompat._engine import Engine

_new: Final = tuple.__new__  # a third of the time of PortEvent(...), which is a Python function

_INT_MAX: Final = 0x7FFF_FFFF  # R266
_DELETED: Final = -1
_DISARMED: Final = 0, 0


class _Armed(Slot):
    """What firing touches of a timer, side by side: slots lie in the order of their names."""

    __slots__ = ("interval", "once", "when")

    when: int | None
    interval: int
    once: PortEvent


class PortTimer(_Armed, BackendTimer):
    """A timer that queues events (SIGEV_PORT).

    While it is armed and has no event queued it stands in the `Deadlines` of its clock. With one
    queued it does not: nothing has to happen at its next deadline, and how many have passed is
    counted when the event is taken (R265). `when` is the first deadline that is not yet in `count`.

    Each call is one critical section of the engine.
    """

    __slots__ = ("clock", "count", "deadlines", "engine", "number")

    def __init__(
        self, engine: "Engine", clock: int, number: int, user: object, deadlines: "_Deadlines"
    ) -> None:
        self.user = None  # of Slot, which forgets it with each event: `once` has it
        self.queued = False
        self.stale = 0
        self.engine = engine
        self.clock = clock
        self.number = number
        # The event of one expiry, ready: to make it costs as much as all else at that time.
        self.once = _new(PortEvent, (PORT_SOURCE_TIMER, number, 1, user))
        self.deadlines = deadlines
        self.when = None
        self.interval = 0
        self.count = 0

    def set(self, value: int | None, interval: int, absolute: bool) -> tuple[int, int]:
        engine = self.engine
        lock = engine._lock
        try:
            lock.acquire()  # as in `Monitor`
            was = self.when
            deadlines = self.deadlines
            now = deadlines.now()
            former: tuple[int, int] | None = None
            due = was is not None and was <= now  # and nobody has looked
            if not (engine._busy or engine.closed or self.number < 0 or self.queued or due):
                former = _DISARMED if was is None else (was - now, self.interval)
                if value is None:
                    if was is not None:
                        self._cancel(was)
                else:
                    if self.clock == CLOCK_REALTIME:
                        deadlines = engine._expirations.deadlines(self.clock, absolute)
                        now = deadlines.now()
                    when = value if absolute else now + value
                    if when <= now or when + interval > LAST or when in deadlines.at:
                        former, due = None, when <= now
                    else:
                        # No signal handler can raise before the push is done, so the change is made
                        # or not; `_busy` is for those that take longer.
                        before = self.deadlines
                        engine._timed = True
                        engine._plain = False
                        engine._quiet = -1
                        try:
                            deadlines.at[when] = self
                            self.when, self.interval, self.deadlines = when, interval, deadlines
                            heap = deadlines.heap
                            heappush(heap, when)
                            if was is not None and (was != when or before is not deadlines):
                                before.discard(was, self)
                            if heap[0] == when and (engine._in_driver or engine._shown is not None):
                                engine._expirations.set_alarms(exact=engine._shown is not None)
                        except BaseException:  # of a handler: who waits is to be told all the same
                            engine._expirations.set_alarms(exact=engine._shown is not None)
                            raise
        except BaseException:
            try:
                lock.release()
            except RuntimeError:
                pass  # the exception came instead of the lock
            raise
        lock.release()
        return self._set(value, interval, absolute, due) if former is None else former

    def _cancel(self, was: int) -> None:
        engine = self.engine
        self.when, self.interval = None, 0
        self.deadlines.discard(was, self)
        if not self.deadlines.heap:
            engine._timed = engine._expirations.armed()
        if engine._shown is not None:
            engine._catch_up()

    def _set(self, value: int | None, interval: int, absolute: bool, due: bool) -> tuple[int, int]:
        """`set` where there is more to it. `due`: there will be an event to queue."""
        engine = self.engine
        if due and engine._unseen and engine._in_driver:
            engine.look_first()
        with engine._lock:
            if engine._busy or engine.abandoned or self.number < 0:
                self._refuse()
            engine._busy = True
            try:
                timers = engine._expirations
                before, was = self.deadlines, self.when
                if was is not None:
                    now = before.now()
                    if was <= now:
                        self._expire(now)
                former = self._get()
                if value is None:
                    self.when, self.interval = None, 0
                else:
                    deadlines = timers.deadlines(self.clock, absolute)
                    now = deadlines.now()
                    when = value if absolute else now + value
                    require_shown(self.clock, when + interval)
                    if not (self.queued or engine.closed):
                        engine._timed = True
                        deadlines.add(when, self)
                    # No call among these, so no handler can raise between them.
                    self.when, self.interval, self.deadlines = when, interval, deadlines
                    if not engine.closed:
                        if when <= now:
                            engine._expire()
                        elif engine._in_driver:
                            timers.set_alarms()
                if was is not None and (was != self.when or before is not self.deadlines):
                    before.discard(was, self)
            except BaseException:  # of a signal handler: what is due is to be told all the same
                if not engine.closed:
                    engine._expire()
                    engine._expirations.set_alarms()
                raise
            finally:
                engine._busy = False
                engine._catch_up()
        return former

    def get(self) -> tuple[int, int]:
        with self.engine._lock:
            if self.number == _DELETED or self.engine.abandoned:
                self._refuse()
            return self._get()

    def overrun(self) -> int:
        with self.engine._lock:
            if self.number == _DELETED or self.engine.abandoned:
                self._refuse()
        return 0  # R268: the count is in the event

    @property
    def deleted(self) -> bool:
        return self.number == _DELETED or self.engine.abandoned

    def delete(self) -> None:
        engine = self.engine
        with engine._lock:
            if engine._busy or engine.abandoned or self.number == _DELETED:
                self._refuse()
            engine._busy = True
            queue = engine._queue
            try:
                when = self.when
                # No call among these, so no signal handler can raise between them. After that it
                # is deleted, wherever it still stands.
                self.number = _DELETED
                self.when = None
                queue.room += 1
                if self.queued and not engine.closed:
                    self.queued = False
                    self.stale += 1
                    queue.stale += 1
                    queue.tidy()
                if when is not None:
                    self.deadlines.discard(when, self)
            finally:
                engine._busy = False
                engine._catch_up()

    def orphan(self) -> None:
        expirations = self.engine._expirations
        expirations.orphans.append(self)
        if self.engine.closed:
            expirations.drop_orphans()

    # Inside the lock

    def _expire(self, now: int) -> None:
        """Bring the count up to `now`, before another setting replaces this one (R260)."""
        if not (self.queued or self.engine.closed):
            self.engine._expire()
        if self.queued and self.when is not None:
            passed, when = expirations(self.when, self.interval, now)
            self.count += passed
            self.when = when

    def deliver(self) -> PortEvent | None:
        if self.number == _DELETED:
            return None
        count, when = self.count, self.when
        if when is not None:
            engine = self.engine
            passed, when = expirations(when, self.interval, self.deadlines.now())
            count += passed
            if when is not None and not engine.closed:
                engine._timed = True
                if self.deadlines.add(when, self) and engine._in_driver:
                    engine._expirations.set_alarms()
        event = self.event(count)
        # Only now: a handler may have raised, and then the count is still to be told.
        self.count = 0
        self.when = when
        return event

    def event(self, count: int) -> PortEvent:
        if count == 1:
            return self.once
        source, number, _, user = self.once
        return _new(PortEvent, (source, number, min(count, _INT_MAX), user))

    def _get(self) -> tuple[int, int]:
        if self.when is None:
            return 0, 0
        left = remaining(self.when, self.interval, self.deadlines.now())
        return (left, self.interval) if left else (0, 0)

    def _refuse(self) -> None:
        if self.engine.abandoned:
            raise OSError(
                errno.EINVAL, "the timer belongs to the parent: a timer does not survive fork"
            )
        if self.number == _DELETED:
            raise OSError(errno.EINVAL, "the timer has been deleted")
        self.engine._refuse()


_Deadlines = Deadlines[PortTimer]


class Expirations:
    """The deadlines of an engine's timers, clock by clock, under the engine's lock.

    A timer that is set relative to now goes by CLOCK_MONOTONIC even if its clock is CLOCK_REALTIME:
    that the date is set does not concern it (R259).

    The driver is told of the first deadline of each clock when the leader goes in, and while he is
    inside when it comes nearer. To set and cancel timers while nobody waits costs no system call.
    """

    __slots__ = ("_by_clock", "_driver", "_others", "_queue", "_reader", "alarmed", "orphans")

    def __init__(self, driver: Driver, queue: EventQueue) -> None:
        self._driver = driver
        self._queue = queue
        self._others = queue.slot_of
        queue.slot_of = self._taken
        self._by_clock: dict[int, _Deadlines] = {}
        self._reader = driver.reader
        self.alarmed = False  # whether the driver has an alarm
        self.orphans: deque[PortTimer] = deque()

    def prepare(self, clock: int) -> "_Deadlines":
        """Have what it takes to wait on `clock`; descriptors may run out."""
        for each in (CLOCK_MONOTONIC, clock) if clock == CLOCK_REALTIME else (clock,):
            if each not in self._by_clock:
                self._driver.set_alarm(each, None)
                # Not changed in place: senders go through it without the lock.
                self._by_clock = {**self._by_clock, each: Deadlines(each, self._reader(each))}
        return self._by_clock[clock]

    def deadlines(self, clock: int, absolute: bool) -> "_Deadlines":
        """Those that a timer of `clock` goes by."""
        if clock == CLOCK_REALTIME and not absolute:
            clock = CLOCK_MONOTONIC
        return self._by_clock[clock]

    def is_due(self) -> bool:
        """Whether there may be a timer that is due; needs no lock."""
        for deadlines in self._by_clock.values():
            try:
                if deadlines.due or deadlines.over or deadlines.heap[0] <= deadlines.now():
                    return True
            except IndexError:
                pass
        return False

    def look(self) -> bool:
        """Find what is due. Returns whether there is any."""
        found = False
        for deadlines in self._by_clock.values():
            if deadlines and deadlines.expire(deadlines.now()):
                found = True
        return found

    def fire(self) -> bool:
        """Queue the events of what is due. Returns whether any timer is left."""
        append = self._queue.line.append
        left = False
        for deadlines in self._by_clock.values():
            if deadlines:
                due = deadlines.due
                now = deadlines.now()
                while deadlines.expire(now):
                    for timer in islice(deadlines.taking, len(due)):
                        # No call before the last, so no handler can raise before it is done.
                        when = timer.when
                        if when is None or when > now or timer.queued:
                            due.appendleft(timer)
                            _pass_over(deadlines, now)
                            break
                        interval = timer.interval
                        timer.when = when + interval if interval else None
                        timer.count = 1
                        timer.queued = True
                        append(timer)
            left = left or bool(deadlines)
        return left

    def armed(self) -> bool:
        """Whether a timer may expire."""
        return any(self._by_clock.values())

    def collect(self, limit: int) -> list[PortEvent]:
        """The events of what is due, up to `limit`, made at once: nothing is queued before them."""
        events: list[PortEvent] = []
        append = events.append
        try:
            for deadlines in self._by_clock.values():
                if not deadlines:
                    continue
                now = deadlines.now()
                due = deadlines.due
                while len(events) < limit and deadlines.expire(now):
                    for timer in islice(deadlines.taking, min(len(due), limit - len(events))):
                        # No call before the last, so no handler can raise before it is done.
                        when = timer.when
                        if when is None or when > now or timer.queued:
                            due.appendleft(timer)
                            _pass_over(deadlines, now)
                            break
                        if timer.interval:
                            due.appendleft(timer)  # until it has expired
                            append(_expire(timer, deadlines, when, now))
                            del due[0]
                        else:
                            timer.when = None
                            append(timer.once)
        except BaseException:
            self._queue.put_back(events)
            raise
        return events

    def set_alarms(self, exact: bool = False) -> None:
        """Tell the driver of the first deadlines.

        Unless `exact`, an alarm that goes off too soon may stand: that is cheaper than to set it
        anew each time that a timer is cancelled.
        """
        alarmed = False
        for clock, deadlines in self._by_clock.items():
            first = deadlines.first()
            if self._needs(deadlines, first, exact):
                self._driver.set_alarm(clock, None if first is None else min(first, LAST))
                deadlines.alarm = first
            alarmed = alarmed or deadlines.alarm is not None
        self.alarmed = alarmed

    def _needs(self, deadlines: "_Deadlines", first: int | None, exact: bool) -> bool:
        """Whether the driver is to be told of `first`."""
        alarm, clock = deadlines.alarm, deadlines.clock
        if alarm is None:
            return first is not None
        if (first != alarm) if exact else (first is not None and first < alarm):
            return True
        # It may have gone off unheard in a look that came before this wait, and a date that is set
        # back does not show that it has.
        return clock == CLOCK_REALTIME or alarm <= deadlines.now()

    def clear(self) -> None:
        """The port is closed."""
        for deadlines in self._by_clock.values():
            deadlines.clear()
        self.drop_orphans()

    def drop_orphans(self) -> None:
        while self.orphans:
            timer = self.orphans.pop()
            ids.release(timer.number, timer)

    def _taken(self, event: PortEvent) -> Slot | None:
        """The timer that `event` was of, with its count given back."""
        if event.source != PORT_SOURCE_TIMER:
            return self._others(event)
        timer = ids.timers.get(event.object)
        if not isinstance(timer, PortTimer) or timer.engine._queue is not self._queue:
            return None
        if timer.number != event.object:
            return None
        timer.count += event.events
        return None if timer.queued else timer


def _pass_over(deadlines: _Deadlines, now: int) -> None:
    """Deal with the first of what is due: a crowd, or a timer that is not due after all."""
    timer = deadlines.due[0]
    if isinstance(timer, Crowd):
        deadlines.part()
        return
    when = timer.when
    if when is not None and when > now and not timer.queued:
        timer.deadlines.add(when, timer)  # the date has been set back since
    del deadlines.due[0]


def _expire(timer: PortTimer, deadlines: _Deadlines, when: int, now: int) -> PortEvent:
    """The event of a timer that is due at `when`. It has expired when this returns, not before."""
    following = None
    count = 1
    if timer.interval:
        count = (now - when) // timer.interval + 1
        following = when + count * timer.interval
        deadlines.add(following, timer)
    event = timer.event(count)
    timer.when = following
    return event
