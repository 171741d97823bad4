"""Rules that hold for the state of any run, and what a resume of a FAILED run opens again, at any depth."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings

from tests.support import runs
from tests.support.phases import Phases
from tests.support.runs import claimed, committed, expanded, failed, graph, started
from tests.support.simulated import SimulatedRun, simulated_runs
from workflow.model import codec, fold
from workflow.model import records as r
from workflow.model.failure import cancellations, consequences
from workflow.model.graph import Graph, StepOptions
from workflow.model.state import RunState, StepState
from workflow.model.status import StepPhase, WorkflowStatus

P, S = StepPhase, WorkflowStatus
CATCH = StepOptions(catch_exceptions=True)
ACTIVE = (P.WAITING, P.READY, P.RUNNING, P.SLEEPING)


def check_state(state: RunState) -> None:
    """Check that all parts of a state agree with the phases of its steps."""
    by_phase: dict[StepPhase, list[StepState]] = {phase: [] for phase in P}
    for step in state.steps.values():
        by_phase[step.phase].append(step)
    assert state.phases == {phase: len(steps) for phase, steps in by_phase.items()}
    assert set(state.ready) == {each.spec.step_id for each in by_phase[P.READY] if each.needs_worker}
    assert set(state.waits) == {each.spec.step_id for each in by_phase[P.READY] if not each.needs_worker}
    assert set(state.running) == {each.spec.step_id for each in by_phase[P.RUNNING]}
    assert set(state.sleeping) == {each.spec.step_id for each in by_phase[P.SLEEPING]}
    assert state.running_tasks == sum(each.needs_worker for each in by_phase[P.RUNNING])
    assert set(map(id, state.active_steps())) == {
        id(each) for phase in (P.READY, P.RUNNING, P.SLEEPING) for each in by_phase[phase]
    }
    for step in state.steps.values():
        parents = [state.steps[parent] for parent in step.spec.parents]
        assert step.pending_parents == sum(parent.outcome is None for parent in parents)
        assert (step.outcome is not None) == (step.phase is P.COMMITTED)
        assert (step.error is not None) == (step.phase is P.FAILED)
        assert step.last_error is None or step.phase is P.RUNNING
        assert not (step.phase in ACTIVE and is_settled(step)), f"{step.spec.step_id} would run without a consumer"
        if step.phase in (P.READY, P.RUNNING):
            assert step.may_start
    check_ephemeral_counts(state)


def check_ephemeral_counts(state: RunState) -> None:
    """Check for each ephemeral value how many steps still need it."""
    needing: dict[str, int] = dict.fromkeys(state.ephemeral, 0)
    for step in state.steps.values():
        if step.phase in (P.WAITING, P.READY, P.RUNNING):
            for outcome in (state.steps[parent].outcome for parent in step.spec.parents):
                if outcome is not None and outcome.ephemeral_step:
                    needing[outcome.ephemeral_step] += 1
    assert state.ephemeral == needing


def is_settled(step: StepState) -> bool:
    """Return whether an enclosing dynamic step has its outcome, at any level, and no wait left steps over in it."""
    scope = step.scope
    while scope is not None and (scope.outcome is None or any(each.spec.wait for each in scope.members)):
        scope = scope.scope
    return scope is not None


def phases_of(dag: Graph, segments: Iterable[Iterable[r.Record]]) -> dict[str, str]:
    """Return the phase of each step according to the model of the tests, which shares nothing with the fold."""
    model = Phases()
    model.insert(encoded(expanded("", dag))["graph"], "")
    for records in segments:
        for record in records:
            fields = encoded(record)
            model.fold(fields, fields.get("graph"))
    return model.phases


def encoded(record: r.Record) -> dict[str, Any]:
    return dict(codec.encode(record))


@settings(max_examples=60, deadline=None)
@given(run=simulated_runs())
def test_all_parts_of_a_state_agree(run: SimulatedRun) -> None:
    state = run.fresh()
    check_state(state)
    for seq, records in enumerate(run.segments, 1):
        for record in records:
            fold.apply(state, seq, record)
        check_state(state)
    assert {step_id: str(step.phase) for step_id, step in state.steps.items()} == phases_of(run.dag, run.segments)


# --- a resume of a FAILED run ---


def nested(depth: int, catching: int) -> tuple[Graph, list[list[r.Record]]]:
    """Return a run with dynamic steps inside each other, and the segments up to the start of the innermost steps.

    Args:
        depth: how many dynamic steps enclose the innermost step `f`. They are `x`, `x/x`, `x/x/x` and so on.
        catching: which of them catches exceptions, from 1 for `x`; 0 for none.
    """

    def level(number: int, prefix: str) -> Graph:
        if number > depth:
            return graph(f"{prefix}f {prefix}g:{prefix}f")
        options = {f"{prefix.replace('/', '__')}x": CATCH} if number == catching else {}
        return graph(f"{prefix}x {prefix}y {prefix}z:{prefix}x,{prefix}y", **options)

    segments: list[list[r.Record]] = []
    for number in range(1, depth + 1):
        prefix = "x/" * (number - 1)
        segments.append([expanded(f"{prefix}x", level(number + 1, f"{prefix}x/"))])
    return level(1, ""), [*segments, [started(f"{'x/' * depth}f"), started("y")]]


def fail(state: RunState, step_id: str) -> list[r.Record]:
    return consequences(state, state.steps[step_id], failed(step_id, state.epoch), runs.value("error"))


@pytest.mark.parametrize(("depth", "catching"), [(d, c) for d in range(1, 5) for c in range(1, d + 1)])
def test_retry_never_opens_a_caught_failure_again(depth: int, catching: int) -> None:
    """The run fails at `y`, after a failure at any depth was caught at any level."""
    dag, segments = nested(depth, catching)
    state = runs.state_of(dag, *segments)
    caught = fail(state, f"{'x/' * depth}f")
    segments.append(caught)
    state = runs.state_of(dag, *segments)
    catcher = "x/" * (catching - 1) + "x"
    assert state.steps[catcher].outcome is not None
    segments.append(fail(state, "y"))
    segments.append([claimed(2, retry_failed=len(segments))])
    before = runs.state_of(dag, *segments[:-1])
    state = runs.state_of(dag, *segments)
    check_state(state)
    assert {step_id: str(step.phase) for step_id, step in state.steps.items()} == phases_of(dag, segments)
    below = [step_id for step_id in state.steps if step_id.startswith(f"{catcher}/")]
    assert len(below) >= 2
    assert [state.steps[each].phase for each in below] == [before.steps[each].phase for each in below]
    assert {"y"} <= set(state.ready) <= {"y", *(f"{'x/' * level}y" for level in range(depth))}


@pytest.mark.parametrize("depth", range(1, 5))
def test_retry_opens_an_uncaught_failure_at_any_depth(depth: int) -> None:
    dag, segments = nested(depth, 0)
    state = runs.state_of(dag, *segments)
    segments.append(fail(state, f"{'x/' * depth}f"))
    state = runs.state_of(dag, *segments, [claimed(2, retry_failed=len(segments))])
    check_state(state)
    assert state.steps[f"{'x/' * depth}f"].phase is P.READY
    assert [state.steps["x/" * level + "x"].phase for level in range(depth)] == [P.EXPANDED] * depth
    assert state.steps[f"{'x/' * depth}g"].phase is P.WAITING


def test_retry_of_a_run_that_was_ended_from_outside() -> None:
    """Such an end cancels every active step, and dynamic steps stay expanded."""
    dag, segments = nested(2, 0)
    state = runs.state_of(dag, *segments)
    ended = [*cancellations(state, state.active_steps(), "Asked"), r.StatusChanged(S.FAILED, 1, 5.0, "Asked")]
    state = runs.state_of(dag, *segments, ended, [claimed(2, retry_failed=len(segments) + 1)])
    check_state(state)
    assert set(state.ready) == {"x/x/f", "y", "x/y"}


def test_retry_expands_a_canceled_dynamic_step_again() -> None:
    dag, segments = nested(2, 0)
    state = runs.state_of(dag, *segments)
    everything = [step for step in state.steps.values() if not step.is_finished]
    ended = [*cancellations(state, everything, "Asked"), r.StatusChanged(S.FAILED, 1, 5.0, "Asked")]
    state = runs.state_of(dag, *segments, ended, [claimed(2, retry_failed=len(segments) + 1)])
    check_state(state)
    assert [state.steps[step_id].phase for step_id in ("x", "x/x")] == [P.EXPANDED] * 2
    assert set(state.ready) == {"x/x/f", "y", "x/y"}


def test_canceled_step_stays_canceled_if_its_parents_finish() -> None:
    state = runs.state_of(graph("a b:a c:b"), [started("a"), r.StepCanceled("b", 1, "Asked")], [committed("a")])
    check_state(state)
    assert [step.phase for step in state.steps.values()] == [P.COMMITTED, P.CANCELED, P.WAITING]


def test_canceled_step_releases_its_ephemeral_inputs() -> None:
    dag = graph("a b:a c:a z:b,c", a=StepOptions(checkpoint=False))
    state = runs.state_of(dag, [started("a"), runs.returned_ephemeral("a")], [r.StepCanceled("b", 1, "Asked")])
    assert state.ephemeral == {"a": 1}
    check_state(state)


def test_step_whose_value_is_lost_needs_its_inputs_again() -> None:
    dag = graph("a b:a z:a,b", a=StepOptions(checkpoint=False), b=StepOptions(checkpoint=False))
    values: list[r.Record] = [runs.returned_ephemeral("a"), runs.returned_ephemeral("b")]
    state = runs.state_of(dag, values, [r.StepEphemeralLost("b", 1)])
    assert state.ephemeral == {"a": 2}
    state = runs.state_of(dag, values, [r.StepEphemeralLost("a", 1), r.StepEphemeralLost("b", 1)])
    assert [step.phase for step in state.steps.values()] == [P.READY, P.WAITING, P.WAITING]


def test_step_whose_value_is_lost_has_all_its_attempts_again() -> None:
    state = runs.state_of(graph("a b:a", a=StepOptions(checkpoint=False, max_retries=3)))
    for record in (r.StepStarted("a", 1, 3, 2.0, 2), runs.returned_ephemeral("a", attempt=3)):
        fold.apply(state, 1, record)
    fold.apply(state, 2, r.StepEphemeralLost("a", 1))
    assert (state.steps["a"].attempt, state.steps["a"].failed_attempts, state.steps["a"].phase) == (0, 0, P.READY)


@pytest.mark.parametrize(
    "end", [committed("x", caught=True), r.StepCanceled("x", 1, "Asked")], ids=["caught", "canceled"]
)
def test_expanded_step_releases_its_ephemeral_inputs_once(end: r.Record) -> None:
    dag = graph("a x:a y:x", a=StepOptions(checkpoint=False), x=CATCH)
    state = runs.state_of(dag, [runs.returned_ephemeral("a")], [expanded("x", graph("x/b"))])
    assert state.ephemeral == {"a": 0}
    fold.apply(state, 3, end)
    assert state.ephemeral == {"a": 0}


def test_retry_forgets_everything_about_the_failed_epochs() -> None:
    state = runs.state_of(
        graph("a b c:a,b"),
        [started("a"), started("b")],
        [claimed(2)],
        [r.StepStarted("a", 2, 3, 2.0, failed_attempts=2)],
        [failed("a", 2, attempt=3), r.StatusChanged(S.FAILED, 2, 5.0)],
        [claimed(3, retry_failed=4)],
    )
    step = state.steps["a"]
    assert (step.attempt, step.failed_attempts, step.error, step.error_value) == (0, 0, None, None)
    assert (state.epochs_without_progress, state.suspect_steps, state.terminal) == (0, (), None)


def test_retry_makes_a_canceled_step_wait_for_its_parents() -> None:
    state = runs.state_of(
        graph("a b:a c:b"),
        [started("a")],
        [failed("a"), r.StepCanceled("b", 1, "a"), r.StatusChanged(S.FAILED, 1, 5.0)],
        [claimed(2, retry_failed=2)],
    )
    check_state(state)
    assert [step.phase for step in state.steps.values()] == [P.READY, P.WAITING, P.WAITING]
    for step_id in "abc":
        fold.apply(state, 4, committed(step_id, 2))
    assert state.output is not None
    assert state.output.outcome is not None


# --- claims of a run that is not finished ---


def test_claim_resets_the_attempts_of_every_unfinished_step() -> None:
    dag = Graph((*graph("a b").steps, runs.sleeper("w", 7.0), runs.sleeper("s", 7.0)), "b")
    state = runs.state_of(
        dag,
        [r.StepStarted("a", 1, 3, 2.0, failed_attempts=2), r.TimerSet("s", 1, 2.0, 9.0)],
        [claimed(2)],
    )
    check_state(state)
    assert (set(state.ready), set(state.waits), set(state.sleeping)) == ({"a", "b"}, {"w"}, {"s"})
    assert (state.steps["a"].attempt, state.steps["a"].failed_attempts) == (0, 0)
    assert (state.steps["s"].attempt, state.steps["s"].due) == (1, 9.0)
    assert (state.epoch, state.owner.manager, state.epoch_started, state.status) == (2, "m2", 4.0, S.RUNNING)


def test_claim_resets_the_attempts_of_a_step_that_waits_again() -> None:
    """It had two failed attempts, and then its ephemeral input was lost."""
    dag = graph("a b:a", a=StepOptions(checkpoint=False), b=StepOptions(max_retries=3))
    state = runs.state_of(
        dag,
        [started("a"), runs.returned_ephemeral("a")],
        [r.StepStarted("b", 1, 3, 2.0, failed_attempts=2)],
        [r.StepEphemeralLost("a", 1)],
    )
    assert (state.steps["b"].phase, state.steps["b"].failed_attempts) == (P.WAITING, 2), "the epoch is the same"
    fold.apply(state, 5, claimed(2))
    assert (state.steps["b"].attempt, state.steps["b"].failed_attempts) == (0, 0)


def test_suspects_of_several_epochs_are_kept_once() -> None:
    segments: list[list[r.Record]]
    segments = [[started("a"), started("b")], [claimed(2)], [started("b", 2), started("c", 2)], [claimed(3)]]
    lost_twice = runs.state_of(graph("a b c"), *segments)
    assert (lost_twice.suspect_steps, lost_twice.epochs_without_progress) == (("a", "b", "c"), 2)
    progress = runs.state_of(graph("a b c"), *segments, [committed("a", 3)])
    assert (progress.suspect_steps, progress.epochs_without_progress) == ((), 0)


def test_functions_of_several_epochs_add_up() -> None:
    state = runs.state_of(graph("a"), [claimed(2, f="1", g="1")], [claimed(3, g="2", h="2")])
    assert state.functions == {"f": "1", "g": "2", "h": "2"}


def test_claim_after_a_release_does_not_count() -> None:
    released = r.StatusChanged(S.RESUMABLE, 1, 5.0)
    state = runs.state_of(graph("a"), [started("a")], [released], [claimed(2)])
    assert (state.released, state.epochs_without_progress, state.suspect_steps) == (False, 0, ())
    fold.apply(state, 4, claimed(3))
    assert (state.released, state.epochs_without_progress) == (False, 1)


@pytest.mark.parametrize(
    ("records", "counted"),
    [
        pytest.param([], 1, id="a ready step"),
        pytest.param([started("a")], 1, id="a running step"),
        pytest.param([started("a"), committed("a")], 0, id="only a sleep that may start"),
        pytest.param([started("a"), committed("a"), r.TimerSet("s", 1, 2.0, 9.0)], 0, id="only a sleep"),
        pytest.param([started("a"), r.TimerSet("s", 1, 2.0, 9.0)], 1, id="a sleep and a running step"),
        pytest.param([r.TimerSet("s", 1, 2.0, 9.0)], 1, id="a sleep and a ready step"),
    ],
)
def test_lost_owner_counts_unless_the_run_only_waited(records: list[r.Record], counted: int) -> None:
    last = runs.sleeper("z", 7.0, parents=("a", "s"))
    dag = Graph((*graph("a").steps, runs.sleeper("s", 7.0), last), "z")
    assert runs.state_of(dag, records, [claimed(2)]).epochs_without_progress == counted


# --- single records ---


def test_record_of_an_attempt_is_stored_in_its_step() -> None:
    state = runs.state_of(graph("a b"), [r.StepStarted("a", 1, 2, 5.0, failed_attempts=1)])
    step = state.steps["a"]
    assert (step.epoch, step.attempt, step.failed_attempts, step.started, step.ended) == (1, 2, 1, 5.0, 0.0)
    fold.apply(state, 2, r.StepFailed("a", 1, failed("a").error, failed("a").value, attempt=2, ended=7.0))
    assert (step.epoch, step.attempt, step.started, step.ended) == (1, 2, 5.0, 7.0), "a missing time keeps the old one"


def test_second_attempt_has_no_end_yet() -> None:
    state = runs.state_of(graph("a"), [started("a")], [failed("a"), r.StatusChanged(S.FAILED, 1, 5.0)])
    fold.apply(state, 3, claimed(2, retry_failed=2))
    fold.apply(state, 4, started("a", 2))
    assert (state.steps["a"].epoch, state.steps["a"].ended) == (2, 0.0)


def test_request_handled_in_an_earlier_epoch_is_folded() -> None:
    state = runs.state_of(graph("a"), [claimed(2)], [r.RequestHandled("q", 1, "done")])
    assert state.handled_requests == {"q"}


def test_state_keeps_the_highest_seq() -> None:
    state = runs.state_of(graph("a b"), [started("a")], [started("b")])
    fold.apply(state, 1, r.RequestHandled("q", 1, "done"))
    assert state.seq == 2


@pytest.mark.parametrize("handled", [r.RequestHandled("q", 1, "refused")])
def test_request_may_be_handled_after_the_end(handled: r.RequestHandled) -> None:
    state = runs.state_of(graph("a"), [committed("a"), r.StatusChanged(S.SUCCESSFUL, 1, 5.0), handled])
    assert state.handled_requests == {"q"}


def test_canceled_step_has_the_epoch_of_its_cancellation() -> None:
    state = runs.state_of(graph("a b"), [started("a")], [claimed(2)], [r.StepCanceled("a", 2, "Asked")])
    assert (state.steps["a"].epoch, state.steps["a"].phase) == (2, P.CANCELED)


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_only_the_output_at_each_depth_is_the_output_of_the_run(depth: int) -> None:
    """At each level, `z` is the output, and `x` and `y` are not. Only `z` of `z` and so on is that of the run."""
    dag, prefix = graph("x y z:x,y"), ""
    segments: list[list[r.Record]] = []
    for _ in range(depth):
        segments.append([committed(f"{prefix}x"), committed(f"{prefix}y")])
        inner = f"{prefix}z/"
        segments.append([expanded(f"{prefix}z", graph(f"{inner}x {inner}y {inner}z:{inner}x,{inner}y"))])
        prefix = inner
    segments.append([expanded(f"{prefix}x", graph(f"{prefix}x/o"))])
    state = runs.state_of(dag, *segments)
    found = {step_id for step_id, step in state.steps.items() if step.is_run_output}
    assert found == {"z/" * level + "z" for level in range(depth + 1)}
    assert all(state.steps[each].checkpointed for each in found)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("own", [None, True, False])
@pytest.mark.parametrize("outer", [None, True, False])
def test_checkpoint_of_the_nearest_enclosing_step_counts(depth: int, own: bool | None, outer: bool | None) -> None:
    dag = graph("x y:x", x=StepOptions(checkpoint=outer))
    segments: list[list[r.Record]] = []
    for level in range(1, depth + 1):
        inner = "x/" * level
        options = StepOptions(checkpoint=own if level == depth else None)
        segments.append(
            [
                expanded(
                    inner.rstrip("/"), graph(f"{inner}x {inner}o:{inner}x", **{f"{inner.replace('/', '__')}x": options})
                )
            ]
        )
    state = runs.state_of(dag, *segments)
    expected = next((each for each in (own, outer) if each is not None), True)
    assert state.steps["x/" * depth + "x"].checkpointed is expected
