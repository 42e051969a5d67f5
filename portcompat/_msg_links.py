"""How the processes that serve one mount tell each other of connections made after a fork."""

import os
import socket
import sys
from typing import Final

from portcompat import _msg_sockets as sockets

HAVE_LINKS: Final = sys.platform.startswith("linux")
"""Elsewhere a message that is peeked at does not bring its descriptors, or not as documented."""

_NAME: Final = 8  # bytes
_PEEK: Final = sockets.TAKE | getattr(socket, "MSG_PEEK", 0)


class Links:
    """A list of connections that is in the kernel, so that it needs no process to keep it.

    Each link is a pair of datagram sockets, and what is first in its queue is for everybody: the
    descriptors of a connection, and those of the next link. Who reads it peeks, which copies the
    descriptors and leaves the message to the others; each process has its own place in the list,
    and a link goes when the last has passed it. Of two who add at a time both send to the same
    link; the first message counts, and the other one is sent again to the next link.
    """

    def __init__(self) -> None:
        self._far, self._near = sockets.datagram_pair()
        self._gate: sockets.Gate | None = None

    def watch(self, gate: sockets.Gate) -> None:
        """Have the gate ready while there is a connection that this process does not know."""
        gate.add(self._near.fileno())
        self._gate = gate

    def add(self, descriptors: list[int]) -> list[list[int]]:
        """Tell the others of these. Returns what others have added before, as `read` does.

        Raises OSError ETOOMANYREFS when a process that has the mount never reads.
        """
        name = os.urandom(_NAME)
        before: list[list[int]] = []
        try:
            while True:
                far, near = sockets.datagram_pair()
                with far, near:
                    brought = [*descriptors, far.fileno(), near.fileno()]
                    self._far.sendmsg([name], sockets.pass_along(brought), sockets.SEND)
                found, added = self._pass()
                if found == name:
                    sockets.close_all(added)
                    return before
                before.append(added)
        except BaseException:
            for each in before:
                sockets.close_all(each)
            raise

    def read(self) -> list[int] | None:
        """The descriptors of the next connection that another process has made, if any."""
        try:
            return self._pass()[1]
        except BlockingIOError:
            return None

    def _pass(self) -> tuple[bytes, list[int]]:
        """Go to the next link; returns what was first in this one."""
        received: list[sockets.Received] = []
        descriptors: list[int] = []
        try:
            received.extend(map(self._near.recvmsg, (_NAME,), (sockets.PASSED_SPACE,), (_PEEK,)))
            descriptors = sockets.passed(received[0][1])
            far, near = sockets.adopt(descriptors[-2]), sockets.adopt(descriptors[-1])
            used = descriptors[-2:]
            del descriptors[-2:]
            sockets.close_all(used)
            former = self._far, self._near
            self._far, self._near = far, near
            if self._gate is not None:
                self._gate.remove(former[1].fileno())  # others have it open, so it would stay
                self._gate.add(near.fileno())
            for end in former:
                end.close()
        except BaseException:
            sockets.close_all(descriptors or (sockets.passed(received[0][1]) if received else []))
            raise
        return received[0][0], descriptors

    def close(self) -> None:
        self._far.close()
        self._near.close()
