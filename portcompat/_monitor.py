"""What a port is made of, under one lock; and what a change of it makes possible for others."""

import errno
import sys
from _thread import LockType
from threading import Lock, RLock, get_ident
from typing import Final, NoReturn

from portcompat._associations import Associations
from portcompat._events import PortEvent
from portcompat._expirations import Expirations
from portcompat._queue import EventQueue
from portcompat.abc import Driver

NEVER: Final = sys.maxsize  # how many events the stand-by thread of a port waits for


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


class Monitor:
    """The state of a port, and the lock that all of it is under.

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

    **At the end of each change** `_catch_up` serves those whom it lets go on: events are handed to
    the head of `_ring`, which holds the threads that wait, fewest wanted first and the newest first
    among equals (R137), as long as there are as many as it wants (`_arrange`). A leader who is
    inside the driver is called and takes his own.

    **Interruptions.** A signal handler may raise wherever Python looks for signals: as a function
    begins, as a loop turns, and after a call of C. What was taken is put back then, and what the
    driver had reported is asked for again (`_recover`, R134).
    The calls that every loop makes take the lock by `acquire` and `release`, which cost half of a
    `with`. `acquire` stands inside the `try`: a handler may raise as soon as it has the lock, or
    while it waits for it, and then `release` says that it is not there. And `release` is the first
    call on the way of an exception: before it no other handler can raise.
    """

    __slots__ = (  # also because CPython is slower with objects of more than 30 attributes
        "_again",
        "_alert",
        "_alone",
        "_associations",
        "_attended",
        "_busy",
        "_call_due",
        "_called",
        "_callers",
        "_calm",
        "_driver",
        "_expirations",
        "_in_driver",
        "_inbox",
        "_leader",
        "_left",
        "_lock",
        "_plain",
        "_queue",
        "_quiet",
        "_ring",
        "_shown",
        "_stands_by",
        "_timed",
        "_unlooked",
        "_unseen",
        "_waiters",
        "_wakers",
        "_why_closed",
        "abandoned",
        "closed",
    )

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
        self._attended = False  # fileno() is looked at, files are watched, or the port is closed
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
        # Each locked by a thread that waits for the leader to look.
        self._callers: list[LockType] = []
        self._left = Lock()  # locked by a close that waits for the waiters to leave
        self._stands_by = False  # a thread does, for fileno()
        self._shown: bool | None = None  # whether fileno() shows events; None: nobody asked for it

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
        late = self._unseen  # what was ready at once comes before what is due
        self._unseen = False
        self._unlooked = 0
        if self._timed and not late:
            self._expire()
        if self._associations.active:
            try:
                self._associations.admit(self._driver.wait(0), self._shown is not None)
            except BaseException:
                self._recover()
                raise
        if self._timed and late:
            self._expire()

    def _expire(self) -> None:
        """Queue the events of the timers that are due. Whoever is in the driver may stay there."""
        if self._expirations.look():
            if self._unseen and not self._in_driver:
                self._look()  # which comes back here, and has seen
                return
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
        if not (self._ring or self._attended or self._call_due or queue.declined):
            # The usual case, nobody to serve: what `_arrange` would do in full.
            if self._unseen:
                self._calm = self._quiet = -1
            else:
                self._calm = queue.room
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
                files = self._associations.files
                if files is not None and files.due and not self.closed:
                    files.collect()
                kernel = self._associations.kernel
                if kernel is not None and kernel.due and not self.closed:
                    kernel.collect()
                if queue.declined:
                    self._associations.drop_declined()
                if not self.closed:
                    try:
                        self._arrange()
                    except BaseException:  # of a signal handler: nobody may be left asleep for it
                        self._arrange()
                        raise
                    if queue.declined:  # by those whom that has served
                        self._again = True
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
                or queue.room < 1
            )
            # Somebody may have sent before `_quiet` was lowered.
            if not (self._shown is False and queue) and (
                not ring or self._called or len(queue) < ring[0].want
            ):
                return

    # Waking

    def _wake(self, waiter: Waiter) -> None:
        """Let the waiter find his outcome."""
        if waiter is self._leader and self._in_driver:
            self._call()
        else:
            let_go(waiter)

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

    def _close_driver(self) -> None:
        """Close it unless somebody is in it; whoever comes out of it sees to that again."""
        if self._leader is None and not self._wakers:
            self._driver.close()
            if self._associations.files is not None:
                self._associations.files.watcher.close()

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


def let_go(follower: Waiter) -> None:
    if follower.turn is not None and follower.turn.locked():
        follower.turn.release()
