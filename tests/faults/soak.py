"""Run many seeds of the simulation in two processes. Print the number of events, and each failure.

The seeds come in equal numbers from all series.

    python -m tests.faults.soak --seeds 10000
"""

from __future__ import annotations

import argparse
import sys

from tests.support.simulation.scenario import SERIES, simulate
from tests.support.soaking import run_seeds


def main() -> int:
    """Return the exit code: 1 if a seed failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000)
    count = parser.parse_args().seeds
    seeds = [SERIES[number % len(SERIES)] + number // len(SERIES) for number in range(count)]
    return run_seeds(simulate, seeds)


if __name__ == "__main__":
    sys.exit(main())
