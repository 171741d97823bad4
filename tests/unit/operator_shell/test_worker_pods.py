"""The summary of the workers of a RayCluster: counts, the most common problem, and the worker that was killed last."""

from __future__ import annotations

import time
from typing import Any

import pytest

from workflow_operator.adapters.worker_pods import DELETED_WORKER, lacks_workers, workers_view
from workflow_operator.api.base import parse_time
from workflow_operator.core.observation import PodProblem, WorkersView

TIME, LATER = "2026-11-24T10:00:00Z", "2026-11-24T10:05:00Z"
NAMES = {"head": "ray-head", "small": "ray-worker"}
NO_NODE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes have a GPU"}
OOM = {"reason": "OOMKilled", "exitCode": 137, "finishedAt": LATER}
CREATED_EVENT = (
    "Deleted worker Pod team/trip-worker-x; Pod status: Failed; Pod restart policy: Never; Ray container terminated "
    "status: &ContainerStateTerminated{ExitCode:137,Signal:0,Reason:OOMKilled,Message:,StartedAt:2026-11-24,}"
)


def worker(number: int = 1, conditions: tuple[dict[str, Any], ...] = (), **status: Any) -> dict[str, Any]:
    container = {"name": "ray-worker", "resources": {"limits": {"memory": "2Gi"}}}
    return {
        "metadata": {
            "name": f"worker-{number}",
            "creationTimestamp": TIME,
            "labels": {"ray.io/node-type": "worker", "ray.io/group": "small"},
        },
        "spec": {"containers": [container]},
        "status": {"conditions": [{"lastTransitionTime": TIME, **each} for each in conditions], **status},
    }


def ready(number: int = 1, **container: Any) -> dict[str, Any]:
    status = {"name": "ray-worker", "image": "ray:1", "ready": True, "state": {"running": {}}, **container}
    return worker(number, ({"type": "Ready", "status": "True"},), phase="Running", containerStatuses=[status])


def waiting(number: int, reason: str, message: str = "", **container: Any) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    status = {"name": "ray-worker", "image": "ray:9", "ready": False, "state": state, **container}
    return worker(number, phase="Pending", containerStatuses=[status])


def wants(number: int, *conditions: dict[str, Any]) -> dict[str, Any]:
    return {
        "desiredWorkerReplicas": number,
        "conditions": [{"lastTransitionTime": TIME, **each} for each in conditions],
    }


REFUSED = {
    "type": "ReplicaFailure",
    "status": "True",
    "reason": "FailedCreateWorkerPod",
    "message": 'FailedCreateWorkerPod\npods "trip-worker" is forbidden: exceeded quota: compute',
}


def problem_of(view: WorkersView) -> PodProblem:
    assert view.problem is not None
    return view.problem


def test_ready_workers_have_no_problem() -> None:
    assert workers_view(wants(2), [ready(1), ready(2)], NAMES) == WorkersView(2, 2)
    assert workers_view({}, [], NAMES) == WorkersView()


@pytest.mark.parametrize(
    ("pod", "reason", "text"),
    [
        (waiting(1, "ImagePullBackOff", "no such image"), "ImagePullBackOff", "image ray:9: no such image"),
        (waiting(1, "ErrImagePull", "not found"), "ImagePullBackOff", "image ray:9: not found"),
        (worker(1, (NO_NODE,)), "Unschedulable", "pod worker-1: 0/3 nodes have a GPU"),
        (
            waiting(
                1, "CrashLoopBackOff", "back-off 40s", lastState={"terminated": {"reason": "Error", "exitCode": 1}}
            ),
            "CrashLoopBackOff",
            "back-off 40s; it last ended with Error, exit code 1",
        ),
        (worker(1, phase="Failed", reason="Evicted", message="low on memory"), "Evicted", "low on memory"),
        (
            worker(1, phase="Failed", containerStatuses=[{"name": "ray-worker", "state": {"terminated": OOM}}]),
            "OOMKilled",
            "pod worker-1: OOMKilled, exit code 137, memory limit 2Gi",
        ),
        (
            waiting(1, "CrashLoopBackOff", restartCount=3, lastState={"terminated": OOM}),
            "OOMKilled",
            "memory limit 2Gi; it was restarted 3 times",
        ),
    ],
    ids=["image", "pull", "no node", "crash loop", "evicted", "out of memory", "out of memory in a loop"],
)
def test_problem_has_the_words_of_kubernetes(pod: dict[str, Any], reason: str, text: str) -> None:
    view = workers_view(wants(1), [pod], NAMES)
    assert (view.ready, view.affected, problem_of(view).reason) == (0, 1, reason)
    assert text in problem_of(view).message


