"""A server that is driven by a port, and what it is refused."""

import os
import socket
from collections.abc import Callable
from threading import Thread

import pytest

from portcompat import POLLIN, PORT_SOURCE_FD, Port
from portcompat.conformance._descriptors import A_WHILE, SOON
from portcompat.msgif import DEFAULT_MAX_SIZE, Cloner, Instance, Request

ROOM = DEFAULT_MAX_SIZE
"""Bytes that a server has room for if a test does not say otherwise."""


def refused(code: int, call: Callable[[], object]) -> None:
    """`call` has to raise OSError with that errno."""
    with pytest.raises(OSError) as caught:
        call()
    assert caught.value.errno == code, caught.value


class Server:
    """The server's end of a mount, associated with a port as often as something is awaited."""

    def __init__(self, instance: Instance, port: Port) -> None:
        self.instance = instance
        self._port = port

    def readable(self, timeout: float = 0) -> bool:
        """Whether the port says, in that time, that a request waits."""
        self._port.associate(self.instance, POLLIN, self)
        found = self._port.getn(1, 1, timeout)
        if not found:
            self._port.dissociate(self.instance)
            return False
        source, number, events, user = found[0]
        assert (source, number, user) == (PORT_SOURCE_FD, self.instance.fileno(), self)
        assert events & POLLIN
        return True

    def take(self, room: int = ROOM) -> Request:
        """Wait for a request, and take it without waiting."""
        assert self.readable(SOON), "no request came"
        return self.instance.getop(room, block=False)

    def is_idle(self) -> bool:
        """Whether no request waits, for a while."""
        return not self.readable(A_WHILE)

    def answer(self, rv: int = 0, payload: bytes = b"") -> Request:
        """Take a request and reply to it."""
        request = self.take()
        self.instance.putop(request.id, rv, payload)
        return request


def serve_a_mount(channel: socket.socket) -> None:
    """What a server process does: it sends a handle, another for each byte, and echoes calls.

    Those with optype 0 it never answers.
    """
    with Cloner().open() as instance:
        instance.mount()
        instance.send_handle(channel)
        Thread(target=_hand_out, args=(instance, channel), daemon=True).start()
        while True:
            request = instance.getop()
            if request.id and request.optype:
                instance.putop(request.id, 0, request.payload)


def _hand_out(instance: Instance, channel: socket.socket) -> None:
    while channel.recv(1):
        instance.send_handle(channel)
    os._exit(0)  # the test is over
