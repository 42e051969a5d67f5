"""Fixtures that several modules share: descriptors, clocks, files, and mounts."""

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from portcompat import Port, port_close, port_create
from portcompat.aio import aio_close
from portcompat.conformance._aio import CONTENT, Ends, empty_pipe, reap
from portcompat.conformance._callers import PLACES, Caller, Where, caller
from portcompat.conformance._errors import errno_of
from portcompat.conformance._files import NOBODY, Happened
from portcompat.conformance._lives import Kind, Life
from portcompat.conformance._servers import Server
from portcompat.msgif import Cloner, Instance


@pytest.fixture
def number(backend: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A port by its C names."""
    monkeypatch.setenv("PORTCOMPAT_BACKEND", backend)
    number = port_create()
    yield number
    port_close(number)


@pytest.fixture(params=["socket", "pipe"])
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest.fixture
def life(kind: Kind) -> Iterator[Life]:
    """The descriptor that a test watches and closes."""
    with Life(kind) as life:
        yield life


@pytest.fixture
def next_life(kind: Kind, life: Life) -> Iterator[Life]:
    """What takes over its number."""
    with Life(kind) as life:
        yield life


@pytest.fixture(params=["last", "dup alive"])
def keep_dup(request: pytest.FixtureRequest) -> bool:
    """Whether the open file goes on under another number when the descriptor is closed."""
    return bool(request.param == "dup alive")


@pytest.fixture(params=["CLOCK_MONOTONIC", "CLOCK_REALTIME", "CLOCK_BOOTTIME"])
def clock(request: pytest.FixtureRequest, make_port: Callable[..., Port]) -> int:
    """A clock that timers run on: the two that all have, and one that not every host has."""
    number: int | None = getattr(time, request.param, None)
    if number is None:
        pytest.skip(f"this host has no {request.param}")
    if request.param == "CLOCK_BOOTTIME":
        try:
            make_port().timer(number).delete()
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            pytest.skip("this backend cannot wait on CLOCK_BOOTTIME")
    return number


@pytest.fixture
def as_default(backend: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The calls by their C names make their ports on the backend under test."""
    monkeypatch.setenv("PORTCOMPAT_BACKEND", backend)
    return backend


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file to watch, with something in it."""
    path = tmp_path / "watched"
    path.write_bytes(b"some content")
    return path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory to watch, with a file in it that is called "old"."""
    path = tmp_path / "directory"
    path.mkdir()
    (path / "old").write_bytes(b"some content")
    return path


@pytest.fixture
def happened(tmp_path_factory: pytest.TempPathFactory) -> Happened:
    """Tells what a port has to say of all that has happened until now."""
    return Happened(tmp_path_factory.mktemp("aside") / "aside")


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory that belongs to nobody in particular, and that everybody can reach."""
    path = Path(tempfile.mkdtemp(prefix="portcompat-"))
    try:
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)
        path.chmod(0o755)
        yield path
    finally:
        shutil.rmtree(path)


@pytest.fixture
def cloner() -> Cloner:
    return Cloner()


@pytest.fixture
def instance(cloner: Cloner) -> Iterator[Instance]:
    """The server's end of a running mount."""
    with cloner.open() as instance:
        instance.mount()
        yield instance


@pytest.fixture
def server(port: Port, instance: Instance) -> Server:
    """A server that waits in a port of the backend under test for the descriptor of its mount."""
    return Server(instance, port)


@pytest.fixture(params=PLACES)
def where(request: pytest.FixtureRequest) -> Where:
    """Where the callers of a mount are."""
    place: Where = request.param
    return place


@pytest.fixture
def client(where: Where, instance: Instance) -> Iterator[Caller]:
    """A caller of the mount."""
    with caller(where, instance) as made:
        yield made


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[int]:
    """A file with CONTENT in it, open for both directions."""
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    fd = os.open(path, os.O_RDWR)
    yield fd
    errno_of(aio_close, fd)


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A pipe in which a read waits."""
    with empty_pipe() as ends:
        yield ends


@pytest.fixture
def reaped() -> Iterator[None]:
    """No request that tells nobody is left over, by this test or by one before."""
    reap()
    yield
    reap()
