"""`python -m tests.benchmarks`: measure, and print a table of ratios."""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyperf  # type: ignore[import-untyped]

import portcompat
from portcompat._version import __version__
from tests.benchmarks import CHECKOUT, comparisons, find_drivers
from tests.benchmarks.measure import FAST, FULL, Comparison, Plan, Result, summarize

Row = tuple[str, Comparison, Result]


def main(arguments: Sequence[str] | None = None) -> int:
    find_drivers()
    usable = [name for name, info in portcompat.available_backends().items() if info.usable]
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "--backend",
        action="append",
        choices=usable,
        help="only this one (repeatable); default: every usable one but select",
    )
    parser.add_argument("--fast", action="store_true", help="a few seconds, a rough answer")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("only", nargs="*", help="only comparisons with one of these words in them")
    options = parser.parse_args(arguments)
    chosen = options.backend or [name for name in usable if name != "select"]
    work = [
        (number, backend)
        for number, comparison in enumerate(comparisons.ALL)
        for backend in ([""] if comparison.only == "" else chosen)
        if comparison.only in (None, backend)
        if _mentions(comparison, options.only)
        if comparison.needs is None or find_spec(comparison.needs) is not None
    ]
    if not work:
        parser.error(f"no comparison mentions {', '.join(options.only)}")
    rows = measure(work, FAST if options.fast else FULL)
    print_table(rows)
    if options.json is not None:
        options.json.write_text(json.dumps(as_json(rows), indent=2) + "\n", encoding="utf-8")
    return 0


def _mentions(comparison: Comparison, words: Sequence[str]) -> bool:
    text = f"{comparison.name} {comparison.peer}".lower()
    return not words or any(word.lower() in text for word in words)


def measure(work: Sequence[tuple[int, str]], plan: Plan) -> list[Row]:
    """Measure the comparisons, each on a backend, in processes of their own.

    All take their turn before the first gets its second process: what disturbs the machine for
    some seconds disturbs a part of each result, and a median does not mind.
    """
    suites: dict[tuple[int, str], list[pyperf.BenchmarkSuite]] = {key: [] for key in work}
    for done in range(plan.processes):
        for number, backend in work:
            if sys.stderr.isatty():
                name = comparisons.ALL[number].name
                print(
                    f"\r\033[K{done + 1}/{plan.processes} {name} {backend}", end="", file=sys.stderr
                )
            suites[number, backend].append(_in_a_process(number, backend, plan))
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    return [
        (backend, comparisons.ALL[number], summarize(found))
        for (number, backend), found in suites.items()
    ]


def _in_a_process(number: int, backend: str, plan: Plan) -> pyperf.BenchmarkSuite:
    command = [sys.executable, "-m", "tests.benchmarks.worker", json.dumps([number, backend, plan])]
    output = subprocess.run(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    return pyperf.BenchmarkSuite.loads(output)


def print_table(rows: Sequence[Row]) -> None:
    table = [["backend", "portcompat", "peer", "ns", "peer ns", "ratio", "quartiles", "target", ""]]
    for backend, comparison, result in rows:
        target = comparison.target
        table.append(
            [
                backend,
                comparison.name,
                comparison.peer,
                f"{result.portcompat_ns:,.0f}",
                f"{result.peer_ns:,.0f}",
                f"{result.ratio:.2f}",
                f"{result.low:.2f}-{result.high:.2f}",
                "" if target is None else f"<= {target:.2f}",
                "" if target is None else "ok" if result.ratio <= target else "missed",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        cells = [
            cell.rjust(width) if 3 <= place <= 7 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def as_json(rows: Sequence[Row]) -> dict[str, Any]:
    metadata = pyperf.Run([1.0], collect_metadata=True).get_metadata()
    return {
        "schema": 1,
        "portcompat": __version__,
        "machine": {
            name: metadata[name]
            for name in (
                "platform",
                "python_version",
                "cpu_model_name",
                "cpu_count",
                "load_avg_1min",
            )
            if name in metadata
        },
        "comparisons": [
            {
                "backend": backend or None,
                "portcompat": comparison.name,
                "peer": comparison.peer,
                **result._asdict(),
                "target": comparison.target,
            }
            for backend, comparison, result in rows
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
