"""Static file servers to compare examples/http_server.py with; each says where it listens.

python -m tests.benchmarks.web_servers asyncio DIRECTORY
python -m tests.benchmarks.web_servers threads DIRECTORY
"""

import asyncio
import http.server
import mimetypes
import sys
from collections.abc import Callable
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Final

import h11


class Handler(http.server.SimpleHTTPRequestHandler):
    """http.server's own, keeping connections."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def serve_by_threads(root: Path) -> None:
    handler = partial(Handler, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        print("listening on {}:{}".format(*server.server_address), flush=True)
        server.serve_forever()


class Connection(asyncio.Protocol):
    """A client of a server that is made of asyncio and h11, and keeps nothing in memory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.http = h11.Connection(h11.SERVER)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.http.receive_data(data)
        while True:
            event = self.http.next_event()
            if isinstance(event, h11.Request):
                self.path = self.root / event.target.decode().lstrip("/")
            elif isinstance(event, h11.EndOfMessage):
                self.answer()
            else:
                return

    def answer(self) -> None:
        status, body = self.path.stat(), self.path.read_bytes()
        kind, _ = mimetypes.guess_type(self.path.name)
        headers = [
            ("Date", formatdate(usegmt=True)),
            ("ETag", f'"{status.st_mtime_ns:x}"'),
            ("Last-Modified", formatdate(status.st_mtime, usegmt=True)),
            ("Content-Type", kind or "application/octet-stream"),
            ("Content-Length", str(len(body))),
        ]
        parts = [h11.Response(status_code=200, headers=headers), h11.Data(body), h11.EndOfMessage()]
        self.transport.write(b"".join(self.http.send(part) or b"" for part in parts))
        self.http.start_next_cycle()


async def serve_by_asyncio(root: Path) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(root), "127.0.0.1", 0)
    print("listening on {}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await server.serve_forever()


SERVERS: Final[dict[str, Callable[[Path], None]]] = {
    "asyncio": lambda root: asyncio.run(serve_by_asyncio(root)),
    "threads": serve_by_threads,
}

if __name__ == "__main__":
    SERVERS[sys.argv[1]](Path(sys.argv[2]))
