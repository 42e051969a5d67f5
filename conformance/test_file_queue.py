"""File events among others: order, slots, alerts, waiting threads, closing, fork."""

import errno
import gc
import os
import select
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic

import pytest

from portcompat import (
    FILE_ATTRIB,
    FILE_DELETE,
    FILE_MODIFIED,
    POLLIN,
    POLLOUT,
    PORT_SOURCE_ALERT,
    PORT_SOURCE_FD,
    PORT_SOURCE_FILE,
    PORT_SOURCE_USER,
    FileObject,
    Port,
    PortTimeout,
)
from portcompat.conformance import rule
from portcompat.conformance._descriptors import SOON, socket_pair
from portcompat.conformance._errors import errno_of
from portcompat.conformance._files import (
    CHANGED,
    SECOND,
    Happened,
    MakePort,
    told,
    until_queued,
    watch,
    write,
)
from portcompat.conformance._fork import in_fork_child
from portcompat.conformance._threads import in_thread, waiting

pytestmark = pytest.mark.usefixtures("file_watcher")


@rule("R084")
def test_files_messages_and_descriptors_share_one_queue(port: Port, tmp_path: Path) -> None:
    with socket_pair() as (ours, _):
        for number in range(3):
            path = tmp_path / str(number)
            path.write_bytes(b"")
            port.send(0, number)
            port.associate(FileObject(path, mtime=1), FILE_MODIFIED, number)
        port.associate(ours, POLLOUT, "descriptor")
        port.send(0, "last")
        events = port.getn(9, 8, 0)
    assert [event.user for event in events] == [0, 0, 1, 1, 2, 2, "descriptor", "last"]
    assert [event.source for event in events] == [
        *(PORT_SOURCE_USER, PORT_SOURCE_FILE) * 3,
        PORT_SOURCE_FD,
        PORT_SOURCE_USER,
    ]


@rule("R084", "R088")
def test_associating_again_moves_the_event_to_the_tail(port: Port, file: Path) -> None:
    watched = FileObject(file, mtime=1)
    port.associate(watched, FILE_MODIFIED, "file")
    port.send(0, "message")
    port.associate(watched, FILE_MODIFIED, "file")
    assert [event.user for event in port.getn(4, 2, 0)] == ["message", "file"]


@rule("R085")
def test_a_wait_for_several_counts_files(port: Port, tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(3)]
    for number, path in enumerate(files):
        path.write_bytes(b"")
        watch(port, path, FILE_MODIFIED, number)
    waiter = waiting(lambda: port.getn(8, 4, SOON))
    for path in files:
        write(path)
    assert not waiter.over
    port.send(0, "the fourth")
    assert sorted(str(event.user) for event in waiter.result()) == ["0", "1", "2", "the fourth"]


@rule("R167", "R171", "R214")
def test_an_alert_leaves_file_events_where_they_are(
    port: Port, file: Path, happened: Happened
) -> None:
    watch(port, file, CHANGED, "file")
    port.alert(3, "alert")
    write(file)
    for _ in range(3):
        assert [event.source for event in port.getn(4, 1, 0)] == [PORT_SOURCE_ALERT]
    port.alert(0)
    assert told(happened(port)) == [("file", CHANGED)]


@rule("R079", "R080", "R083")
def test_a_watch_takes_a_slot(make_port: MakePort, file: Path) -> None:
    port = make_port(max_events=2)
    one, two = watch(port, file), watch(port, file)
    three = FileObject.stat(file)
    assert errno_of(port.associate, three, CHANGED) == errno.EAGAIN
    assert errno_of(port.send, 0) == errno.EAGAIN
    port.associate(one, FILE_MODIFIED, "again")  # needs no slot of its own
    port.dissociate(two)
    port.associate(three, CHANGED, "three")
    assert errno_of(port.send, 0) == errno.EAGAIN
    write(file)
    until_queued(port, 2)
    assert told(port.getn(4, 2, 0)) == [("again", FILE_MODIFIED), ("three", CHANGED)]


