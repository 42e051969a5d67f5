"""Who waits in a port: leader and followers."""

import errno
from bisect import bisect_left
from math import ceil
from threading import Lock, get_ident
from typing import Final

from portcompat._clocks import CLOCK_MONOTONIC
from portcompat._events import PortEvent
from portcompat._monitor import Monitor, Waiter, let_go

_LONGEST: Final = 86400.0  # seconds that a driver is asked to wait at once


class Turns(Monitor):
    """How the threads of a port wait.

    **Leader and followers.** Of the threads that wait one, the leader, is in `driver.wait`; the
    others sleep, each on a lock of its own. Whoever brings events hands them to those who wait
    (`Monitor`); a leader that has its events passes the lead on. So no thread pumps, and an event
    costs one thread switch.
    """

    __slots__ = ()

    def _join(self, waiter: Waiter) -> None:
        if self._waiters:
            if any(other.thread == waiter.thread for other in self._waiters):
                self._refuse()
            place = bisect_left(self._ring, waiter.want, key=lambda other: other.want)
            self._ring.insert(place, waiter)
        else:
            self._ring.append(waiter)
        self._waiters.add(waiter)
        if self._leader is None:
            self._leader = waiter
            waiter.leads = True
        else:
            waiter.turn = Lock()
            waiter.turn.acquire()

    def _wait(self, waiter: Waiter, timeout: float | None) -> list[PortEvent]:
        deadline = None if timeout is None else self._now() + ceil(timeout * 1e9)
        while waiter.outcome is None:
            if not waiter.leads:
                assert waiter.turn is not None
                span = None if deadline is None else self._span(deadline)
                if not self._driver.sleep(waiter.turn, span) and self._is_over(deadline):
                    break
            elif self._in_driver or self._take_lead(waiter):
                ready = self._driver.wait(None if deadline is None else self._span(deadline))
                if events := self._come_out_alone(waiter, ready):
                    return events
                if self._come_out(waiter, ready, deadline):
                    break
        return self._leave(waiter)

    def _take_lead(self, waiter: Waiter) -> bool:
        """A follower has become the leader. False if he has his outcome already."""
        with self._lock:
            if waiter.outcome is not None:
                return False
            self._enter()
            return True

    def _enter(self) -> None:
        """In the lock: go in, which is a change of its own."""
        self._busy = True
        try:
            if self._unseen:
                self._look()  # a timer may be told before the wait has looked
            self._go_in()
        finally:
            self._busy = False
            self._catch_up()

    def _go_in(self) -> None:
        """In the lock: the leader is about to wait in the driver."""
        if self._inbox:
            if self._unseen:
                self._look()
            self._quiet = -1
            self._queue.settle()
        self._unseen = False
        self._unlooked = 0
        if self._timed or self._expirations.alarmed:
            self._expirations.set_alarms()
        self._in_driver = True

    # A thread that waits for one event and is the only one, the usual case, takes a short way: it
    # is the leader and all of the ring, so there is nobody to arrange things with. Any change that
    # is caught up with meanwhile, but a send, ends that.

    def _go_in_alone(self, waiter: Waiter) -> bool:
        """In the lock: nobody waits and nothing is queued, and `waiter` is about to wait.

        Returns whether that leaves nothing to catch up with.
        """
        if self._timed or self._expirations.alarmed:
            self._expirations.set_alarms()
        waiter.leads = True
        self._waiters.add(waiter)
        self._ring.append(waiter)
        self._leader = waiter
        self._unseen = False
        self._unlooked = 0
        self._in_driver = True
        if self._attended:
            return False
        self._alone = True
        self._calm = 0 if self._queue.room > 0 else -1
        self._quiet = -1 if self._timed else self._calm
        return not self._inbox  # somebody may have sent before `_quiet` was lowered

    def _come_out_alone(self, leader: Waiter, ready: list[tuple[int, int]]) -> list[PortEvent]:
        """The leader is back; if he is alone and there are events, he leaves with them.

        If not, what is in `ready` is still to be admitted.
        """
        events: list[PortEvent] = []
        lock = self._lock
        try:
            lock.acquire()
            if self._alone and len(ready) <= leader.limit:
                self._busy = True
                try:
                    leader.outcome = events  # where they are found if this is interrupted
                    if self._timed:
                        self._expire()
                    if self._queue.line:
                        self._associations.admit(ready, False)
                        ready.clear()
                        events += self._queue.take(leader.limit)
                    elif ready:
                        events += self._associations.collect(ready)
                        ready.clear()
                    if self._inbox and not events:
                        self._queue.take_sent(events, leader.limit)
                    if events:
                        self._ring.clear()
                        self._waiters.clear()
                        self._leader = None
                        self._alone = self._in_driver = self._called = self._call_due = False
                    else:
                        leader.outcome = None
                finally:
                    self._busy = False
                    if events or self._again:
                        self._catch_up()
        except BaseException:
            try:
                lock.release()
            except RuntimeError:
                pass  # the exception came instead of the lock
            raise
        lock.release()
        return events

    def _come_out(self, leader: Waiter, ready: list[tuple[int, int]], deadline: int | None) -> bool:
        """The leader is back from the driver. Returns whether his wait is over; else he goes in."""
        with self._lock:
            self._alone = self._in_driver = self._called = self._call_due = False
            self._busy = True
            try:
                late = self._unseen  # as in `_look`
                if self._timed and not late:
                    self._expire()
                self._associations.admit(ready, self._shown is not None)
                if self._associations.doubtful:
                    self._associations.doubtful.clear()
                    self._unseen = True
                if self._callers or (self._unseen and self._inbox):
                    self._look()  # what was armed since he waited has not been looked at
                if self._timed and late:
                    self._expire()
            finally:
                self._dismiss_callers()
                self._busy = False
                self._catch_up()
            if leader.outcome is not None or self._is_over(deadline):
                return True
            self._enter()
            return False

    def _call_leader(self) -> None:
        """Have what is ready queued while somebody leads: only he can look while he is inside."""
        with self._lock:
            if self._busy or self.closed:
                self._refuse()
            if self._leader is None or self._leader.thread == get_ident():
                return
            if not self._in_driver:
                self._busy = True
                try:
                    self._look()
                finally:
                    self._busy = False
                    self._catch_up()
                return
            self._alone = False
            caller = Lock()
            caller.acquire()
            self._callers.append(caller)
            self._call()
            self._pay()
        caller.acquire()

    def look_first(self) -> None:
        """`_call_leader` for a timer, which works on when the port is closed."""
        if not self.closed:
            try:
                self._call_leader()
            except OSError:
                if not self.closed:
                    raise

    def _dismiss_callers(self) -> None:
        while self._callers:
            if self._callers[-1].locked():
                self._callers[-1].release()
            del self._callers[-1]

    def _leave(self, waiter: Waiter, interrupted: bool = False) -> list[PortEvent]:
        """Take the waiter out, pass the lead on, and return what he goes with.

        `interrupted` is for a waiter whom an exception takes away: what he had goes back.
        """
        with self._lock:
            led = self._leader is waiter
            if led and interrupted and not self.closed:
                self._in_driver = False
                self._busy = True
                try:
                    self._recover()
                finally:
                    self._busy = False
            self._alone = False
            self._waiters.discard(waiter)
            if waiter in self._ring:
                self._ring.remove(waiter)
            if led:
                self._leader = None
                self._in_driver = self._called = self._call_due = False
                self._dismiss_callers()
                if self.closed:
                    self._close_driver()
            if not self._waiters and self._left.locked():
                self._left.release()
            if self.closed and waiter.outcome is None:
                waiter.outcome = OSError(errno.EBADF, self._why_closed)
            self._busy = True
            try:
                if interrupted:
                    if isinstance(waiter.outcome, list):
                        self._quiet = -1
                        self._queue.put_back(waiter.outcome)
                        waiter.outcome = None
                elif waiter.outcome is None:  # time is up: fewer are better than none (R151)
                    waiter.outcome = self._queue.take(waiter.limit)
            finally:
                if self._leader is None and self._ring:
                    self._leader = self._ring[0]
                    self._leader.leads = True
                if self._leader is not None and not self._in_driver:
                    let_go(self._leader)
                self._busy = False
                self._catch_up()
        if isinstance(waiter.outcome, OSError) and not interrupted:
            raise waiter.outcome
        return waiter.outcome if isinstance(waiter.outcome, list) else []

    def _be_taken_away(self, waiter: Waiter) -> None:
        """Leave with the exception of a signal handler; the next handler may raise meanwhile."""
        try:
            self._leave(waiter, interrupted=True)
        except BaseException:
            self._leave(waiter, interrupted=True)
            raise

    # Time

    def _now(self) -> int:
        return self._driver.now(CLOCK_MONOTONIC)

    def _span(self, deadline: int) -> float:
        """The seconds until `deadline`; not more than each system can be asked to wait."""
        return min(max(0, deadline - self._now()) / 1e9, _LONGEST)

    def _is_over(self, deadline: int | None) -> bool:
        return deadline is not None and self._now() >= deadline
