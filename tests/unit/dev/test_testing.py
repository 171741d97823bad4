"""`make test`'s runner: what it counts, and when it says that something is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev import paths
from dev.testing import Outcome, counted, main, measured, table


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
    assert main(["units"]) == 2
    assert "units; known are unit, contract" in capsys.readouterr().err


def test_a_suite_that_fails_does_not_stop_the_next(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for suite, body in (("unit", "assert False"), ("repo", "pass")):
        (tmp_path / "tests" / suite).mkdir(parents=True)
        (tmp_path / "tests" / suite / "test_it.py").write_text(f"def test_it():\n    {body}\n")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    assert main(["unit", "repo"]) == 1
    told = capsys.readouterr().out
    assert "FAIL  unit: 0 passed, 1 failed" in told
    assert "FAILED tests/unit/test_it.py::test_it" in told
    assert told.splitlines()[-1] == "1 passed, 1 failed"
