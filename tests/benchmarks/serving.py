"""examples/http_server.py under load, against other servers of static files."""

import os
import re
import selectors
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Final

from tests.benchmarks import CHECKOUT
from tests.benchmarks.measure import Timer, Timers

CLIENTS = 50
REQUEST: Final = b"GET /file.html HTTP/1.1\r\nHost: here\r\nAccept: */*\r\n\r\n"


def against(peer: str, size: int) -> Callable[[str], AbstractContextManager[Timers]]:
    """A file of `size` bytes, asked for by CLIENTS at a time; `peer` is one of web_servers."""

    @contextmanager
    def timers(backend: str) -> Iterator[Timers]:
        with tempfile.TemporaryDirectory() as root, ExitStack() as stack:
            Path(root, "file.html").write_bytes(os.urandom(size))
            example = str(CHECKOUT / "examples" / "http_server.py")
            launch = (
                "import runpy, sys; sys.path.insert(0, sys.argv[1]); sys.argv = sys.argv[2:];"
                "from tests.benchmarks import find_drivers; find_drivers();"
                "runpy.run_path(sys.argv[0], run_name='__main__')"
            )
            ours = ["-c", launch, str(CHECKOUT / "examples"), example, root]
            theirs = ["-m", "tests.benchmarks.web_servers", peer, root]
            yield (
                stack.enter_context(_loaded(ours, backend, size)),
                stack.enter_context(_loaded(theirs, backend, size)),
            )

    return timers


@contextmanager
def _loaded(arguments: list[str], backend: str, size: int) -> Iterator[Timer]:
    """A server, and what has each of CLIENTS make so many requests of it."""
    environment = {**os.environ, "PORTCOMPAT_BACKEND": backend}
    with (
        subprocess.Popen(
            [sys.executable, *arguments], cwd=CHECKOUT, stdout=subprocess.PIPE, env=environment
        ) as server,
        selectors.SelectSelector() as selector,
        ExitStack() as stack,
    ):
        stack.callback(server.kill)
        assert server.stdout is not None
        line = server.stdout.readline().decode()
        match = re.fullmatch(r"listening on (.*):(\d+)\n", line)
        assert match is not None, line
        for _ in range(CLIENTS):
            client = socket.create_connection((match[1], int(match[2])))
            stack.callback(client.close)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(client, selectors.EVENT_READ)

        def run(loops: int) -> float:
            clients = [key.fileobj for key in selector.get_map().values()]
            left = dict.fromkeys(clients, loops)
            wanted = dict.fromkeys(clients, 0)  # bytes of the answer that are to come
            start = perf_counter()
            for client in clients:
                assert isinstance(client, socket.socket)
                client.sendall(REQUEST)
            while left:
                for key, _ in selector.select():
                    client = key.fileobj
                    assert isinstance(client, socket.socket)
                    data = client.recv(1 << 18)
                    if not wanted[client]:
                        head, found, body = data.partition(b"\r\n\r\n")
                        assert found, "the head comes in one piece"
                        assert head.startswith(b"HTTP/1.1 200 "), head
                        wanted[client] = size - len(body)
                    else:
                        wanted[client] -= len(data)
                    if not wanted[client]:
                        left[client] -= 1
                        if left[client]:
                            client.sendall(REQUEST)
                        else:
                            del left[client]
            return perf_counter() - start

        yield run
