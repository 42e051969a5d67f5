"""Values of the message interface: requests, their flags, and where a mount is in its life."""

from enum import Enum, IntEnum, IntFlag
from typing import Final, NamedTuple

from portcompat import _msg_frames as frames

DEFAULT_MAX_SIZE: Final = 65536
"""The most payload bytes of a mount, if `mount` is not told."""


class State(Enum):
    """Where a mount is in its life (M050)."""

    EMBRYONIC = "embryonic"  # opened, not mounted
    MOUNTING = "mounting"  # requests are queued already, and not yet taken
    RUNNING = "running"
    DYING = "dying"  # closed, and its getops have not all returned
    DEAD = "dead"


class SizeOp(IntEnum):
    """The two directions of `Instance.sizeop`."""

    SIZEOP_IN = 1  # from the client to the server
    SIZEOP_OUT = 2  # from the server to the client


SIZEOP_IN: Final = SizeOp.SIZEOP_IN
SIZEOP_OUT: Final = SizeOp.SIZEOP_OUT


class Flags(IntFlag):
    """What is in the flags of a request."""

    WANTS_REPLY = frames.WANTS_REPLY
    ADJUSTABLE = frames.ADJUSTABLE  # the reply may be larger than the caller's buffer
    SECOND_BUFFER = frames.WITH_FILE  # there is something for `sizeop`


class Request(NamedTuple):
    """A request as the server takes it (M001).

    `id` rises by one for each request that wants a reply, from 1 on; it is 0 for one that wants
    none (M002). `flags` is a combination of `Flags`.
    """

    id: int
    opclass: int
    optype: int
    cookie: int
    payload: bytes
    flags: int
