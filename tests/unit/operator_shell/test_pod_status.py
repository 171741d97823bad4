"""Pods with sidecars: the Ray container is found by its name, and only its readiness counts."""

from __future__ import annotations

from typing import Any

import pytest

from workflow_operator.adapters.kuberay import cluster_view, head_view
from workflow_operator.adapters.pod_status import is_ready, pod_problem, ray_container, ray_container_names

TIME = "2026-11-24T10:00:00Z"
RUNNING: dict[str, Any] = {"running": {"startedAt": TIME}}
START = {"name": "KUBERAY_GEN_RAY_START_CMD", "value": "ray start"}


def container(name: str, ready: bool = True, **more: Any) -> dict[str, Any]:
    return {"name": name, "image": f"{name}:1", "containerID": f"id-{name}", "ready": ready, "state": RUNNING, **more}


def pod(
    *statuses: dict[str, Any],
    init: tuple[dict[str, Any], ...] = (),
    ready: bool = True,
    containers_ready: bool = True,
    spec: dict[str, Any] | None = None,
    **status: Any,
) -> dict[str, Any]:
    """Return a head pod into which an injector put its sidecar first."""
    conditions = {"Ready": ready, "ContainersReady": containers_ready}
    return {
        "metadata": {"name": "head-1", "uid": "u", "creationTimestamp": TIME, "labels": {"ray.io/node-type": "head"}},
        "spec": {"containers": [{"name": "istio-proxy"}, {"name": "ray-head"}], **(spec or {})},
        "status": {
            "phase": "Running",
            "conditions": [{"type": kind, "status": str(value)} for kind, value in conditions.items()],
            "containerStatuses": list(statuses),
            "initContainerStatuses": list(init),
            **status,
        },
    }


BOTH = (container("istio-proxy"), container("ray-head"))
LATE = (container("istio-proxy", ready=False), container("ray-head"))
NATIVE = {"initContainers": [{"name": "istio-proxy", "restartPolicy": "Always"}, {"name": "istio-init"}]}


def cluster_with(*names: str) -> dict[str, Any]:
    template = {"spec": {"containers": [{"name": name} for name in names]}}
    meta = {"name": "trip-1", "uid": "cluster-uid", "creationTimestamp": TIME}
    return {"metadata": meta, "spec": {"headGroupSpec": {"template": template}}}


def test_ray_container_is_found_by_the_name_in_the_template() -> None:
    view = cluster_view(cluster_with("ray-head"), [pod(*BOTH)])
    assert view.head is not None
    assert view.head.identity.container_id == "id-ray-head"


@pytest.mark.parametrize(
    ("containers", "name", "found"),
    [
        ([{"name": "istio-proxy"}, {"name": "ray-head"}], "ray-head", "ray-head"),
        ([{"name": "istio-proxy"}, {"name": "ray-head", "env": [START]}], "", "ray-head"),
        ([{"name": "istio-proxy"}, {"name": "ray-head", "env": [START]}], "renamed", "ray-head"),
        ([{"name": "istio-proxy"}, {"name": "ray-head"}], "", "istio-proxy"),
    ],
    ids=["name", "start command", "another name", "first container"],
)
def test_ray_container_of_an_injected_pod(containers: list[dict[str, Any]], name: str, found: str) -> None:
    assert ray_container(pod(*BOTH, spec={"containers": containers}), name)["name"] == found


def test_names_of_all_groups_come_from_their_templates() -> None:
    spec = cluster_with("ray-head", "autoscaler")["spec"]
    group = {"groupName": "small", "template": {"spec": {"containers": [{"name": "ray-worker"}]}}}
    assert ray_container_names({**spec, "workerGroupSpecs": [group]}) == {"head": "ray-head", "small": "ray-worker"}
    assert ray_container_names({}) == {"head": ""}


