"""A lock that another thread holds."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from portcompat.conformance._descriptors import SOON
from portcompat.conformance._threads import in_thread


@contextmanager
def held_elsewhere(lock: AbstractContextManager[bool]) -> Iterator[None]:
    """A thread holds the lock until the block ends; a fork in the block leaves it held."""
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            release.wait()

    holder = in_thread(hold)
    try:
        assert held.wait(SOON)
        yield
    finally:
        release.set()
        holder.result()
