"""A snapshot and the log lead to the same state, for any run and any segment of the snapshot."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import runs
from tests.support.simulated import SimulatedRun, simulated_runs
from workflow.errors import CorruptLogError
from workflow.model import fold, snapshot
from workflow.model import records as r
from workflow.model.graph import Graph, StepKind, StepOptions, StepSpec, Value, WaitOptions
from workflow.model.status import WorkflowStatus

S = WorkflowStatus


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


NOT_STORED, CATCH = StepOptions(checkpoint=False), StepOptions(catch_exceptions=True)
LOST = r.StepEphemeralLost("a", 1)
BOTH = WaitOptions(1, 5.0)

SCENARIOS: dict[str, tuple[Graph, list[list[r.Record]]]] = {
    "an ephemeral value is lost twice": (
        runs.graph("a b:a", a=NOT_STORED),
        [
            [runs.started("a"), runs.returned_ephemeral("a")],
            [LOST],
            [runs.returned_ephemeral("a"), LOST],
            [runs.returned_ephemeral("a", attempt=2)],
            [runs.committed("b")],
        ],
    ),
    "an ephemeral value of a sub-DAG is lost": (
        runs.graph("x b:x", x=NOT_STORED),
        [
            [runs.expanded("x", runs.graph("a", a=NOT_STORED))],
            [runs.returned_ephemeral("a")],
            [LOST],
            [runs.started("a")],
            [runs.returned_ephemeral("a")],
            [runs.started("b", attempt=2)],
        ],
    ),
    "failures, a failure that was caught, and attempts": (
        runs.graph("a x y z:a,x,y", x=CATCH),
        [
            [runs.expanded("x", runs.graph("x/a x/b:x/a"))],
            [runs.failed("x/a", attempt=3), r.StepCanceled("x/b", 1, "a")],
            [runs.committed("x", caught=True)],
            [r.StepStarted("a", 1, 3, 2.5, 2, runs.failed("a").error)],
            [runs.failed("y", attempt=2)],
        ],
    ),
    "claims, requests, functions, and a release": (
        runs.graph("a b c:a,b"),
        [
            [runs.started("a"), r.RequestHandled("q", 1, "done")],
            [runs.claimed(2, f="1")],
            [runs.started("b", 2)],
            [runs.claimed(3, g="2"), r.RequestHandled("p", 3, "done")],
            [r.StatusChanged(S.RESUMABLE, 3, 5.0, "Left")],
        ],
    ),
    "sleeps and waits": (
        Graph(
            (
                *runs.graph("a b").steps,
                runs.sleeper("s", 7.0),
                StepSpec("w", "w", "", "m.w", Value(), ("a", "b", "s"), kind=StepKind.WAIT, wait=BOTH),
            ),
            "w",
        ),
        [
            [r.TimerSet("s", 1, 2.0, 9.0)],
            [r.TimerSet("w", 1, 3.0, 8.0)],
            [runs.claimed(2)],
            [runs.committed("a", 2)],
            [r.WaitDecided("w", 2, ("a",), 6.0, 7.0)],
        ],
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_snapshot_after_any_segment_is_the_state(name: str) -> None:
    dag, segments = SCENARIOS[name]
    for at in range(len(segments) + 1):
        before = runs.state_of(dag, *segments[:at])
        restored = fold.begin(before.created, dag)
        fold.restore(restored, [runs.through_json(record) for record in snapshot.compact(before)])
        assert runs.picture(restored) == runs.picture(before)
        for seq, records in enumerate(segments[at:], at + 1):
            for record in records:
                fold.apply(restored, seq, record)
        assert runs.picture(restored) == runs.picture(runs.state_of(dag, *segments))
        canceled = r.StepCanceled(before.steps["a"].spec.step_id, before.epoch, "") if "a" in before.steps else None
        if canceled is not None and not before.steps["a"].is_finished:
            fold.apply(before, at + 1, canceled)
            again = fold.begin(before.created, dag)
            fold.restore(again, snapshot.compact(before))
            assert runs.picture(again) == runs.picture(before)


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
    wrong: tuple[list[r.Record], ...] = ([], [runs.committed("a")])
    for records in wrong:
        with pytest.raises(CorruptLogError, match="cannot restore run run-1 of workflow 'w': a snapshot begins with"):
            fold.restore(runs.state_of(dag), records)


def test_a_snapshot_after_a_segment_is_refused() -> None:
    dag = runs.graph("a")
    head = snapshot.compact(runs.state_of(dag, [runs.started("a")]))
    with pytest.raises(CorruptLogError, match="only a new state can be restored"):
        fold.restore(runs.state_of(dag, [runs.started("a")]), head)
