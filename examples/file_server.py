"""A static file server: one port, one thread, and no call that waits for the disk.

    python examples/file_server.py --listen 127.0.0.1:8080 /srv/files
    curl http://127.0.0.1:8080/readme.txt

It answers GET and HEAD of HTTP/1.1, one request after the other on a connection.

- Everything comes to one `getn`: who connects, who asks, finished reads, sockets that take more,
  connections whose time is up, and the signal that ends it, which is a message.
- `user` is what to call: it comes back with the event.
- While one part of a file is being sent, the next is being read: a connection has two buffers and
  never more, however large the file is.
- A file and its buffers are given up when no read uses them: a connection that is closed has its
  read cancelled, and waits for that event.
- At the end nobody is accepted any more, answers that have begun are completed if that does not
  take too long, and the rest is closed.
"""

import argparse
import errno
import os
import signal
import socket
import stat
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from mimetypes import guess_type
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from portcompat import POLLIN, POLLOUT, Port, PortEvent
from portcompat.aio import AioControlBlock
from portcompat.timers import Timer

TURN = 64  # events that are taken at once
PART = 1 << 16  # bytes that are read at once
HEAD = 1 << 14  # bytes that a request may have


class Body:
    """A file that is being sent: two buffers, of which one is read into."""

    def __init__(self, fd: int, size: int) -> None:
        self.fd, self.size = fd, size
        self.offset = 0  # of the next read
        self.free = [memoryview(bytearray(PART)) for _ in range(2)]
        self.reading: tuple[AioControlBlock, memoryview] | None = None
        self.read: list[tuple[memoryview, memoryview]] = []  # what is to be sent, in which buffer


class Connection:
    """Somebody who asks."""

    def __init__(self, server: "Server", peer: socket.socket) -> None:
        peer.setblocking(False)
        self.server, self.socket, self.port = server, peer, server.port
        self.asked = bytearray()
        self.head = memoryview(b"")  # what is to be sent before the body
        self.body: Body | None = None
        self.last = False  # nothing is asked after this
        self.bare = False  # only the head is wanted
        self.leaving = False  # all has been sent, and what still comes is not looked at
        self.closed = False
        self.timer: Timer = self.port.timer(user=self.late)
        self.wait()

    # Events

    def ready(self, event: PortEvent) -> None:
        """The socket can be read from or written to."""
        if self.closed:  # by an event of the same turn
            return
        try:
            if self.leaving:
                self.drain()
            elif self.head or self.body:
                self.send()
            else:
                self.receive()
        except BlockingIOError:
            self.wait()
        except OSError:  # reset by the peer
            self.close()

    def done(self, event: PortEvent) -> None:
        """A read is done."""
        body = self.body
        assert body is not None
        assert body.reading is not None
        request, buffer = body.reading
        body.reading = None
        try:
            count = request.result()
        except OSError:
            count = 0
        if self.closed:
            self.give_up()
        elif not count:  # cut short, and the peer knows that by the length
            self.close()
        else:
            body.offset += count
            body.read.append((buffer[:count], buffer))
            self.go_on()

    def late(self, event: PortEvent) -> None:
        """Nothing has moved for too long."""
        self.close()

    # A request

    def receive(self) -> None:
        data = self.socket.recv(HEAD)
        if not data:
            self.close()
            return
        self.asked += data
        self.answer()

    def answer(self) -> None:
        """Begin to answer the first request, if it is there."""
        end = self.asked.find(b"\r\n\r\n")
        if end < 0:
            if len(self.asked) < HEAD:
                self.wait()
            else:
                self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return
        lines = bytes(self.asked[:end]).decode("latin-1").split("\r\n")
        del self.asked[: end + 4]
        words = lines[0].split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            self.refuse(HTTPStatus.BAD_REQUEST)
            return
        fields = {
            name.strip().lower(): value.strip().lower()
            for name, _, value in (line.partition(":") for line in lines[1:])
        }
        if "transfer-encoding" in fields or fields.get("content-length", "0") != "0":
            self.refuse(HTTPStatus.BAD_REQUEST)  # a body that nobody here would read
            return
        if words[2] == "HTTP/1.0":
            self.last = fields.get("connection") != "keep-alive"
        else:
            self.last = fields.get("connection") == "close"
        self.bare = words[0] == "HEAD"
        if words[0] not in ("GET", "HEAD"):
            self.say(HTTPStatus.METHOD_NOT_ALLOWED)
            return
        try:
            path, fd, size = self.server.open(words[1])
        except (FileNotFoundError, NotADirectoryError):
            self.say(HTTPStatus.NOT_FOUND)
        except OSError as error:
            full = error.errno in (errno.EMFILE, errno.ENFILE)
            self.say(HTTPStatus.SERVICE_UNAVAILABLE if full else HTTPStatus.FORBIDDEN)
        else:
            if self.bare or not size:
                os.close(fd)
            else:
                self.body = Body(fd, size)
            kind = guess_type(path)[0] or "application/octet-stream"
            self.say(HTTPStatus.OK, kind, size)

    def refuse(self, status: HTTPStatus) -> None:
        """Nobody knows where the next request begins."""
        self.last = True
        self.say(status)

    def say(self, status: HTTPStatus, kind: str = "text/plain", size: int | None = None) -> None:
        """Begin to send the head; without a size, the text of the status is the body."""
        text = b"" if size is not None else f"{status.phrase}\n".encode()
        lines = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            f"Date: {formatdate(usegmt=True)}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(text) if size is None else size}",
            f"Connection: {'close' if self.last else 'keep-alive'}",
        ]
        head = "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"
        self.head = memoryview(head if self.bare else head + text)
        self.go_on()

    def drain(self) -> None:
        """Who closes while there is something to read resets the connection, and the answer may
        be lost with it. So the peer closes first, or its time is up."""
        if self.socket.recv(HEAD):
            self.port.associate(self.socket, POLLIN, self.ready)
        else:
            self.close()

    # An answer

    def go_on(self) -> None:
        """Read what there is room for, and send what there is."""
        body = self.body
        if body and not body.reading and body.free and body.offset < body.size:
            buffer = body.free.pop()
            part = buffer[: min(PART, body.size - body.offset)]
            request = self.port.aio.read(body.fd, part, body.offset, user=self.done)
            body.reading = request, buffer
        try:
            self.send()
        except BlockingIOError:
            self.wait()
        except OSError:
            self.close()

    def send(self) -> None:
        """Send what there is; BlockingIOError when the peer has to take some first."""
        while self.head:
            self.head = self.head[self.socket.send(self.head) :]
        body = self.body
        while body and body.read:
            part, buffer = body.read[0]
            part = part[self.socket.send(part) :]
            body.read[0] = part, buffer
            if not part:
                del body.read[0]
                body.free.append(buffer)
        if body is None or (body.offset == body.size and not body.reading):
            self.next()
        elif not body.reading:
            self.go_on()
        else:
            self.timer.set(after=self.server.patience)

    def next(self) -> None:
        """The answer has been sent."""
        self.give_up()
        if self.last or self.server.closing:
            self.leaving = True
            self.socket.shutdown(socket.SHUT_WR)
            self.wait()
        elif self.asked:
            self.port.send(0, self.again)  # not at once: others have asked too
        else:
            self.wait()

    def again(self, event: PortEvent) -> None:
        if not self.closed:
            self.answer()

    # Its life

    def wait(self) -> None:
        """Wait for the peer, but not for ever."""
        events = POLLOUT if self.head or self.body else POLLIN
        self.port.associate(self.socket, events, self.ready)
        self.timer.set(after=self.server.patience)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.timer.delete()
        self.socket.close()  # the port drops the association with the descriptor
        if self.body and self.body.reading:
            self.body.reading[0].cancel()  # `done` is called, and gives it up
        else:
            self.give_up()

    def give_up(self) -> None:
        """The file is not needed any more, and no read uses it."""
        if self.body is not None:
            os.close(self.body.fd)
            self.body = None
        if self.closed:
            self.server.leave(self)


