"""Fixtures that several modules of the suite share: descriptors that are closed while watched."""

from collections.abc import Iterator

import pytest

from portcompat.conformance._lives import Kind, Life


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
