"""What ports take they give back: descriptors, threads, memory, and when there is none to take."""

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from portcompat import POLLIN, POLLOUT, Port, PortTimeout, limits
from portcompat.conformance._descriptors import SOON, socket_pair
from portcompat.conformance._threads import in_thread, waiting

CHECKOUT = Path(__file__).parent.parent

# Makes a port with 0, 1, 2 ... descriptors to spare, in a child each, and prints what happened.
_SCARCE = """\
import errno, os, resource, sys
checkout, backend, warm, call = sys.argv[1:]
sys.path.insert(0, checkout)
import portcompat
portcompat.__path__.append(checkout)
if warm == "warm":
    portcompat.Port(backend).close()
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
os.environ["PORTCOMPAT_BACKEND"] = backend

def descriptors():
    return sorted(os.listdir("/proc/self/fd"))

def make():
    if call == "port_create":
        portcompat.port_close(portcompat.port_create())
    else:
        with portcompat.Port(backend) as port:
            if call == "fileno":
                port.fileno()

def attempt(spare):
    before = descriptors()
    limit = 3
    while spare or str(limit) in before:
        spare -= str(limit) not in before
        limit += 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        make()
        outcome = "made"
    except OSError as error:
        outcome = errno.errorcode[error.errno]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    after = descriptors()
    print(outcome, "and" if after == before else f"leaks {after} of {before}", end=" ")
    print(portcompat.limits.ports, "ports left", flush=True)

for spare in range(12):
    child = os.fork()
    if not child:
        try:
            attempt(spare)
        finally:
            sys.stdout.flush()
            os._exit(0)
    os.waitpid(child, 0)
"""


needs_a_list_of_descriptors = pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="this host does not list a process's descriptors"
)


@needs_a_list_of_descriptors
@pytest.mark.parametrize("call", ["Port", "fileno", "port_create"])
@pytest.mark.parametrize("warm", ["warm", "cold"])
def test_without_enough_descriptors_a_port_is_emfile_and_leaks_nothing(
    backend: str, warm: str, call: str
) -> None:
    arguments = [str(CHECKOUT), backend, warm, call]
    done = subprocess.run(
        [sys.executable, "-c", _SCARCE, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    outcomes = done.stdout.splitlines()
    assert len(outcomes) == 12, done.stderr
    failed = outcomes.count("EMFILE and 0 ports left")
    assert outcomes == ["EMFILE and 0 ports left"] * failed + ["made and 0 ports left"] * (
        12 - failed
    )
    assert 0 < failed < 12
    assert done.stderr == ""


def use_a_port(backend: str) -> None:
    with Port(backend) as port, socket_pair() as (ours, theirs):
        getter = waiting(lambda: port.getn(2, 2))
        port.fileno()
        port.associate(ours, POLLOUT, object())
        port.send(1, object())
        getter.result()
        port.associate(ours, POLLIN, object())
        port.associate(theirs, POLLIN, object())
        port.dissociate(theirs)
        theirs.send(b"x")
        port.get()
        with suppress(PortTimeout):
            port.get(0.001)
        port.alert(1, object())
        in_thread(port.get).result()
        port.alert(0)
        port.send(1, object())
        blocked = waiting(lambda: port.getn(2, 2))
        port.close()
        with pytest.raises(OSError, match="closed"):
            blocked.result()


@needs_a_list_of_descriptors
def test_descriptors_threads_and_ports_are_as_many_as_before(
    backend: str, scale: Callable[[int, int, int], int]
) -> None:
    use_a_port(backend)
    others = set(threading.enumerate())
    before = sorted(os.listdir("/proc/self/fd")), threading.active_count(), limits.ports
    for _ in range(scale(3, 30, 300)):
        use_a_port(backend)
    for thread in set(threading.enumerate()) - others:
        thread.join(SOON)
    after = sorted(os.listdir("/proc/self/fd")), threading.active_count(), limits.ports
    assert after == before


def test_memory_is_as_much_as_before(backend: str, scale: Callable[[int, int, int], int]) -> None:
    def blocks() -> int:
        gc.collect()
        return sys.getallocatedblocks()

    rounds = scale(200, 2_000, 20_000)
    with Port(backend) as port, socket_pair() as (ours, theirs):

        def turn() -> None:
            for number in range(10):
                port.send(number, object())
            port.associate(ours, POLLOUT, object())
            port.associate(theirs, POLLIN, object())
            port.associate(theirs, POLLIN, object())
            port.getn(100, 11)
            port.getn(100, 2, 0.000_01)
            port.dissociate(theirs)
            port.alert(1, object())
            port.get()
            port.alert(0)

        for _ in range(50):
            turn()
        before = blocks()
        for _ in range(rounds):
            turn()
        assert blocks() - before < rounds / 4


def test_ports_that_are_made_and_closed_leave_no_memory_behind(
    backend: str, scale: Callable[[int, int, int], int]
) -> None:
    def blocks() -> int:
        gc.collect()
        return sys.getallocatedblocks()

    def make() -> None:
        with Port(backend) as port:
            port.send(1, port)

    rounds = scale(2_000, 20_000, 200_000)
    for _ in range(500):
        make()
    before = blocks()
    for _ in range(rounds):
        make()
    assert blocks() - before < rounds / 4
