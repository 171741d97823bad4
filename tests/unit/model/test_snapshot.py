"""A snapshot and the log lead to the same state, for any run and any segment of the snapshot."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import runs
from tests.support.simulated import SimulatedRun, simulated_runs
from workflow.errors import CorruptLogError
from workflow.model import fold, snapshot


@settings(max_examples=150, deadline=None)
@given(run=simulated_runs(), data=st.data())
def test_a_snapshot_and_the_rest_fold_to_the_state_of_the_log(run: SimulatedRun, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(run.segments)))
    before = run.fresh()
    for seq, records in enumerate(run.segments[:at], 1):
        for record in records:
            fold.apply(before, seq, record)
    if before.is_finished:  # snapshots of finished runs are never written
        return
    kept = [runs.through_json(record) for record in snapshot.compact(before)]

    restored = run.fresh()
    fold.restore(restored, kept)
    assert runs.picture(restored) == runs.picture(before)

    for seq, records in enumerate(run.segments[at:], at + 1):
        for record in records:
            fold.apply(restored, seq, runs.through_json(record))
    assert runs.picture(restored) == runs.picture(run.state)


@settings(max_examples=60, deadline=None)
@given(run=simulated_runs())
def test_the_log_read_back_folds_to_the_written_state(run: SimulatedRun) -> None:
    state = run.fresh()
    for seq, records in enumerate(run.segments, 1):
        for record in records:
            fold.apply(state, seq, runs.through_json(record))
    assert runs.picture(state) == runs.picture(run.state)


def test_a_snapshot_without_its_header_is_refused() -> None:
    dag = runs.graph("a")
    for records in ([], [runs.committed("a")]):
        with pytest.raises(CorruptLogError, match="cannot restore run run-1 of workflow 'w': a snapshot begins with"):
            fold.restore(runs.state_of(dag), records)


def test_a_snapshot_after_a_segment_is_refused() -> None:
    dag = runs.graph("a")
    head = snapshot.compact(runs.state_of(dag, [runs.started("a")]))
    with pytest.raises(CorruptLogError, match="only a new state can be restored"):
        fold.restore(runs.state_of(dag, [runs.started("a")]), head)
