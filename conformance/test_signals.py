"""Signals and finalizers: they interrupt a wait without ending it, and they may send."""

import gc
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest

from portcompat import POLLIN, POLLOUT, Port, PortEvent, PortTimeout, sendn
from portcompat.conformance import rule
from portcompat.conformance._descriptors import SOON, socket_pair
from portcompat.conformance._interruptions import uncollected
from portcompat.conformance._threads import in_thread, waiting

if not hasattr(signal, "setitimer"):
    pytest.skip("this host has no interval timer that sends signals", allow_module_level=True)

MakePort = Callable[..., Port]
Scale = Callable[[int, int, int], int]
OnAlarm = Callable[..., None]


class Interrupted(Exception):
    """What a handler raises."""


def ignore(*_: object) -> None:
    """What an alarm finds that comes after its test."""


@pytest.fixture(scope="module", autouse=True)
def late_alarms() -> Iterator[None]:
    former = signal.signal(signal.SIGALRM, ignore)
    yield
    signal.signal(signal.SIGALRM, former)


@pytest.fixture
def on_alarm() -> Iterator[OnAlarm]:
    """Call something on SIGALRM, `after` so many seconds and perhaps `every` so many.

    Python runs a handler between two steps of its own. A signal that comes after the last of them
    and before the kernel's wait begins is seen only when that wait ends, so to be sure to
    interrupt one it takes a second signal.
    """

    def start(handle: Callable[[], object], after: float = 0.05, every: float = 0) -> None:
        signal.signal(signal.SIGALRM, lambda *_: handle())
        signal.setitimer(signal.ITIMER_REAL, after, every)

    with uncollected():
        yield start
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, ignore)


def interrupt() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)
    raise Interrupted


@rule("R131", "R134")
@pytest.mark.parametrize("restart", [True, False], ids=["restart", "interrupt"])
def test_a_signal_does_not_end_a_wait(port: Port, on_alarm: OnAlarm, restart: bool) -> None:
    handled: list[float] = []
    on_alarm(lambda: handled.append(time.monotonic()))
    signal.siginterrupt(signal.SIGALRM, not restart)
    before = time.monotonic()
    with pytest.raises(PortTimeout):
        port.get(0.3)
    assert time.monotonic() - before >= 0.3
    assert len(handled) == 1


@rule("R134")
def test_the_handler_runs_during_the_wait(port: Port, on_alarm: OnAlarm) -> None:
    handled: list[float] = []
    on_alarm(lambda: handled.append(time.monotonic()))
    with pytest.raises(PortTimeout):
        port.get(1)
    assert time.monotonic() - handled[0] > 0.5


@rule("R131", "R134")
def test_many_signals_make_a_wait_no_shorter_and_no_longer(port: Port, on_alarm: OnAlarm) -> None:
    handled: list[None] = []
    on_alarm(lambda: handled.append(None), after=0.001, every=0.001)
    before = time.monotonic()
    assert port.getn(4, 4, 0.5) == []
    assert 0.5 <= time.monotonic() - before < 3
    assert len(handled) > 10


@rule("R134")
def test_a_handler_that_raises_ends_the_wait(port: Port, on_alarm: OnAlarm) -> None:
    on_alarm(interrupt)
    with pytest.raises(Interrupted):
        port.get(SOON)


@rule("R134", "R153")
def test_a_wait_that_a_handler_ends_takes_nothing(port: Port, on_alarm: OnAlarm) -> None:
    port.send(1)
    port.send(2)
    on_alarm(interrupt)
    with pytest.raises(Interrupted):
        port.getn(8, 8)
    assert [event.events for event in port.getn(8, 1, 0)] == [1, 2]


@rule("R134")
def test_a_port_works_after_a_handler_raised(port: Port, on_alarm: OnAlarm) -> None:
    with socket_pair() as (ours, theirs):
        port.associate(ours, POLLIN, "ready")
        on_alarm(interrupt)
        with pytest.raises(Interrupted):
            port.get()
        theirs.send(b"x")
        assert port.get(SOON).user == "ready"


