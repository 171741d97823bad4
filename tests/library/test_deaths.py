"""Workers and drivers that die before and behind what they store, and a map of a thousand that dies three times."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import invariants
from tests.support.checker import Told
from tests.support.drivers import Tree, driver
from tests.support.marks import Marks
from tests.support.stored import in_folder
from tests.support.waiting import until
from workflow.store import open_store

DEATHS = {"before-a-blob", "behind-an-object", "in-an-expansion", "behind-a-blob"}
DEADLY_STEPS = {"before", "object", "spread", "last"}


def died(marks: Marks) -> set[str]:
    return {path.name.removeprefix("died-") for path in Path(marks.folder).glob("died-*")}


def test_workers_die_before_and_behind_each_kind_of_blob(
    marks: Marks, folder: Path, ray_outside: tuple[Tree, str]
) -> None:
    """Each is executed again, in the same epoch; what was committed before is not."""
    with driver("deadly.py", str(folder), marks.folder, "w", "worker", address=ray_outside[1]) as script:
        assert "as expected" in script.printed("result")
        assert script.ended() == 0
    assert died(marks) == DEATHS
    starts = marks.starts()
    assert set(starts) == DEADLY_STEPS
    assert all(times >= 2 for times in starts.values()), "each of them died once"
    told = Told("total 400003", [(1, step_id) for step_id in marks.order()])
    history = invariants.check(open_store(str(folder)), "w", told=told)
    assert set(history.claims) == {1}, "a worker's death is nobody's takeover"
    assert {step_id for step_id in history.steps if step_id.startswith("spread/")} == {
        "spread/part0", "spread/part1", "spread/part2", "spread/deadly", "spread/total",
    }  # fmt: skip


def test_a_driver_dies_while_it_stores_its_dag(marks: Marks, folder: Path, ray_outside: tuple[Tree, str]) -> None:
    """Nothing was made; the same script makes it."""
    address = ray_outside[1]
    with driver("deadly.py", str(folder), marks.folder, "w", "driver", address=address) as first:
        assert first.ended() == -9
    assert died(marks) == {"driver"}
    assert not [key for key in in_folder(folder) if "/names/" in key or key.startswith(("index/", "owned/"))]
    with driver("deadly.py", str(folder), marks.folder, "w", "driver", address=address) as again:
        assert "as expected" in again.printed("result")
        assert again.ended() == 0
    invariants.check(open_store(str(folder)), "w", told=Told("total 400003"))


@pytest.mark.parametrize("kills", [(("10", 30), ("50", 430), ("99", 920))], ids=["10, 50 and 99 percent"])
def test_a_map_of_a_thousand_dies_with_all_of_ray(
    marks: Marks, folder: Path, kills: tuple[tuple[str, int], ...]
) -> None:
    store = open_store(str(folder))
    before: list[str] = []
    how, seen = "run", 0
    for gate, enough in kills:
        with driver("mapped.py", str(folder), marks.folder, "w", how) as script:
            until(lambda enough=enough: len(invariants.committed(store, "w")) >= enough)  # type: ignore[misc]
            script.kill()
        check_none_again(marks, seen, before)
        done = invariants.executed(store, "w")
        assert done[: len(before)] == before
        before, seen, how = done, len(marks.order()), "take-over"
        marks.open(gate)
    with driver("mapped.py", str(folder), marks.folder, "w", "take-over") as last:
        assert "as expected" in last.printed("result")
        assert last.ended() == 0
    check_none_again(marks, seen, before)
    history = invariants.check(store, "w", told=Told(str(sum(n * n for n in range(1_000)))))
    assert history.executed[: len(before)] == before
    assert set(marks.starts()) == set(history.steps)


def check_none_again(marks: Marks, seen: int, committed: list[str]) -> None:
    """None of the steps that were committed is among those started since."""
    assert set(marks.order()[seen:]).isdisjoint(committed)
