"""A chat server: one event port, several worker threads, any number of clients.

    python examples/chat_server.py --listen 127.0.0.1:7777
    nc 127.0.0.1 7777                  # in as many terminals as you like; Ctrl-C stops the server

What one client says goes to every client, a line at a time.

- All workers wait in the same port. An association is one-shot: the worker that took a client's
  event serves the client alone until it associates the client again, and what came meanwhile is
  seen then. So the lines of a client stay in order.
- `user` is what to call: it comes back with the event, and there is no table to look it up in.
- A client that does not read is written to when the port says POLLOUT. While much is unsent,
  nothing more is read from it; if that does not help, it is cut off.
- A client that has shut down its sending side gets what it has coming, then it is closed.
- The signal handler sends to a port of the main thread: `send` is the one call that a handler may
  make at any moment. The main thread alerts the workers' port, and each of them returns.
"""

import argparse
import errno
import signal
import socket
from threading import Lock, Thread
from time import monotonic

from portcompat import POLLIN, POLLOUT, PORT_SOURCE_ALERT, Port, PortTimeout

HIGH = 64 * 1024  # with so many bytes unsent, a client is not read from
LIMIT = 4 * 1024 * 1024  # with so many, it is cut off
PATIENCE = 2.0  # seconds that the clients have to take the rest when the server closes


class Client:
    """A connection. The lock guards all of it; nobody holds the locks of two clients."""

    def __init__(self, room: "Room", connection: socket.socket, name: str) -> None:
        connection.setblocking(False)
        self.room, self.socket, self.name = room, connection, name.encode()
        self.lock = Lock()
        self.busy = False  # a worker serves it, and will associate it again
        self.finished = False  # nothing more is read from it; closed when all is sent
        self.closed = False
        self.unread = b""  # the beginning of a line
        self.unsent = bytearray()

    def serve(self, events: int) -> None:
        """A worker has taken an event of this client."""
        with self.lock:
            if self.busy or self.closed:  # `deliver` associated it when the event had been taken
                return
            self.busy = True
            lines = self.read() if events & ~POLLOUT else []
        for line in lines:
            self.room.say(self.name + b" " + line + b"\n")
        with self.lock:
            self.busy = False
            self.watch()

    def read(self) -> list[bytes]:
        """What was said; the last line counts without its end too."""
        try:
            data = self.socket.recv(HIGH)
        except BlockingIOError:
            return []
        except OSError:  # reset by the peer
            self.close()
            return []
        self.finished = self.finished or not data
        *lines, self.unread = (self.unread + (data or b"\n")).split(b"\n")
        return [line for line in lines if line]

    def deliver(self, line: bytes, last: bool = False) -> None:
        with self.lock:
            self.unsent += line
            self.finished = self.finished or last
            if not self.busy:
                self.watch()

    def watch(self) -> None:
        """Send what can be sent, and associate for what is left to do."""
        try:
            while self.unsent and not self.closed:
                del self.unsent[: self.socket.send(self.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
        done = self.finished and not self.unsent
        if done or len(self.unsent) > LIMIT or len(self.unread) > HIGH:
            self.close()
        if not self.closed:
            events = POLLOUT if self.unsent else 0
            if len(self.unsent) < HIGH and not self.finished:
                events |= POLLIN
            self.room.port.associate(self.socket, events, self.serve)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.socket.close()  # the port drops the association with the descriptor
            self.room.leave(self)


class Room:
    """The listening socket, the clients, and what the workers do."""

    def __init__(self, port: Port, listener: socket.socket) -> None:
        listener.setblocking(False)
        self.port, self.listener = port, listener
        self.lock = Lock()
        self.clients: set[Client] = set()
        port.associate(listener, POLLIN, self.accept)

    def work(self) -> None:
        while (event := self.port.get()).source != PORT_SOURCE_ALERT:
            event.user(event.events)

    def accept(self, events: int) -> None:
        try:
            connection, address = self.listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                return  # full: the next client that leaves associates the listener
        else:
            client = Client(self, connection, str(address[1]))
            with self.lock:
                self.clients.add(client)
            client.deliver(b"")
        self.port.associate(self.listener, POLLIN, self.accept)

    def leave(self, client: Client) -> None:
        with self.lock:
            self.clients.discard(client)
            if self.listener.fileno() >= 0:
                self.port.associate(self.listener, POLLIN, self.accept)

    def say(self, line: bytes, last: bool = False) -> None:
        with self.lock:
            clients = list(self.clients)
        for client in clients:
            client.deliver(line, last)

    def close(self, workers: list[Thread]) -> None:
        self.port.alert(1)  # from now on every get returns the alert, also in who waits already
        for worker in workers:
            worker.join()
        self.port.alert(0)  # cleared: what was queued is there as before
        self.listener.close()
        self.say(b"* the server closes\n", last=True)
        deadline = monotonic() + PATIENCE
        try:
            while self.clients:
                event = self.port.get(max(0, deadline - monotonic()))
                event.user(event.events)
        except PortTimeout:
            for client in list(self.clients):
                client.close()


def address(text: str) -> tuple[str, int]:
    host, _, number = text.rpartition(":")
    return host, int(number)


def main() -> int:
    parser = argparse.ArgumentParser(description="A chat server on one event port.")
    parser.add_argument("--listen", type=address, default="127.0.0.1:0", metavar="HOST:PORT")
    parser.add_argument("--workers", type=int, default=4, metavar="N")
    args = parser.parse_args()

    with Port() as signals, Port() as port, socket.create_server(args.listen) as listener:
        stopping = {signal.SIGINT, signal.SIGTERM}
        for which in stopping:
            signal.signal(which, lambda number, frame: signals.send(number))
        room = Room(port, listener)
        workers = [Thread(target=room.work) for _ in range(args.workers)]
        # Handlers run in the main thread, which waits in a system call: so the signals must
        # interrupt the main thread and no other. Threads begin with the mask of who starts them.
        signal.pthread_sigmask(signal.SIG_BLOCK, stopping)
        for worker in workers:
            worker.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stopping)
        print("listening on {}:{}".format(*listener.getsockname()), flush=True)
        print(f"{signal.Signals(signals.get().events).name}: closing", flush=True)
        room.close(workers)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
