"""The interpreter's exit while a port is open."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent

_START = """\
import builtins, os, sys
checkout, backend = sys.argv[1:]
sys.path.insert(0, checkout)
import portcompat
portcompat.__path__.append(checkout)
from portcompat import *
from portcompat.conformance._threads import waiting
os.environ["PORTCOMPAT_BACKEND"] = backend
reader, writer = os.pipe()
"""

# What is kept by `builtins` is finalized last, when the modules have gone.
PROGRAMS = {
    "a port": "builtins.port = port = Port(); port.send(1, port)",
    "a port with a descriptor": "builtins.port = port = Port(); port.fileno()",
    "a port with a descriptor and the modules": """\
import portcompat._port, portcompat._engine
builtins.modules = portcompat, portcompat._port, portcompat._engine
builtins.port = port = Port()
port.fileno()
""",
    "a port in a cycle": "port = Port(); port.send(1, port); port.fileno(); del port",
    "a port by its number": "builtins.number = port_create(); port_send(number, 1)",
    "associations": """\
builtins.port = port = Port()
port.associate(reader, POLLIN, port)
port.associate(writer, POLLOUT, port)
port.associate(0, POLLIN, port)
port.pending()
""",
    "a thread that waits": """\
builtins.port = port = Port()
builtins.waiter = waiting(port.get)
""",
    "threads that wait, associations and a descriptor": """\
builtins.port = port = Port()
port.fileno()
port.associate(reader, POLLIN, port)
builtins.waiters = [waiting(lambda: port.getn(8, want)) for want in (1, 2, 8)]
""",
    "a thread that waits in a port by its number": """\
number = port_create()
port_associate(number, PORT_SOURCE_FD, reader, POLLIN)
builtins.waiter = waiting(lambda: port_get(number))
""",
    "threads that are busy": """\
import threading
builtins.port = port = Port()
port.fileno()
started = threading.Barrier(3)

def exchange():
    started.wait()
    while True:
        port.send(1)
        port.associate(writer, POLLOUT)
        port.getn(8, 2, 0.01)

for _ in range(2):
    threading.Thread(target=exchange, daemon=True).start()
started.wait()
""",
    "a finalizer that sends": """\
class Sender:
    def __del__(self, Port=Port):
        port.send(1)
        port.getn(8, 1, 0)

builtins.port = port = Port()
builtins.sender = Sender()
""",
    "a function at exit that closes": """\
import atexit
port = Port()
port.associate(reader, POLLIN)
waiter = waiting(port.get)
atexit.register(port.close)
""",
    "an exit from a thread's port": "builtins.port = Port(); waiting(port.get); sys.exit(0)",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=list(PROGRAMS))
def test_the_interpreter_exits_in_silence_with(backend: str, program: str) -> None:
    command = [sys.executable, "-X", "dev", "-c", _START + program, str(CHECKOUT), backend]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "ResourceWarning: " not in line]
    assert said == []
