"""Steps without a checkpoint: what their values count for, and what runs again once they are lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings

from tests.support import runs
from tests.support.runs import claimed, committed, expanded, failed, graph, passed, started
from tests.support.simulated import SimulatedRun, simulated_runs
from workflow.errors import CorruptLogError
from workflow.model import ephemeral, fold
from workflow.model import records as r
from workflow.model.graph import StepKind, StepOptions
from workflow.model.state import RunState
from workflow.model.status import StepPhase, WorkflowStatus

SKIP = StepOptions(checkpoint=False)
CATCH_AND_SKIP = StepOptions(checkpoint=False, catch_exceptions=True)
P = StepPhase

CLAIMED: dict[str, tuple[Callable[[], RunState], set[str], set[str]]] = {
    "nobody has taken it: it runs again": (lambda: runs.state_of(graph("a b:a"), [passed("a")]), {"a"}, set()),
    "whoever takes it ran when the owner died: both run again": (
        lambda: runs.state_of(graph("a b:a"), [passed("a")], [started("b")]),
        {"a"},
        set(),
    ),
    "all that take it have outcomes: it does not": (
        lambda: runs.state_of(graph("a b:a c:b"), [passed("a"), committed("b")]),
        {"c"},
        {"a", "b"},
    ),
    "one of two that take it has its outcome: it runs again, that one does not": (
        lambda: runs.state_of(graph("a b:a c:a d:b,c"), [passed("a"), committed("b")]),
        {"a"},
        {"b"},
    ),
    "a chain of them runs again from its beginning": (
        lambda: runs.state_of(graph("a b:a c:b d:c"), [passed("a"), passed("b"), passed("c")]),
        {"a"},
        set(),
    ),
    "up to a step whose value is stored": (
        lambda: runs.state_of(graph("a b:a c:b d:c"), [committed("a"), passed("b"), passed("c")]),
        {"b"},
        {"a"},
    ),
    "who takes it has returned a sub-DAG: it is not needed any more": (
        lambda: runs.state_of(graph("a b:a"), [passed("a"), expanded("b", graph("b/x"))]),
        {"b/x"},
        {"a"},
    ),
    "it was the output of a dynamic step: that one is as it was when it expanded": (
        lambda: runs.state_of(graph("x y:x"), [expanded("x", graph("x/a x/b:x/a"))], [passed("x/a"), passed("x/b")]),
        {"x/a"},
        set(),
    ),
}


@pytest.mark.parametrize("name", CLAIMED)
def test_what_runs_again_after_a_claim(name: str) -> None:
    make, ready, done = CLAIMED[name]
    state = make()
    fold.apply(state, 9, claimed(2))
    assert set(state.ready) == ready
    assert {step_id for step_id, step in state.steps.items() if step.phase is P.COMMITTED} == done
    assert state.succeeded == len(done)


def test_what_a_failed_run_needs_again_is_made_again() -> None:
    state = runs.state_of(
        graph("a b:a c:b"),
        [passed("a")],
        [failed("b"), r.StatusChanged(WorkflowStatus.FAILED, 1, 9.0)],
        [claimed(2, retry_failed=2)],
    )
    assert set(state.ready) == {"a"}
    assert state.steps["b"].phase is P.WAITING


@pytest.mark.parametrize(
    ("records", "gone", "again"),
    [
        pytest.param([passed("a")], ["a"], {"a"}, id="one"),
        pytest.param([committed("a")], ["a"], set(), id="a stored value is never lost"),
        pytest.param([passed("a"), passed("b"), committed("c")], ["b"], {"a", "b"}, id="with what was let go"),
        pytest.param([passed("a"), passed("b")], ["b"], {"b"}, id="without what is still held for another"),
        pytest.param([passed("a"), passed("b"), passed("c")], ["b", "c"], {"a", "b", "c"}, id="two"),
    ],
)
def test_what_is_lost_with_a_value(records: list[r.Record], gone: list[str], again: set[str]) -> None:
    state = runs.state_of(graph("a b:a c:a d:b,c e:d"), records)
    lost = [step.spec.step_id for step in ephemeral.lost(state, gone)]
    assert set(lost) == again
    assert len(lost) == len(again)


def test_who_takes_a_lost_value_waits_for_it_again_and_what_has_its_outcome_keeps_it() -> None:
    state = runs.state_of(graph("a b:a c:a d:b,c"), [passed("a"), committed("b")], [started("c")])
    fold.apply(state, 3, r.StepEphemeralLost("a", 1))
    assert set(state.ready) == {"a"}
    assert not state.running
    assert (state.steps["c"].phase, state.steps["b"].phase) == (P.WAITING, P.COMMITTED)
    fold.apply(state, 4, passed("a"))
    assert set(state.ready) == {"c"}
    assert state.steps["b"].pending_parents == 0


def test_a_second_execution_may_end_otherwise() -> None:
    state = runs.state_of(graph("a b:a c:a,b"), [passed("a"), committed("b")], [claimed(2)])
    fold.apply(state, 3, expanded("a", graph("a/x"), epoch=2))
    fold.apply(state, 4, passed("a/x", epoch=2))
    assert set(state.ready) == {"c"}


def test_what_passed_is_no_progress_that_outlives_its_owner() -> None:
    state = runs.state_of(graph("a b:a"), [claimed(2)], [passed("a", epoch=2)], [claimed(3)])
    assert state.epochs_without_progress == 2


@pytest.mark.parametrize(
    ("around", "own", "stored"),
    [
        pytest.param(None, None, True, id="by default"),
        pytest.param(False, None, False, id="as the step that returned it"),
        pytest.param(False, True, True, id="unless it says otherwise"),
        pytest.param(None, False, False, id="by its own option"),
    ],
)
def test_a_step_says_itself_or_inherits_whether_it_is_stored(
    around: bool | None, own: bool | None, stored: bool
) -> None:
    inner = expanded("x", graph("x/a x/b:x/a", x__a=StepOptions(checkpoint=own)))
    state = runs.state_of(graph("x y:x", x=StepOptions(checkpoint=around)), [inner])
    assert state.steps["x/a"].checkpointed is stored


def test_the_runs_own_value_is_stored_whatever_its_steps_say() -> None:
    state = runs.state_of(graph("x", x=SKIP), [expanded("x", graph("x/a x/b:x/a", x__b=SKIP)), passed("x/a")])
    assert (state.steps["x"].checkpointed, state.steps["x/b"].checkpointed, state.steps["x/a"].checkpointed) == (
        True,
        True,
        False,
    )
    with pytest.raises(CorruptLogError, match="the run's own value is always stored"):
        fold.apply(state, 3, passed("x/b"))


def test_only_what_passed_is_voided() -> None:
    state = runs.state_of(graph("a b:a"), [committed("a")])
    with pytest.raises(CorruptLogError, match="its value is stored"):
        fold.apply(state, 2, r.StepEphemeralLost("a", 1))


def test_a_step_that_catches_wraps_what_it_passes() -> None:
    state = runs.state_of(graph("x y:x", x=CATCH_AND_SKIP), [expanded("x", graph("x/a"))], [passed("x/a")])
    outcome = state.steps["x"].outcome
    assert outcome is not None
    assert (outcome.held, outcome.wraps, outcome.caught) == ("x/a", 1, False)


@settings(max_examples=150, deadline=None)
@given(run=simulated_runs())
def test_the_counts_are_those_of_the_steps_at_any_time(run: SimulatedRun) -> None:
    state = run.fresh()
    for seq, records in enumerate(run.segments, 1):
        for record in records:
            fold.apply(state, seq, record)
        for step_id, step in state.steps.items():
            assert step.pending_parents == sum(state.steps[parent].outcome is None for parent in step.spec.parents)
            needs_worker = step.spec.kind is StepKind.TASK
            assert (step.phase is P.READY and needs_worker) == (step_id in state.ready)
            assert (step.phase is P.READY and not needs_worker) == (step_id in state.waits)
            assert (step.phase is P.RUNNING) == (step_id in state.running)
            assert (step.phase is P.SLEEPING) == (step_id in state.sleeping)
            if step.phase in (P.READY, P.RUNNING):
                assert not step.pending_parents
        assert state.running_tasks == sum(step.spec.kind is StepKind.TASK for step in state.running.values())
        takers = [step for step in state.steps.values() if step.phase in ephemeral.TAKING]
        held = [each for taker in takers for each in ephemeral.held_parents(state, taker)]
        if not state.is_finished:
            assert state.ephemeral == {step_id: held.count(step_id) for step_id in state.ephemeral}
            assert set(held) <= set(state.ephemeral)


@settings(max_examples=100, deadline=None)
@given(run=simulated_runs())
def test_no_step_of_a_new_epoch_takes_a_value_of_an_old_one(run: SimulatedRun) -> None:
    end = run.state.terminal
    if end is not None and end[1].status is not WorkflowStatus.FAILED:
        return
    run.write([claimed(run.state.epoch + 1, retry_failed=end[0] if end is not None else -1)])
    for step in run.state.steps.values():
        if step.phase in ephemeral.TAKING:
            assert not ephemeral.held_parents(run.state, step)
