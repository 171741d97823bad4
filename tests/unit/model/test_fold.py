"""The fold: which records each state allows, and how they change it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.support import runs
from tests.support.runs import claimed, committed, expanded, failed, graph, returned_ephemeral, started
from workflow.errors import CorruptLogError
from workflow.model import fold
from workflow.model import records as r
from workflow.model.failure import consequences
from workflow.model.graph import Graph, StepKind, StepOptions, StepSpec, Value, WaitOptions
from workflow.model.state import RunState
from workflow.model.status import TERMINAL, TRANSITIONS, StepPhase, WorkflowStatus

CATCH = StepOptions(catch_exceptions=True)
P, S = StepPhase, WorkflowStatus


def status_changed(status: WorkflowStatus, epoch: int = 1) -> r.StatusChanged:
    return r.StatusChanged(status, epoch, 9.0)


ASLEEP = Graph((runs.sleeper("x", 7.0),), "x")
TIMER = r.TimerSet("x", 1, 2.0, 9.0)

IN_PHASE: dict[StepPhase, Callable[[], RunState]] = {
    P.WAITING: lambda: runs.state_of(graph("a x:a")),
    P.READY: lambda: runs.state_of(graph("x")),
    P.RUNNING: lambda: runs.state_of(graph("x"), [started("x")]),
    P.SLEEPING: lambda: runs.state_of(ASLEEP, [TIMER]),
    P.EXPANDED: lambda: runs.state_of(graph("x"), [expanded("x", graph("x/a"))]),
    P.COMMITTED: lambda: runs.state_of(graph("x y:x"), [committed("x")]),
    P.FAILED: lambda: runs.state_of(graph("x y z:x,y"), [failed("x")]),
    P.CANCELED: lambda: runs.state_of(graph("x"), [r.StepCanceled("x", 1, "because")]),
}

STEP_RECORDS: dict[str, tuple[r.Record, set[StepPhase]]] = {
    "started": (started("x"), {P.READY, P.RUNNING}),
    "committed": (committed("x"), {P.READY, P.RUNNING, P.SLEEPING}),
    "caught": (committed("x", caught=True), {P.READY, P.RUNNING, P.SLEEPING, P.EXPANDED}),
    "expanded": (expanded("x", graph("x/new")), {P.READY, P.RUNNING}),
    "failed": (failed("x"), {P.READY, P.RUNNING}),
    "canceled": (r.StepCanceled("x", 1, "because"), {P.WAITING, P.READY, P.RUNNING, P.SLEEPING, P.EXPANDED}),
}


def refuse(state: RunState, record: r.Record, why: str) -> None:
    """Check that the fold refuses a record, and that the error names the run, the segment, the record and the cause."""
    what = f"{type(record).__name__} {getattr(record, 'step_id', '')}".strip()
    with pytest.raises(CorruptLogError) as caught:
        fold.apply(state, 77, record)
    start = f"workflow 'w', run run-1, segment 77: {what} is not allowed here: {why}; restore the log from a copy"
    assert str(caught.value).startswith(start)
    assert caught.value.fields == {"workflow_id": "w", "seq": 77}


@pytest.mark.parametrize("phase", P, ids=str)
@pytest.mark.parametrize("name", sorted(STEP_RECORDS))
def test_step_record_is_allowed_only_in_its_phases(name: str, phase: StepPhase) -> None:
    state = IN_PHASE[phase]()
    assert state.steps["x"].phase is phase
    record, allowed = STEP_RECORDS[name]
    if phase in allowed:
        fold.apply(state, 2, record)
    else:
        refuse(state, record, f"the step is {phase}")


def test_only_a_sleep_gets_a_timer_and_only_once() -> None:
    refuse(runs.state_of(graph("x")), TIMER, "the step has no timer")
    refuse(runs.state_of(ASLEEP, [TIMER]), TIMER, "the step is SLEEPING")


def test_claims_during_a_sleep_are_not_without_progress() -> None:
    state = runs.state_of(ASLEEP, [TIMER], *([claimed(epoch)] for epoch in range(2, 9)))
    assert (state.steps["x"].phase, state.steps["x"].due) == (P.SLEEPING, 9.0)
    assert state.epochs_without_progress == 0


def test_owner_failures_with_a_running_step_count_despite_sleep() -> None:
    both = Graph((runs.sleeper("x", 7.0), *graph("a").steps), "a")
    state = runs.state_of(both, [TIMER, started("a")], [claimed(2)], [started("a", epoch=2)], [claimed(3)])
    assert (state.epochs_without_progress, state.suspect_steps) == (2, ("a",))


def in_status(status: WorkflowStatus) -> RunState:
    before: dict[WorkflowStatus, list[r.Record]] = {
        S.RUNNING: [],
        S.RESUMABLE: [status_changed(S.RESUMABLE)],
        S.SUCCESSFUL: [committed("a"), status_changed(S.SUCCESSFUL)],
        S.FAILED: [failed("a"), status_changed(S.FAILED)],
        S.CANCELED: [status_changed(S.CANCELED)],
    }
    return runs.state_of(graph("a"), before[status])


EVENTS: dict[str, Callable[[RunState], r.Record]] = {
    "released": lambda state: status_changed(S.RESUMABLE),
    "claimed": lambda state: claimed(2),
    "succeeded": lambda state: status_changed(S.SUCCESSFUL),
    "failed": lambda state: status_changed(S.FAILED),
    "canceled": lambda state: status_changed(S.CANCELED),
    "retried": lambda state: claimed(2, retry_failed=1),
}


@pytest.mark.parametrize("event", sorted(EVENTS))
@pytest.mark.parametrize("status", S, ids=str)
def test_finished_run_allows_only_listed_transitions(status: WorkflowStatus, event: str) -> None:
    state = in_status(status)
    assert state.status is status
    record = EVENTS[event](state)
    follows = TRANSITIONS.get((status, event))
    if follows is None and status in TERMINAL:
        why = f"the run became {status} in segment 1" if isinstance(record, r.Claimed) else "the run is finished"
        refuse(state, record, why)
        assert state.status is status
    elif follows is not None and event != "succeeded":
        fold.apply(state, 2, record)
        assert state.status is follows


def test_success_needs_the_outcome_of_the_output() -> None:
    refuse(runs.state_of(graph("a")), status_changed(S.SUCCESSFUL), "its output step has no outcome")


@pytest.mark.parametrize(
    ("record", "why"),
    [
        pytest.param(claimed(3), "the epoch after 1 is 2", id="an epoch is missing"),
        pytest.param(claimed(1), "the epoch after 1 is 2", id="an epoch is repeated"),
        pytest.param(
            started("a", epoch=2),
            "its epoch is 2, but the last claimed epoch is 1",
            id="an epoch without a claim",
        ),
        pytest.param(started("unknown"), "the run has no such step", id="an unknown step"),
        pytest.param(
            runs.created(graph("a")), "segments never contain such a record", id="a registry entry in a segment"
        ),
        pytest.param(status_changed(S.RUNNING), "only a claim makes a run RUNNING", id="running without a claim"),
        pytest.param(
            r.StepExpanded("a", 1), "neither the record nor a blob contains its DAG", id="an expansion without its DAG"
        ),
    ],
)
def test_record_that_no_owner_writes_is_corrupt(record: r.Record, why: str) -> None:
    refuse(runs.state_of(graph("a")), record, why)


NOT_STORED = StepOptions(checkpoint=False)


def waiter(*parents: str, num_returns: int = 1, timeout: float | None = None) -> StepSpec:
    wait = WaitOptions(num_returns, timeout)
    return StepSpec("w", "w", "", "m.w", Value(), parents, kind=StepKind.WAIT, wait=wait)


WAITING = Graph((*graph("a b", a=NOT_STORED).steps, waiter("a", "b")), "w")
EPHEMERAL = graph("a b:a", a=NOT_STORED)


@pytest.mark.parametrize(
    ("dag", "before", "record", "why"),
    [
        pytest.param(
            WAITING, [committed("a")], r.WaitDecided("a", 1, ("a",)), "the step is COMMITTED", id="an outcome as a wait"
        ),
        pytest.param(
            WAITING, [], r.WaitDecided("a", 1, ("b",)), "the step does not wait for others", id="a task as a wait"
        ),
        *(
            pytest.param(
                WAITING,
                [committed("a")],
                r.WaitDecided("w", 1, ready),
                "a step that is ready has no outcome, or is none for which it waits",
                id=f"a wait for {' '.join(ready)}",
            )
            for ready in (("b",), ("a", "b"), ("a", "c"), ("w",), ("a", "a"))
        ),
        pytest.param(
            EPHEMERAL,
            [committed("a")],
            returned_ephemeral("b"),
            "the output of the run is always stored",
            id="an ephemeral output",
        ),
        pytest.param(
            WAITING,
            [],
            returned_ephemeral("a"),
            "the value for which a step waits is always stored",
            id="an ephemeral value for a wait",
        ),
        pytest.param(
            EPHEMERAL, [], returned_ephemeral("b"), "the step is WAITING", id="an ephemeral value without inputs"
        ),
        pytest.param(
            EPHEMERAL, [committed("a")], r.StepEphemeralLost("a", 1), "its value is stored", id="a stored value is lost"
        ),
        pytest.param(EPHEMERAL, [], r.StepEphemeralLost("a", 1), "the step is READY", id="no value is lost"),
    ],
)
def test_record_that_its_step_does_not_allow_is_corrupt(
    dag: Graph, before: list[r.Record], record: r.Record, why: str
) -> None:
    refuse(runs.state_of(dag, before), record, why)


def test_decision_of_a_wait_is_progress() -> None:
    state = runs.state_of(WAITING, [committed("a"), started("b")], [claimed(2)], [claimed(3)])
    assert (state.epochs_without_progress, state.suspect_steps) == (2, ("b",))
    fold.apply(state, 5, r.WaitDecided("w", 3, ("a",), 5.0, 6.0))
    assert (state.epochs_without_progress, state.suspect_steps) == (0, ())
    step = state.steps["w"]
    assert (step.epoch, step.attempt, step.started, step.ended) == (3, 1, 5.0, 6.0)


def test_timer_that_is_set_after_a_failure_has_no_end_yet() -> None:
    wait = Graph((*graph("a b").steps, waiter("a", "b", timeout=7.0)), "w")
    state = runs.state_of(wait, [r.StepCanceled("w", 1, "Asked"), status_changed(S.FAILED)])
    fold.apply(state, 3, claimed(2, retry_failed=1))
    fold.apply(state, 3, r.TimerSet("w", 2, 5.0, 12.0))
    step = state.steps["w"]
    assert (step.epoch, step.attempt, step.started, step.ended, step.due) == (2, 1, 5.0, 0.0, 12.0)


def test_value_for_which_a_step_waits_has_other_consumers() -> None:
    after = replace(graph("c").steps[0], parents=("a", "w"))
    both = Graph((*graph("a", a=NOT_STORED).steps, waiter("a"), after), "c")
    refuse(runs.state_of(both), returned_ephemeral("a"), "the value for which a step waits is always stored")


def test_dag_without_its_output_is_corrupt() -> None:
    with pytest.raises(CorruptLogError, match="run-1 is damaged: the output 'b' of a DAG is not one of its steps"):
        runs.state_of(Graph(graph("a").steps, "b"))


def test_wait_within_a_sub_dag_keeps_waiting_for_its_output() -> None:
    inner = Graph((*graph("x/a").steps, replace(waiter("x/a"), step_id="x/w")), "x/a")
    state = runs.state_of(graph("x y:x"), [expanded("x", inner)])
    refuse(state, returned_ephemeral("x/a"), "the value for which a step waits is always stored")


def test_first_epoch_starts_with_the_run() -> None:
    state = runs.state_of(graph("a"), at=5.0)
    assert (state.epoch, state.owner, state.epoch_started, state.seq) == (1, runs.OWNER, 5.0, 0)


def test_retry_must_name_the_segment_of_the_failure() -> None:
    state = runs.state_of(graph("a"), [failed("a")], [status_changed(S.FAILED)])
    for wrong in (-1, 0, 1, 3):
        refuse(state, claimed(2, retry_failed=wrong), "the run became FAILED in segment 2")


def test_retry_makes_failed_and_canceled_steps_ready() -> None:
    state = runs.state_of(
        graph("a b c d:b,c"),
        [started("a"), started("b"), started("c")],
        [committed("a"), failed("b"), r.StepCanceled("c", 1, "step b failed"), status_changed(S.FAILED)],
        [claimed(2, retry_failed=2)],
    )
    assert set(state.ready) == {"b", "c"}
    assert state.steps["a"].phase is P.COMMITTED
    assert state.failed == 0
    assert state.steps["b"].error is None


def test_retry_keeps_the_sub_dag_of_a_step_with_an_outcome() -> None:
    state = runs.state_of(
        graph("x y z:x,y", x=CATCH),
        [expanded("x", graph("x/a x/b:x/a"))],
        [failed("x/a"), r.StepCanceled("x/b", 1, "x/a"), committed("x", caught=True)],
        [failed("y"), status_changed(S.FAILED)],
        [claimed(2, retry_failed=3)],
    )
    assert state.steps["x/a"].phase is P.FAILED
    assert state.steps["x/b"].phase is P.CANCELED
    assert set(state.ready) == {"y"}


def test_claim_makes_running_steps_ready_and_resets_attempts() -> None:
    state = runs.state_of(graph("a b"), [started("a"), started("a", attempt=2), started("b")], [claimed(2)])
    assert set(state.ready) == {"a", "b"}
    assert state.steps["a"].attempt == 0
    assert state.suspect_steps == ("a", "b")
    assert state.epochs_without_progress == 1


@pytest.mark.parametrize(
    ("between", "epochs_without_progress"),
    [
        pytest.param([], 3, id="nothing"),
        pytest.param([committed("a", epoch=2)], 2, id="a commit"),
        pytest.param([expanded("a", graph("a/1"), epoch=2)], 2, id="an expansion"),
        pytest.param([failed("a", epoch=2)], 3, id="a failure"),
        pytest.param([r.StatusChanged(S.RESUMABLE, 2, 9.0)], 2, id="a release"),
    ],
)
def test_claims_without_progress_are_counted(between: list[r.Record], epochs_without_progress: int) -> None:
    state = runs.state_of(graph("a b"), [claimed(2)], between, [claimed(3)], [claimed(4)])
    assert state.epochs_without_progress == epochs_without_progress


def test_outcome_of_a_deep_recursion_resolves_without_recursion() -> None:
    state = runs.state_of(graph("s0"))
    for depth in range(5_000):
        fold.apply(state, depth + 1, expanded(f"s{depth}", graph(f"s{depth + 1}")))
    fold.apply(state, 5_001, committed("s5000"))
    assert state.output is not None
    assert state.output.outcome == state.steps["s5000"].outcome
    assert state.succeeded == 5_001


@pytest.mark.parametrize(
    ("outer", "inner", "caught", "wrapped"),
    [
        pytest.param(False, False, False, False, id="no step catches"),
        pytest.param(True, False, False, True, id="the dynamic step catches"),
        pytest.param(False, True, False, True, id="its output catches"),
        pytest.param(True, True, False, True, id="both catch"),
        pytest.param(True, True, True, False, id="the output raised and both catch"),
    ],
)
def test_outcome_is_a_tuple_once_as_in_ray(outer: bool, inner: bool, caught: bool, wrapped: bool) -> None:
    state = runs.state_of(
        graph("x", x=StepOptions(catch_exceptions=outer)),
        [expanded("x", graph("x/a", x__a=StepOptions(catch_exceptions=inner)))],
        [committed("x/a", caught=caught)],
    )
    outcome = state.steps["x"].outcome
    assert outcome is not None
    assert (outcome.caught, outcome.wrapped) == (caught, wrapped)


def failure_records(state: RunState, step_id: str) -> list[str]:
    """Fold the records that a failure of this step causes, and return each as kind and subject."""
    records = consequences(state, state.steps[step_id], failed(step_id, state.epoch), runs.value("error"))
    found = []
    for record in records:
        fold.apply(state, state.seq + 1, record)
        subject = getattr(record, "step_id", "") or str(getattr(record, "status", ""))
        found.append(f"{type(record).__name__} {subject}")
    return found


FAILURES: dict[str, tuple[Callable[[], RunState], list[str]]] = {
    "no step catches: the run fails, and running steps are canceled": (
        lambda: runs.state_of(graph("a b c d:a,b,c"), [started("a"), started("b")]),
        ["StepFailed a", "StepCanceled b", "StatusChanged FAILED"],
    ),
    "the step itself catches": (
        lambda: runs.state_of(graph("a b:a", a=CATCH), [started("a")]),
        ["StepCommitted a"],
    ),
    "the dynamic step catches: its sub-DAG is canceled, and other steps continue": (
        lambda: runs.state_of(
            graph("x o p:x,o", x=CATCH), [expanded("x", graph("a x/b x/c:a,x/b"))], [started("a"), started("o")]
        ),
        ["StepFailed a", "StepCanceled x/c", "StepCanceled x/b", "StepCommitted x"],
    ),
    "the nearest of two dynamic steps catches": (
        lambda: runs.state_of(
            graph("x", x=CATCH),
            [expanded("x", graph("y x/o z:y,x/o", y=CATCH))],
            [expanded("y", graph("a y/b:a"))],
            [started("a")],
        ),
        ["StepFailed a", "StepCanceled y/b", "StepCommitted y"],
    ),
    "a dynamic step in between that does not catch is canceled": (
        lambda: runs.state_of(
            graph("x", x=CATCH), [expanded("x", graph("y"))], [expanded("y", graph("a"))], [started("a")]
        ),
        ["StepFailed a", "StepCanceled y", "StepCommitted x"],
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_consequences_of_a_failure(name: str) -> None:
    make, expected = FAILURES[name]
    assert failure_records(make(), "a") == expected


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        pytest.param("a a", "two steps have the id 'a'", id="a duplicate id"),
        pytest.param("b:a a", "is not an earlier step of the same DAG", id="a parent after its child"),
    ],
)
def test_invalid_dag_is_corrupt(steps: str, why: str) -> None:
    with pytest.raises(CorruptLogError, match=why):
        runs.state_of(graph(steps))
