"""A run of the suite in pytest: what its options and deviations make of the collected tests."""

from pathlib import Path

import pytest

from portcompat.conformance._backends import describe, watchers_of
from portcompat.conformance._deviations import BadDeviation, Deviation, load_deviations, stale
from portcompat.conformance._recorder import (
    Recorder,
    backend_of,
    declared_rules,
    rules_of,
    watcher_of,
)
from portcompat.conformance._rules import SUITE
from portcompat.conformance._watchdog import Watchdog
from portcompat.pytest_plugin import backends_under_test, is_concerned

DEADLINE = 60.0
"""Seconds that a test which uses a backend may take, in the quick profile."""
_PATIENCE = {"quick": 1.0, "full": 5.0, "soak": 60.0}
_FORESEEN = (AssertionError, OSError, pytest.fail.Exception)


def prepare(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark, deselect and register what the run needs."""
    backends = backends_under_test(config)
    described = {name: describe(name) for name in backends}
    features = {name: found for name, (_, found) in described.items()}
    watchers = {name: watchers_of(name) for name in backends} if any(map(watcher_of, items)) else {}
    _skip_what_lacks(items, features, watchers)
    try:
        _expect_deviations(config, items, backends)
    except BadDeviation as error:
        raise pytest.UsageError(str(error)) from None
    _select_rules(config, items)

    _set_deadlines(config, items)

    config.pluginmanager.register(Watchdog(_PATIENCE[config.option.port_profile]))
    config.pluginmanager.register(
        Recorder(config, {name: mode for name, (mode, _) in described.items()})
    )


def _test_of(item: pytest.Item) -> str:
    return f"{item.path.name}::{getattr(item, 'originalname', item.name)}"


def _skip_what_lacks(
    items: list[pytest.Item],
    features: dict[str, frozenset[str]],
    watchers: dict[str, dict[str, frozenset[str]]],
) -> None:
    for item in items:
        name = backend_of(item)
        if name is None:
            continue
        found, watcher = features[name], watcher_of(item)
        if watcher is not None:
            if watcher not in watchers[name]:
                item.add_marker(pytest.mark.skip(reason=f"no watcher {watcher} with {name} here"))
                continue
            found = watchers[name][watcher]
        needed = {feature for mark in item.iter_markers("needs") for feature in mark.args}
        if lacking := sorted(needed - found):
            who = name if watcher is None else f"{name} with {watcher}"
            item.add_marker(pytest.mark.skip(reason=f"{who} lacks {', '.join(lacking)}"))


def _expect_deviations(
    config: pytest.Config, items: list[pytest.Item], backends: list[str]
) -> None:
    given: list[Path] = config.option.port_deviations
    suite = [item for item in items if item.path.parent == SUITE]
    rows = load_deviations([SUITE / "deviations.toml", *given] if suite else given)
    covered: set[Deviation] = set()
    for item in suite:
        name = backend_of(item)
        if name is None:
            continue
        skipped = item.get_closest_marker("skip") is not None
        for row in rows:
            if row.covers(name, watcher_of(item), _test_of(item)):
                # A row for all backends may concern those only that have what the test needs.
                if skipped and (row.backend == name or row.watcher == watcher_of(item)):
                    continue
                covered.add(row)
                if unchecked := sorted(set(row.rules) - set(rules_of(item))):
                    raise BadDeviation(f"{row}: the test does not check {', '.join(unchecked)}")
                item.stash[declared_rules] = row.rules
                item.add_marker(pytest.mark.xfail(reason=row.reason, raises=_FORESEEN, strict=True))
    if any("::" in argument for argument in config.args):
        return  # single tests were picked, so a row's may well be missing
    modules = {item.path.name for item in suite}
    watchers = {watcher for item in suite if (watcher := watcher_of(item)) is not None}
    if rest := stale(rows, covered, modules, backends, watchers):
        raise BadDeviation(f"{rest[0]} is about no test that runs there; delete or correct it")


def _select_rules(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = set(config.option.port_rule)
    if wanted:
        others = [item for item in items if wanted.isdisjoint(rules_of(item))]
        items[:] = [item for item in items if not wanted.isdisjoint(rules_of(item))]
        config.hook.pytest_deselected(items=others)


def _set_deadlines(config: pytest.Config, items: list[pytest.Item]) -> None:
    ours = None if config.getini("port_deadline") else is_concerned
    mark = pytest.mark.deadline(float(config.getini("port_deadline") or DEADLINE))
    for item in items:
        if item.get_closest_marker("deadline") is None and (ours is None or ours(item)):
            item.add_marker(mark)
