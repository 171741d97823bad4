"""A snapshot says what the log said: any run, compacted anywhere, goes on to the very same state."""

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
def test_a_run_goes_on_from_a_snapshot_as_from_its_log(run: SimulatedRun, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(run.segments)))
    before = run.fresh()
    for seq, records in enumerate(run.segments[:at], 1):
        for record in records:
            fold.apply(before, seq, record)
    if before.is_finished:  # none is written of a run that has ended
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
def test_the_log_read_back_folds_to_what_was_written(run: SimulatedRun) -> None:
    state = run.fresh()
    for seq, records in enumerate(run.segments, 1):
        for record in records:
            fold.apply(state, seq, runs.through_json(record))
    assert runs.picture(state) == runs.picture(run.state)


def test_a_snapshot_begins_with_its_head() -> None:
    dag = runs.graph("a")
    with pytest.raises(CorruptLogError, match="begins with its header"):
        fold.restore(runs.state_of(dag), [runs.committed("a")])


def test_a_snapshot_stands_before_all_segments() -> None:
    dag = runs.graph("a")
    head = snapshot.compact(runs.state_of(dag, [runs.started("a")]))
    with pytest.raises(CorruptLogError, match="only a new state can be restored"):
        fold.restore(runs.state_of(dag, [runs.started("a")]), head)
