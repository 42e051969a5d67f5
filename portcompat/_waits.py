"""Waiting for requests of asynchronous I/O, other than by their events."""

from collections.abc import Callable, Iterable

from portcompat._clocks import CLOCK_MONOTONIC, now
from portcompat._constants import POLLIN
from portcompat._events import PortTimeout
from portcompat._port import Port
from portcompat._requests import requests
from portcompat.abc import Backend


def wait(
    is_over: Callable[[], bool], ports: Iterable[Backend | None], timeout: float | None
) -> bool:
    """Wait up to `timeout` seconds until `is_over`, which requests bring about; whether it is.

    In a port of its own: whoever finishes a request sends to that (`Requests.wakers`). What the
    kernel does for the `ports`, which are the homes of these requests, is looked after meanwhile.
    """
    homes = [home for home in dict.fromkeys(ports) if home is not None]
    for home in homes:
        home.reap_io()
    if is_over():
        return True
    if timeout == 0:
        return False
    deadline = None if timeout is None else now(CLOCK_MONOTONIC) + int(timeout * 1e9)
    with Port(max_events=2 + len(homes)) as port:

        def wake() -> None:
            try:
                port.send(0)
            except OSError:  # it has been woken already, or needs no waking any more
                pass

        key = object()
        requests.wakers[key] = wake
        try:
            while True:
                for home in homes:
                    _watch(port, home)
                if is_over():
                    return True
                left = None if deadline is None else (deadline - now(CLOCK_MONOTONIC)) / 1e9
                try:
                    port.get(left if left is None else max(0.0, left))
                except PortTimeout:
                    for home in homes:
                        home.reap_io()
                    return is_over()
                # The event may have been one of many; all are looked at each time.
        finally:
            requests.wakers.pop(key, None)


def _watch(port: Port, home: Backend) -> None:
    """Have `port` tell when `home` may have finished something; see what it has now."""
    fd = home.io_fileno()
    if fd is not None:
        try:
            port.associate(fd, POLLIN)
        except OSError:  # the home has just closed it
            pass
    home.reap_io()
