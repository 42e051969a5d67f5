"""What an import costs, each time in a new interpreter."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import portcompat
from tests.benchmarks.measure import Timer, Timers

# The interpreter runs with -S and imports site by hand. So what every start-up loads is there, but
# not what .pth files load: an editable installation's does, and it would be missing in the result.
_CODE = """\
import site, sys
from time import perf_counter
sys.path.insert(0, sys.argv[1])
start = perf_counter()
import {module}
print(perf_counter() - start)
"""


@contextmanager
def against_asyncio(backend: str) -> Iterator[Timers]:
    yield _import("portcompat"), _import("asyncio")


def _import(module: str) -> Timer:
    directory = str(Path(portcompat.__path__[0]).parent)
    command = [sys.executable, "-I", "-S", "-c", _CODE.format(module=module), directory]

    def in_new_interpreters(loops: int) -> float:
        return sum(float(subprocess.check_output(command)) for _ in range(loops))

    return in_new_interpreters