@rule("R083")
def test_a_watch_without_a_slot_watches_nothing(make_port: MakePort, file: Path) -> None:
    port = make_port(max_events=1)
    port.send(0, "message")
    watched = FileObject(file, mtime=1)
    for _ in range(3):
        assert errno_of(port.associate, watched, FILE_MODIFIED) == errno.EAGAIN
    assert errno_of(port.dissociate, watched) in (errno.EINVAL, errno.ENOENT)
    assert [event.user for event in port.getn(2, 1, 0)] == ["message"]
    port.associate(watched, FILE_MODIFIED, "now")
    assert [event.user for event in port.getn(2, 1, 0)] == ["now"]


@rule("R082")
def test_events_of_files_find_their_slots_however_full_the_port_is(
    make_port: MakePort, tmp_path: Path
) -> None:
    port = make_port(max_events=20)
    files = [tmp_path / str(number) for number in range(10)]
    for number, path in enumerate(files):
        path.write_bytes(b"")
        watch(port, path, FILE_MODIFIED, number)
    for number in range(10):
        port.send(0, number)
    assert errno_of(port.send, 0) == errno.EAGAIN
    for path in files:
        write(path)
    until_queued(port, 20)
    found = port.getn(20, 20, 0)
    assert sorted(event.user for event in found) == [n for n in range(10) for _ in range(2)]


@rule("R085", "R199")
def test_a_waiting_thread_gets_the_event(port: Port, file: Path) -> None:
    watch(port, file, FILE_MODIFIED, "user")
    waiter = waiting(lambda: port.get(SOON))
    write(file)
    assert told([waiter.result()]) == [("user", FILE_MODIFIED)]


@rule("R199")
def test_a_waiting_thread_gets_the_event_of_what_another_associates(port: Port, file: Path) -> None:
    waiter = waiting(lambda: port.get(SOON))
    watch(port, file, FILE_MODIFIED, "user")
    write(file)
    assert told([waiter.result()]) == [("user", FILE_MODIFIED)]


@rule("R209")
def test_a_waiting_thread_gets_the_event_of_stamps(port: Port, file: Path) -> None:
    waiter = waiting(lambda: port.get(SOON))
    port.associate(FileObject(file, mtime=1), FILE_MODIFIED, "user")
    assert told([waiter.result()]) == [("user", FILE_MODIFIED)]


@rule("R085")
def test_of_several_waiting_threads_each_gets_one(port: Port, tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(4)]
    for number, path in enumerate(files):
        path.write_bytes(b"")
        watch(port, path, FILE_MODIFIED, number)
    waiters = [waiting(lambda: port.get(SOON)) for _ in files]
    for path in files:
        write(path)
    assert sorted(waiter.result().user for waiter in waiters) == [0, 1, 2, 3]


@rule("R085", "R214")
def test_threads_that_associate_again_lose_no_change(
    port: Port, tmp_path: Path, scale: Callable[[int, int, int], int]
) -> None:
    rounds = scale(100, 1000, 20_000)
    files = []
    for number in range(4):
        path = tmp_path / str(number)
        path.write_bytes(b"")
        files.append(path)
        watch(port, path, FILE_MODIFIED, (number, path))
    sizes = [0] * 4

    def follow() -> None:
        while True:
            event = port.get()
            if event.source == PORT_SOURCE_ALERT:
                return
            number, path = event.user
            event.object.refresh()
            sizes[number] = path.stat().st_size
            port.associate(event.object, FILE_MODIFIED, event.user)

    followers = [in_thread(follow) for _ in range(3)]
    for _ in range(rounds):
        for path in files:
            write(path)
    deadline = monotonic() + SOON
    while sizes != [rounds] * 4 and monotonic() < deadline:
        with suppress(OSError):
            select.select([], [], [], 0.002)
    port.alert(1)
    for follower in followers:
        follower.result()
    assert sizes == [rounds] * 4


@rule("R131", "R199")
def test_a_wait_without_a_change_takes_its_time(port: Port, file: Path) -> None:
    watch(port, file)
    start = monotonic()
    with pytest.raises(PortTimeout):
        port.get(0.05)
    assert monotonic() - start >= 0.05


@rule("R072", "R199")
def test_the_descriptor_of_a_port_is_readable_while_a_file_event_waits(
    port: Port, file: Path
) -> None:
    watched = FileObject(file, mtime=1)
    assert select.select([port], [], [], 0)[0] == []
    port.associate(watched, FILE_MODIFIED)
    assert select.select([port], [], [], SOON)[0] == [port]
    port.get(0)
    assert select.select([port], [], [], 0)[0] == []


