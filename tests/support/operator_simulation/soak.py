"""Run many seeds of the simulation of the operator in two processes. Print the number of events, and each failure.

python -m tests.support.operator_simulation.soak --seeds 5000
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections import Counter

from tests.support.operator_simulation.scenario import Report, simulate


def main() -> int:
    """Return the exit code: 1 if a seed failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    counts: Counter[str] = Counter()
    failed: list[Report] = []
    with multiprocessing.Pool(2) as pool:
        for done, report in enumerate(pool.imap_unordered(simulate, seeds, chunksize=20), 1):
            counts.update(report.counts)
            if report.problems:
                failed.append(report)
                print(f"seed {report.seed} failed: {report.problems[0]}", flush=True)
            if done % 1_000 == 0:
                print(f"{done} seeds done, {len(failed)} failed", flush=True)
    for event, number in sorted(counts.items()):
        print(f"{event:40} {number:10}")
    if failed:
        print(failed[0].describe())
    print(f"{len(seeds)} seeds, {len(failed)} failed: {sorted(each.seed for each in failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