@rule("R134", "R138")
def test_the_others_wait_on_after_a_handler_raised(port: Port, on_alarm: OnAlarm) -> None:
    other = waiting(port.get)  # behind it the main thread does not wait in the kernel itself
    on_alarm(interrupt)
    with pytest.raises(Interrupted):
        port.get(SOON)
    port.send(1)
    assert other.result().events == 1


@rule("R134", "R138")
def test_another_takes_over_from_a_wait_that_a_handler_ended(port: Port, on_alarm: OnAlarm) -> None:
    others = []

    def join_and_raise() -> None:
        others.append(waiting(port.get))
        raise Interrupted

    on_alarm(join_and_raise)
    with pytest.raises(Interrupted):
        port.get(SOON)
    with socket_pair() as (ours, _):
        port.associate(ours, POLLOUT, "ready")
        assert others[0].result().user == "ready"


@rule("R131", "R134")
def test_a_signal_to_a_waiting_thread_does_not_end_its_wait(port: Port, on_alarm: OnAlarm) -> None:
    handled: list[None] = []
    on_alarm(lambda: handled.append(None), after=SOON)
    getter = waiting(port.get)
    signal.pthread_kill(getter.thread, signal.SIGALRM)
    deadline = time.monotonic() + SOON / 2
    while not handled:  # a handler runs in the main thread, once that does anything
        assert time.monotonic() < deadline
        time.sleep(0.001)
    getter.at_rest()
    port.send(1)
    assert getter.result().events == 1


@rule("R066")
def test_a_handler_may_send_to_the_port_that_it_interrupts(port: Port, on_alarm: OnAlarm) -> None:
    on_alarm(lambda: port.send(0, "from the handler"))
    assert port.get(SOON).user == "from the handler"


@rule("R066")
def test_a_handler_may_send_to_many(make_port: MakePort, on_alarm: OnAlarm) -> None:
    one, other = make_port(), make_port()
    on_alarm(lambda: sendn([one, other], 1))
    assert one.get(SOON).events == 1
    assert other.get(0).events == 1


@rule("R066")
def test_a_handler_may_complete_what_is_waited_for(port: Port, on_alarm: OnAlarm) -> None:
    port.send(1)
    on_alarm(lambda: port.send(2))
    before = time.monotonic()
    assert [event.events for event in port.getn(2, 2, SOON)] == [1, 2]
    assert time.monotonic() - before < SOON / 2


@rule("R066", "R138")
def test_a_handler_may_send_to_a_port_that_others_wait_in(port: Port, on_alarm: OnAlarm) -> None:
    other = waiting(port.get)
    on_alarm(lambda: port.send(0, "from the handler"))
    assert other.result().user == "from the handler"


@rule("R066")
def test_what_handlers_send_during_any_call_arrives_once(
    port: Port, on_alarm: OnAlarm, scale: Scale
) -> None:
    sent = 0

    def send_from_handler() -> None:
        nonlocal sent
        number = sent
        sent += 1  # first: the next signal may interrupt this handler
        port.send(0, ("handler", number))

    received = []
    straight = 0
    end = time.monotonic() + scale(1, 10, 60)
    with socket_pair() as (ours, _):
        on_alarm(send_from_handler, after=0.001, every=0.001)
        while time.monotonic() < end:
            port.send(0, ("straight", straight))
            straight += 1
            port.associate(ours, POLLOUT, ("ready", 0))
            received += [event.user for event in port.getn(16, 2, SOON)]
            port.associate(ours, POLLIN)
            port.dissociate(ours)
        signal.setitimer(signal.ITIMER_REAL, 0)
        received += [event.user for event in port.getn(100_000, 1, 0)]
    assert sent > 10
    assert sorted(number for kind, number in received if kind == "handler") == list(range(sent))
    assert [number for kind, number in received if kind == "straight"] == list(range(straight))


@rule("R134", "R153")
def test_a_handler_that_raises_anywhere_in_a_wait_loses_nothing(
    port: Port, on_alarm: OnAlarm, scale: Scale
) -> None:
    with socket_pair() as (ours, _):
        for turn in range(scale(300, 3_000, 30_000)):
            port.send(0, "first")
            port.associate(ours, POLLOUT, "ready")
            port.send(0, "last")
            with pytest.raises(Interrupted):
                on_alarm(interrupt, after=0.000_01 * (1 + turn % 30), every=0.01)
                port.getn(8, 8)
            events = port.getn(8, 8, 0)
            assert [event.user for event in events] == ["first", "ready", "last"]


