"""Processes that work for a test: fork children, and others that know nothing of it."""

import atexit
import importlib
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from time import monotonic, sleep
from typing import Any, Literal, NamedTuple, NoReturn

import pytest

import portcompat

How = Literal["fork", "process"]
Work = Callable[[socket.socket], object]

PATIENCE = 30.0
"""Seconds that a message of another process may take."""

_LENGTH = struct.Struct("!I")
_CODE = """\
import sys
sys.path[:] = {path!r}
import portcompat
portcompat.__path__[:] = {package!r}
from portcompat.conformance._processes import serve_nursery
serve_nursery(int(sys.argv[1]))
"""


class Process(NamedTuple):
    """A process at work, and this end of the Unix socket between it and the test."""

    pid: int
    channel: socket.socket
    ours: bool  # it is a child, which is there until it is waited for

    def kill(self) -> None:
        """End it by SIGKILL. When this returns it has nothing open any more."""
        os.kill(self.pid, signal.SIGKILL)
        self.await_end()

    def await_end(self) -> None:
        """Return when it is dead, which it must be soon."""
        if self.ours:
            if hasattr(os, "waitid"):
                os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            return
        deadline = monotonic() + PATIENCE
        while _exists(self.pid):
            assert monotonic() < deadline, "the process does not end"
            sleep(0.001)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def process(how: How, work: Work) -> Iterator[Process]:
    """Run `work` in a process of its own, which ends when it returns or its channel does.

    A fork child has all that the test has. Another process is started from nothing, finds `work`
    by its module and name, and has nothing of the test's but its end of the channel.
    """
    if not hasattr(os, "fork"):
        pytest.skip("this host has no fork(2)")
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE)
    with ours:
        with theirs:
            if how == "fork":
                pid = _forked(ours, theirs, work)
            else:
                pid = _nursery(os.getpid()).start(theirs, work)
        started = Process(pid, ours, how == "fork")
        try:
            yield started
        finally:
            _end(started)


def _forked(ours: socket.socket, theirs: socket.socket, work: Work) -> int:
    child = os.fork()
    if child == 0:
        ours.close()
        _run(work, theirs)
    return child


def _run(work: Work, channel: socket.socket) -> NoReturn:
    """The whole life of a child: no finalizer and no test runner after it."""
    try:
        work(channel)
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(0)


class _Nursery:
    """A process that was started from nothing and forks those that tests want.

    They know as little of the test as it does, and starting one does not take a new interpreter.
    """

    def __init__(self) -> None:
        code = _CODE.format(
            path=[os.path.abspath(entry) for entry in sys.path], package=list(portcompat.__path__)
        )
        self._lock = Lock()
        self._orders, theirs = socket.socketpair()
        self._orders.settimeout(PATIENCE)
        atexit.register(self._orders.close)
        with theirs:
            number = theirs.fileno()
            subprocess.Popen(
                [sys.executable, "-c", code, str(number)],
                pass_fds=[number],
                stdin=subprocess.DEVNULL,
            ).returncode = 0  # it ends with this process, and nobody waits for it
        told(self._orders)

    def start(self, theirs: socket.socket, work: Work) -> int:
        with self._lock:
            tell(self._orders, (work.__module__, work.__qualname__))
            socket.send_fds(self._orders, [b"!"], [theirs.fileno()])
            pid: int = told(self._orders)
        return pid


@cache
def _nursery(owner: int) -> _Nursery:
    """That of the process `owner`: a fork child has one of its own."""
    return _Nursery()


def serve_nursery(number: int) -> None:
    """What the nursery does."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that nobody has to wait for them
    with socket.socket(fileno=number) as orders:
        tell(orders, "ready")
        while True:
            try:
                module, name = told(orders)
            except EOFError:
                return
            _, descriptors, _, _ = socket.recv_fds(orders, 1, 1)
            child = os.fork()
            if child == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                orders.close()
                channel = socket.socket(fileno=descriptors[0])
                _run(getattr(importlib.import_module(module), name), channel)
            os.close(descriptors[0])
            tell(orders, child)


def _end(started: Process) -> None:
    """Let the process see that its channel is at an end, and wait until it is no more."""
    try:
        started.channel.shutdown(socket.SHUT_WR)
        while started.channel.recv(1 << 16):
            pass
    except TimeoutError:  # it does not end of itself
        started.kill()
    except OSError:  # it has been killed
        pass
    if started.ours:
        os.waitpid(started.pid, 0)


def tell(channel: socket.socket, message: Any) -> None:
    """Send an object to the process at the other end."""
    data = pickle.dumps(message)
    channel.sendall(_LENGTH.pack(len(data)) + data)


def told(channel: socket.socket) -> Any:
    """The next object from the other end; raises EOFError when that is closed."""
    (length,) = _LENGTH.unpack(_exactly(channel, _LENGTH.size))
    return pickle.loads(_exactly(channel, length))


def _exactly(channel: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = channel.recv(size - len(data))
        if not chunk:
            raise EOFError("the other process has ended")
        data += chunk
    return data
