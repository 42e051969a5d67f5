"""The system calls of Linux that the standard library lacks or hides, by cffi."""

import errno
import os
import platform
import select
from collections.abc import Sequence
from io import FileIO
from struct import Struct
from typing import Any, Final, NamedTuple, Protocol, cast

from portcompat.backends import _linux_cffi

ADD: Final = 1
DEL: Final = 2
MOD: Final = 3
_EEXIST: Final = errno.EEXIST

# <sys/timerfd.h>
_ABSTIME: Final = 1
_CANCEL_ON_SET: Final = 2
_LAST: Final = 2**63 - 1  # nanoseconds; what the kernel's clocks go up to


class _Libc(Protocol):
    """What `_linux_cdef` declares."""

    def epoll_ctl(self, epfd: int, op: int, fd: int, event: object, /) -> int: ...
    def timerfd_create(self, clockid: int, flags: int, /) -> int: ...
    def timerfd_settime(self, fd: int, flags: int, new: object, old: object, /) -> int: ...
    def timer_create(self, clockid: int, event: object, timer: object, /) -> int: ...
    def timer_settime(self, timer: object, flags: int, new: object, old: object, /) -> int: ...
    def timer_gettime(self, timer: object, setting: object, /) -> int: ...
    def timer_getoverrun(self, timer: object, /) -> int: ...
    def timer_delete(self, timer: object, /) -> int: ...
    def ppoll(self, fds: object, nfds: int, timeout: object, sigmask: object, /) -> int: ...
    def inotify_init1(self, flags: int, /) -> int: ...
    def inotify_add_watch(self, fd: int, pathname: bytes, mask: int, /) -> int: ...
    def inotify_rm_watch(self, fd: int, wd: int, /) -> int: ...
    def syscall(self, number: int, a: int, b: int, c: int, d: int, e: int, f: int, /) -> int: ...
    def mmap(
        self, addr: object, length: int, prot: int, flags: int, fd: int, offset: int, /
    ) -> object: ...
    def munmap(self, addr: object, length: int, /) -> int: ...


_ffi: Final[Any] = _linux_cffi.ffi
_libc: Final = cast(_Libc, _ffi.dlopen(None))
_epoll_ctl: Final = _libc.epoll_ctl  # looked up once

# struct epoll_event: __u32 events, __u64 data; packed on x86-64 and nowhere else.
_EVENT: Final = Struct("=Iq" if platform.machine() in ("x86_64", "AMD64") else "@Iq")
# struct sigevent: union sigval, signo, notify; 64 bytes in all, on machines of 64 bits.
_SIGEVENT: Final = Struct("@Pii48x")
_SIGNAL: Final = 0  # SIGEV_SIGNAL, by Linux' number
_ANY_EVENT: Final = _ffi.new("char[16]")  # only read by the kernel, so all threads may share it


def _check(result: int) -> int:
    """A C result; -1 raises OSError."""
    if result == -1:
        number: int = _ffi.errno
        raise OSError(number, os.strerror(number))
    return result


def epoll_ctl(epfd: int, op: int, fd: int, events: int, token: int) -> None:
    """epoll_ctl(2) with `token` as the data, where `select.epoll` would put the number."""
    _check(_epoll_ctl(epfd, op, fd, _ffi.from_buffer(_EVENT.pack(events, token))))


def is_registered(epfd: int, fd: int) -> bool:
    """Whether the open file that `fd` is now is registered with the epoll under this number.

    Asks to add it: EEXIST is yes. A file that is not registered is added, and removed at once.
    """
    if _epoll_ctl(epfd, ADD, fd, _ANY_EVENT) == -1:
        if _ffi.errno == _EEXIST:
            return True
        # A signal handler may have made calls, and left an errno, of its own: ask again.
        if _epoll_ctl(epfd, ADD, fd, _ANY_EVENT) == -1:
            return bool(_ffi.errno == _EEXIST)
    _epoll_ctl(epfd, DEL, fd, _ANY_EVENT)
    return False


def timerfd(clock: int) -> int:
    """timerfd_create(2): a descriptor that is readable when its time has come."""
    return _check(_libc.timerfd_create(clock, os.O_CLOEXEC | os.O_NONBLOCK))


def set_timerfd(fd: int, when: int | None) -> None:
    """timerfd_settime(2), to a moment in nanoseconds or to none. That the clock is set counts as if
    the time had come."""
    setting = _setting(0 if when is None else max(when, 1), 0)
    for _ in range(3):
        if _libc.timerfd_settime(fd, _ABSTIME | _CANCEL_ON_SET, setting, _ffi.NULL) == 0:
            return
        # ECANCELED, once: the clock was set before, and it has not been read since.
    _check(_libc.timerfd_settime(fd, _ABSTIME | _CANCEL_ON_SET, setting, _ffi.NULL))


def _setting(value: int, interval: int) -> Any:
    """A struct itimerspec of nanoseconds."""
    setting = _ffi.new("struct itimerspec *")
    for field, span in ((setting.it_value, value), (setting.it_interval, interval)):
        field.tv_sec, field.tv_nsec = divmod(min(span, _LAST), 1_000_000_000)
    return setting


def _nanoseconds(setting: Any) -> tuple[int, int]:
    """The value and interval of a struct itimerspec."""
    value, interval = setting.it_value, setting.it_interval
    return (
        value.tv_sec * 1_000_000_000 + value.tv_nsec,
        interval.tv_sec * 1_000_000_000 + interval.tv_nsec,
    )


