"""Run many seeds of the simulation of the operator in two processes. Print the number of events, and each failure.

python -m tests.support.operator_simulation.soak --seeds 5000
"""

from __future__ import annotations

import argparse
import sys

from tests.support.operator_simulation.scenario import simulate
from tests.support.soaking import run_seeds


def main() -> int:
    """Return the exit code: 1 if a seed failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    arguments = parser.parse_args()
    return run_seeds(simulate, range(arguments.first, arguments.first + arguments.seeds))


if __name__ == "__main__":
    sys.exit(main())