@rule("R134", "R153")
def test_a_handler_that_raises_as_events_come_loses_nothing(
    port: Port, on_alarm: OnAlarm, scale: Scale
) -> None:
    count = scale(2_000, 20_000, 200_000)
    received: list[PortEvent] = []

    def send() -> None:
        for number in range(count):
            port.send(number)
            if number % 4 == 0:
                time.sleep(0.000_1)

    sender = in_thread(send)
    turn = 0
    while not sender.over:
        events: list[PortEvent] = []
        turn += 1
        try:
            on_alarm(interrupt, after=0.000_02 * (1 + turn % 30))
            events = port.getn(4, 2, 0.01)
            signal.setitimer(signal.ITIMER_REAL, 0)
        except Interrupted:
            pass
        received += events
    received += port.getn(count, 1, 0)
    sender.result()
    assert [event.events for event in received] == list(range(count))


@rule("R134", "R153")
def test_a_handler_that_raises_as_a_descriptor_becomes_ready_loses_nothing(
    port: Port, on_alarm: OnAlarm, scale: Scale
) -> None:
    main_thread = threading.get_ident()
    on_alarm(interrupt, after=1000)
    with socket_pair() as (ours, theirs):

        def feed_and_interrupt() -> None:
            theirs.send(b"x")
            signal.pthread_kill(main_thread, signal.SIGALRM)

        for turn in range(scale(200, 2_000, 20_000)):
            port.associate(ours, POLLIN, turn)
            events: list[PortEvent] = []
            try:
                in_thread(feed_and_interrupt)
                events = port.getn(4)
                while True:
                    time.sleep(0.001)  # the signal is to come yet
            except Interrupted:
                pass
            events = events or port.getn(4, 1, SOON)
            assert [event.user for event in events] == [turn]
            ours.recv(1)


class Sender:
    """Something that sends when it goes, as a finalizer may."""

    def __init__(self, port: Port) -> None:
        self._port = weakref.ref(port)

    def __del__(self) -> None:
        port = self._port()
        if port is not None and not port.closed:
            port.send(0, "from the finalizer")


@rule("R066", "R102")
def test_a_user_that_is_replaced_may_send_as_it_goes(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.associate(ours, POLLIN, Sender(port))
        port.associate(ours, POLLIN)
        gc.collect()
        assert port.get(SOON).user == "from the finalizer"


@rule("R066", "R119")
def test_a_user_that_is_dissociated_may_send_as_it_goes(port: Port) -> None:
    with socket_pair() as (ours, _):
        port.associate(ours, POLLIN, Sender(port))
        port.dissociate(ours)
        gc.collect()
        assert port.get(SOON).user == "from the finalizer"


@rule("R066", "R170")
def test_the_user_of_a_replaced_alert_may_send_as_it_goes(port: Port) -> None:
    port.alert(1, Sender(port))
    port.alert(2)
    gc.collect()
    port.alert(0)
    assert port.get(SOON).user == "from the finalizer"


@rule("R066", "R141")
def test_a_delivered_user_may_send_as_it_goes(port: Port) -> None:
    port.send(0, Sender(port))
    port.get()
    gc.collect()
    assert port.get(SOON).user == "from the finalizer"


@rule("R066")
def test_a_finalizer_may_send_during_any_call(port: Port, scale: Scale) -> None:
    class Cycle:
        def __init__(self) -> None:
            self.itself = self
            weakref.finalize(self, port.send, 1).atexit = False

    former = gc.get_threshold()
    gc.set_threshold(1)  # collects whenever something is made, inside the calls too
    made = collected = 0
    try:
        with socket_pair() as (ours, _):
            for _ in range(scale(300, 3_000, 30_000)):
                Cycle()
                made += 1
                port.associate(ours, POLLOUT)
                collected += sum(event.events == 1 for event in port.getn(8, 1, SOON))
                port.associate(ours, POLLIN)
                port.dissociate(ours)
    finally:
        gc.set_threshold(*former)
    gc.collect()
    collected += sum(event.events == 1 for event in port.getn(100_000, 1, 0))
    assert collected == made
