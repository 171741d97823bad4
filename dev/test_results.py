"""What the suites of `make test` report: counts, failures, measured figures, slowest tests and the final table.

`dev.testing` calls this module. It reads pytest's JUnit reports and logs.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SLOWEST: Final = 10
_SHOWN_FAILURES: Final = 30
_SHOWN_LINES: Final = 20


@dataclass(frozen=True)
class TestTime:
    """How long one test took.

    Attributes:
        suite: name of its suite.
        test: its file and its name.
        seconds: the duration, with the set-up and the teardown of its fixtures.
    """

    __test__ = False  # pytest collects classes whose names begin with "Test"

    suite: str
    test: str
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """The result of one suite.

    Attributes:
        suite: its name, a folder of `tests/`.
        passed, failed, skipped: numbers of tests; an error outside a test counts as a failure.
        seconds: duration, with its set-up.
        log: pytest's output.
        times: the duration of each test.
    """

    suite: str
    passed: int
    failed: int
    skipped: int
    seconds: float
    log: Path
    times: tuple[TestTime, ...] = ()


def counted(suite: str, report: Path, log: Path, seconds: float, code: int) -> Outcome:
    """Return the outcome according to pytest's report; a pytest that died or ran no test is one more failure.

    Args:
        suite: the name of the suite.
        report: the JUnit report; it is missing if pytest died.
        log: pytest's output.
        seconds: duration of the suite.
        code: pytest's exit code.
    """
    if not report.exists():
        return Outcome(suite, 0, 1, 0, seconds, log)
    root = ElementTree.parse(report).getroot()
    totals = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for each in root.iter("testsuite"):
        for key in totals:
            totals[key] += int(each.get(key, "0"))
    failed, skipped = totals["failures"] + totals["errors"], totals["skipped"]
    passed = max(0, totals["tests"] - failed - skipped)
    if not failed and (code != 0 or not passed):
        failed = 1
    return Outcome(suite, passed, failed, skipped, seconds, log, _times(suite, root.iter("testcase")))


def _times(suite: str, cases: Iterable[ElementTree.Element]) -> tuple[TestTime, ...]:
    prefix = f"tests.{suite}."
    return tuple(
        TestTime(
            suite,
            f"{case.get('classname', '').removeprefix(prefix)}::{case.get('name', '')}",
            float(case.get("time", "0")),
        )
        for case in cases
    )


def measured(log: Path) -> list[str]:
    """Return the figures that a suite printed, in a section of pytest's summary whose title begins with "measured"."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    inside, figures = False, []
    for line in lines:
        if line.startswith("==="):
            inside = line.strip("= ").startswith("measured")
        elif inside:
            figures.append(line)
    return figures


def last_test(log: Path) -> str:
    """Return the test that a suite started or finished last."""
    named = [line for line in log.read_text(errors="replace").splitlines() if "::" in line]
    return named[-1].rpartition("::")[2].partition(" PASSED")[0].strip() if named else "starting"


def failures(log: Path) -> str:
    """Return the failures that pytest lists, or the end of its log if it lists none."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    listed = [line for line in lines if line.startswith(("FAILED ", "ERROR "))]
    shown = listed[:_SHOWN_FAILURES] or lines[-_SHOWN_LINES:]
    return "\n".join(f"      {line}" for line in [*shown, f"complete log: {log}"])


def slowest(outcomes: Sequence[Outcome], count: int = SLOWEST) -> str:
    """Return the slowest tests of all suites, one line each.

    Args:
        count: the number of tests to list.
    """
    times = sorted((time for each in outcomes for time in each.times), key=lambda time: time.seconds, reverse=True)
    lines = [f"{time.suite:<12}{time.seconds:>8.1f} s  {time.test}" for time in times[:count]]
    return "\n".join(["slowest tests", *lines])


def table(outcomes: Sequence[Outcome]) -> str:
    """Return a table of all suites with counts and durations, and a last line with the totals for programs."""
    lines = [f"{'suite':<12}{'passed':>8}{'failed':>8}{'skipped':>9}{'time':>10}"]
    for each in outcomes:
        lines.append(f"{each.suite:<12}{each.passed:>8}{each.failed:>8}{each.skipped:>9}{each.seconds:>8.1f} s")
    lines.append(f"{sum(each.passed for each in outcomes)} passed, {sum(each.failed for each in outcomes)} failed")
    return "\n".join(lines)
