"""File systems that a test mounts, where nobody else sees them."""

import ctypes
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from portcompat.conformance._fork import in_fork_child

CLONE_NEWNS = 0x0002_0000


def mount(path: Path, *options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", *options, "none", path], check=True)


def umount(path: Path, *options: str) -> None:
    subprocess.run(["umount", *options, path], check=True)


def where_mounts_are_private(work: Callable[[], object]) -> None:
    """Do `work` in a child whose mounts nobody else sees."""

    def child() -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        work()

    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root may mount")
    in_fork_child(child)
