"""A process that measures one comparison: `python -m tests.benchmarks.worker`.

Its one argument is JSON: the comparison's place in the list, the backend, the plan. What it prints
is a pyperf suite.

It keeps to one CPU, as pyperf's --affinity does. How long a core sleeps before another's signal
reaches it is the machine's affair, is the same for both sides, and can be ten times the work.
"""

import json
import os
import sys

from tests.benchmarks import comparisons, find_drivers, use_all_descriptors
from tests.benchmarks.measure import Plan, take_turns


def main() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    use_all_descriptors()
    number, backend, plan = json.loads(sys.argv[1])
    take_turns(comparisons.ALL[number], backend, Plan(*plan)).dump(sys.stdout)


if __name__ == "__main__":
    find_drivers()
    main()
