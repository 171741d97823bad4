"""Many seeds of the simulation, as many of each kind, in two processes; prints what happened, and what failed.

python -m tests.faults.soak --seeds 10000
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections import Counter

from tests.support.simulation.seeds import KINDS, Report, simulate


def main() -> int:
    """The exit code: 1 where a seed failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000)
    wanted = parser.parse_args().seeds
    seeds = [KINDS[number % len(KINDS)] + number // len(KINDS) for number in range(wanted)]
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
    for what, often in sorted(counts.items()):
        print(f"{what:40} {often:10}")
    if failed:
        print(failed[0].told())
    print(f"{len(seeds)} seeds, {len(failed)} failed: {sorted(each.seed for each in failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
