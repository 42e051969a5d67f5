"""Peers of a mount that keep to no rule: they harm their own connection and nothing else."""

import errno
import os
import random
import select
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import pytest

from portcompat import Port
from portcompat import _msg_frames as frames
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._servers import Server
from portcompat.conformance._threads import in_thread
from portcompat.msgif import DEFAULT_MAX_SIZE, Client, Cloner, Instance

Scale = Callable[[int, int, int], int]
Attack = Callable[["Hostile", random.Random], object]


class Hostile:
    """A connection in the hands of somebody who knows what it is made of."""

    def __init__(self, instance: Instance) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            instance.send_handle(ours)
            self.handle, self.descriptors, _, _ = socket.recv_fds(theirs, 100, 10)
        self.sockets = [socket.socket(fileno=number) for number in self.descriptors]
        self.send, self.receive, self.line, self.life = self.sockets

    def close(self) -> None:
        for end in self.sockets:
            end.close()

    def client(self) -> Client:
        """An honest user of the same connection."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            socket.send_fds(ours, [self.handle], self.descriptors)
            return Client.recv_handle(theirs)

    def post(self, data: bytes, *descriptors: int) -> None:
        """Send that, if there is room."""
        self.send.setblocking(False)
        with suppress(OSError):
            socket.send_fds(self.send, [data], list(descriptors))


def a_request(
    flags: int = 0, channel: int = 7, number: int = 1, size: int = 5, stamp: int = 1
) -> bytes:
    """A frame as a client of this library makes it, with five bytes of payload."""
    head = frames.pack_request(
        frames.REQUEST_MARK, flags, 0, stamp, channel, number, 100, 4, 4, 0, 1, 0, size
    )
    return head + b"12345"


def nonsense(hostile: Hostile, dice: random.Random) -> None:
    for _ in range(5):
        hostile.post(dice.randbytes(dice.choice([1, 2, 20, 100, 5_000, 70_000, 150_000])))


def nothing(hostile: Hostile, dice: random.Random) -> None:
    hostile.send.send(b"")


def a_request_with_wrong_bytes(hostile: Hostile, dice: random.Random) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        data = bytearray(a_request(frames.WANTS_REPLY | frames.WITH_CHANNEL))
        for _ in range(dice.randrange(1, 4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        hostile.post(bytes(data), theirs.fileno())


def a_request_cut_short(hostile: Hostile, dice: random.Random) -> None:
    hostile.post(a_request()[: dice.randrange(len(a_request()))])


def a_request_that_lies_about_its_size(hostile: Hostile, dice: random.Random) -> None:
    hostile.post(a_request(size=dice.choice([0, 4, 6, 2**31, 2**32 - 1])))


def a_request_that_is_too_large(hostile: Hostile, dice: random.Random) -> None:
    size = DEFAULT_MAX_SIZE + 1
    hostile.post(a_request(size=size)[:-5] + bytes(size))


def wrong_descriptors(hostile: Hostile, dice: random.Random) -> None:
    flags = frames.WANTS_REPLY | frames.WITH_CHANNEL | frames.WITH_FILE
    with ExitStack() as stack:
        null = stack.enter_context(open(os.devnull, "rb+", buffering=0))
        zero = stack.enter_context(open("/dev/zero", "rb", buffering=0))
        file = stack.enter_context(tempfile.TemporaryFile(buffering=0))
        reading, writing = os.pipe()
        stack.callback(os.close, reading)
        stack.callback(os.close, writing)
        known = [null.fileno(), zero.fileno(), file.fileno(), reading, writing]
        chosen = [dice.choice(known) for _ in range(dice.choice([0, 1, 2, 2, 2, 2, 3, 8]))]
        hostile.post(a_request(flags), *chosen)


def itself_as_the_channel(hostile: Hostile, dice: random.Random) -> None:
    flags = frames.WANTS_REPLY | frames.WITH_CHANNEL
    hostile.post(a_request(flags), dice.choice(hostile.descriptors))


def a_channel_announced_twice(hostile: Hostile, dice: random.Random) -> None:
    flags = frames.WANTS_REPLY | frames.WITH_CHANNEL
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        hostile.post(a_request(flags), theirs.fileno())
        hostile.post(a_request(flags), theirs.fileno())


def a_channel_that_nobody_announced(hostile: Hostile, dice: random.Random) -> None:
    hostile.post(a_request(frames.WANTS_REPLY, channel=dice.getrandbits(64)))


def a_channel_that_is_full(hostile: Hostile, dice: random.Random) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.setblocking(False)
        with suppress(OSError):
            while True:
                theirs.send(bytes(1_000))
        hostile.post(a_request(frames.WANTS_REPLY | frames.WITH_CHANNEL), theirs.fileno())
        select.select([hostile.line], [], [], 0.02)


def a_file_that_shrinks(hostile: Hostile, dice: random.Random) -> None:
    flags = frames.WANTS_REPLY | frames.WITH_CHANNEL | frames.WITH_FILE
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, tempfile.TemporaryFile(buffering=0) as file:
        hostile.post(a_request(flags), theirs.fileno(), file.fileno())
        select.select([ours], [], [], 0.02)


def both_ends_shut_down(hostile: Hostile, dice: random.Random) -> None:
    for end in (hostile.receive, hostile.send, hostile.line):
        if dice.randrange(2):
            with suppress(OSError):
                end.shutdown(dice.choice([socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR]))


def words_where_none_are_expected(hostile: Hostile, dice: random.Random) -> None:
    for end in (hostile.line, hostile.life):
        end.setblocking(False)
        with suppress(OSError):
            socket.send_fds(end, [dice.randbytes(1_000)], hostile.descriptors)


def a_flood(hostile: Hostile, dice: random.Random) -> None:
    for _ in range(2_000):
        hostile.post(a_request())


ATTACKS: list[Attack] = [
    nonsense,
    nothing,
    a_request_with_wrong_bytes,
    a_request_cut_short,
    a_request_that_lies_about_its_size,
    a_request_that_is_too_large,
    wrong_descriptors,
    itself_as_the_channel,
    a_channel_announced_twice,
    a_channel_that_nobody_announced,
    a_channel_that_is_full,
    a_file_that_shrinks,
    both_ends_shut_down,
    words_where_none_are_expected,
    a_flood,
]


def serve(instance: Instance) -> None:
    """Echo what has optype 1, with a look at its second buffer; end with the mount."""
    while True:
        try:
            request = instance.getop()
        except OSError as error:
            assert error.errno in (errno.ENXIO, errno.ENOENT), error
            return
        if request.id:
            with suppress(OSError):
                instance.sizeop(request.id, 1, bytearray(4))
                instance.sizeop(request.id, 2, b"1234")
            with suppress(OSError):  # what a hostile caller makes of the reply is its own affair
                instance.putop(request.id, 0, request.payload)


@contextmanager
def an_honest_caller(instance: Instance) -> Iterator[None]:
    """Makes calls all the time; not one may fail or take long."""
    over = threading.Event()

    def call() -> int:
        number = 0
        with instance.client() as client:
            while not over.is_set() or number < 3:
                payload = b"honest %d" % number
                assert client.call(1, payload, timeout=SOON) == payload
                number += 1
        return number

    calling = in_thread(call)
    try:
        yield
    finally:
        over.set()
        assert calling.result(2 * SOON) >= 3


@pytest.fixture
def portless() -> Iterator[Instance]:
    """A running mount that needs no port."""
    with Cloner().open() as instance:
        instance.mount()
        yield instance


@pytest.mark.deadline(60)
def test_a_client_that_always_says_it_was_first_is_believed_as_often_as_its_queue_is_long(
    portless: Instance,
) -> None:
    instance = portless
    hostile = Hostile(instance)
    most = hostile.send.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // frames.REQUEST_HEAD
    with instance.client() as client:
        client.cast(2)
        hostile.post(a_request())
        served = 0
        while instance.getop().optype != 2:
            served += 1
            hostile.post(a_request())
        assert 0 < served <= most
        assert hostile.line.recv(100)  # the mount's maximum
        assert not hostile.line.recv(100), "the connection has not been ended"
        assert client.cast(3)
        assert instance.getop().optype == 3
        assert instance.pending() == 0
    hostile.close()


def test_a_request_from_the_future_comes_when_it_is_seen(portless: Instance) -> None:
    """And who is served before it is not taken for a liar."""
    instance = portless
    hostile = Hostile(instance)
    hostile.post(a_request(stamp=2**62))
    with instance.client() as client:
        taken = []
        for _ in range(4):
            client.cast(2)
            taken.append(instance.getop().optype)
        assert taken == [2, 1, 2, 2]
        assert instance.getop().optype == 2
    hostile.close()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_a_hostile_client_harms_its_own_connection_only(
    server: Server, scale: Scale, attack: Attack
) -> None:
    dice = random.Random(attack.__name__)
    instance = server.instance
    serving = [in_thread(lambda: serve(instance)) for _ in range(2)]
    with an_honest_caller(instance):
        for _ in range(scale(5, 100, 1_000)):
            hostile = Hostile(instance)
            attack(hostile, dice)
            hostile.close()
    with instance.client() as client:
        assert client.call(1, b"the last", timeout=SOON) == b"the last"
        # Nothing is left that would keep the server busy.
        assert not server.readable(0.02)
        client.unmount()
    for one in serving:
        one.result()


def test_all_sorts_of_hostile_clients_at_once_leave_no_descriptor(scale: Scale) -> None:
    def round_of_attacks(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(scale(30, 300, 3_000)):
            hostile = Hostile(instance)
            dice.choice(ATTACKS)(hostile, dice)
            hostile.close()

    before = sorted(os.listdir("/proc/self/fd"))
    with Cloner().open() as instance:
        instance.mount()
        serving = [in_thread(lambda: serve(instance)) for _ in range(2)]
        with an_honest_caller(instance):
            for attacking in [in_thread(partial(round_of_attacks, seed)) for seed in range(3)]:
                attacking.result(60)
        with instance.client() as client:
            assert client.call(1, b"the last", timeout=SOON) == b"the last"
            client.unmount()
        for one in serving:
            one.result()
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_connection_that_breaks_the_rules_is_ended_for_its_honest_users(
    server: Server,
) -> None:
    hostile = Hostile(server.instance)
    serving = in_thread(lambda: serve(server.instance))
    with hostile.client() as client:
        assert client.call(1, b"before", timeout=SOON) == b"before"
        hostile.post(b"nonsense")
        with pytest.raises(OSError) as caught:
            while True:
                client.call(1, b"after", timeout=SOON)
        assert caught.value.errno == errno.ENXIO
        with server.instance.client() as other:
            assert other.call(1, b"others", timeout=SOON) == b"others"
            other.unmount()
    hostile.close()
    serving.result()


@contextmanager
def a_hostile_server() -> Iterator[tuple[Client, socket.socket, socket.socket]]:
    """A client, the socket where its requests arrive, and the other end of its line."""
    with ExitStack() as stack:
        pairs = [
            socket.socketpair(socket.AF_UNIX, kind)
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_STREAM)
        ]
        (send, receive), (line, near_line), (life, _) = pairs
        for pair in pairs:
            for end in pair:
                stack.enter_context(end)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ends = [send.fileno(), receive.fileno(), line.fileno(), life.fileno()]
            socket.send_fds(ours, [frames.handle_frame(0)], ends)
            client = stack.enter_context(Client.recv_handle(theirs))
        near_line.send(frames.SIZE_LIMIT.pack(1_000))
        receive.settimeout(SOON)
        yield client, receive, near_line


def a_bad_reply(dice: random.Random) -> bytes:
    """Something that may or may not pass for the reply to a client's first request."""
    good = bytearray(frames.pack_reply(frames.REPLY_MARK, 1, 0, 4, 5) + b"reply")
    match dice.randrange(3):
        case 0:
            return dice.randbytes(dice.choice([0, 1, 16, 5_000]))
        case 1:
            good[dice.randrange(len(good))] = dice.randrange(256)
            return bytes(good)
        case _:
            return bytes(good[: dice.randrange(len(good))])


