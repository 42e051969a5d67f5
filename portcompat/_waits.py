"""Waiting for requests of asynchronous I/O, other than by their events."""

from collections.abc import Callable, Iterable
from functools import partial
from threading import Lock
from time import monotonic
from typing import Final

from portcompat._constants import POLLIN
from portcompat._events import PortTimeout
from portcompat._port import Port
from portcompat._requests import requests
from portcompat.abc import Backend

# Seconds after which it is looked again in any case: a signal handler may have raised in who was to
# wake this up.
_AGAIN: Final = 1.0


def wait(
    is_over: Callable[[], bool], ports: Iterable[Backend | None], timeout: float | None
) -> bool:
    """Wait up to `timeout` seconds until `is_over`, which requests bring about; whether it is.

    Whoever finishes a request wakes this up (`Requests.wakers`). What the kernel does for `ports`,
    which are the homes of these requests, a worker looks after meanwhile. A signal handler may
    raise anywhere in here.
    """
    homes = [home for home in dict.fromkeys(ports) if home is not None]
    for home in homes:
        home.reap_io()
    if is_over() or timeout == 0:
        return is_over()
    deadline = None if timeout is None else monotonic() + timeout
    turn = Lock()

    def wake() -> None:
        try:
            turn.release()
        except RuntimeError:  # it has been woken already
            pass

    key = object()
    try:
        requests.wakers[key] = wake
        if homes:
            requests.workers.put(partial(attend, lambda: key not in requests.wakers, homes), True)
        while not is_over():
            left = _AGAIN if deadline is None else deadline - monotonic()
            if left <= 0:
                break
            turn.acquire(timeout=min(left, _AGAIN))
        return is_over()
    finally:
        if requests.wakers.pop(key, None) is not None and homes:
            requests.wake()  # the worker


def attend(
    is_over: Callable[[], bool], homes: Iterable[Backend], timeout: float | None = None
) -> None:
    """Finish what the kernel does for ports, until `is_over` or `timeout` seconds are.

    For threads that no signal handler interrupts. It waits in a port of its own, with which the
    descriptors that tell of these completions are associated.
    """
    deadline = None if timeout is None else monotonic() + timeout
    homes = list(homes)
    woken: list[None] = []  # so that the port is sent no more than it has room for
    with Port() as port:

        def wake() -> None:
            if not woken:
                woken.append(None)
                try:
                    port.send(0)
                except OSError:  # it is closed, and needs no waking any more
                    pass

        key = object()
        requests.wakers[key] = wake
        try:
            while True:
                for home in homes:
                    _watch(port, home)
                if is_over() or (deadline is not None and monotonic() >= deadline):
                    return
                try:
                    port.get(_AGAIN)
                except PortTimeout:
                    pass
                woken.clear()
                # The event may have been one of many; all are looked at each time.
        finally:
            requests.wakers.pop(key, None)


def _watch(port: Port, home: Backend) -> None:
    """Have `port` tell when the kernel has finished something for `home`; see what it has now."""
    fd = home.io_fileno()
    if fd is not None:
        try:
            port.associate(fd, POLLIN)
        except OSError:  # it has just been closed
            pass
    home.reap_io()
