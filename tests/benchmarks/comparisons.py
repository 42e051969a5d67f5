"""The comparisons, and the ratio that each should not exceed."""

from tests.benchmarks import descriptors, imports, messages, msgif, threads
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
)
