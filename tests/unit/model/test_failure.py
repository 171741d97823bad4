"""The records that a failure causes, field by field. `test_fold.py` has a table of which steps are affected."""

from __future__ import annotations

import pytest

from tests.support import runs
from tests.support.runs import claimed, expanded, failed, graph, started
from workflow.model import fold
from workflow.model import records as r
from workflow.model.failure import cancellations, consequences
from workflow.model.graph import StepOptions
from workflow.model.run_view import ErrorInfo
from workflow.model.status import WorkflowStatus

CATCH = StepOptions(catch_exceptions=True)
PICKLED = runs.value("the pickled exception")
ERROR = ErrorInfo("ValueError", "boom", step_id="a")


def test_uncaught_failure_ends_the_run_with_its_error() -> None:
    state = runs.state_of(graph("a b c d:a,b,c"), [claimed(2)], [started("a", 2), started("b", 2), started("c", 2)])
    record = failed("a", epoch=2)
    assert consequences(state, state.steps["a"], record, PICKLED) == [
        record,
        r.StepCanceled("b", 2, "step a failed"),
        r.StepCanceled("c", 2, "step a failed"),
        r.StatusChanged(WorkflowStatus.FAILED, 2, record.ended, "StepFailed", ERROR),
    ]


@pytest.mark.parametrize("begun", [4.5, 0.0], ids=["started", "its start is not stored"])
def test_caught_failure_is_the_outcome_of_the_step(begun: float) -> None:
    """A start that is not stored, because the step was short, is taken from the failure."""
    state = runs.state_of(graph("a b:a", a=CATCH), [claimed(2)])
    if begun:
        fold.apply(state, 2, r.StepStarted("a", 2, 3, begun))
    record = failed("a", epoch=2, attempt=3)
    assert consequences(state, state.steps["a"], record, PICKLED) == [
        r.StepCommitted(
            "a",
            2,
            PICKLED,
            caught=True,
            text="(None, ValueError: boom)",
            attempt=3,
            started=begun or record.started,
            ended=record.ended,
        )
    ]


def test_failure_caught_two_levels_above_has_that_attempt() -> None:
    state = runs.state_of(
        graph("x o p:x,o", x=CATCH),
        [r.StepStarted("x", 1, 2, 0.5), expanded("x", graph("y y/o z:y,y/o"))],
        [expanded("y", graph("a a/o b:a,a/o"))],
        [started("a", attempt=5), started("o")],
    )
    catcher = state.steps["x"]
    record = failed("a", attempt=5)
    first, *canceled, last = consequences(state, state.steps["a"], record, PICKLED)
    assert first == record
    assert sorted(canceled, key=repr) == [
        r.StepCanceled(step, 1, "step a failed") for step in ("a/o", "b", "y", "y/o", "z")
    ]
    assert last == r.StepCommitted(
        "x",
        1,
        PICKLED,
        caught=True,
        text="(None, ValueError: boom)",
        attempt=catcher.attempt,
        started=catcher.started,
        ended=record.ended,
    )
    assert (catcher.attempt, catcher.started) != (record.attempt, record.started)


def test_cancellations_name_epoch_and_reason() -> None:
    state = runs.state_of(graph("a b"), [claimed(2)])
    assert cancellations(state, [], "Asked") == []
    assert cancellations(state, state.active_steps(), "Asked") == [
        r.StepCanceled("a", 2, "Asked"),
        r.StepCanceled("b", 2, "Asked"),
    ]
