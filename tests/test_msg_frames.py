"""The frames of the message interface: what is made is read, and what is broken is refused."""

import errno
from collections.abc import Callable

import pytest

from portcompat import _msg_frames as frames
from portcompat._msg_frames import Malformed

CALL = frames.WANTS_REPLY


def reply_frame(number: int, rv: int, out_count: int, payload: bytes) -> bytes:
    head = frames.pack_reply(frames.REPLY_MARK, number, rv, out_count, len(payload))
    return head + payload


def request(
    payload: bytes = b"12345", *, flags: int = CALL, size: int | None = None, mark: int = 0
) -> bytes:
    count = len(payload) if size is None else size
    head = frames.pack_request(
        mark or frames.REQUEST_MARK, flags, 2, 10, 77, 3, 100, 4, 6, -1, 5, 2**64 - 1, count
    )
    return head + payload


def test_a_request_is_read_as_it_was_made() -> None:
    frame = frames.read_request(request(), 5, 0)
    assert frame[1:] == (CALL, 2, 10, 77, 3, 100, 4, 6, -1, 5, 2**64 - 1, 5)


def test_a_request_tells_its_time_and_size_before_it_is_taken() -> None:
    assert frames.peek(request()[: frames.REQUEST_HEAD]) == (10, 5)


def test_a_request_is_known_by_its_channel_and_number() -> None:
    assert frames.is_request(request(), 77, 3)
    assert not frames.is_request(request(), 77, 4)
    assert not frames.is_request(request(), 78, 3)
    assert not frames.is_request(request()[:10], 77, 3)


@pytest.mark.parametrize(
    ("data", "descriptors"),
    [
        (b"", 0),
        (request()[: frames.REQUEST_HEAD - 1], 0),
        (request(size=6), 0),
        (request(size=4), 0),
        (request(b"123456"), 0),
        (request(mark=1), 0),
        (request(flags=CALL | 16), 0),
        (request(flags=frames.ADJUSTABLE), 0),
        (request(flags=frames.WITH_CHANNEL), 1),
        (request(), 1),
        (request(flags=CALL | frames.WITH_CHANNEL), 0),
        (request(flags=CALL | frames.WITH_CHANNEL), 2),
        (request(flags=CALL | frames.WITH_CHANNEL | frames.WITH_FILE), 1),
    ],
)
def test_a_broken_request_is_refused(data: bytes, descriptors: int) -> None:
    with pytest.raises(Malformed):
        frames.read_request(data, 5, descriptors)


def test_the_head_of_a_broken_request_comes_first() -> None:
    assert frames.peek(b"short") == (0, 0)


def test_a_reply_is_read_as_it_was_made() -> None:
    assert frames.read_reply(reply_frame(9, 5, 7, b"text"), 9) == (5, 7, b"text")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        reply_frame(9, 0, 0, b"")[:-1],
        reply_frame(8, 0, 0, b"another's"),
        reply_frame(9, -1, 0, b""),
        reply_frame(9, 0, 0, b"text") + b"more",
        b"\0\0" + reply_frame(9, 0, 0, b"text")[2:],
    ],
)
def test_a_broken_reply_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        frames.read_reply(data, 9)


@pytest.mark.parametrize("flags", [0, 1])
def test_a_handle_is_read_as_it_was_made(flags: int) -> None:
    assert frames.read_handle(frames.handle_frame(flags)) == flags


@pytest.mark.parametrize("data", [b"x", b"1234", frames.handle_frame(0) + b"x"])
def test_a_broken_handle_is_eproto(data: bytes) -> None:
    with pytest.raises(OSError) as caught:
        frames.read_handle(data)
    assert caught.value.errno == errno.EPROTO


def test_no_handle_is_the_end() -> None:
    with pytest.raises(EOFError):
        frames.read_handle(b"")


@pytest.mark.parametrize(
    "make", [bytes, bytearray, memoryview, lambda data: memoryview(data).cast("H")]
)
def test_every_view_of_bytes_is_the_bytes_in_it(make: Callable[[bytes], memoryview]) -> None:
    assert frames.as_bytes(make(b"1234"), "payload") == b"1234"


@pytest.mark.parametrize("value", [4, "text", None, [1]])
def test_what_is_no_bytes_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError, match="payload must be bytes-like"):
        frames.as_bytes(value, "payload")  # type: ignore[arg-type]
