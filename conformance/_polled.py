"""What the host's poll(2) says of a descriptor: the yardstick for the bits of an event (R097)."""

import select

import pytest

from portcompat import POLLERR, POLLHUP


def polled(fd: int, events: int) -> int:
    """The bits that an event of `fd` has to carry when `events` were asked."""
    if not hasattr(select, "poll"):
        pytest.skip("this host has no poll(2) to compare with")
    poll = select.poll()
    poll.register(fd, events)
    told = dict(poll.poll(0)).get(fd, 0)
    return told & (events | POLLHUP | POLLERR)
