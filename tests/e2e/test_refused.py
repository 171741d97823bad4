"""Surroundings that are wrong: the Workflow waits, says what to change, and goes on once that is done."""

from __future__ import annotations

from typing import Any

import pytest

from dev.release import SECRET
from tests.e2e.place import BOOT_SECONDS, FLOWS, Place, ray_cluster_spec, ray_image
from tests.e2e.stories import Seen
from workflow_operator.api.status import Phase

WRONG_KEYS = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "not-the-secret"}
ABSENT_IMAGE = "absent"
WRONG_BOUNDS = "minReplicas 3 greater than maxReplicas 1"
CORRECTABLE = {
    "refused-by-the-api": {"RayClusterRefused"},
    "refused-by-kuberay": {"RayClusterWarning"},
    "absent-image": {"ErrImagePull", "ImagePullBackOff"},
}
"""What is wrong with templates, and the reasons that the Workflows then give."""


def template(**changes: Any) -> dict[str, Any]:
    """A cluster of its own, with some fields of its RayCluster's spec changed."""
    return {"template": {"spec": {**ray_cluster_spec(), **changes}}}


@pytest.fixture(scope="module")
def place(places: dict[str, Place]) -> Place:
    place = places["e2e-refused"]
    place.apply("Secret", "v1", "wrong-keys", stringData=WRONG_KEYS)
    place.code("shadowing", {"flows.py": FLOWS, "workflow.py": "answer = 42\n"})
    place.create("wrong-bucket", storage=storage(place, "s3://no-such-bucket/runs"))
    place.create("wrong-secret", storage=storage(place, "s3://workflows/runs", "wrong-keys"))
    place.create("missing-secret", storage=storage(place, "s3://workflows/runs", "nowhere"))
    place.create("own-workflow-module", code="shadowing")
    head = ray_cluster_spec()["headGroupSpec"]
    place.create(
        "refused-by-the-api", "flows:short", cluster=template(headGroupSpec={**head, "rayStartParams": {"num-cpus": 4}})
    )
    place.create("refused-by-kuberay", "flows:short", cluster=template(workerGroupSpecs=[worker_group()]))
    ray_cluster = ray_cluster_spec()
    ray_cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["image"] = f"{ray_image()}-{ABSENT_IMAGE}"
    place.create("absent-image", "flows:short", cluster={"template": {"spec": ray_cluster}})
    return place


@pytest.fixture(scope="module")
def corrected(place: Place) -> Place:
    for name, reasons in CORRECTABLE.items():
        says(place, name, "ClusterReady", reasons)
        whole = {"workerGroupSpecs": None, **ray_cluster_spec()}
        place.patch(name, {"spec": {"cluster": {"template": {"spec": whole}}}})
    return place


def storage(place: Place, uri: str, secret: str = SECRET) -> dict[str, Any]:
    """A storage on the release's own MinIO."""
    return {"uri": uri, "endpoint": place.bucket.inside, "region": "us-east-1", "secretRef": {"name": secret}}


def worker_group() -> dict[str, Any]:
    """A group whose bounds do not fit together."""
    pod = ray_cluster_spec()["headGroupSpec"]["template"]
    bounds = {"replicas": 0, "minReplicas": 3, "maxReplicas": 1}
    return {"groupName": "workers", "rayStartParams": {}, "template": pod, **bounds}


def says(place: Place, name: str, kind: str, reasons: set[str], *words: str) -> Seen:
    """Wait until a condition has one of these reasons; its message must hold these words."""

    def as_wanted(seen: Seen) -> bool:
        condition = seen.state.condition(kind)
        return condition is not None and condition.status == "False" and condition.reason in reasons

    seen = place.stories.until(name, as_wanted, 90)
    assert seen is not None, place.told(name, f"condition {kind} got none of the reasons {reasons}")
    condition = seen.state.condition(kind)
    assert condition is not None
    for word in words:
        assert word in condition.message
    return seen


def test_a_bucket_that_does_not_exist(place: Place) -> None:
    says(place, "wrong-bucket", "Accepted", {"StoreRefused"}, "no-such-bucket", "create")


def test_keys_that_the_store_refuses(place: Place) -> None:
    says(place, "wrong-secret", "Accepted", {"StoreRefused"}, "credentials from Secret wrong-keys")


def test_a_secret_that_does_not_exist_and_then_does(place: Place) -> None:
    words = ("Secret nowhere does not exist in namespace e2e-refused", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    says(place, "missing-secret", "Accepted", {"SecretMissing"}, *words)
    access, secret = place.bucket.keys
    place.apply("Secret", "v1", "nowhere", stringData={"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret})
    place.until_phase("missing-secret", Phase.PROVISIONING)
    place.delete("workflow", "missing-secret")


def test_a_file_that_would_hide_the_library(place: Place) -> None:
    words = ("ConfigMap shadowing", "'workflow.py' would hide the module 'workflow'", "give it another name")
    says(place, "own-workflow-module", "Accepted", {"CodeRefused"}, *words)


def test_a_raycluster_that_the_api_server_refuses(place: Place) -> None:
    says(
        place, "refused-by-the-api", "ClusterReady", {"RayClusterRefused"}, "spec.headGroupSpec.rayStartParams.num-cpus"
    )


def test_a_raycluster_that_kuberay_refuses(place: Place) -> None:
    says(place, "refused-by-kuberay", "ClusterReady", CORRECTABLE["refused-by-kuberay"], WRONG_BOUNDS)


def test_an_image_that_cannot_be_pulled(place: Place) -> None:
    seen = says(place, "absent-image", "ClusterReady", CORRECTABLE["absent-image"], ABSENT_IMAGE)
    assert seen.state.phase is Phase.PROVISIONING


@pytest.mark.parametrize("name", CORRECTABLE)
def test_a_corrected_template_is_taken_at_once(corrected: Place, name: str) -> None:
    done = corrected.until_phase(name, Phase.SUCCEEDED, BOOT_SECONDS)
    assert done.state.result == "one of plain"
    assert done.state.attempt == (1 if name == "refused-by-the-api" else 2), "a cluster that stood was replaced"


def test_a_missing_configmap_is_waited_for(shared: Place) -> None:
    shared.create("waits", "flows:short", "later", cluster={"selector": {"matchLabels": {"team": "e2e"}}})
    says(shared, "waits", "Accepted", {"ConfigMapMissing"}, "ConfigMap later does not exist", "create it with the code")
    shared.code("later", {"flows.py": FLOWS})
    shared.until_phase("waits", Phase.SUCCEEDED, timeout=BOOT_SECONDS)
