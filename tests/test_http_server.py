"""What the example http_server.py answers, to requests and to what is none."""

import contextlib
import http.client
import socket
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from random import Random

import pytest

from portcompat.pytest_plugin import backends_under_test
from tests.test_examples import PATIENCE
from tests.web import BIG, NO_GOODBYE, SMALL, Web, everything, serving, statuses, tree

__all__ = ["tree"]


@pytest.fixture(scope="module")
def server(tree: Path, request: pytest.FixtureRequest) -> Iterator[Web]:
    """A server for many tests, that ends well after all that they have done to it.

    What it answers is not the backend's affair: it has the best of those under test.
    """
    with serving(tree, backends_under_test(request.config)[0]) as web:
        yield web
        web.example.interrupt()
        assert web.example.finish() == (0, ["SIGINT: closing"], "")


@pytest.fixture
def web(server: Web) -> Iterator[Web]:
    """A server that has nothing open when a test is over."""
    yield server
    server.has_forgotten_everyone()


# What is answered


@pytest.mark.parametrize(
    ("path", "content", "kind"),
    [
        ("/", b"the first page", "text/html; charset=utf-8"),
        ("/page.html?query", SMALL, "text/html; charset=utf-8"),
        ("/sub/", b"another page", "text/html; charset=utf-8"),
        ("//sub//index.html", b"another page", "text/html; charset=utf-8"),
        ("/sub/a%20name%20%26%20more.txt", b"named", "text/plain; charset=utf-8"),
        ("/nothing", b"", "application/octet-stream"),
        ("http://elsewhere/page.html", SMALL, "text/html; charset=utf-8"),
    ],
)
def test_a_file_is_served_as_it_is(web: Web, path: str, content: bytes, kind: str) -> None:
    for _ in range(2):  # from the disk and from memory
        response, body = web.ask(path)
        assert (response.status, body) == (200, content)
        assert response.headers["Content-Type"] == kind
        assert response.headers["Content-Length"] == str(len(content))


@pytest.mark.parametrize(
    "path",
    [
        *("/none", "/page.html/", "/page.html/x", "/empty/", "/fifo", "/" + "x" * 300),
        *("/.hidden", "/../outside", "/%2e%2e/outside", "/sub/..%2f..%2foutside", "/./page.html"),
        *("/link", "/out", "/folder/", "/folder/index.html"),
    ],
)
def test_what_is_not_a_file_below_the_root_is_not_there(web: Web, path: str) -> None:
    response, body = web.ask(path)
    assert (response.status, body) == (404, b"404 Not Found\n")


def test_a_directory_without_its_slash_is_a_redirection(web: Web) -> None:
    response, _ = web.ask("//sub")
    assert (response.status, response.headers["Location"]) == (301, "/sub/")


@pytest.mark.parametrize("path", ["/page.html", "/big.bin", "/none"])
def test_head_has_the_headers_and_no_body(web: Web, path: str) -> None:
    told, body = web.ask(path, method="HEAD")
    asked, _ = web.ask(path)
    assert body == b""
    del told.headers["Date"], asked.headers["Date"]
    assert (told.status, told.headers.items()) == (asked.status, asked.headers.items())


@pytest.mark.parametrize(
    ("wanted", "first", "stop"),
    [
        *(("0-0", 0, 1), ("1-3", 1, 4), ("-5", BIG - 5, BIG), ("5-", 5, BIG)),
        *((f"{BIG - 1}-", BIG - 1, BIG), (f"0-{10**17}", 0, BIG), (f"-{10**17}", 0, BIG)),
        ("100000-300000", 100_000, 300_001),
    ],
)
def test_a_range_is_that_part(web: Web, wanted: str, first: int, stop: int) -> None:
    content = (web.root / "big.bin").read_bytes()
    response, body = web.ask("/big.bin", {"Range": f"bytes={wanted}"})
    assert response.status == 206
    assert response.headers["Content-Range"] == f"bytes {first}-{stop - 1}/{BIG}"
    assert body == content[first:stop]


@pytest.mark.parametrize("wanted", ["20-", "20-30", "-0"])
def test_a_range_outside_the_file_is_refused(web: Web, wanted: str) -> None:
    response, _ = web.ask("/page.html", {"Range": f"bytes={wanted}"})
    assert response.status == 416
    assert response.headers["Content-Range"] == f"bytes */{len(SMALL)}"