def test_most_common_problem_is_shown_and_others_are_counted() -> None:
    pods = [worker(1, (NO_NODE,)), *(waiting(number, "ImagePullBackOff") for number in (2, 3)), ready(4)]
    view = workers_view(wants(4), pods, NAMES)
    assert (view.desired, view.ready, view.affected) == (4, 1, 2)
    assert problem_of(view).reason == "ImagePullBackOff"
    assert problem_of(view).message.endswith("; other workers: Unschedulable (1)")


def test_refused_creation_is_a_problem_without_a_pod() -> None:
    view = workers_view(wants(3, REFUSED), [ready(1)], NAMES)
    assert (view.ready, view.affected, problem_of(view).reason) == (1, 0, "FailedCreateWorkerPod")
    text = 'KubeRay reports FailedCreateWorkerPod: pods "trip-worker" is forbidden: exceeded quota: compute'
    assert problem_of(view).message == text


def test_failure_of_the_head_is_no_problem_of_workers() -> None:
    assert workers_view(wants(0, {**REFUSED, "reason": "FailedCreateHeadPod"}), [], NAMES).problem is None


def test_restarted_worker_is_ready_and_its_kill_is_known() -> None:
    view = workers_view(wants(1), [ready(1, lastState={"terminated": OOM}, restartCount=1)], NAMES)
    assert (view.ready, view.problem) == (1, None)
    text = "pod worker-1: OOMKilled, exit code 137, memory limit 2Gi; it was restarted 1 time"
    assert view.killed == PodProblem("OOMKilled", text, float(parse_time(LATER)))


def test_killed_worker_that_kuberay_deletes_is_known() -> None:
    pod = worker(1, phase="Failed", containerStatuses=[{"name": "ray-worker", "state": {"terminated": OOM}}])
    pod["metadata"]["deletionTimestamp"] = LATER
    view = workers_view(wants(1), [pod], NAMES)
    assert view.killed is not None
    assert view.killed.reason == "OOMKilled"


def test_worker_that_is_deleted_otherwise_has_no_problem() -> None:
    pod = worker(1, (NO_NODE,))
    pod["metadata"]["deletionTimestamp"] = LATER
    assert workers_view(wants(0), [pod], NAMES) == WorkersView()


@pytest.mark.parametrize(
    ("event", "found"),
    [
        ({"reason": DELETED_WORKER, "message": CREATED_EVENT, "lastTimestamp": LATER}, True),
        ({"reason": DELETED_WORKER, "message": CREATED_EVENT, "lastTimestamp": None, "eventTime": LATER}, True),
        (
            {
                "reason": DELETED_WORKER,
                "message": "Deleted worker Pod team/x; Pod status: Failed",
                "lastTimestamp": TIME,
            },
            False,
        ),
        ({"reason": DELETED_WORKER, "message": CREATED_EVENT}, False),
        ({"reason": "Other", "message": CREATED_EVENT, "lastTimestamp": LATER}, False),
    ],
    ids=["killed", "newer kind of event", "deleted", "without a time", "another event"],
)
def test_replaced_worker_is_known_from_an_event(event: dict[str, Any], found: bool) -> None:
    view = workers_view(wants(1), [], NAMES, [event])
    text = "pod trip-worker-x: OOMKilled, exit code 137; KubeRay replaced it"
    assert view.killed == (PodProblem("OOMKilled", text, float(parse_time(LATER))) if found else None)


def test_last_kill_is_shown() -> None:
    older = {**OOM, "finishedAt": TIME}
    pods = [ready(1, lastState={"terminated": OOM}), ready(2, lastState={"terminated": older})]
    view = workers_view(wants(2), pods, NAMES)
    assert view.killed is not None
    assert view.killed.message.startswith("pod worker-1")


@pytest.mark.parametrize(
    ("status", "pods", "lacks"),
    [
        (wants(1), [], True),
        (wants(1), [worker(1, phase="Failed")], True),
        (wants(1), [worker(1, phase="Pending")], False),
        (wants(0), [], False),
        (wants(1, REFUSED), [], False),
    ],
    ids=["no pod", "failed pod", "pending pod", "no worker", "refused"],
)
def test_replacement_is_due(status: dict[str, Any], pods: list[dict[str, Any]], lacks: bool) -> None:
    assert lacks_workers(status, pods) is lacks


def test_summary_of_a_thousand_workers_is_small_and_fast() -> None:
    pods = [waiting(number, "ImagePullBackOff", "no such image " * 20) for number in range(1000)]
    started = time.perf_counter()
    view = workers_view(wants(1000), pods, NAMES)
    assert time.perf_counter() - started < 2
    assert view.affected == 1000
    assert len(problem_of(view).message) < 400
