"""Runs many seeds of a simulation in two processes, for the soaks of the engine and of the operator."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol


class Report(Protocol):
    """The result of one seed."""

    @property
    def seed(self) -> int:
        """The number of the seed."""

    @property
    def problems(self) -> Sequence[str]:
        """What must not happen and did."""

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of events by name."""

    def describe(self) -> str:
        """Return the problems and the trace as one text."""


def run_seeds(simulate: Callable[[int], Any], seeds: Sequence[int]) -> int:
    """Run seeds, and print each failure and the number of events.

    Args:
        simulate: a function of a module that runs one seed, and returns a `Report`.
        seeds: the numbers of the simulations to run.

    Returns:
        The exit code: 1 if a seed failed.
    """
    counts: Counter[str] = Counter()
    failed: list[Report] = []
    with multiprocessing.Pool(2) as pool:
        report: Report
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
