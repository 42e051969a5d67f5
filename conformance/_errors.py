"""What makes calls fail, and what they say then."""

from collections.abc import Callable
from typing import Any, Final

from portcompat import (
    PORT_SOURCE_AIO,
    PORT_SOURCE_ALERT,
    PORT_SOURCE_MQ,
    PORT_SOURCE_TIMER,
    PORT_SOURCE_USER,
)

WRONG_SOURCES: Final = [
    0,
    PORT_SOURCE_AIO,
    PORT_SOURCE_TIMER,
    PORT_SOURCE_USER,
    PORT_SOURCE_ALERT,
    PORT_SOURCE_MQ,
    8,
    -1,
    0x7FFF_FFFF,
]
"""Those that take no association (R089)."""


def errno_of(call: Callable[..., object], *arguments: Any, **named: Any) -> int | None:
    """The errno with which the call fails, or None."""
    try:
        call(*arguments, **named)
    except OSError as error:
        return error.errno
    return None
