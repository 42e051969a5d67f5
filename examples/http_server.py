"""A static file server: HTTP/1.1, and all that happens comes out of one event port.

    pip install h11
    python examples/http_server.py --listen 127.0.0.1:8080 docs    # Ctrl-C stops it

Connections, time limits, files that have changed, what worker threads have read, and signals: each
is an event whose `user` is the function to call with it, so the whole loop is three lines.

- An association is one-shot. A connection asks for POLLIN when it wants a request and for POLLOUT
  when there is something left to send: a client that does not take its answer is not read from.
- The loop never waits for a disk. Workers wait in a port of their own for jobs, and send what they
  have read to the port of the loop. A connection has one job at most, so there is a slot for each
  result, and `send` cannot fail.
- Each connection has a timer, armed for what it is allowed to do next: to send a request, to take a
  piece of the answer, to say goodbye. It does not help to send a byte now and then.
- Small files stay in memory until the port says that they have changed: `static_files.py`.
- A signal handler sends a message. The listener is closed then, requests under way get their
  answers, and a second signal ends those too.

Served are regular files below the root. Names that begin with a dot and symbolic links are not
there, whatever they are: each step of a path is opened below the former one, and follows no link.
"""

import argparse
import resource
import signal
import socket
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from threading import Thread
from time import monotonic_ns, time

import h11
from static_files import (
    CACHED_FILES,
    FULL,
    Cache,
    Conditions,
    Document,
    Headers,
    NotServed,
    Place,
    byte_range,
    open_document,
    place_of,
    precondition,
    read_piece,
)

from portcompat import POLLIN, POLLOUT, PORT_SOURCE_ALERT, PORT_SOURCE_USER, Port, PortEvent

CHUNK = 64 * 1024  # what is read from a client at once
PIECE = 256 * 1024  # and from a file
LINGER = 2.0  # seconds that a client has to take the end of an answer


