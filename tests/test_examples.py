"""The examples, run as people run them: real processes, real clients, real signals."""

import contextlib
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self

import pytest

CHECKOUT = Path(__file__).parent.parent
PATIENCE = 30.0  # seconds until a test that waits for an example gives up
EXAMPLES = sorted(
    path.name
    for path in (CHECKOUT / "examples").glob("*.py")
    if "__main__" in path.read_text(encoding="utf-8")  # else it is a module of one of them
)
CLOSES = b"* the server closes\n"

# What the checkout's conftest.py does, for a checkout that is not installed.
_LAUNCH = """\
import os, runpy, sys
del sys.argv[0]
checkout = sys.argv.pop(0)
sys.path.insert(0, checkout)
import portcompat
portcompat.__path__.append(checkout)
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Example:
    """A running example; in a `with`, it is gone at the end."""

    def __init__(self, name: str, *arguments: str, backend: str, descriptors: int = 256) -> None:
        limit = ["sh", "-c", f'ulimit -n {descriptors} && exec "$@"', "sh"]
        python = [sys.executable, "-W", "error", "-c", _LAUNCH, str(CHECKOUT)]
        self.process = subprocess.Popen(
            [*limit, *python, str(CHECKOUT / "examples" / name), *arguments],
            env={**os.environ, "PORTCOMPAT_BACKEND": backend},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self.process:  # waits for its end and closes the pipes
            code = self.process.poll()
            if code is None:
                self.process.kill()
            if error is not None and self.process.stderr and not self.process.stderr.closed:
                left = self.process.stderr.read()
                how = "was still running" if code is None else f"ended with {code}"
                error.add_note(f"the example {how}; its stderr: {left!r}")

    def first_line(self) -> str:
        """What it says when it is ready."""
        out = self.process.stdout
        assert out is not None
        ready, _, _ = select.select([out], [], [], PATIENCE)
        assert ready, "the example says nothing"
        line = out.readline()
        assert line, f"the example ended: {self.process.communicate()}"
        return line.rstrip("\n")

    def interrupt(self, number: int = signal.SIGINT) -> None:
        self.process.send_signal(number)

    def finish(self) -> tuple[int, list[str], str]:
        """Wait for its end: the exit code, the lines it printed, its stderr."""
        out, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out.splitlines(), errors


class ChatClient:
    """A client of the chat server, which waits for an answer no longer than `PATIENCE`."""

    def __init__(self, address: tuple[str, int], buffers: int = 0) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE)
        if buffers:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
        self.socket.connect(address)
        self.name = b"%d" % self.socket.getsockname()[1]
        self.incoming = self.socket.makefile("rb")

    def say(self, *lines: bytes) -> None:
        self.socket.sendall(b"".join(line + b"\n" for line in lines))

    def hear(self, count: int = 1) -> list[tuple[bytes, bytes]]:
        """The next `count` lines: who said what."""
        lines = []
        for _ in range(count):
            line = self.incoming.readline()
            assert line.endswith(b"\n"), "the server has hung up"
            name, _, text = line[:-1].partition(b" ")
            lines.append((name, text))
        return lines

    def enter(self) -> None:
        """Return when the server has let this client in."""
        self.say(b"hello")
        while self.hear() != [(self.name, b"hello")]:
            pass

    def reset(self) -> None:
        """Vanish without a goodbye: the server's next read fails with ECONNRESET."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self.incoming.close()
        self.socket.close()


class Chat:
    """A running chat server and those who talk to it."""

    def __init__(self, example: Example, clients: contextlib.ExitStack) -> None:
        self.example = example
        match = re.fullmatch(r"listening on (.*):(\d+)", example.first_line())
        assert match is not None
        self.address = match[1], int(match[2])
        self.clients = clients

    def client(self, buffers: int = 0) -> ChatClient:
        client = ChatClient(self.address, buffers)
        self.clients.callback(client.close)
        return client

    def crowd(self, count: int) -> list[ChatClient]:
        """Clients that have all been let in, and have nothing to hear."""
        crowd = [self.client() for _ in range(count)]
        for client in crowd:
            client.enter()
        # Each line of a speaker comes after his former ones: so who has heard all of these has
        # heard every hello.
        for client in crowd:
            client.say(b"all here")
        for client in crowd:
            missing = {other.name for other in crowd}
            while missing:
                ((name, text),) = client.hear()
                if text == b"all here":
                    missing.remove(name)
        return crowd