@pytest.mark.parametrize("seed", range(5))
def test_what_a_hostile_server_answers_is_an_error_or_a_reply(seed: int, scale: Scale) -> None:
    dice = random.Random(seed)
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(scale(20, 200, 2_000)):
        out = bytearray(4)
        with a_hostile_server() as (client, requests, _):
            call = in_thread(lambda: client.call(1, b"x", timeout=0.2, sizeop_out=out))  # noqa: B023
            while not select.select([requests], [], [], 0.05)[0] and not call.over:
                pass
            if call.over:  # its time was up before a busy machine had sent it
                continue
            _, descriptors, _, _ = socket.recv_fds(requests, 10_000, 10)
            with socket.socket(fileno=descriptors[0]) as channel, suppress(OSError):
                passed = descriptors if dice.randrange(2) else []
                socket.send_fds(channel, [a_bad_reply(dice)], passed)
                select.select([channel], [], [], 0.3)  # until the caller has gone
            for number in descriptors[1:]:
                os.close(number)
            try:
                assert len(call.result()) <= 1_000
            except OSError:
                pass
            assert len(out) == 4
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("limit", [b"", b"\0", b"\0\0\0\0", b"\xff\xff\xff\xff"])
def test_a_hostile_server_that_lies_about_its_maximum_gets_no_more_than_errors(
    limit: bytes,
) -> None:
    with a_hostile_server() as (client, _, line):
        with suppress(OSError):
            client._line.recv(4, socket.MSG_DONTWAIT)  # what it said before
        if limit:
            line.send(limit)
        for _ in range(3):
            with pytest.raises(OSError):
                client.call(1, b"x", timeout=0.05)


@pytest.mark.parametrize("seed", range(10))
def test_a_handle_that_is_none_is_eproto_and_leaks_nothing(seed: int) -> None:
    dice = random.Random(seed)
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(20):
        ours, theirs = socket.socketpair()
        with ours, theirs, open(os.devnull, "rb") as null:
            data = dice.choice([frames.handle_frame(0), b"x", dice.randbytes(4)])
            some = [null.fileno(), ours.fileno(), theirs.fileno()]
            chosen = [dice.choice(some) for _ in range(dice.choice([0, 1, 3, 4, 5, 8]))]
            socket.send_fds(ours, [data], chosen)
            with pytest.raises(OSError) as caught:
                Client.recv_handle(theirs)
            assert caught.value.errno == errno.EPROTO
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_handle_that_never_comes_is_eof() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        ours.close()
        with pytest.raises(EOFError):
            Client.recv_handle(theirs)


@pytest.fixture
def server(port: Port) -> Iterator[Server]:
    """A running mount and a port that watches it."""
    with Cloner().open() as instance:
        instance.mount()
        yield Server(instance, port)
