"""The commands of `portcompat`."""

import json
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from portcompat import available_backends, available_file_watchers, available_kaio, limits
from portcompat._host import describe_platform
from portcompat._registry import ENVIRONMENT, KAIO_ENVIRONMENT, KaioInfo, default_backend
from portcompat._version import __version__
from portcompat.cli import FAILED, UNAVAILABLE, CommandError, require


def run(arguments: list[str]) -> int:
    """Run a command line. Returns the exit code, raises CommandError."""
    try:
        code = portcompat.main(arguments or ["--help"], "portcompat", standalone_mode=False)
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        raise CommandError(error.format_message()) from None
    return code or 0


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="portcompat")
def portcompat() -> None:
    """Event ports on every operating system: what works here, and whether it keeps the rules."""


@portcompat.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(as_json: bool) -> None:
    """Show the backends, file watchers and asynchronous I/O, what works here, and the limits."""
    found = _info()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    table = Table()
    for heading in ("backend", "usable", "mode"):
        table.add_column(heading, no_wrap=True)
    table.add_column("features, or why not")
    for name, backend in available_backends().items():
        mark = "default" if backend.default else "yes" if backend.usable else "no"
        remark = ", ".join(sorted(backend.features)) if backend.usable else backend.reason
        table.add_row(name, mark, backend.mode if backend.usable else "", remark)
    console = Console()
    console.print(_headline(), highlight=False)
    console.print(table)
    watchers = Table()
    for heading in ("file watcher", "usable"):
        watchers.add_column(heading, no_wrap=True)
    watchers.add_column("what it can see, or why not")
    for name, watcher in available_file_watchers().items():
        mark = "default" if watcher.default else "yes" if watcher.usable else "no"
        remark = ", ".join(sorted(watcher.features)) if watcher.usable else watcher.reason
        watchers.add_row(name, mark, remark)
    console.print(watchers)
    ways = Table()
    for heading in ("asynchronous I/O", "usable"):
        ways.add_column(heading, no_wrap=True)
    ways.add_column("why, or why not")
    for name, way in available_kaio().items():
        mark = "default" if way.default else "yes" if way.usable else "no"
        ways.add_row(name, mark, _why(way))
    console.print(ways)
    origin = f" ({ENVIRONMENT} is set)" if os.environ.get(ENVIRONMENT) else ""
    click.echo(f"default backend: {found['default'] or 'none'}{origin}")
    click.echo(f"limits: {limits.max_events} events a port, {limits.max_ports} ports a process")


def _why(way: KaioInfo) -> str:
    """Why a way to do asynchronous I/O is taken or not."""
    if not way.usable:
        return way.reason
    if not way.default:
        return "not chosen"
    chosen = os.environ.get(KAIO_ENVIRONMENT)
    return f"{KAIO_ENVIRONMENT} is {chosen}" if chosen else "the best that is usable"


def _info() -> dict[str, object]:
    try:
        default = default_backend()
    except OSError:
        default = None
    return {
        "schema": 1,
        "portcompat": __version__,
        "platform": describe_platform(),
        "backends": {
            name: {
                "usable": backend.usable,
                "reason": backend.reason,
                "mode": backend.mode,
                "features": sorted(backend.features),
                "default": backend.default,
            }
            for name, backend in available_backends().items()
        },
        "file_watchers": {
            name: {
                "usable": watcher.usable,
                "reason": watcher.reason,
                "features": sorted(watcher.features),
                "default": watcher.default,
            }
            for name, watcher in available_file_watchers().items()
        },
        "kaio": {
            name: {"usable": way.usable, "reason": way.reason, "default": way.default}
            for name, way in available_kaio().items()
        },
        "default": default,
        "limits": {"max_events": limits.max_events, "max_ports": limits.max_ports},
    }


