"""A file system of one file that is somewhere else, as fuse(4) lets a process have it."""

import ctypes
import errno
import os
import stat
from pathlib import Path
from struct import Struct
from threading import Thread
from time import time_ns
from typing import Final

DEVICE: Final = "/dev/fuse"

# <linux/fuse.h>, version 7.31
_LOOKUP, _FORGET, _GETATTR, _SETATTR, _INIT, _INTERRUPT, _BATCH_FORGET = 1, 2, 3, 4, 26, 36, 42
_UNANSWERED: Final = (_FORGET, _INTERRUPT, _BATCH_FORGET)
_REQUEST: Final = Struct("=IIQQIIII")  # length, operation, number, inode, and who asks
_ANSWER: Final = Struct("=IiQ")  # length, error, number
_INIT_OUT: Final = Struct("=IIIIHHII32x")
_ENTRY: Final = Struct("=QQQQII")  # inode, generation, how long this may be believed
_ATTRIBUTES: Final = Struct("=QII")  # how long these may be believed
_ATTR: Final = Struct("=QQQQQQIIIIIIIIII")
_BUFFER: Final = 1 << 17
_GIVEN_UP: Final = (errno.ENOENT, errno.EINTR, errno.EAGAIN)  # by whoever made the request

_ROOT: Final = 1
_FILE: Final = 2


class Elsewhere:
    """What is mounted: a directory with the file `name` in it, and whoever else has them.

    Of what is done through the mount, the times alone can be set, and to what they are set does not
    count. The calls that look at the file are answered by a thread.
    """

    name = "file"

    def __init__(self, directory: Path) -> None:
        self._changed = time_ns()
        self._device = os.open(DEVICE, os.O_RDWR)
        options = f"fd={self._device},rootmode={stat.S_IFDIR:o},user_id=0,group_id=0"
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"elsewhere", bytes(directory), b"fuse", 0, options.encode()) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        Thread(target=self._serve, daemon=True).start()

    def change(self) -> None:
        """Somebody else writes to the file."""
        self._changed += 1_000_000_000

    def _serve(self) -> None:
        while True:
            try:
                request = os.read(self._device, _BUFFER)
            except OSError as error:
                if error.errno == errno.ENODEV:  # unmounted
                    return
                if error.errno in _GIVEN_UP:
                    continue
                raise
            _, operation, number, inode, *_ = _REQUEST.unpack_from(request)
            if operation in _UNANSWERED:
                continue
            body = self._answer(operation, inode, request[_REQUEST.size :])
            wrong = body if isinstance(body, int) else 0
            content = b"" if isinstance(body, int) else body
            answer = _ANSWER.pack(_ANSWER.size + len(content), -wrong, number) + content
            try:
                os.write(self._device, answer)
            except FileNotFoundError:
                pass  # given up

    def _answer(self, operation: int, inode: int, body: bytes) -> bytes | int:
        """What to say, or the errno."""
        if operation == _INIT:
            return _INIT_OUT.pack(7, 31, 0, 0, 0, 0, 1 << 16, 1)
        if operation == _LOOKUP:
            if body.rstrip(b"\0") != self.name.encode():
                return errno.ENOENT
            return _ENTRY.pack(_FILE, 0, 0, 0, 0, 0) + self._attributes(_FILE)
        if operation == _SETATTR:
            self._changed += 1_000_000_000
        if operation in (_GETATTR, _SETATTR):
            return _ATTRIBUTES.pack(0, 0, 0) + self._attributes(inode)
        return errno.ENOSYS

    def _attributes(self, inode: int) -> bytes:
        mode = stat.S_IFDIR | 0o755 if inode == _ROOT else stat.S_IFREG | 0o644
        seconds, rest = divmod(self._changed if inode == _FILE else 0, 1_000_000_000)
        times = (seconds,) * 3, (rest,) * 3
        return _ATTR.pack(inode, 0, 0, *times[0], *times[1], mode, 1, 0, 0, 0, 4096, 0)
