"""The conformance suite: what every backend owes, stated with public names only.

A test carries the numbers of the rules that it checks, and the features without which a backend
cannot be asked:

    @rule("R112", "R114")
    @needs("hangup")
    def test_closing_a_descriptor_drops_its_association(port: Port) -> None: ...
"""

import pytest

__all__ = ["needs", "rule"]

rule = pytest.mark.rule
needs = pytest.mark.needs