@portcompat.command()
@click.option(
    "--backend",
    "backends",
    multiple=True,
    metavar="NAME",
    help='A backend by name, or "package.module:Class". May be repeated; all that are usable here '
    "if not given.",
)
@click.option(
    "--profile",
    type=click.Choice(["quick", "full", "soak"]),
    default="quick",
    show_default=True,
    help="How long to try.",
)
@click.option(
    "--rule", "rules", multiple=True, metavar="NUMBER", help="Only this rule. May be repeated."
)
@click.option("--json", "json_file", metavar="FILE", type=Path, help="Write the results as JSON.")
@click.option("--junit", metavar="FILE", type=Path, help="Write the results as JUnit XML.")
@click.option("--list-rules", is_flag=True, help="Show what checks each rule, and run nothing.")
def conformance(
    backends: Sequence[str],
    profile: str,
    rules: Sequence[str],
    json_file: Path | None,
    junit: Path | None,
    list_rules: bool,
) -> int:
    """Check that backends keep the rules of event ports.

    The exit code is 0 if all rules hold or are declared, 1 if one does not, 2 for a wrong command
    line and 3 for a backend that does not work here.
    """
    require("conformance", "pytest", "hypothesis")
    if find_spec("portcompat.conformance") is None:
        raise CommandError("these sources are not installed: pip install -e '.[conformance]'")
    chosen = _check_rules(rules, list_rules)
    if list_rules:
        _list_rules(chosen)
        return 0
    sys.path.append(os.getcwd())  # where people have the backend that they write
    names = _check_backends(backends)
    for file in (json_file, junit):
        if file is not None:
            _check_writable(file)
    return _run(names, profile, chosen, json_file, junit)


def _run(
    names: list[str], profile: str, rules: list[str], json_file: Path | None, junit: Path | None
) -> int:
    from portcompat.conformance._display import LiveTable, choose_display, say, show_outcome
    from portcompat.conformance._report import Results
    from portcompat.conformance._run import Plan, RunError, run_suite

    results = Results()
    console = Console()
    say(console, f"{_headline()}; profile {profile}")
    display = choose_display(console, results)
    broken = None
    try:
        with display:
            run_suite(Plan(names, profile, rules, junit), results, display.tell)
    except RunError as error:
        broken = error
    if results.records:
        show_outcome(console, results, live=isinstance(display, LiveTable))
    if json_file is not None:
        json_file.write_text(json.dumps(results.document(), indent=2) + "\n", "utf-8")
    if broken is not None:
        raise CommandError(str(broken), FAILED)
    return FAILED if results.failures() else 0


def _headline() -> str:
    host = describe_platform()
    return (
        f"portcompat {__version__} on {host['system']} {host['release']} {host['machine']}, "
        f"{host['implementation']} {host['python']}"
    )


def _check_rules(numbers: Sequence[str], list_rules: bool) -> list[str]:
    from portcompat.conformance._rules import checked_by, load_rules

    rules = load_rules()
    tests = checked_by()
    chosen = [number.upper() for number in numbers]
    for number in chosen:
        if number not in rules:
            raise CommandError(f"there is no rule {number}; --list-rules shows what there is")
        if not list_rules and number not in tests:
            raise CommandError(f"no test checks {number}: {rules[number].untestable}")
    return chosen


def _list_rules(chosen: list[str]) -> None:
    from portcompat.conformance._rules import checked_by, load_rules

    rules = load_rules()
    tests = checked_by()
    for number in chosen or rules:
        rule = rules[number]
        click.echo(f"{number}  {rule.text}")
        for test in tests.get(number, ()):
            click.echo(f"      {test}")
        if rule.untestable:
            click.echo(f"      no test: {rule.untestable}")
        elif number not in tests:
            click.echo("      UNCHECKED")
    if not chosen:
        untested = sum(1 for rule in rules.values() if rule.untestable)
        functions = len({test for found in tests.values() for test in found})
        click.echo(
            f"{len(rules)} rules: {functions} tests check {len(tests)} of them, "
            f"{untested} cannot be tested"
        )


def _check_backends(names: Sequence[str]) -> list[str]:
    from portcompat.conformance._backends import UnavailableBackend, UnknownBackend, describe

    usable = [name for name, backend in available_backends().items() if backend.usable]
    if not names and not usable:
        raise CommandError("no backend works here; portcompat info says why", UNAVAILABLE)
    try:
        for name in names:
            describe(name)
    except UnknownBackend as error:
        raise CommandError(str(error)) from None
    except UnavailableBackend as error:
        raise CommandError(str(error), UNAVAILABLE) from None
    return list(dict.fromkeys(names)) or usable


def _check_writable(file: Path) -> None:
    try:
        with file.open("a"):
            pass
    except OSError as error:
        raise CommandError(f"cannot write {file}: {error.strerror}") from None