class Connection:
    """A client. All of it is done by the thread of the loop; workers only get a job to do."""

    def __init__(self, server: "Server", connection: socket.socket) -> None:
        self.server, self.socket = server, connection
        self.http = h11.Connection(h11.SERVER)
        self.request: h11.Request | None = None
        self.place: Place | None = None
        self.unread = 0  # bytes of a body, which nobody wants
        self.unsent: deque[memoryview] = deque()
        self.document: Document | None = None  # the open file that the answer comes from,
        self.position = self.stop = 0  # and which part of it is still to be read
        self.working = False  # a worker has a job of this connection
        self.idle = True  # between two requests
        self.closed = False
        self.timer = server.port.timer(user=self.expired)
        self.allow(server.patience, self.close)
        server.port.associate(connection, POLLIN, self.readable)

    # Time

    def allow(self, seconds: float, otherwise: Callable[[], None]) -> None:
        self.deadline = monotonic_ns() + int(seconds * 1e9)
        self.otherwise = otherwise
        self.timer.set(at_ns=self.deadline)

    def expired(self, event: PortEvent) -> None:
        if not self.closed and monotonic_ns() >= self.deadline:  # it may have been set anew since
            self.otherwise()

    def too_slow(self) -> None:
        self.refuse(HTTPStatus.REQUEST_TIMEOUT)

    # Requests

    def readable(self, event: PortEvent) -> None:
        if self.closed:
            return
        try:
            data = self.socket.recv(CHUNK)
        except BlockingIOError:
            self.server.port.associate(self.socket, POLLIN, self.readable)
        except OSError:
            self.close()
        else:
            if self.idle and data:
                self.idle = False
                self.allow(self.server.patience, self.too_slow)
            self.http.receive_data(data)
            self.parse()

    def parse(self, event: PortEvent | None = None) -> None:
        if self.closed:
            return
        try:
            while True:
                found = self.http.next_event()
                if found is h11.NEED_DATA:
                    if self.http.they_are_waiting_for_100_continue:
                        self.refuse(HTTPStatus.EXPECTATION_FAILED)
                    else:
                        self.server.port.associate(self.socket, POLLIN, self.readable)
                    return
                if isinstance(found, h11.Request):
                    self.request, self.unread = found, 0
                elif isinstance(found, h11.Data):
                    self.unread += len(found.data)
                    if self.unread > CHUNK:
                        self.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                        return
                elif isinstance(found, h11.EndOfMessage):
                    self.answer()
                    return
                else:  # they have closed
                    self.close()
                    return
        except h11.RemoteProtocolError as error:
            self.refuse(HTTPStatus(error.error_status_hint))

    # Answers

    def answer(self) -> None:
        assert self.request is not None
        self.allow(self.server.patience, self.close)
        try:
            if self.request.method not in (b"GET", b"HEAD"):
                raise NotServed(HTTPStatus.METHOD_NOT_ALLOWED, [("Allow", "GET, HEAD")])
            self.place = place_of(self.request.target)
        except NotServed as error:
            self.say(error.status, error.headers)
            return
        document = self.server.cache.get(self.place)
        if document is not None:
            self.deliver(document)
        else:
            self.ask(partial(open_document, self.server.root, self.place), self.opened)

    def ask(self, job: Callable[[], object], then: Callable[..., None]) -> None:
        """Have a worker do a job; `then` is called by the loop with its result or its error."""
        self.working = True
        self.server.jobs.send(0, (job, then))

    def opened(self, found: Document | NotServed, event: PortEvent) -> None:
        self.working = False
        if self.closed:
            if isinstance(found, Document):
                found.close()
            self.leave()
        elif isinstance(found, NotServed):
            self.say(found.status, found.headers)
        else:
            assert self.place is not None
            self.server.cache.put(self.place, found)
            self.deliver(found)

    def deliver(self, document: Document) -> None:
        assert self.request is not None
        self.document = document
        asked: Conditions = {}
        for name, value in self.request.headers:
            asked[name] = asked[name] + b", " + value if name in asked else value
        headers = [
            ("ETag", document.etag),
            ("Last-Modified", formatdate(document.modified, usegmt=True)),
        ]
        status = precondition(document, asked)
        if status is not None:
            self.say(status, headers)
            return
        self.position, self.stop, status = 0, document.size, HTTPStatus.OK
        if self.request.method == b"GET":
            try:
                part = byte_range(document, asked)
            except NotServed as error:
                self.say(error.status, error.headers)
                return
            if part is not None:
                (self.position, self.stop), status = part, HTTPStatus.PARTIAL_CONTENT
                whole = f"bytes {self.position}-{self.stop - 1}/{document.size}"
                headers.append(("Content-Range", whole))
        headers += [("Content-Type", document.kind), ("Accept-Ranges", "bytes")]
        headers.append(("X-Content-Type-Options", "nosniff"))
        self.head(status, headers, self.stop - self.position)
        if self.request.method == b"HEAD":
            self.position = self.stop
        elif document.data is not None:
            self.body(document.data[self.position : self.stop])
        self.write()

    def say(self, status: HTTPStatus, headers: Headers) -> None:
        """An answer without a file."""
        self.drop()
        self.position = self.stop = 0
        text = f"{status.value} {status.phrase}\n".encode()
        if status is HTTPStatus.NOT_MODIFIED:
            self.head(status, headers, None)
        else:
            self.head(status, [*headers, ("Content-Type", "text/plain")], len(text))
            if self.request is None or self.request.method != b"HEAD":
                self.body(text)
        self.write()

    def refuse(self, status: HTTPStatus) -> None:
        """Answer what is not a request, and be done with this client."""
        if self.http.our_state is not h11.IDLE and self.http.our_state is not h11.SEND_RESPONSE:
            self.close()
            return
        self.allow(self.server.patience, self.close)
        self.say(status, [("Connection", "close")])

    def head(self, status: HTTPStatus, headers: Headers, length: int | None) -> None:
        headers = [("Date", self.server.date()), *headers]
        if length is not None:
            headers.append(("Content-Length", str(length)))
        if self.server.stopping and ("Connection", "close") not in headers:
            headers.append(("Connection", "close"))
        response = h11.Response(status_code=status, headers=headers, reason=status.phrase)
        self.unsent.append(memoryview(self.http.send(response) or b""))

    def body(self, data: bytes) -> None:
        self.position += len(data)
        self.unsent += map(memoryview, self.http.send_with_data_passthrough(h11.Data(data)) or ())

    def piece(self, data: bytes | NotServed, event: PortEvent) -> None:
        """A worker has read a part of the file."""
        self.working = False
        if self.closed:
            self.leave()
        elif isinstance(data, NotServed) or not data:  # cut short: the client must notice
            self.close()
        else:
            self.body(data)
            self.write()

    def writable(self, event: PortEvent) -> None:
        if not self.closed:
            self.write()

    def write(self) -> None:
        """Send what can be sent, and see to what is to be sent next."""
        try:
            while self.unsent:
                count = self.socket.sendmsg(list(islice(self.unsent, 8)))
                while self.unsent and count >= len(self.unsent[0]):
                    count -= len(self.unsent.popleft())
                if self.unsent:
                    self.unsent[0] = self.unsent[0][count:]
        except BlockingIOError:
            self.server.port.associate(self.socket, POLLOUT, self.writable)
            return
        except OSError:
            self.close()
            return
        if self.position < self.stop:
            assert self.document is not None
            assert self.document.file is not None
            self.allow(self.server.patience, self.close)
            count = min(PIECE, self.stop - self.position)
            self.ask(partial(read_piece, self.document.file, count, self.position), self.piece)
            return
        self.finish()

    def finish(self) -> None:
        """The answer is sent: on to the next request, or to the end."""
        self.drop()
        self.position = self.stop = 0
        if self.http.our_state is h11.SEND_BODY:
            self.http.send(h11.EndOfMessage())
        if (self.http.our_state, self.http.their_state) != (h11.DONE, h11.DONE):
            self.say_goodbye()
            return
        self.http.start_next_cycle()
        self.request, self.idle = None, True
        if self.server.stopping:
            self.say_goodbye()
            return
        self.allow(self.server.patience, self.close)
        if self.http.trailing_data[0]:
            # The next request is there. Who sends many at once takes turns with all the others.
            self.idle = False
            self.allow(self.server.patience, self.too_slow)
            self.server.port.send(0, self.parse)
        else:
            self.server.port.associate(self.socket, POLLIN, self.readable)

    # The end

    def say_goodbye(self) -> None:
        """Close, but not before they have: what they have sent and nobody has read would be a
        reset, which throws away the answer on its way."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self.allow(LINGER, self.close)
        self.server.port.associate(self.socket, POLLIN, self.leaving)

    def leaving(self, event: PortEvent) -> None:
        if self.closed:
            return
        try:
            if not self.socket.recv(CHUNK):
                self.close()
                return
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        self.server.port.associate(self.socket, POLLIN, self.leaving)

    def drop(self) -> None:
        if self.document is not None:
            self.document.close()
            self.document = None

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.timer.delete()
            self.socket.close()  # the port drops the association with the descriptor
            if not self.working:  # else the worker's result is waited for: it has our slot
                self.leave()

    def leave(self) -> None:
        self.drop()
        self.server.leave(self)


class Server:
    """The listener, the connections, and the loop."""

    def __init__(
        self,
        port: Port,
        jobs: Port,
        listener: socket.socket,
        root: Path,
        patience: float,
        most: int,
    ) -> None:
        listener.setblocking(False)
        self.port, self.jobs, self.listener, self.root = port, jobs, listener, root
        self.patience, self.most = patience, most
        self.cache = Cache(port)
        self.connections: set[Connection] = set()
        self.stopping = False
        self.second, self.today = 0, ""
        self.pause = port.timer(user=self.listen)
        self.listen()

    def run(self) -> None:
        while self.connections or not self.stopping:
            for event in self.port.getn(64):
                event.user(event)

    def listen(self, event: PortEvent | None = None) -> None:
        if not self.stopping and len(self.connections) < self.most:
            self.port.associate(self.listener, POLLIN, self.accept)

    def accept(self, event: PortEvent) -> None:
        if self.stopping:
            return
        try:
            for _ in range(min(64, self.most - len(self.connections))):
                connection, _ = self.listener.accept()
                connection.setblocking(False)
                self.connections.add(Connection(self, connection))
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno in FULL:  # descriptors: some may be free again soon
                self.pause.set(after=0.1)
                return
        self.listen()

    def leave(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if len(self.connections) == self.most - 1:
            self.listen()

    def date(self) -> str:
        now = int(time())
        if now != self.second:
            self.second, self.today = now, formatdate(now, usegmt=True)
        return self.today

    def stop(self, event: PortEvent) -> None:
        """The first signal lets the answers under way come to an end, the second does not."""
        if not self.stopping:
            self.listener.close()
            print(f"{signal.Signals(event.events).name}: closing", flush=True)
        for connection in list(self.connections):
            if connection.idle or self.stopping:
                connection.close()
        if self.stopping:
            self.connections.clear()
        self.stopping = True


def work(jobs: Port, port: Port) -> None:
    """A worker: do what is asked, and send the result to the loop."""
    while (event := jobs.get()).source != PORT_SOURCE_ALERT:
        job, then = event.user
        try:
            result = job()
        except NotServed as error:
            result = error
        port.send(0, partial(then, result))


def raise_descriptor_limit() -> int:
    """As many descriptors as the system lets us have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if 0 < hard < 1 << 20 else 1 << 16  # "no limit" is seldom true
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        return soft
    return wanted


