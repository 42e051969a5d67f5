"""The suite in a pytest of its own, told step by step."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from portcompat.conformance._report import Results, Step
from portcompat.conformance._rules import SUITE

_FAREWELL = 10.0  # seconds that an interrupted pytest has to end


class RunError(Exception):
    """The suite did not run to its end. The message is for people."""


class Plan(NamedTuple):
    """What to run: backends by name, "quick", "full" or "soak", rules or () for all."""

    backends: Sequence[str]
    profile: str
    rules: Sequence[str] = ()
    junit: Path | None = None


def run_suite(plan: Plan, results: Results, tell: Callable[[Step], None]) -> None:
    """Run the suite; `results` has each step when `tell` is called with it.

    Another process runs it, so neither a crash nor a hang of a backend takes the report with it,
    and its threads, signals and descriptors are the tests' own. Raises RunError when it breaks
    off; what did not run counts as failed then.
    """
    with _pytest(plan) as (process, steps, output):
        for step in _steps(process, steps):
            results.take(step)
            tell(step)
        code = process.wait()
        if code not in (0, 1) or results.unfinished() or not results.records:
            output.seek(0)
            text = output.read().decode("utf-8", "replace").strip()
            why = _ending(code)
            results.abort(why)
            where = f" while {results.running} ran" if results.running else ""
            raise RunError(f"pytest {why}{where}; it said:\n{text}")


def _command(plan: Plan, steps: int) -> list[str]:
    """A pytest that no configuration, plugin or cache of the place where it starts touches."""
    return [
        *(sys.executable, "-P", "-m", "pytest", str(SUITE)),
        *("-c", os.devnull, f"--rootdir={SUITE}", "--tb=short"),
        *("-p", "portcompat.pytest_plugin", "-p", "no:cacheprovider"),
        f"--port-steps={steps}",
        f"--port-profile={plan.profile}",
        *(f"--port-backend={name}" for name in plan.backends),
        *(f"--port-rule={number}" for number in plan.rules),
        *([] if plan.junit is None else [f"--junit-xml={plan.junit.absolute()}"]),
    ]


@contextmanager
def _pytest(plan: Plan) -> Iterator[tuple[subprocess.Popen[bytes], int, IO[bytes]]]:
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryFile() as output:
        read, write = os.pipe()
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "HYPOTHESIS_STORAGE_DIRECTORY": scratch,
            # The modules are those of this process, wherever it found them.
            "PYTHONPATH": os.pathsep.join(os.path.abspath(entry) for entry in sys.path),
        }
        try:
            with open(write, "wb"):
                process = subprocess.Popen(
                    _command(plan, write),
                    env=environment,
                    pass_fds=(write,),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            try:
                yield process, read, output
            finally:
                _end(process)
        finally:
            os.close(read)


def _steps(process: subprocess.Popen[bytes], descriptor: int) -> Iterator[Step]:
    """The steps until the process has ended; what it forked may hold the pipe for longer."""
    rest = b""
    ended = False
    while not ended:
        ended = process.poll() is not None
        while select.select([descriptor], [], [], 0 if ended else 0.1)[0]:
            data = os.read(descriptor, 1 << 16)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield json.loads(line)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_FAREWELL)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with code {code} before its time"
    return f"was ended by {signal.Signals(-code).name}"
