"""Waits in the pure core: when they decide, what a failure reaches, and which steps a finished run leaves over."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings

from tests.support import runs
from tests.support.runs import claimed, committed, expanded, failed, graph, started
from tests.support.simulated import SimulatedRun, decision, simulated_runs
from workflow.errors import CorruptLogError
from workflow.model import failure, fold, snapshot
from workflow.model import records as r
from workflow.model.graph import Graph, StepKind, StepOptions, WaitOptions
from workflow.model.state import Outcome, RunState, Waited
from workflow.model.status import StepPhase, WorkflowStatus

P, S = StepPhase, WorkflowStatus
CATCH = StepOptions(catch_exceptions=True)


def waiting(text: str, num_returns: int = 1, timeout: float | None = None, **options: StepOptions) -> Graph:
    """Return a DAG in which each step whose id ends in `w` is a wait."""
    dag = graph(text, **options)
    wait = WaitOptions(num_returns, timeout)
    steps = tuple(
        replace(step, kind=StepKind.WAIT, wait=wait, function="") if step.step_id.endswith("w") else step
        for step in dag.steps
    )
    return Graph(steps, dag.output)


def decided(step_id: str, *ready: str, epoch: int = 1) -> r.WaitDecided:
    return r.WaitDecided(step_id, epoch, ready, ended=3.0)


def fail(state: RunState, step_id: str) -> list[str]:
    """Return the consequences of a failure as text, and fold them."""
    record = failed(step_id, state.epoch)
    records = failure.consequences(state, state.steps[step_id], record, runs.value("error"))
    for each in records:
        fold.apply(state, state.seq + 1, each)
    return [f"{type(each).__name__} {getattr(each, 'step_id', '')}".strip() for each in records]


@pytest.mark.parametrize("num_returns", [1, 2, 3])
def test_wait_is_ready_with_so_many_outcomes(num_returns: int) -> None:
    state = runs.state_of(waiting("a b c w:a,b,c", num_returns))
    for count, step_id in enumerate("cab", 1):
        fold.apply(state, count, committed(step_id))
        assert (state.steps["w"].phase is P.READY) == (count >= num_returns)
    assert decision(state, state.steps["w"]).ready == ("a", "b", "c")[:num_returns]


def test_outcome_of_a_wait_has_the_order_of_its_parents() -> None:
    state = runs.state_of(waiting("a b c w:c,b,a", 2), [committed("a", text="1"), committed("c", text="3")])
    fold.apply(state, 2, decided("w", "c", "a"))
    found = tuple(Outcome(runs.value(text)) for text in "31")
    assert state.steps["w"].outcome == Outcome(runs.value("").__class__(), waited=Waited(found, ("b",)))
    assert state.steps["w"].text == '{"ready": ["c", "a"], "remaining": ["b"]}'


@pytest.mark.parametrize("ready", [("b",), ("a", "b"), ("x",)])
def test_decision_needs_outcomes_of_its_parents(ready: tuple[str, ...]) -> None:
    state = runs.state_of(waiting("a b w:a,b"), [committed("a")])
    with pytest.raises(CorruptLogError, match="has no outcome, or is none for which it waits"):
        fold.apply(state, 2, decided("w", *ready))


def test_only_a_wait_decides() -> None:
    with pytest.raises(CorruptLogError, match="does not wait for others"):
        runs.state_of(graph("a"), [decided("a")])


def test_timeout_continues_in_the_next_epoch() -> None:
    dag = waiting("a w:a", timeout=60.0)
    state = runs.state_of(dag, [r.TimerSet("w", 1, 2.0, 62.0)], [claimed(2)])
    assert (state.steps["w"].phase, state.steps["w"].due) == (P.SLEEPING, 62.0)
    fold.apply(state, 3, committed("a", 2))
    assert state.steps["w"].phase is P.READY
    assert not state.sleeping


def test_step_without_a_checkpoint_is_stored_for_a_wait() -> None:
    state = runs.state_of(waiting("a w:a", a=StepOptions(checkpoint=False)), [expanded("a", graph("a/b a/c:a/b"))])
    assert (state.steps["a"].checkpointed, state.steps["a/c"].checkpointed) == (True, True)
    assert not state.steps["a/b"].checkpointed
    fold.apply(state, 2, runs.returned_ephemeral("a/b"))
    with pytest.raises(CorruptLogError, match="the value for which a step waits is always stored"):
        fold.apply(state, 3, runs.returned_ephemeral("a/c"))


@pytest.mark.parametrize("has_outcome", [False, True])
def test_later_dag_takes_a_step_that_was_left_over(has_outcome: bool) -> None:
    before = [committed("b")] if has_outcome else []
    taking = graph("z/y:b")
    state = runs.state_of(
        waiting("a b w:a,b z:w"), [committed("a")], [decided("w", "a")], before, [expanded("z", taking)]
    )
    assert (state.steps["z/y"].phase is P.READY) == has_outcome
    if not has_outcome:
        fold.apply(state, 5, committed("b"))
        assert state.steps["z/y"].phase is P.READY


@pytest.mark.parametrize("parent", ["x", "a"])
def test_later_dag_takes_no_other_steps(parent: str) -> None:
    dag = waiting("b w:b a:w z:a")
    with pytest.raises(CorruptLogError, match=r"not an earlier step of the same DAG, and for which no other"):
        runs.state_of(
            dag, [committed("b")], [decided("w", "b")], [committed("a")], [expanded("z", graph(f"z/y:{parent}"))]
        )


# --- failures ---


def test_failure_before_the_decision_fails_the_run() -> None:
    state = runs.state_of(waiting("a b w:a,b z:w"), [started("a"), started("b")])
    assert fail(state, "b") == ["StepFailed b", "StepCanceled a", "StatusChanged"]


def test_failure_of_a_step_left_over_reaches_nothing() -> None:
    dag = waiting("a b c:b w:a,c z:w")
    state = runs.state_of(dag, [committed("a"), started("b")], [decided("w", "a")])
    assert fail(state, "b") == ["StepFailed b", "StepCanceled c"]
    assert (state.is_finished, state.steps["z"].phase) == (False, P.READY)
    assert failure.failed_input(state, graph("z/y:c")) is state.steps["b"]
    assert failure.failed_input(state, graph("z/y:a")) is None


def test_failure_below_a_step_left_over_stops_all_of_it() -> None:
    inner = graph("b/x b/y b/z:b/x,b/y")
    state = runs.state_of(
        waiting("a b w:a,b z:w"), [committed("a"), expanded("b", inner), started("b/x")], [decided("w", "a")]
    )
    found = fail(state, "b/x")
    assert found[0] == "StepFailed b/x"
    assert sorted(found[1:]) == ["StepCanceled b", "StepCanceled b/y", "StepCanceled b/z"]
    assert failure.failed_input(state, graph("z/q:b")) is state.steps["b/x"]


@pytest.mark.parametrize("catching", [True, False])
def test_failure_reaches_the_later_step_that_takes_it(catching: bool) -> None:
    dag = waiting("a b w:a,b z:w end:z", z=CATCH if catching else StepOptions())
    taking = expanded("z", graph("z/y:b z/x z/o:z/y,z/x"))
    state = runs.state_of(dag, [committed("a"), started("b")], [decided("w", "a")], [taking])
    found = fail(state, "b")
    if catching:
        assert sorted(found[1:-1]) == ["StepCanceled z/o", "StepCanceled z/x", "StepCanceled z/y"]
        assert (found[0], found[-1]) == ("StepFailed b", "StepCommitted z")
        assert state.steps["end"].phase is P.READY
    else:
        assert found == ["StepFailed b", "StatusChanged"]


def test_failure_leaves_a_sub_dag_whose_wait_was_decided() -> None:
    """The output of `s` is a wait. `s` has its outcome, so that it cannot catch the later failure."""
    inner = waiting("s/a s/b s/w:s/a,s/b")
    state = runs.state_of(
        graph("s z:s", s=CATCH), [expanded("s", inner)], [committed("s/a"), started("s/b")], [decided("s/w", "s/a")]
    )
    assert state.steps["s"].outcome is not None
    assert fail(state, "s/b") == ["StepFailed s/b"]
    assert state.steps["z"].phase is P.READY


def test_resume_runs_a_failed_step_that_was_left_over() -> None:
    inner = waiting("s/a s/b s/w:s/a,s/b")
    state = runs.state_of(
        graph("s z:s"), [expanded("s", inner)], [committed("s/a"), started("s/b")], [decided("s/w", "s/a")]
    )
    fail(state, "s/b")
    fold.apply(state, 5, started("z"))
    assert fail(state, "z")[-1] == "StatusChanged"
    fold.apply(state, 7, claimed(2, retry_failed=state.terminal[0] if state.terminal else -1))
    assert set(state.ready) == {"s/b", "z"}


def test_finished_run_leaves_the_other_steps_over() -> None:
    state = runs.state_of(waiting("a b c:b w:a,c"), [committed("a"), started("b")], [decided("w", "a")])
    assert [step.spec.step_id for step in failure.left_over(state)] == ["b", "c"]
    assert failure.left_over(runs.state_of(graph("a"), [committed("a")])) == []


# --- properties ---


@settings(max_examples=150, deadline=None)
@given(run=simulated_runs())
def test_failure_reaches_exactly_what_needs_the_step(run: SimulatedRun) -> None:
    """No unfinished step depends on one that failed or was canceled, and a run that continues can reach its output."""
    state = run.state
    if state.is_finished:
        return
    for step in state.steps.values():
        if step.is_finished or (step.spec.wait is not None and step.has_inputs):
            continue
        stopped = [
            state.steps[parent] for parent in step.spec.parents if state.steps[parent].phase in (P.FAILED, P.CANCELED)
        ]
        assert not stopped, f"{step.spec.step_id} needs {stopped[0].spec.step_id}"
        if step.members:
            output = next(each for each in step.members if each.resolves is step)
            assert output.phase not in (P.FAILED, P.CANCELED)
    assert state.output is not None
    assert not state.output.is_finished


@settings(max_examples=100, deadline=None)
@given(run=simulated_runs())
def test_decisions_survive_a_snapshot_and_a_claim(run: SimulatedRun) -> None:
    state = run.state
    if state.is_finished:
        return
    copy = run.fresh()
    fold.restore(copy, [runs.through_json(record) for record in snapshot.compact(state)])
    claim = claimed(state.epoch + 1)
    for each in (state, copy):
        fold.apply(each, each.seq + 1, claim)
    decisions = [
        {step_id: step.outcome for step_id, step in each.steps.items() if step.spec.wait is not None}
        for each in (state, copy)
    ]
    assert decisions[0] == decisions[1]
    assert runs.picture(state) == runs.picture(copy)
