"""The example http_server.py while it runs, what it serves, and clients without manners."""

import contextlib
import http.client
import os
import re
import select
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from time import monotonic

import pytest

from tests.test_examples import PATIENCE, Example

pytest.importorskip("h11")

BIG = 3_000_001
NO_GOODBYE = struct.pack("ii", 1, 0)  # SO_LINGER: close resets the connection
SMALL = b"<p>a small page\n"
Headers = dict[str, str]


class Web:
    """A running server, its root, and those who talk to it."""

    def __init__(self, example: Example, root: Path, clients: contextlib.ExitStack) -> None:
        self.example, self.root, self.clients = example, root, clients
        match = re.fullmatch(r"listening on (.*):(\d+)", example.first_line())
        assert match is not None
        self.address = match[1], int(match[2])
        self.former = self.open()

    def ask(
        self, path: str, headers: Headers | None = None, method: str = "GET"
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request(method, path, headers=headers or {})
            response = connection.getresponse()
            return response, response.read()

    def status(self, path: str, headers: Headers | None = None, method: str = "GET") -> int:
        return self.ask(path, headers, method)[0].status

    def client(self) -> socket.socket:
        """A connection without manners; closed at the end."""
        client = socket.create_connection(self.address, PATIENCE)
        self.clients.callback(client.close)
        return client

    def say(self, data: bytes) -> bytes:
        """Send that, say no more, and return all that comes until the server hangs up."""
        with socket.create_connection(self.address, PATIENCE) as client:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
            return everything(client)

    def open(self) -> int:
        """How many sockets and files it has open; 0 where the system does not tell."""
        numbers = Path(f"/proc/{self.example.process.pid}/fd")
        if not numbers.is_dir():
            return 0
        count = 0
        for number in numbers.iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                target = number.readlink()
                count += target.is_relative_to(self.root) or str(target).startswith("socket:")
        return count

    def has_forgotten_everyone(self) -> None:
        """Return when nothing is open but what was before the first client came."""
        self.clients.close()
        eventually(lambda: self.open() == self.former)


def everything(client: socket.socket) -> bytes:
    """What the server sends until it hangs up."""
    data = bytearray()
    while piece := client.recv(1 << 16):
        data += piece
    return bytes(data)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < deadline
        select.select([], [], [], 0.01)


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root that no test changes."""
    root = tmp_path_factory.mktemp("web") / "root"
    for folder in (root, root / "sub", root / "empty"):
        folder.mkdir()
    (root / "index.html").write_bytes(b"the first page")
    (root / "page.html").write_bytes(SMALL)
    (root / "sub" / "index.html").write_bytes(b"another page")
    (root / "sub" / "a name & more.txt").write_bytes(b"named")
    (root / "nothing").write_bytes(b"")
    (root / "big.bin").write_bytes(Random(1).randbytes(BIG))
    (root / ".hidden").write_bytes(b"hidden")
    (root.parent / "outside").write_bytes(b"outside")
    (root / "link").symlink_to("page.html")
    (root / "out").symlink_to("../outside")
    (root / "folder").symlink_to("sub")
    os.mkfifo(root / "fifo")
    return root


@contextlib.contextmanager
def serving(
    root: Path,
    backend: str,
    *arguments: str,
    descriptors: int = 256,
    patience: float = 2 * PATIENCE,
) -> Iterator[Web]:
    given = ["--patience", str(patience), *arguments, str(root)]
    with (
        Example("http_server.py", *given, backend=backend, descriptors=descriptors) as example,
        contextlib.ExitStack() as clients,
    ):
        yield Web(example, root, clients)


def statuses(answers: bytes) -> list[int]:
    """Those of several answers in a row, of which none has such a line in it."""
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]
