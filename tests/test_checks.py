"""What the arguments of every call may be."""

import errno
import math
import socket
from decimal import Decimal
from fractions import Fraction

import pytest

from portcompat import EBADFD
from portcompat._checks import as_count, as_descriptor, as_int, as_size, as_timeout


class Index:
    def __index__(self) -> int:
        return 5


@pytest.mark.parametrize("value", [5, True + 4, Index()])
def test_what_has_an_index_is_an_int(value: int) -> None:
    assert as_int(value, "events") == 5


@pytest.mark.parametrize("value", [1.0, "1", None, b"1", Decimal(1)])
def test_what_has_no_index_is_a_type_error(value: int) -> None:
    with pytest.raises(TypeError, match="events must be an int, not "):
        as_int(value, "events")


@pytest.mark.parametrize("value", [2**31 - 1, -(2**31)])
def test_the_ends_of_a_c_int_are_ints(value: int) -> None:
    assert as_int(value, "events") == value


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 10**100])
def test_what_fits_no_c_int_is_a_value_error(value: int) -> None:
    with pytest.raises(ValueError, match="events must fit a C int"):
        as_int(value, "events")


@pytest.mark.parametrize("value", [0, -1])
def test_a_count_is_at_least_one(value: int) -> None:
    with pytest.raises(ValueError, match="max_events must be at least 1"):
        as_count(value, "max_events")


def test_a_size_is_clamped() -> None:
    assert as_size(10**100, "max") == 2**31 - 1


def test_a_negative_size_is_einval() -> None:
    with pytest.raises(OSError, match="max must not be negative") as error:
        as_size(-1, "max")
    assert error.value.errno == errno.EINVAL


def test_what_has_a_fileno_is_a_descriptor() -> None:
    with socket.socket() as end:
        assert as_descriptor(end) == as_descriptor(end.fileno()) == end.fileno()


@pytest.mark.parametrize("value", [-1, 2**31, 10**100])
def test_a_number_that_no_descriptor_has_is_ebadfd(value: int) -> None:
    with pytest.raises(OSError, match="is not open") as error:
        as_descriptor(value)
    assert error.value.errno == EBADFD


def test_a_closed_object_is_ebadfd() -> None:
    with open("/dev/null") as file:
        pass
    for closed in (file, socket.socket()):
        closed.close()
        with pytest.raises(OSError, match=r"is closed|is not open") as error:
            as_descriptor(closed)
        assert error.value.errno == EBADFD


@pytest.mark.parametrize("value", [None, "5", 5.0])
def test_what_has_no_fileno_is_a_type_error(value: int) -> None:
    with pytest.raises(TypeError, match="object must be a descriptor or have a fileno"):
        as_descriptor(value)


def test_a_fileno_that_is_no_int_is_a_type_error() -> None:
    class Odd:
        def fileno(self) -> int:
            return "5"  # type: ignore[return-value]

    with pytest.raises(TypeError, match="must return an int, not str"):
        as_descriptor(Odd())


@pytest.mark.parametrize("value", [2, 2.0, Fraction(2), Decimal(2)])
def test_a_timeout_is_any_number_of_seconds(value: float) -> None:
    assert as_timeout(value) == 2.0


def test_an_infinite_timeout_is_none() -> None:
    assert as_timeout(math.inf) is None


@pytest.mark.parametrize("value", [math.nan, -1, -1e-300, -math.inf, -(10**400)])
def test_a_negative_timeout_and_nan_are_einval(value: float) -> None:
    with pytest.raises(OSError, match="timeout must not be negative or NaN") as error:
        as_timeout(value)
    assert error.value.errno == errno.EINVAL


@pytest.mark.parametrize("value", [1e300, 10**30])
def test_a_timeout_beyond_every_clock_is_clamped(value: float) -> None:
    clamped = as_timeout(value)
    assert clamped is not None
    assert 10**9 < clamped < 10**10


@pytest.mark.parametrize("value", ["1", b"1", bytearray(b"1"), [1], 1j])
def test_a_timeout_that_is_no_number_is_a_type_error(value: float) -> None:
    with pytest.raises(TypeError, match="timeout must be a number of seconds"):
        as_timeout(value)
