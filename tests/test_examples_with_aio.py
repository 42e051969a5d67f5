"""The examples that read and write with asynchronous I/O, in real processes."""

import os
import re
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic, sleep

import pytest

from portcompat.conformance._aio import within
from portcompat.pytest_plugin import backends_under_test
from tests.test_examples import PATIENCE, Example

BLOCK = 4096


def contents(root: Path) -> dict[str, object]:
    """What is in a directory: of each name what kind it is, its bytes and what cp -p keeps."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_dir():
            found[name] = None
        else:
            status = path.stat()
            found[name] = path.read_bytes(), stat.S_IMODE(status.st_mode), status.st_mtime_ns
    return found


@pytest.fixture
def best(request: pytest.FixtureRequest) -> str:
    """One backend, for what does not depend on which: a process for each takes its time."""
    return backends_under_test(request.config)[0]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files of sizes around those of blocks, and the other things that there are."""
    root = tmp_path / "tree"
    (root / "deep" / "deeper").mkdir(parents=True)
    (root / "empty directory").mkdir()
    for number, size in enumerate((0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 7 * BLOCK, 300_001)):
        path = root / ("deep" if number % 2 else "") / f"{size} bytes"
        path.write_bytes(os.urandom(size))
        path.chmod(0o640 if number % 2 else 0o755)
        os.utime(path, ns=(10**18 + number, 10**18 + 7 * number))
    for number in range(100):
        (root / "deep" / "deeper" / str(number)).write_bytes(b"%d" % number)
    (root / "link").symlink_to("deep/1 bytes")
    (root / "dangling").symlink_to("nowhere")
    return root


@pytest.mark.parametrize("depth", ["1", "32"])
def test_a_tree_is_copied_whole(backend: str, tree: Path, tmp_path: Path, depth: str) -> None:
    target = tmp_path / "copy"
    arguments = ["--depth", depth, "--block", str(BLOCK), str(tree), str(target)]
    with Example("copy_tool.py", *arguments, backend=backend, descriptors=64) as example:
        code, output, errors = example.finish()
    assert (code, errors) == (0, "")
    expected = contents(tree)
    assert contents(target) == expected
    files = [value for value in expected.values() if isinstance(value, tuple)]
    assert output[-1] == f"{len(files)} files, {sum(len(value[0]) for value in files)} bytes"


def test_a_file_is_copied_and_synced(best: str, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(3_000_000))
    with Example("copy_tool.py", "--sync", str(source), str(target), backend=best) as example:
        assert example.finish() == (0, ["1 files, 3000000 bytes"], "")
    assert target.read_bytes() == source.read_bytes()


def test_what_is_there_already_is_not_overwritten(best: str, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"new")
    target.write_bytes(b"old")
    with Example("copy_tool.py", str(source), str(target), backend=best) as example:
        code, output, errors = example.finish()
    assert (code, output) == (1, [])
    assert errors == f"copy_tool.py: {target}: File exists\n"
    assert target.read_bytes() == b"old"


def test_what_cannot_be_copied_is_told_and_nothing_incomplete_stays(
    best: str, tree: Path, tmp_path: Path
) -> None:
    (tree / "large").write_bytes(bytes(30_000_000))
    expected = contents(tree)
    os.mkfifo(tree / "zfifo")
    target = tmp_path / "copy"
    with Example("copy_tool.py", str(tree), str(target), backend=best) as example:
        code, _, errors = example.finish()
    assert code == 1
    assert errors == f"copy_tool.py: {tree / 'zfifo'}: neither a file nor a directory\n"
    for name, value in contents(target).items():
        assert value == expected[name]


