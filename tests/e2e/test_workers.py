"""Trouble of workers: it is shown while the run continues, and no cluster is replaced because of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.histories import WatchEvent
from tests.e2e.namespace import BOOT_SECONDS, WorkflowNamespace, ray_cluster_spec
from workflow_operator.api.status import Phase

ABSENT_IMAGE = "registry.invalid/absent:1"
GPU_CODE = """
from workflow import step

@step(num_gpus=8)
def train():
    return "trained"
"""
WAIT_SECONDS = 90.0
"""The manager explains a wait after 10 seconds, in a heartbeat that the operator reads every 10 seconds."""


@pytest.fixture(scope="module")
def namespace(namespaces: dict[str, WorkflowNamespace]) -> WorkflowNamespace:
    return namespaces["e2e-resume"]


def until_workers(namespace: WorkflowNamespace, name: str, reason: str, timeout: float) -> WatchEvent:
    """Wait until the condition WorkersReady is False for this reason."""

    def is_shown(event: WatchEvent) -> bool:
        condition = event.state.condition("WorkersReady")
        return condition is not None and (condition.status, condition.reason) == ("False", reason)

    event = namespace.histories.until(name, is_shown, timeout)
    assert event is not None, namespace.diagnosis(name, f"WorkersReady does not have the reason {reason}")
    return event


def message_of(event: WatchEvent) -> str:
    condition = event.state.condition("WorkersReady")
    assert condition is not None
    return condition.message


def with_absent_image() -> dict[str, Any]:
    """Return the spec of a cluster whose head executes the steps, because its worker has an image that is absent."""
    spec = ray_cluster_spec()
    pod = spec["headGroupSpec"]["template"]["spec"]
    container = {**pod["containers"][0], "name": "ray-worker", "image": ABSENT_IMAGE}
    template = {"spec": {**pod, "containers": [container]}}
    group = {"groupName": "workers", "replicas": 1, "minReplicas": 1, "maxReplicas": 1, "rayStartParams": {}}
    return {**spec, "workerGroupSpecs": [{**group, "template": template}]}


def test_absent_image_of_a_worker_is_shown_during_the_run(namespace: WorkflowNamespace) -> None:
    name = "worker-image"
    namespace.create(name, cluster={"template": {"spec": with_absent_image()}})
    at_gate = namespace.until_at_gate(name)
    shown = until_workers(namespace, name, "ImagePullBackOff", BOOT_SECONDS)
    assert ABSENT_IMAGE in message_of(shown)
    namespace.until_event(name, "ImagePullBackOff")
    namespace.bucket.open_gate(namespace.name, name)
    done = namespace.until_phase(name, Phase.SUCCEEDED, after=at_gate)
    assert (done.state.attempt, done.state.resumes.total) == (1, 0)


def test_step_that_no_node_can_run_is_explained(shared: WorkflowNamespace) -> None:
    namespace, name = shared, "needs-gpus"
    namespace.code("gpu-code", {"gpus.py": GPU_CODE})
    namespace.create(name, "gpus:train", "gpu-code", args={}, cluster={"selector": {"matchLabels": {"team": "e2e"}}})
    namespace.until_phase(name, Phase.RUNNING, BOOT_SECONDS)
    shown = until_workers(namespace, name, "StepWaitsForWorker", WAIT_SECONDS)
    assert "8 GPU" in message_of(shown)
    assert shown.state.reason == "StepWaitsForWorker"
    namespace.until_event(name, "StepWaitsForWorker")
    namespace.delete("workflow", name)
    namespace.until_gone(name)
