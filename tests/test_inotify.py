"""The watcher of inotify: what it asks the kernel for, and what it does when that refuses."""

import errno
import fcntl
import mmap
import os
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("not Linux", allow_module_level=True)

from portcompat import (
    FILE_ACCESS,
    FILE_ATTRIB,
    FILE_DELETE,
    FILE_MODIFIED,
    FILE_RENAME_FROM,
    FILE_RENAME_TO,
    FileObject,
    Port,
)
from portcompat.backends import inotify
from portcompat.backends._linux import inotify_add_watch, inotify_rm_watch
from portcompat.backends.inotify import InotifyWatcher
from portcompat.conformance._files import NOBODY, unprivileged

CHANGED = int(FILE_MODIFIED | FILE_ATTRIB)


@pytest.fixture
def watcher() -> Iterator[InotifyWatcher]:
    made = InotifyWatcher()
    yield made
    made.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"some content")
    return path


def reports(watcher: InotifyWatcher) -> list[tuple[int, int]]:
    found: deque[tuple[int, int]] = deque()
    watcher.read(found)
    return list(found)


def kernel_watches(watcher: InotifyWatcher) -> int:
    """How many watches the kernel has of the instance."""
    text = Path(f"/proc/self/fdinfo/{watcher.fileno()}").read_text()
    return sum(line.startswith("inotify") for line in text.splitlines())


def change(file: Path) -> None:
    with file.open("ab", buffering=0) as writer:
        writer.write(b"x")


def test_all_tokens_of_a_file_share_the_watches_of_the_kernel(
    watcher: InotifyWatcher, file: Path
) -> None:
    for token in range(5):
        watcher.watch(token, bytes(file), True, CHANGED)
    assert kernel_watches(watcher) == 2  # the file and its directory
    change(file)
    assert reports(watcher) == [(token, CHANGED) for token in range(5)]
    for token in range(4):
        watcher.unwatch(token)
    assert kernel_watches(watcher) >= 1
    watcher.unwatch(4)
    assert kernel_watches(watcher) == 0


def test_a_name_alone_needs_the_directory_only(watcher: InotifyWatcher, tmp_path: Path) -> None:
    for token in range(5):
        path = tmp_path / str(token)
        path.touch()
        watcher.watch(token, bytes(path), True, 0)
    assert kernel_watches(watcher) == 1


def test_a_file_nobody_waits_for_is_told_of_no_more(watcher: InotifyWatcher, file: Path) -> None:
    watcher.watch(1, bytes(file), True, CHANGED)
    change(file)
    assert reports(watcher) == [(1, CHANGED)]
    change(file)
    assert reports(watcher) == []  # and that was the last
    assert kernel_watches(watcher) == 1
    file.unlink()
    assert reports(watcher) == [(1, FILE_DELETE)]


def test_nothing_older_than_the_watch_is_told(watcher: InotifyWatcher, file: Path) -> None:
    watcher.watch(1, bytes(file), True, CHANGED)
    change(file)
    other = file.with_name("other")
    other.write_bytes(b"")
    other.rename(file)
    watcher.watch(2, bytes(file), True, CHANGED)
    assert dict(reports(watcher)) == {1: FILE_RENAME_TO}
    change(file)
    assert reports(watcher) == [(2, CHANGED)]


def test_a_watch_of_the_kernel_that_was_not_noted_is_removed(
    watcher: InotifyWatcher, file: Path
) -> None:
    inotify_add_watch(watcher.fileno(), bytes(file), 2)
    change(file)
    assert reports(watcher) == []
    assert kernel_watches(watcher) == 0


def test_a_refused_path_leaves_no_watch(watcher: InotifyWatcher, file: Path) -> None:
    with pytest.raises(FileNotFoundError):
        watcher.watch(1, bytes(file.with_name("missing")), True, CHANGED)
    assert kernel_watches(watcher) == 0


