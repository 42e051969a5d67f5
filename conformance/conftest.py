"""Fixtures that several modules of the suite share."""

from collections.abc import Iterator

import pytest

from portcompat import port_close, port_create
from portcompat.conformance._lives import Kind, Life


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
