"""Declared differences: the rows of deviations.toml, and the tests that they are about."""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from portcompat.conformance._rules import SUITE

ANY = "*"
_COLUMNS = {
    "backend": str,
    "test": str,
    "rules": list,
    "reason": str,
    "source": str,
    "watcher": str,
}


class BadDeviation(Exception):
    """A file of deviations that cannot be taken at its word. The message is for people."""


class Deviation(NamedTuple):
    """One row: `test` ("module::function") cannot hold on `backend`, and why.

    With `watcher`, where file events come from that watcher only.
    """

    file: Path
    backend: str
    test: str
    rules: tuple[str, ...]
    reason: str
    source: str
    watcher: str = ANY

    @property
    def module(self) -> str:
        return self.test.partition("::")[0]

    def covers(self, backend: str, watcher: str | None, test: str) -> bool:
        """Whether this row is about the test "module::function" on `backend` and `watcher`."""
        return (
            self.test == test and self.backend in (ANY, backend) and self.watcher in (ANY, watcher)
        )

    def __str__(self) -> str:
        return f"{self.file}: the row of {self.test} on {self.backend}"


def load_deviations(files: Iterable[Path]) -> list[Deviation]:
    """The rows of `files`. Raises `BadDeviation` for what is no such file."""
    return [row for file in files for row in _load(file)]


def _load(file: Path) -> list[Deviation]:
    try:
        tables = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise BadDeviation(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:
        raise BadDeviation(f"{file} is not TOML: {error}") from None
    rows = tables.pop("deviation", [])
    if tables or not isinstance(rows, list):
        raise BadDeviation(f"{file} may have [[deviation]] tables only")
    return [_row(file, number, row) for number, row in enumerate(rows, 1)]


def _row(file: Path, number: int, row: dict[str, object]) -> Deviation:
    row = {"watcher": ANY, **row}
    for name, kind in _COLUMNS.items():
        if not isinstance(row.get(name), kind) or not row[name]:
            raise BadDeviation(f"{file}: row {number} needs {name!r}, a {kind.__name__}")
    if unknown := sorted(row.keys() - _COLUMNS):
        raise BadDeviation(f"{file}: row {number} has an unknown key {unknown[0]!r}")
    columns = {name: row[name] for name in _COLUMNS if name != "rules"}
    rules = row["rules"]
    assert isinstance(rules, list)
    return Deviation(file=file, rules=tuple(map(str, rules)), **columns)  # type: ignore[arg-type]


def stale(
    rows: Iterable[Deviation],
    covered: set[Deviation],
    modules: set[str],
    backends: Iterable[str],
    watchers: Iterable[str],
) -> list[Deviation]:
    """The rows that are about no test, as far as this run can tell.

    `covered` are the rows that were about one, `modules` those that were collected whole.
    """
    tested, watching = {ANY, *backends}, {ANY, *watchers}
    return [
        row
        for row in rows
        if row not in covered
        and row.backend in tested
        and row.watcher in watching
        and (row.module in modules or not (SUITE / row.module).is_file())
    ]
