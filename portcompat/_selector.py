"""A selector over a driver, and a port beside what is registered."""

import errno
import sys
from collections.abc import Callable, Mapping
from math import isfinite
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector, SelectorKey
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

from portcompat import _registry
from portcompat._constants import POLLIN, POLLOUT, Trigger
from portcompat._events import PortEvent
from portcompat._port import Port
from portcompat._selector_tables import (
    Keys,
    Report,
    Result,
    Results,
    UnknownReport,
    lookup,
    refuse,
)
from portcompat.abc import POLLER_FULL, Renumbered

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

_BITS: Final = (0, POLLIN, POLLOUT, POLLIN | POLLOUT)  # of EVENT_READ and EVENT_WRITE
_ALL: Final = EVENT_READ | EVENT_WRITE
_LEVEL: Final = Trigger.LEVEL

_new: Final = tuple.__new__  # a third of the time of SelectorKey(...), which is a Python function


class PortSelector(BaseSelector):
    """A selector as the standard ones are, that waits for a port too.

    ::

        import portcompat.selectors as selectors   # and the rest of the program stays as it is

        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_READ, data)
            timer = selector.port.timer()
            timer.set(after=1.5)
            for key, events in selector.select():
                ...
            for event in selector.events():        # of the timer; messages, files, alerts
                ...

    `backend` is what `Port` takes. `port` is a port to wait for from the start: its backend is
    taken then, and `close` leaves it open. Without, one is made when `port` is first asked for.

    Regular files and directories can be registered, and are always ready. `register`, `modify`,
    `unregister`, `wakeup` and `close` may be called by any thread, and take effect on a `select`
    that is already waiting; one thread at a time may be in that. A descriptor that is closed
    without `unregister` keeps its key. What is reported then is what the standard selector of the
    facility reports: with epoll nothing, unless a dup is open and the kernel goes on telling of
    that; with poll and select nothing, until another file gets the number and is ready.

    **How.** What is registered is armed LEVEL in a driver of the selector's own, so `select` is
    one call of that driver and no lock. The reports that come back, (fd, bits), are keys of a table
    of the results that they mean; a report that is not in the table is made into one, under the
    lock, and stays there until its descriptor is modified or unregistered. The port is one more
    descriptor of the driver, so nothing of what a port owes changes. The lock keeps the keys, the
    driver and the table in step; it is re-entrant because a signal handler may register, too.
    `register` and `unregister` take it by `acquire` and `release`, as the calls of a port do.

    Raises what `Port` raises; ValueError when both `port` and `backend` are given.
    """

    def __init__(self, *, port: Port | None = None, backend: str | None = None) -> None:
        self._closed = True  # until it is made
        self._selecting = False  # somebody is in the driver
        if port is not None and not isinstance(port, Port):
            raise TypeError(f"port must be a Port, not {type(port).__name__}")
        if backend is not None and not isinstance(backend, str):
            raise TypeError(f"backend must be a name, not {type(backend).__name__}")
        if port is not None and backend is not None:
            raise ValueError("give a port or a backend, not both: a port has its backend")
        self._name = port.backend if port is not None else backend or _registry.default_backend()
        self._lock = RLock()
        self._keys: dict[int, SelectorKey] = {}
        self._map: Keys | None = Keys(self._keys)
        self._results = Results()
        self._result = self._results.__getitem__
        self._reported: dict[int, list[Report]] = {}  # fd -> its places in the table
        self._files: dict[int, int] = {}  # always ready: fd -> bits
        self._port: Port | None = None
        self._owned = False  # whether the port was made here
        self._shown = -1  # the port's descriptor
        self._asked = False  # for a descriptor of the selector
        self._driver = _registry.create_driver(self._name)
        if "level" not in self._driver.features:
            self._driver.close()
            raise OSError(
                errno.ENOTSUP,
                f"backend {self._name!r} cannot be selected with, its driver has not got the "
                "feature 'level': take another one",
            )
        self._closed = False
        self._poller = self._poll = self._driver.poller()
        if port is not None:
            try:
                self._watch(port)
            except BaseException:
                self.close()
                raise

    # As the standard library has it

    def register(self, fileobj: "FileDescriptorLike", events: int, data: Any = None) -> SelectorKey:
        """Wait for `fileobj`, a descriptor or what has a fileno(), to be ready for `events`:
        EVENT_READ, EVENT_WRITE or both. Returns its key, which carries `data`.

        Raises ValueError for other events and for what has no descriptor, KeyError when it is
        registered, OSError when it is closed or the facility does not take it.
        """
        if not events or events & ~_ALL:
            raise ValueError(f"Invalid events: {events!r}: take EVENT_READ, EVENT_WRITE or both")
        fd = fileobj if type(fileobj) is int and fileobj >= 0 else lookup(self._keys, fileobj)
        key: SelectorKey = _new(SelectorKey, (fileobj, fd, events, data))
        lock = self._lock
        try:
            lock.acquire()
            if self._closed:
                refuse(None)
            if fd in self._keys:
                raise KeyError(f"{fileobj!r} (FD {fd}) is already registered")
            if fd == self._shown:
                self._unwatch(fileobj)
            if fd in self._reported:  # a handler had raised in `unregister`
                self._drop_results(fd)
            self._keys[fd] = key
            try:
                if always := self._driver.arm(fd, _BITS[events], fd, _LEVEL):
                    self._add_file(fd, always)
            except BaseException:
                self._forget(fd)
                raise
        except BaseException:
            try:
                lock.release()
            except RuntimeError:
                pass  # the exception came instead of the lock
            raise
        lock.release()
        return key

    def unregister(self, fileobj: "FileDescriptorLike") -> SelectorKey:
        """Wait for `fileobj` no longer, which may have been closed. Returns its key.

        Raises KeyError when it is not registered, ValueError for what has no descriptor.
        """
        lock = self._lock
        try:
            lock.acquire()
            fd = fileobj if type(fileobj) is int and fileobj >= 0 else lookup(self._keys, fileobj)
            key = self._keys.pop(fd, None)  # and so on, as `_forget` does
            if key is None:
                raise KeyError(f"{fileobj!r} is not registered")
            if fd in self._reported:
                self._drop_results(fd)
            if self._files:
                self._drop_file(fd)
            self._driver.disarm(fd)
        except BaseException:
            try:
                lock.release()
            except RuntimeError:
                pass  # the exception came instead of the lock
            raise
        lock.release()
        return key

    def modify(self, fileobj: "FileDescriptorLike", events: int, data: Any = None) -> SelectorKey:
        """Change the events or the data of `fileobj`. Returns its new key.

        Raises KeyError when it is not registered, and what `register` raises. After an OSError, for
        a descriptor that was closed, it is not registered any more.
        """
        with self._lock:
            fd = lookup(self._keys, fileobj)
            key = self._keys.get(fd)
            if key is None:
                raise KeyError(f"{fileobj!r} is not registered")
            if events == key.events and data == key.data:
                return key
            if events != key.events:
                if not events or events & ~_ALL:
                    raise ValueError(
                        f"Invalid events: {events!r}: take EVENT_READ, EVENT_WRITE or both"
                    )
                try:
                    always = self._driver.arm(fd, _BITS[events], fd, _LEVEL)
                except Renumbered:
                    self._forget(fd)
                    raise FileNotFoundError(
                        errno.ENOENT,
                        f"descriptor {fd} was closed, and means another file: register it",
                    ) from None
                except BaseException:
                    self._forget(fd)
                    raise
                if always:
                    self._add_file(fd, always)
            key = _new(SelectorKey, (key.fileobj, fd, events, data))
            self._keys[fd] = key
            self._drop_results(fd)
        return key

    def select(self, timeout: float | None = None) -> list[Result]:
        """Wait until something that is registered is ready, and return the (key, events) of all
        that is.

        Waits up to `timeout` seconds, rounded up; for ever with None, and not at all with 0 or
        less. Returns [] when time is up; also on `wakeup`, and as long as `events` has something.
        Signal handlers run and the wait goes on, unless the handler raises. Raises ValueError on
        a closed selector and for NaN, OverflowError for infinity and other times that are too long.
        """
        if timeout is not None and timeout <= 0:
            timeout = 0
        ready: list[Report] = []
        try:
            self._selecting = True
            ready = self._poll(timeout)
            self._selecting = False
            if len(ready) > 1:
                if len(ready) >= POLLER_FULL:
                    ready = list((dict(ready) | dict(self._driver.wait(0))).items())
                return list(map(self._result, ready))
            if ready:
                return [self._results[ready[0]]]
        except UnknownReport:
            return self._make_results(ready)
        except BaseException as error:
            self._selecting = False
            if self._closed:
                self._close_driver()
            if not isinstance(error, InterruptedError):
                raise
        if self._closed:
            self._close_driver()
        return []

    def close(self) -> None:
        """Give back all descriptors, and close the port if it was made here. A `select` that is
        waiting in another thread ends. Again: no effect."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._poll = refuse
            port = self._port if self._owned else None
            self._map = None
            self._keys.clear()
            self._results.clear()
            self._reported.clear()
            self._files.clear()
            self._driver.wake()
            self._close_driver()
        if port is not None:
            port.close()  # not under the lock: it waits until all have left it

    def get_key(self, fileobj: "FileDescriptorLike") -> SelectorKey:
        """The key of `fileobj`.

        Raises KeyError when it is not registered, RuntimeError when the selector is closed.
        """
        if self._closed:
            raise RuntimeError("Selector is closed")
        key = self._keys.get(lookup(self._keys, fileobj))
        if key is None:
            raise KeyError(f"{fileobj!r} is not registered")
        return key

    def get_map(self) -> Mapping["FileDescriptorLike", SelectorKey]:
        """The keys by file object or descriptor; None when the selector is closed."""
        return self._map  # type: ignore[return-value]  # as the standard library does

    def _find_fileno(self) -> Callable[[], int]:
        """`fileno()` is a descriptor that is readable when `select` would not wait.

        A backend without the feature "passive-fileno" has none, and the selector no such attribute,
        like the standard PollSelector.
        """
        if "passive-fileno" not in self._driver.features:
            raise AttributeError(
                f"a selector over {self._name!r} has no fileno(): take a backend with the feature "
                "'passive-fileno'"
            )
        return self._fileno

    if TYPE_CHECKING:

        def fileno(self) -> int: ...
    else:
        fileno = property(_find_fileno)

    # What the standard ones do not have

    @property
    def port(self) -> Port:
        """The port that `select` waits for too, made at first.

        Its events are not among what `select` returns. They wait in the port for `events`, or for
        whoever else retrieves from it, and as long as there is one `select` does not wait.
        """
        if self._port is None:
            with self._lock:
                self._require_open()
                if self._port is None:
                    port = Port(self._name)
                    try:
                        self._owned = True
                        self._watch(port)
                    except BaseException:
                        port.close()
                        raise
        assert self._port is not None
        return self._port

    def events(self) -> list[PortEvent]:
        """Take all events that are queued in the port; [] if none is. Does not wait."""
        self._require_open()
        port = self._port
        return [] if port is None else port.getn(port.max_events, 1, 0)

    def wakeup(self) -> None:
        """End the `select` that is waiting, or the next one. Calls coalesce.

        May be called by any thread and any signal handler. On a closed selector: no effect.
        """
        with self._lock:
            if not self._closed:
                self._driver.wake()

    # In the lock

    def _watch(self, port: Port) -> None:
        shown = port.fileno()
        self._driver.arm(shown, POLLIN, shown, _LEVEL)
        self._shown = shown
        self._port = port

    def _unwatch(self, fileobj: object) -> None:
        """Somebody registers the number of the port's descriptor."""
        assert self._port is not None
        if not self._port.closed:
            raise ValueError(f"{fileobj!r} is the selector's own port, which it waits for anyway")
        self._driver.disarm(self._shown)
        self._shown = -1

    def _add_file(self, fd: int, bits: int) -> None:
        if self._asked and not self._files:
            self._driver.show(True)
        self._files[fd] = bits
        self._poll = self._poll_files
        self._driver.wake()  # whoever is waiting has none, and is to look

    def _forget(self, fd: int) -> None:
        # Out of the keys first: what is still reported then finds no key, and is disarmed.
        self._keys.pop(fd, None)
        self._drop_results(fd)
        self._drop_file(fd)
        self._driver.disarm(fd)

    def _drop_results(self, fd: int) -> None:
        for report in self._reported.get(fd, ()):
            self._results.pop(report, None)
        self._reported.pop(fd, None)

    def _drop_file(self, fd: int) -> None:
        if self._files.pop(fd, None) is not None and not self._files:
            self._poll = self._poller
            if self._asked:
                self._driver.show(False)

    def _close_driver(self) -> None:
        """Close it unless somebody is in it; whoever comes out of it sees to that again."""
        with self._lock:
            if not self._selecting:
                self._driver.close()

    def _make_results(self, ready: list[Report]) -> list[Result]:
        """What the reports mean, some of which are not in the table."""
        made: list[Result] = []
        with self._lock:
            if self._closed:
                self._close_driver()
                return made
            if self._files:
                ready = list((dict(ready) | self._files).items())
            for report in ready:
                result = self._results.get(report)
                if result is None:
                    fd, bits = report
                    key = self._keys.get(fd)
                    if key is None:
                        # The driver's own, the port's, or of what was just unregistered.
                        if fd != self._shown:
                            self._driver.disarm(fd)
                        continue
                    events = EVENT_WRITE if bits & ~POLLIN else 0
                    if bits & ~POLLOUT:
                        events |= EVENT_READ
                    result = (key, events & key.events)
                    self._reported.setdefault(fd, []).append(report)
                    self._results[report] = result
                made.append(result)
        return made

    # Otherwise

    def _poll_files(self, timeout: float | None) -> list[Report]:
        """`_poll` while something is always ready."""
        # What is no time at all is for the facility to refuse.
        ready = self._poller(0 if timeout is None or isfinite(timeout) else timeout)
        return ready + [
            (fd, bits) for fd, bits in list(self._files.items()) if self._driver.current(fd)
        ]

    def _fileno(self) -> int:
        with self._lock:
            self._require_open()
            descriptor = self._driver.fileno()
            if not self._asked:
                self._asked = True
                self._driver.show(bool(self._files))
            return descriptor

    def _require_open(self) -> None:
        if self._closed:
            refuse(None)

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if is_finalizing():
            return
        if not self._closed:
            self.close()
        elif self._selecting:
            self._driver.close()  # whoever was in it had no time for that

    def __repr__(self) -> str:
        return f"<PortSelector {self._name}{' closed' if self._closed else ''}>"
