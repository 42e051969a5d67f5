"""The declarations of `_linux`; run this file to compile them into `_linux_cffi.py`."""

from pathlib import Path

from cffi import FFI

# struct epoll_event is packed on x86-64 only (EPOLL_PACKED in <uapi/linux/eventpoll.h>), and a
# compiled declaration serves every machine. So the kernel is given 16 bytes that are laid out by
# hand, and sees as many of them as it wants. So is struct sigevent, half of which is a union.
# syscall(2) is variadic in C, for integers alone, which are passed as any others.
CDEF = """
int epoll_ctl(int epfd, int op, int fd, void *event);
struct pollfd { int fd; short events; short revents; };
struct timespec { long tv_sec; long tv_nsec; };
struct itimerspec { struct timespec it_interval; struct timespec it_value; };
int timerfd_create(int clockid, int flags);
int timerfd_settime(int fd, int flags, const struct itimerspec *new, struct itimerspec *old);
int timer_create(int clockid, void *event, void **timer);
int timer_settime(void *timer, int flags, const struct itimerspec *new, struct itimerspec *old);
int timer_gettime(void *timer, struct itimerspec *setting);
int timer_getoverrun(void *timer);
int timer_delete(void *timer);
int ppoll(struct pollfd *fds, unsigned long nfds, const struct timespec *timeout, void *sigmask);
int inotify_init1(int flags);
int inotify_add_watch(int fd, const char *pathname, uint32_t mask);
int inotify_rm_watch(int fd, int wd);
long syscall(long number, long a, long b, long c, long d, long e, long f);
void *mmap(void *addr, size_t length, int prot, int flags, int fd, long offset);
int munmap(void *addr, size_t length);
struct iovec { void *base; size_t length; };
"""


def source() -> str:
    """The text of the compiled module."""
    ffi = FFI()
    ffi.set_source("portcompat.backends._linux_cffi", None)
    ffi.cdef(CDEF)
    target = Path(__file__).with_name("_linux_cffi.new")
    try:
        ffi.emit_python_code(str(target))
        return target.read_text()
    finally:
        target.unlink(missing_ok=True)


if __name__ == "__main__":
    Path(__file__).with_name("_linux_cffi.py").write_text(source())