class Server:
    """The listening socket, and who is connected."""

    def __init__(self, port: Port, listener: socket.socket, root: Path, patience: float) -> None:
        listener.setblocking(False)
        self.port, self.listener, self.patience = port, listener, patience
        self.root = os.path.realpath(root)
        self.connections: set[Connection] = set()
        self.answered = 0
        self.closing = False
        port.associate(listener, POLLIN, self.accept)

    def open(self, target: str) -> tuple[str, int, int]:
        """The file that the target of a request names: its path, descriptor and size."""
        name = os.fsdecode(unquote_to_bytes(urlsplit(target).path))
        if "\0" in name:
            raise FileNotFoundError(name)
        path = os.path.realpath(os.path.join(self.root, name.lstrip("/")))
        if os.path.commonpath([self.root, path]) != self.root:
            raise FileNotFoundError(path)
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a FIFO does not hang it
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise FileNotFoundError(path)
        return path, fd, status.st_size

    def accept(self, event: PortEvent) -> None:
        if self.closing:
            return
        try:
            peer, _ = self.listener.accept()
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                return  # full: the next one that leaves associates the listener
        else:
            self.connections.add(Connection(self, peer))
        self.port.associate(self.listener, POLLIN, self.accept)

    def leave(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if not self.closing:
            self.port.associate(self.listener, POLLIN, self.accept)

    def run(self) -> None:
        while not self.closing or self.connections:
            for event in self.port.getn(TURN):
                take: Callable[[PortEvent], None] = event.user
                take(event)

    def stop(self, event: PortEvent) -> None:
        """Close those who ask for nothing, and let the others have what is coming to them."""
        if self.closing:
            return
        self.closing = True
        self.listener.close()
        for connection in list(self.connections):
            if not (connection.head or connection.body):
                connection.close()
        self.port.timer(user=self.end).set(after=self.patience)

    def end(self, event: PortEvent) -> None:
        for connection in list(self.connections):
            connection.close()


def address(text: str) -> tuple[str, int]:
    host, _, number = text.rpartition(":")
    return host, int(number)


def main() -> int:
    parser = argparse.ArgumentParser(description="Serve the files of a directory over HTTP.")
    parser.add_argument("--listen", type=address, default="127.0.0.1:0", metavar="HOST:PORT")
    parser.add_argument(
        "--patience", type=float, default=10.0, metavar="SECONDS", help="with who does not go on"
    )
    parser.add_argument("root", type=Path)
    args = parser.parse_args()
    if not args.root.is_dir():
        parser.error(f"argument root: {args.root} is not a directory")

    with Port() as port, socket.create_server(args.listen) as listener:
        server = Server(port, listener, args.root, args.patience)
        for which in (signal.SIGINT, signal.SIGTERM):
            signal.signal(which, lambda number, frame: port.send(number, server.stop))
        print("listening on {}:{}".format(*listener.getsockname()[:2]), flush=True)
        server.run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
