"""The machine that puts a port and its model through the same script, at random."""

import errno
import os
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import permutations
from typing import Any, ClassVar, Final

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    precondition,
    rule,
)

from portcompat import (
    POLLIN,
    POLLNVAL,
    POLLOUT,
    POLLPRI,
    POLLRDBAND,
    POLLRDHUP,
    POLLRDNORM,
    POLLWRBAND,
    POLLWRNORM,
    PORT_ALERT_INVALID,
)
from portcompat.conformance import model

NUMBERS: Final = (200, 201, 202, 203)
"""The descriptor numbers of the scripts, far above those that the system gives out."""

_ALL_BITS: Final = (
    POLLIN | POLLPRI | POLLOUT | POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND | POLLRDHUP
)
_BANDS: Final = POLLPRI | POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND
_LIMITS: Final = (  # max and nget
    *((8, 1), (8, 2), (2, 1), (2, 2), (8, 8), (1, 1)),
    *((8, 0), (0, 0), (0, 3), (1, 2)),
)
_CALLS: Final[dict[str, Callable[[Any], object]]] = {  # some would fail for another reason too
    "associate": lambda port: port.associate(-1, POLLIN),
    "dissociate": lambda port: port.dissociate(-1),
    "send": lambda port: port.send(1),
    "alert": lambda port: port.alert(1, flags=PORT_ALERT_INVALID),
    "get": lambda port: port.get(0),
    "getn": lambda port: port.getn(1, 2, 0),
    "pending": lambda port: port.pending(),
    "close": lambda port: port.close(),
}


