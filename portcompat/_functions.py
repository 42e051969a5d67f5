"""The calls of <port.h> by their C names, on descriptor numbers.

The number of a port is a descriptor of its own, a dup of `Port.fileno()`. So it can be polled,
associated with another port, and closed with os.close; that is noticed at the next call. What
C returns through pointers is returned, and what C returns as -1 raises OSError with the errno.
A port is looked up before the other arguments are (R064).
"""

import errno
import os
from operator import index
from threading import RLock
from typing import Any, Literal, SupportsFloat, SupportsIndex, overload

from portcompat._checks import as_int
from portcompat._constants import EBADFD, PORT_SOURCE_FD, PORT_SOURCE_FILE
from portcompat._events import FileObject, PortEvent, PortTimeout
from portcompat._port import Port

Timeout = SupportsFloat | SupportsIndex | None


_numbered: dict[int, Port] = {}

# Held while a number is closed: of several threads one does it, and nobody asks what the number is
# while the list of descriptors, which is one itself, may stand under it. Never held while a port
# is closed, which waits for other threads.
_closing = RLock()


def port_create() -> int:
    """Make a port; returns its number, a descriptor (port_create(3C), R051, R067).

    Raises OSError EAGAIN and EMFILE as `Port` does. Close it with port_close or os.close.
    """
    try:
        lowest = os.open(os.devnull, os.O_RDONLY)  # now, before the port takes some for itself
    except OSError:
        lowest = -1  # no descriptor is left, it seems; the port says what is wrong (R068)
    try:
        port = Port()
        try:
            if lowest < 0:
                number = os.dup(port.fileno())
            else:
                number = os.dup2(port.fileno(), lowest, inheritable=False)
        except BaseException:
            port.close()
            raise
    except BaseException:
        if lowest >= 0:
            os.close(lowest)
        raise
    with _closing:
        former = _numbered.get(number)
        unused = former is not None and _forget(number, former)
        _numbered[number] = port
    if former is not None and unused:  # its number was closed with os.close
        former.close()
    return number


def port_close(port: int) -> None:
    """Close a port, as close(2) does on illumos: threads that wait in it get EBADF (R178).

    With the last number of several that dup(2) made; until then the port lives on (R067).
    """
    while True:
        found = _port(port)
        with _closing:
            if _is_number_of(found, port):  # no other thread was faster
                os.close(port)
                unused = _forget(port, found)
                break
    if unused:
        found.close()


def port_associate(
    port: int,
    source: SupportsIndex,
    object: int | FileObject,
    events: SupportsIndex,
    user: Any = None,
) -> None:
    """`Port.associate` (port_associate(3C), R052): with PORT_SOURCE_FD a descriptor, with
    PORT_SOURCE_FILE a FileObject. OSError EINVAL for a source that cannot be associated (R089)."""
    found = _port(port)
    _check_source(source, object)
    found.associate(object, events, user)


def port_dissociate(port: int, source: SupportsIndex, object: int | FileObject) -> None:
    """`Port.dissociate` (port_dissociate(3C), R053)."""
    found = _port(port)
    _check_source(source, object)
    found.dissociate(object)


def port_send(port: int, events: SupportsIndex, user: Any = None) -> None:
    """`Port.send` (port_send(3C), R054)."""
    _port(port).send(events, user)


def port_sendn(ports: list[int], events: SupportsIndex, user: Any = None) -> tuple[int, list[int]]:
    """`sendn` (port_sendn(3C), R055): how many were sent, and an errno or 0 for each port."""
    number = as_int(events, "events")
    receivers = [as_int(port, "port") for port in ports]
    if not receivers:
        raise OSError(errno.EINVAL, "ports must not be empty")
    errors = []
    for entry in receivers:
        try:
            _port(entry).send(number, user)
        except OSError as error:
            errors.append(error.errno or errno.EIO)
        else:
            errors.append(0)
    return errors.count(0), errors


def port_get(port: int, timeout: Timeout = None) -> PortEvent:
    """`Port.get` (port_get(3C), R056)."""
    return _port(port).get(timeout)


@overload
def port_getn(  # type: ignore[overload-overlap]  # 0 is one of the ints of the other
    port: int, max: Literal[0], nget: SupportsIndex = 1, timeout: Timeout = None
) -> int: ...
@overload
def port_getn(
    port: int, max: SupportsIndex, nget: SupportsIndex = 1, timeout: Timeout = None
) -> list[PortEvent]: ...
def port_getn(
    port: int, max: SupportsIndex, nget: SupportsIndex = 1, timeout: Timeout = None
) -> list[PortEvent] | int:
    """`Port.getn` (port_getn(3C), R057), with two differences: `max` 0 returns how many events are
    queued (R146), and a nonzero `timeout` that brings nothing raises PortTimeout (R151)."""
    found = _port(port)
    events = found.getn(max, nget, timeout)
    if index(max) == 0:
        return found.pending()
    if not events and index(nget) and timeout is not None and float(timeout):
        raise PortTimeout
    return events


def port_alert(port: int, flags: SupportsIndex, events: SupportsIndex, user: Any = None) -> None:
    """`Port.alert`, in C's order of arguments (port_alert(3C), R058)."""
    _port(port).alert(events, user, flags=flags)


def _port(number: int) -> Port:
    """The port of a number. Raises OSError EBADF if it is not open, EBADFD if it is no port."""
    as_int(number, "port")
    found = _numbered.get(number)
    if found is not None and _is_number_of(found, number):
        return found
    unused = False
    try:
        with _closing:
            if found is not None:
                found._backend.require_open()  # in a fork child it is the parent's: says so
                unused = _forget(number, found)  # closed with os.close
            for port in list(_numbered.values()):  # a dup
                if _is_number_of(port, number):
                    return port
            if _is_open(number):
                raise OSError(EBADFD, f"descriptor {number} is not a port")
            raise OSError(errno.EBADF, f"port {number} is not open")
    finally:
        if found is not None and unused:
            found.close()


def _forget(number: int, port: Port) -> bool:
    """`number` is closed. Returns whether the port has no other; else it goes on under that."""
    if _numbered.get(number) is not port:
        return False  # another thread saw it too
    _numbered.pop(number, None)  # a signal handler may have done so just now
    if port.closed:  # it was the parent's
        return False
    for other in _open_descriptors():
        if other != port.fileno() and _is_number_of(port, other):
            _numbered[other] = port
            return False
    return True


def _is_number_of(port: Port, number: int) -> bool:
    return _is_open(number) and port._backend.is_descriptor(number)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except (OSError, OverflowError):
        return False
    return True


def _open_descriptors() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/dev/fd")]
    except OSError:  # not every system tells
        return []


def _check_source(source: SupportsIndex, object: object) -> None:
    kind = as_int(source, "source")
    if kind == PORT_SOURCE_FILE:
        if not isinstance(object, FileObject):
            raise TypeError(f"object must be a FileObject, not {type(object).__name__}")
    elif kind != PORT_SOURCE_FD:
        raise OSError(
            errno.EINVAL,
            f"source {kind} cannot be associated: take PORT_SOURCE_FD or PORT_SOURCE_FILE",
        )
    elif isinstance(object, FileObject):
        raise TypeError("a FileObject goes with PORT_SOURCE_FILE")


def _renew_in_child() -> None:
    """A thread that is not here may have held the lock."""
    global _closing
    _closing = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_in_child)
