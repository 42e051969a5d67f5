"""port_associate(3C): file systems that come over what is watched, or go from under it."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from portcompat import FILE_MODIFIED, MOUNTEDOVER, UNMOUNTED, FileObject, Port
from portcompat.conformance import needs, rule
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._files import CHANGED, MakePort, told, until_queued, watch, write
from portcompat.conformance._fuse import DEVICE, Elsewhere
from portcompat.conformance._mounts import mount, umount, where_mounts_are_private

pytestmark = [
    pytest.mark.usefixtures("file_watcher"),
    pytest.mark.skipif(sys.platform != "linux", reason="a mount namespace of its own is needed"),
]


@needs("mountedover")
@rule("R227")
def test_a_file_system_mounted_over_the_watched_directory(
    make_port: MakePort, directory: Path
) -> None:
    def work() -> None:
        with make_port() as port:
            watch(port, directory, CHANGED, "user")
            mount(directory)
            assert told(port.getn(2, 1, SOON)) == [("user", MOUNTEDOVER)]

    where_mounts_are_private(work)


@needs("unmounted")
@rule("R227", "R229", "R230")
@pytest.mark.parametrize("state", ["quiet", "changed and seen", "changed"])
@pytest.mark.parametrize("options", [(), ("-l",)], ids=["plain", "lazy"])
def test_a_file_system_that_is_unmounted(
    make_port: MakePort, directory: Path, state: str, options: tuple[str, ...]
) -> None:
    def work() -> None:
        mount(directory)
        file = directory / "file"
        file.write_bytes(b"")
        with make_port() as port:
            watch(port, file, CHANGED, "file")
            watch(port, directory, FILE_MODIFIED, "directory")
            watch(port, file, 0, "name")
            if state != "quiet":
                write(file)
            if state == "changed and seen":
                until_queued(port)
            umount(directory, *options)
            assert sorted(told(port.getn(4, 3, SOON))) == [
                ("directory", UNMOUNTED),
                ("file", UNMOUNTED),
                ("name", UNMOUNTED),
            ]

    where_mounts_are_private(work)


@rule("R227")
def test_a_watch_does_not_keep_a_file_system_mounted(make_port: MakePort, directory: Path) -> None:
    def work() -> None:
        mount(directory)
        file = directory / "file"
        file.write_bytes(b"")
        with make_port() as port:
            watch(port, file, CHANGED, "file")
            watch(port, directory, CHANGED, "directory")
            umount(directory)
            check_no_change_of_others(port, directory)

    where_mounts_are_private(work)


def check_no_change_of_others(port: Port, directory: Path) -> None:
    """What is done where the file system was is not told to who watched it."""
    until_queued(port, 2)
    bits = [event.events for event in port.getn(4, 2, SOON)]
    assert not [each for each in bits if each & CHANGED]
    write(directory / "old")
    assert port.getn(4, 1, 0) == []


def where_somebody_else_has_the_file(directory: Path, work: Callable[[Elsewhere], None]) -> None:
    """Do `work` in a child to which `directory` is a file system that others have, too."""
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        pytest.skip(f"this host has no {DEVICE}, or not for us")
    where_mounts_are_private(lambda: work(Elsewhere(directory)))


@rule("R233", "R209")
def test_what_others_do_to_a_file_is_told_at_the_next_association(
    make_port: MakePort, directory: Path
) -> None:
    """Whether an active watch hears of it is up to the watcher."""

    def work(elsewhere: Elsewhere) -> None:
        with make_port() as port:
            file = FileObject.stat(directory / elsewhere.name)
            elsewhere.change()
            port.associate(file, CHANGED, "user")
            assert told(port.getn(2, 1, SOON)) == [("user", CHANGED)]

    where_somebody_else_has_the_file(directory, work)


@rule("R204", "R220")
def test_what_is_done_here_to_a_file_that_others_have_is_told(
    make_port: MakePort, directory: Path
) -> None:
    def work(elsewhere: Elsewhere) -> None:
        with make_port() as port:
            watch(port, directory / elsewhere.name, CHANGED, "user")
            os.utime(directory / elsewhere.name)
            assert told(port.getn(2, 1, SOON)) == [("user", CHANGED)]

    where_somebody_else_has_the_file(directory, work)
