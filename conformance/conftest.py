"""Fixtures that several modules share: descriptors that are closed while watched, and clocks."""

import errno
import time
from collections.abc import Callable, Iterator

import pytest

from portcompat import Port, port_close, port_create
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
