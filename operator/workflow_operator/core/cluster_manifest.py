"""Builds the RayCluster of an attempt from the user's template, with additions for recovery and security.

`decide` calls it. It never changes the template in place. It refuses an invalid template with an explanation, because
KubeRay reports an invalid RayCluster only in a Warning event.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from workflow_operator.api import API_VERSION, KIND
from workflow_operator.api.spec import Auth, ClusterTemplate
from workflow_operator.core import names

KUEUE_QUEUE = "kueue.x-k8s.io/queue-name"
NO_HEAD_RESTART = "ray.io/disable-provisioned-head-restart"
OLDEST_WITH_TOKEN = (2, 52)
_SPEC_PATH = "spec.cluster.template.spec"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a template is invalid, and what to write instead."""

    message: str


@dataclass(frozen=True, slots=True)
class ClusterRequest:
    """The Workflow and the attempt that need a RayCluster.

    Attributes:
        name: the name of the Workflow.
        namespace: the namespace of the Workflow.
        uid: the uid of the Workflow.
        labels: the labels of the Workflow; the RayCluster gets the label of the Kueue queue.
        attempt: the submission attempt, counted from 1.
        secret: the name of the storage Secret, or empty.
        auth: whether the cluster requires a token.
        cluster: the name that the status recorded for the RayCluster; empty if it gets a new one. An older operator
            may have recorded a name of another form.
    """

    name: str
    namespace: str
    uid: str
    labels: dict[str, str]
    attempt: int
    secret: str
    auth: Auth
    cluster: str = ""


def build(template: ClusterTemplate, request: ClusterRequest) -> dict[str, Any] | Refusal:
    """Build a RayCluster as JSON.

    Args:
        template: the template in the spec of the Workflow.
        request: the Workflow and the attempt that need the RayCluster.

    Returns:
        The RayCluster, or why the template is invalid.
    """
    spec = copy.deepcopy(template.spec)
    refusal = _invalid_structure(spec) or _set_authentication(spec, request.auth)
    if refusal:
        return refusal
    labels = names.cluster_labels(request.name, request.uid, request.attempt)
    # Together with NO_HEAD_RESTART below, this prevents that an empty head starts under the name of a lost one.
    spec["headGroupSpec"]["template"]["spec"]["restartPolicy"] = "Never"
    for pod in _pod_templates(spec):
        _complete_pod(pod, labels, request.secret)
    queue = {KUEUE_QUEUE: request.labels[KUEUE_QUEUE]} if KUEUE_QUEUE in request.labels else {}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {
            "name": request.cluster or names.cluster_name(request.name, request.uid, request.attempt),
            "namespace": request.namespace,
            "labels": {
                **queue,
                **template.metadata.labels,
                **labels,
                names.TEMPLATE_LABEL: digest(template, request.auth),
            },
            "annotations": {**template.metadata.annotations, NO_HEAD_RESTART: "true"},
            "ownerReferences": [_owner(request)],
        },
        "spec": spec,
    }


def digest(template: ClusterTemplate, auth: Auth = Auth.TOKEN) -> str:
    """Return the digest of a template and `spec.auth`. As a label of a RayCluster, it shows whether they changed."""
    text = json.dumps(template.model_dump(mode="json"), sort_keys=True) + ("" if auth is Auth.TOKEN else auth.value)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _owner(request: ClusterRequest) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": request.name,
        "uid": request.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _invalid_structure(spec: dict[str, Any]) -> Refusal | None:
    head = spec.get("headGroupSpec")
    if not isinstance(head, dict):
        return Refusal(
            f"{_SPEC_PATH}.headGroupSpec is missing: write it as in a RayCluster, with a pod template for the head"
        )
    workers = spec.get("workerGroupSpecs", [])
    if not isinstance(workers, list):
        return Refusal(f"{_SPEC_PATH}.workerGroupSpecs must be a list of worker groups")
    groups = [("headGroupSpec", head), *((f"workerGroupSpecs[{i}]", group) for i, group in enumerate(workers))]
    for path, group in groups:
        containers = _get_nested(group, "template", "spec", "containers")
        if not isinstance(containers, list) or not containers or not all(isinstance(c, dict) for c in containers):
            return Refusal(f"{_SPEC_PATH}.{path}.template.spec.containers must list the Ray container first")
    return None


def _set_authentication(spec: dict[str, Any], auth: Auth) -> Refusal | None:
    image = str(spec["headGroupSpec"]["template"]["spec"]["containers"][0].get("image", ""))
    version = str(spec.get("rayVersion") or "") or _version_in_tag(image)
    if version:
        spec["rayVersion"] = version
    options = spec.get("authOptions")
    options = dict(options) if isinstance(options, dict) else {}
    spec["authOptions"] = {**options, "mode": "token" if auth is Auth.TOKEN else "disabled"}
    if auth is Auth.DISABLED:
        return None
    numbers = re.match(r"(\d+)\.(\d+)", version)
    alternative = "or set spec.auth to Disabled, which lets any client that can connect to the head run code there"
    if not numbers:
        return Refusal(
            f"the tag of image {image!r} does not show the Ray version: write {_SPEC_PATH}.rayVersion, 2.52 or newer "
            f"for a cluster that requires a token, {alternative}"
        )
    if (int(numbers[1]), int(numbers[2])) < OLDEST_WITH_TOKEN:
        return Refusal(f"Ray {version} cannot require a token: use an image with Ray 2.52 or newer, {alternative}")
    return None


def _version_in_tag(image: str) -> str:
    """Return `2.60.0` for `rayproject/ray:2.60.0-py311-cpu`; empty if the tag does not start with a version."""
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    found = re.match(r"v?(\d+\.\d+(?:\.\d+)?)", tag)
    return found[1] if found else ""


def _pod_templates(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield spec["headGroupSpec"]["template"]
    for group in spec.get("workerGroupSpecs", []):
        yield group["template"]


def _complete_pod(pod: dict[str, Any], labels: dict[str, str], secret: str) -> None:
    metadata = pod.get("metadata")
    metadata = dict(metadata) if isinstance(metadata, dict) else {}
    metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
    pod["metadata"] = metadata
    if not secret:
        return
    for container in pod["spec"]["containers"]:
        sources = list(container.get("envFrom") or [])
        source = {"secretRef": {"name": secret}}
        container["envFrom"] = sources if source in sources else [*sources, source]


def _get_nested(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value
