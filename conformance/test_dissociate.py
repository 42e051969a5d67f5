"""port_dissociate(3C)."""

import errno
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from portcompat import (
    EBADFD,
    POLLIN,
    POLLOUT,
    PORT_SOURCE_FD,
    Port,
    PortEvent,
    port_associate,
    port_dissociate,
    port_getn,
)
from portcompat.conformance import rule
from portcompat.conformance._descriptors import A_WHILE, SOON, closed_number, pipe, socket_pair
from portcompat.conformance._errors import WRONG_SOURCES, errno_of

MakePort = Callable[..., Port]

INT_MAX = 0x7FFF_FFFF


@rule("R053", "R119")
def test_what_has_not_fired_is_removed(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN)
        assert errno_of(port.dissociate, ours) is None
        theirs.send(b"x")
        assert port.pending() == 0
        assert port.getn(2, 1, A_WHILE) == []


@rule("R119")
def test_it_returns_nothing(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.associate(ours, POLLIN)
        assert port.dissociate(ours) is None  # type: ignore[func-returns-value]


@rule("R053", "R120")
def test_an_event_not_retrieved_is_removed_too(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.associate(ours, POLLOUT)
        assert port.pending() == 1
        assert errno_of(port.dissociate, ours) is None
        assert port.pending() == 0
        assert port.getn(2, 1, A_WHILE) == []


@rule("R120")
def test_an_event_is_removed_from_among_others(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.send(1)
        port.associate(ours, POLLOUT)
        port.send(2)
        port.associate(theirs, POLLOUT)
        port.send(3)
        port.dissociate(ours)
        assert port.pending() == 4
        assert [event.object or event.events for event in port.getn(8, 4, SOON)] == [
            1,
            2,
            theirs.fileno(),
            3,
        ]


@rule("R108", "R121")
def test_after_retrieval_it_is_enoent(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.associate(ours, POLLOUT)
        port.get(SOON)
        assert errno_of(port.dissociate, ours) == errno.ENOENT
        assert errno_of(port.dissociate, ours) == errno.ENOENT


@rule("R079", "R121")
def test_after_retrieval_it_frees_the_slot_all_the_same(make_port: MakePort) -> None:
    port = make_port(max_events=1)
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLOUT)
        port.get(SOON)
        assert errno_of(port.dissociate, ours) == errno.ENOENT
        port.associate(theirs, POLLOUT)
        assert port.get(SOON).object == theirs.fileno()


@rule("R121")
def test_one_associated_again_after_retrieval_is_removed(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLOUT)
        port.get(SOON)
        port.associate(ours, POLLIN)
        assert errno_of(port.dissociate, ours) is None
        theirs.send(b"x")
        assert port.getn(2, 1, A_WHILE) == []


@rule("R122")
def test_the_second_time_it_is_enoent(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.associate(ours, POLLIN)
        assert errno_of(port.dissociate, ours) is None
        assert errno_of(port.dissociate, ours) == errno.ENOENT


@rule("R118")
def test_on_a_port_without_associations_it_is_enoent(port: Port) -> None:
    with socket_pair() as (ours, _):
        assert errno_of(port.dissociate, ours) == errno.ENOENT


@rule("R118")
def test_on_a_port_without_associations_a_closed_object_is_enoent(port: Port) -> None:
    assert errno_of(port.dissociate, closed_number()) == errno.ENOENT


@rule("R118", "R122")
def test_an_open_object_never_associated_is_enoent(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN)
        assert errno_of(port.dissociate, theirs) == errno.ENOENT


@rule("R065", "R118")
def test_a_closed_object_is_ebadfd_once_the_port_has_associations(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.associate(ours, POLLIN)
        assert errno_of(port.dissociate, closed_number()) == EBADFD


@rule("R065", "R118")
def test_a_closed_object_is_ebadfd_once_the_port_has_had_associations(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.associate(ours, POLLIN)
        port.dissociate(ours)
        assert errno_of(port.dissociate, closed_number()) == EBADFD


@rule("R112", "R118")
def test_an_object_closed_since_its_association_is_ebadfd(port: Port) -> None:
    with socket_pair() as (ours, _):
        number = ours.fileno()
        port.associate(number, POLLIN)
        ours.close()
        assert errno_of(port.dissociate, number) == EBADFD
        assert errno_of(port.dissociate, number) == EBADFD


@rule("R118")
@pytest.mark.parametrize("wild", [-1, -0x8000_0000, INT_MAX + 1, 2**64 - 1, 2**200])
def test_an_object_that_no_descriptor_can_be_is_ebadfd(port: Port, wild: int) -> None:
    assert errno_of(port.dissociate, wild) == EBADFD


@rule("R118")
def test_a_closed_socket_is_ebadfd(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.associate(ours, POLLIN)
        ours.close()
        assert errno_of(port.dissociate, ours) == EBADFD


@rule("R118")
def test_a_closed_file_is_ebadfd(port: Port) -> None:
    with pipe() as (reader, _):
        port.associate(reader, POLLIN)
        reader.close()
        assert errno_of(port.dissociate, reader) == EBADFD


@rule("R053", "R064")
def test_a_closed_port_is_ebadf(make_port: MakePort) -> None:
    port = make_port()
    with socket_pair() as (ours, _):
        port.associate(ours, POLLIN)
        port.close()
        assert errno_of(port.dissociate, ours) == errno.EBADF
        assert errno_of(port.dissociate, closed_number()) == errno.EBADF


@rule("R053", "R064", "R065")
def test_a_port_number_that_is_not_open_is_ebadf(backend: str) -> None:
    with pytest.raises(OSError) as caught:
        port_dissociate(closed_number(), PORT_SOURCE_FD, 0)
    assert caught.value.errno == errno.EBADF


@rule("R053", "R064", "R065")
def test_a_port_number_that_is_another_file_is_ebadfd(backend: str) -> None:
    with socket_pair() as (ours, theirs):
        with pytest.raises(OSError) as caught:
            port_dissociate(ours.fileno(), PORT_SOURCE_FD, theirs.fileno())
        assert caught.value.errno == EBADFD


@rule("R053", "R118", "R119")
def test_the_c_spelling_takes_port_source_object(number: int) -> None:
    with socket_pair() as (ours, _):
        port_associate(number, PORT_SOURCE_FD, ours.fileno(), POLLOUT, None)
        port_dissociate(number, PORT_SOURCE_FD, ours.fileno())
        assert port_getn(number, 0) == 0
        with pytest.raises(OSError) as caught:
            port_dissociate(number, PORT_SOURCE_FD, ours.fileno())
        assert caught.value.errno == errno.ENOENT


@rule("R053", "R122")
@pytest.mark.parametrize(
    "source",
    WRONG_SOURCES,
)
def test_a_source_that_takes_no_association_is_einval(number: int, source: int) -> None:
    with socket_pair() as (ours, _):
        port_associate(number, PORT_SOURCE_FD, ours.fileno(), POLLOUT, None)
        with pytest.raises(OSError) as caught:
            port_dissociate(number, source, ours.fileno())
        assert caught.value.errno == errno.EINVAL
        port_dissociate(number, PORT_SOURCE_FD, ours.fileno())  # it is associated still


@rule("R107", "R119")
def test_a_dup_keeps_its_association(port: Port) -> None:
    with socket_pair() as (ours, theirs), ours.dup() as double:
        port.associate(ours, POLLIN)
        port.associate(double, POLLIN, "dup")
        port.dissociate(ours)
        theirs.send(b"x")
        assert port.getn(2, 1, SOON) == [
            PortEvent(PORT_SOURCE_FD, double.fileno(), POLLIN, "dup"),
        ]


@rule("R119")
def test_one_dissociated_can_be_associated_again(port: Port) -> None:
    with socket_pair() as (ours, theirs):
        for turn in range(10):
            port.associate(ours, POLLIN, turn)
            port.dissociate(ours)
        port.associate(ours, POLLIN, "last")
        theirs.send(b"x")
        assert [event.user for event in port.getn(2, 1, SOON)] == ["last"]


@rule("R119", "R120")
def test_associate_and_dissociate_tell_a_descriptor_from_none(port: Port) -> None:
    with pipe() as (reader, writer):
        for end in (reader, writer):
            port.associate(end, POLLIN)
            assert errno_of(port.dissociate, end) is None


@rule("R053")
@pytest.mark.parametrize("thing", [None, "0", 1.0, b"0", [], object()])
def test_an_object_of_another_type_is_a_type_error(port: Port, thing: Any) -> None:
    with pytest.raises(TypeError):
        port.dissociate(thing)


@rule("R119", "R120")
def test_the_user_is_let_go(port: Port) -> None:
    class Cookie:
        pass

    cookie = Cookie()
    reference = weakref.ref(cookie)
    with socket_pair() as (ours, _):
        port.associate(ours, POLLIN, cookie)
        del cookie
        gc.collect()
        assert reference() is not None
        port.dissociate(ours)
        gc.collect()
        assert reference() is None
