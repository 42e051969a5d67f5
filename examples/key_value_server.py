"""A key-value server in a process of its own, and client processes that ask it by messages.

    python examples/key_value_server.py --clients 4 --requests 20000
    kill -KILL ...                # the number of the server, which it prints: it is started anew

The first process starts the server and the clients, and starts the server anew when it dies.

- The server waits in one port: for requests, whose descriptor is the instance; for clients that
  come to its Unix socket and are handed a connection to the mount; for its parent's end; and for
  the time at which it says how much it has done, which is the timeout of its `getn`.
- An association is one-shot. The server takes some of what waits and associates the instance again.
- What waits when the server is killed fails with ENXIO in every client, at once. A client asks for
  a new connection then, and asks again: so an operation must bear being done twice.
- The store is empty after a kill. A client counts what it had put before and does not find.
"""

import argparse
import errno
import os
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from enum import IntEnum
from time import monotonic, sleep

from portcompat import POLLIN, Port
from portcompat.msgif import Client, Cloner, Instance, Request

TURN = 64  # requests that the server takes before it looks for others
PATIENCE = 30.0  # seconds that a client waits for the next server
EVERY = 1.0  # seconds between two lines of statistics


class Op(IntEnum):
    """The types of requests. Their cookie is the key."""

    PUT = 1
    GET = 2
    DELETE = 3
    COUNT = 4


NAMES = {int(op): op.name.lower() for op in Op}


def say(line: str) -> None:
    """Print it in one piece: other processes print too."""
    print(line + "\n", end="", flush=True)


class Store:
    """What the server keeps: a key is the cookie of a request, a value its payload."""

    def __init__(self) -> None:
        self.values: dict[int, bytes] = {}
        self.done: Counter[str] = Counter()

    def do(self, request: Request) -> tuple[int, bytes]:
        """The errno or 0, and the reply."""
        self.done[NAMES.get(request.optype, "unknown")] += 1
        match request.optype:
            case Op.PUT:
                self.values[request.cookie] = request.payload
                return 0, b""
            case Op.GET if request.cookie in self.values:
                return 0, self.values[request.cookie]
            case Op.DELETE if request.cookie in self.values:
                del self.values[request.cookie]
                return 0, b""
            case Op.COUNT:
                return 0, b"%d" % len(self.values)
            case Op.GET | Op.DELETE:
                return errno.ENOENT, b""
        return errno.ENOSYS, b""


def serve_some(instance: Instance, store: Store) -> None:
    for _ in range(TURN):
        try:
            request = instance.getop(block=False)
        except BlockingIOError:
            return
        rv, payload = store.do(request)
        try:
            instance.putop(request.id, rv, payload)
        except OSError as error:
            if error.errno != errno.EINVAL:  # that caller has gone
                raise


def serve(parent: socket.socket, path: str) -> None:
    """The server's process, which ends when its parent does."""
    store = Store()
    with Cloner().open() as instance, Port() as port, socket.socket(socket.AF_UNIX) as listener:
        instance.mount()
        listener.bind(path + ".new")
        listener.listen()
        listener.setblocking(False)
        os.rename(path + ".new", path)  # whoever finds it can connect
        for each in (instance, listener, parent):
            port.associate(each, POLLIN, each)
        say(f"server {os.getpid()} serves")
        told = monotonic()
        while True:
            for event in port.getn(3, timeout=max(0.0, told + EVERY - monotonic())):
                if event.user is parent:
                    return
                if event.user is listener:
                    welcome(instance, listener)
                else:
                    serve_some(instance, store)
                port.associate(event.user, POLLIN, event.user)
            if monotonic() >= told + EVERY:
                told = monotonic()
                counts = ", ".join(f"{n} {name}" for name, n in sorted(store.done.items()))
                say(f"server {os.getpid()}: {counts or 'nothing'}")


def welcome(instance: Instance, listener: socket.socket) -> None:
    """Hand a connection to the mount to a client that has come."""
    try:
        visitor, _ = listener.accept()
    except BlockingIOError:
        return
    with visitor:
        try:
            instance.send_handle(visitor)
        except BrokenPipeError:  # it did not wait for it
            pass


class Asker:
    """A client's connection, which is made anew when the server has died."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.servers = 1
        self.client = self.connect()

    def connect(self) -> Client:
        deadline = monotonic() + PATIENCE
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as way:
                    way.connect(self.path)
                    return Client.recv_handle(way)
            except (FileNotFoundError, ConnectionError, EOFError):
                if monotonic() > deadline:
                    raise
                sleep(0.01)  # the next server is being started

    def call(self, optype: int, key: int, value: bytes = b"") -> bytes | None:
        """The reply; None if the server has no such key."""
        while True:
            try:
                return self.client.call(optype, value, cookie=key)
            except OSError as error:
                if error.errno == errno.ENOENT:
                    return None
                if error.errno != errno.ENXIO:
                    raise
            self.client.close()
            self.servers += 1
            self.client = self.connect()


def ask(parent: socket.socket, path: str, number: int, requests: int) -> None:
    """A client's process: it puts, gets and deletes, and checks what it gets."""
    server = Asker(path)
    lost = 0
    for n in range(requests):
        key = number << 32 | n % 100
        value = b"%d of client %d" % (n, number)
        server.call(Op.PUT, key, value)
        found = server.call(Op.GET, key)
        if found is None:
            lost += 1  # the server died between the two
        elif found != value:
            raise RuntimeError(f"client {number} put {value!r} and got {found!r}")
        if n % 10 == 9 and server.call(Op.DELETE, key) is None:
            lost += 1
    server.client.close()
    say(f"client {number}: {requests} rounds, {lost} lost, servers: {server.servers}")


class Family:
    """The child processes, and what they are at."""

    def __init__(self) -> None:
        self.lines: dict[int, socket.socket] = {}  # a child ends when the other end is closed

    def start(self, work: Callable[..., None], *arguments: object) -> int:
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for line in (ours, *self.lines.values()):
                    line.close()
                work(theirs, *arguments)
                code = 0
            except Exception as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            finally:
                os._exit(code)
        theirs.close()
        self.lines[child] = ours
        return child

    def wait(self) -> tuple[int, int]:
        """The number of a child that has ended, and its exit code."""
        child, status = os.wait()
        self.lines.pop(child).close()
        return child, os.waitstatus_to_exitcode(status)


def count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def main() -> int:
    parser = argparse.ArgumentParser(description="A key-value server, asked by messages.")
    parser.add_argument("--clients", type=count, default=4, metavar="N")
    parser.add_argument("--requests", type=count, default=2000, metavar="N")
    args = parser.parse_args()

    family = Family()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "server")
        server = family.start(serve, path)
        clients = {family.start(ask, path, n, args.requests) for n in range(args.clients)}
        while clients:
            child, code = family.wait()
            if child == server:
                server = family.start(serve, path)
            else:
                clients.remove(child)
                failed += code != 0
        family.lines[server].close()  # which ends it
        os.waitpid(server, 0)
    say(f"{args.clients - failed} of {args.clients} clients got what they had put")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
