"""What pytest reports, as the steps of `portcompat.conformance._report`."""

import json
import os
from pathlib import Path

import pytest

from portcompat.conformance._report import Results, Step
from portcompat.pytest_plugin import backends_under_test, watchers_under_test


def backend_of(item: pytest.Item) -> str | None:
    """The backend that the test is for, None for one that does not depend on it."""
    callspec = getattr(item, "callspec", None)
    name: object = callspec.params.get("backend") if callspec else None
    # A project may have a parameter of that name for purposes of its own.
    return name if isinstance(name, str) and name in backends_under_test(item.config) else None


def watcher_of(item: pytest.Item) -> str | None:
    """The file watcher that the test is for, None for one that needs none."""
    callspec = getattr(item, "callspec", None)
    name: object = callspec.params.get("file_watcher") if callspec else None
    return name if isinstance(name, str) and name in watchers_under_test(item.config) else None


def rules_of(item: pytest.Item) -> list[str]:
    """The rules that the test checks."""
    return [number for mark in item.iter_markers("rule") for number in mark.args]


declared_rules = pytest.StashKey[tuple[str, ...]]()
"""Of a test with a declared difference: the rules that are concerned. It proves no others."""


class Recorder:
    """Records the tests that check rules, as a pytest plugin.

    Writes the document to the FILE of --port-json at the end, and each step as a line to the
    descriptor of --port-steps when it happens.
    """

    def __init__(self, config: pytest.Config, modes: dict[str, str]) -> None:
        self._modes = modes
        self._results = Results()
        self._file: Path | None = config.option.port_json
        descriptor: int | None = config.option.port_steps
        self._steps = None if descriptor is None else os.fdopen(descriptor, "wb")
        self._ended: dict[str, Step] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        wanted = set(session.config.option.port_rule)
        tests = [
            {
                "test": _name(item.nodeid),
                "backend": backend_of(item),
                "rules": [
                    number
                    for number in item.stash.get(declared_rules, rules_of(item))
                    if not wanted or number in wanted
                ],
            }
            for item in session.items
        ]
        self._take({"step": "plan", "backends": self._modes, "tests": tests})

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        test = _name(nodeid)
        self._ended[nodeid] = {
            "step": "end", "test": test, "outcome": "pass", "reason": "", "details": "",
            "seconds": 0.0,
        }  # fmt: skip
        self._take({"step": "begin", "test": test})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        step = self._ended[report.nodeid]
        step["seconds"] += report.duration
        if report.failed:
            step |= {"outcome": "fail", "reason": _message(report), "details": report.longreprtext}
        elif report.skipped and step["outcome"] == "pass":
            declared = getattr(report, "wasxfail", None)
            if declared is not None:
                step |= {"outcome": "declared", "reason": declared}
            else:
                step |= {"outcome": "unsupported", "reason": _message(report)}

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._take(self._ended.pop(nodeid))

    def pytest_sessionfinish(self) -> None:
        if self._file is not None:
            document = json.dumps(self._results.document(), indent=2)
            self._file.write_text(document + "\n", "utf-8")

    def _take(self, step: Step) -> None:
        self._results.take(step)
        if self._steps is not None:
            self._steps.write(json.dumps(step).encode() + b"\n")
            self._steps.flush()  # at once, or a fork child would write it again


def _name(nodeid: str) -> str:
    module, _, test = nodeid.partition("::")
    return f"{Path(module).name}::{test}"


def _message(report: pytest.TestReport) -> str:
    """The one line of a report that says most."""
    match report.longrepr:
        case (_, _, str(message)):
            return message.removeprefix("Skipped: ")
        case None:
            return ""
        case longrepr:
            crash = getattr(longrepr, "reprcrash", None)
            text: str = crash.message if crash is not None else str(longrepr)
            return next((line for line in text.splitlines() if line.strip()), "")