@pytest.mark.parametrize(
    "wanted", ["bytes=3-1", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,3-4", "bytes=1-2-3"]
)
def test_a_range_that_means_nothing_here_is_the_whole(web: Web, wanted: str) -> None:
    response, body = web.ask("/page.html", {"Range": wanted})
    assert (response.status, body) == (200, SMALL)


def test_the_conditions_of_a_request_are_kept_to(web: Web) -> None:
    response, _ = web.ask("/page.html")
    tag, date = response.headers["ETag"], response.headers["Last-Modified"]
    earlier, later = formatdate(0, usegmt=True), formatdate(4e9, usegmt=True)
    other = '"other"'
    for headers, status in (
        ({"If-None-Match": tag}, 304),
        ({"If-None-Match": f"{other}, W/{tag}"}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": other}, 200),
        ({"If-None-Match": other, "If-Modified-Since": later}, 200),
        ({"If-Modified-Since": date}, 304),
        ({"If-Modified-Since": later}, 304),
        ({"If-Modified-Since": earlier}, 200),
        ({"If-Modified-Since": "yesterday"}, 200),
        ({"If-Match": tag}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": f"W/{tag}"}, 412),
        ({"If-Match": other}, 412),
        ({"If-Unmodified-Since": date}, 200),
        ({"If-Unmodified-Since": earlier}, 412),
        ({"If-Match": tag, "If-Unmodified-Since": earlier}, 200),
        ({"Range": "bytes=0-0", "If-Range": tag}, 206),
        ({"Range": "bytes=0-0", "If-Range": date}, 206),
        ({"Range": "bytes=0-0", "If-Range": other}, 200),
        ({"Range": "bytes=0-0", "If-Range": f"W/{tag}"}, 200),
        ({"Range": "bytes=99-", "If-None-Match": tag}, 304),
    ):
        response, body = web.ask("/page.html", headers)
        assert response.status == status, headers
        assert body or status == 304


def test_other_methods_are_not_allowed(web: Web) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        response, _ = web.ask("/page.html", method=method)
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


# Connections


def test_a_connection_serves_many_requests(web: Web) -> None:
    connection = http.client.HTTPConnection(*web.address, timeout=PATIENCE)
    with contextlib.closing(connection):
        for path, status in [("/page.html", 200), ("/none", 404), ("/big.bin", 200)] * 5:
            connection.request("GET", path)
            was = connection.sock
            response = connection.getresponse()
            assert response.status == status
            response.read()
            assert connection.sock is was is not None


def test_requests_that_come_at_once_are_answered_in_order(web: Web) -> None:
    pages = [b"/page.html", b"/none", b"/sub/", b"/"] * 100
    asked = [b"GET %s HTTP/1.1\r\nHost: here\r\n\r\n" % page for page in pages]
    answers = web.say(b"".join(asked))
    assert statuses(answers) == [200, 404, 200, 200] * 100
    assert answers.count(b"another page") == 100


@pytest.mark.parametrize(
    "last", [b"HTTP/1.0\r\n\r\n", b"HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"]
)
def test_who_wants_one_answer_only_gets_one(web: Web, last: bytes) -> None:
    client = web.client()
    client.sendall(b"GET /page.html " + last)
    answer = everything(client)
    assert statuses(answer) == [200]
    assert answer.endswith(SMALL)


def test_a_client_that_has_shut_down_its_sending_side_gets_its_answer(web: Web) -> None:
    answer = web.say(b"GET /big.bin HTTP/1.1\r\nHost: here\r\n\r\n")
    assert answer.endswith((web.root / "big.bin").read_bytes())


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100) + b"\r\n\r\n", 400),
        (b"GET /page.html HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: smoke\r\n\r\n", 501),
        (b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /" + b"x" * 20_000, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 20_000, 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 200_000, 413),
        (b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n", 417),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET / HTTP/1.1\r\nHos", 400),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 405),
    ],
)
def test_what_is_not_a_request_is_refused(web: Web, request_: bytes, status: int) -> None:
    assert statuses(web.say(request_)) == [status]
    assert web.status("/") == 200


def test_a_hundred_thousand_bytes_of_noise_end_nothing(web: Web) -> None:
    noise = Random(2)
    for _ in range(20):
        web.say(noise.randbytes(5000))
    assert web.status("/") == 200


def test_who_resets_the_connection_in_the_middle_disturbs_nobody(web: Web) -> None:
    for _ in range(20):
        client = web.client()
        client.sendall(b"GET /big.bin HTTP/1.1\r\nHost: here\r\n\r\n")
        client.recv(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_GOODBYE)
        client.close()
    assert web.status("/big.bin") == 200
