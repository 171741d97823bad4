"""A Ray of two nodes: workers reach the manager from both, ephemeral values move between them, and a node dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import invariants
from tests.support.drivers import cluster, driver, joined
from tests.support.history import Expected
from tests.support.marks import Marks
from tests.support.waiting import until
from workflow.model import records as r
from workflow.store import open_store


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of the first node."""
    with cluster() as (_, address):
        yield address


def ephemeral(folder: Path) -> set[str]:
    """Return the steps that returned ephemeral values."""
    written = invariants.log_of(open_store(str(folder)), "w")
    return {each.record.step_id for each in written if isinstance(each.record, r.StepReturnedEphemeral)}


def test_ephemeral_values_move_between_nodes(marks: Marks, folder: Path, address: str) -> None:
    marks.open("hold")
    with (
        joined(address, {"crossed": 4}),
        driver("nodes.py", str(folder), marks.folder, "w", "values-move", "crossed", address=address) as script,
    ):
        assert "as expected" in script.printed("result")
        assert script.ended() == 0
    assert marks.starts() == {"make on far": 1, "doubled on near": 1, "hold": 1, "last on far": 1}
    assert ephemeral(folder) == {"make", "doubled"}
    assert max(info.size for info in open_store(str(folder)).list("workflows/")) < 100_000
    invariants.check(open_store(str(folder)), "w")


def test_ephemeral_value_of_a_dead_node_is_produced_again(marks: Marks, folder: Path, address: str) -> None:
    with (
        joined(address, {"lost": 4}) as node,
        driver("nodes.py", str(folder), marks.folder, "w", "values-far", "lost", address=address) as script,
    ):
        until(lambda: ephemeral(folder) == {"make", "doubled"})
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


def test_only_unfinished_steps_of_a_dead_node_run_again(marks: Marks, folder: Path, address: str) -> None:
    store = open_store(str(folder))
    with (
        joined(address, {"needed": 4}) as node,
        driver("nodes.py", str(folder), marks.folder, "w", "steps-far", "needed", address=address) as script,
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
    expected = Expected("66", [(1, step_id) for step_id in marks.order()])
    assert set(invariants.check(store, "w", expected=expected).claims) == {1}, "the death of a node causes no claim"