class File:
    """An open file, whatever numbers mean it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd  # a number outside the script that keeps it open too; -1 if there is none
        self.peer: File | None = None

    def let_go(self) -> None:
        os.close(self.fd)
        self.fd = -1


class Pair:
    """A port under test and its model."""

    def __init__(self, port: Any, twin: model.ModelPort) -> None:
        self.port = port
        self.model = twin
        self.seen: dict[int, File] = {}  # what the number was when it was last associated


# What a rule draws does not depend on what the script did before. So a failing script still means
# the same when Hypothesis leaves out steps of it; what a number cannot do, it does not do.
_NUMBER: Final = st.sampled_from(NUMBERS)
_NUMBER_OR_NONE: Final = st.sampled_from((*NUMBERS, *NUMBERS, -1))
_TWO_NUMBERS: Final = st.sampled_from(tuple(permutations(NUMBERS, 2)))
_SLOTS: Final = st.sampled_from((8, 2, 3, 1, 8))
_MESSAGE: Final = st.sampled_from((1, 0, -1, 0x7FFF_FFFF, -0x8000_0000))  # R157
_USUAL_BITS: Final = (POLLOUT, POLLIN, POLLIN | POLLOUT)
_POLL_BITS: Final = st.sampled_from(
    (
        *(_USUAL_BITS * 6),
        *(0, POLLRDNORM, POLLIN | POLLRDNORM, POLLOUT | POLLWRNORM, POLLPRI, POLLWRBAND),
        *(POLLRDHUP, POLLIN | POLLRDHUP, POLLIN | POLLNVAL, POLLOUT | 1 << 20, -1),
    )
)
_WANTED: Final = st.tuples(_NUMBER_OR_NONE, _POLL_BITS)


class PortMachine(RuleBasedStateMachine):
    """Ports and their models go through one script and must give the same answers.

    What poll(2) says of the descriptors is told to the models: it is the script of readiness.

    **What the scripts are spared** is what R100 and R101 cannot promise off illumos. There a port
    is told of each change as it happens; elsewhere it looks when it is asked. So a port that
    knows the descriptor is asked for `pending`, which is a look, before and after each change
    (`_change`). A port that knows nothing of it is not asked: what it has just been told to watch
    stays unlooked at, and there an engine can go wrong.

    Two things follow. What becomes ready in one look, two numbers of one file, has no order: it is
    associated again, one by one, and so gets one (`_put_in_order`). And where a number is closed
    and then means the same file again, a look in between is what tells the association that has
    ended from one that lasted (`_open_as`).
    """

    ports: Bundle[Pair] = Bundle("ports")
    closed: Bundle[Pair] = Bundle("closed")

    features: ClassVar[frozenset[str]]
    """What the ports under test can do."""

    def make_port(self, max_events: int) -> Any:
        """A port to test, with the methods of `portcompat.Port`."""
        raise NotImplementedError

    def sendn(self, ports: list[Any], events: int, user: object) -> tuple[int, list[int]]:
        """`portcompat.sendn`, or what does its work for such ports."""
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        for number in NUMBERS:
            with suppress(OSError):
                os.fstat(number)
                raise AssertionError(f"descriptor {number} is in use already")
        self.descriptors = model.Descriptors()
        self.meaning: dict[int, File] = {}  # of the numbers that are open
        self._askable = ~0
        if "bands" not in self.features:
            self._askable &= ~_BANDS
        if "rdhup" not in self.features:
            self._askable &= ~POLLRDHUP
        # One regular file for all: open twice they are one to whoever asks fstat(2).
        self._regular = File(os.open(__file__, os.O_RDONLY))
        self._files = [self._regular]
        self._pairs: list[Pair] = []
        self._users = 0

    def teardown(self) -> None:
        for pair in self._pairs:
            pair.port.close()
        for fd in (*self.meaning, *(file.fd for file in self._files if file.fd >= 0)):
            os.close(fd)

    # Ports

    @initialize(target=ports, max_events=_SLOTS)
    def begin(self, max_events: int) -> Pair:
        self.open("sockets", (200, 201), held=False)
        self.open("pipe", (202, 203), held=True)
        return self._create(max_events)

    @precondition(lambda self: len(self._open_pairs()) < 2)
    @rule(target=ports, max_events=_SLOTS)
    def create(self, max_events: int) -> Pair:
        return self._create(max_events)

    @precondition(lambda self: len(self._open_pairs()) > 1)
    @rule(target=closed, port=consumes(ports))
    def close_port(self, port: Pair) -> Pair:
        self._ask(port, lambda port: port.close())
        return port

    @rule(port=closed, name=st.sampled_from(tuple(_CALLS)))
    def call_closed(self, port: Pair, name: str) -> None:
        self._ask(port, _CALLS[name])

    @rule(port=ports, wanted=st.lists(_WANTED, min_size=1, max_size=5))
    def associate(self, port: Pair, wanted: list[tuple[int, int]]) -> None:
        for number, events in wanted:
            self._associate(port, number, events & self._askable, self._user("associate"))

    def _associate(self, pair: Pair, number: int, events: int, user: object) -> None:
        if self._ask(pair, lambda port: port.associate(number, events, user)) is None:
            pair.seen[number] = self.meaning[number]

    @rule(port=ports, number=_NUMBER_OR_NONE)
    def dissociate(self, port: Pair, number: int) -> None:
        self._ask(port, lambda port: port.dissociate(number))

    @rule(port=ports, events=_MESSAGE)
    def send(self, port: Pair, events: int) -> None:
        user = self._user("send")
        self._ask(port, lambda port: port.send(events, user))

    @rule(several=st.lists(ports, max_size=3), closed_too=st.booleans(), events=_MESSAGE)
    def send_to_many(self, several: list[Pair], closed_too: bool, events: int) -> None:
        if closed_too:
            several = [*several, *(pair for pair in self._pairs if pair.model.closed)]
        user = self._user("sendn")
        answer = _answer(lambda: self.sendn([pair.port for pair in several], events, user))
        expected = _answer(lambda: model.sendn([pair.model for pair in several], events, user))
        self._compare(answer, expected)

    @rule(
        port=ports, events=st.sampled_from((0, 1, 0, -5)), flags=st.sampled_from((1, 2, 3, 0, 4, 6))
    )
    def alert(self, port: Pair, events: int, flags: int) -> None:
        user = self._user("alert")
        self._ask(port, lambda port: port.alert(events, user, flags=flags))

    @rule(port=ports)
    def get(self, port: Pair) -> None:
        self._ask(port, lambda port: port.get(0))

    @rule(port=ports, limits=st.just((8, 1)) | st.sampled_from(_LIMITS))
    def getn(self, port: Pair, limits: tuple[int, int]) -> None:
        self._ask(port, lambda port: port.getn(*limits, 0))

    @rule(port=ports)
    def pending(self, port: Pair) -> None:
        self._ask(port, lambda port: port.pending())

    # Descriptors

    @rule(
        kind=st.sampled_from(("sockets", "pipe", "file")), numbers=_TWO_NUMBERS, held=st.booleans()
    )
    def open(self, kind: str, numbers: tuple[int, int], held: bool) -> None:
        if kind == "sockets":
            one, two = socket.socketpair()
            self._open_pair((File(one.detach()), File(two.detach())), numbers, held)
        elif kind == "pipe":
            reading, writing = os.pipe()
            self._open_pair((File(reading), File(writing)), numbers, held)
        else:
            self._open_as(self._regular, numbers[0], self._regular.fd)

    def _open_pair(self, ends: tuple[File, File], numbers: tuple[int, int], held: bool) -> None:
        """Open two ends under `numbers`. `held`: they stay open when the numbers are closed,
        so the other end does not see a hang-up."""
        for end, peer, number in zip(ends, ends[::-1], numbers, strict=True):
            self._files.append(end)
            end.peer = peer
            os.set_blocking(end.fd, False)
            self._open_as(end, number, end.fd)
        if not held and "hangup" in self.features:
            for end in ends:
                end.let_go()

    @rule(numbers=_TWO_NUMBERS)
    def dup2(self, numbers: tuple[int, int]) -> None:
        source, number = numbers
        if source in self.meaning:
            self._open_as(self.meaning[source], number, source)

    @rule(numbers=_TWO_NUMBERS)
    def swap(self, numbers: tuple[int, int]) -> None:
        """Two numbers change files. Done twice, each has its old one back."""
        one, two = numbers
        if one in self.meaning and two in self.meaning:
            file, kept = self.meaning[one], os.dup(one)
            self._open_as(self.meaning[two], one, two)
            self._open_as(file, two, kept)
            os.close(kept)

    @rule(number=_NUMBER)
    def close(self, number: int) -> None:
        if number in self.meaning:
            with self._change(*self._hung_up_by_closing(number)):
                os.close(number)
                self._forget(number)

    # Readiness

    @rule(number=_NUMBER, how=st.sampled_from(("write", "drain", "fill")))
    def transfer(self, number: int, how: str) -> None:
        file = self.meaning.get(number)
        if file is None or file is self._regular:
            return
        with self._change(file), suppress(OSError):  # until it would block, or cannot at all
            if how == "write":
                os.write(number, b"x")
            while how == "drain" and os.read(number, 65536):
                pass
            while how == "fill":
                os.write(number, bytes(65536))

    # What the rules are made of

    def _create(self, max_events: int) -> Pair:
        twin = model.ModelPort(self.descriptors, max_events)
        self._pairs.append(Pair(self.make_port(max_events), twin))
        return self._pairs[-1]

    def _open_pairs(self) -> list[Pair]:
        return [pair for pair in self._pairs if not pair.model.closed]

    def _user(self, call: str) -> str:
        self._users += 1
        return f"{call} {self._users}"

    def _ask(self, pair: Pair, call: Callable[[Any], object]) -> object:
        answer = _answer(lambda: call(pair.port))
        self._compare(answer, _answer(lambda: call(pair.model)))
        return answer

    def _compare(self, answer: object, expected: object) -> None:
        if answer != expected:
            raise AssertionError(f"the port says {answer}, the model {expected}")

    def _look(self, pairs: list[Pair]) -> None:
        for pair in pairs:
            self._ask(pair, lambda port: port.pending())

    @contextmanager
    def _change(self, *files: File) -> Iterator[None]:
        """Do what may change the readiness of `files` and of their peers."""
        changed = {*files, *(file.peer for file in files)}
        concerned = [
            pair
            for pair in self._open_pairs()
            if any(self.meaning[number] in changed for number in pair.model.associations)
        ]
        self._look(concerned)
        yield
        before = [len(pair.model.queue) for pair in concerned]
        self._tell()
        self._look(concerned)
        for pair, length in zip(concerned, before, strict=True):
            self._put_in_order(pair, [event.object for event in pair.model.queue[length:]])

    def _tell(self) -> None:
        """Tell the models what poll(2) says of each descriptor."""
        poll = select.poll()
        for number in self.meaning:
            poll.register(number, _ALL_BITS)
        ready = dict(poll.poll(0))
        for number in self.meaning:
            self.descriptors.set(number, ready.get(number, 0))

    def _put_in_order(self, pair: Pair, numbers: list[int]) -> None:
        """Give the events that came in one look an order."""
        if len(numbers) > 1:
            for number in numbers:
                known = pair.model.associations[number]
                self._associate(pair, number, known.events, known.user)

    def _open_as(self, file: File, number: int, source: int) -> None:
        """Make `number` mean `file`, of which `source` is a number."""
        deceived = [pair for pair in self._open_pairs() if pair.seen.get(number) is file]
        if deceived:
            if number in self.meaning:
                self.close(number)
            self._look(deceived)
        with self._change(*self._hung_up_by_closing(number)):
            os.dup2(source, number, inheritable=False)
            self._forget(number)
            self.meaning[number] = file

    def _hung_up_by_closing(self, number: int) -> list[File]:
        """The file that `number` means, if nothing else does."""
        file = self.meaning.get(number)
        last = file is not None and file.fd < 0 and list(self.meaning.values()).count(file) == 1
        return [file] if file is not None and last else []

    def _forget(self, number: int) -> None:
        if self.meaning.pop(number, None) is not None:
            self.descriptors.close(number)


def _answer(call: Callable[[], object]) -> object:
    try:
        return call()
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, error.errno)
        return f"{type(error).__name__}({name})"
