"""What a deleted Workflow does to its run, for every retention and every relation between the object and the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.unit.operator import build
from tests.unit.operator.build import NOW, observation_of, read, spec, state, tombstone, view, workflow
from tests.unit.operator.cases import OTHER, RESUMABLE, W
from workflow_operator.api.spec import Retention
from workflow_operator.api.status import Phase, WorkflowState
from workflow_operator.core import names
from workflow_operator.core.actions import (
    Action,
    DeferCleanup,
    DeleteCheckpoints,
    EndRun,
    ReleaseRun,
    RemoveFinalizer,
    RunRef,
    StoreRef,
)
from workflow_operator.core.conditions import Explanation, conditions
from workflow_operator.core.decide import decide
from workflow_operator.core.decide.deleting import DEADLINE_SECONDS
from workflow_operator.core.log_view import Owner
from workflow_operator.core.observation import RunReadFailure, StoreFailure

KEEP, ON_SUCCESS, ALWAYS = Retention.RETAIN, Retention.DELETE_ON_SUCCESS, Retention.DELETE
RUN = RunRef(
    StoreRef("s3://checkpoints/all/team?endpoint=http%3A%2F%2Fminio%3A9000", "store"),
    build.ID,
    1,
    names.run_uuid(build.UID, 1),
    build.UID,
    1,
    build.NAME,
)
WHY = "the Workflow object was deleted"
DELETE, RELEASE = DeleteCheckpoints(RUN), ReleaseRun(RUN, WHY)
CANCEL = EndRun(RUN, "CANCELED", "Deleted", WHY)
KINDS = {"delete": DELETE, "release": RELEASE, "cancel": CANCEL}
OPERATOR = Owner("outside-1", "", "team/trip", build.UID, 1)
NO_OBJECT = Owner("manager-3", "process-3", "manager-3")
DOWN = RunReadFailure(StoreFailure.UNAVAILABLE, "no")


def succeeded() -> WorkflowState:
    """Return a status that records the success of the run."""
    done = state(Phase.SUCCEEDED, epoch=1, completion_time=NOW - 9)
    explained = conditions(done, Explanation("Succeeded", "all steps succeeded"), 3, NOW - 9)
    return done.model_copy(update={"conditions": explained})


@dataclass(frozen=True)
class Relation:
    """A status and a log, and the cleanup for each retention: without a `workflowId`, then with one.

    Attributes:
        keep, on_success, always: the cleanup for `Retain`, `DeleteOnSuccess` and `Delete`.
    """

    state: WorkflowState
    run: Any
    keep: tuple[str, str] = ("", "")
    on_success: tuple[str, str] = ("", "")
    always: tuple[str, str] = ("", "")


def live(run: Any, phase: Phase = Phase.RUNNING, **changes: Any) -> Relation:
    """The run of this Workflow is not finished."""
    unfinished = ("cancel", "release")
    return Relation(state(phase, **changes), run, unfinished, unfinished, ("delete", "delete"))


def ended(run: Any, phase: Phase, *, success: bool) -> Relation:
    """The run of this Workflow is finished."""
    deleted = ("delete", "delete")
    return Relation(state(phase, epoch=1), run, on_success=deleted if success else ("", ""), always=deleted)


RELATIONS = {
    "running": live(read(view())),
    "heartbeat expired": live(read(view(), RESUMABLE)),
    "released by its manager": live(read(view(W.RESUMABLE))),
    "waits for a resume": live(read(view(), RESUMABLE), Phase.RESUMABLE),
    "is being canceled": live(read(view()), Phase.CANCELING),
    "status lost": live(read(view()), Phase.PENDING, attempt=0, run_number=1, run_id=names.run_uuid(build.UID, 1)),
    "released by the operator": Relation(
        state(Phase.RUNNING),
        read(view(W.RESUMABLE, owner=OPERATOR)),
        ("cancel", ""),
        ("cancel", ""),
        ("delete", "delete"),
    ),
    "claimed by the operator, not released": live(read(view(owner=OPERATOR))),
    "succeeded": ended(read(view(W.SUCCESSFUL)), Phase.SUCCEEDED, success=True),
    "succeeded, not observed yet": ended(read(view(W.SUCCESSFUL)), Phase.RUNNING, success=True),
    "failed": ended(read(view(W.FAILED)), Phase.FAILED, success=False),
    "canceled": ended(read(view(W.CANCELED)), Phase.CANCELED, success=False),
    "succeeded under a user": ended(read(view(W.SUCCESSFUL, owner=NO_OBJECT)), Phase.SUCCEEDED, success=True),
    "succeeded under another object": Relation(state(Phase.SUCCEEDED, epoch=1), read(view(W.SUCCESSFUL, owner=OTHER))),
    "failed under another object": Relation(state(Phase.FAILED, epoch=1), read(view(W.FAILED, owner=OTHER))),
    "another object runs it now": Relation(state(Phase.FAILED, epoch=1), read(view(owner=OTHER))),
    "another object took it over": Relation(state(Phase.RUNNING, epoch=1), read(view(owner=OTHER))),
    "another object runs it": Relation(state(Phase.PENDING, attempt=0), read(view(owner=OTHER))),
    "a failed run runs again": Relation(state(Phase.FAILED, epoch=1), read(view())),
    "finished before this Workflow": Relation(state(Phase.SUCCEEDED, attempt=0), read(view(W.SUCCESSFUL, owner=OTHER))),
    "ended before it was created": Relation(state(Phase.FAILED), read(tombstone("Deadline", W.FAILED))),
    "deleted": Relation(state(Phase.FAILED, epoch=1), read(tombstone("Deleted", run_number=2))),
    "no attempt": Relation(state(Phase.PENDING, attempt=0), read()),
    "not created yet": Relation(
        state(Phase.PROVISIONING), read(), ("cancel", "cancel"), ("cancel", "cancel"), ("cancel", "cancel")
    ),
    "abandoned before it was created": Relation(state(Phase.PROVISIONING), read(tombstone("Abandoned"))),
    "store down, run not finished": live(DOWN),
    "store down, run succeeded": Relation(
        succeeded(), DOWN, on_success=("delete", "delete"), always=("delete", "delete")
    ),
    "store down, run failed": Relation(state(Phase.FAILED, completion_time=NOW - 9), DOWN, always=("delete", "delete")),
}


def actions_of(relation: Relation, retention: Retention, named: bool, now: float = NOW) -> list[Action]:
    """Return the actions of a round, without events and clusters."""
    options: dict[str, Any] = {"checkpoints": {"retention": retention.value}}
    if named:
        options["workflowId"] = "nightly"
    obj = workflow(relation.state, spec=spec(**options), deleted=NOW)
    decision = decide(observation_of(obj, run=relation.run), now)
    assert decision.state.cluster is None
    return [action for action in decision.actions if type(action).__name__ != "EmitEvent"]


@pytest.mark.parametrize("named", [False, True], ids=["own id", "workflowId"])
@pytest.mark.parametrize("retention", Retention, ids=lambda retention: str(retention.value))
@pytest.mark.parametrize("name", RELATIONS)
def test_cleanup_follows_from_retention_and_log(name: str, retention: Retention, named: bool) -> None:
    relation = RELATIONS[name]
    wanted = {KEEP: relation.keep, ON_SUCCESS: relation.on_success, ALWAYS: relation.always}[retention][named]
    found = actions_of(relation, retention, named)
    late = actions_of(relation, retention, named, NOW + DEADLINE_SECONDS)
    if not wanted:
        assert found == late == [RemoveFinalizer()]
        return
    assert [type(action) for action in found] == [type(KINDS[wanted])]
    run = found[0].run  # type: ignore[union-attr]
    assert (run.run_number, run.run_uuid, run.uid, run.name) == (1, RUN.run_uuid, build.UID, build.NAME)
    if relation.state.attempt:
        assert found == [KINDS[wanted]]
    assert late == [DeferCleanup(build.NAMESPACE, run, wanted), RemoveFinalizer()]  # type: ignore[arg-type]
    assert actions_of(relation, retention, named, NOW + DEADLINE_SECONDS - 0.5) == found


@pytest.mark.parametrize(("since", "left"), [(0.0, 5.0), (34.0, 5.0), (37.0, 3.0), (39.5, 0.5)], ids=str)
def test_cleanup_is_repeated_until_its_deadline(since: float, left: float) -> None:
    obj = workflow(state(Phase.RUNNING), deleted=NOW)
    decision = decide(observation_of(obj, run=read(view())), NOW + since)
    assert decision.requeue_after == left
