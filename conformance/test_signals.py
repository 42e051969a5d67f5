"""Signals and finalizers: they interrupt a wait without ending it, and they may send."""

import gc
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest

from portcompat import POLLIN, POLLOUT, Port, PortTimeout, sendn
from portcompat.conformance import rule
from portcompat.conformance._descriptors import SOON, socket_pair
from portcompat.conformance._threads import waiting

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="this host has no interval timer to send signals"
)

if sys.platform == "win32":
    pytest.skip("this host has no signals that interrupt a call", allow_module_level=True)

MakePort = Callable[..., Port]
Scale = Callable[[int, int, int], int]
OnAlarm = Callable[..., None]


class Interrupted(Exception):
    """What a handler raises."""


@pytest.fixture
def on_alarm() -> Iterator[OnAlarm]:
    """Call something on SIGALRM, `after` so many seconds and perhaps `every` so many."""
    former = signal.getsignal(signal.SIGALRM)

    def start(handle: Callable[[], object], after: float = 0.05, every: float = 0) -> None:
        signal.signal(signal.SIGALRM, lambda *_: handle())
        signal.setitimer(signal.ITIMER_REAL, after, every)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, former)


def interrupt() -> None:
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
def test_another_takes_over_from_a_wait_that_a_handler_ended(
    port: Port, on_alarm: OnAlarm
) -> None:
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
    handled = threading.Event()
    on_alarm(handled.set, after=SOON)
    getter = waiting(port.get)
    signal.pthread_kill(getter.thread, signal.SIGALRM)
    assert handled.wait(SOON)
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
    assert [event.events for event in port.getn(2, 2, SOON)] == [1, 2]


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
        port.send(0, ("handler", sent))
        sent += 1

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
    assert [number for kind, number in received if kind == "handler"] == list(range(sent))
    assert [number for kind, number in received if kind == "straight"] == list(range(straight))


@rule("R134", "R153")
def test_handlers_that_raise_during_any_retrieval_lose_nothing(
    port: Port, on_alarm: OnAlarm, scale: Scale
) -> None:
    total = scale(3_000, 30_000, 300_000)
    received = []
    interruptions = 0
    armed = False  # the handler raises only where this test expects it

    def interrupt_retrieval() -> None:
        if armed:
            raise Interrupted

    on_alarm(interrupt_retrieval, after=0.001, every=0.001)
    number = 0
    while number < total:
        port.send(0, number)
        number += 1
        if number % 3 == 0:
            continue
        batch = None
        try:
            armed = True
            port.getn(4, 4, 0.0002)  # seldom returns: what it takes, it returns below
            armed = False
        except Interrupted:
            armed = False
            interruptions += 1
            continue
        received.append(batch)
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert interruptions


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
