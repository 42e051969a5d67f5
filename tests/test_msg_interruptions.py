"""Signal handlers that raise at each step of the calls of the message interface."""

import contextlib
import errno
import gc
import os
import select
from collections.abc import Callable, Iterator

import pytest

from portcompat.conformance._descriptors import SOON
from portcompat.conformance._threads import in_thread, waiting
from portcompat.msgif import Client, Cloner, Instance
from tests.interruptions import Interrupted, Interruption, places

pytestmark = [
    pytest.mark.deadline(60),
    # What was being made when the handler raised is closed by its collection.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


class Mount:
    """A mount, a client, and whether they are as if nothing had happened."""

    def __init__(self, instance: Instance, client: Client) -> None:
        self.instance, self.client = instance, client

    def is_readable(self) -> bool:
        return bool(select.select([self.instance], [], [], 0)[0])

    def check(self) -> None:
        """Nothing is queued, and a call is answered."""
        assert not self.is_readable()
        with pytest.raises(BlockingIOError):
            self.instance.getop(block=False)
        self.answer_one()

    def answer_one(self) -> None:
        call = in_thread(lambda: self.client.call(7, b"check", timeout=SOON))
        request = self.instance.getop()
        assert (request.optype, request.payload) == (7, b"check")
        self.instance.putop(request.id, 0, b"checked")
        assert call.result() == b"checked"


MakeMount = Callable[[], contextlib.AbstractContextManager[Mount]]


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What an exception's traceback still holds goes while its warning is ignored."""
    yield
    gc.collect()


@pytest.fixture
def mount() -> MakeMount:
    @contextlib.contextmanager
    def make() -> Iterator[Mount]:
        with Cloner().open() as instance, instance.client() as client:
            instance.mount()
            yield Mount(instance, client)

    return make


def interrupt() -> None:
    raise Interrupted


def test_a_getop_that_is_interrupted_loses_no_request(mount: MakeMount) -> None:
    def attempt(step: int) -> Interruption:
        with mount() as made:
            made.client.cast(1, b"first")
            made.client.cast(2, b"second")
            interruption = Interruption(step, interrupt)
            taken = []
            with contextlib.suppress(Interrupted), interruption:
                taken.append(made.instance.getop().optype)
            while made.is_readable():
                taken.append(made.instance.getop(block=False).optype)
            assert taken == [1, 2]
            made.check()
            return interruption

    assert len(places(attempt)) > 10


def test_a_getop_that_is_interrupted_leaves_the_call_to_the_next(mount: MakeMount) -> None:
    def attempt(step: int) -> Interruption:
        with mount() as made:
            call = waiting(lambda: made.client.call(1, b"first", timeout=SOON))
            interruption = Interruption(step, interrupt)
            taken = []
            with contextlib.suppress(Interrupted), interruption:
                taken.append(made.instance.getop())
            if not taken:
                assert made.is_readable()
                taken.append(made.instance.getop(block=False))
            assert taken[0].id == 1
            made.instance.putop(1, 0, b"answered")
            assert call.result() == b"answered"
            made.check()
            return interruption

    assert len(places(attempt)) > 10


def test_a_putop_that_is_interrupted_has_answered_or_can_be_made_again(mount: MakeMount) -> None:
    def attempt(step: int) -> Interruption:
        with mount() as made:
            call = waiting(lambda: made.client.call(1, timeout=SOON))
            request = made.instance.getop()
            interruption = Interruption(step, interrupt)
            try:
                with interruption:
                    made.instance.putop(request.id, 0, b"answer")
            except Interrupted:
                try:
                    made.instance.putop(request.id, 0, b"answer")
                except OSError as error:
                    assert error.errno == errno.EINVAL
            assert call.result() == b"answer"
            made.check()
            return interruption

    assert len(places(attempt)) > 5


@pytest.mark.parametrize("known", [False, True], ids=["first", "later"])
def test_a_call_that_is_interrupted_leaves_nothing(mount: MakeMount, known: bool) -> None:
    def attempt(step: int) -> Interruption:
        with mount() as made:
            if known:
                made.answer_one()
            interruption = Interruption(step, interrupt)
            with contextlib.suppress(Interrupted, TimeoutError), interruption:
                made.client.call(1, b"interrupted", timeout=0)
            made.check()
            return interruption

    assert len(places(attempt)) > 10


def test_a_call_that_is_interrupted_leaves_the_requests_of_others(mount: MakeMount) -> None:
    def attempt(step: int) -> Interruption:
        with mount() as made:
            made.client.cast(1)
            other = waiting(lambda: made.client.call(2, timeout=SOON))
            interruption = Interruption(step, interrupt)
            with contextlib.suppress(Interrupted, TimeoutError), interruption:
                made.client.call(3, timeout=0)
            made.client.cast(4)
            requests = [made.instance.getop(block=False) for _ in range(3)]
            assert [request.optype for request in requests] == [1, 2, 4]
            made.instance.putop(requests[1].id)
            assert other.result() == b""
            made.check()
            return interruption

    assert len(places(attempt, every=2)) > 10


def test_a_close_that_is_interrupted_can_be_made_again(mount: MakeMount) -> None:
    def attempt(step: int) -> Interruption:
        with mount() as made:
            calls = [waiting(lambda: made.client.call(1)) for _ in range(2)]
            made.instance.getop()
            taking = waiting(lambda: [made.instance.getop() for _ in range(2)])
            interruption = Interruption(step, interrupt)
            with contextlib.suppress(Interrupted), interruption:
                made.instance.close()
            made.instance.close()
            for result in (*(call.result for call in calls), taking.result):
                with pytest.raises(OSError) as caught:
                    result()
                assert caught.value.errno == errno.ENXIO
            return interruption

    assert len(places(attempt, every=2)) > 5


def test_nothing_of_it_leaks_descriptors(mount: MakeMount) -> None:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("nothing here tells which descriptors are open")

    def attempt(step: int) -> Interruption:
        before = len(os.listdir("/proc/self/fd"))
        with mount() as made:
            interruption = Interruption(step, interrupt)
            with contextlib.suppress(Interrupted, TimeoutError), interruption:
                made.client.cast(1)
                made.instance.getop()
                made.client.call(2, timeout=0)
        del made
        assert len(os.listdir("/proc/self/fd")) == before, interruption.place
        return interruption

    assert len(places(attempt)) > 20
