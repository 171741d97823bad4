"""Ephemeral values in the state of a run: which steps need them, and which steps run again after a loss."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings

from tests.support import runs
from tests.support.runs import claimed, committed, expanded, failed, graph, returned_ephemeral, started
from tests.support.simulated import SimulatedRun, simulated_runs
from workflow.errors import CorruptLogError
from workflow.model import ephemeral, fold
from workflow.model import records as r
from workflow.model.graph import StepKind, StepOptions, Value
from workflow.model.state import Outcome, RunState
from workflow.model.status import StepPhase, WorkflowStatus

NO_CHECKPOINT = StepOptions(checkpoint=False)
CATCH_WITHOUT_CHECKPOINT = StepOptions(checkpoint=False, catch_exceptions=True)
P = StepPhase

STATES_BEFORE_CLAIM: dict[str, tuple[Callable[[], RunState], set[str], set[str]]] = {
    "not consumed: it runs again": (lambda: runs.state_of(graph("a b:a"), [returned_ephemeral("a")]), {"a"}, set()),
    "its consumer was running: both run again": (
        lambda: runs.state_of(graph("a b:a"), [returned_ephemeral("a")], [started("b")]),
        {"a"},
        set(),
    ),
    "all consumers have outcomes: it does not run again": (
        lambda: runs.state_of(graph("a b:a c:b"), [returned_ephemeral("a"), committed("b")]),
        {"c"},
        {"a", "b"},
    ),
    "one of two consumers has its outcome: only that one does not run again": (
        lambda: runs.state_of(graph("a b:a c:a d:b,c"), [returned_ephemeral("a"), committed("b")]),
        {"a"},
        {"b"},
    ),
    "a chain runs again from its beginning": (
        lambda: runs.state_of(
            graph("a b:a c:b d:c"), [returned_ephemeral("a"), returned_ephemeral("b"), returned_ephemeral("c")]
        ),
        {"a"},
        set(),
    ),
    "a chain runs again after the last stored value": (
        lambda: runs.state_of(
            graph("a b:a c:b d:c"), [committed("a"), returned_ephemeral("b"), returned_ephemeral("c")]
        ),
        {"b"},
        {"a"},
    ),
    "its consumer has expanded: it is not needed any more": (
        lambda: runs.state_of(graph("a b:a"), [returned_ephemeral("a"), expanded("b", graph("b/x"))]),
        {"b/x"},
        {"a"},
    ),
    "the output of a dynamic step: the dynamic step is expanded again": (
        lambda: runs.state_of(
            graph("x y:x"),
            [expanded("x", graph("x/a x/b:x/a"))],
            [returned_ephemeral("x/a"), returned_ephemeral("x/b")],
        ),
        {"x/a"},
        set(),
    ),
}


@pytest.mark.parametrize("name", STATES_BEFORE_CLAIM)
def test_claim_repeats_steps_whose_values_are_needed(name: str) -> None:
    make, ready, done = STATES_BEFORE_CLAIM[name]
    state = make()
    fold.apply(state, 9, claimed(2))
    assert set(state.ready) == ready
    assert {step_id for step_id, step in state.steps.items() if step.phase is P.COMMITTED} == done
    assert state.succeeded == len(done)


def test_retry_repeats_steps_whose_values_are_needed() -> None:
    state = runs.state_of(
        graph("a b:a c:b"),
        [returned_ephemeral("a")],
        [failed("b"), r.StatusChanged(WorkflowStatus.FAILED, 1, 9.0)],
        [claimed(2, retry_failed=2)],
    )
    assert set(state.ready) == {"a"}
    assert state.steps["b"].phase is P.WAITING


@pytest.mark.parametrize(
    ("records", "lost_ids", "repeated"),
    [
        pytest.param([returned_ephemeral("a")], ["a"], {"a"}, id="one value"),
        pytest.param([committed("a")], ["a"], set(), id="a stored value is never lost"),
        pytest.param(
            [returned_ephemeral("a"), returned_ephemeral("b"), committed("c")],
            ["b"],
            {"a", "b"},
            id="its released input is repeated",
        ),
        pytest.param(
            [returned_ephemeral("a"), returned_ephemeral("b")],
            ["b"],
            {"b"},
            id="its input that is still available is kept",
        ),
        pytest.param(
            [returned_ephemeral("a"), returned_ephemeral("b"), returned_ephemeral("c")],
            ["b", "c"],
            {"a", "b", "c"},
            id="two values",
        ),
    ],
)
def test_lost_value_also_repeats_its_released_inputs(
    records: list[r.Record], lost_ids: list[str], repeated: set[str]
) -> None:
    state = runs.state_of(graph("a b:a c:a d:b,c e:d"), records)
    lost = [step.spec.step_id for step in ephemeral.lost(state, lost_ids)]
    assert set(lost) == repeated
    assert len(lost) == len(repeated)


def test_unfinished_consumer_of_a_lost_value_waits_again() -> None:
    state = runs.state_of(graph("a b:a c:a d:b,c"), [returned_ephemeral("a"), committed("b")], [started("c")])
    fold.apply(state, 3, r.StepEphemeralLost("a", 1))
    assert set(state.ready) == {"a"}
    assert not state.running
    assert (state.steps["c"].phase, state.steps["b"].phase) == (P.WAITING, P.COMMITTED)
    fold.apply(state, 4, returned_ephemeral("a"))
    assert set(state.ready) == {"c"}
    assert state.steps["b"].pending_parents == 0


def test_repeated_step_may_have_another_kind_of_result() -> None:
    state = runs.state_of(graph("a b:a c:a,b"), [returned_ephemeral("a"), committed("b")], [claimed(2)])
    fold.apply(state, 3, expanded("a", graph("a/x"), epoch=2))
    fold.apply(state, 4, returned_ephemeral("a/x", epoch=2))
    assert set(state.ready) == {"c"}


def test_ephemeral_value_is_no_progress() -> None:
    state = runs.state_of(graph("a b:a"), [claimed(2)], [returned_ephemeral("a", epoch=2)], [claimed(3)])
    assert state.epochs_without_progress == 2


@pytest.mark.parametrize(
    ("around", "own", "stored"),
    [
        pytest.param(None, None, True, id="by default"),
        pytest.param(False, None, False, id="inherited"),
        pytest.param(False, True, True, id="own option overrides"),
        pytest.param(None, False, False, id="own option"),
    ],
)
def test_checkpoint_option_is_own_or_inherited(around: bool | None, own: bool | None, stored: bool) -> None:
    inner = expanded("x", graph("x/a x/b:x/a", x__a=StepOptions(checkpoint=own)))
    state = runs.state_of(graph("x y:x", x=StepOptions(checkpoint=around)), [inner])
    assert state.steps["x/a"].checkpointed is stored


def test_output_of_the_run_is_stored_despite_its_options() -> None:
    state = runs.state_of(
        graph("x", x=NO_CHECKPOINT),
        [expanded("x", graph("x/a x/b:x/a", x__b=NO_CHECKPOINT)), returned_ephemeral("x/a")],
    )
    assert (state.steps["x"].checkpointed, state.steps["x/b"].checkpointed, state.steps["x/a"].checkpointed) == (
        True,
        True,
        False,
    )
    with pytest.raises(CorruptLogError, match="the output of the run is always stored"):
        fold.apply(state, 3, returned_ephemeral("x/b"))


def test_stored_value_cannot_be_lost() -> None:
    state = runs.state_of(graph("a b:a"), [committed("a")])
    with pytest.raises(CorruptLogError, match="its value is stored"):
        fold.apply(state, 2, r.StepEphemeralLost("a", 1))


@pytest.mark.parametrize("catches", [True, False])
def test_catching_step_wraps_an_ephemeral_value(catches: bool) -> None:
    state = runs.state_of(
        graph("x y:x", x=CATCH_WITHOUT_CHECKPOINT),
        [expanded("x", graph("x/a", x__a=StepOptions(catch_exceptions=catches)))],
        [returned_ephemeral("x/a")],
    )
    inner, outer = state.steps["x/a"].outcome, state.steps["x"].outcome
    assert inner == Outcome(Value(), wrapped=catches, ephemeral_step="x/a")
    assert outer == Outcome(Value(), wrapped=True, ephemeral_step="x/a")


@settings(max_examples=150, deadline=None)
@given(run=simulated_runs())
def test_counts_of_a_state_match_its_steps_after_any_segment(run: SimulatedRun) -> None:
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
                assert step.may_start
        assert state.running_tasks == sum(step.spec.kind is StepKind.TASK for step in state.running.values())
        consumers = [step for step in state.steps.values() if step.phase in ephemeral.NEEDS_INPUTS]
        inputs = [each for consumer in consumers for each in ephemeral.ephemeral_inputs(state, consumer)]
        if not state.is_finished:
            assert state.ephemeral == {step_id: inputs.count(step_id) for step_id in state.ephemeral}
            assert set(inputs) <= set(state.ephemeral)


@settings(max_examples=100, deadline=None)
@given(run=simulated_runs())
def test_new_epoch_needs_no_ephemeral_value_of_an_old_one(run: SimulatedRun) -> None:
    terminal = run.state.terminal
    if terminal is not None and terminal[1].status is not WorkflowStatus.FAILED:
        return
    run.write([claimed(run.state.epoch + 1, retry_failed=terminal[0] if terminal is not None else -1)])
    for step in run.state.steps.values():
        if step.phase in ephemeral.NEEDS_INPUTS:
            assert not ephemeral.ephemeral_inputs(run.state, step)
