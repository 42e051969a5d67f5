"""What a user may pass: each argument is checked once, here, and an error says what to do."""

import errno
import math
import os
from operator import index
from typing import Protocol, SupportsFloat, SupportsIndex

from portcompat._constants import EBADFD, Trigger

INT_MAX = 0x7FFF_FFFF
INT_MIN = -0x8000_0000
_LONG = 2.0**31  # seconds: 68 years


class HasFileno(Protocol):
    """A socket, a file, a Port: whatever has a descriptor."""

    def fileno(self) -> int: ...


def as_int(value: SupportsIndex, name: str) -> int:
    """`value` as a C int. Raises TypeError for another type, ValueError if it is too large."""
    try:
        number = index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, not {type(value).__name__}") from None
    if not INT_MIN <= number <= INT_MAX:
        raise ValueError(f"{name} must fit a C int ({INT_MIN} to {INT_MAX}), not {number}")
    return number


def as_count(value: SupportsIndex, name: str) -> int:
    """`value` as a number of things, 1 to INT_MAX."""
    number = as_int(value, name)
    if number < 1:
        raise ValueError(f"{name} must be at least 1, not {number}")
    return number


def as_size(value: SupportsIndex, name: str) -> int:
    """`value` as an unsigned count that a wait is given: EINVAL below 0, clamped above (R132)."""
    try:
        number = index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, not {type(value).__name__}") from None
    if number < 0:
        raise OSError(errno.EINVAL, f"{name} must not be negative, and is {number}")
    return min(number, INT_MAX)


def as_descriptor(value: int | HasFileno) -> int:
    """The descriptor number of an int or of anything with a fileno().

    Raises TypeError for anything else and OSError EBADFD for a number that no descriptor can
    have, or an object that is closed (R090).
    """
    try:
        number = index(value)  # type: ignore[arg-type]
    except TypeError:
        number = _fileno(value)  # type: ignore[arg-type]
    if not 0 <= number <= INT_MAX:
        raise OSError(EBADFD, f"descriptor {number} is not open")
    return number


def _fileno(value: HasFileno) -> int:
    try:
        method = value.fileno
    except AttributeError:
        raise TypeError(
            f"object must be a descriptor or have a fileno(), not {type(value).__name__}"
        ) from None
    try:
        number = method()
    except ValueError as error:  # what a closed file says
        raise OSError(EBADFD, f"{value!r} is closed") from error
    if not isinstance(number, int):
        raise TypeError(f"fileno() must return an int, not {type(number).__name__}")
    return number


def as_trigger(value: SupportsIndex) -> Trigger:
    """`value` as a Trigger. Raises TypeError for another type, ValueError for another number."""
    number = as_int(value, "trigger")
    try:
        return Trigger(number)
    except ValueError:
        raise ValueError(
            f"trigger must be Trigger.ONESHOT, LEVEL or EDGE (0 to 2), not {number}"
        ) from None


def as_path(value: object) -> bytes:
    """The name of a file as the system has it, absolute: a relative one is resolved now (R199).

    Raises TypeError for what is no name, ValueError for one that no file can have, OSError ENOENT
    for an empty one (R202).
    """
    if not isinstance(value, str | bytes | os.PathLike):
        raise TypeError(f"name must be str, bytes or os.PathLike, not {type(value).__name__}")
    path = os.fsencode(value)
    if not path:
        raise OSError(errno.ENOENT, "the name of the file is empty")
    if b"\0" in path:
        raise ValueError(f"name must not have a null character in it: {value!r}")
    return path if os.path.isabs(path) else os.path.join(os.getcwdb(), path)


def as_stamp(value: object, name: str) -> int:
    """`value` as nanoseconds since the epoch."""
    try:
        return index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(
            f"{name} must be an int, nanoseconds since 1970, not {type(value).__name__}"
        ) from None


def as_timeout(value: SupportsFloat | SupportsIndex) -> float | None:
    """`value` seconds as a span to wait, None for ever.

    Raises TypeError for what is no number and OSError EINVAL for NaN and negative spans (R129).
    Infinity is None, and what no clock can hold is clamped.
    """
    if isinstance(value, str | bytes | bytearray):
        raise TypeError(f"timeout must be a number of seconds, not {type(value).__name__}")
    try:
        seconds = float(value)
    except TypeError:
        raise TypeError(
            f"timeout must be a number of seconds or None, not {type(value).__name__}"
        ) from None
    except OverflowError:  # an int beyond every float
        seconds = math.inf if value > 0 else -math.inf  # type: ignore[operator]
    if not seconds >= 0:  # so written because NaN compares false
        raise OSError(errno.EINVAL, f"timeout must not be negative or NaN, and is {value}")
    if seconds == math.inf:
        return None
    return min(seconds, _LONG)
