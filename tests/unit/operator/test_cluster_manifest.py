"""The RayCluster of an attempt: additions to the user's template, preserved fields, and invalid templates."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.unit.operator.build import TEMPLATE, UID
from workflow_operator.api.spec import Auth, ClusterMetadata, ClusterTemplate
from workflow_operator.core.cluster_manifest import KUEUE_QUEUE, ClusterRequest, Refusal, build, digest

WORKER = {"groupName": "small", "template": {"spec": {"containers": [{"name": "ray-worker"}, {"name": "sidecar"}]}}}


def request(**changes: Any) -> ClusterRequest:
    plain = {"name": "trip", "namespace": "team", "uid": UID, "labels": {}, "attempt": 2, "secret": "store"}
    return ClusterRequest(**{**plain, "auth": Auth.TOKEN, **changes})


def template(
    metadata: ClusterMetadata | None = None, image: str = "rayproject/ray:2.60.0", **spec: Any
) -> ClusterTemplate:
    written = copy.deepcopy(TEMPLATE) | spec
    if "headGroupSpec" not in spec:
        written["headGroupSpec"]["template"]["spec"]["containers"][0]["image"] = image
    return ClusterTemplate(metadata=metadata or ClusterMetadata(), spec=written)


def created(template_: ClusterTemplate, request_: ClusterRequest | None = None) -> dict[str, Any]:
    manifest = build(template_, request_ or request())
    assert isinstance(manifest, dict), manifest
    return manifest


def test_head_is_never_restarted_under_the_old_name() -> None:
    written = copy.deepcopy(TEMPLATE["headGroupSpec"])
    written["template"]["spec"]["restartPolicy"] = "Always"
    manifest = created(template(headGroupSpec=written))
    assert manifest["metadata"]["annotations"]["ray.io/disable-provisioned-head-restart"] == "true"
    assert manifest["spec"]["headGroupSpec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_cluster_has_name_labels_and_owner() -> None:
    metadata = created(template())["metadata"]
    assert (metadata["name"], metadata["namespace"]) == ("trip-9f3c1a2b00-2", "team")
    assert metadata["labels"]["rayworkflow.dev/workflow-uid"] == UID
    assert metadata["labels"]["rayworkflow.dev/attempt"] == "2"
    (owner,) = metadata["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Workflow", UID, True)


def test_template_label_changes_with_the_template() -> None:
    label = created(template())["metadata"]["labels"]["rayworkflow.dev/template"]
    assert label == digest(template())
    assert label != digest(template(rayVersion="2.61.0"))


def test_every_container_gets_the_storage_secret_once() -> None:
    spec = created(template(workerGroupSpecs=[copy.deepcopy(WORKER)]))["spec"]
    pods = [spec["headGroupSpec"]["template"], spec["workerGroupSpecs"][0]["template"]]
    for container in [container for pod in pods for container in pod["spec"]["containers"]]:
        assert container["envFrom"] == [{"secretRef": {"name": "store"}}]
    again = created(ClusterTemplate(spec=spec))["spec"]
    assert len(again["headGroupSpec"]["template"]["spec"]["containers"][0]["envFrom"]) == 1


def test_containers_are_unchanged_without_a_secret() -> None:
    spec = created(template(), request(secret=""))["spec"]
    assert "envFrom" not in spec["headGroupSpec"]["template"]["spec"]["containers"][0]


def test_pods_have_the_label_of_the_attempt() -> None:
    pod = created(template())["spec"]["headGroupSpec"]["template"]
    assert pod["metadata"]["labels"]["rayworkflow.dev/attempt"] == "2"


def test_template_is_not_changed() -> None:
    given = template(workerGroupSpecs=[copy.deepcopy(WORKER)])
    before = copy.deepcopy(given.spec)
    created(given)
    assert given.spec == before


@pytest.mark.parametrize("place", ["workflow", "template"])
def test_kueue_queue_label_is_copied_to_the_cluster(place: str) -> None:
    queue = {KUEUE_QUEUE: "research"}
    given = template(ClusterMetadata(labels=queue)) if place == "template" else template()
    manifest = created(given, request(labels=queue if place == "workflow" else {"other": "label"}))
    assert manifest["metadata"]["labels"][KUEUE_QUEUE] == "research"
    assert "other" not in manifest["metadata"]["labels"]


@pytest.mark.parametrize(
    ("image", "version"),
    [
        pytest.param("rayproject/ray:2.60.0", "2.60.0", id="plain"),
        pytest.param("rayproject/ray:2.52.1-py311-gpu", "2.52.1", id="with more in the tag"),
        pytest.param("registry:5000/team/ray:v2.60", "2.60", id="port and v"),
        pytest.param("ray:2.60.0@sha256:abc", "2.60.0", id="digest"),
    ],
)
def test_ray_version_comes_from_the_image_tag(image: str, version: str) -> None:
    spec = created(template(image=image))["spec"]
    assert spec["rayVersion"] == version
    assert spec["authOptions"] == {"mode": "token"}


def test_explicit_ray_version_takes_precedence() -> None:
    assert created(template(image="mine:latest", rayVersion="2.60.0"))["spec"]["rayVersion"] == "2.60.0"


@pytest.mark.parametrize("image", ["mine:latest", "mine", "ray:2.47.1"], ids=["no version", "no tag", "too old"])
def test_any_ray_version_is_accepted_without_auth(image: str) -> None:
    spec = created(template(image=image), request(auth=Auth.DISABLED))["spec"]
    assert spec["authOptions"]["mode"] == "disabled"


REFUSED = {
    "no head": (ClusterTemplate(spec={}), "headGroupSpec is missing"),
    "head is a list": (template(headGroupSpec=[]), "headGroupSpec is missing"),
    "no containers": (template(headGroupSpec={"template": {}}), "headGroupSpec.template.spec.containers"),
    "workers are a map": (template(workerGroupSpecs={}), "workerGroupSpecs must be a list"),
    "worker without pod": (template(workerGroupSpecs=[{}]), "workerGroupSpecs[0].template.spec.containers"),
    "unknown version": (template(image="mine:latest"), "write spec.cluster.template.spec.rayVersion"),
    "version too old": (template(image="ray:2.47.1"), "Ray 2.47.1 cannot require a token"),
}


@pytest.mark.parametrize(("given", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_invalid_template_is_refused_with_an_explanation(given: ClusterTemplate, message: str) -> None:
    refusal = build(given, request())
    assert isinstance(refusal, Refusal)
    assert message in refusal.message
