"""Fixtures that several modules share: descriptors that are closed while watched, and mounts."""

from collections.abc import Iterator

import pytest

from portcompat import Port
from portcompat.conformance._callers import PLACES, Caller, Where, caller
from portcompat.conformance._lives import Kind, Life
from portcompat.conformance._servers import Server
from portcompat.msgif import Cloner, Instance


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
