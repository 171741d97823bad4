"""Resume: a run loses its head, its cluster or a worker, and continues from its checkpoints.

Two Workflows with their own clusters start together, and each waits at a gate after three committed steps.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.e2e.histories import WatchEvent, phases
from tests.e2e.namespace import BOOT_SECONDS, WorkflowNamespace, ray_cluster_spec
from workflow import reading
from workflow.model.status import WorkflowStatus
from workflow_operator.api.status import Phase

RESUMED = {"one": 1, "two": 1, "three": 1, "gate": 2, "four": 1, "five": 1}
RESUMED_PHASES = [
    Phase.PENDING,
    Phase.PROVISIONING,
    Phase.RUNNING,
    Phase.RESUMABLE,
    Phase.PROVISIONING,
    Phase.RUNNING,
    Phase.SUCCEEDED,
]


@pytest.fixture(scope="module")
def namespace(namespaces: dict[str, WorkflowNamespace]) -> WorkflowNamespace:
    namespace = namespaces["e2e-resume"]
    for name in ("loses-its-head", "loses-its-cluster"):
        namespace.create(name)
    return namespace


def test_run_resumes_on_a_new_cluster_after_head_loss(
    namespace: WorkflowNamespace, measurements: dict[str, str]
) -> None:
    at_gate = namespace.until_at_gate("loses-its-head")
    first = at_gate.state.cluster
    assert first is not None
    measurements["cluster boot, from the Workflow's creation to its submission"] = (
        f"{_boot_seconds(namespace, 'loses-its-head'):.1f} s"
    )

    killed = namespace.kill_head(first.name)
    resumable = namespace.until_phase("loses-its-head", Phase.RESUMABLE, after=at_gate)
    measurements["head death -> RESUMABLE"] = f"{resumable.at - killed:.2f} s"
    assert resumable.at - killed <= 2.0
    assert resumable.state.last_failure is not None
    assert resumable.state.last_failure.reason == "HeadPodLost"
    assert resumable.state.epoch == 1

    second = _until_resumed(namespace, "loses-its-head", resumable)
    assert second.state.cluster is not None
    assert second.state.cluster.name != first.name
    namespace.bucket.until_started(namespace.name, "loses-its-head", "gate", times=2)
    new_step = namespace.bucket.mark_times(namespace.name, "loses-its-head", "gate")[1]
    measurements["head death -> first new step of the resumed run"] = f"{new_step - killed:.1f} s"
    running = namespace.until("loses-its-head", lambda state: state.phase is Phase.RUNNING, after=resumable)
    measurements["new submission runs -> first new step"] = f"{new_step - running.at:.1f} s"
    _succeeds_without_repeated_steps(namespace, "loses-its-head", second)
    namespace.until_event("loses-its-head", "HeadPodLost")


def test_run_resumes_after_deletion_of_its_raycluster(
    namespace: WorkflowNamespace, measurements: dict[str, str]
) -> None:
    at_gate = namespace.until_at_gate("loses-its-cluster")
    assert at_gate.state.cluster is not None
    killed = time.time()
    namespace.delete("raycluster", at_gate.state.cluster.name)
    resumable = namespace.until_phase("loses-its-cluster", Phase.RESUMABLE, after=at_gate)
    measurements["RayCluster deleted -> RESUMABLE"] = f"{resumable.at - killed:.2f} s"
    assert resumable.state.last_failure is not None
    assert resumable.state.last_failure.reason in ("RayClusterDeleted", "HeadPodLost")
    second = _until_resumed(namespace, "loses-its-cluster", resumable)
    _succeeds_without_repeated_steps(namespace, "loses-its-cluster", second)


def test_replacement_of_a_lost_worker_gets_the_code(namespace: WorkflowNamespace) -> None:
    name = "loses-its-worker"
    namespace.create(name, cluster={"template": {"spec": _head_without_cpus()}})
    at_gate = namespace.until_at_gate(name)
    assert at_gate.state.cluster is not None
    (worker,) = namespace.workers(at_gate.state.cluster.name)
    namespace.kill_pod(worker)
    namespace.bucket.until_started(namespace.name, name, "gate", times=2, timeout=BOOT_SECONDS)
    namespace.bucket.open_gate(namespace.name, name)
    done = namespace.until_phase(name, Phase.SUCCEEDED)
    assert namespace.marks(name) == RESUMED
    assert (done.state.attempt, done.state.epoch, done.state.resumes.total) == (1, 1, 0)


def test_deletion_of_a_running_workflow_deletes_its_cluster(
    namespace: WorkflowNamespace, measurements: dict[str, str]
) -> None:
    namespace.create("is-deleted")
    at_gate = namespace.until_at_gate("is-deleted")
    deleted = time.time()
    namespace.delete("workflow", "is-deleted")
    gone = namespace.until_gone("is-deleted")
    measurements["deletion while running -> object gone, with a cluster of its own"] = f"{gone.at - deleted:.2f} s"
    namespace.until_no_cluster("is-deleted")
    view = reading.read_run(namespace.store(), at_gate.state.workflow_id)
    assert view is not None
    assert view.status is WorkflowStatus.CANCELED
    assert view.reason == "Deleted"


def _head_without_cpus() -> dict[str, Any]:
    """Return the spec of a cluster whose steps all run on its one worker."""
    spec = ray_cluster_spec()
    group = {"groupName": "workers", "replicas": 1, "minReplicas": 1, "maxReplicas": 1, **spec["headGroupSpec"]}
    spec["headGroupSpec"] = {**spec["headGroupSpec"], "rayStartParams": {"num-cpus": "0"}}
    return {**spec, "workerGroupSpecs": [group]}


def _boot_seconds(namespace: WorkflowNamespace, name: str) -> float:
    running = namespace.until_phase(name, Phase.RUNNING)
    assert running.workflow is not None
    return running.at - running.workflow.created


def _until_resumed(namespace: WorkflowNamespace, name: str, resumable: WatchEvent) -> WatchEvent:
    second = namespace.until(name, lambda state: state.epoch == 2, BOOT_SECONDS, after=resumable)
    assert second.state.attempt == 2
    assert second.state.resumes.total == 1
    return second


def _succeeds_without_repeated_steps(namespace: WorkflowNamespace, name: str, after: WatchEvent) -> None:
    namespace.bucket.open_gate(namespace.name, name)
    done = namespace.until_phase(name, Phase.SUCCEEDED, after=after)
    assert namespace.marks(name) == RESUMED
    assert done.state.result == '"five of plain"'
    assert done.state.steps.summary == "6/6"
    assert (done.state.attempt, done.state.epoch, done.state.resumes.total) == (2, 2, 1)
    assert phases(namespace.histories.of(name)) == RESUMED_PHASES
    namespace.until_no_cluster(name)
