"""Other people's servers and clients on the event loop, where they are there: uvicorn, aiohttp."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from portcompat import new_event_loop
from portcompat.eventloop import PortEventLoop

PATIENCE = 30.0
Run = Callable[[Coroutine[Any, Any, None]], None]
Message = MutableMapping[str, Any]


@pytest.fixture(params=[False, True], ids=["plain", "debug"])
def run(
    backend: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Run]:
    """Run a coroutine in a loop on the backend under test, to its end or for `PATIENCE`."""
    monkeypatch.setenv("PORTCOMPAT_BACKEND", backend)
    with asyncio.Runner(debug=request.param, loop_factory=new_event_loop) as runner:

        async def in_time(coroutine: Coroutine[Any, Any, None]) -> None:
            assert isinstance(asyncio.get_running_loop(), PortEventLoop)
            async with asyncio.timeout(PATIENCE):
                await coroutine

        yield lambda coroutine: runner.run(in_time(coroutine))


async def ask(host: str, port: int, path: str = "/") -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def test_uvicorn_serves(run: Run) -> None:
    uvicorn = pytest.importorskip("uvicorn")

    async def app(
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        assert scope["type"] == "http"
        kind = type(asyncio.get_running_loop()).__name__.encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": kind})

    async def serve() -> None:
        config = uvicorn.Config(app, port=0, log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.001)
        address = server.servers[0].sockets[0].getsockname()
        answers = await asyncio.gather(*(ask(*address) for _ in range(20)))
        assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
        assert all(b"PortEventLoop" in answer for answer in answers)
        server.should_exit = True
        await serving

    run(serve())


def test_aiohttp_serves_and_asks(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    from aiohttp import ClientSession, web  # type: ignore[import-not-found,unused-ignore]

    content = bytes(range(256)) * 2000
    (tmp_path / "file").write_bytes(content)

    async def echo(request: Any) -> Any:
        talk = web.WebSocketResponse()
        await talk.prepare(request)
        async for message in talk:
            await talk.send_str(message.data)
        return talk

    async def serve() -> None:
        app = web.Application()
        app.add_routes([web.static("/files", tmp_path), web.get("/echo", echo)])
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0]
        async with ClientSession() as session:

            async def download() -> bytes:
                async with session.get(f"http://{host}:{port}/files/file") as response:
                    assert response.status == 200
                    body: bytes = await response.read()
                    return body

            bodies = await asyncio.gather(*(download() for _ in range(20)))
            assert all(body == content for body in bodies)
            async with session.ws_connect(f"http://{host}:{port}/echo") as talk:
                for number in range(20):
                    await talk.send_str(str(number))
                    assert await talk.receive_str(timeout=PATIENCE) == str(number)
        await runner.cleanup()

    run(serve())
