"""What a client of a mount and its server send each other: frames, made and checked; pure."""

import errno
from collections.abc import Callable
from struct import Struct
from typing import Final, NamedTuple

Bytes = bytes | bytearray | memoryview

WANTS_REPLY: Final = 1
ADJUSTABLE: Final = 2  # the room for the reply may grow (M022)
WITH_CHANNEL: Final = 4  # the descriptor that the reply goes to comes with the frame
WITH_FILE: Final = 8  # and that of the file with the second buffers (M030)

_BRINGS: Final = WITH_CHANNEL | WITH_FILE
_KNOWN: Final = WANTS_REPLY | ADJUSTABLE | WITH_CHANNEL | WITH_FILE

REQUEST_MARK: Final = 0x7071
REPLY_MARK: Final = 0x7072
_HANDLE_MARK: Final = 0x7073

# mark, flags, casts dropped since the last frame, time, channel, number of the request in its
# channel, room for the reply, sizes of the second buffers, opclass, optype, cookie, payload's size
_REQUEST: Final = Struct("=HHIqQIIIIiiQI")
# mark, number of the request in its channel, return value, bytes in the second buffer, payload's
# size
_REPLY: Final = Struct("=HIiII")
# mark, flags
_HANDLE: Final = Struct("=HH")
SIZE_LIMIT: Final = Struct("=I")
"""The largest payload of a mount, as its server tells it to the clients."""

REQUEST_HEAD: Final = _REQUEST.size
REPLY_HEAD: Final = _REPLY.size
HANDLE_SIZE: Final = _HANDLE.size

Frame = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int]
"""The fields without their names: a tuple of its own takes longer to make."""

pack_request: Final = _REQUEST.pack
unpack_request: Final[Callable[[bytes], Frame]] = _REQUEST.unpack_from
pack_reply: Final = _REPLY.pack
MOST: Final = 1 << 28
"""More than any system's sockets carry at once."""
NO_LIMIT: Final = 0xFFFF_FFFF
"""The room for a reply of a caller who names none."""


_new: Final = tuple.__new__  # a third of the time of the class's own, which is a Python function


class RequestFrame(NamedTuple):
    """A request on its way. The fields are the frame's, in its order."""

    mark: int
    flags: int
    dropped: int
    stamp: int
    channel: int
    number: int
    reply_room: int
    in_size: int
    out_size: int
    opclass: int
    optype: int
    cookie: int
    size: int


class Malformed(Exception):
    """The peer has sent what no client or server of this library sends."""


def as_bytes(value: Bytes, name: str) -> bytes:
    """`value` as bytes; a view of other items as the bytes in it."""
    if isinstance(value, bytes):
        return value
    try:
        return memoryview(value).tobytes()
    except TypeError:
        raise TypeError(f"{name} must be bytes-like, not {type(value).__name__}") from None


def read_request(data: bytes, max_size: int, descriptors: int) -> RequestFrame:
    """The head of a request that came with so many descriptors. Raises Malformed."""
    size = len(data) - REQUEST_HEAD
    if size < 0:
        raise Malformed("a request is cut short")
    frame: RequestFrame = _new(RequestFrame, _REQUEST.unpack_from(data))
    flags = frame.flags
    if frame.mark != REQUEST_MARK or flags & ~_KNOWN:
        raise Malformed("a request has unknown marks")
    if frame.size != size or size > max_size:
        raise Malformed("a request is larger than it may be, or than it says")
    if (flags & _BRINGS or descriptors) and descriptors != (
        bool(flags & WITH_CHANNEL) + bool(flags & WITH_FILE)
    ):
        raise Malformed("a request comes with other descriptors than it says")
    if flags and not flags & WANTS_REPLY:
        raise Malformed("a request without a reply has flags for one")
    return frame


def peek(data: bytes) -> tuple[int, int]:
    """When a request was queued, and its payload's size; what is malformed comes first."""
    if len(data) < REQUEST_HEAD:
        return 0, 0
    fields = _REQUEST.unpack_from(data)
    return fields[3], fields[-1]


def is_request(data: bytes, channel: int, number: int) -> bool:
    """Whether `data` is the request with this number in that channel."""
    return len(data) >= REQUEST_HEAD and _REQUEST.unpack_from(data)[4:6] == (channel, number)


Reply = tuple[int, int, bytes]
"""An answer: the errno or 0, how much of the second buffer was filled, the payload."""


def read_reply(data: bytes, number: int) -> Reply:
    """The reply to request `number`. Raises Malformed."""
    if len(data) < REPLY_HEAD:
        raise Malformed("a reply is cut short")
    mark, found, rv, out_count, size = _REPLY.unpack_from(data)
    if mark != REPLY_MARK or found != number or rv < 0 or size != len(data) - REPLY_HEAD:
        raise Malformed("a reply is larger than it may be, or no reply")
    return rv, out_count, data[REPLY_HEAD:]


def handle_frame(flags: int) -> bytes:
    return _HANDLE.pack(_HANDLE_MARK, flags)


def read_handle(data: bytes) -> int:
    """The flags of a connection that is handed over. Raises OSError EPROTO, EOFError."""
    if not data:
        raise EOFError("the other end is closed")
    if len(data) == HANDLE_SIZE:
        mark, flags = _HANDLE.unpack(data)
        if mark == _HANDLE_MARK and not flags & ~1:
            return int(flags)
    raise OSError(errno.EPROTO, "what came is not a connection to a mount")
