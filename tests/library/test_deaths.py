"""Workers and drivers that die before and behind what they store, and a map of a thousand that dies three times."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import invariants
from tests.support.checker import Expected
from tests.support.drivers import Tree, driver
from tests.support.marks import Marks
from tests.support.stored import in_folder
from tests.support.waiting import until
from workflow.garbage import Collected, collect
from workflow.store import open_store

DEATHS = {"before-a-blob", "behind-an-object", "in-an-expansion", "behind-a-dag", "behind-a-blob"}
LARGE = 200_000
TOLD_BY = {
    "the driver's": b"d" * LARGE,
    "of before": b"b" * LARGE,
    "of object": b"o" * LARGE,
    "the DAG": b'"spread/part0"',
    "of last": b"l" * LARGE,
}
"""What a blob holds that is the value, or the argument, or the DAG."""


def blobs_at(marks: Marks, folder: Path, place: str) -> set[str]:
    """Which of these blobs lay in the store at a death."""
    noted = set(marks.died()[place].splitlines())
    blobs = {key: data for key, data in in_folder(folder, "workflows").items() if "/blobs/" in key}
    assert noted <= set(blobs)
    which = {name: {key for key, data in blobs.items() if content in data} for name, content in TOLD_BY.items()}
    assert all(which.values()), "each of them is there in the end"
    return {name for name, keys in which.items() if keys & noted}


def test_workers_die_before_and_behind_each_kind_of_blob(
    marks: Marks, folder: Path, ray_outside: tuple[Tree, str]
) -> None:
    """Each is executed again, in the same epoch; what was committed before is not."""
    with driver("deadly.py", str(folder), marks.folder, "w", "worker", address=ray_outside[1]) as script:
        assert "as expected" in script.printed("result")
        assert script.ended() == 0
    assert set(marks.died()) == DEATHS
    order = marks.order()
    assert marks.starts() == {"before": 2, "object": 2, "spread": 3, "last": 2}, "once more for each of its deaths"
    assert {"before", "object"}.isdisjoint(order[order.index("spread") :])
    assert "spread" not in order[order.index("last") :]
    told = Expected("total 400003", [(1, step_id) for step_id in order])
    history = invariants.check(open_store(str(folder)), "w", expected=told)
    assert set(history.claims) == {1}, "a worker's death is nobody's takeover"
    assert {step_id for step_id in history.steps if step_id.startswith("spread/")} == {
        "spread/part0", "spread/part1", "spread/part2", "spread/deadly", "spread/total",
    }  # fmt: skip

    # The two first steps know nothing of each other.
    assert blobs_at(marks, folder, "before-a-blob") - {"of object"} == {"the driver's"}
    assert blobs_at(marks, folder, "behind-an-object") - {"of before"} == {"the driver's", "of object"}
    given = {"the driver's", "of before", "of object"}
    assert blobs_at(marks, folder, "in-an-expansion") == given
    assert blobs_at(marks, folder, "behind-a-dag") == {*given, "the DAG"}
    assert blobs_at(marks, folder, "behind-a-blob") == {*given, "the DAG", "of last"}


@pytest.mark.parametrize(
    ("place", "stored"),
    [
        pytest.param("driver-while-storing", 1, id="while it stores its DAG"),
        pytest.param("driver-before-asking", 5, id="before it asks a manager"),
    ],
)
def test_a_driver_dies_before_its_run_is_made(
    marks: Marks, folder: Path, ray_outside: tuple[Tree, str], place: str, stored: int
) -> None:
    """Nothing was made; the same script makes it. What the first one stored is garbage.

    Args:
        stored: the arguments of the last step, or these and the functions of all four.
    """
    address, store = ray_outside[1], open_store(str(folder))
    with driver("deadly.py", str(folder), marks.folder, "w", place, address=address) as first:
        assert first.ended() == -9
    assert set(marks.died()) == {place}
    left = in_folder(folder)
    assert len(left) == stored
    assert all("/blobs/" in key for key in left)
    assert any(TOLD_BY["the driver's"] in data for data in left.values())

    with driver("deadly.py", str(folder), marks.folder, "w", place, address=address) as again:
        assert "as expected" in again.printed("result")
        assert again.ended() == 0
    assert set(marks.died()) == {place, *DEATHS}
    told = Expected("total 400003")
    invariants.check(store, "w", expected=told)

    until(lambda: not list(store.list("owned/")))
    both = in_folder(folder, "workflows")
    assert collect(store, grace=0) == Collected(runs=1, objects=stored)
    assert in_folder(folder, "workflows") == {key: data for key, data in both.items() if key not in left}
    invariants.check(store, "w", expected=told)


def test_a_map_of_a_thousand_dies_with_all_of_ray_in_its_first_fifth_and_last_tenth(marks: Marks, folder: Path) -> None:
    """Gates hold all elements from the 100th, the 500th and the 990th on: each death is before they open."""
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
    with driver("mapped.py", str(folder), marks.folder, "w", "take-over") as last:
        assert "as expected" in last.printed("result")
        assert last.ended() == 0
    check_none_again(marks, seen, before)
    history = invariants.check(store, "w", expected=Expected(str(sum(n * n for n in range(1_000)))))
    assert history.executed[: len(before)] == before
    assert set(history.claims) == {1, 2, 3, 4}
    assert set(marks.starts()) == set(history.steps)


def check_none_again(marks: Marks, seen: int, committed: list[str]) -> None:
    """None of the steps that were committed is among those started since."""
    assert set(marks.order()[seen:]).isdisjoint(committed)