@rule("R193", "R199")
def test_an_outer_port_tells_of_a_file(port: Port, make_port: MakePort, file: Path) -> None:
    inner = make_port()
    watch(inner, file, FILE_MODIFIED, "file")
    port.associate(inner, POLLIN, "inner")
    write(file)
    assert port.get(SOON).user == "inner"
    until_queued(inner)
    assert told(inner.getn(2, 1, 0)) == [("file", FILE_MODIFIED)]


@rule("R177")
def test_a_port_closed_takes_its_watches_with_it(
    make_port: MakePort, file: Path, happened: Happened
) -> None:
    former = make_port()
    watched = watch(former, file)
    write(file)
    former.close()
    port = make_port()
    assert errno_of(port.dissociate, watched) == errno.EINVAL
    write(file)
    assert happened(port) == []


@rule("R177")
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="/proc/self/fd is needed to count")
def test_a_port_closed_gives_back_its_descriptors(make_port: MakePort, file: Path) -> None:
    with make_port() as port:
        watch(port, file)
    gc.collect()
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with make_port() as port:
            watch(port, file)
            watch(port, file.parent)
            write(file)
            port.pending()
    assert sorted(os.listdir("/proc/self/fd")) == before


@rule("R178", "R179")
def test_who_waits_for_a_file_in_a_port_that_is_closed_gets_ebadf(
    make_port: MakePort, file: Path
) -> None:
    port = make_port()
    watch(port, file)
    waiters = [waiting(lambda: port.get(SOON)) for _ in range(3)]
    port.close()
    for waiter in waiters:
        with pytest.raises(OSError) as caught:
            waiter.result()
        assert caught.value.errno == errno.EBADF


@rule("R189")
def test_a_fork_child_has_no_watches(port: Port, file: Path, happened: Happened) -> None:
    watched = watch(port, file, CHANGED, "parent's")

    def child() -> None:
        assert errno_of(port.associate, watched, CHANGED) == errno.EBADF
        assert errno_of(port.dissociate, watched) == errno.EBADF
        port.close()

    in_fork_child(child)
    assert happened(port) == []
    write(file)
    assert told(happened(port)) == [("parent's", CHANGED)]


@rule("R189")
def test_a_fork_child_has_watches_of_its_own(
    port: Port, make_port: MakePort, file: Path, happened: Happened
) -> None:
    watched = watch(port, file, CHANGED, "parent's")

    def child() -> None:
        with make_port() as own:
            own.associate(watched, CHANGED, "child's")
            file.chmod(0o600)
            assert told(own.getn(2, 1, SOON)) == [("child's", FILE_ATTRIB)]
            own.associate(watched, 0)
            own.dissociate(watched)

    in_fork_child(child)
    assert told(happened(port)) == [("parent's", FILE_ATTRIB)]


@rule("R085", "R189")
def test_what_a_fork_child_does_to_a_file_is_told_to_the_parent(
    port: Port, file: Path, happened: Happened
) -> None:
    watch(port, file, CHANGED, "user")
    in_fork_child(lambda: write(file))
    assert told(happened(port)) == [("user", CHANGED)]
    watch(port, file, CHANGED, "user")
    in_fork_child(file.unlink)
    assert told(happened(port)) == [("user", FILE_DELETE)]


@rule("R082", "R206")
def test_many_watches_of_one_file_are_one_event_each(port: Port, file: Path) -> None:
    for number in range(500):
        watch(port, file, FILE_MODIFIED, number)
    write(file)
    until_queued(port, 500)
    assert [event.user for event in port.getn(1000, 500, SOON)] == list(range(500))
    write(file)
    assert port.pending() == 0


@rule("R134", "R199")
def test_a_file_may_be_changed_by_a_thread_while_it_is_associated(
    port: Port, file: Path, happened: Happened
) -> None:
    watched = FileObject.stat(file)

    def churn() -> None:
        for turn in range(200):
            os.utime(file, ns=(SECOND, turn * SECOND))

    changer = in_thread(churn)
    while not changer.over:
        port.associate(watched, FILE_MODIFIED)
        port.getn(2, 1, 0)
        watched.refresh()
    changer.result()
    port.associate(watched, FILE_MODIFIED, "last")
    happened(port)
    watched.refresh()
    assert watched.mtime == 199 * SECOND
