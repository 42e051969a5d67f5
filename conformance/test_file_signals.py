"""File events and signals: handlers that send, associate and raise while a port waits for files."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from portcompat import FILE_MODIFIED, FileObject, Port, PortTimeout
from portcompat.conformance import rule
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._errors import errno_of
from portcompat.conformance._files import CHANGED, Happened, told, watch, write
from portcompat.conformance._interruptions import at_each_step

if not hasattr(signal, "setitimer"):
    pytest.skip("this host has no interval timer that sends signals", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("file_watcher")

OnAlarm = Callable[[Callable[[], object]], None]


class Interrupted(Exception):
    """What a handler raises."""


@pytest.fixture
def on_alarm() -> Iterator[OnAlarm]:
    """Call something on SIGALRM, soon and then again and again."""

    def start(handle: Callable[[], object]) -> None:
        signal.signal(signal.SIGALRM, lambda *_: handle())
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)

    former = signal.getsignal(signal.SIGALRM)
    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, former)


@rule("R134", "R199")
def test_a_handler_that_changes_the_file_wakes_who_waits_for_it(
    port: Port, file: Path, on_alarm: OnAlarm
) -> None:
    watch(port, file, FILE_MODIFIED, "user")
    on_alarm(lambda: write(file))
    assert told([port.get(SOON)]) == [("user", FILE_MODIFIED)]


@rule("R066", "R199")
def test_a_handler_that_sends_wakes_who_waits_for_a_file(
    port: Port, file: Path, on_alarm: OnAlarm
) -> None:
    watch(port, file, FILE_MODIFIED, "user")
    on_alarm(lambda: port.send(0, "handler's"))
    assert port.get(SOON).user == "handler's"


@rule("R134", "R199")
def test_a_handler_that_raises_consumes_nothing(
    port: Port, file: Path, happened: Happened, on_alarm: OnAlarm
) -> None:
    watch(port, file, CHANGED, "user")

    def interrupt() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        write(file)
        raise Interrupted

    on_alarm(interrupt)
    with pytest.raises((Interrupted, PortTimeout)):
        # The file may be told before the handler's exception comes out; then it was retrieved.
        event = port.get(SOON)
        assert told([event]) == [("user", CHANGED)]
        port.send(0, "told")
        raise Interrupted
    users = [event.user for event in happened(port)]
    assert users in (["user"], ["told"])


@rule("R066", "R199", "R212")
def test_a_send_at_any_step_of_a_call_on_files_is_not_lost(
    port: Port, file: Path, happened: Happened
) -> None:
    watched = FileObject.stat(file)
    sent = 0
    for interruption in at_each_step(lambda: port.send(0, "sent")):
        with interruption.at_work():
            port.associate(watched, CHANGED, "file")
        with interruption.at_work():
            port.dissociate(watched)
        sent += interruption.reached
    assert [event.user for event in happened(port)] == ["sent"] * sent
    assert sent > 10


@rule("R134", "R214")
def test_what_raises_at_any_step_of_an_association_leaves_the_port_sound(
    port: Port, file: Path, happened: Happened
) -> None:
    def interrupt() -> None:
        raise Interrupted

    steps = 0
    for turn, interruption in enumerate(at_each_step(interrupt)):
        watched = FileObject.stat(file)
        try:
            with interruption.at_work():
                port.associate(watched, CHANGED, turn)
        except Interrupted:
            steps += 1
        write(file)
        # Associated or not, but not twice, and not half.
        found = told(happened(port))
        assert found in ([], [(turn, CHANGED)])
        assert errno_of(port.dissociate, watched) is not None
    assert steps > 10
    watch(port, file, CHANGED, "last")
    write(file)
    assert told(happened(port)) == [("last", CHANGED)]


@rule("R134", "R214", "R085")
def test_what_raises_at_any_step_of_a_retrieval_loses_no_event(
    port: Port, file: Path, happened: Happened
) -> None:
    def interrupt() -> None:
        raise Interrupted

    steps = 0
    for turn, interruption in enumerate(at_each_step(interrupt)):
        watch(port, file, CHANGED, turn)
        write(file)
        found = []
        try:
            with interruption.at_work():
                found = port.getn(4, 1, SOON)
        except Interrupted:
            steps += 1
        assert told(found + happened(port)) == [(turn, CHANGED)]
    assert steps > 10
