"""Decisions for an object that is being deleted, in any phase."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.operator import build
from tests.unit.operator.build import NOW, cluster, read, running, seen, spec, state, tombstone, view, workflow
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
    """Kinds of actions for an object that is being deleted since NOW."""
    spec_ = changes.pop("spec_", spec())
    obj = workflow(state(phase, **changes), spec=spec_, deleted=NOW)
    decision = decide(seen(obj, run=run, clusters=(cluster(),)), now)
    assert decision.state.phase is phase
    return tuple(type(action) for action in decision.actions)


KEPT = spec(workflowId="nightly")
ALL_GONE = spec(workflowId="nightly", checkpoints={"retention": Retention.DELETE.value})
ON_SUCCESS = spec(checkpoints={"retention": Retention.DELETE_ON_SUCCESS.value})
OUTSIDE = Owner("outside-1", "", "team/trip", build.UID, 1)
DOWN = RunReadFailure(StoreFailure.UNAVAILABLE, "no")
DELETED = {
    "nothing begun": (Phase.PENDING, read(), {"attempt": 0}, (RemoveFinalizer,)),
    "own id, live": (Phase.RUNNING, read(view()), {}, (EndRun,)),
    "own id, no run yet": (Phase.PROVISIONING, read(), {}, (EndRun,)),
    "own id, ended by that": (Phase.RUNNING, read(view(W.CANCELED)), {}, (RemoveFinalizer,)),
    "tombstone written": (Phase.PROVISIONING, read(tombstone("Deleted")), {}, (RemoveFinalizer,)),
    "given id, live": (Phase.RUNNING, read(view()), {"spec_": KEPT}, (ReleaseRun,)),
    "given id, manager's goodbye": (Phase.RUNNING, read(view(W.RESUMABLE)), {"spec_": KEPT}, (ReleaseRun,)),
    "given id, our goodbye": (
        Phase.RUNNING,
        read(view(W.RESUMABLE, owner=OUTSIDE)),
        {"spec_": KEPT},
        (RemoveFinalizer,),
    ),
    "retention Delete, live": (Phase.RUNNING, read(view()), {"spec_": ALL_GONE}, (DeleteCheckpoints,)),
    "retention Delete, ended": (Phase.FAILED, read(view(W.FAILED)), {"spec_": ALL_GONE}, (DeleteCheckpoints,)),
    "retention Delete, done": (
        Phase.FAILED,
        read(tombstone("Deleted", run_number=2)),
        {"spec_": ALL_GONE, "epoch": 1},
        (RemoveFinalizer,),
    ),
    "on success, succeeded": (Phase.SUCCEEDED, read(view(W.SUCCESSFUL)), {"spec_": ON_SUCCESS}, (DeleteCheckpoints,)),
    "on success, failed": (Phase.FAILED, read(view(W.FAILED)), {"spec_": ON_SUCCESS}, (RemoveFinalizer,)),
    "another's run": (Phase.PENDING, read(view(owner=OTHER)), {"spec_": KEPT}, (RemoveFinalizer,)),
    "another left it, submission on its way": (
        Phase.PROVISIONING,
        read(view(owner=OTHER), RESUMABLE),
        {"spec_": KEPT},
        (),
    ),
    "another left it": (Phase.RESUMABLE, read(view(owner=OTHER), RESUMABLE), {"spec_": KEPT}, (RemoveFinalizer,)),
    "store down": (Phase.RUNNING, DOWN, {}, (EndRun,)),
    "store down, overdue": (Phase.RUNNING, DOWN, {"now": NOW + 120}, (DeferCleanup, RemoveFinalizer)),
    "store down, ended and kept": (Phase.FAILED, DOWN, {"completion_time": NOW - 9}, (RemoveFinalizer,)),
}


@pytest.mark.parametrize(("phase", "run", "changes", "actions"), DELETED.values(), ids=DELETED.keys())
def test_deletion_frees_the_cluster_and_settles_the_log(
    phase: Phase, run: Any, changes: dict[str, Any], actions: tuple[type, ...]
) -> None:
    assert deleting(phase, run, **changes) == (DeleteCluster, *actions)


def test_a_gone_finalizer_ends_our_part() -> None:
    decision = decide(running(workflow(state(Phase.RUNNING), deleted=NOW, finalizers=())), NOW)
    assert [type(action) for action in decision.actions] == [DeleteCluster]
    assert decision.requeue_after is None