@pytest.mark.parametrize(
    ("found", "ready"),
    [
        (pod(*BOTH), True),
        (pod(*LATE, ready=False, containers_ready=False), True),
        (pod(container("istio-proxy"), container("ray-head", ready=False), ready=False, containers_ready=False), False),
        (pod(*BOTH, ready=False), False),
    ],
    ids=["all ready", "only the sidecar is not ready", "Ray is not ready", "node is lost"],
)
def test_readiness_is_that_of_the_ray_container(found: dict[str, Any], ready: bool) -> None:
    assert is_ready(found, "ray-head") is ready
    assert head_view(found, "ray-head").ready is ready


@pytest.mark.parametrize(
    ("found", "names"),
    [
        (pod(*BOTH), ()),
        (pod(*LATE), ("istio-proxy",)),
        (pod(container("ray-head"), init=(container("istio-proxy", ready=False),), spec=NATIVE), ("istio-proxy",)),
        (pod(container("ray-head"), init=(container("istio-init", ready=False),), spec=NATIVE), ()),
        (pod(container("istio-proxy", False, state={"terminated": {"exitCode": 0}}), container("ray-head")), ()),
        (pod(), ()),
    ],
    ids=["ready", "late", "native", "init container", "completed", "no status yet"],
)
def test_sidecars_that_are_not_ready_are_named(found: dict[str, Any], names: tuple[str, ...]) -> None:
    assert head_view(found, "ray-head").sidecars == names


def test_running_native_sidecar_is_no_problem() -> None:
    assert pod_problem(pod(*BOTH, init=(container("istio-proxy"),), spec=NATIVE), "ray-head") is None


def test_sidecar_that_does_not_start_is_named_as_a_sidecar() -> None:
    crashing = container("istio-proxy", False, state={"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}})
    found = pod_problem(pod(container("ray-head"), init=(crashing,), spec=NATIVE), "ray-head")
    assert found is not None
    assert found.message == "pod head-1, sidecar istio-proxy, image istio-proxy:1: back-off"


def test_problem_of_the_ray_container_precedes_that_of_a_sidecar() -> None:
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}
    crashing = {"waiting": {"reason": "CrashLoopBackOff"}}
    statuses = (container("istio-proxy", False, state=crashing), container("ray-head", False, state=waiting))
    found = pod_problem(pod(*statuses), "ray-head")
    assert found is not None
    assert found.reason == "ErrImagePull"


def test_head_that_ran_out_of_memory_has_exit_code_and_limit() -> None:
    limits = {"limits": {"memory": "4Gi"}}
    spec = {"containers": [{"name": "istio-proxy"}, {"name": "ray-head", "resources": limits}]}
    ended = {"terminated": {"reason": "OOMKilled", "exitCode": 137, "finishedAt": TIME}}
    view = head_view(pod(container("ray-head", False, state=ended), spec=spec), "ray-head")
    assert (view.running, view.reason) == (False, "OOMKilled")
    assert view.detail == "OOMKilled, exit code 137, memory limit 4Gi"
    without = head_view(pod(container("ray-head", False, state=ended)), "ray-head")
    assert without.detail == "OOMKilled, exit code 137, no memory limit"


def test_ended_ray_container_beside_a_sidecar_is_a_problem() -> None:
    ended = {"terminated": {"reason": "Error", "exitCode": 1, "finishedAt": TIME}}
    found = pod_problem(pod(container("istio-proxy"), container("ray-head", False, state=ended)), "ray-head")
    assert found is not None
    assert (found.reason, found.message) == ("Error", "pod head-1: the Ray container ended with Error, exit code 1")


FAILED_INIT = {"terminated": {"reason": "Error", "exitCode": 3, "finishedAt": TIME}}


@pytest.mark.parametrize(
    ("found", "detail"),
    [
        (pod(*BOTH), ""),
        (pod(phase="Failed", reason="Evicted", message="The node was low on\n memory."), "The node was low on memory."),
        (
            pod(phase="Failed", init=(container("fetch", False, state=FAILED_INIT),)),
            "init container fetch, Error, exit code 3",
        ),
        (pod(phase="Failed"), ""),
    ],
    ids=["running", "evicted", "init container", "unknown"],
)
def test_failed_head_is_explained(found: dict[str, Any], detail: str) -> None:
    assert head_view(found, "ray-head").detail == detail
