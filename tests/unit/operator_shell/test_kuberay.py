"""Translation of the JSON of RayClusters and pods into values, with cases from real clusters."""

from __future__ import annotations

from typing import Any

import pytest

from workflow_operator.adapters.kuberay import (
    cluster_view,
    disruption_of,
    disruption_of_events,
    head_view,
    newest_warning,
)
from workflow_operator.adapters.pod_status import pod_problem
from workflow_operator.api.status import HeadIdentity
from workflow_operator.core.observation import Disruption

TIME = "2026-11-24T10:00:00Z"
LATER = "2026-11-24T10:00:09Z"


def pod(name: str = "head-1", kind: str = "head", made: str = TIME, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "creationTimestamp": made,
            "labels": {"ray.io/node-type": kind},
        },
        "spec": {"containers": [{"name": "ray"}, {"name": "sidecar"}]},
        "status": status,
    }


def container(name: str = "ray", **state: Any) -> dict[str, Any]:
    return {"name": name, "image": "ray:1", "containerID": "containerd://abc", "state": state}


def cluster(status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    meta = {"name": "trip-1", "uid": "cluster-uid", "creationTimestamp": TIME, "labels": {"a": "b"}}
    return {"metadata": meta, "spec": spec, "status": status or {}}


def condition(kind: str, status: str = "True", **more: str) -> dict[str, str]:
    return {"type": kind, "status": status, "lastTransitionTime": TIME, **more}


def test_head_identity_is_the_pod_uid_and_the_ray_container_id() -> None:
    statuses = [container("sidecar", running={}), container("ray", running={})]
    view = head_view(
        pod(phase="Running", podIP="198.18.0.9", conditions=[condition("Ready")], containerStatuses=statuses)
    )
    assert view.identity == HeadIdentity(pod_uid="uid-head-1", container_id="containerd://abc")
    assert (view.ip, view.phase, view.running, view.ready, view.deleting) == (
        "198.18.0.9",
        "Running",
        True,
        True,
        False,
    )


def test_terminated_ray_container_gives_the_reason() -> None:
    view = head_view(pod(phase="Failed", containerStatuses=[container(terminated={"reason": "OOMKilled"})]))
    assert (view.running, view.reason) == (False, "OOMKilled")


def test_head_before_its_first_start_has_no_container_id() -> None:
    assert head_view(pod()).identity.container_id == ""


def test_head_that_is_not_being_deleted_is_selected() -> None:
    deleted = pod("head-1", made=LATER)
    deleted["metadata"]["deletionTimestamp"] = LATER
    view = cluster_view(cluster(), [deleted, pod("head-2")])
    assert view.head is not None
    assert view.head.pod_name == "head-2"


@pytest.mark.parametrize(
    ("status", "reason", "message"),
    [
        pytest.param(
            {"containerStatuses": [container(waiting={"reason": "ImagePullBackOff", "message": "no such image"})]},
            "ImagePullBackOff",
            "pod head-1, image ray:1: no such image",
            id="image",
        ),
        pytest.param(
            {"initContainerStatuses": [container(waiting={"reason": "CrashLoopBackOff"})]},
            "CrashLoopBackOff",
            "CrashLoopBackOff",
            id="init container",
        ),
        pytest.param(
            {"conditions": [condition("PodScheduled", "False", reason="Unschedulable", message="0/1 nodes")]},
            "Unschedulable",
            "pod head-1: 0/1 nodes",
            id="no node",
        ),
        pytest.param({"phase": "Failed", "reason": "Evicted", "message": "memory"}, "Evicted", "memory", id="evicted"),
    ],
)
def test_pod_problem_has_reason_and_message(status: dict[str, Any], reason: str, message: str) -> None:
    problem = pod_problem(pod(**status))
    assert problem is not None
    assert problem.reason == reason
    assert message in problem.message


@pytest.mark.parametrize("reason", ["ContainerCreating", "PodInitializing"])
def test_starting_pod_has_no_problem(reason: str) -> None:
    assert pod_problem(pod(containerStatuses=[container(waiting={"reason": reason})])) is None


def test_problem_of_the_head_precedes_that_of_a_worker() -> None:
    worker = pod("worker-1", "worker", phase="Failed", reason="Evicted")
    head = pod(containerStatuses=[container(waiting={"reason": "ErrImagePull"})])
    view = cluster_view(cluster(), [worker, head])
    assert view.pod_problem is not None
    assert view.pod_problem.reason == "ErrImagePull"


READY = {"conditions": [condition("RayClusterProvisioned"), condition("HeadPodReady")]}


@pytest.mark.parametrize(
    ("status", "spec", "field", "value"),
    [
        pytest.param(READY, {}, "ready", True, id="ready"),
        pytest.param({"state": "ready"}, {}, "ready", False, id="state ready without conditions"),
        pytest.param({}, {"suspend": True}, "suspended", True, id="suspended by spec"),
        pytest.param({"conditions": [condition("RayClusterSuspended")]}, {}, "suspended", True, id="suspended"),
        pytest.param({"state": "failed", "reason": "quota"}, {}, "failed", "quota", id="failed"),
        pytest.param(
            {"conditions": [condition("ReplicaFailure", reason="FailedCreateHeadPod", message="quota")]},
            {},
            "failed",
            "FailedCreateHeadPod: quota",
            id="pod creation failed",
        ),
        pytest.param({}, {"authOptions": {"mode": "token"}}, "token_secret", "trip-1", id="token"),
        pytest.param({}, {"authOptions": {"mode": "token", "secretName": "s"}}, "token_secret", "s", id="own secret"),
        pytest.param({}, {"authOptions": {"mode": "disabled"}}, "token_secret", "", id="no token"),
    ],
)
def test_cluster_view_field(status: dict[str, Any], spec: dict[str, Any], field: str, value: object) -> None:
    assert getattr(cluster_view(cluster(status, **spec), []), field) == value


def test_newest_warning_is_returned() -> None:
    events: list[dict[str, Any]] = [
        {"reason": "Old", "message": "1", "lastTimestamp": TIME},
        {"reason": "New", "message": "2", "lastTimestamp": None, "eventTime": LATER},
    ]
    assert newest_warning(events) == "New: 2"
    assert newest_warning([]) == ""


@pytest.mark.parametrize(
    "reason",
    [
        "PreemptionByScheduler",
        "EvictionByEvictionAPI",
        "DeletionByTaintManager",
        "TerminationByKubelet",
        "DeletionByPodGC",
        "AnotherController",
    ],
)
def test_condition_of_a_disruption_gives_its_reason(reason: str) -> None:
    disrupted = pod(conditions=[condition("Ready"), condition("DisruptionTarget", reason=reason, message="why")])
    assert disruption_of(disrupted) == head_view(disrupted).disruption == Disruption(reason, "why")


@pytest.mark.parametrize("conditions", [[], [condition("Ready")], [condition("DisruptionTarget", "False", reason="x")]])
def test_pod_without_that_condition_is_not_disrupted(conditions: list[dict[str, str]]) -> None:
    assert disruption_of(pod(conditions=conditions)) is None


@pytest.mark.parametrize(
    ("status", "lost"),
    [
        pytest.param(
            {"conditions": [condition("Ready", "False"), condition("ContainersReady")]}, True, id="node does not report"
        ),
        pytest.param(
            {"reason": "NodeLost", "conditions": [condition("Ready", "Unknown")]}, True, id="older Kubernetes"
        ),
        pytest.param(
            {
                "conditions": [
                    condition("Ready", "False", reason="ContainersNotReady"),
                    condition("ContainersReady", "False"),
                ]
            },
            False,
            id="probe failed",
        ),
        pytest.param(
            {
                "conditions": [
                    condition("Ready", "False", reason="ReadinessGatesNotReady"),
                    condition("ContainersReady"),
                ]
            },
            False,
            id="readiness gate",
        ),
        pytest.param({"conditions": [condition("Ready"), condition("ContainersReady")]}, False, id="ready"),
        pytest.param({}, False, id="no conditions"),
    ],
)
def test_lost_node_is_recognized_by_the_conditions_of_the_pod(status: dict[str, Any], lost: bool) -> None:
    assert head_view(pod(**status)).node_lost is lost


def event(reason: str, message: str = "why", at: str = TIME) -> dict[str, Any]:
    return {"reason": reason, "message": message, "lastTimestamp": at}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([], None, id="no events"),
        pytest.param([event("Killing"), event("Unhealthy")], None, id="other events"),
        pytest.param([event("Preempted")], Disruption("PreemptionByScheduler", "why"), id="preempted"),
        pytest.param([event("TaintManagerEviction")], Disruption("DeletionByTaintManager", "why"), id="taint"),
        pytest.param([event("NodeNotReady")], Disruption("NodeLost", "why", node_lost=True), id="node lost"),
        pytest.param(
            [event("NodeNotReady"), event("TaintManagerEviction", at=LATER), event("Killing", at=LATER)],
            Disruption("DeletionByTaintManager", "why"),
            id="the newest",
        ),
        pytest.param(
            [event("Evicted", "The node was low on resource: memory.")],
            Disruption("TerminationByKubelet", "The node was low on resource: memory."),
            id="node pressure",
        ),
        pytest.param(
            [event("Evicted", "Container ray exceeded its local ephemeral storage limit")], None, id="own fault"
        ),
    ],
)
def test_events_show_why_a_pod_is_gone(events: list[dict[str, Any]], expected: Disruption | None) -> None:
    assert disruption_of_events(events) == expected
    assert disruption_of_events(reversed(events)) == expected
