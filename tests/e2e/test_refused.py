"""Missing or invalid resources: the Workflow waits, its condition explains what to change, and it then continues."""

from __future__ import annotations

from typing import Any

import pytest

from dev.release import SECRET
from tests.e2e.histories import WatchEvent
from tests.e2e.namespace import BOOT_SECONDS, FLOWS, WorkflowNamespace, ray_cluster_spec, ray_image
from workflow_operator.api.status import Phase

WRONG_KEYS = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "not-the-secret"}
ABSENT_IMAGE = "absent"
WRONG_BOUNDS = "minReplicas 3 greater than maxReplicas 1"
CORRECTABLE = {
    "refused-by-the-api": {"RayClusterRefused"},
    "refused-by-kuberay": {"RayClusterWarning"},
    "absent-image": {"ErrImagePull", "ImagePullBackOff"},
}
"""Workflows with an invalid template, and the expected reasons of their conditions."""


def template(**changes: Any) -> dict[str, Any]:
    """Return a `spec.cluster` with some fields of the RayCluster's spec changed."""
    return {"template": {"spec": {**ray_cluster_spec(), **changes}}}


@pytest.fixture(scope="module")
def namespace(namespaces: dict[str, WorkflowNamespace]) -> WorkflowNamespace:
    namespace = namespaces["e2e-refused"]
    namespace.apply("Secret", "v1", "wrong-keys", stringData=WRONG_KEYS)
    namespace.code("shadowing", {"flows.py": FLOWS, "workflow.py": "answer = 42\n"})
    namespace.create("wrong-bucket", storage=storage(namespace, "s3://no-such-bucket/runs"))
    namespace.create("wrong-secret", storage=storage(namespace, "s3://workflows/runs", "wrong-keys"))
    namespace.create("missing-secret", storage=storage(namespace, "s3://workflows/runs", "nowhere"))
    namespace.create("own-workflow-module", code="shadowing")
    head = ray_cluster_spec()["headGroupSpec"]
    namespace.create(
        "refused-by-the-api", "flows:short", cluster=template(headGroupSpec={**head, "rayStartParams": {"num-cpus": 4}})
    )
    namespace.create("refused-by-kuberay", "flows:short", cluster=template(workerGroupSpecs=[worker_group()]))
    ray_cluster = ray_cluster_spec()
    ray_cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["image"] = f"{ray_image()}-{ABSENT_IMAGE}"
    namespace.create("absent-image", "flows:short", cluster={"template": {"spec": ray_cluster}})
    return namespace


@pytest.fixture(scope="module")
def corrected(namespace: WorkflowNamespace) -> WorkflowNamespace:
    for name, reasons in CORRECTABLE.items():
        until_refused(namespace, name, "ClusterReady", reasons)
        valid = {"workerGroupSpecs": None, **ray_cluster_spec()}
        namespace.patch(name, {"spec": {"cluster": {"template": {"spec": valid}}}})
    return namespace


def storage(namespace: WorkflowNamespace, uri: str, secret: str = SECRET) -> dict[str, Any]:
    """Return a `spec.storage` on the MinIO of the release."""
    return {
        "uri": uri,
        "endpoint": namespace.bucket.cluster_endpoint,
        "region": "us-east-1",
        "secretRef": {"name": secret},
    }


def worker_group() -> dict[str, Any]:
    """Return a worker group with contradicting bounds."""
    pod = ray_cluster_spec()["headGroupSpec"]["template"]
    bounds = {"replicas": 0, "minReplicas": 3, "maxReplicas": 1}
    return {"groupName": "workers", "rayStartParams": {}, "template": pod, **bounds}


def until_refused(
    namespace: WorkflowNamespace, name: str, condition_type: str, reasons: set[str], *words: str
) -> WatchEvent:
    """Wait until a condition has one of these reasons, and check that its message contains these words."""

    def is_refused(event: WatchEvent) -> bool:
        condition = event.state.condition(condition_type)
        return condition is not None and condition.status == "False" and condition.reason in reasons

    event = namespace.histories.until(name, is_refused, 90)
    assert event is not None, namespace.diagnosis(name, f"condition {condition_type} has none of the reasons {reasons}")
    condition = event.state.condition(condition_type)
    assert condition is not None
    for word in words:
        assert word in condition.message
    return event


def test_missing_bucket_is_reported(namespace: WorkflowNamespace) -> None:
    until_refused(namespace, "wrong-bucket", "Accepted", {"StoreRefused"}, "no-such-bucket", "create")


def test_wrong_credentials_are_reported(namespace: WorkflowNamespace) -> None:
    until_refused(namespace, "wrong-secret", "Accepted", {"StoreRefused"}, "credentials from Secret wrong-keys")


def test_workflow_continues_when_its_secret_is_created(namespace: WorkflowNamespace) -> None:
    words = ("Secret nowhere does not exist in namespace e2e-refused", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    until_refused(namespace, "missing-secret", "Accepted", {"SecretMissing"}, *words)
    access, secret = namespace.bucket.keys
    namespace.apply(
        "Secret", "v1", "nowhere", stringData={"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret}
    )
    namespace.until_phase("missing-secret", Phase.PROVISIONING)
    namespace.delete("workflow", "missing-secret")


def test_file_that_hides_the_library_is_reported(namespace: WorkflowNamespace) -> None:
    words = ("ConfigMap shadowing", "'workflow.py' would hide the module 'workflow'", "give it another name")
    until_refused(namespace, "own-workflow-module", "Accepted", {"CodeRefused"}, *words)


def test_raycluster_that_the_api_server_rejects_is_reported(namespace: WorkflowNamespace) -> None:
    until_refused(
        namespace,
        "refused-by-the-api",
        "ClusterReady",
        {"RayClusterRefused"},
        "spec.headGroupSpec.rayStartParams.num-cpus",
    )


def test_raycluster_that_kuberay_rejects_is_reported(namespace: WorkflowNamespace) -> None:
    until_refused(namespace, "refused-by-kuberay", "ClusterReady", CORRECTABLE["refused-by-kuberay"], WRONG_BOUNDS)


def test_image_that_cannot_be_pulled_is_reported(namespace: WorkflowNamespace) -> None:
    event = until_refused(namespace, "absent-image", "ClusterReady", CORRECTABLE["absent-image"], ABSENT_IMAGE)
    assert event.state.phase is Phase.PROVISIONING


@pytest.mark.parametrize("name", CORRECTABLE)
def test_corrected_template_is_used_at_once(corrected: WorkflowNamespace, name: str) -> None:
    done = corrected.until_phase(name, Phase.SUCCEEDED, BOOT_SECONDS)
    assert done.state.result == '"one of plain"'
    assert done.state.attempt == (1 if name == "refused-by-the-api" else 2), "an existing cluster was replaced"


def test_workflow_continues_when_its_configmap_is_created(shared: WorkflowNamespace) -> None:
    shared.create("waits", "flows:short", "later", cluster={"selector": {"matchLabels": {"team": "e2e"}}})
    until_refused(
        shared, "waits", "Accepted", {"ConfigMapMissing"}, "ConfigMap later does not exist", "create it with the code"
    )
    shared.code("later", {"flows.py": FLOWS})
    shared.until_phase("waits", Phase.SUCCEEDED, timeout=BOOT_SECONDS)
