"""Fixtures that several modules of these tests share; files to watch are the suite's."""

import sys
from collections.abc import Iterator

import pytest

from portcompat.conformance.conftest import file, happened

__all__ = ["file", "happened", "switching"]


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads take turns as often as CPython can."""
    former = sys.getswitchinterval()
    sys.setswitchinterval(0.000_005)
    yield
    sys.setswitchinterval(former)
