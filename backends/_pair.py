"""A pair of sockets by which one thread makes a descriptor of another readable."""

import socket


def signal_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends: what is written to the second makes the first readable."""
    ends = socket.socketpair()  # not a pipe: Windows can wait for sockets only
    for end in ends:
        end.setblocking(False)
    return ends


def signal(end: socket.socket) -> None:
    try:
        end.send(b"\0")
    except BlockingIOError:  # full of signals nobody has read: one is enough
        pass


def drain(end: socket.socket) -> None:
    try:
        while len(end.recv(4096)) == 4096:
            pass
    except BlockingIOError:
        pass
