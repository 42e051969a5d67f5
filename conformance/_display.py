"""What `portcompat conformance` shows of a run: a live table on a terminal, lines elsewhere."""

from typing import Final, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from portcompat.conformance._report import Results, Step, TestRecord

_COLUMNS: Final = ("pass", "declared", "unsupported", "fail")
_COLOURS: Final = {"pass": "green", "declared": "cyan", "unsupported": "dim", "fail": "bold red"}
_DETAILED: Final = 5  # failures shown with their traceback


class Display(Protocol):
    """Shows a run while it goes on, as a context manager around it."""

    def __enter__(self) -> object: ...
    def __exit__(self, *_: object) -> object: ...
    def tell(self, step: Step) -> None: ...


def choose_display(console: Console, results: Results) -> Display:
    """The live table if `console` is a terminal that can show one."""
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveTable(console, results)
    return Lines(console, results)


class LiveTable:
    """A table with a row a backend over a progress bar."""

    def __init__(self, console: Console, results: Results) -> None:
        self._results = results
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("tests"),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._progress.add_task("", total=None)
        self._now = "collecting the tests"
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=5)

    def __enter__(self) -> object:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._now = ""
        self._live.stop()

    def tell(self, step: Step) -> None:
        if step["step"] == "plan":
            self._progress.update(self._task, total=len(step["tests"]))
        elif step["step"] == "begin":
            self._now = step["test"]
        else:
            self._progress.advance(self._task)

    def _draw(self) -> Group:
        now = Text(self._now, "dim", no_wrap=True, overflow="ellipsis")
        return Group(results_table(self._results), self._progress, now)


class Lines:
    """A line for each tenth of the way and for each test that fails."""

    def __init__(self, console: Console, results: Results) -> None:
        self._console = console
        self._results = results
        self._total = self._done = 0

    def __enter__(self) -> object:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def tell(self, step: Step) -> None:
        if step["step"] == "plan":
            self._total = len(step["tests"])
        elif step["step"] == "end":
            before = 10 * self._done // self._total
            self._done += 1
            if step["outcome"] == "fail":
                say(self._console, _failure_line(self._results.records[step["test"]]))
            if (tenths := 10 * self._done // self._total) > before:
                say(self._console, f"{10 * tenths:3}%  {self._done} of {self._total} tests")


def results_table(results: Results) -> Table:
    """A row a backend: its rules by outcome, its tests, its time."""
    table = Table(title_justify="left")
    table.add_column("backend")
    table.add_column("mode")
    for outcome in _COLUMNS:
        table.add_column(outcome, justify="right", min_width=4)
    table.add_column("tests", justify="right")
    table.add_column("seconds", justify="right")
    for backend, mode in results.modes.items():
        summary = results.summary_of(backend)
        counts = [
            Text(str(summary[outcome]), _COLOURS[outcome] if summary[outcome] else "dim")
            for outcome in _COLUMNS
        ]
        total = len(results.tests_of(backend))
        tests = f"{summary['tests']}/{total}"
        table.add_row(backend, mode, *counts, tests, f"{summary['seconds']:.1f}")
    return table


def show_outcome(console: Console, results: Results, live: bool) -> None:
    """The results when the run is over: what fails and why, and what it comes to."""
    failures = results.failures()
    for record in failures[:_DETAILED]:
        if record.details:
            say(console, f"\n{record.test}\n{record.details}")
    if live:
        for record in failures:
            say(console, _failure_line(record))
    if not live:
        for backend, mode in results.modes.items():
            say(console, _summary_line(results, backend, mode))
    for backend in results.modes:
        rules = results.rules_of(backend)
        if broken := [number for number, rule in rules.items() if rule["outcome"] == "fail"]:
            say(console, f"{backend} fails {', '.join(broken)}")
    names = ", ".join(results.modes)
    if failures:
        tests = "1 test fails" if len(failures) == 1 else f"{len(failures)} tests fail"
        say(console, f"{tests} on {names}", "bold red")
    else:
        say(console, f"every rule holds or is declared on {names}", "bold green")


def _failure_line(record: TestRecord) -> str:
    return f"FAIL {record.test}: {record.reason}"


def _summary_line(results: Results, backend: str, mode: str) -> str:
    summary = results.summary_of(backend)
    counts = ", ".join(f"{summary[outcome]} {outcome}" for outcome in _COLUMNS)
    rules = len(results.rules_of(backend))
    return (
        f"{backend} ({mode}): {rules} rules: {counts}; "
        f"{summary['tests']} tests in {summary['seconds']} s"
    )


def say(console: Console, text: str, style: str = "") -> None:
    """Print `text` as it is: unwrapped, and nothing in it is markup."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
