"""The validation of the demo accepts the expected outcome and reports each deviation from it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from dev.demo.validation import Observations, problems
from workflow.model.run_view import RunView, StepCounts, StepView
from workflow.model.status import StepPhase, WorkflowStatus


def committed_step(name: str, epoch: int, attempts: int = 1) -> StepView:
    return StepView(name, f"trip.{name}", StepPhase.COMMITTED, (), "", attempts, epoch, 1.0, 2.0, None)


STEPS = (committed_step("plan", 1), committed_step("hotel", 1, attempts=2), committed_step("charge", 2))
GOOD = Observations(
    view=RunView(
        workflow_id="trip",
        run_number=1,
        run_uuid="u",
        status=WorkflowStatus.SUCCESSFUL,
        epoch=2,
        owner=None,
        created=0.0,
        ended=9.0,
        reason="",
        error=None,
        counts=StepCounts(3, 3, 0, 0),
        steps=STEPS,
        result_text="1",
        epochs_without_progress=0,
        suspect_steps=(),
        next_seq=9,
    ),
    starts={"plan": 1, "hotel": 2, "charge": 2},
    result={"total": 1},
    expected={"total": 1},
    clusters=("trip-1", "trip-2"),
)


def test_step_running_at_head_death_may_start_again() -> None:
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"starts": {"plan": 2, "hotel": 2, "charge": 1}},
            "plan was committed before the kill after 1 attempt(s), but started 2",
        ),
        (
            {"starts": {"plan": 1, "hotel": 3, "charge": 1}},
            "hotel was committed before the kill after 2 attempt(s), but started 3",
        ),
        ({"starts": {"plan": 1, "hotel": 2}}, "charge has 1 attempt(s) in the log, but started 0 times"),
        (
            {"starts": {"plan": 1, "hotel": 2, "charge": 1, "unknown": 1}},
            "steps started that are not in the log: unknown",
        ),
        ({"result": {"total": 2}}, "the result is"),
        ({"clusters": ("trip-1",)}, "expected two after one kill"),
        ({"view": dataclasses.replace(GOOD.view, epoch=1)}, "epoch 1"),
        ({"view": dataclasses.replace(GOOD.view, status=WorkflowStatus.FAILED, reason="StepFailed")}, "ended FAILED"),
        (
            {"view": dataclasses.replace(GOOD.view, steps=STEPS[:2]), "starts": {"plan": 1, "hotel": 2}},
            "nothing was resumed",
        ),
    ],
    ids=["twice", "twice-after-a-retry", "no-start", "unknown", "result", "one-cluster", "epoch", "failed", "too-late"],
)
def test_deviation_is_reported(changes: dict[str, Any], expected: str) -> None:
    (found,) = problems(dataclasses.replace(GOOD, **changes))
    assert expected in found
