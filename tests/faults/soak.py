"""Run many seeds of the simulation in two processes. Print the number of events, and each failure.

The seeds come in equal numbers from all series.

    python -m tests.faults.soak --seeds 10000
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections import Counter

from tests.support.simulation.scenario import SERIES, Report, simulate


def main() -> int:
    """Return the exit code: 1 if a seed failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000)
    count = parser.parse_args().seeds
    seeds = [SERIES[number % len(SERIES)] + number // len(SERIES) for number in range(count)]
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
