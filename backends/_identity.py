"""Which open file a descriptor number is, as far as a process can tell."""

import os
import stat

if os.name == "posix":
    import fcntl

    def _access(fd: int) -> int:
        # It tells the two ends of a pipe apart, which share a device and an inode.
        return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
else:

    def _access(fd: int) -> int:
        return 0


def identity(fd: int) -> tuple[int, ...]:
    """Device, inode, kind and access mode. Two files opened from one inode for the same access
    have the same, and so have all eventfds, epolls and timerfds. OSError EBADF if it is closed."""
    status = os.fstat(fd)
    return (
        status.st_dev,
        status.st_ino,
        stat.S_IFMT(status.st_mode),
        status.st_rdev,
        _access(fd),
    )


def is_identity(fd: int, known: tuple[int, ...] | None) -> bool:
    """Whether `fd` is open and has the identity `known`."""
    try:
        return identity(fd) == known
    except OSError:
        return False
