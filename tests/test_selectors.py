"""What a PortSelector has beyond the standard selectors, and its own ways to go wrong.

That it is like them is for the standard library's own tests to say: tests/stdlib.py.
"""

import asyncio
import errno
import gc
import os
import selectors as standard
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import portcompat
import portcompat.selectors
from portcompat import POLLIN, Port
from portcompat._registry import create_driver
from portcompat.abc import POLLER_FULL
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._threads import in_thread, waiting
from portcompat.selectors import EVENT_READ, EVENT_WRITE, DefaultSelector, PortSelector


@pytest.fixture
def selector(backend: str) -> Iterator[PortSelector]:
    with PortSelector(backend=backend) as selector:
        yield selector


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


Pair = tuple[socket.socket, socket.socket]


# The module


def test_it_has_every_public_name_of_the_standard_module() -> None:
    names = {
        name
        for name, value in vars(standard).items()
        if name[0] != "_" and getattr(value, "__module__", "selectors") == "selectors"
    } - {"math", "select", "sys"}
    assert {"EVENT_READ", "SelectorKey", "EpollSelector"} - names <= {"EpollSelector"}
    assert names <= set(portcompat.selectors.__all__) <= set(dir(portcompat.selectors))


def test_installed_it_is_what_asyncio_takes() -> None:
    former: object = standard.DefaultSelector
    portcompat.selectors.install()
    try:
        portcompat.selectors.install()
        found: object = standard.DefaultSelector
        assert found is PortSelector
        loop = asyncio.new_event_loop()
        assert isinstance(loop._selector, PortSelector)  # type: ignore[attr-defined]
        loop.close()
    finally:
        portcompat.selectors.uninstall()
    portcompat.selectors.uninstall()
    found = standard.DefaultSelector
    assert found is former is not PortSelector


def test_the_default_is_of_the_default_backend(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTCOMPAT_BACKEND", backend)
    with DefaultSelector() as selector:
        assert repr(selector) == f"<PortSelector {backend}>"
        assert selector.port.backend == backend
    assert repr(selector) == f"<PortSelector {backend} closed>"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"backend": 3}, TypeError),
        ({"backend": "nonesuch"}, ValueError),
        ({"port": "epoll"}, TypeError),
        ({"backend": "tests.scripted:ScriptedDriver"}, OSError),
    ],
)
def test_what_cannot_be_made_says_so(arguments: dict[str, str], error: type[Exception]) -> None:
    with pytest.raises(error):
        PortSelector(**arguments)  # type: ignore[arg-type]


def test_a_port_and_a_backend_are_one_too_many(backend: str) -> None:
    with Port(backend) as port, pytest.raises(ValueError, match="not both"):
        PortSelector(port=port, backend=backend)


@pytest.mark.parametrize(
    ("timeout", "error"),
    [(float("nan"), ValueError), (float("inf"), OverflowError), ("1", TypeError)],
)
def test_a_timeout_that_is_none_is_refused(
    selector: PortSelector, timeout: float, error: type[Exception]
) -> None:
    with pytest.raises(error):
        selector.select(timeout)
    assert selector.select(-1) == []


# Other threads


def test_a_registration_by_another_thread_is_seen_by_a_select_that_waits(
    selector: PortSelector, pair: Pair
) -> None:
    call = waiting(selector.select)
    key = selector.register(pair[0], EVENT_WRITE)
    assert call.result() == [(key, EVENT_WRITE)]


def test_a_change_by_another_thread_is_seen_by_a_select_that_waits(
    selector: PortSelector, pair: Pair
) -> None:
    selector.register(pair[0], EVENT_READ)
    call = waiting(selector.select)
    key = selector.modify(pair[0], EVENT_WRITE)
    assert call.result() == [(key, EVENT_WRITE)]


def test_what_another_thread_unregisters_does_not_end_a_wait(
    selector: PortSelector, pair: Pair
) -> None:
    selector.register(pair[0], EVENT_READ)
    call = waiting(selector.select)
    selector.unregister(pair[0])
    pair[1].send(b"x")
    call.at_rest()
    selector.wakeup()
    assert call.result() == []