class PosixTimer:
    """timer_create(2) with SIGEV_SIGNAL, timer_settime(2) and so on; in nanoseconds."""

    __slots__ = ("_timer",)

    def __init__(self, clock: int, signo: int, value: int) -> None:
        found = _ffi.new("void **")
        event = _ffi.from_buffer(_SIGEVENT.pack(value & 0xFFFF_FFFF_FFFF_FFFF, signo, _SIGNAL))
        _check(_libc.timer_create(clock, event, found))
        self._timer = found[0]

    def set(self, value: int | None, interval: int, absolute: bool) -> tuple[int, int]:
        setting = _setting(0 if value is None else max(value, 1), interval)
        former = _ffi.new("struct itimerspec *")
        _check(_libc.timer_settime(self._timer, _ABSTIME if absolute else 0, setting, former))
        return _nanoseconds(former)

    def get(self) -> tuple[int, int]:
        setting = _ffi.new("struct itimerspec *")
        _check(_libc.timer_gettime(self._timer, setting))
        return _nanoseconds(setting)

    def overrun(self) -> int:
        return _check(_libc.timer_getoverrun(self._timer))

    def delete(self) -> None:
        _check(_libc.timer_delete(self._timer))


def wait_readable(fd: int, timeout: float) -> None:
    """Wait up to `timeout` seconds, to the nanosecond, until `fd` is readable or a signal comes."""
    seconds, rest = divmod(timeout, 1)
    request = _ffi.new("struct pollfd *", (fd, select.POLLIN, 0))
    span = _ffi.new("struct timespec *", (int(seconds), int(rest * 1e9)))
    _libc.ppoll(request, 1, span, _ffi.NULL)  # what is wrong, the call that follows will tell


def inotify_open(flags: int) -> FileIO:
    """A new inotify instance, to be read like a file."""
    try:
        # In one step: no signal handler can raise while there is a number that nobody closes.
        return next(map(FileIO, map(_libc.inotify_init1, (flags,))))
    except ValueError:  # for the number -1
        number: int = _ffi.errno
        raise OSError(number, os.strerror(number)) from None


def inotify_add_watch(fd: int, path: bytes, mask: int) -> int:
    """inotify_add_watch(2): the watch descriptor of the file."""
    former = 0
    while (wd := _libc.inotify_add_watch(fd, path, mask)) == -1:
        # A signal handler may have made calls, and left an errno, of its own: once is not enough.
        number: int = _ffi.errno
        if number == former:
            raise OSError(number, os.strerror(number))
        former = number
    return wd


def inotify_rm_watch(fd: int, wd: int) -> bool:
    """inotify_rm_watch(2); False if the kernel has removed it already."""
    return _libc.inotify_rm_watch(fd, wd) == 0


# io_uring_setup(2) and io_uring_enter(2) have the same numbers on every machine but Alpha, and no
# functions in C libraries.
_IO_URING_SETUP: Final = 425
_IO_URING_ENTER: Final = 426
_PROT_READ_WRITE: Final = 3
_MAP_SHARED_POPULATE: Final = 0x8001


def ring_setup(entries: int, params: bytearray) -> int:
    """io_uring_setup(2): a descriptor; `params` is a struct io_uring_params."""
    place = _place(_ffi.from_buffer(params))
    return _check(_libc.syscall(_IO_URING_SETUP, entries, place, 0, 0, 0, 0))


def ring_enter(fd: int, count: int) -> int:
    """io_uring_enter(2): how many were submitted, or -1."""
    return _libc.syscall(_IO_URING_ENTER, fd, count, 0, 0, 0, 0)


class Mapping(NamedTuple):
    """Memory that is shared with the kernel."""

    base: Any
    size: int


def map_shared(fd: int, size: int, offset: int) -> Mapping:
    """mmap(2)."""
    flags = _MAP_SHARED_POPULATE
    base = _libc.mmap(_ffi.NULL, size, _PROT_READ_WRITE, flags, fd, offset)
    if _place(base) in (-1, 2 ** (8 * _ffi.sizeof("size_t")) - 1):
        number: int = _ffi.errno
        raise OSError(number, os.strerror(number))
    return Mapping(_ffi.cast("char *", base), size)


def unmap(mapping: Mapping) -> None:
    """munmap(2)."""
    _libc.munmap(mapping.base, mapping.size)


def words(mapping: Mapping, offset: int) -> Any:
    """The words of 32 bits from there on; each is loaded and stored as a whole."""
    return _ffi.cast("uint32_t *", mapping.base + offset)


def view(mapping: Mapping, offset: int, size: int) -> Any:
    """The bytes from there on, as a buffer."""
    return _ffi.buffer(mapping.base + offset, size)


# No name is given to what cffi makes of a view, here or in a frame that a traceback may keep: when
# such a thing and its view are collected together, CPython crashes (memory_clear lets go of a view
# that is still exported). The view alone keeps its memory where it is.


def address(buffer: memoryview) -> int:
    """Where the memory of a buffer is, as long as the view of it is kept."""
    return int(_ffi.cast("uintptr_t", _ffi.from_buffer(buffer)))


def iovecs(buffers: Sequence[memoryview]) -> tuple[object, int]:
    """The iovecs of several, to be kept, and where they are."""
    array = _ffi.new("struct iovec[]", len(buffers))
    for entry, buffer in zip(array, buffers, strict=True):
        entry.length = len(buffer)
        entry.base = _ffi.from_buffer(buffer)
    return array, _place(array)


def _place(pointer: object) -> int:
    return int(_ffi.cast("uintptr_t", pointer))
