"""Sending to a port: messages, and completions of asynchronous I/O."""

import errno
from typing import TYPE_CHECKING, Final

from portcompat._constants import PORT_SOURCE_USER
from portcompat._events import PortEvent
from portcompat._turns import Turns

if TYPE_CHECKING:
    from portcompat._notices import PortNotice

_new: Final = tuple.__new__  # a third of the time of PortEvent(...), which is a Python function


class Sending(Turns):
    """How events get into the inbox (`Monitor`).

    A completion is queued like a message, but it is not refused: those for which there is no slot
    stay in the inbox beyond the room that there is, where nobody sees them, until there is some
    (R081). What is sent after them finds the port full.
    """

    __slots__ = ()

    def send(self, events: int, user: object) -> None:
        event = _new(PortEvent, (PORT_SOURCE_USER, 0, events, user))
        inbox = self._inbox
        inbox.append(event)
        if len(inbox) > self._quiet:
            self._sent(event)

    def _sent(self, event: PortEvent | None) -> None:
        """Look after an event in the inbox: there is no room for it, somebody waits for it, or a
        timer that is due comes before it."""
        if (
            self._timed
            and not self._busy
            and len(self._inbox) <= self._calm
            and not self._expirations.is_due()
        ):
            return
        lock = self._lock
        wakes = False
        try:
            try:
                lock.acquire()
                if self._alone and not (
                    self._called
                    or self._busy
                    or len(self._inbox) > self._queue.room
                    or (self._timed and self._expirations.is_due())
                ):
                    self._called = wakes = True
                    self._calm = self._queue.room
                    self._quiet = -1 if self._timed else self._calm
                else:
                    wakes = self._settle_sent(event)
                if wakes:
                    self._wakers.append(None)
            except BaseException:
                try:
                    if self._call_due and not wakes:
                        self._pay()
                finally:
                    try:
                        lock.release()
                    except RuntimeError:
                        pass  # the exception came instead of the lock
                raise
            lock.release()
        finally:
            if wakes:
                # Not under the lock: whom it wakes takes that first thing, and would sleep again.
                try:
                    self._pay()
                finally:
                    self._wakers.pop()
                    if self.closed:
                        with lock:
                            self._close_driver()

    def _settle_sent(self, event: PortEvent | None) -> bool:
        """`_sent` in the lock. Returns whether the leader is to be woken."""
        queue = self._queue
        if self.closed:
            queue.retract(event)
            self._refuse()
        if len(self._inbox) > queue.room and event is not None and event.source == PORT_SOURCE_USER:
            freed = not self._busy and self._associations.drop_closed()
            if not (freed and len(self._inbox) <= queue.room) and queue.retract(event):
                raise OSError(errno.EAGAIN, f"all {queue.limit} slots of the port are taken")
        if self._busy:
            self._again = True
            return False
        self._busy = True
        try:
            if self._timed and self._expirations.look():
                sent = event is not None and queue.retract(event)
                self._expire()
                if sent and event is not None:
                    self._inbox.append(event)
            if self._unseen and self._in_driver:
                self._call()
            elif self._unseen:
                self._look()
        finally:
            self._busy = False
            self._catch_up(pay=False)
        return self._call_due

    def tell(self, event: PortEvent) -> None:
        inbox = self._inbox
        inbox.append(event)
        if len(inbox) > self._quiet:
            self._sent(event)

    def post(self, notice: "PortNotice") -> None:
        event = notice.event
        inbox = self._inbox
        if event is not None:
            if self.closed:
                self._refuse()
            append = inbox.append
            # A store and, at once, the call: it has been queued or not.
            notice.event = None
            append(event)
        if len(inbox) > self._quiet:
            self._sent(event)
