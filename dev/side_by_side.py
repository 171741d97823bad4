"""Runs jobs in threads, as many at once as the capacity of the machine allows.

`dev.testing` calls this module with one job for each suite. The order of the jobs is their priority.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Attributes:
        name: unique among the jobs.
        load: its share of the machine's capacity while it runs.
        after: names of jobs that must finish first; names of unknown jobs are ignored.
        polite: whether it runs with a lower priority than the jobs beside it.
    """

    name: str
    load: int
    after: tuple[str, ...] = ()
    polite: bool = False


def run_all(jobs: Sequence[Job], capacity: int, run: Callable[[Job], T]) -> list[T]:
    """Run all jobs, several at once as long as the sum of their loads does not exceed the capacity.

    Args:
        jobs: by priority; a job that does not fit yet does not hold back a later job that fits.
        capacity: the sum of loads that may run at once. A job with a higher load runs alone.
        run: runs one job in a thread of its own, and reports failures in its result.

    Returns:
        The results in the order of the jobs.
    """
    waiting = list(jobs)
    running: dict[concurrent.futures.Future[T], Job] = {}
    results: dict[str, T] = {}
    with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, len(jobs))) as pool:
        while waiting or running:
            while (job := startable(waiting, list(running.values()), capacity)) is not None:
                waiting.remove(job)
                running[pool.submit(run, job)] = job
            if not running:
                raise ValueError(f"jobs wait for each other: {', '.join(job.name for job in waiting)}")
            done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for each in done:
                results[running.pop(each).name] = each.result()
    return [results[job.name] for job in jobs]


def startable(waiting: Sequence[Job], running: Collection[Job], capacity: int) -> Job | None:
    """Return the first waiting job that may start now, or None.

    Args:
        waiting: jobs that have not started, by priority.
        running: jobs that run now.
        capacity: the sum of loads that may run at once.
    """
    unfinished = {job.name for job in (*waiting, *running)}
    free = capacity - sum(job.load for job in running)
    for job in waiting:
        if not unfinished & set(job.after) and (job.load <= free or not running):
            return job
    return None