def address(text: str) -> tuple[str, int]:
    host, _, number = text.rpartition(":")
    return host, int(number)


def main() -> int:
    parser = argparse.ArgumentParser(description="A static file server on one event port.")
    parser.add_argument("--listen", type=address, default="127.0.0.1:0", metavar="HOST:PORT")
    parser.add_argument("--workers", type=int, default=4, metavar="N", help="that read files")
    parser.add_argument(
        "--patience",
        type=float,
        default=15.0,
        metavar="SECONDS",
        help="for a request, for each piece of an answer, between requests",
    )
    parser.add_argument("--connections", type=int, metavar="N", help="at most so many at a time")
    parser.add_argument("root", type=Path, metavar="DIRECTORY")
    args = parser.parse_args()
    root = args.root.resolve()
    if not root.is_dir():
        parser.error(f"argument DIRECTORY: not a directory: {args.root}")

    descriptors = raise_descriptor_limit()
    most = args.connections or max(1, min(10_000, (descriptors - 64) // 2))
    # Of a connection: the descriptor, the timer, and a message, its own or that of a worker.
    slots = 3 * most + CACHED_FILES + 16
    with (
        Port(max_events=slots) as port,
        Port(max_events=most + 1) as jobs,
        socket.create_server(args.listen, backlog=1024) as listener,
    ):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it
        server = Server(port, jobs, listener, root, args.patience, most)
        stopping = {signal.SIGINT, signal.SIGTERM}
        for which in stopping:
            signal.signal(which, lambda number, frame: port.send(number, server.stop))
        workers = [Thread(target=work, args=(jobs, port)) for _ in range(args.workers)]
        # Signals must interrupt the main thread, whose handlers they have, and no other.
        signal.pthread_sigmask(signal.SIG_BLOCK, stopping)
        for worker in workers:
            worker.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stopping)
        try:
            print("listening on {}:{}".format(*listener.getsockname()), flush=True)
            server.run()
        finally:
            jobs.alert(1)  # each worker returns, when it has done what it is at
            for worker in workers:
                worker.join()
        for event in port.getn(slots, 0):  # their last results, for connections that are closed
            if event.source == PORT_SOURCE_USER:
                event.user(event)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
