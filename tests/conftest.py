"""Fixtures that the tests of our code share with the conformance suite: files to watch."""

from portcompat.conformance.conftest import file, happened

__all__ = ["file", "happened"]
