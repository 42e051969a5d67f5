"""A pytest plugin that runs each test in virtual time.

`pytest -p tests.virtual_time --port-backend=portcompat.backends.simulated:SimulatedDriver`. What
the test and the suite read of the clocks, and how they sleep, is the simulation's.
"""

import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from portcompat.backends.simulated import Simulation
from portcompat.conformance import _watchdog


@pytest.fixture(autouse=True)
def simulation(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulation]:
    with Simulation(reading=1e-6) as simulation:
        host = time.clock_gettime_ns

        def now(clock: int) -> int:
            # Clocks that only count while somebody works are the host's.
            return simulation.now(clock) if clock in simulation.clocks else host(clock)

        ns = {
            "clock_gettime_ns": now,
            "monotonic_ns": lambda: now(time.CLOCK_MONOTONIC),
            "perf_counter_ns": lambda: now(time.CLOCK_MONOTONIC),
            "time_ns": lambda: now(time.CLOCK_REALTIME),
        }
        for name, read in ns.items():
            monkeypatch.setattr(time, name, read)
            monkeypatch.setattr(
                time, name.removesuffix("_ns"), lambda *clock, read=read: read(*clock) / 1e9
            )
        monkeypatch.setattr(_watchdog, "time", SimpleNamespace(sleep=time.sleep))
        monkeypatch.setattr(time, "sleep", simulation.sleep)
        yield simulation