def test_a_regular_file_that_another_thread_registers_ends_a_wait(
    selector: PortSelector, tmp_path: Path
) -> None:
    call = waiting(selector.select)
    with open(tmp_path / "file", "wb") as file:
        key = selector.register(file, EVENT_WRITE)
        assert call.result() == [(key, EVENT_WRITE)]


def test_a_wake_up_ends_this_select_or_the_next(selector: PortSelector) -> None:
    call = waiting(selector.select)
    selector.wakeup()
    assert call.result() == []
    selector.wakeup()
    selector.wakeup()
    assert selector.select(SOON) == []
    start = time.monotonic()
    assert selector.select(0.02) == []
    assert time.monotonic() - start >= 0.02


def test_a_select_that_waits_ends_when_the_selector_is_closed(backend: str) -> None:
    selector = PortSelector(backend=backend)
    call = waiting(selector.select)
    selector.close()
    try:
        assert call.result() == []
    except (ValueError, OSError):
        pass


def test_its_driver_is_not_closed_while_somebody_is_in_it(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    selector = PortSelector(backend=backend)
    driver = selector._driver
    wake, close = driver.wake, driver.close
    inside: list[bool] = []

    def note_and_close() -> None:
        inside.append(selector._selecting)
        close()

    call = waiting(selector.select)
    monkeypatch.setattr(driver, "wake", lambda: None)
    monkeypatch.setattr(driver, "close", note_and_close)
    selector.close()
    call.at_rest()
    assert inside == []
    wake()
    call.result()
    assert inside
    assert not any(inside)


class Unhappy(KeyError):
    """What a signal handler raises; the table is a dict."""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no alarms")
@pytest.mark.parametrize("error", [Unhappy, InterruptedError])
def test_what_a_signal_handler_raises_comes_out_but_what_ends_standard_selects_too(
    selector: PortSelector, error: type[Exception]
) -> None:
    def handle(number: int, frame: object) -> None:
        raise error

    former = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        if error is InterruptedError:
            assert selector.select(SOON) == []
        else:
            with pytest.raises(error):
                selector.select(SOON)
    finally:
        signal.signal(signal.SIGALRM, former)
    assert selector.select(0) == []


# Regular files


@pytest.mark.parametrize(
    ("timeout", "error"), [(float("nan"), ValueError), (float("inf"), OverflowError)]
)
def test_a_wrong_timeout_is_refused_while_a_file_is_ready_too(
    selector: PortSelector, tmp_path: Path, timeout: float, error: type[Exception]
) -> None:
    with (tmp_path / "file").open("wb") as file:
        selector.register(file, EVENT_WRITE)
        with pytest.raises(error):
            selector.select(timeout)


def test_a_regular_file_is_always_ready(selector: PortSelector, pair: Pair, tmp_path: Path) -> None:
    selector.register(pair[0], EVENT_READ)
    with open(tmp_path / "file", "w+b") as file:
        key = selector.register(file, EVENT_READ | EVENT_WRITE)
        for _ in range(3):
            assert selector.select() == [(key, EVENT_READ | EVENT_WRITE)]
        key = selector.modify(file, EVENT_READ)
        assert selector.select() == [(key, EVENT_READ)]
        pair[1].send(b"x")
        assert len(selector.select()) == 2
        selector.unregister(pair[0])
    assert selector.select(0) == []  # it is closed
    assert selector.unregister(file) == key
    selector.register(pair[0], EVENT_READ)
    assert [key.fileobj for key, _ in selector.select()] == [pair[0]]


# The port


def test_an_event_of_the_port_ends_a_select_and_is_kept(selector: PortSelector, pair: Pair) -> None:
    assert selector.events() == []
    port = selector.port
    assert port is selector.port
    call = waiting(selector.select)
    port.send(7, "message")
    assert call.result() == []
    key = selector.register(pair[0], EVENT_WRITE)
    assert selector.select() == [(key, EVENT_WRITE)]
    selector.modify(pair[0], EVENT_READ)
    assert selector.select() == []  # for as long as it is there
    assert [(event.events, event.user) for event in selector.events()] == [(7, "message")]
    assert selector.events() == []
    start = time.monotonic()
    assert selector.select(0.02) == []
    assert time.monotonic() - start >= 0.02


def test_a_timer_and_a_descriptor_of_the_port_end_a_select(
    selector: PortSelector, pair: Pair
) -> None:
    with selector.port.timer(user="timer") as timer:
        timer.set(after=0.01)
        assert selector.select(SOON) == []
        assert [event.user for event in selector.events()] == ["timer"]
    selector.port.associate(pair[0], POLLIN, "descriptor")
    call = waiting(selector.select)
    pair[1].send(b"x")
    assert call.result() == []
    assert [event.user for event in selector.events()] == ["descriptor"]


def test_a_port_that_was_given_stays_open(backend: str) -> None:
    with Port(backend) as port:
        with PortSelector(port=port) as selector:
            assert selector.port is port
            port.send(1)
            assert selector.select(SOON) == []
        assert port.get(0).events == 1
    assert PortSelector(backend=backend).port.closed is False


def test_the_port_that_it_made_is_closed_with_it(backend: str) -> None:
    selector = PortSelector(backend=backend)
    port = selector.port
    selector.close()
    assert port.closed


def test_its_own_port_cannot_be_registered(selector: PortSelector) -> None:
    with pytest.raises(ValueError, match="own port"):
        selector.register(selector.port, EVENT_READ)


def test_the_number_of_a_port_that_was_closed_can_be_registered(
    selector: PortSelector, pair: Pair
) -> None:
    number = selector.port.fileno()
    selector.port.close()
    os.dup2(pair[0].fileno(), number)
    try:
        key = selector.register(number, EVENT_WRITE)
        assert selector.select(SOON) == [(key, EVENT_WRITE)]
        selector.unregister(number)
    finally:
        os.close(number)


# Descriptors that are closed


def test_what_was_closed_is_not_told_and_can_be_unregistered(
    selector: PortSelector, pair: Pair
) -> None:
    pair[1].send(b"x")
    key = selector.register(pair[0], EVENT_READ)
    assert selector.select(0) == [(key, EVENT_READ)]
    pair[0].close()
    assert selector.select(0) == []
    assert selector.unregister(pair[0]) == key
    with pytest.raises(KeyError):
        selector.get_key(key.fd)


def test_a_number_that_means_another_file_cannot_be_modified(
    selector: PortSelector, pair: Pair
) -> None:
    near, _ = pair
    number = os.dup(near.fileno())
    selector.register(number, EVENT_READ)
    reader, writer = os.pipe()
    os.dup2(reader, number)
    try:
        with pytest.raises(OSError) as error:
            selector.modify(number, EVENT_WRITE)
        assert error.value.errno == errno.ENOENT
        assert number not in selector.get_map()
        selector.register(number, EVENT_READ)
        os.write(writer, b"x")
        assert len(selector.select(SOON)) == 1
    finally:
        for descriptor in (reader, writer, number):
            os.close(descriptor)


def test_the_next_owner_of_a_number_gets_nothing_of_the_last(
    selector: PortSelector, pair: Pair
) -> None:
    for number in range(5):
        key = selector.register(pair[0], EVENT_WRITE, number)
        assert selector.select() == [(key, EVENT_WRITE)]
        assert selector.unregister(pair[0]).data == number
        assert selector._results == {}


def test_a_report_that_nobody_has_a_key_for_comes_once(selector: PortSelector, pair: Pair) -> None:
    fd = pair[0].fileno()
    selector._driver.arm(fd, POLLIN, fd, portcompat.Trigger.LEVEL)
    pair[1].send(b"x")
    assert selector.select(SOON) == []
    start = time.monotonic()
    assert selector.select(0.02) == []
    assert time.monotonic() - start >= 0.02


# Many


def test_a_select_tells_of_all_that_is_ready(
    backend: str, scale: Callable[[int, int, int], int]
) -> None:
    if "any-descriptor" not in create_features(backend):
        pytest.skip("so many descriptors cannot be had")
    count = scale(POLLER_FULL + 10, 3 * POLLER_FULL, 3 * POLLER_FULL)
    reader, writer = os.pipe()
    copies = []
    try:
        os.write(writer, b"x")
        with PortSelector(backend=backend) as selector:
            for _ in range(count):
                try:
                    copies.append(os.dup(reader))
                except OSError:
                    pytest.skip("the limit of descriptors is too low")
                selector.register(copies[-1], EVENT_READ)
            for _ in range(2):
                found = selector.select()
                assert sorted(key.fd for key, _ in found) == sorted(copies)
    finally:
        for descriptor in (reader, writer, *copies):
            os.close(descriptor)


def create_features(backend: str) -> frozenset[str]:
    driver = create_driver(backend)
    driver.close()
    return driver.features


# Its life


def test_a_selector_that_is_dropped_gives_back_its_descriptors(backend: str) -> None:
    def descriptors() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("nobody tells how many descriptors are open")
    before = descriptors()
    for _ in range(3):
        assert PortSelector(backend=backend).port.pending() == 0
    assert descriptors() == before


def test_a_closed_selector_says_so(backend: str, pair: Pair) -> None:
    selector = PortSelector(backend=backend)
    selector.close()
    selector.close()
    selector.wakeup()
    for call in (selector.select, selector.events, lambda: selector.port):
        with pytest.raises(ValueError, match="closed"):
            call()
    with pytest.raises(RuntimeError):
        selector.get_key(pair[0])
    with pytest.raises(ValueError, match="closed"):
        selector.register(pair[0], EVENT_READ)


def test_its_descriptor_is_readable_when_a_select_would_not_wait(
    selector: PortSelector, pair: Pair, tmp_path: Path
) -> None:
    if not hasattr(selector, "fileno"):
        with pytest.raises(AttributeError, match="passive-fileno"):
            selector.fileno()
        return
    with Port() as port, open(tmp_path / "file", "wb") as file:

        def readable() -> bool:
            port.associate(selector, POLLIN)
            return bool(port.getn(1, 1, 0))

        assert not readable()
        selector.register(pair[0], EVENT_READ)
        assert not readable()
        pair[1].send(b"x")
        assert readable()
        pair[0].recv(1)
        assert not readable()
        selector.register(file, EVENT_READ)
        assert readable()
        selector.unregister(file)
        selector.select(0)
        assert not readable()
        selector.port.send(1)
        assert readable()


def test_selecting_threads_see_what_others_register_and_unregister(
    selector: PortSelector, scale: Callable[[int, int, int], int]
) -> None:
    """A stress of the table: each result is of a key that was registered for that socket."""
    rounds = scale(300, 3000, 30000)
    pairs = [socket.socketpair() for _ in range(4)]
    wrong: list[object] = []
    over: list[bool] = []

    def select() -> None:
        while not over:
            for key, events in selector.select(1):
                if key.data[0] is not key.fileobj or events & ~key.events:
                    wrong.append((key, events))

    def change() -> None:
        for number in range(rounds):
            near, far = pairs[number % 4]
            selector.register(near, EVENT_READ | EVENT_WRITE, (near, number))
            far.send(b"x")
            selector.modify(near, EVENT_READ, (near, -number))
            near.recv(1)
            selector.unregister(near)

    try:
        call = in_thread(select)
        in_thread(change).result(50)
        over.append(True)
        selector.wakeup()
        call.result(50)
    finally:
        for near, far in pairs:
            near.close()
            far.close()
    assert wrong == []
    assert len(selector._results) == 0
    assert len(selector.get_map()) == 0
