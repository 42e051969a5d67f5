"""The descriptors that a port watches: armed, fired, cached, and gone."""

import errno
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from portcompat._constants import (
    EBADFD,
    POLLERR,
    POLLHUP,
    POLLIN,
    PORT_SOURCE_FD,
    PORT_SOURCE_FILE,
    Trigger,
)
from portcompat._events import PortEvent
from portcompat._files import Files, FileWatch
from portcompat._queue import EventQueue, Slot
from portcompat.abc import Driver, Renumbered

if TYPE_CHECKING:
    from portcompat._kernel_io import KernelIO

_new: Final = tuple.__new__  # a third of the time of PortEvent(...), which is a Python function

_ONESHOT: Final = Trigger.ONESHOT  # to look one up in the class takes longer
_LEVEL: Final = Trigger.LEVEL
_EDGE: Final = Trigger.EDGE

_UNASKED: Final = POLLERR | POLLHUP  # reported whether asked for or not (R098)


class Association(Slot):
    """A descriptor that is watched, or that was: retrieval does not forget it (R108).

    It is `active` while the driver has it armed. ONESHOT and LEVEL are active or `queued`, and
    ONESHOT is neither once it has been retrieved; EDGE is always active and may be queued, too.
    """

    __slots__ = (
        "_delivered",
        "active",
        "driver",
        "events",
        "fd",
        "lasting",
        "revents",
        "token",
        "trigger",
    )

    def __init__(
        self, driver: Driver, fd: int, token: int, delivered: Callable[[Slot], None]
    ) -> None:
        super().__init__()
        self._delivered = delivered
        self.trigger = _ONESHOT
        self.lasting = False
        self.driver = driver
        self.fd = fd
        self.token = token
        self.active = False
        self.events = 0
        self.revents = 0

    def deliver(self) -> PortEvent | None:
        # The descriptor may have been closed while its event was queued, or, where a dup keeps
        # the file alive, even before it fired (R112, R114).
        if self.lasting:
            return self._deliver_lasting()
        if not self.driver.current(self.fd, armed=False):
            return None
        return _new(PortEvent, (PORT_SOURCE_FD, self.fd, self.revents, self.user))

    def _deliver_lasting(self) -> PortEvent | None:
        self._delivered(self)  # first: whatever happens, it is looked after
        if not self.driver.current(self.fd, self.active):
            return None
        if self.trigger is _LEVEL:  # it may have been queued for a while
            self.revents = self.driver.condition(self.fd, self.events) & (self.events | _UNASKED)
            if not self.revents:
                return None
        return _new(PortEvent, (PORT_SOURCE_FD, self.fd, self.revents, self.user))


class _Companion:
    """A descriptor that is watched for the port itself: of a file watcher, of a kernel's I/O."""

    __slots__ = ("collect", "fd", "token")

    def __init__(self, fd: int, token: int, collect: Callable[[], None]) -> None:
        self.fd = fd
        self.token = token
        self.collect = collect