@pytest.fixture
def chat(backend: str) -> Iterator[Chat]:
    with (
        Example("chat_server.py", backend=backend) as example,
        contextlib.ExitStack() as clients,
    ):
        yield Chat(example, clients)


def numbers(speaker: ChatClient, heard: list[tuple[bytes, bytes]]) -> list[int]:
    return [int(text) for name, text in heard if name == speaker.name]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_says_what_it_can_be_asked(name: str, backend: str) -> None:
    with Example(name, "--help", backend=backend) as example:
        code, output, errors = example.finish()
    assert (code, errors) == (0, "")
    assert output[0].startswith(f"usage: {name}")


@pytest.mark.parametrize(
    "arguments",
    [
        ("chat_server.py", "--listen", "nowhere"),
        ("job_queue.py", "--workers", "0"),
        ("job_queue.py", "--slots", "many"),
        ("key_value_server.py", "--clients", "none"),
        ("http_server.py", "--patience", "little"),
    ],
)
def test_an_argument_that_means_nothing_is_a_usage_error(
    arguments: tuple[str, ...], backend: str
) -> None:
    with Example(*arguments, backend=backend) as example:
        code, output, errors = example.finish()
    assert (code, output) == (2, [])
    assert errors.splitlines()[-1].startswith(f"{arguments[0]}: error: argument {arguments[1]}:")


def test_every_client_hears_every_line_once_and_in_the_speakers_order(chat: Chat) -> None:
    crowd = chat.crowd(6)
    for client in crowd:
        client.say(*(b"%d" % n for n in range(200)))
    for client in crowd:
        heard = client.hear(len(crowd) * 200)
        for speaker in crowd:
            assert numbers(speaker, heard) == list(range(200))


def test_a_client_that_has_shut_down_its_sending_side_gets_all_that_is_due_to_it(
    chat: Chat,
) -> None:
    client = chat.client()
    client.say(*(b"%d" % n for n in range(300)))
    client.socket.sendall(b"a line without an end")
    client.socket.shutdown(socket.SHUT_WR)
    heard = client.hear(301)
    assert heard.pop() == (client.name, b"a line without an end")
    assert numbers(client, heard) == list(range(300))
    assert client.incoming.read() == b""


def test_a_client_that_resets_its_connection_disturbs_nobody(chat: Chat) -> None:
    crowd = chat.crowd(6)
    for client in crowd:
        client.say(*(b"%d" % n for n in range(100)))
    rude, *polite = crowd
    rude.reset()
    for client in polite:
        client.say(*(b"%d" % n for n in range(100, 200)))
    for client in polite:
        mine: list[tuple[bytes, bytes]] = []
        while len(mine) < len(polite) * 200:
            mine += [line for line in client.hear() if line[0] != rude.name]
        for speaker in polite:
            assert numbers(speaker, mine) == list(range(200))


def test_a_client_that_does_not_read_is_not_read_from_and_loses_nothing(chat: Chat) -> None:
    client = chat.client(buffers=32 * 1024)
    line = b"x" * (16 * 1024 - 1) + b"\n"
    data = memoryview(line * 2048)
    client.socket.setblocking(False)
    sent = 0
    while sent < len(data) and select.select([], [client.socket], [], 0.5)[1]:
        sent += client.socket.send(data[sent:])
    assert sent < len(data), "the server took 32 MiB of a client that took nothing back"

    client.socket.settimeout(PATIENCE)
    rest = Thread(target=client.socket.sendall, args=(data[sent:],))
    rest.start()
    expected = client.name + b" " + line
    for _ in range(2048):
        assert client.incoming.readline() == expected
    rest.join(PATIENCE)


def test_a_client_that_reads_late_gets_every_line(chat: Chat) -> None:
    late = chat.client(buffers=4096)
    late.enter()
    speaker = chat.client()
    text = b"y" * 2000
    for n in range(1000):
        speaker.say(b"%d %s" % (n, text))
        assert speaker.hear() == [(speaker.name, b"%d %s" % (n, text))]
    assert late.hear(1000) == [(speaker.name, b"%d %s" % (n, text)) for n in range(1000)]


