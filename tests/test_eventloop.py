"""The event loop: what it does otherwise than asyncio's own, and that programs run on it.

That it is like asyncio's is for the standard library's own tests to say: tests/stdlib.py.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

import portcompat
from portcompat import Port
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._threads import in_thread
from portcompat.eventloop import PortEventLoop
from portcompat.selectors import PortSelector

T = TypeVar("T")

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def run(backend: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a coroutine on a loop of the backend, with asyncio's debugging on."""
    monkeypatch.setenv("PORTCOMPAT_BACKEND", backend)

    def run(work: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=portcompat.new_event_loop, debug=True) as runner:
            return runner.run(asyncio.wait_for(work, SOON))

    return run


def test_it_is_a_loop_on_a_port_selector(run: Run, backend: str) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, PortEventLoop)
        assert repr(loop._selector) == f"<PortSelector {backend}>"  # type: ignore[attr-defined]

    run(work())


def test_it_takes_a_selector_of_ones_own(backend: str) -> None:
    selector = PortSelector(backend=backend)
    loop = PortEventLoop(selector)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert repr(selector).endswith("closed>")
    with pytest.raises(TypeError):
        PortEventLoop("epoll")  # type: ignore[arg-type]


def test_another_thread_wakes_it(run: Run) -> None:
    async def work() -> int:
        loop = asyncio.get_running_loop()
        results = [await asyncio.to_thread(abs, -number) for number in range(20)]
        future: asyncio.Future[int] = loop.create_future()
        threading.Thread(target=loop.call_soon_threadsafe, args=(future.set_result, 7)).start()
        return sum(results) + await future

    assert run(work()) == 190 + 7


def test_a_call_from_another_thread_after_it_was_closed_is_refused_and_harms_nobody(
    backend: str,
) -> None:
    loop = PortEventLoop(PortSelector(backend=backend))
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        in_thread(lambda: loop.call_soon_threadsafe(print)).result()
    loop._write_to_self()


@pytest.mark.skipif(sys.platform == "win32", reason="add_signal_handler is of Unix")
def test_signals_are_handled_in_it(run: Run) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        came = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, came.set)
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
            await came.wait()
        finally:
            loop.remove_signal_handler(signal.SIGUSR1)

    run(work())


@pytest.mark.skipif(sys.platform == "win32", reason="the selector loop has no subprocesses there")
def test_it_waits_for_children_without_a_thread_for_each(run: Run) -> None:
    async def work() -> tuple[list[int], bytes]:
        program = "import sys; sys.stdin.read(); sys.exit(7)"
        children = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-S", "-c", program, stdin=asyncio.subprocess.PIPE
            )
            for _ in range(3)
        ]
        if hasattr(os, "pidfd_open"):
            assert not [t for t in threading.enumerate() if "waitpid" in t.name]
        for child in children:
            assert child.stdin is not None
            child.stdin.close()
        echo = await asyncio.create_subprocess_shell("echo out", stdout=asyncio.subprocess.PIPE)
        out, _ = await echo.communicate()
        return [await child.wait() for child in children], out

    assert run(work()) == ([7, 7, 7], b"out\n")


@pytest.mark.skipif(
    not hasattr(os, "pidfd_open") or sys.version_info >= (3, 12),
    reason="there are no pidfds, or they are asyncio's own",
)
def test_a_child_that_outlives_the_loop_leaves_no_descriptor(run: Run) -> None:
    before = len(os.listdir("/proc/self/fd"))
    children: list[Any] = []

    async def work() -> None:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-S", "-c", "import signal; signal.pause()"
        )
        transport: Any = child._transport  # type: ignore[attr-defined]
        children.append(transport._proc)
        transport.close()  # which kills it

    run(work())
    children.pop().wait(SOON)  # if the loop has not seen it end already
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_port_is_a_reader_like_another(run: Run) -> None:
    async def work() -> list[Any]:
        loop = asyncio.get_running_loop()
        got: asyncio.Queue[Any] = asyncio.Queue()
        with Port() as port:

            def take() -> None:
                for event in port.getn(64, 1, 0):
                    got.put_nowait(event.user)

            loop.add_reader(port, take)
            threading.Thread(target=port.send, args=(1, "message")).start()
            with port.timer(user="timer") as timer:
                first = await got.get()
                timer.set(after=0.005)
                second = await got.get()
            loop.remove_reader(port)
        return [first, second]

    assert run(work()) == ["message", "timer"]


def test_streams_echo(run: Run) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def client(address: tuple[str, int], number: int) -> bool:
        reader, writer = await asyncio.open_connection(*address)
        message = bytes([number]) * 300_000  # more than the buffers of both sockets
        writer.write(message)
        found = await reader.readexactly(len(message))
        writer.close()
        await writer.wait_closed()
        return found == message

    async def work() -> list[bool]:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            address = server.sockets[0].getsockname()
            return await asyncio.gather(*(client(address, number) for number in range(10)))

    assert run(work()) == [True] * 10
