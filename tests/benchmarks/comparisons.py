"""The comparisons, and the ratio that each should not exceed."""

import asyncio

from tests.benchmarks import (
    aio,
    descriptors,
    files,
    imports,
    messages,
    msgif,
    selecting,
    serving,
    threads,
    timers,
)
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
    *(
        Comparison(
            f"{depth} reads of 4 KiB, getn, each",
            name,
            target,
            aio.against(peer, depth),
            inner=depth,
            only="epoll",
            needs=needs,
        )
        for depth in (1, 8, 64)
        for name, target, peer, needs in (
            ("ThreadPoolExecutor(4), os.pread", 1 / 2, aio.thread_pool, None),
            ("caio, linux_aio", 1.0, aio.caio_of_linux_aio, "caio"),
            ("caio, linux_uring", 1.0, aio.caio_of_io_uring, "caio"),
            ("os.pread", None, aio.plain, None),
        )
    ),
    *(
        Comparison(
            f"64 reads of 4 KiB by {kaio}, getn, each",
            "ThreadPoolExecutor(4), os.pread",
            None,
            aio.against(aio.thread_pool, 64, kaio),
            inner=64,
            only="epoll",
        )
        for kaio in ("io_uring", "workers")
    ),
    Comparison("import portcompat", "import asyncio", 1 / 2, imports.against_asyncio, only=""),
    Comparison(
        "call and reply of 64 bytes",
        "Connection send_bytes, recv_bytes",
        1.0,
        msgif.call_against_connection,
        only="",
    ),
    Comparison(
        "63 casts and a call of 64 bytes, per request",
        "Connection send_bytes",
        1.0,
        msgif.casts_against_connection,
        inner=msgif.BATCH,
        only="",
    ),
    Comparison(
        "call and reply of 64 bytes, 8 clients and 4 server threads",
        "Connection, each thread with 2",
        None,
        msgif.crowd_against_connection,
        inner=msgif.CLIENTS,
        only="",
    ),
    Comparison(
        "call and reply of 64 KiB",
        "Connection send_bytes, recv_bytes",
        None,
        msgif.large_call_against_connection,
        only="",
    ),
    Comparison(
        "call and reply of 64 bytes",
        "JSON-RPC over a Unix socket",
        1.0,
        msgif.call_against_json_rpc,
        only="",
    ),
    Comparison(
        "call and reply, server in a port",
        "Connection send_bytes, recv_bytes",
        None,
        msgif.call_through_a_port,
    ),
    *(
        Comparison(
            f"select, {count} ready of {count}",
            "EpollSelector",
            target,
            selecting.ready(count, selecting.standard_epoll),
            only="epoll",
        )
        for count, target in ((1, 1.0), (10, 1 / 1.3), (100, 1 / 1.7), (1000, 1 / 1.7))
    ),
    *(
        Comparison(
            f"select, {count} ready of {count}",
            "select.epoll by hand",
            1.8,
            selecting.ready_by_hand(count),
            only="epoll",
        )
        for count in (100, 1000)
    ),
    *(
        Comparison(
            f"select, {count} ready of {count}",
            "PollSelector",
            None,
            selecting.ready(count, selecting.standard_poll),
            only="poll",
        )
        for count in (1, 100)
    ),
    Comparison("select, 1 ready of 10,000", "1 of 10", 1.1, selecting.many_idle, only="epoll"),
    Comparison(
        "register, unregister",
        "EpollSelector",
        1.0,
        selecting.registering(selecting.standard_epoll),
        only="epoll",
    ),
    Comparison(
        "modify, modify back",
        "EpollSelector",
        None,
        selecting.modifying(selecting.standard_epoll),
        only="epoll",
    ),
    *(
        Comparison(
            f"asyncio echo, {count} connections",
            "default loop",
            1.0,
            selecting.echo(count, asyncio.SelectorEventLoop),
            inner=count,
            only="epoll",
        )
        for count in (1, 50, 500)
    ),
    *(
        Comparison(
            f"asyncio echo, {count} connections",
            "uvloop",
            None,
            selecting.echo(count, selecting.uvloop_loop),
            inner=count,
            only="epoll",
            needs="uvloop",
        )
        for count in (1, 50, 500)
    ),
    *(
        Comparison(
            f"HTTP requests for {name}, 50 connections",
            peer,
            None,
            serving.against(word, size),
            inner=serving.CLIENTS,
            only="epoll",
            needs="h11",
        )
        for name, size in (("1 KiB", 1 << 10), ("1 MiB", 1 << 20))
        for peer, word in (("http.server", "threads"), ("asyncio and h11", "asyncio"))
    ),
)
