"""Workers and drivers that die before and after they store something, and a map of 1000 steps that dies three times."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import invariants
from tests.support.drivers import Tree, driver
from tests.support.history import Expected
from tests.support.marks import Marks
from tests.support.stored import in_folder
from tests.support.waiting import until
from workflow.garbage import Collected, collect
from workflow.store import open_store

DEATHS = {"before-a-blob", "after-an-object", "in-an-expansion", "after-a-dag", "after-a-blob"}
LARGE = 200_000
CONTENT = {
    "the driver's": b"d" * LARGE,
    "of before": b"b" * LARGE,
    "of object": b"o" * LARGE,
    "the DAG": b'"spread/part0"',
    "of last": b"l" * LARGE,
}
"""Bytes by which the blob of a value, an argument or a DAG is recognized."""


def blobs_at(marks: Marks, folder: Path, place: str) -> set[str]:
    """Return which of these blobs were in the store at a death."""
    noted = set(marks.died()[place].splitlines())
    blobs = {key: data for key, data in in_folder(folder, "workflows").items() if "/blobs/" in key}
    assert noted <= set(blobs)
    which = {name: {key for key, data in blobs.items() if content in data} for name, content in CONTENT.items()}
    assert all(which.values()), "all of them are stored in the end"
    return {name for name, keys in which.items() if keys & noted}


def test_worker_deaths_around_each_kind_of_blob_lose_nothing(
    marks: Marks, folder: Path, ray_outside: tuple[Tree, str]
) -> None:
    """Each step is executed again in the same epoch. Committed steps are not."""
    with driver("deadly.py", str(folder), marks.folder, "w", "worker", address=ray_outside[1]) as script:
        assert "as expected" in script.printed("result")
        assert script.ended() == 0
    assert set(marks.died()) == DEATHS
    order = marks.order()
    assert marks.starts() == {"before": 2, "object": 2, "spread": 3, "last": 2}, "one more start for each death"
    assert {"before", "object"}.isdisjoint(order[order.index("spread") :])
    assert "spread" not in order[order.index("last") :]
    expected = Expected(executions=[(1, step_id) for step_id in order])
    history = invariants.check(open_store(str(folder)), "w", expected=expected)
    assert set(history.claims) == {1}, "the death of a worker causes no claim"
    assert {step_id for step_id in history.steps if step_id.startswith("spread/")} == {
        "spread/part0", "spread/part1", "spread/part2", "spread/deadly", "spread/total",
    }  # fmt: skip

    # The first two steps run independently of each other.
    assert blobs_at(marks, folder, "before-a-blob") - {"of object"} == {"the driver's"}
    assert blobs_at(marks, folder, "after-an-object") - {"of before"} == {"the driver's", "of object"}
    given = {"the driver's", "of before", "of object"}
    assert blobs_at(marks, folder, "in-an-expansion") == given
    assert blobs_at(marks, folder, "after-a-dag") == {*given, "the DAG"}
    assert blobs_at(marks, folder, "after-a-blob") == {*given, "the DAG", "of last"}


@pytest.mark.parametrize(
    ("place", "stored"),
    [
        pytest.param("driver-while-storing", 1, id="while storing the DAG"),
        pytest.param("driver-before-calling", 5, id="before calling the manager"),
    ],
)
def test_driver_death_before_run_creation_leaves_only_garbage(
    marks: Marks, folder: Path, ray_outside: tuple[Tree, str], place: str, stored: int
) -> None:
    """The first script created no run, so the second one creates it. What the first one stored is garbage.

    Args:
        place: the place in the driver at which it dies.
        stored: how many objects it stored: the arguments of the last step, or these and the four functions.
    """
    address, store = ray_outside[1], open_store(str(folder))
    with driver("deadly.py", str(folder), marks.folder, "w", place, address=address) as first:
        assert first.ended() == -9
    assert set(marks.died()) == {place}
    left = in_folder(folder, "workflows")
    assert len(left) == stored
    assert all("/blobs/" in key for key in left)
    assert any(CONTENT["the driver's"] in data for data in left.values())

    with driver("deadly.py", str(folder), marks.folder, "w", place, address=address) as again:
        assert "as expected" in again.printed("result")
        assert again.ended() == 0
    assert set(marks.died()) == {place, *DEATHS}
    invariants.check(store, "w")

    until(lambda: not list(store.list("owned/")))
    both = in_folder(folder, "workflows")
    assert collect(store, grace=0) == Collected(runs=1, objects=stored)
    assert in_folder(folder, "workflows") == {key: data for key, data in both.items() if key not in left}
    invariants.check(store, "w")


def test_map_of_1000_steps_survives_three_deaths_of_ray(
    marks: Marks, folder: Path, ray_outside: tuple[Tree, str]
) -> None:
    """Gates hold the steps from the 100th, 500th and 990th on. Each death happens before its gate opens."""
    store = open_store(str(folder))
    before: list[str] = []
    how, seen = "run", 0
    for gate, least, most in (("10", 30, 100), ("50", 430, 500), ("99", 920, 990)):
        with driver("mapped.py", str(folder), marks.folder, "w", how) as script:
            until(lambda least=least: len(invariants.committed(store, "w")) >= least)  # type: ignore[misc]
            script.kill()
        assert least <= len(invariants.committed(store, "w")) <= most
        check_none_again(marks, seen, before)
        done = invariants.executed(store, "w")
        assert done[: len(before)] == before
        before, seen, how = done, len(marks.order()), "take-over"
        marks.open(gate)
    with driver("mapped.py", str(folder), marks.folder, "w", "take-over", address=ray_outside[1]) as last:
        assert "as expected" in last.printed("result")
        assert last.ended() == 0
    check_none_again(marks, seen, before)
    history = invariants.check(store, "w", expected=Expected(str(sum(n * n for n in range(1_000)))))
    assert history.executed[: len(before)] == before
    assert set(history.claims) == {1, 2, 3, 4}
    assert set(marks.starts()) == set(history.steps)


def check_none_again(marks: Marks, seen: int, committed: list[str]) -> None:
    """Check that no committed step was started again after the first `seen` starts."""
    assert set(marks.order()[seen:]).isdisjoint(committed)
