"""`make test`: all suites in order, each a pytest of its own, a line a suite while it runs, and a table at the end.

What a suite needs is built before it, in stages that say so. A suite that fails, or cannot be set up, does not stop the
next. The last line is `N passed, N failed`; a suite that ran no test counts as failed.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dev import binaries, cluster, docker, paths, requirements
from dev.console import SetupError, say

SUITES: Final = ("unit", "contract", "repo", "faults", "library", "operator", "cluster", "e2e")
"""In this order: what is quick, and what others stand on, first. `cluster` leaves the cluster up for `e2e`."""

PROGRAMS: Final = {
    "contract": ("minio",),
    "repo": ("helm",),
    "faults": ("minio",),
    "library": ("minio",),
    "operator": ("etcd", "kube-apiserver", "kubectl", "minio"),
}
ON_THE_CLUSTER: Final = ("cluster", "e2e")
SIGN_OF_LIFE_SECONDS: Final = 10.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a suite went.

    Attributes:
        suite: its name, a folder of `tests/`.
        passed, failed, skipped: tests; an error outside a test counts as a failure.
        seconds: how long it took.
        log: pytest's output.
    """

    suite: str
    passed: int
    failed: int
    skipped: int
    seconds: float
    log: Path


def preconditions(chosen: Sequence[str]) -> list[str]:
    """What this machine lacks for the suites, each with its remedy; asked before anything is built."""
    if docker.answers() or not set(chosen) & set(ON_THE_CLUSTER):
        return []
    return requirements.problems()


def set_up(suite: str) -> None:
    """Build or start what a suite needs, unless it is there.

    Raises:
        SetupError: that failed.
    """
    if suite in ON_THE_CLUSTER:
        cluster.up()
    elif suite in PROGRAMS:
        binaries.ensure_all(PROGRAMS[suite])


def run_suite(suite: str, folder: Path, *, of: int, number: int) -> Outcome:
    """Run one suite; prints a line when it begins, while it is silent and when it ends.

    Args:
        suite: its name.
        folder: where its log and its report go.
        of: how many suites there are.
        number: which one this is, from 1.
    """
    log, report = folder / f"{suite}.log", folder / f"{suite}.xml"
    say(f"      [{number}/{of}] {suite} ...")
    started = time.monotonic()
    try:
        set_up(suite)
    except SetupError as failed:
        say(f"FAIL  {suite} could not be set up: {failed}")
        return Outcome(suite, 0, 1, 0, time.monotonic() - started, log)
    code = _pytest(suite, log, report)
    outcome = counted(suite, report, log, time.monotonic() - started, code)
    verdict = "FAIL" if outcome.failed else "ok"
    say(f"{verdict:>4}  {suite}: {outcome.passed} passed, {outcome.failed} failed  {outcome.seconds:.1f} s")
    for figure in measured(log):
        say(f"      {figure}")
    if outcome.failed:
        say(_failures(log))
    return outcome


def _pytest(suite: str, log: Path, report: Path) -> int:
    """Run pytest to its end, with a sign of life now and then; returns its exit code."""
    started = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((".", "operator")), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "pytest", f"tests/{suite}", f"--junit-xml={report}", "-v", "--durations=10"]
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=paths.ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        while True:
            try:
                process.wait(SIGN_OF_LIFE_SECONDS)
                return process.returncode
            except subprocess.TimeoutExpired:
                say(f"  ..  {suite}: {time.monotonic() - started:.0f} s, {_last_test(log)}")


def counted(suite: str, report: Path, log: Path, seconds: float, code: int) -> Outcome:
    """The outcome from pytest's own report; a pytest that died or ran nothing is one failure more.

    Args:
        suite: its name.
        report: the JUnit report, if pytest came to write it.
        log: its output.
        seconds: how long it took.
        code: its exit code.
    """
    if not report.exists():
        return Outcome(suite, 0, 1, 0, seconds, log)
    totals = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for each in ElementTree.parse(report).getroot().iter("testsuite"):
        for key in totals:
            totals[key] += int(each.get(key, "0"))
    failed, skipped = totals["failures"] + totals["errors"], totals["skipped"]
    passed = max(0, totals["tests"] - failed - skipped)
    if not failed and (code != 0 or not passed):
        failed = 1
    return Outcome(suite, passed, failed, skipped, seconds, log)


def measured(log: Path) -> list[str]:
    """The figures that a suite printed, in a section of pytest's summary whose title begins so."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    inside, figures = False, []
    for line in lines:
        if line.startswith("==="):
            inside = line.strip("= ").startswith("measured")
        elif inside:
            figures.append(line)
    return figures


def table(outcomes: Sequence[Outcome]) -> str:
    """All suites with counts and times, and the line that machines read."""
    lines = [f"{'suite':<12}{'passed':>8}{'failed':>8}{'skipped':>9}{'time':>10}"]
    for each in outcomes:
        lines.append(f"{each.suite:<12}{each.passed:>8}{each.failed:>8}{each.skipped:>9}{each.seconds:>8.1f} s")
    lines.append(f"{sum(each.passed for each in outcomes)} passed, {sum(each.failed for each in outcomes)} failed")
    return "\n".join(lines)


def _last_test(log: Path) -> str:
    """What the suite does now: pytest names each test when it begins."""
    named = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("tests/")]
    return named[-1].rpartition("::")[2].partition(" PASSED")[0].strip() if named else "starting"


def _failures(log: Path) -> str:
    """What pytest sums up, or the end of the log where it came to no sum."""
    lines = log.read_text(errors="replace").splitlines()
    summed = [line for line in lines if line.startswith(("FAILED ", "ERROR "))]
    return "\n".join(f"      {line}" for line in [*(summed[:30] or lines[-20:]), f"all of it: {log}"])


def main(arguments: Sequence[str]) -> int:
    """Run the suites named, or all."""
    unknown = sorted(set(arguments) - set(SUITES))
    if unknown:
        print(f"there is no suite {', '.join(unknown)}; known are {', '.join(SUITES)}", file=sys.stderr)
        return 2
    chosen = [suite for suite in SUITES if suite in arguments or not arguments]
    for lack in preconditions(chosen):
        say(f"      this machine lacks something for {' and '.join(ON_THE_CLUSTER)}: {lack}")
    folder = Path(tempfile.mkdtemp(prefix="rayworkflow-tests-"))
    outcomes = [run_suite(suite, folder, of=len(chosen), number=i) for i, suite in enumerate(chosen, 1)]
    say("\n" + table(outcomes))
    return 1 if any(each.failed for each in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
