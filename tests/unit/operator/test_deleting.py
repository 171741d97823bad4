"""Decisions for a Workflow that is being deleted, in any phase."""

from __future__ import annotations

from typing import Any

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
from workflow_operator.api.spec import Retention
from workflow_operator.api.status import Phase
from workflow_operator.core.actions import (
    DeferCleanup,
    DeleteCheckpoints,
    DeleteCluster,
    EndRun,
    ReleaseRun,
    RemoveFinalizer,
)
from workflow_operator.core.decide import decide
from workflow_operator.core.log_view import Owner
from workflow_operator.core.observation import RunReadFailure, StoreFailure


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
    "store down at the deadline": (Phase.RUNNING, DOWN, {"now": NOW + 120}, (DeferCleanup, RemoveFinalizer)),
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
