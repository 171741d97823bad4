"""`make test`: all suites, each as a pytest process of its own with a log of its own, and a table at the end.

Suites run side by side as far as their loads allow. What a suite needs is built before it starts. A suite that fails,
or whose set-up fails, does not stop the others. The last line is `N passed, N failed`; a suite that ran no test counts
as failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dev import binaries, cluster, docker, paths, requirements, side_by_side
from dev.console import SetupError, print_line
from dev.side_by_side import Job
from dev.test_results import Outcome, counted, failures, last_test, measured, slowest, table

CAPACITY: Final = 4
"""The largest sum of loads for two cores. With a larger sum, Ray would not start within its own deadline of 30 s."""

_BUSY: Final = (
    Job("drivers", load=2),
    Job("faults", load=1),
    Job("operator", load=1),
    Job("library", load=2),
    Job("cluster", load=2),
    Job("unit", load=2),
    Job("repo", load=2),
)
_AFTER_BUSY: Final = tuple(job.name for job in _BUSY)
JOBS: Final = (
    *_BUSY,
    Job("e2e", load=CAPACITY - 1, after=_AFTER_BUSY),
    Job("contract", load=1, after=_AFTER_BUSY, polite=True),
)
"""The suites by priority: those that take long and fill both cores first. Suites that mostly wait have a load of 1,
those that compute 2.

The deadlines of `e2e` need free cores, so only a suite with a low priority that starts no Ray runs beside it. It runs
after `cluster`, because both use the one local cluster: `cluster` stops it, starts it again and leaves it running.
"""
POLITENESS: Final = ("nice", "-n", "15")

SUITES: Final = tuple(job.name for job in JOBS)

PROGRAMS: Final = {
    "contract": ("minio",),
    "repo": ("helm",),
    "faults": ("minio",),
    "drivers": ("minio",),
    "library": ("minio",),
    "operator": ("etcd", "kube-apiserver", "kubectl", "minio"),
}
ON_THE_CLUSTER: Final = ("cluster", "e2e")
PROGRESS_SECONDS: Final = 10.0


def preconditions(chosen: Sequence[str]) -> list[str]:
    """Return what this machine lacks for the suites, each with its remedy. The check needs no build."""
    if docker.is_available() or not set(chosen) & set(ON_THE_CLUSTER):
        return []
    return requirements.problems()


def set_up(suite: str) -> None:
    """Build or start what a suite needs, unless it exists.

    Raises:
        SetupError: the build or the start failed.
    """
    if suite in ON_THE_CLUSTER:
        cluster.up()
    elif suite in PROGRAMS:
        binaries.ensure_all(PROGRAMS[suite])


def run_suite(job: Job, folder: Path) -> Outcome:
    """Run one suite. Print a line when it starts, every `PROGRESS_SECONDS` while it runs, and when it ends.

    Args:
        job: the suite.
        folder: the folder for its log and its report.
    """
    suite = job.name
    log, report = folder / f"{suite}.log", folder / f"{suite}.xml"
    print_line(f"      {suite} ...")
    started = time.monotonic()
    try:
        set_up(suite)
    except SetupError as failed:
        print_line(f"FAIL  {suite} could not be set up: {failed}")
        return Outcome(suite, 0, 1, 0, time.monotonic() - started, log)
    code = _pytest(suite, log, report, POLITENESS if job.polite else ())
    outcome = counted(suite, report, log, time.monotonic() - started, code)
    verdict = "FAIL" if outcome.failed else "ok"
    lines = [f"{verdict:>4}  {suite}: {outcome.passed} passed, {outcome.failed} failed  {outcome.seconds:.1f} s"]
    lines += [f"      {figure}" for figure in measured(log)]
    if outcome.failed:
        lines.append(failures(log))
    print_line("\n".join(lines))
    return outcome


def _pytest(suite: str, log: Path, report: Path, prefix: Sequence[str]) -> int:
    """Run pytest, print a progress line every `PROGRESS_SECONDS`, and return its exit code."""
    started = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((".", "operator")), "PYTHONUNBUFFERED": "1"}
    # Tests start hundreds of processes. Without its bytecode each of them compiles the library again.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    pytest = (sys.executable, "-m", "pytest", f"tests/{suite}", f"--junit-xml={report}", "-v", "--durations=10")
    with log.open("w") as output:
        process = subprocess.Popen(
            [*prefix, *pytest],
            cwd=paths.ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        while True:
            try:
                process.wait(PROGRESS_SECONDS)
                return process.returncode
            except subprocess.TimeoutExpired:
                print_line(f"  ..  {suite}: {time.monotonic() - started:.0f} s, {last_test(log)}")


def main(arguments: Sequence[str]) -> int:
    """Run the given suites, or all suites if none is given. Return the exit code."""
    unknown = sorted(set(arguments) - set(SUITES))
    if unknown:
        print(f"unknown suite {', '.join(unknown)}; known suites: {', '.join(SUITES)}", file=sys.stderr)
        return 2
    chosen = [job for job in JOBS if job.name in arguments or not arguments]
    for lack in preconditions([job.name for job in chosen]):
        print_line(f"      this machine lacks something for {' and '.join(ON_THE_CLUSTER)}: {lack}")
    folder = Path(tempfile.mkdtemp(prefix="rayworkflow-tests-"))
    outcomes = side_by_side.run_all(chosen, CAPACITY, lambda job: run_suite(job, folder))
    print_line(f"\n{slowest(outcomes)}\n\n{table(outcomes)}")
    return 1 if any(each.failed for each in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