class Associations:
    """The table of associations. It belongs to an engine and is used under the engine's lock.

    `active` counts those that the driver watches. `doubtful` holds the tokens whose reports from
    the `wait` in progress may be about an arming that has since been replaced or dropped: such
    a report is not believed, the driver is armed again and will say it anew if it is still true.

    **Triggers.** LEVEL is armed once like ONESHOT, and again when its event has been retrieved:
    that is the call that otherwise asks whether the number still means the same file. Armed for
    good it could never be got rid of where a dup keeps a closed descriptor's file alive, and whose
    reports nobody wants would keep the driver from waiting. `levels` counts them.
    """

    __slots__ = (
        "_by_fd",
        "_by_token",
        "_driver",
        "_last_token",
        "_look",
        "_queue",
        "_renumbered",
        "_used",
        "active",
        "companions",
        "doubtful",
        "files",
        "kernel",
        "levels",
    )

    def __init__(self, driver: Driver, queue: EventQueue, look: Callable[[], None]) -> None:
        self._look = look  # queues what is ready now
        self._driver = driver
        self._queue = queue
        queue.slot_of = self._taken
        self._by_fd: dict[int, Association] = {}
        self._by_token: dict[int, Association] = {}
        self._renumbered: set[int] = set()  # numbers under which a former life may yet be reported
        self._last_token = -1
        self._used = False  # whether there ever was an association
        self.active = 0
        self.levels = 0
        self.doubtful: set[int] = set()
        self.files: Files | None = None  # once the port has watched one
        self.kernel: KernelIO | None = None  # once it does something for the port
        self.companions: dict[int, _Companion] = {}  # by token

    def associate(
        self, fd: int, events: int, user: object, trigger: Trigger, may_look: bool
    ) -> object:
        """Watch `fd`; returns the user that is replaced.

        `may_look`: whether to queue what is ready before this; not while somebody waits in the
        driver.
        """
        if trigger is _EDGE and "edge" not in self._driver.features:
            raise OSError(
                errno.ENOTSUP,
                "the backend does not know Trigger.EDGE: use Trigger.LEVEL, or a backend with the "
                "feature 'edge'",
            )
        association = self._by_fd.get(fd)
        if association is None:
            self._require_room(fd)
            association = self._make(fd)
        elif association.active:
            if may_look:
                self._look()  # its event, if there is one, makes way for those that came after it
            else:
                self.doubtful.add(association.token)
        try:
            if trigger is _EDGE:
                always = self._driver.arm(fd, events, association.token, trigger)
            else:
                always = self._driver.arm(fd, events, association.token)
        except Renumbered:
            self._lose(association)
            self._require_room(fd)
            association = self._make(fd)
            try:
                always = self._arm(association, events, trigger)
            except OSError as error:
                raise self._refused(association, error) from None
        except OSError as error:
            raise self._refused(association, error) from None
        if association.queued:
            self._queue.withdraw(association)
        replaced = association.user
        association.events = events
        association.user = user
        if fd not in self._by_fd:
            self._by_fd[fd] = self._by_token[association.token] = association
            self._used = True
            self._queue.room -= 1
            if self._queue.room < len(self._queue.inbox):  # a handler has sent meanwhile
                self._driver.disarm(fd)
                self._forget(association)
                raise self._full()
        if association.trigger is not trigger:
            self.levels += (trigger is _LEVEL) - (association.trigger is _LEVEL)
            association.trigger = trigger
            association.lasting = trigger is not _ONESHOT
        if not association.active:
            association.active = True
            self.active += 1
        if always:
            if may_look:
                self._look()
            self._fire(association, always)
        return replaced

    def dissociate(self, fd: int, waiting: bool) -> object:
        """Drop the association of `fd`; returns its user. Raises as R118 to R122 say."""
        association = self._by_fd.get(fd)
        if association is not None and not self._driver.current(fd, association.active):
            self._lose(association)
            association = None
        if association is None:
            if self._used and not _is_open(fd):
                raise OSError(EBADFD, f"descriptor {fd} is not open")
            raise OSError(errno.ENOENT, f"descriptor {fd} is not associated with this port")
        waited_for = association.active or association.queued
        if association.active and waiting:
            self.doubtful.add(association.token)
        self._driver.disarm(fd)
        self._forget(association)
        if not waited_for:
            raise OSError(
                errno.ENOENT, f"the event of descriptor {fd} has been retrieved: nothing to drop"
            )
        return association.user

    def admit(self, ready: Iterable[tuple[int, int]], certain: bool) -> None:
        """Queue what the driver reported. `certain`: nothing that is closed, even for a moment;
        else that is found out at delivery."""
        for token, revents in ready:
            association = self._by_token.get(token)
            if association is None or not association.active:
                companion = self.companions.get(token)
                if companion is not None:
                    companion.collect()
                    self._arm_companion(companion)
                continue
            revents &= association.events | _UNASKED
            if not revents or token in self.doubtful:
                self._arm_again(association)
            elif certain and not self._driver.current(association.fd, association.trigger is _EDGE):
                self._lose(association)
            else:
                self._fire(association, revents)

    def collect(self, ready: Iterable[tuple[int, int]]) -> list[PortEvent]:
        """The events of what the driver reported, made at once: nothing is queued before them."""
        events: list[PortEvent] = []
        current = self._driver.current
        try:
            for token, revents in ready:
                association = self._by_token.get(token)
                if association is None or not association.active:
                    continue
                revents &= association.events | _UNASKED
                if not revents:
                    self._arm_again(association)
                elif association.lasting:
                    if self._goes_on(association):
                        fd, user = association.fd, association.user
                        events.append(_new(PortEvent, (PORT_SOURCE_FD, fd, revents, user)))
                elif current(association.fd, False):
                    events.append(
                        _new(PortEvent, (PORT_SOURCE_FD, association.fd, revents, association.user))
                    )
                    association.user = None
                    association.active = False
                    self.active -= 1
                else:
                    self._lose(association)
        except BaseException:
            self._queue.put_back(events)
            raise
        return events

    def arm_all(self) -> None:
        """Arm what is active again: what the driver reported last is lost."""
        for companion in list(self.companions.values()):
            self._arm_companion(companion)
        for association in list(self._by_fd.values()):
            if association.active:
                self._arm_again(association)

    def drop_closed(self) -> bool:
        """Find the descriptors that have been closed, and the files that nobody can have any more;
        whether there were any."""
        swept = self.files is not None and self.files.sweep()
        closed = [a for a in self._by_fd.values() if not self._driver.current(a.fd, a.active)]
        for association in closed:
            self._lose(association)
        return swept or bool(closed)

    def drop_declined(self) -> None:
        """Forget what had nothing to deliver because it was closed, and see to the files and the
        descriptors of LEVEL whose events have been retrieved."""
        declined = self._queue.declined
        while declined:
            slot = declined[-1]
            if isinstance(slot, Association):
                # Its number may have been associated again meanwhile.
                if self._by_fd.get(slot.fd) is slot and not slot.queued:
                    if slot.trigger is _EDGE:
                        self._goes_on(slot)
                    elif not slot.active:
                        if slot.trigger is _LEVEL:
                            self._resume(slot)
                        else:
                            self._lose(slot)
            elif isinstance(slot, FileWatch) and self.files is not None:
                self.files.retrieved(slot)
            del declined[-1]  # at the end, lest a handler raises while nobody has it

    def attend(self, fd: int, collect: Callable[[], None]) -> None:
        """Have the driver tell when `fd` is readable, from now on, and `collect` called then.

        Raises what the facility has against the descriptor.
        """
        former = self._by_fd.get(fd)
        if former is not None:  # that descriptor was closed, and its number was given to this one
            self._lose(former)
        companion = _Companion(fd, self._token(fd), collect)
        self._arm_companion(companion)
        # No call among these. The count stays: whoever looks asks the driver from now on.
        self.companions[companion.token] = companion
        self.active += 1

    def neglect(self, fd: int) -> None:
        """Undo `attend`, however far it came."""
        self._driver.disarm(fd)
        for companion in list(self.companions.values()):
            if companion.fd == fd:
                del self.companions[companion.token]
                self.active -= 1

    def clear(self) -> list[object]:
        """Forget everything, the port is closing; returns the users, to be let go elsewhere."""
        users = [association.user for association in self._by_fd.values()]
        if self.files is not None:
            users += self.files.clear()
        self._by_fd.clear()
        self._by_token.clear()
        self.companions.clear()
        self.active = self.levels = 0
        return users

    def _taken(self, event: PortEvent) -> Slot | None:
        """The association that `event` was of, made what it was before the event was taken."""
        if event.source == PORT_SOURCE_FILE:
            return self.files.taken(event) if self.files is not None else None
        association = self._by_fd.get(event.object)
        if association is not None and association.trigger is _EDGE:
            if association.queued or association.stale or association.user is not event.user:
                self._arm_again(association)  # which tells of it once more
                return None
        elif association is None or association.active or association.queued or association.stale:
            return None  # associated again meanwhile, or closed: the event is over
        association.revents = event.events
        association.user = event.user
        return association

    def _require_room(self, fd: int) -> None:
        queue = self._queue
        if queue.room > len(queue.inbox):
            return
        if not (self.drop_closed() and queue.room > len(queue.inbox)):
            if not _is_open(fd):
                raise OSError(EBADFD, f"descriptor {fd} is not open")
            raise self._full()

    def _full(self) -> OSError:
        return OSError(errno.EAGAIN, f"all {self._queue.limit} slots of the port are taken")

    def _refused(self, association: Association, error: OSError) -> OSError:
        if error.errno != errno.EBADF:
            return error
        self._lose(association)
        return OSError(EBADFD, f"descriptor {association.fd} is not open")

    def _make(self, fd: int) -> Association:
        return Association(self._driver, fd, self._token(fd), self._queue.declined.append)

    def _arm(self, association: Association, events: int, trigger: Trigger) -> int:
        if trigger is _EDGE:
            return self._driver.arm(association.fd, events, association.token, trigger)
        return self._driver.arm(association.fd, events, association.token)

    def _token(self, fd: int) -> int:
        if fd not in self._renumbered:
            return fd
        self._last_token -= 1
        return self._last_token

    def _fire(self, association: Association, revents: int) -> None:
        # One call, and that at the end: no signal handler can raise in between.
        if association.trigger is _EDGE:
            if association.queued:
                association.revents |= revents
                return
        else:
            association.active = False
            self.active -= 1
        association.revents = revents
        association.queued = True
        self._queue.line.append(association)

    def _arm_again(self, association: Association) -> None:
        try:
            always = self._arm(association, association.events, association.trigger)
        except (OSError, Renumbered):  # closed meanwhile
            self._lose(association)
        else:
            if always:
                self._fire(association, always)

    def _resume(self, association: Association) -> None:
        """Watch what is LEVEL again, once its event is out of the queue."""
        try:
            always = self._arm(association, association.events, _LEVEL)
        except (OSError, Renumbered):  # closed meanwhile
            self._lose(association)
        else:
            if always:
                association.revents = always
                association.queued = True
                self._queue.line.append(association)
            else:
                association.active = True
                self.active += 1

    def _goes_on(self, association: Association) -> bool:
        """Watch what lasts for its next event. False if it has been closed, and is forgotten."""
        if association.trigger is _LEVEL:
            self._arm_again(association)
        elif not self._driver.current(association.fd):
            self._lose(association)
        return self._by_fd.get(association.fd) is association

    def _arm_companion(self, companion: _Companion) -> None:
        try:
            self._driver.arm(companion.fd, POLLIN, companion.token)
        except Renumbered:
            self._renumbered.add(companion.fd)
            known = self.companions.pop(companion.token, None)
            companion.token = self._token(companion.fd)
            if known is not None:
                self.companions[companion.token] = known
            self._driver.arm(companion.fd, POLLIN, companion.token)

    def _lose(self, association: Association) -> None:
        """The number was closed: forget it, and remember that its old file may yet be heard of."""
        self._driver.disarm(association.fd)
        self._renumbered.add(association.fd)
        self._forget(association)

    def _forget(self, association: Association) -> None:
        if association.queued:
            self._queue.withdraw(association)
        if association.active:
            association.active = False
            self.active -= 1
        if self._by_fd.get(association.fd) is association:
            # No call among these, so no signal handler can raise between them.
            del self._by_fd[association.fd]
            del self._by_token[association.token]
            self.levels -= association.trigger is _LEVEL
            self._queue.room += 1


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
