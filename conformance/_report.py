"""What a run of the suite has found: outcomes by backend and rule, and the JSON document of them.

A run is told as steps, each a dictionary that survives JSON, so that the process that runs pytest
and the one that shows the progress need nothing in common but these:

    {"step": "plan", "backends": {name: mode}, "tests": [{"test", "backend", "rules"}, …]}
    {"step": "begin", "test"}
    {"step": "end", "test", "outcome", "reason", "details", "seconds"}

A test without a backend holds for each.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from portcompat._host import describe_platform
from portcompat._version import __version__

SCHEMA: Final = 1
OUTCOMES: Final = ("fail", "declared", "pass", "unsupported")
"""Worst first: a rule's outcome is the first of these that one of its tests has."""

Step = dict[str, Any]


@dataclass(slots=True)
class TestRecord:
    """A test of the plan, and its outcome once it has one."""

    __test__ = False  # not a test itself

    test: str
    backend: str | None
    rules: list[str]
    outcome: str | None = None
    reason: str = ""
    details: str = ""
    seconds: float = 0.0


@dataclass(slots=True)
class Results:
    """All that is known of a run so far."""

    modes: dict[str, str] = field(default_factory=dict)
    records: dict[str, TestRecord] = field(default_factory=dict)
    running: str | None = None

    def take(self, step: Step) -> None:
        """Add one step of the run."""
        match step:
            case {"step": "plan", "backends": modes, "tests": tests}:
                self.modes = modes
                self.records = {test["test"]: TestRecord(**test) for test in tests}
            case {"step": "begin", "test": test}:
                self.running = test
            case {"step": "end", "test": test}:
                self.running = None
                record = self.records[test]
                record.outcome = step["outcome"]
                record.reason = step["reason"]
                record.details = step["details"]
                record.seconds = step["seconds"]

    def abort(self, reason: str) -> None:
        """The run ended before its time: what has no outcome yet has failed."""
        for record in self.records.values():
            if record.outcome is None:
                record.outcome = "fail"
                record.reason = reason if record.test == self.running else f"not run: {reason}"

    def unfinished(self) -> bool:
        """Whether a test of the plan has no outcome yet."""
        return any(record.outcome is None for record in self.records.values())

    def tests_of(self, backend: str) -> list[TestRecord]:
        """The tests that say something about `backend`."""
        return [record for record in self.records.values() if record.backend in (backend, None)]

    def failures(self) -> list[TestRecord]:
        return [record for record in self.records.values() if record.outcome == "fail"]

    def rules_of(self, backend: str) -> dict[str, dict[str, object]]:
        """For each rule that was tested: its outcome, its tests, and why if it is not "pass"."""
        by_rule: dict[str, list[TestRecord]] = {}
        for record in self.tests_of(backend):
            if record.outcome is not None:
                for rule in record.rules:
                    by_rule.setdefault(rule, []).append(record)
        return {rule: _verdict(by_rule[rule]) for rule in sorted(by_rule)}

    def summary_of(self, backend: str) -> dict[str, object]:
        """How many rules have each outcome, how many tests ran, and for how long."""
        tests = [record for record in self.tests_of(backend) if record.outcome is not None]
        counted = Counter(rule["outcome"] for rule in self.rules_of(backend).values())
        return {
            **{outcome: counted[outcome] for outcome in sorted(OUTCOMES)},
            "tests": len(tests),
            "failed_tests": sum(record.outcome == "fail" for record in tests),
            "seconds": round(sum(record.seconds for record in tests), 3),
        }

    def document(self) -> dict[str, object]:
        """The results as `portcompat conformance --json` writes them."""
        return {
            "schema": SCHEMA,
            "portcompat": __version__,
            "platform": describe_platform(),
            "backends": {
                backend: {
                    "mode": mode,
                    "rules": self.rules_of(backend),
                    "summary": self.summary_of(backend),
                }
                for backend, mode in self.modes.items()
            },
        }


def _verdict(tests: list[TestRecord]) -> dict[str, object]:
    outcome = next(outcome for outcome in OUTCOMES if any(t.outcome == outcome for t in tests))
    reasons = dict.fromkeys(t.reason for t in tests if t.outcome == outcome and t.reason)
    return {
        "outcome": outcome,
        "tests": [t.test for t in tests],
        "reason": None if outcome == "pass" else "; ".join(reasons),
    }