@pytest.mark.parametrize("what", ["write", "unlink", "replace", "nothing"])
def test_after_an_overflow_each_file_is_looked_at(
    watcher: InotifyWatcher, file: Path, what: str
) -> None:
    watcher.watch(1, bytes(file), True, CHANGED)
    expected = []
    if what == "write":
        change(file)
        expected = [(1, CHANGED)]
    elif what == "unlink":
        file.unlink()
        expected = [(1, int(FILE_DELETE))]
    elif what == "replace":
        other = file.with_name("other")
        other.write_bytes(b"")
        other.rename(file)
        expected = [(1, int(FILE_RENAME_TO))]
    os.read(watcher.fileno(), 0x10000) if what != "nothing" else None
    assert reports(watcher) == []  # lost, as the kernel loses them
    watcher._raw.append(inotify._EVENT.pack(-1, inotify._IN_Q_OVERFLOW, 0, 0))
    assert reports(watcher) == expected
    if what == "nothing":
        change(file)
        assert reports(watcher) == [(1, CHANGED)]


def test_after_an_overflow_a_file_may_have_been_read(watcher: InotifyWatcher, file: Path) -> None:
    watcher.watch(1, bytes(file), True, int(FILE_ACCESS))
    watcher.watch(2, bytes(file), True, CHANGED)
    watcher._raw.append(inotify._EVENT.pack(-1, inotify._IN_Q_OVERFLOW, 0, 0))
    assert reports(watcher) == [(1, FILE_ACCESS)]


def test_an_overflow_when_no_watch_is_left_is_no_loss_of_the_name(
    watcher: InotifyWatcher, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, path: bytes, mask: int) -> int:
        raise OSError(errno.ENOSPC, "no space")

    watcher.watch(1, bytes(file), True, CHANGED)
    watcher._raw.append(inotify._EVENT.pack(-1, inotify._IN_Q_OVERFLOW, 0, 0))
    with monkeypatch.context() as patch:
        patch.setattr(inotify, "inotify_add_watch", refuse)
        assert reports(watcher) == []
    change(file)
    assert reports(watcher) == [(1, CHANGED)]


def test_a_file_whose_directory_has_gone_from_its_path_is_told_of(
    watcher: InotifyWatcher, tmp_path: Path
) -> None:
    file = tmp_path / "directory" / "file"
    file.parent.mkdir()
    file.write_bytes(b"")
    watcher.watch(1, bytes(file), True, CHANGED)
    former = file.parent.rename(tmp_path / "former")
    file.parent.mkdir()
    change(former / "file")
    assert reports(watcher) == [(1, CHANGED)]


def test_an_overflow_makes_good_for_watches_that_the_kernel_has_dropped(
    watcher: InotifyWatcher, file: Path
) -> None:
    watcher.watch(1, bytes(file), True, CHANGED)
    for wd in list(watcher._inodes):
        inotify_rm_watch(watcher.fileno(), wd)
    os.read(watcher.fileno(), 0x10000)  # what would have said so
    watcher._raw.append(inotify._EVENT.pack(-1, inotify._IN_Q_OVERFLOW, 0, 0))
    assert reports(watcher) == []
    assert kernel_watches(watcher) == 2
    change(file)
    assert reports(watcher) == [(1, CHANGED)]
    file.unlink()
    assert reports(watcher) == [(1, FILE_DELETE)]


def test_a_limit_of_watches_names_its_sysctl(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, path: bytes, mask: int) -> int:
        raise OSError(errno.ENOSPC, "no space")

    with Port(file_watcher="inotify") as port:
        with monkeypatch.context() as patch:
            patch.setattr(inotify, "inotify_add_watch", refuse)
            with pytest.raises(OSError, match="max_user_watches") as error:
                port.associate(FileObject.stat(file), FILE_MODIFIED)
        assert error.value.errno == errno.EAGAIN
        port.associate(FileObject.stat(file), FILE_MODIFIED)


