"""The store is stopped, and starts again without its data: the compute is freed, and each wait is explained.

The module is the last one that uses the buckets, because it loses their content.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from dev.processes import poll
from dev.release import BUCKET
from tests.e2e.bucket import MARKS, Bucket
from tests.e2e.kubectl import Kubectl
from tests.e2e.namespace import WorkflowNamespace
from tests.e2e.release import RELEASE_NAMESPACE
from workflow_operator.api.status import Phase, WorkflowState

MINIO = "statefulset/rayworkflow-minio"
MINIO_PODS = "app.kubernetes.io/component=minio"
FREED_WITHIN_SECONDS = 75.0
"""The compute is freed within 60 seconds. The rest is for the deletion of the pods."""


def scale(kubectl: Kubectl, replicas: int) -> None:
    """Set the number of MinIO pods, and wait until it is reached. The data is lost with the pod."""
    kubectl.kubectl("-n", RELEASE_NAMESPACE, "scale", MINIO, f"--replicas={replicas}")
    if replicas:
        kubectl.kubectl("-n", RELEASE_NAMESPACE, "rollout", "status", MINIO, "--timeout=90s")
        return
    assert poll(lambda: not kubectl.objects("pods", RELEASE_NAMESPACE, MINIO_PODS), 60), "MinIO did not stop"


def make_buckets(bucket: Bucket) -> None:
    """Create the buckets that were lost."""
    client = bucket.client()
    for name in (BUCKET, MARKS):
        if not client.bucket_exists(name):
            client.make_bucket(name)


@pytest.fixture
def empty_store_at_the_end(kubectl: Kubectl, bucket: Bucket) -> Iterator[None]:
    """Leave a running MinIO with empty buckets."""
    yield
    scale(kubectl, 1)
    make_buckets(bucket)


def explained(reason: str, text: str = "") -> Callable[[WorkflowState], bool]:
    """Return a condition on a status: its explanation has this reason, and contains a text."""

    def check(state: WorkflowState) -> bool:
        found = state.condition("Reconciling")
        return found is not None and found.reason == reason and text in found.message

    return check


@pytest.mark.usefixtures("empty_store_at_the_end")
def test_stopped_and_emptied_store_frees_the_compute(
    namespaces: dict[str, WorkflowNamespace], kubectl: Kubectl, bucket: Bucket, measurements: dict[str, str]
) -> None:
    namespace = namespaces["e2e-freed"]
    for name in ("canceled", "lost"):
        namespace.create(name)
    at_gate = {name: namespace.until_at_gate(name) for name in ("canceled", "lost")}

    scale(kubectl, 0)
    requested = time.monotonic()
    namespace.patch("canceled", {"spec": {"cancel": True}})
    namespace.until_no_cluster("canceled", FREED_WITHIN_SECONDS)
    measurements["cancel with the store down -> no cluster"] = f"{time.monotonic() - requested:.1f} s"
    owed = namespace.until("canceled", explained("CancelOwed"), after=at_gate["canceled"])
    assert owed.state.phase is Phase.CANCELING
    assert kubectl.objects("rayclusters", namespace.name), "an outage deletes no other cluster"

    scale(kubectl, 1)
    missing = namespace.until(
        "lost",
        explained("CheckpointsLost", "the bucket"),
        after=at_gate["lost"],
    )
    make_buckets(bucket)
    for name in ("lost", "canceled"):
        failed = namespace.until_phase(name, Phase.FAILED, after=missing if name == "lost" else owed)
        condition = failed.state.condition("Failed")
        assert condition is not None
        assert condition.reason == "CheckpointsLost"
        assert failed.state.attempt == 1, "no attempt is repeated without its checkpoints"
        namespace.until_no_cluster(name)
