"""The owner of a run is named by namespace and name, if the log contains them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.unit.operator.build import running, state, view, workflow
from tests.unit.operator.cases import NAMED, OTHER
from workflow_operator.api.status import Phase
from workflow_operator.core.actions import SubmitRun
from workflow_operator.core.decide import decide
from workflow_operator.core.log_view import Owner, RunView
from workflow_operator.core.observation import JobState, RunRead, SubmissionView
from workflow_operator.core.owner_names import owner_name, run_metadata

METADATA = json.dumps(run_metadata("team", "nightly", OTHER.uid))
OUTSIDE = Owner("outside-1", address="team/daily", uid="uid-3", attempt=2)

OWNERS = {
    "no run": (None, "another owner"),
    "driver": (view(owner=Owner("manager-3")), "a driver"),
    "Workflow that created the run": (view(owner=OTHER, metadata=METADATA), "Workflow team/nightly"),
    "Workflow that claimed the run later": (
        view(owner=replace(OTHER, uid="uid-2"), metadata=METADATA),
        "the Workflow with uid uid-2",
    ),
    "request of the operator": (view(owner=OUTSIDE, metadata=METADATA), "Workflow team/daily"),
    "run of an older version": (view(owner=OTHER), "the Workflow with uid other-uid"),
    "metadata of another program": (view(owner=OTHER, metadata="[1]"), "the Workflow with uid other-uid"),
    "damaged metadata": (view(owner=OTHER, metadata="{"), "the Workflow with uid other-uid"),
}


@pytest.mark.parametrize(("run", "name"), OWNERS.values(), ids=OWNERS.keys())
def test_owner_is_named(run: RunView | None, name: str) -> None:
    assert owner_name(run) == name


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.PROVISIONING])
def test_workflow_id_in_use_names_the_object(phase: Phase) -> None:
    used = RunRead(view(owner=OTHER, metadata=METADATA), view().status)
    obj = workflow(state(phase, 0 if phase is Phase.PENDING else 1), spec=NAMED)
    found = decide(running(obj, run=used, submission=SubmissionView(JobState.FAILED, 4)), 1_000_000.0)
    condition = found.state.condition("Reconciling")
    assert condition is not None
    assert condition.reason == "WorkflowIdInUse"
    assert "Workflow team/nightly" in condition.message


def test_submission_records_the_name_of_its_workflow() -> None:
    obj = workflow(state(Phase.PROVISIONING))
    found = decide(running(obj, submission=SubmissionView(JobState.UNKNOWN), run=RunRead()), 1_000_000.0)
    (posted,) = (action for action in found.actions if isinstance(action, SubmitRun))
    assert '"rayworkflow.dev/workflow":"team/trip"' in posted.entrypoint
