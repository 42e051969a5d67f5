"""The user-space port: a Backend over any Driver."""

import errno
from functools import partial
from threading import RLock, Thread, get_ident
from typing import Final

from portcompat._constants import (
    PORT_ALERT_INVALID,
    PORT_ALERT_UPDATE,
    PORT_SOURCE_ALERT,
    Trigger,
)
from portcompat._events import FileObject, PortEvent
from portcompat._expirations import PortTimer
from portcompat._files import Files, never_watched
from portcompat._monitor import NEVER, Waiter
from portcompat._port_io import PortIO
from portcompat._sending import Sending
from portcompat.abc import Driver, FileWatcherChoice, KaioChoice, file_features

# Of the retrievals that need nothing of the driver every so many looks all the same: a port that
# always has messages must not starve its descriptors.
_LOOK_EVERY: Final = 64

_new: Final = tuple.__new__  # a third of the time of PortEvent(...), which is a Python function


class Engine(Sending, PortIO):
    """A port made of a driver: the calls, as `Backend` wants them.

    Each call that changes something is one critical section: it marks the port busy, makes its
    change, and ends with `_catch_up`, which serves those whom the change lets go on.
    """

    def __init__(
        self,
        driver: Driver,
        max_events: int,
        choose_watcher: FileWatcherChoice | None = None,
        choose_kaio: KaioChoice | None = None,
    ) -> None:
        super().__init__(driver, max_events)
        self._choose_kaio = choose_kaio
        self._kernel_io = None
        self.clocks = driver.clocks
        self._choose_watcher = choose_watcher
        self.features = driver.features | {"level"}
        self.mode = driver.mode

    def require_open(self) -> None:
        if self.closed:
            self._refuse()

    # Producing events

    def associate(
        self, fd: int, events: int, user: object, trigger: Trigger = Trigger.ONESHOT
    ) -> None:
        if self._unseen and self._in_driver and self._inbox:
            self._call_leader()  # to queue what comes before that in the inbox, and this after it
        lock = self._lock
        try:
            lock.acquire()
            if self._busy or self.closed:
                self._refuse()
            self._busy = True
            self._quiet = -1  # before the room shrinks: senders who cannot see that wait for it
            try:
                if self._inbox and not (self._unseen and self._in_driver):
                    self._queue.settle()
                replaced = self._associations.associate(
                    fd, events, user, trigger, not self._in_driver
                )
                self._unseen = True
            finally:
                self._busy = False
                self._catch_up()
        except BaseException:
            try:
                lock.release()
            except RuntimeError:
                pass  # the exception came instead of the lock
            raise
        lock.release()
        del replaced  # its finalizer, if any, runs here: outside the lock

    def dissociate(self, fd: int) -> None:
        with self._lock:
            if self._busy or self.closed:
                self._refuse()
            self._busy = True
            try:
                dropped = self._associations.dissociate(fd, self._in_driver)
            finally:
                self._busy = False
                self._catch_up()
        del dropped

    def associate_file(
        self,
        object: FileObject,
        path: bytes,
        stamps: tuple[int, int, int],
        events: int,
        user: object,
    ) -> None:
        if self._unseen and self._in_driver and self._inbox:
            self._call_leader()  # as in `associate`
        with self._lock:
            if self._busy or self.closed:
                self._refuse()
            self._busy = True
            self._quiet = -1
            try:
                files = self._associations.files or self._watch_files()
                if self._inbox and not (self._unseen and self._in_driver):
                    self._queue.settle()
                make_room = self._associations.drop_closed
                replaced = files.associate(object, path, stamps, events, user, make_room)
                self._unseen = True
            finally:
                self._busy = False
                self._catch_up()
        del replaced

    def _watch_files(self) -> Files:
        """In the lock: the port is about to watch its first file."""
        if self._choose_watcher is None:
            raise OSError(errno.ENOTSUP, "this port has no file watcher")
        files = Files(self._queue, self._choose_watcher()())
        associations, fd = self._associations, files.watcher.fileno()
        try:
            associations.files = files
            associations.attend(fd, partial(files.collect, ready=True))
        except BaseException:
            associations.neglect(fd)
            associations.files = None
            files.watcher.close()
            raise
        self._attended = True
        return files

    def dissociate_file(self, object: FileObject) -> None:
        with self._lock:
            if self._busy or self.closed:
                self._refuse()
            files = self._associations.files
            if files is None:
                raise never_watched()
            self._busy = True
            try:
                dropped = files.dissociate(object)
            finally:
                self._busy = False
                self._catch_up()
        del dropped

    def file_features(self) -> frozenset[str]:
        if self._choose_watcher is None:
            return frozenset()
        try:
            return file_features(self._choose_watcher().bits)
        except OSError:
            return frozenset()

    def alert(self, flags: int, events: int, user: object) -> None:
        if self._unseen and self._in_driver:
            self._call_leader()
        with self._lock:
            if self._busy or self.closed:
                self._refuse()
            self._busy = True
            try:
                if self._unseen and not self._in_driver:
                    self._look()
                replaced = self._alert
                if events:
                    self._set_alert(flags, events, user)
                else:
                    self._alert = None
            finally:
                self._busy = False
                self._catch_up()
        del replaced

    def _set_alert(self, flags: int, events: int, user: object) -> None:
        if flags & PORT_ALERT_INVALID == PORT_ALERT_INVALID:
            raise OSError(errno.EINVAL, "flags must not have both PORT_ALERT_SET and _UPDATE")
        if flags == PORT_ALERT_UPDATE and self._alert is not None:
            raise OSError(errno.EBUSY, "the port is in alert mode already")
        self._plain = False
        self._alert = _new(PortEvent, (PORT_SOURCE_ALERT, 0, events, user))

    def timer(self, clock: int, number: int, user: object) -> PortTimer:
        made: PortTimer | None = None
        queue = self._queue
        try:
            with self._lock:
                if self._busy or self.closed:
                    self._refuse()
                self._busy = True
                self._quiet = -1  # as in `associate`
                try:
                    if queue.room <= len(queue.inbox):
                        self._associations.drop_closed()
                    deadlines = self._expirations.prepare(clock)
                    timer = PortTimer(self, clock, number, user, deadlines)
                    queue.room -= 1
                    made = timer
                    if queue.room < len(queue.inbox):
                        made = None
                        queue.room += 1
                        raise OSError(
                            errno.EAGAIN, f"all {queue.limit} slots of the port are taken"
                        )
                finally:
                    self._busy = False
                    self._catch_up()
        except BaseException:
            if made is not None:
                made.delete()
            raise
        return timer

    # Retrieving events

    def get(self, timeout: float | None) -> PortEvent | None:
        if self._plain and self._inbox:
            # Nothing but messages is about. Not `popleft()`: a signal handler may raise when a call
            # returns, and the event would be lost. Nothing comes between `for` and `return`.
            try:
                for event in self._queue.sent:
                    return event
            except IndexError:
                pass
        events = self.getn(1, 1, timeout)
        return events[0] if events else None

    def getn(self, limit: int, want: int, timeout: float | None) -> list[PortEvent]:
        events: list[PortEvent] | None = None
        waiter: Waiter | None = None
        alone = False
        try:
            if timeout == 0 and self._leader is not None and len(self._queue) < want:
                self._call_leader()
            lock = self._lock
            try:
                lock.acquire()
                if self._busy or self.closed:
                    self._refuse()
                self._busy = True
                try:
                    if want == 1 and not (
                        self._leader or self._alert or self._inbox or self._queue.line
                    ):
                        if self._timed:
                            events = self._retrieve_due(limit)
                        elif self._associations.active:
                            events = self._retrieve_ready(limit)
                        if not events and timeout != 0:
                            waiter = Waiter(1, limit)
                            alone = self._go_in_alone(waiter)
                    elif want == 0:
                        events = []
                    elif self._alert is not None:
                        events = [self._alert]
                    else:
                        events = self._retrieve(limit, want, wait=timeout != 0)
                        if events is None:
                            waiter = Waiter(want, limit)
                            self._join(waiter)
                            if waiter.leads:
                                self._go_in()
                finally:
                    self._busy = False
                    if not alone or self._again or self._queue.declined:
                        self._catch_up()
            except BaseException:
                try:
                    lock.release()
                except RuntimeError:
                    pass  # the exception came instead of the lock
                raise
            lock.release()
            if waiter is not None:
                events = self._wait(waiter, timeout)
        except BaseException:
            if waiter is not None:
                self._be_taken_away(waiter)
            elif events:
                self._give_back(events)
            raise
        return events or []

    def _retrieve(self, limit: int, want: int, wait: bool) -> list[PortEvent] | None:
        """Take what there is if it is enough. If it is not: None to wait, else less."""
        queue = self._queue
        if self._timed:
            self._expire()
        looked = self._in_driver or not self._associations.active
        if not looked:
            self._unlooked += 1
            if (
                self._unseen
                or self._unlooked >= _LOOK_EVERY
                or len(queue) < want
                or self._associations.files  # an exception takes back what is queued (R230)
                or self._associations.levels  # each retrieval tells of them (X001)
            ):
                self._look()
                looked = True
        if wait:
            # Counted before, so that what is too little usually stays where it is.
            return queue.take(limit, want) or None if want == 1 or len(queue) >= want else None
        events = queue.take(limit, 0 if looked else want)
        if not (events or looked):  # too few were left when the closed ones had gone
            self._look()
            events = queue.take(limit)
        return events

    def _retrieve_due(self, limit: int) -> list[PortEvent]:
        """`_retrieve` of one when none is queued and timers are armed."""
        if not self._associations.active:
            events = self._expirations.collect(limit)
            self._timed = self._expirations.armed()
            if events:
                return events
        self._look()
        return self._queue.take(limit)

    def _retrieve_ready(self, limit: int) -> list[PortEvent]:
        """`_retrieve` of one when none is queued: the driver's report need not pass the queue."""
        self._unseen = False
        self._unlooked = 0
        try:
            ready = self._driver.wait(0)
            if len(ready) <= limit and not self._associations.companions:
                return self._associations.collect(ready)
            self._associations.admit(ready, self._shown is not None)
            return self._queue.take(limit)
        except BaseException:
            self._recover()
            raise

    def pending(self) -> int:
        if self._leader is not None:
            self._call_leader()
        with self._lock:
            if self._busy or self.closed:
                self._refuse()
            self._busy = True
            try:
                if not self._in_driver:
                    self._look()
                elif self._timed:
                    self._expire()
                self._associations.drop_closed()
                return min(len(self._queue), self._queue.limit)
            finally:
                self._busy = False
                self._catch_up()

    # The port as a thing

    def fileno(self) -> int:
        with self._lock:
            if self._busy or self.closed:
                self._refuse()
            descriptor = self._driver.fileno()
            if self._shown is None:
                self._shown = False
                self._attended = True
            if not (self._stands_by or "passive-fileno" in self.features):
                Thread(target=self._stand_by, name="portcompat stand-by", daemon=True).start()
            self._catch_up()
            return descriptor

    def is_descriptor(self, fd: int) -> bool:
        with self._lock:
            return not self.closed and self._shown is not None and self._driver.is_descriptor(fd)

    def _stand_by(self) -> None:
        """Lead when nobody else does, so that fileno() shows what the driver reports."""
        waiter = Waiter(NEVER, 0)
        try:
            with self._lock:
                if self.closed or self._stands_by:
                    return
                self._stands_by = True
                self._join(waiter)
                self._catch_up()
            self._wait(waiter, None)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise

    def close(self) -> None:
        with self._lock:
            if self._busy:
                self._refuse()
            self.closed = self._attended = True
            self._timed = False
            self._quiet = -1
            self._alone = False
            self._plain = False
            dropped = [self._alert, *self._associations.clear(), *self._queue.clear()]
            self._alert = None
            self._expirations.clear()
            for waiter in self._ring:
                waiter.outcome = waiter.outcome or OSError(errno.EBADF, self._why_closed)
            for waiter in list(self._ring):
                self._wake(waiter)
            self._ring.clear()
            self._close_io()
            self._close_driver()
            if self._call_due:
                self._pay()
            # R179. A handler in a waiting thread cannot wait for that thread to leave.
            me = get_ident()
            stay = bool(self._waiters) and all(w.thread != me for w in self._waiters)
            if stay:
                self._left.acquire(blocking=False)
        if stay:
            self._left.acquire()
            self._left.release()
        del dropped

    def abandon(self, reason: str) -> None:
        self.abandoned = True
        self._lock = RLock()  # the old one may have been held by a thread that is not here
        self._busy = False
        self._why_closed = reason
        if not self.closed:
            self.closed = self._attended = True
            self._timed = False
            self._quiet = -1
            self._plain = False
            self._driver.close()
            if self._associations.files is not None:
                self._associations.files.watcher.close()
            if self._kernel_io is not None:
                self._kernel_io.kaio.abandon()
