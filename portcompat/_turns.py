"""Who waits in a port: leader and followers, under the port's lock."""

import errno
import sys
from _thread import LockType
from bisect import bisect_left
from math import ceil
from threading import Lock, RLock, get_ident
from typing import Final, NoReturn

from portcompat._associations import Associations
from portcompat._clocks import CLOCK_MONOTONIC
from portcompat._events import PortEvent
from portcompat._expirations import Expirations
from portcompat._files import Files
from portcompat._queue import EventQueue
from portcompat.abc import Driver

NEVER: Final = sys.maxsize  # how many events the stand-by thread of a port waits for

_LONGEST: Final = 86400.0  # seconds that a driver is asked to wait at once


class Waiter:
    """A thread in `getn` that found too few events.

    With its `turn` it is handed an `outcome` (events, or the error that ends its wait), or it
    `leads`: goes and waits in the driver for all.
    """

    __slots__ = ("leads", "limit", "outcome", "thread", "turn", "want")

    def __init__(self, want: int, limit: int) -> None:
        self.want = want
        self.limit = limit
        self.outcome: list[PortEvent] | OSError | None = None
        self.leads = False
        self.thread = get_ident()
        self.turn: LockType | None = None  # of a follower


class Turns:
    """The threads of a port, and the lock that all of the port is under.

    **Leader and followers.** Of the threads that wait one, the leader, is in `driver.wait`; the
    others sleep, each on a lock of its own. `_ring` holds them all, fewest wanted first and the
    newest first among equals (R137). Whoever brings events hands them to the head of the ring as
    long as there are as many as the head wants (`_arrange`); a leader who is inside the driver is
    called and takes his own. A leader that has its events passes the lead on. So no thread pumps,
    and an event costs one thread switch.

    **The lock** protects everything here but the inbox of the queue, and nobody waits while he
    holds it. It is re-entrant for one reason: a signal handler or a finalizer may interrupt the
    holder in his own thread. `_busy` says that a change is under way; then `send` leaves its event
    in the inbox and a note for the interrupted call (`_again`, R066), and every other call fails
    with EDEADLK where a plain lock would hang.

    **Sending** is an append to the inbox, which is one step, and then a comparison with `_quiet`:
    how long the inbox may get before a sender has to look after it himself. That is the room there
    is, or less when somebody waits for just so many. Both sides write first and read then: a sender
    appends and reads `_quiet`, `_arrange` lowers `_quiet` and reads the inbox. One sees the other.
    While a timer may expire it is -1, and `_calm` is what it would be: the sender sees to it that
    what is due comes before what he has sent.

    **Order.** To associate arms a descriptor and does not look whether it is ready; `_unseen` says
    so. The next send, alert or retrieval looks first, so an event that was due when its descriptor
    was associated comes before what is sent after it (R084, R095), and a loop that associates and
    waits pays nothing for that. While the leader is in the driver only he can look: what is sent
    then stays in the inbox until he is back and has queued what he got.

    **Interruptions.** A signal handler may raise wherever Python looks for signals: as a function
    begins, as a loop turns, and after a call of C. What was taken is put back then, and what the
    driver had reported is asked for again (`_recover`, R134).
    The calls that every loop makes take the lock by `acquire` and `release`, which cost half of a
    `with`. `acquire` stands inside the `try`: a handler may raise as soon as it has the lock, or
    while it waits for it (`_unlock`).
    """

    def __init__(self, driver: Driver, max_events: int) -> None:
        self.closed = False
        self.abandoned = False  # by a fork: the port is the parent's
        self._why_closed = "the port is closed"
        self._driver = driver
        self._lock = RLock()
        self._busy = False
        self._again = False
        self._queue = EventQueue(max_events)
        self._inbox = self._queue.inbox
        self._quiet = max_events
        self._calm = max_events  # what `_quiet` is but for timers: see `_sent`
        self._plain = True  # nothing but messages is about: see `get`
        self._associations = Associations(driver, self._queue, self._look)
        self._expirations = Expirations(driver, self._queue)
        self._timed = False  # whether a timer may expire
        self._files: Files | None = None  # once the port has watched one
        self._unseen = False
        self._unlooked = 0  # retrievals since the last look
        self._alert: PortEvent | None = None
        self._ring: list[Waiter] = []
        self._waiters: set[Waiter] = set()  # those of the ring, and those about to leave
        self._leader: Waiter | None = None
        self._in_driver = False
        self._alone = False  # the leader is in the driver, alone, and was left alone since
        self._called = False  # the leader is to come out of the driver
        self._call_due = False  # and nobody has woken him yet
        self._wakers: list[None] = []  # one for each thread that wakes him outside the lock
        self._callers: list[
            LockType
        ] = []  # each locked by a thread that waits for the leader to look
        self._left = Lock()  # locked by a close that waits for the waiters to leave
        self._stands_by = False  # a thread does, for fileno()
        self._shown: bool | None = None  # whether fileno() shows events; None: nobody asked for it

    # Waiting

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
            self._busy = True
            try:
                self._go_in()
            finally:
                self._busy = False
                self._catch_up()
            return True

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
        if self._shown is not None or self._files is not None:
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
            self._unlock()
            raise
        lock.release()
        return events

    def _come_out(self, leader: Waiter, ready: list[tuple[int, int]], deadline: int | None) -> bool:
        """The leader is back from the driver. Returns whether his wait is over; else he goes in."""
        with self._lock:
            self._alone = self._in_driver = self._called = self._call_due = False
            self._busy = True
            try:
                if self._timed:
                    self._expire()
                self._associations.admit(ready, self._shown is not None)
                if self._associations.doubtful:
                    self._associations.doubtful.clear()
                    self._unseen = True
                if self._unseen and (self._inbox or self._callers):
                    self._look()
            finally:
                self._dismiss_callers()
                self._busy = False
                self._catch_up()
            if leader.outcome is not None or self._is_over(deadline):
                return True
            self._busy = True
            try:
                self._go_in()
            finally:
                self._busy = False
                self._catch_up()
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
                    _let_go(self._leader)
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

    def _wake(self, waiter: Waiter) -> None:
        """Let the waiter find his outcome."""
        if waiter is self._leader and self._in_driver:
            self._call()
        else:
            _let_go(waiter)

    def _call(self) -> None:
        """Have the leader come out of the driver. Who calls this pays for it (`_pay`)."""
        if not self._called:
            self._called = True
            self._call_due = True

    def _pay(self) -> None:
        self._call_due = False
        try:
            self._driver.wake()
        except BaseException:  # of a signal handler: nobody may be left asleep for it
            self._driver.wake()
            raise

    def _unlock(self) -> None:
        """Release the lock on the way of an exception, which may have come instead of the lock."""
        if self._lock._is_owned():  # type: ignore[attr-defined]
            self._lock.release()

    def _close_driver(self) -> None:
        """Close it unless somebody is in it; whoever comes out of it sees to that again."""
        if self._leader is None and not self._wakers:
            self._driver.close()
            if self._files is not None:
                self._files.watcher.close()

    def _give_back(self, events: list[PortEvent]) -> None:
        """Put back what was taken by a call that a signal handler's exception ends (R134)."""
        with self._lock:
            self._quiet = self._calm = -1
            try:
                self._queue.put_back(events)
            except BaseException:  # of the next handler
                self._queue.put_back(events)
                raise
            finally:
                self._catch_up()

    # Time

    def _now(self) -> int:
        return self._driver.now(CLOCK_MONOTONIC)

    def _span(self, deadline: int) -> float:
        """The seconds until `deadline`; not more than each system can be asked to wait."""
        return min(max(0, deadline - self._now()) / 1e9, _LONGEST)

    def _is_over(self, deadline: int | None) -> bool:
        return deadline is not None and self._now() >= deadline

    # Inside the lock

    def _refuse(self) -> NoReturn:
        if self.closed:
            raise OSError(errno.EBADF, self._why_closed)
        raise OSError(
            errno.EDEADLK,
            "this call interrupts another on the same port; of all calls only send() may be made "
            "from a signal handler or a finalizer",
        )

    def _look(self) -> None:
        """Queue what is ready now. Nobody else is in the driver."""
        if self._inbox and not self._unseen:
            self._quiet = -1
            self._queue.settle()  # else it was settled at associate, and what is there came later
        self._unseen = False
        self._unlooked = 0
        if self._timed:
            self._expire()
        if self._associations.active:
            try:
                self._associations.admit(self._driver.wait(0), self._shown is not None)
            except BaseException:
                self._recover()
                raise

    def _expire(self) -> None:
        """Queue the events of the timers that are due. Whoever is in the driver may stay there."""
        if self._expirations.look():
            if self._inbox and not self._unseen:
                self._quiet = -1
                self._queue.settle()  # as in `_look`
            self._timed = self._expirations.fire()

    def _recover(self) -> None:
        """What the driver reported is lost with the exception of a signal handler: ask again."""
        self._associations.doubtful.clear()
        self._associations.arm_all()
        self._unseen = True

    def _catch_up(self, pay: bool = True) -> None:
        """End a change: see to all that it made possible, and to what was sent while it lasted.

        `pay`: wake the leader if he is called; else the caller does, outside the lock.
        """
        queue = self._queue
        if not (
            self._ring
            or self._call_due
            or queue.declined
            or self._shown is not None
            or self._files is not None
            or self.closed
        ):
            # The usual case, nobody to serve: what `_arrange` would do in full.
            self._calm = -1 if self._unseen else queue.room
            self._quiet = -1 if self._timed else self._calm
            self._plain = not (
                self._associations.active or queue.line or self._alert or self._timed
            )
            if not self._again:
                return
        self._alone = False
        while True:
            self._busy = True
            try:
                self._again = False
                if self._files is not None and self._files.due and not self.closed:
                    self._files.collect()
                if queue.declined:
                    self._associations.drop_declined()
                if not self.closed:
                    try:
                        self._arrange()
                    except BaseException:  # of a signal handler: nobody may be left asleep for it
                        self._arrange()
                        raise
                if pay and self._call_due:
                    self._pay()
            finally:
                self._busy = False
            if not self._again:
                return

    def _arrange(self) -> None:
        """Hand events to those who wait for them; say how long the inbox may get unseen."""
        queue = self._queue
        ring = self._ring
        if self._alert is not None:
            for waiter in ring:
                if waiter.outcome is None and waiter.want is not NEVER:
                    waiter.outcome = [self._alert]
        while True:
            blind = self._unseen and self._in_driver  # the leader is to look before anything else
            while ring:
                head = ring[0]
                if head.outcome is None:
                    if len(queue) < head.want:
                        break
                    if blind or (self._in_driver and head is self._leader):
                        self._call()  # he takes it himself
                        break
                    head.outcome = queue.take(head.limit, head.want) or None
                else:
                    self._wake(head)
                    del ring[0]
            queued = bool(queue)
            if self._shown is not None and self._shown != queued:
                self._driver.show(queued)
                self._shown = queued
            if self._shown is not None:
                self._expirations.set_alarms(exact=True)
            if self._shown is False or (self._unseen and not self._called):
                self._calm = -1
            elif ring and not self._called:
                self._calm = min(queue.room, ring[0].want - queue.settled - 1)
            else:
                self._calm = queue.room
            self._quiet = -1 if self._timed else self._calm
            self._plain = not (
                self._alert is not None
                or self._shown is not None
                or self._associations.active
                or queue.line
                or self._timed
            )
            # Somebody may have sent before `_quiet` was lowered.
            if not (self._shown is False and queue) and (
                not ring or self._called or len(queue) < ring[0].want
            ):
                return


def _let_go(follower: Waiter) -> None:
    if follower.turn is not None and follower.turn.locked():
        follower.turn.release()