def test_an_interrupted_copy_leaves_no_incomplete_file(best: str, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.touch()
    os.truncate(source, 1 << 36)
    arguments = ["--block", "65536", str(source), str(target)]
    with Example("copy_tool.py", *arguments, backend=best) as example:
        deadline = monotonic() + PATIENCE
        while not (target.exists() and target.stat().st_size):
            assert monotonic() < deadline
            assert example.process.poll() is None
            sleep(0.002)
        example.interrupt()
        code, output, errors = example.finish()
    assert (code, errors) == (1, "")
    assert re.fullmatch(r"0 files, \d+ bytes: interrupted", output[-1])
    assert not target.exists()


# The file server


@pytest.fixture
def site(tmp_path: Path) -> Path:
    root = tmp_path / "site"
    (root / "inner").mkdir(parents=True)
    (root / "page.html").write_text("<p>page</p>")
    (root / "inner" / "with space").write_bytes(b"inner")
    (root / "empty").touch()
    (root / "large").write_bytes(os.urandom(3_000_000))
    (root / "out").symlink_to(tmp_path / "secret")
    (tmp_path / "secret").write_text("secret")
    return root


class Served:
    """A running file server."""

    def __init__(self, example: Example) -> None:
        self.example = example
        host, _, number = example.first_line().removeprefix("listening on ").rpartition(":")
        self.address = host, int(number)

    def connect(self, receive: int = 0) -> socket.socket:
        """A connection; `receive` is how much of an answer it holds before it is read."""
        peer = socket.socket()
        peer.settimeout(PATIENCE)
        if receive:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        peer.connect(self.address)
        return peer

    def get(self, target: str, method: str = "GET") -> tuple[int, bytes]:
        connection = HTTPConnection(*self.address, timeout=PATIENCE)
        try:
            connection.putrequest(method, target)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def sockets(self) -> int:
        """How many it has open."""
        descriptors = Path(f"/proc/{self.example.process.pid}/fd")
        links = [os.readlink(each) for each in descriptors.iterdir()]
        return sum(link.startswith("socket:") for link in links)

    def ends(self) -> None:
        self.example.interrupt(signal.SIGTERM)
        assert self.example.finish() == (0, [], "")


@contextmanager
def serving(backend: str, site: Path, *options: str, descriptors: int = 64) -> Iterator[Served]:
    with Example(
        "file_server.py", *options, str(site), backend=backend, descriptors=descriptors
    ) as example:
        yield Served(example)


def everything(peer: socket.socket) -> bytes:
    data = b""
    while part := peer.recv(1 << 16):
        data += part
    return data


def asking(target: str, *fields: str) -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.1", *fields, "", ""]).encode()


def test_files_are_served_and_nothing_else(backend: str, site: Path) -> None:
    with serving(backend, site) as server:
        assert server.get("/page.html") == (200, b"<p>page</p>")
        assert server.get("/inner/with%20space?query") == (200, b"inner")
        assert server.get("/empty") == (200, b"")
        assert server.get("/large") == (200, (site / "large").read_bytes())
        for target in ("/none", "/inner", "/", "/page.html/x", "/../secret", "/%2e%2e/secret"):
            assert server.get(target)[0] == 404
        for target in ("/out", "//etc/passwd", "/%00", "/inner/../../secret"):
            assert server.get(target)[0] == 404
        assert server.get("/page.html", "HEAD") == (200, b"")
        assert server.get("/page.html", "DELETE")[0] == 405
        server.ends()


def test_a_connection_is_kept_and_asked_again(best: str, site: Path) -> None:
    with serving(best, site) as server:
        connection = HTTPConnection(*server.address, timeout=PATIENCE)
        for target, expected in (("/page.html", 200), ("/none", 404), ("/large", 200)) * 3:
            connection.request("GET", target)
            answer = connection.getresponse()
            data = answer.read()
            assert answer.status == expected
            if expected == 200:
                assert data == (site / target[1:]).read_bytes()
        connection.close()
        with server.connect() as peer:  # all at once
            peer.sendall(asking("/page.html") * 500 + asking("/page.html", "Connection: close"))
            assert everything(peer).count(b"<p>page</p>") == 501
        server.ends()


def test_what_is_no_request_is_refused(best: str, site: Path) -> None:
    with serving(best, site) as server:
        for data, status in (
            (b"nonsense\r\n\r\n", b"400"),
            (b"GET / HTTP/2.0\r\n\r\n", b"400"),
            (asking("/page.html", "Content-Length: 5"), b"400"),
            (b"GET /" + b"a" * 20_000, b"431"),
        ):
            with server.connect() as peer:
                peer.sendall(data)
                assert everything(peer).split()[1] == status
        server.ends()


def test_who_reads_slowly_does_not_hold_up_others(best: str, site: Path) -> None:
    with serving(best, site) as server, server.connect(receive=4096) as slow:
        slow.sendall(asking("/large", "Connection: close"))
        start = slow.recv(1000)
        for _ in range(5):
            assert server.get("/large") == (200, (site / "large").read_bytes())
        assert (start + everything(slow)).endswith((site / "large").read_bytes())
        server.ends()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="/proc is needed to see it")
def test_who_does_not_go_on_is_closed(best: str, site: Path) -> None:
    with serving(best, site, "--patience", "0.2") as server:
        before = server.sockets()
        with server.connect() as silent, server.connect(receive=4096) as full:
            full.sendall(asking("/large"))
            full.recv(1)
            assert silent.recv(1) == b""
            within(PATIENCE, lambda: server.sockets() == before)
            assert len(everything(full)) < 3_000_000
        assert server.get("/page.html") == (200, b"<p>page</p>")
        server.ends()


def test_those_who_go_away_leave_nothing_behind(backend: str, site: Path) -> None:
    """More of them than there are descriptors, each in the middle of an answer."""
    with serving(backend, site, descriptors=40) as server:
        for _ in range(100):
            with server.connect(receive=4096) as peer:
                peer.sendall(asking("/large"))
                peer.recv(100)
        assert server.get("/large") == (200, (site / "large").read_bytes())
        server.ends()


def test_at_the_end_what_has_begun_is_completed(best: str, site: Path) -> None:
    with (
        serving(best, site) as server,
        server.connect(receive=4096) as slow,
        server.connect() as idle,
    ):
        slow.sendall(asking("/large"))
        start = slow.recv(1000)
        server.example.interrupt(signal.SIGTERM)
        assert idle.recv(1) == b""
        assert (start + everything(slow)).endswith((site / "large").read_bytes())
        slow.close()
        assert server.example.finish() == (0, [], "")
