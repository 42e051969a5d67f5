"""The comparisons, and the ratio that each should not exceed."""

from tests.benchmarks import descriptors, files, imports, messages, threads, timers
from tests.benchmarks.measure import Comparison

ALL = (
    Comparison("send, get", "queue.Queue put, get", 1 / 2, messages.one_by_one),
    Comparison(
        "64 send, getn, per event",
        "SimpleQueue put, get of None",
        2.0,
        messages.batches_of_nothing,
        inner=messages.BATCH,
    ),
    Comparison(
        "64 send, getn, per event",
        "SimpleQueue put, get of a tuple",
        2.0,
        messages.batches_of_messages,
        inner=messages.BATCH,
    ),
    Comparison(
        "round trip of two threads",
        "eventfd and epoll by hand",
        1.5,
        threads.against_eventfd,
        only="epoll",
    ),
    Comparison(
        "round trip of two threads",
        "pipe and poll by hand",
        None,
        threads.against_pipes,
        only="poll",
    ),
    Comparison(
        "round trip of two threads",
        "asyncio call_soon_threadsafe",
        1 / 3,
        threads.against_asyncio,
    ),
    Comparison(
        "associate, write, get, read",
        "epoll by hand, EPOLLONESHOT",
        2.5,
        descriptors.against_epoll,
        only="epoll",
    ),
    Comparison(
        "associate, write, get, read", "poll by hand", None, descriptors.against_poll, only="poll"
    ),
    Comparison("the same, 10,000 idle", "10 idle", 1.1, descriptors.many_idle, only="epoll"),
    Comparison("the same, 10,000 idle", "10 idle", None, descriptors.many_idle, only="poll"),
    Comparison(
        "arm 100,000 timers, each",
        "asyncio call_later",
        1 / 1.5,
        timers.arming,
        inner=timers.COUNT,
    ),
    Comparison(
        "make and arm 100,000 timers, each",
        "asyncio call_later",
        None,
        timers.making_and_arming,
        inner=timers.COUNT,
    ),
    Comparison(
        "getn of 100,000 due timers, each",
        "asyncio's callbacks",
        1 / 3,
        timers.firing,
        inner=timers.COUNT,
    ),
    Comparison("cancel, arm among 1,000,000", "among 1,000", 3.0, timers.many_armed),
    Comparison("lateness of a timer", "asyncio call_at", None, timers.lateness_and_asyncio),
    Comparison(
        "lateness of a timer",
        "timerfd by hand",
        None,
        timers.lateness_and_timerfd,
        only="epoll",
    ),
    Comparison(
        "write a file, get",
        "inotify by hand, write, read",
        None,
        files.against_inotify,
        only="epoll",
    ),
    Comparison(
        "the same, look, associate",
        "inotify by hand, write, read",
        None,
        files.cycle_against_inotify,
        only="epoll",
    ),
    Comparison(
        "write a file, get",
        "watchdog, write, queue.get",
        1.0,
        files.against_watchdog,
        only="epoll",
        needs="watchdog",
    ),
    Comparison(
        "write a file, get",
        "watchfiles, write, watch",
        1.0,
        files.against_watchfiles,
        only="epoll",
        needs="watchfiles",
    ),
    Comparison("import portcompat", "import asyncio", 1 / 2, imports.against_asyncio, only=""),
)
