"""A manager's process ends at each named point, at its first and its fifth pass; the next life finishes the run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.one_life import STEPS
from tests.support import invariants
from workflow.log import naming, points
from workflow.model.records import Created
from workflow.store import open_store

ROOT = Path(__file__).resolve().parents[2]
DIED, DONE = 9, 0


def one_life(folder: Path, point: str, nth: int, incarnation: str) -> tuple[int, list[str]]:
    """A life's exit code, and the steps it started."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.one_life", str(folder), point, str(nth), incarnation],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (DIED, DONE), done.stderr
    if done.returncode == DONE:
        assert "ended SUCCESSFUL end" in done.stdout
    return done.returncode, [line.split()[1] for line in done.stdout.splitlines() if line.startswith("started")]


OF_A_FIRST_LIFE = [(point, 1) for point in points.ALL if point not in (points.BEFORE_CLAIM, points.AFTER_CLAIM)] + [
    (points.BEFORE_BLOB, 5),
    (points.AFTER_BLOB, 5),
    (points.BEFORE_COMMIT, 5),
    (points.AFTER_COMMIT, 5),
]


@pytest.mark.parametrize(("point", "nth"), OF_A_FIRST_LIFE, ids=str)
def test_the_next_life_finishes_what_the_first_began(tmp_path: Path, point: str, nth: int) -> None:
    store = open_store(str(tmp_path))
    code, first = one_life(tmp_path, point, nth, "first")
    assert code == DIED
    named = isinstance(naming.current(store, "w"), Created)
    executed = set(invariants.executed(store, "w")) if named else set()
    _, second = one_life(tmp_path, "nowhere", 1, "second")
    assert not executed & set(second), "a committed step was started again"
    assert set(first) | set(second) == STEPS
    assert sorted(invariants.executed(store, "w")) == sorted(STEPS)
    invariants.check(store, "w")


@pytest.mark.parametrize("point", [points.BEFORE_CLAIM, points.AFTER_CLAIM, points.BEFORE_COMMIT, points.AFTER_COMMIT])
def test_the_third_life_finishes_where_the_second_died_around_its_claim(tmp_path: Path, point: str) -> None:
    store = open_store(str(tmp_path))
    assert one_life(tmp_path, points.AFTER_COMMIT, 2, "first")[0] == DIED
    assert one_life(tmp_path, point, 1, "second")[0] == DIED
    executed = set(invariants.executed(store, "w"))
    code, third = one_life(tmp_path, "nowhere", 1, "third")
    assert code == DONE
    assert not executed & set(third)
    invariants.check(store, "w")


def test_a_life_that_ends_at_every_second_commit_gets_there_in_the_end(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    started: list[str] = []
    for life in range(20):
        before = set(invariants.executed(store, "w")) if naming.current(store, "w") is not None else set()
        code, steps = one_life(tmp_path, points.AFTER_COMMIT, 2, f"life{life}")
        assert not before & set(steps)
        started += steps
        if code == DONE:
            break
    assert code == DONE
    assert set(started) == STEPS
    invariants.check(store, "w")
