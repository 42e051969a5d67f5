"""Processes that work for a test: fork children, and others that know nothing of it."""

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
from typing import Any, Literal, NamedTuple

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
import {module}, os, socket
channel = socket.socket(fileno=int(sys.argv[1]))
try:
    {module}.{name}(channel)
except:
    sys.excepthook(*sys.exc_info())
finally:
    os._exit(0)  # whatever its threads wait for
"""


class Process(NamedTuple):
    """A process at work, and this end of the Unix socket between it and the test."""

    pid: int
    channel: socket.socket

    def kill(self) -> None:
        """End it by SIGKILL; it is waited for when the block is left."""
        os.kill(self.pid, signal.SIGKILL)


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
            pid = _forked(ours, theirs, work) if how == "fork" else _started(theirs, work)
        started = Process(pid, ours)
        try:
            yield started
        finally:
            _end(started)


def _forked(ours: socket.socket, theirs: socket.socket, work: Work) -> int:
    child = os.fork()
    if child == 0:
        try:
            ours.close()
            work(theirs)
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(0)
    return child


def _started(theirs: socket.socket, work: Work) -> int:
    code = _CODE.format(
        path=[os.path.abspath(entry) for entry in sys.path],
        package=list(portcompat.__path__),
        module=work.__module__,
        name=work.__qualname__,
    )
    number = theirs.fileno()
    command = [sys.executable, "-c", code, str(number)]
    made = subprocess.Popen(command, pass_fds=[number], stdin=subprocess.DEVNULL)
    made.returncode = 0  # `_end` is who waits for it
    return made.pid


def _end(started: Process) -> None:
    """Let the process see that its channel is at an end, and wait until it is no more."""
    try:
        started.channel.shutdown(socket.SHUT_WR)
        while started.channel.recv(1 << 16):
            pass
    except OSError:  # it does not end of itself, or has been killed
        pass
    os.kill(started.pid, signal.SIGKILL)
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
