"""A process that measures one comparison: `python -m tests.benchmarks.worker`.

Its one argument is JSON: the comparison's place in the list, the backend, the plan. What it prints
is a pyperf suite.
"""

import json
import sys

from tests.benchmarks import comparisons, find_drivers
from tests.benchmarks.measure import Plan, take_turns


def main() -> None:
    number, backend, plan = json.loads(sys.argv[1])
    take_turns(comparisons.ALL[number], backend, Plan(*plan)).dump(sys.stdout)


if __name__ == "__main__":
    find_drivers()
    main()