def test_whoever_finds_the_server_full_is_let_in_when_others_leave(backend: str) -> None:
    with (
        Example("chat_server.py", backend=backend, descriptors=40) as example,
        contextlib.ExitStack() as clients,
    ):
        chat = Chat(example, clients)
        early = [chat.client() for _ in range(40)]
        late = chat.client()
        for client in early[:20]:
            client.enter()
            client.close()
        late.enter()
        example.interrupt()
        assert example.finish() == (0, ["SIGINT: closing"], "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_server_says_goodbye_to_who_is_there_and_ends(
    chat: Chat, number: signal.Signals
) -> None:
    crowd = chat.crowd(5)
    chat.example.interrupt(number)
    assert chat.example.finish() == (0, [f"{number.name}: closing"], "")
    assert [client.incoming.read() for client in crowd] == [CLOSES] * 5
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(chat.address, PATIENCE)


def test_the_server_ends_while_everybody_talks(chat: Chat) -> None:
    crowd = chat.crowd(4)

    def talk(client: ChatClient) -> None:
        with contextlib.suppress(OSError):
            while client.incoming.readline():
                client.say(b"and another thing", b"and yet another")

    talkers = [Thread(target=talk, args=(client,)) for client in crowd]
    for talker in talkers:
        talker.start()
    crowd[0].say(b"a word")
    chat.example.interrupt(signal.SIGTERM)
    assert chat.example.finish() == (0, ["SIGTERM: closing"], "")
    for talker in talkers:
        talker.join(PATIENCE)
        assert not talker.is_alive()


def test_a_server_without_clients_ends_at_once(chat: Chat) -> None:
    chat.example.interrupt()
    assert chat.example.finish() == (0, ["SIGINT: closing"], "")


def worker_counts(lines: list[str]) -> Counter[str]:
    return Counter({name: int(count) for name, count in (line.split(": ") for line in lines)})


@pytest.mark.parametrize("slots", [1, 7, 4000])
def test_every_job_is_done_once(backend: str, slots: int) -> None:
    arguments = ["--jobs", "3000", "--slots", str(slots), "--producers", "3", "--workers", "4"]
    with Example("job_queue.py", *arguments, backend=backend) as example:
        code, output, errors = example.finish()
    assert (code, errors) == (0, "")
    assert output[1] == "3000 of 3000 jobs done, each once; 0 left in the queue"
    assert worker_counts(output[3:]).total() == 3000


def test_a_producer_meets_a_full_queue_and_goes_on(backend: str) -> None:
    with Example("job_queue.py", "--slots", "1", "--workers", "1", backend=backend) as example:
        code, output, errors = example.finish()
    assert (code, errors) == (0, "")
    match = re.fullmatch(r"the queue was full (\d+) times", output[2])
    assert match is not None
    assert int(match[1]) > 0
    assert worker_counts(output[3:]).total() == 5000


def test_an_interrupted_job_queue_stops_all_its_threads(backend: str) -> None:
    with Example("job_queue.py", "--jobs", "1000000000", backend=backend) as example:
        assert example.first_line() == "2 producers, 4 workers, 32 slots"
        example.interrupt()
        code, output, errors = example.finish()
    assert (code, errors) == (1, "")
    match = re.fullmatch(
        r"(\d+) of 1000000000 jobs done, each once; (\d+) left in the queue", output[0]
    )
    assert match is not None
    assert int(match[2]) <= 32


class KeyValue:
    """A running key-value server with its clients, and the lines that they all print."""

    def __init__(self, example: Example) -> None:
        self.example = example

    def next_server(self) -> int:
        """The number of the next server that serves."""
        while True:
            match = re.fullmatch(r"server (\d+) serves", self.example.first_line())
            if match is not None:
                return int(match[1])


def test_every_client_finds_in_the_store_what_it_put(backend: str) -> None:
    arguments = ["--clients", "3", "--requests", "200"]
    with Example("key_value_server.py", *arguments, backend=backend) as example:
        code, output, errors = example.finish()
    assert (code, errors) == (0, "")
    assert output[-1] == "3 of 3 clients got what they had put"
    said = sorted(line for line in output if line.startswith("client"))
    assert said == [f"client {n}: 200 rounds, 0 lost, servers: 1" for n in range(3)]


def test_a_key_value_server_that_is_killed_is_started_anew_and_no_client_hangs(
    backend: str,
) -> None:
    with Example(
        "key_value_server.py", "--clients", "4", "--requests", "2000", backend=backend
    ) as example:
        running = KeyValue(example)
        killed = set()
        for _ in range(5):
            number = running.next_server()
            os.kill(number, signal.SIGKILL)
            killed.add(number)
        last = running.next_server()
        code, output, errors = example.finish()
    assert (code, errors) == (0, "")
    assert len(killed) == 5
    assert last not in killed
    assert output[-1] == "4 of 4 clients got what they had put"
