"""The C names, beyond what the conformance suite can see of them."""

import errno
import os
from collections.abc import Callable, Iterator

import pytest

from portcompat import (
    Port,
    _functions,
    limits,
    port_close,
    port_create,
    port_get,
    port_send,
    port_sendn,
)
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._fork import in_fork_child
from portcompat.conformance._threads import Call, in_thread
from tests.locks import held_elsewhere


@pytest.fixture
def number(backend: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setenv("PORTCOMPAT_BACKEND", backend)
    number = port_create()
    yield number
    port_close(number)


def use_a_port() -> None:
    before = limits.ports
    own = port_create()
    port_send(own, 1)
    assert port_get(own, SOON).events == 1
    port_close(own)
    assert limits.ports == before


def test_the_list_of_descriptors_is_not_taken_for_what_the_number_of_a_closed_port_is_now(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTCOMPAT_BACKEND", backend)
    number = port_create()
    senders: list[Call[None]] = []
    listdir = os.listdir

    def list_under_that_number(path: str) -> list[str]:
        listing = os.open(path, os.O_RDONLY)
        if listing != number:
            os.dup2(listing, number)
            os.close(listing)
        try:
            senders.append(in_thread(lambda: port_send(number, 1)))
            senders[0].at_rest()
            return listdir(path)
        finally:
            os.close(number)

    monkeypatch.setattr(os, "listdir", list_under_that_number)
    port_close(number)
    with pytest.raises(OSError, match="not open") as error:
        senders[0].result()
    assert error.value.errno == errno.EBADF


def close_with_os_close_and_ask(number: int) -> None:
    os.close(number)
    with pytest.raises(OSError, match="not open"):
        port_send(number, 1)


def close_twice(number: int) -> None:
    os.close(number)
    with pytest.raises(OSError, match="not open"):
        port_close(number)


@pytest.mark.parametrize("end", [port_close, close_with_os_close_and_ask, close_twice])
def test_nothing_is_locked_while_a_port_is_closed_and_waits_for_its_threads(
    backend: str, monkeypatch: pytest.MonkeyPatch, end: Callable[[int], None]
) -> None:
    monkeypatch.setenv("PORTCOMPAT_BACKEND", backend)
    number = port_create()
    locked: list[bool] = []
    close = Port.close

    def is_locked() -> bool:
        if not _functions._closing.acquire(blocking=False):
            return True
        _functions._closing.release()
        return False

    def look_and_close(port: Port) -> None:
        locked.append(in_thread(is_locked).result())
        close(port)

    monkeypatch.setattr(Port, "close", look_and_close)
    end(number)
    assert locked == [False]


def test_without_a_file_to_hold_its_place_a_port_has_another_number(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTCOMPAT_BACKEND", backend)
    monkeypatch.setattr(os, "devnull", "/there/is/none")
    use_a_port()


@pytest.mark.usefixtures("number")
def test_a_child_can_close_ports_whatever_was_being_closed_at_the_fork() -> None:
    with held_elsewhere(_functions._closing):
        in_fork_child(use_a_port)


def test_a_port_of_the_parent_is_ebadf_in_a_child_and_says_why_each_time(number: int) -> None:
    def child() -> None:
        for _ in range(2):
            for call in (port_close, lambda port: port_send(port, 1), lambda port: port_get(port)):
                with pytest.raises(OSError, match="does not survive fork") as error:
                    call(number)
                assert error.value.errno == errno.EBADF
            assert port_sendn([number], 1) == (0, [errno.EBADF])

    in_fork_child(child)


def test_a_child_may_use_the_number_of_a_port_of_the_parent_again(number: int) -> None:
    def child() -> None:
        os.close(number)
        assert port_create() == number
        port_send(number, 2)
        assert port_get(number, 0).events == 2
        port_close(number)
        assert limits.ports == 0

    in_fork_child(child)
    port_send(number, 1)
    assert port_get(number, 0).events == 1
