"""`make test`: what it counts, when it reports a failure, and what it prints at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev import paths, testing
from dev.console import SetupError
from dev.side_by_side import Job
from dev.test_results import Outcome, TestTime, counted, measured, slowest, table


def report(folder: Path, tests: int, failures: int = 0, errors: int = 0, skipped: int = 0) -> Path:
    path = folder / "report.xml"
    counts = f'tests="{tests}" failures="{failures}" errors="{errors}" skipped="{skipped}"'
    path.write_text(f'<testsuites><testsuite name="pytest" {counts}/></testsuites>')
    return path


@pytest.mark.parametrize(
    ("counts", "code", "passed", "failed"),
    [
        ((5, 0, 0, 0), 0, 5, 0),
        ((5, 1, 1, 1), 1, 2, 2),
        ((0, 0, 0, 0), 5, 0, 1),
        ((2, 0, 0, 2), 0, 0, 1),
        ((3, 0, 0, 0), 3, 3, 1),
    ],
    ids=["all-pass", "failures-and-errors", "no-test-at-all", "all-skipped", "pytest-died-late"],
)
def test_counts(tmp_path: Path, counts: tuple[int, int, int, int], code: int, passed: int, failed: int) -> None:
    outcome = counted("unit", report(tmp_path, *counts), tmp_path / "log", 1.0, code)
    assert (outcome.passed, outcome.failed) == (passed, failed)


def test_a_pytest_that_died_before_its_report_failed(tmp_path: Path) -> None:
    assert counted("unit", tmp_path / "none.xml", tmp_path / "log", 1.0, -9).failed == 1


def test_the_last_line_is_for_machines(tmp_path: Path) -> None:
    outcomes = [Outcome("unit", 10, 0, 0, 1.5, tmp_path), Outcome("repo", 3, 2, 1, 0.5, tmp_path)]
    lines = table(outcomes).splitlines()
    assert lines[-1] == "13 passed, 2 failed"
    assert lines[2].split() == ["repo", "3", "2", "1", "0.5", "s"]


def test_figures_are_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("tests/a PASSED\n=== measured on it ===\nspeed: 3\nweight: 4\n=== 1 passed ===\nspeed: 5\n")
    assert measured(log) == ["speed: 3", "weight: 4"]
    assert measured(tmp_path / "none") == []


def test_an_unknown_suite_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert testing.main(["units"]) == 2
    assert f"units; known suites: {', '.join(testing.SUITES)}" in capsys.readouterr().err


@pytest.fixture
def two_suites(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A checkout whose `unit` fails and whose `repo` passes; they run one after the other and need no set-up."""
    for suite, body in (("unit", "assert False"), ("repo", "pass")):
        (tmp_path / "tests" / suite).mkdir(parents=True)
        (tmp_path / "tests" / suite / "test_it.py").write_text(f"def test_it():\n    {body}\n")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(testing, "PROGRAMS", {})
    monkeypatch.setattr(testing, "JOBS", (Job("unit", load=1), Job("repo", load=1, after=("unit",))))


@pytest.mark.usefixtures("two_suites")
def test_a_suite_that_fails_does_not_stop_the_next(capsys: pytest.CaptureFixture[str]) -> None:
    assert testing.main(["unit", "repo"]) == 1
    printed = capsys.readouterr().out
    assert "FAIL  unit: 0 passed, 1 failed" in printed
    assert "FAILED tests/unit/test_it.py::test_it" in printed
    assert printed.splitlines()[-1] == "1 passed, 1 failed"


@pytest.mark.usefixtures("two_suites")
def test_a_set_up_that_fails_is_a_failure_of_its_suite(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def set_up(suite: str) -> None:
        if suite == "repo":
            raise SetupError("no toolchain")

    monkeypatch.setattr(testing, "set_up", set_up)
    assert testing.main(["unit", "repo"]) == 1
    printed = capsys.readouterr().out
    assert "FAIL  repo could not be set up: no toolchain" in printed
    assert printed.splitlines()[-1] == "0 passed, 2 failed"


@pytest.mark.usefixtures("two_suites")
def test_the_slowest_tests_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    testing.main([])
    listed = capsys.readouterr().out.partition("slowest tests\n")[2].splitlines()[:2]
    assert sorted((line.split()[0], line.split()[3]) for line in listed) == [
        ("repo", "test_it::test_it"), ("unit", "test_it::test_it"),
    ]  # fmt: skip


def test_the_slowest_tests_are_those_of_all_suites(tmp_path: Path) -> None:
    times = {"unit": (0.5, 3.0), "repo": (2.0, 1.0)}
    outcomes = [
        Outcome(suite, 2, 0, 0, 9.0, tmp_path, tuple(TestTime(suite, f"t::{each}", each) for each in seconds))
        for suite, seconds in times.items()
    ]
    lines = slowest(outcomes, count=3).splitlines()[1:]
    assert [line.split() for line in lines] == [
        ["unit", "3.0", "s", "t::3.0"], ["repo", "2.0", "s", "t::2.0"], ["repo", "1.0", "s", "t::1.0"],
    ]  # fmt: skip


def test_every_suite_is_set_up_by_its_name() -> None:
    assert {*testing.PROGRAMS, *testing.ON_THE_CLUSTER} <= set(testing.SUITES)
    assert {name for job in testing.JOBS for name in job.after} <= set(testing.SUITES)
