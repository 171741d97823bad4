"""The demo's verdict: it passes what was promised, and names every way in which that can be missed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from dev.demo.verdict import Evidence, problems
from workflow.model.run_view import RunView, StepCounts, StepView
from workflow.model.status import StepPhase, WorkflowStatus


def a_step(name: str, epoch: int, tries: int = 1) -> StepView:
    return StepView(name, f"trip.{name}", StepPhase.COMMITTED, (), "", tries, epoch, 1.0, 2.0, None)


STEPS = (a_step("plan", 1), a_step("hotel", 1, tries=2), a_step("pay", 2))
GOOD = Evidence(
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
    marks={"plan": 1, "hotel": 2, "pay": 2},
    result={"total": 1},
    expected={"total": 1},
    clusters=("trip-1", "trip-2"),
)


def test_a_step_that_ran_when_the_head_died_may_start_again() -> None:
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"marks": {"plan": 2, "hotel": 2, "pay": 1}},
            "plan was committed before the kill after 1 tries, but started 2",
        ),
        (
            {"marks": {"plan": 1, "hotel": 3, "pay": 1}},
            "hotel was committed before the kill after 2 tries, but started 3",
        ),
        ({"marks": {"plan": 1, "hotel": 2}}, "pay has 1 tries in the log, but started 0 times"),
        ({"marks": {"plan": 1, "hotel": 2, "pay": 1, "ghost": 1}}, "ghost started, and the log does not know"),
        ({"result": {"total": 2}}, "the result is"),
        ({"clusters": ("trip-1",)}, "one kill makes two clusters"),
        ({"view": dataclasses.replace(GOOD.view, epoch=1)}, "epoch 1"),
        ({"view": dataclasses.replace(GOOD.view, status=WorkflowStatus.FAILED, reason="StepFailed")}, "ended FAILED"),
        (
            {"view": dataclasses.replace(GOOD.view, steps=STEPS[:2]), "marks": {"plan": 1, "hotel": 2}},
            "nothing was res",
        ),
    ],
    ids=["twice", "twice-after-a-retry", "no-mark", "ghost", "result", "one-cluster", "epoch", "failed", "too-late"],
)
def test_what_is_not_as_promised_is_named(changes: dict[str, Any], told: str) -> None:
    (found,) = problems(dataclasses.replace(GOOD, **changes))
    assert told in found
