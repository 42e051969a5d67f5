"""The example http_server.py: slow clients, rude ones and many; files that change; its end."""

import contextlib
import errno
import resource
import select
import selectors
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from random import Random
from time import monotonic

import pytest

from portcompat import Port
from tests.benchmarks import use_all_descriptors
from tests.test_examples import PATIENCE
from tests.web import BIG, NO_GOODBYE, Web, eventually, everything, serving, statuses, tree

__all__ = ["tree"]


def test_a_changed_file_is_served_anew(tmp_path: Path, backend: str, file_watcher: str) -> None:
    page = tmp_path / "page"
    page.write_bytes(b"0")
    with serving(tmp_path, backend) as web:
        first, body = web.ask("/page")
        assert body == b"0"
        page.write_bytes(b"one")
        eventually(lambda: web.ask("/page")[1] == b"one")
        assert web.status("/page", {"If-None-Match": first.headers["ETag"]}) == 200
        (tmp_path / "new").write_bytes(b"two")
        (tmp_path / "new").rename(page)
        eventually(lambda: web.ask("/page")[1] == b"two")
        page.unlink()
        eventually(lambda: web.status("/page") == 404)


# On a busy machine one may be given up before one has begun: then one tries again.


def drip(web: Web, request: bytes) -> bytes:
    """Send a byte now and then until the server hangs up; what it has said."""
    client = web.client()
    said = b""
    for byte in request:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.send(bytes([byte]))
        if select.select([client], [], [], 0.02)[0]:
            try:
                piece = client.recv(1 << 16)
            except ConnectionResetError:
                return said
            said += piece
            if not piece:
                return said
    raise AssertionError("the server waits for ever")


def test_a_client_that_sends_a_byte_now_and_then_is_given_up(tree: Path, backend: str) -> None:
    with serving(tree, backend, patience=0.3) as web:
        request = b"GET / HTTP/1.1\r\nHost: here\r\n" + b"X: y\r\n" * 10_000
        eventually(lambda: statuses(drip(web, request)) == [408])


def test_a_client_that_says_nothing_is_given_up(tree: Path, backend: str) -> None:
    with serving(tree, backend, patience=0.1) as web:
        assert everything(web.client()) == b""

        def says_nothing_more() -> bool:
            try:
                client = web.client()
                client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
                return statuses(everything(client)) == [200]
            except ConnectionError:
                return False

        eventually(says_nothing_more)


def test_a_client_that_does_not_take_its_answer_is_given_up(tree: Path, backend: str) -> None:
    with serving(tree, backend, patience=0.3) as web:

        def takes_the_first_byte() -> bool:
            client = socket.socket()
            web.clients.callback(client.close)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(PATIENCE)
            client.connect(web.address)
            try:
                client.sendall(b"GET /big.bin HTTP/1.1\r\nHost: here\r\n\r\n" * 10)
                return client.recv(1) == b"H"
            except ConnectionError:
                return False

        eventually(takes_the_first_byte)
        eventually(lambda: web.open() == web.former)


def test_a_client_given_up_counts_until_its_worker_is_done(tree: Path, backend: str) -> None:
    """Else a disk that hangs would bring more jobs than there is room for. Here nobody works."""
    arguments = ("--connections", "2", "--workers", "0")
    with serving(tree, backend, *arguments, patience=0.05) as web:
        for _ in range(8):
            client = web.client()
            client.sendall(b"GET /page.html HTTP/1.1\r\nHost: here\r\n\r\n")
        with pytest.raises(subprocess.TimeoutExpired):
            web.example.process.wait(0.5)
        web.example.interrupt()
        assert web.example.first_line() == "SIGINT: closing"
        web.example.interrupt()
        assert web.example.finish() == (0, [], "")


