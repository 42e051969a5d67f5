"""The benchmarks run: each once, with counts so small that the times mean nothing."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyperf  # type: ignore[import-untyped]
import pytest

from tests.benchmarks import (
    CHECKOUT,
    __main__,
    comparisons,
    descriptors,
    measure,
    selecting,
    serving,
    timers,
    use_all_descriptors,
)

PLAN = measure.Plan(processes=1, rounds=2, turn=0.0001, most=1.0)


@pytest.fixture
def descriptors_enough() -> Iterator[None]:
    resource = pytest.importorskip("resource")
    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    use_all_descriptors()
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, former)


@pytest.mark.usefixtures("descriptors_enough")
@pytest.mark.parametrize("comparison", comparisons.ALL, ids=lambda c: f"{c.name} - {c.peer}")
def test_both_sides_of_a_comparison_run(
    comparison: measure.Comparison, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if comparison.only not in (None, "", backend):
        pytest.skip(f"a comparison for {comparison.only} only")
    if comparison.needs is not None:
        pytest.importorskip(comparison.needs)
    monkeypatch.setattr(descriptors, "MANY", 50)
    monkeypatch.setattr(selecting, "MANY", 50)
    monkeypatch.setattr(serving, "CLIENTS", 5)
    monkeypatch.setattr(timers, "MANY", 50)
    monkeypatch.setattr(timers, "COUNT", 50)
    suite = measure.take_turns(comparison, backend, PLAN)
    result = measure.summarize([suite, suite])
    assert min(result) > 0
    assert result.low <= result.ratio <= result.high


def test_the_ratio_is_that_of_the_turns_that_belong_together() -> None:
    def benchmark(name: str, times: list[float]) -> pyperf.Benchmark:
        run = pyperf.Run(times, metadata={"name": name}, collect_metadata=False)
        return pyperf.Benchmark([run])

    suite = pyperf.BenchmarkSuite(
        [benchmark("portcompat", [1.0, 30.0, 4.0]), benchmark("peer", [2.0, 60.0, 8.0])]
    )
    assert measure.summarize([suite])[2:] == (0.5, 0.5, 0.5)


def test_the_command_prints_a_table_and_writes_json(tmp_path: Path, backend: str) -> None:
    file = tmp_path / "results.json"
    options = ["--fast", "--backend", backend, "--json", str(file), "queue.Queue"]
    command = [sys.executable, "-m", "tests.benchmarks", *options]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    header, row = done.stdout.splitlines()
    assert header.split()[:3] == ["backend", "portcompat", "peer"]
    assert row.startswith(f"{backend} ")
    results = json.loads(file.read_text(encoding="utf-8"))
    assert [r["peer"] for r in results["comparisons"]] == ["queue.Queue put, get"]


@pytest.mark.parametrize("arguments", [["--backend", "nobody"], ["nothing like that"]])
def test_what_is_not_there_to_measure_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        __main__.main(arguments)
    assert error.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m tests.benchmarks")


def test_what_is_no_ratio_is_printed(backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert timers.main(["--backend", backend, "--loops", "20", "--armed", "500"]) == 0
    late, *rows = capsys.readouterr().out.splitlines()
    assert late.startswith("late by")
    names = [row.split()[0] for row in rows]
    assert names == ["asyncio", "timerfd", backend, f"{backend}:", f"{backend}:"]
