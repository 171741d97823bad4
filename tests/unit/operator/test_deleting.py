"""Decisions for a Workflow that is being deleted, in any phase."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest

from tests.unit.operator import build
from tests.unit.operator.build import (
    NOW,
    cluster,
    observation_of,
    read,
    running,
    spec,
    state,
    tombstone,
    view,
    workflow,
)
from tests.unit.operator.cases import OTHER, RESUMABLE, W
from workflow_operator.api.spec import Retention, WorkflowSpec
from workflow_operator.api.status import ClusterStatus, Phase
from workflow_operator.core import names
from workflow_operator.core.actions import (
    Action,
    DeferCleanup,
    DeleteCheckpoints,
    DeleteCluster,
    EndRun,
    HeadRef,
    ReleaseRun,
    RemoveFinalizer,
    RunRef,
    StopSubmission,
    StoreRef,
)
from workflow_operator.core.decide import decide
from workflow_operator.core.log_view import Owner
from workflow_operator.core.observation import RunRead, RunReadFailure, StoreFailure


def deleting(phase: Phase, run: Any, now: float = NOW, **changes: Any) -> tuple[type, ...]:
    """Return the types of actions for a Workflow that was deleted at NOW."""
    spec_ = changes.pop("spec_", spec())
    obj = workflow(state(phase, **changes), spec=spec_, deleted=NOW)
    decision = decide(observation_of(obj, run=run, clusters=(cluster(),)), now)
    assert decision.state.phase is phase
    return tuple(type(action) for action in decision.actions)


WITH_ID = spec(workflowId="nightly")
WITH_DELETE = spec(workflowId="nightly", checkpoints={"retention": Retention.DELETE.value})
WITH_DELETE_ON_SUCCESS = spec(checkpoints={"retention": Retention.DELETE_ON_SUCCESS.value})
OPERATOR = Owner("outside-1", "", "team/trip", build.UID, 1)
DOWN = RunReadFailure(StoreFailure.UNAVAILABLE, "no")
DELETING = {
    "no attempt": (Phase.PENDING, read(), {"attempt": 0}, (RemoveFinalizer,)),
    "no attempt, store down": (Phase.PENDING, DOWN, {"attempt": 0}, (RemoveFinalizer,)),
    "own run, but the status was deleted": (Phase.PENDING, read(view()), {"attempt": 0}, (EndRun,)),
    "own id, run is live": (Phase.RUNNING, read(view()), {}, (EndRun,)),
    "own id, no run yet": (Phase.PROVISIONING, read(), {}, (EndRun,)),
    "own id, run canceled": (Phase.RUNNING, read(view(W.CANCELED)), {}, (RemoveFinalizer,)),
    "tombstone written": (Phase.PROVISIONING, read(tombstone("Deleted")), {}, (RemoveFinalizer,)),
    "given id, run is live": (Phase.RUNNING, read(view()), {"spec_": WITH_ID}, (ReleaseRun,)),
    "given id, released by the manager": (Phase.RUNNING, read(view(W.RESUMABLE)), {"spec_": WITH_ID}, (ReleaseRun,)),
    "given id, released by the operator": (
        Phase.RUNNING,
        read(view(W.RESUMABLE, owner=OPERATOR)),
        {"spec_": WITH_ID},
        (RemoveFinalizer,),
    ),
    "retention Delete, run is live": (Phase.RUNNING, read(view()), {"spec_": WITH_DELETE}, (DeleteCheckpoints,)),
    "retention Delete, run failed": (Phase.FAILED, read(view(W.FAILED)), {"spec_": WITH_DELETE}, (DeleteCheckpoints,)),
    "retention Delete, run deleted": (
        Phase.FAILED,
        read(tombstone("Deleted", run_number=2)),
        {"spec_": WITH_DELETE, "epoch": 1},
        (RemoveFinalizer,),
    ),
    "retention DeleteOnSuccess, run succeeded": (
        Phase.SUCCEEDED,
        read(view(W.SUCCESSFUL)),
        {"spec_": WITH_DELETE_ON_SUCCESS},
        (DeleteCheckpoints,),
    ),
    "retention DeleteOnSuccess, run failed": (
        Phase.FAILED,
        read(view(W.FAILED)),
        {"spec_": WITH_DELETE_ON_SUCCESS},
        (RemoveFinalizer,),
    ),
    "run of another owner": (Phase.PENDING, read(view(owner=OTHER)), {"spec_": WITH_ID}, (RemoveFinalizer,)),
    "released by another owner, submission may start": (
        Phase.PROVISIONING,
        read(view(owner=OTHER), RESUMABLE),
        {"spec_": WITH_ID},
        (),
    ),
    "released by another owner": (
        Phase.RESUMABLE,
        read(view(owner=OTHER), RESUMABLE),
        {"spec_": WITH_ID},
        (RemoveFinalizer,),
    ),
    "store down": (Phase.RUNNING, DOWN, {}, (EndRun,)),
    "store down at the deadline": (Phase.RUNNING, DOWN, {"now": NOW + 40}, (DeferCleanup, RemoveFinalizer)),
    "store down, run finished, retention Retain": (
        Phase.FAILED,
        DOWN,
        {"completion_time": NOW - 9},
        (RemoveFinalizer,),
    ),
}


@pytest.mark.parametrize(("phase", "run", "changes", "actions"), DELETING.values(), ids=DELETING.keys())
def test_deletion_deletes_the_cluster_and_completes_the_log(
    phase: Phase, run: Any, changes: dict[str, Any], actions: tuple[type, ...]
) -> None:
    assert deleting(phase, run, **changes) == (DeleteCluster, *actions)


def test_without_the_finalizer_only_the_cluster_is_deleted() -> None:
    decision = decide(running(workflow(state(Phase.RUNNING), deleted=NOW, finalizers=())), NOW)
    assert [type(action) for action in decision.actions] == [DeleteCluster]
    assert decision.requeue_after is None


RUN = RunRef(
    StoreRef("s3://checkpoints/all/team?endpoint=http%3A%2F%2Fminio%3A9000", "store"),
    build.ID, 1, names.run_uuid(build.UID, 1), build.UID, 1, "trip",
)  # fmt: skip
WHY = "the Workflow object was deleted"
CLEANUPS: dict[str, tuple[WorkflowSpec, Action]] = {
    "cancel": (spec(), EndRun(RUN, "CANCELED", "Deleted", WHY)),
    "release": (WITH_ID, ReleaseRun(RUN, WHY)),
    "delete": (WITH_DELETE, DeleteCheckpoints(RUN)),
}


@pytest.mark.parametrize("run", [read(view()), DOWN], ids=["the log was read", "the store is down"])
@pytest.mark.parametrize("what", CLEANUPS)
def test_cleanup_names_run_and_reason_until_it_is_deferred(what: Literal["cancel"], run: RunRead) -> None:
    """The last second before the deadline differs from the deadline itself. Later rounds decide the same."""
    spec_, action = CLEANUPS[what]
    obj = workflow(state(Phase.RUNNING), spec=spec_, deleted=NOW)
    for passed, delay in ((0.0, 5.0), (37.0, 3.0), (39.0, 1.0)):
        decision = decide(observation_of(obj, run=run), NOW + passed)
        assert (decision.actions, decision.requeue_after) == ((action,), delay)
        condition = decision.state.condition("Reconciling")
        assert condition is not None
        assert (condition.reason, condition.message) == ("Deleting", WHY)
    for passed in (40.0, 500.0):
        decision = decide(observation_of(obj, run=run), NOW + passed)
        assert decision.actions == (DeferCleanup("team", RUN, what), RemoveFinalizer())
        assert decision.requeue_after == 5.0


def test_cleanup_without_a_deletion_time_begins_now() -> None:
    deleted = workflow(state(Phase.RUNNING), deleted=0.0)
    assert DeferCleanup("team", RUN, "cancel") in decide(observation_of(deleted), NOW).actions


SELECTED = ClusterStatus(name=build.ATTEMPT_NAME, uid="cluster-1", head=build.HEAD, provisioned=False)
ON_SELECTED: dict[str, tuple[Phase, float, RunRead, tuple[Action, ...]]] = {
    "run is live": (Phase.RUNNING, 0.0, read(view()), (EndRun(RUN, "CANCELED", "Deleted", WHY),)),
    "run is live at the deadline": (
        Phase.RUNNING,
        40.0,
        read(view()),
        (DeferCleanup("team", RUN, "cancel"), RemoveFinalizer()),
    ),
    "run ended": (Phase.RUNNING, 0.0, read(view(W.CANCELED)), (RemoveFinalizer(),)),
    "run of another owner may be claimed": (Phase.PROVISIONING, 0.0, read(view(owner=OTHER), RESUMABLE), ()),
}


@pytest.mark.parametrize(("phase", "passed", "run", "actions"), ON_SELECTED.values(), ids=ON_SELECTED)
def test_driver_on_a_selected_cluster_is_stopped(
    phase: Phase, passed: float, run: RunRead, actions: tuple[Action, ...]
) -> None:
    obj = workflow(state(phase, cluster=SELECTED), spec=spec(build.SELECTING), deleted=NOW)
    decision = decide(observation_of(obj, run=run, named=cluster()), NOW + passed)
    head = HeadRef(build.ATTEMPT_NAME, build.HEAD, "198.18.0.5", build.ATTEMPT_NAME)
    assert decision.actions == (StopSubmission(head, names.submission_id(build.UID, 1)), *actions)
    assert decision.requeue_after == 5.0
    assert (decision.state.submission is None) == (actions == ())


@pytest.mark.parametrize("incarnation", ["process-1", ""], ids=["a manager", "the operator of another Workflow"])
def test_run_of_another_owner_is_never_deleted(incarnation: str) -> None:
    other = replace(OTHER, incarnation=incarnation)
    for status in (W.RUNNING, W.SUCCESSFUL, W.FAILED, W.CANCELED):
        obj = workflow(state(Phase.RESUMABLE), spec=WITH_DELETE, deleted=NOW)
        actions = decide(observation_of(obj, run=read(view(status, owner=other))), NOW).actions
        assert actions == (RemoveFinalizer(),)


INVALID: dict[str, tuple[Phase, RunRead | RunReadFailure, Action]] = {
    "run is live": (Phase.RUNNING, read(view()), EndRun(RUN, "CANCELED", "Deleted", WHY)),
    "store down": (Phase.RUNNING, DOWN, EndRun(RUN, "CANCELED", "Deleted", WHY)),
    "run failed": (Phase.FAILED, read(view(W.FAILED)), RemoveFinalizer()),
    "run succeeded": (Phase.SUCCEEDED, read(view(W.SUCCESSFUL)), RemoveFinalizer()),
}


@pytest.mark.parametrize(("phase", "run", "action"), INVALID.values(), ids=INVALID)
def test_workflow_with_an_invalid_spec_keeps_its_checkpoints(
    phase: Phase, run: RunRead | RunReadFailure, action: Action
) -> None:
    obj = workflow(state(phase), spec=None, refusal="spec.entrypoint is missing", deleted=NOW)
    assert decide(observation_of(obj, run=run), NOW).actions == (action,)