def test_whoever_finds_the_server_full_is_served_when_others_leave(
    tree: Path, backend: str
) -> None:
    with serving(tree, backend, "--connections", "3") as web:
        early = [web.client() for _ in range(3)]
        late = web.client()
        late.sendall(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        for client in early:
            client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            assert statuses(client.recv(1 << 16)) == [200]
        assert select.select([late], [], [], 0)[0] == []
        early[0].close()
        assert statuses(everything(late)) == [200]


def test_a_server_without_descriptors_goes_on_when_there_are_some(tree: Path, backend: str) -> None:
    with serving(tree, backend, "--connections", "60", descriptors=40) as web:
        crowd = [web.client() for _ in range(60)]
        for client in crowd[:40]:
            client.close()
        late = web.client()
        late.sendall(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        for client in crowd[40:]:
            client.close()
        assert statuses(everything(late)) in ([200], [503])
        assert web.status("/") == 200


# The end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_server_ends_when_the_answers_under_way_are_sent(
    tree: Path, backend: str, number: signal.Signals
) -> None:
    with serving(tree, backend) as web:
        idle, busy = web.client(), web.client()
        idle.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert statuses(idle.recv(1 << 16)) == [200]
        busy.sendall(b"GET /big.bin HTTP/1.1\r\nHost: here\r\n\r\n")
        answer = busy.recv(1)
        web.example.interrupt(number)
        assert idle.recv(1) == b""
        with pytest.raises(OSError) as error:
            socket.create_connection(web.address, PATIENCE)
        assert error.value.errno == errno.ECONNREFUSED
        answer += everything(busy)
        busy.close()
        assert answer.endswith((tree / "big.bin").read_bytes())
        assert web.example.finish() == (0, [f"{number.name}: closing"], "")


def test_a_second_signal_ends_what_is_under_way(tree: Path, backend: str) -> None:
    with serving(tree, backend) as web:
        client = web.client()
        client.sendall(b"GET / HTTP/1.1\r\n")
        client.sendall(b"Host: here\r\n")
        eventually(lambda: web.status("/") == 200)
        web.example.interrupt()
        assert web.example.first_line() == "SIGINT: closing"
        web.example.interrupt()
        assert web.example.finish() == (0, [], "")


# Many


@pytest.fixture
def crowd(
    backend: str, scale: Callable[[int, int, int], int]
) -> Iterator[Callable[[int, int, int], int]]:
    """How many clients there may be, of those that a profile wants."""
    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    use_all_descriptors()
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Port(backend) as port:
        any_descriptor = "any-descriptor" in port.features

    def choose(quick: int, full: int, soak: int) -> int:
        count = scale(quick, full, soak)
        if most < 2 * count:  # a download has a socket and a file
            pytest.skip(f"raise `ulimit -Hn` to {2 * count} at least")
        return count if any_descriptor else min(count, 400)

    yield choose
    resource.setrlimit(resource.RLIMIT_NOFILE, former)


@pytest.mark.deadline(300)
def test_connections_opened_and_dropped_leave_nothing_behind(
    tree: Path, backend: str, crowd: Callable[[int, int, int], int]
) -> None:
    count = crowd(300, 9_900, 9_900)
    ways = (b"", b"GET /", b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    with serving(tree, backend, descriptors=2 * count + 200) as web:
        for _ in range(2):
            clients = []
            for number in range(count):
                client = socket.create_connection(web.address, PATIENCE)
                clients.append(client)
                client.sendall(ways[number % 3])
                if number % 2:  # a reset, and not a goodbye
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_GOODBYE)
            for client in clients:
                client.close()
            assert web.status("/") == 200
            web.has_forgotten_everyone()
        web.example.interrupt()
        assert web.example.finish() == (0, ["SIGINT: closing"], "")


@pytest.mark.deadline(300)
def test_downloads_at_the_same_time_are_right_to_the_last_bit(
    tree: Path, backend: str, crowd: Callable[[int, int, int], int]
) -> None:
    count = crowd(100, 1_000, 1_000)
    content = (tree / "big.bin").read_bytes()
    chance = Random(3)
    with (
        serving(tree, backend, descriptors=2 * count + 200) as web,
        selectors.DefaultSelector() as selector,
    ):
        for _ in range(count):
            first = chance.randrange(BIG)
            part = content[first : first + 300_000]
            download = Download(web.client(), part)
            asked = f"bytes={first}-{first + len(part) - 1}"
            selector.register(download.client, selectors.EVENT_READ, download)
            download.client.sendall(
                f"GET /big.bin HTTP/1.1\r\nHost: here\r\nRange: {asked}\r\n"
                "Connection: close\r\n\r\n".encode()
            )
        deadline = monotonic() + PATIENCE * 4
        while selector.get_map():
            ready = selector.select(PATIENCE)
            assert ready
            assert monotonic() < deadline
            for key, _ in ready:
                if key.data.over():
                    selector.unregister(key.fileobj)
                    assert statuses(key.data.head) == [206]
                    assert key.data.digest.digest() == blake2b(key.data.part).digest()


class Download:
    """A client that takes a file piece by piece."""

    def __init__(self, client: socket.socket, part: bytes) -> None:
        self.client, self.part = client, part
        self.head = b""
        self.digest = blake2b()

    def over(self) -> bool:
        data = self.client.recv(1 << 16)
        if b"\r\n\r\n" in self.head:
            self.digest.update(data)
        else:
            self.head, found, rest = (self.head + data).partition(b"\r\n\r\n")
            self.head += found
            self.digest.update(rest)
        return not data
