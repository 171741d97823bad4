"""A Ray of two nodes: workers reach the manager from the other one, values are lent across, and the node dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import invariants
from tests.support.checker import Expected
from tests.support.drivers import cluster, driver, joined
from tests.support.marks import Marks
from tests.support.waiting import until
from workflow.model import records as r
from workflow.store import open_store


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The first node's."""
    with cluster() as (_, address):
        yield address


def passed(folder: Path) -> set[str]:
    """The steps whose values were handed on and not stored."""
    written = invariants.log_of(open_store(str(folder)), "w")
    return {each.record.step_id for each in written if isinstance(each.record, r.StepReturnedEphemeral)}


def test_values_are_lent_to_the_other_node_and_back(marks: Marks, folder: Path, address: str) -> None:
    marks.open("hold")
    with (
        joined(address, {"crossed": 4}),
        driver("nodes.py", str(folder), marks.folder, "w", "crossing", "crossed", address=address) as script,
    ):
        assert "as expected" in script.printed("result")
        assert script.ended() == 0
    assert marks.starts() == {"make on far": 1, "doubled on near": 1, "hold": 1, "last on far": 1}
    assert passed(folder) == {"make", "doubled"}
    assert max(info.size for info in open_store(str(folder)).list("workflows/")) < 100_000
    invariants.check(open_store(str(folder)), "w")


def test_a_value_that_died_with_its_node_is_made_again(marks: Marks, folder: Path, address: str) -> None:
    with (
        joined(address, {"lost": 4}) as node,
        driver("nodes.py", str(folder), marks.folder, "w", "lost", "lost", address=address) as script,
    ):
        until(lambda: passed(folder) == {"make", "doubled"})
        node.kill()
        marks.open("hold")
        assert "as expected" in script.printed("result")
        assert script.ended() == 0
    starts = marks.starts()
    assert {step: times for step, times in starts.items() if not step.startswith("last")} == {
        "make on far": 1, "doubled on far": 1, "hold": 1, "make on near": 1, "doubled on near": 1,
    }  # fmt: skip
    assert starts["last on near"] == 1
    invariants.check(open_store(str(folder)), "w")


def test_steps_of_a_node_that_died_go_on_at_another_and_no_committed_one_runs_again(
    marks: Marks, folder: Path, address: str
) -> None:
    store = open_store(str(folder))
    with (
        joined(address, {"needed": 4}) as node,
        driver("nodes.py", str(folder), marks.folder, "w", "bound", "needed", address=address) as script,
    ):
        until(lambda: len(invariants.committed(store, "w")) == 6)
        before = invariants.executed(store, "w")
        marks.wait_started("work6")
        node.kill()
        marks.open("work")
        with joined(address, {"needed": 4}):
            assert "as expected" in script.printed("result")
            assert script.ended() == 0
    starts = marks.starts()
    assert {step_id: starts[step_id] for step_id in before} == dict.fromkeys(before, 1)
    assert starts["work6"] == 2
    told = Expected("66", [(1, step_id) for step_id in marks.order()])
    assert set(invariants.check(store, "w", expected=told).claims) == {1}, "a node's death is nobody's takeover"
