"""The promise: what runs under a Workflow is lost in the middle, and the run goes on elsewhere from its checkpoints.

Two Workflows with clusters of their own begin together, and each is held at a gate behind three committed steps.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.e2e.place import BOOT_SECONDS, Place, ray_cluster_spec
from tests.e2e.stories import Seen, phases
from workflow import reading
from workflow.model.status import WorkflowStatus
from workflow_operator.api.status import Phase

RESUMED = {"one": 1, "two": 1, "three": 1, "gate": 2, "four": 1, "five": 1}
WHOLE_STORY = [
    Phase.PENDING,
    Phase.PROVISIONING,
    Phase.RUNNING,
    Phase.RESUMABLE,
    Phase.PROVISIONING,
    Phase.RUNNING,
    Phase.SUCCEEDED,
]


@pytest.fixture(scope="module")
def place(places: dict[str, Place]) -> Place:
    place = places["e2e-resume"]
    for name in ("loses-its-head", "loses-its-cluster"):
        place.create(name)
    return place


def test_after_the_loss_of_its_head_a_run_goes_on_on_a_new_cluster(place: Place, figures: dict[str, str]) -> None:
    held = place.until_held("loses-its-head")
    first = held.state.cluster
    assert first is not None
    figures["cluster boot, from the Workflow's creation to its submission"] = f"{_boot(place, 'loses-its-head'):.1f} s"

    killed = place.kill_head(first.name)
    resumable = place.until_phase("loses-its-head", Phase.RESUMABLE, after=held)
    figures["head death -> RESUMABLE"] = f"{resumable.at - killed:.2f} s"
    assert resumable.at - killed <= 2.0
    assert resumable.state.last_failure is not None
    assert resumable.state.last_failure.reason == "HeadPodLost"
    assert resumable.state.epoch == 1

    second = _until_resumed(place, "loses-its-head", resumable)
    assert second.state.cluster is not None
    assert second.state.cluster.name != first.name
    place.bucket.until_started(place.namespace, "loses-its-head", "gate", times=2)
    again = place.bucket.mark_times(place.namespace, "loses-its-head", "gate")[1]
    figures["head death -> first new step of the resumed run"] = f"{again - killed:.1f} s"
    running = place.until("loses-its-head", lambda state: state.phase is Phase.RUNNING, after=resumable)
    figures["new submission runs -> first new step"] = f"{again - running.at:.1f} s"
    _ends_with_nothing_run_twice(place, "loses-its-head", second)
    place.until_event("loses-its-head", "HeadPodLost")


def test_after_the_deletion_of_its_raycluster_a_run_goes_on_on_a_new_one(place: Place, figures: dict[str, str]) -> None:
    held = place.until_held("loses-its-cluster")
    assert held.state.cluster is not None
    killed = time.time()
    place.delete("raycluster", held.state.cluster.name)
    resumable = place.until_phase("loses-its-cluster", Phase.RESUMABLE, after=held)
    figures["RayCluster deleted -> RESUMABLE"] = f"{resumable.at - killed:.2f} s"
    assert resumable.state.last_failure is not None
    assert resumable.state.last_failure.reason in ("RayClusterDeleted", "HeadPodLost")
    second = _until_resumed(place, "loses-its-cluster", resumable)
    _ends_with_nothing_run_twice(place, "loses-its-cluster", second)


def test_the_loss_of_a_worker_is_no_failure_and_a_worker_that_comes_later_gets_the_code(place: Place) -> None:
    name = "loses-its-worker"
    place.create(name, cluster={"template": {"spec": _head_without_processors()}})
    held = place.until_held(name)
    assert held.state.cluster is not None
    (worker,) = place.workers(held.state.cluster.name)
    place.kill_pod(worker)
    place.bucket.until_started(place.namespace, name, "gate", times=2, timeout=BOOT_SECONDS)
    place.bucket.open_gate(place.namespace, name)
    done = place.until_phase(name, Phase.SUCCEEDED)
    assert place.marks(name) == RESUMED
    assert (done.state.attempt, done.state.epoch, done.state.resumes.total) == (1, 1, 0)


def test_a_workflow_deleted_while_it_runs_takes_its_cluster_with_it(place: Place, figures: dict[str, str]) -> None:
    place.create("is-deleted")
    held = place.until_held("is-deleted")
    asked = time.time()
    place.delete("workflow", "is-deleted")
    gone = place.until_gone("is-deleted")
    figures["deletion while running -> object gone, with a cluster of its own"] = f"{gone.at - asked:.2f} s"
    place.until_no_cluster("is-deleted")
    view = reading.read_run(place.store(), held.state.workflow_id)
    assert view is not None
    assert view.status is WorkflowStatus.CANCELED
    assert view.reason == "Deleted"


def _head_without_processors() -> dict[str, Any]:
    """All steps run on the one worker."""
    spec = ray_cluster_spec()
    group = {"groupName": "workers", "replicas": 1, "minReplicas": 1, "maxReplicas": 1, **spec["headGroupSpec"]}
    spec["headGroupSpec"] = {**spec["headGroupSpec"], "rayStartParams": {"num-cpus": "0"}}
    return {**spec, "workerGroupSpecs": [group]}


def _boot(place: Place, name: str) -> float:
    running = place.until_phase(name, Phase.RUNNING)
    assert running.workflow is not None
    return running.at - running.workflow.created


def _until_resumed(place: Place, name: str, resumable: Seen) -> Seen:
    second = place.until(name, lambda state: state.epoch == 2, BOOT_SECONDS, after=resumable)
    assert second.state.attempt == 2
    assert second.state.resumes.total == 1
    return second


def _ends_with_nothing_run_twice(place: Place, name: str, after: Seen) -> None:
    place.bucket.open_gate(place.namespace, name)
    done = place.until_phase(name, Phase.SUCCEEDED, after=after)
    assert place.marks(name) == RESUMED
    assert done.state.result == "five of plain"
    assert done.state.steps.summary == "6/6"
    assert (done.state.attempt, done.state.epoch, done.state.resumes.total) == (2, 2, 1)
    assert phases(place.stories.of(name)) == WHOLE_STORY
    place.until_no_cluster(name)
