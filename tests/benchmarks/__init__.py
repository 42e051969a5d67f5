"""Benchmarks: portcompat against what people would write without it, as ratios.

`python -m tests.benchmarks` in the checkout prints the table. A machine that is busy with other
things slows both sides of a ratio: they are measured in turns of a few milliseconds, in one
process, and the median of the ratios of all turns is what counts.
"""

from pathlib import Path

import portcompat

CHECKOUT = Path(__file__).parents[2]


def find_drivers() -> None:
    """Let a bare checkout find the drivers, as its conftest.py does for the tests."""
    portcompat.__path__.append(str(CHECKOUT))


def use_all_descriptors() -> None:
    """As many as the system lets this process have: a thousand connections need some."""
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if 0 < hard < 1 << 20 else 1 << 16  # "no limit" is seldom true
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        pass
