"""Shorter versions of a status that the API server refuses."""

from __future__ import annotations

import json

import pytest

from tests.unit.operator.build import NOW, job, read, running, state, view, workflow
from tests.unit.operator.cases import FAILURE, J, W
from workflow_operator.api.parse import parse_status
from workflow_operator.api.status import Ending, Phase, WorkflowState, dump_status
from workflow_operator.core.decide import decide
from workflow_operator.core.reduced_status import shorter_statuses

LONG = "x" * 10_000
FAILING = decide(running(submission=job(J.FAILED, 1, LONG)), NOW).state
ENDING = state(
    Phase.RESUMABLE,
    last_failure=FAILURE.model_copy(update={"message": LONG, "running_steps": (LONG,)}),
    ending=Ending(status="FAILED", reason="ResumesExhausted", message=LONG),
)
DONE = decide(running(run=read(view(W.SUCCESSFUL, result_text=json.dumps("r" * 4_000)))), NOW).state
KEPT = ("phase", "attempt", "run_number", "run_id", "storage", "cluster", "submission", "steps", "resumes")
STATES = {"attempt failed": FAILING, "run is ended": ENDING, "result": DONE, "empty": WorkflowState()}


def size(of: WorkflowState) -> int:
    return len(json.dumps({key: value for key, value in dump_status(of).items() if value}))


@pytest.mark.parametrize("full", STATES.values(), ids=STATES.keys())
def test_shorter_status_keeps_what_decides(full: WorkflowState) -> None:
    for shorter in shorter_statuses(full):
        for name in (
            "phase",
            "attempt",
            "run_number",
            "run_id",
            "storage",
            "cluster",
            "submission",
            "steps",
            "resumes",
        ):
            assert getattr(shorter, name) == getattr(full, name), name
        reasons = [(each.type, each.status, each.reason, each.last_transition_time) for each in full.conditions]
        kept = [(each.type, each.status, each.reason, each.last_transition_time) for each in shorter.conditions]
        assert kept == reasons
        if full.ending is not None:
            assert shorter.ending is not None
            assert (shorter.ending.status, shorter.ending.reason) == (full.ending.status, full.ending.reason)
        if full.last_failure is not None:
            assert shorter.last_failure is not None
            assert shorter.last_failure.reason == full.last_failure.reason


@pytest.mark.parametrize("full", [FAILING, ENDING, DONE], ids=["attempt failed", "run is ended", "result"])
def test_shortest_status_is_small(full: WorkflowState) -> None:
    sizes = [size(shorter) for shorter in shorter_statuses(full)]
    assert sizes[-3:] == sorted(sizes[-3:], reverse=True)
    assert sizes[-1] < 3_000
    assert max(sizes) < size(full)


def test_result_is_left_out_first() -> None:
    first = next(shorter_statuses(DONE))
    assert (first.result, first.conditions) == (None, DONE.conditions)
    assert "refused to store the result" in first.result_note


def test_note_is_removed_when_the_status_fits_again() -> None:
    live = state(Phase.RUNNING, size_note="left out")
    assert decide(running(workflow(live)), NOW).state.size_note == ""
    finished = state(Phase.SUCCEEDED, size_note="left out")
    assert decide(running(workflow(finished)), NOW).state.size_note == "left out"


def test_shortened_state_is_parsed() -> None:
    for shorter in shorter_statuses(FAILING):
        dumped = {key: value for key, value in dump_status(shorter).items() if value is not None}
        assert parse_status(dumped).phase is Phase.RESUMABLE