def test_a_limit_of_instances_names_its_sysctl(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(flags: int) -> None:
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(inotify, "inotify_open", refuse)
    with Port(file_watcher="inotify") as port:
        with pytest.raises(OSError, match="max_user_instances") as error:
            port.associate(FileObject.stat(file), FILE_MODIFIED)
        assert error.value.errno == errno.EMFILE


def test_the_descriptor_is_closed_on_exec(watcher: InotifyWatcher) -> None:
    assert fcntl.fcntl(watcher.fileno(), fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    assert not os.get_blocking(watcher.fileno())


def test_a_port_without_files_has_no_instance(file: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/dev/fd"))

    with Port() as port:
        before = descriptors()
        assert port.features
        port.send(0)
        port.get()
        assert descriptors() == before
        port.associate(FileObject.stat(file), FILE_MODIFIED)
        assert descriptors() == before + 1


def test_a_child_that_closes_its_copy_does_not_disturb_the_parent(file: Path) -> None:
    with Port(file_watcher="inotify") as port:
        port.associate(FileObject.stat(file), FILE_MODIFIED, "user")
        child = os.fork()
        if child == 0:
            os._exit(0 if port.closed else 1)
        assert os.waitpid(child, 0)[1] == 0
        change(file)
        assert port.get(10).user == "user"


@pytest.mark.parametrize("keep", ["the mapping", "the descriptor"])
def test_what_is_stored_through_a_mapping_is_told_when_its_writer_lets_go(
    watcher: InotifyWatcher, file: Path, keep: str
) -> None:
    os.utime(file, ns=(1, 1))
    watcher.watch(1, bytes(file), True, CHANGED)
    opened = os.open(file, os.O_RDWR)
    mapping = mmap.mmap(opened, 0)
    mapping[:4] = b"same"
    mapping.flush()
    assert reports(watcher) == []
    if keep == "the mapping":
        os.close(opened)
    else:
        mapping.close()
    assert reports(watcher) == []
    if keep == "the mapping":
        mapping.close()
    else:
        os.close(opened)
    assert reports(watcher) == [(1, CHANGED)]


def test_a_writer_that_lets_go_of_what_it_mapped_has_changed_nothing(
    watcher: InotifyWatcher, file: Path
) -> None:
    watcher.watch(1, bytes(file), True, CHANGED)
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapping:
        assert mapping[:4] == b"some"
    assert reports(watcher) == []


def test_what_was_stored_before_the_watch_is_not_told_when_its_writer_lets_go(
    watcher: InotifyWatcher, file: Path
) -> None:
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapping:
        mapping[:4] = b"same"
        mapping.flush()
        watcher.watch(1, bytes(file), True, CHANGED)
    assert reports(watcher) == []


def test_to_let_go_of_a_file_that_has_been_told_of_costs_no_watch_of_the_kernel(
    watcher: InotifyWatcher, file: Path
) -> None:
    watcher.watch(1, bytes(file), True, CHANGED)
    change(file)
    assert reports(watcher) == [(1, CHANGED)]
    assert kernel_watches(watcher) == 2


NAME = "file"


@pytest.fixture
def closed_directory() -> Iterator[Path]:
    """A directory in which everything may be done but to list it; the calls are nobody's."""
    with Port(file_watcher="inotify") as port:
        assert port.features  # all modules are there: nobody may not be able to read them
    path = Path(tempfile.mkdtemp(prefix="portcompat-"))
    try:
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)
        with unprivileged():
            (path / NAME).write_bytes(b"")
            path.chmod(0o311)
            yield path
    finally:
        shutil.rmtree(path)


def replace(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(b"")
    other.rename(file)


def rename_and_replace(file: Path) -> None:
    file.rename(file.with_name("away"))
    file.write_bytes(b"")


def rename_another_link(file: Path) -> None:
    file.with_name("another").rename(file.with_name("other"))


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (change, CHANGED),
        (lambda file: file.chmod(0o600), FILE_ATTRIB),
        (lambda file: file.unlink(), FILE_DELETE),
        (lambda file: file.rename(file.with_name("other")), FILE_RENAME_FROM),
        (replace, FILE_RENAME_TO),
        (rename_and_replace, FILE_RENAME_FROM),
        (rename_another_link, FILE_ATTRIB),
        (lambda file: file.with_name("another").unlink(), FILE_ATTRIB),
    ],
    ids=[
        "write",
        "chmod",
        "unlink",
        "rename",
        "replace",
        "both",
        "rename another",
        "unlink another",
    ],
)
def test_a_directory_that_may_not_be_read_is_not_needed(
    watcher: InotifyWatcher, closed_directory: Path, act: Callable[[Path], object], expected: int
) -> None:
    file = closed_directory / NAME
    os.link(file, file.with_name("another"))
    watcher.watch(1, bytes(file), True, CHANGED)
    assert kernel_watches(watcher) == 1
    act(file)
    assert reports(watcher)[-1:] == [(1, int(expected))]


@pytest.mark.parametrize(
    ("act", "expected"),
    [(os.utime, CHANGED), (lambda file: file.unlink(), FILE_DELETE)],
    ids=["utime", "unlink"],
)
def test_a_file_that_may_not_be_read_is_told_of_by_its_directory(
    watcher: InotifyWatcher, closed_directory: Path, act: Callable[[Path], object], expected: int
) -> None:
    file = closed_directory / NAME
    closed_directory.chmod(0o700)
    file.chmod(0)
    watcher.watch(1, bytes(file), True, CHANGED)
    assert kernel_watches(watcher) == 1
    act(file)
    assert reports(watcher) == [(1, int(expected))]


def test_where_neither_may_be_read_the_file_is_refused(
    watcher: InotifyWatcher, closed_directory: Path
) -> None:
    file = closed_directory / NAME
    file.chmod(0)
    with pytest.raises(PermissionError):
        watcher.watch(1, bytes(file), True, CHANGED)
    assert kernel_watches(watcher) == 0


def test_a_directory_that_may_not_be_read_is_refused_though_its_own_may(
    watcher: InotifyWatcher, closed_directory: Path
) -> None:
    inner = closed_directory / "inner"
    inner.mkdir()
    inner.chmod(0o311)
    closed_directory.chmod(0o700)
    with pytest.raises(PermissionError):
        watcher.watch(1, bytes(inner), True, CHANGED)
    assert kernel_watches(watcher) == 0


def once_while_watching(
    watcher: InotifyWatcher, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]
) -> None:
    """Do it in the next `watch`, when the kernel has been given the path once."""
    pump, acts = watcher._pump, [act]

    def act_and_pump() -> None:
        while acts:
            acts.pop()()
        pump()

    monkeypatch.setattr(watcher, "_pump", act_and_pump)


