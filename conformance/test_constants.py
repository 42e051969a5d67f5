"""Names and numbers: those of illumos, and the host's where programs use the host's own."""

import errno
import select

import pytest

import portcompat
from portcompat import EBADFD, ETIME, PORT_ALERT_UPDATE, Port, PortTimeout, sendn
from portcompat.conformance import rule
from portcompat.conformance._descriptors import socket_pair

SOURCES = {"AIO": 1, "TIMER": 2, "USER": 3, "FD": 4, "ALERT": 5, "MQ": 6, "FILE": 7}
ALERT_FLAGS = {"SET": 1, "UPDATE": 2, "INVALID": 3}
COMMON_POLL_BITS = {
    "POLLIN": 0x01,
    "POLLPRI": 0x02,
    "POLLOUT": 0x04,
    "POLLERR": 0x08,
    "POLLHUP": 0x10,
    "POLLNVAL": 0x20,
}
POLL_BITS = [
    *COMMON_POLL_BITS,
    *("POLLRDNORM", "POLLRDBAND", "POLLWRNORM", "POLLWRBAND", "POLLRDHUP"),
]


@rule("R001")
@pytest.mark.parametrize("name", SOURCES)
def test_sources_have_the_numbers_of_illumos(name: str) -> None:
    assert getattr(portcompat, f"PORT_SOURCE_{name}") == SOURCES[name]


@rule("R002")
@pytest.mark.parametrize("name", ALERT_FLAGS)
def test_alert_flags_have_the_numbers_of_illumos(name: str) -> None:
    assert getattr(portcompat, f"PORT_ALERT_{name}") == ALERT_FLAGS[name]


@rule("R003")
def test_the_list_size_is_that_of_illumos() -> None:
    assert portcompat.PORT_MAX_LIST == 8192


@rule("R017")
@pytest.mark.parametrize("name", COMMON_POLL_BITS)
def test_poll_bits_that_all_systems_share(name: str) -> None:
    assert getattr(portcompat, name) == COMMON_POLL_BITS[name]


@rule("R017", "R018", "R019", "R020")
@pytest.mark.skipif(not hasattr(select, "poll"), reason="this host has no poll(2)")
@pytest.mark.parametrize("name", POLL_BITS)
def test_poll_bits_are_the_hosts(name: str) -> None:
    assert getattr(portcompat, name) == getattr(select, name, 0)


@rule("R022", "R160")
def test_einval_has_the_hosts_number() -> None:
    with pytest.raises(OSError) as caught:
        sendn([], 0)
    assert caught.value.errno == errno.EINVAL


@rule("R022")
def test_ebadf_has_the_hosts_number(port: Port) -> None:
    port.close()
    with pytest.raises(OSError) as caught:
        port.get(0)
    assert caught.value.errno == errno.EBADF


@rule("R022")
def test_enoent_has_the_hosts_number(port: Port) -> None:
    with socket_pair() as (ours, _), pytest.raises(OSError) as caught:
        port.dissociate(ours)
    assert caught.value.errno == errno.ENOENT


@rule("R022")
def test_ebusy_has_the_hosts_number(port: Port) -> None:
    port.alert(1)
    with pytest.raises(OSError) as caught:
        port.alert(1, flags=PORT_ALERT_UPDATE)
    assert caught.value.errno == errno.EBUSY


@rule("R023")
@pytest.mark.parametrize(("name", "number"), [("EBADFD", EBADFD), ("ETIME", ETIME)])
def test_a_number_that_the_host_has_is_taken(name: str, number: int) -> None:
    assert number == getattr(errno, name, number)


@rule("R023")
@pytest.mark.parametrize(("name", "number"), [("EBADFD", EBADFD), ("ETIME", ETIME)])
def test_a_number_that_the_host_lacks_is_no_other_error(name: str, number: int) -> None:
    assert errno.errorcode.get(number, name) == name


@rule("R024")
def test_a_timeout_is_etime(port: Port) -> None:
    with pytest.raises(PortTimeout) as caught:
        port.get(0.001)
    assert caught.value.errno == ETIME


@rule("R024")
@pytest.mark.skipif(not hasattr(errno, "ETIMEDOUT"), reason="this host has no ETIMEDOUT")
def test_etime_is_not_etimedout() -> None:
    assert errno.ETIMEDOUT != ETIME


@rule("R024")
def test_a_timeout_is_a_timeout_error() -> None:
    assert issubclass(PortTimeout, TimeoutError)
