"""Tests of spec.cluster.retain: at most one RayCluster of a failed attempt is kept, and never longer than its time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.operator import build
from tests.unit.operator.build import (
    NOW,
    cluster,
    head,
    job,
    observation_of,
    read,
    running,
    spec,
    state,
    view,
    workflow,
)
from tests.unit.operator.cases import FAILURE, J, W
from tests.unit.operator.model import OperatorModel
from tests.unit.operator.test_single_faults import break_current_cluster, down, fail_driver
from workflow_operator.api.status import ClusterStatus, Phase, RetainedCluster
from workflow_operator.core.actions import CreateCluster, Decision, DeleteCluster, EmitEvent, StopSubmission
from workflow_operator.core.decide import decide
from workflow_operator.core.decide.retained import BLOCKING_SECONDS
from workflow_operator.core.observation import Observation

SECONDS = 600
RETAINING = spec(cluster={"template": {"spec": build.TEMPLATE}, "retain": "OnFailure", "retainSeconds": SECONDS})
CRASHED = cluster(head=head(running=False, reason="OOMKilled"))
KEPT = RetainedCluster(name=build.ATTEMPT_NAME, uid="cluster-1", attempt=1, since=NOW - 10, until=NOW + 590)
LOST = running(workflow(state(Phase.RUNNING), spec=RETAINING), named=CRASHED, clusters=(CRASHED,), submission=None)
FAILED = running(workflow(state(Phase.RUNNING), spec=RETAINING), run=read(view(W.FAILED)))


def waiting(phase: Phase = Phase.RESUMABLE, kept: RetainedCluster = KEPT, **changes: Any) -> Observation:
    """Return a later round, in which the cluster of attempt 1 is kept."""
    changes = {"spec": RETAINING, **changes}
    failed = state(phase, cluster=None, submission=None, last_failure=FAILURE, retained_cluster=kept)
    return observation_of(workflow(failed, **changes), clusters=(cluster(),), run=read(view()))


def deletes(decision: Decision) -> list[str]:
    return [action.name for action in decision.actions if isinstance(action, DeleteCluster)]


@pytest.mark.parametrize("seen", [LOST, FAILED], ids=["attempt failed", "Workflow failed"])
def test_cluster_of_a_failure_is_kept(seen: Observation) -> None:
    decision = decide(seen, NOW)
    assert deletes(decision) == []
    assert decision.state.retained_cluster == KEPT.model_copy(update={"since": NOW, "until": NOW + SECONDS})
    assert "ClusterRetained" in [action.reason for action in decision.actions if isinstance(action, EmitEvent)]
    assert decision.requeue_after is not None


def test_driver_on_a_kept_cluster_is_stopped() -> None:
    assert [action for action in decide(FAILED, NOW).actions if isinstance(action, StopSubmission)]
    ended = replace(FAILED, submission=job(J.FAILED, 1))
    assert not [action for action in decide(ended, NOW).actions if isinstance(action, StopSubmission)]


NOT_KEPT = {
    "retain is Never": replace(LOST, workflow=workflow(state(Phase.RUNNING))),
    "head pod is gone": replace(LOST, named=cluster(head=None), clusters=(cluster(head=None),)),
    "cluster is being deleted": replace(LOST, named=cluster(deleting=True), clusters=(cluster(deleting=True),)),
    "cluster was preempted": replace(LOST, named=cluster(suspended=True), clusters=(cluster(suspended=True),)),
    "run succeeded": replace(FAILED, run=read(view(W.SUCCESSFUL))),
    "run was canceled": replace(FAILED, run=read(view(W.CANCELED))),
}


@pytest.mark.parametrize("seen", NOT_KEPT.values(), ids=NOT_KEPT.keys())
def test_cluster_is_not_kept(seen: Observation) -> None:
    decision = decide(seen, NOW)
    assert decision.state.phase is not Phase.RUNNING
    assert decision.state.retained_cluster is None


@pytest.mark.parametrize("phase", [Phase.RESUMABLE, Phase.FAILED, Phase.SUCCEEDED])
def test_kept_cluster_is_deleted_at_its_time(phase: Phase) -> None:
    decision = decide(waiting(phase), NOW + 589)
    assert deletes(decision) == []
    assert decision.requeue_after is not None
    assert decision.requeue_after <= 1.0
    late = decide(waiting(phase), NOW + 590)
    assert deletes(late) == [KEPT.name]
    assert late.state.retained_cluster is None


RELEASED = {
    "retain set to Never": {"spec": spec()},
    "canceled": {"spec": RETAINING.model_copy(update={"cancel": True})},
    "deleted": {"deleted": NOW},
    "spec is invalid": {"spec": None, "refusal": "x"},
}


@pytest.mark.parametrize("changes", RELEASED.values(), ids=RELEASED.keys())
def test_kept_cluster_is_released_at_once(changes: dict[str, Any]) -> None:
    decision = decide(waiting(**changes), NOW)
    assert deletes(decision) == [KEPT.name]
    assert decision.state.retained_cluster is None


def test_status_cannot_extend_the_time() -> None:
    endless = KEPT.model_copy(update={"until": NOW + 1e9})
    seen = waiting(kept=endless)
    kept = decide(seen, NOW).state.retained_cluster
    assert kept == KEPT
    assert deletes(decide(seen, NOW + 590)) == [KEPT.name]


def test_next_attempt_does_not_wait_for_a_kept_cluster() -> None:
    decision = decide(waiting(), NOW)
    assert decision.state.phase is Phase.PROVISIONING
    assert [action.name for action in decision.actions if isinstance(action, CreateCluster)] == ["trip-9f3c1a2b00-2"]
    assert deletes(decision) == []


@pytest.mark.parametrize(("seconds", "deleted"), [(BLOCKING_SECONDS - 1, []), (BLOCKING_SECONDS, [KEPT.name])])
def test_kept_cluster_gives_way_to_an_attempt_without_head(seconds: float, deleted: list[str]) -> None:
    second = ClusterStatus(name="trip-9f3c1a2b00-2", uid="cluster-2")
    started = state(Phase.PROVISIONING, 2, attempt_time=NOW, retained_cluster=KEPT, cluster=second)
    unready = cluster(2, head=None)
    seen = observation_of(
        workflow(started, spec=RETAINING), named=unready, clusters=(cluster(), unready), run=read(view())
    )
    assert deletes(decide(seen, NOW + seconds)) == deleted


def test_a_later_failure_replaces_the_kept_cluster() -> None:
    second = ClusterStatus(name="trip-9f3c1a2b00-2", uid="cluster-2", head=build.HEAD)
    failed = cluster(2, head=head(running=False))
    obj = workflow(state(Phase.RUNNING, 2, retained_cluster=KEPT, cluster=second), spec=RETAINING)
    seen = running(obj, named=failed, clusters=(cluster(), failed), submission=None)
    decision = decide(seen, NOW)
    assert decision.state.retained_cluster is not None
    assert decision.state.retained_cluster.attempt == 2
    assert deletes(decision) == [KEPT.name]


FAULTS = [
    break_current_cluster("head dies"),
    break_current_cluster("container restarts"),
    fail_driver(137),
    down("network_up", 600),
]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    faults=st.lists(st.tuples(st.integers(0, 4), st.sampled_from(FAULTS), st.integers(0, 3)), max_size=4),
    ends=st.sampled_from(["", "cancel", "delete"]),
)
def test_no_cluster_outlives_its_workflow_or_its_time(faults: list[Any], ends: str) -> None:
    model = OperatorModel(frozenset({"retaining"}))
    for rounds, fault, stop in faults:
        model.advance(rounds)
        fault(model)
        model.round(stop)
        kept = model.clients.state.retained_cluster
        owned = [each.name for each in model.clients.clusters.values() if each.owner_uid == build.UID]
        assert kept is None or kept.until <= model.clients.now + SECONDS
        assert len(owned) <= 3, "the current cluster, the kept one, and one whose deletion was interrupted"
    if ends:
        getattr(model.clients, ends)()
    model.finish()