def test_a_file_that_is_replaced_while_it_comes_to_be_watched(
    watcher: InotifyWatcher, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once_while_watching(watcher, monkeypatch, lambda: replace(file))
    status = watcher.watch(1, bytes(file), True, CHANGED)
    assert status.ino == file.stat().st_ino
    assert reports(watcher) == []
    assert kernel_watches(watcher) == 2
    change(file)
    assert reports(watcher) == [(1, CHANGED)]


def test_a_file_whose_directory_is_replaced_while_it_comes_to_be_watched(
    watcher: InotifyWatcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "directory" / "file"
    file.parent.mkdir()
    file.write_bytes(b"")

    def replace_directory() -> None:
        former = file.parent.rename(tmp_path / "former")
        file.parent.mkdir()
        os.link(former / "file", file)

    once_while_watching(watcher, monkeypatch, replace_directory)
    watcher.watch(1, bytes(file), True, int(FILE_MODIFIED))
    (tmp_path / "former" / "file").unlink()
    assert reports(watcher) == []
    file.unlink()
    assert reports(watcher) == [(1, FILE_DELETE)]


def test_a_file_that_is_written_to_all_the_time_can_be_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    path.touch()
    watcher = InotifyWatcher()
    pump = watcher._pump

    def write_and_pump() -> None:
        with path.open("ab") as file:
            file.write(b"more")
        pump()

    monkeypatch.setattr(watcher, "_pump", write_and_pump)
    watcher.watch(1, os.fsencode(path), True, FILE_MODIFIED)
    watcher.close()
