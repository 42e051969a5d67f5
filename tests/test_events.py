"""What an event says of itself."""

import copy
import errno
import pickle

import pytest

from portcompat import (
    ETIME,
    POLLHUP,
    POLLIN,
    PORT_SOURCE_FD,
    PORT_SOURCE_USER,
    PortEvent,
    PortTimeout,
)


def test_an_event_is_a_tuple() -> None:
    source, number, events, user = PortEvent(PORT_SOURCE_USER, 0, 7, "me")
    assert (source, number, events, user) == (3, 0, 7, "me")


def test_a_descriptors_event_prints_the_names_of_its_bits() -> None:
    event = PortEvent(PORT_SOURCE_FD, 5, POLLIN | POLLHUP, None)
    assert repr(event) == (
        "PortEvent(source=PORT_SOURCE_FD, object=5, events=POLLIN|POLLHUP, user=None)"
    )


def test_a_message_prints_its_number() -> None:
    event = PortEvent(PORT_SOURCE_USER, 0, 1, "x")
    assert repr(event) == "PortEvent(source=PORT_SOURCE_USER, object=0, events=1, user='x')"


@pytest.mark.parametrize(("bits", "text"), [(0, "0x0"), (1 << 20, "0x100000")])
def test_bits_without_a_name_print_as_a_number(bits: int, text: str) -> None:
    assert f"events={text}," in repr(PortEvent(PORT_SOURCE_FD, 5, bits, None))


def test_a_source_without_a_name_prints_as_a_number() -> None:
    assert "source=99," in repr(PortEvent(99, 0, 0, None))


def test_an_event_survives_copy_and_pickle() -> None:
    event = PortEvent(PORT_SOURCE_USER, 0, 7, "me")
    for twin in (copy.copy(event), pickle.loads(pickle.dumps(event))):
        assert twin == event
        assert type(twin) is PortEvent


def test_a_timeout_has_the_number_etime() -> None:
    error = PortTimeout()
    assert isinstance(error, TimeoutError)
    assert error.errno == ETIME != errno.ETIMEDOUT
    assert str(error) == f"[Errno {ETIME}] no event within the timeout"
