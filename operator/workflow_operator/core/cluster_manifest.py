"""The RayCluster of an attempt, made from the author's template: what is added is what recovery and security need.

Called by `decide`; pure. What the author wrote is never edited in place, and a template that cannot work is refused in
words, because a RayCluster that KubeRay refuses gets only a Warning event.
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
KEEP_HEAD_DOWN = "ray.io/disable-provisioned-head-restart"
OLDEST_WITH_TOKEN = (2, 52)
_WHERE = "spec.cluster.template.spec"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why no RayCluster can be made of a template, and what to write instead."""

    message: str


@dataclass(frozen=True, slots=True)
class ClusterRequest:
    """Whose RayCluster it is to be.

    Attributes:
        name, namespace, uid: the Workflow's.
        labels: the Workflow's; Kueue's queue is passed on.
        attempt: from 1.
        secret: the storage Secret, or empty.
        auth: whether the cluster asks for a token.
    """

    name: str
    namespace: str
    uid: str
    labels: dict[str, str]
    attempt: int
    secret: str
    auth: Auth


def build(template: ClusterTemplate, request: ClusterRequest) -> dict[str, Any] | Refusal:
    """The RayCluster as JSON.

    Args:
        template: the author's.
        wish: whose it is to be.
    """
    spec = copy.deepcopy(template.spec)
    refusal = _shape(spec) or _authentication(spec, request.auth)
    if refusal:
        return refusal
    labels = names.cluster_labels(request.name, request.uid, request.attempt)
    spec["headGroupSpec"]["template"]["spec"]["restartPolicy"] = "Never"
    for pod in _pod_templates(spec):
        _complete_pod(pod, labels, request.secret)
    queue = {KUEUE_QUEUE: request.labels[KUEUE_QUEUE]} if KUEUE_QUEUE in request.labels else {}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {
            "name": names.cluster_name(request.name, request.uid, request.attempt),
            "namespace": request.namespace,
            "labels": {**queue, **template.metadata.labels, **labels, names.TEMPLATE_LABEL: digest(template)},
            "annotations": {**template.metadata.annotations, KEEP_HEAD_DOWN: "true"},
            "ownerReferences": [_owner(request)],
        },
        "spec": spec,
    }


def digest(template: ClusterTemplate) -> str:
    """What a RayCluster was made from, as a label: it tells whether the template was changed since."""
    text = json.dumps(template.model_dump(mode="json"), sort_keys=True)
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


def _shape(spec: dict[str, Any]) -> Refusal | None:
    head = spec.get("headGroupSpec")
    if not isinstance(head, dict):
        return Refusal(
            f"{_WHERE}.headGroupSpec is missing: write it as in a RayCluster, with a pod template for the head"
        )
    workers = spec.get("workerGroupSpecs", [])
    if not isinstance(workers, list):
        return Refusal(f"{_WHERE}.workerGroupSpecs must be a list of worker groups")
    groups = [("headGroupSpec", head), *((f"workerGroupSpecs[{i}]", group) for i, group in enumerate(workers))]
    for where, group in groups:
        containers = _dig(group, "template", "spec", "containers")
        if not isinstance(containers, list) or not containers or not all(isinstance(c, dict) for c in containers):
            return Refusal(f"{_WHERE}.{where}.template.spec.containers must list the Ray container first")
    return None


def _authentication(spec: dict[str, Any], auth: Auth) -> Refusal | None:
    image = str(spec["headGroupSpec"]["template"]["spec"]["containers"][0].get("image", ""))
    written = str(spec.get("rayVersion") or "")
    known = written or _version_of_tag(image)
    if known:
        spec["rayVersion"] = known
    options = spec.get("authOptions")
    options = dict(options) if isinstance(options, dict) else {}
    spec["authOptions"] = {**options, "mode": "token" if auth is Auth.TOKEN else "disabled"}
    if auth is Auth.DISABLED:
        return None
    numbers = re.match(r"(\d+)\.(\d+)", known)
    remedy = "or write spec.auth: Disabled, which lets whoever reaches the head run code there"
    if not numbers:
        return Refusal(
            f"the Ray version of image {image!r} cannot be told from its tag: write {_WHERE}.rayVersion, 2.52 or newer "
            f"for a cluster that asks for a token, {remedy}"
        )
    if (int(numbers[1]), int(numbers[2])) < OLDEST_WITH_TOKEN:
        return Refusal(f"Ray {known} cannot ask for a token: use an image with Ray 2.52 or newer, {remedy}")
    return None


def _version_of_tag(image: str) -> str:
    """`2.60.0` of `rayproject/ray:2.60.0-py311-cpu`; empty where the tag does not begin with a version."""
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    version = re.match(r"v?(\d+\.\d+(?:\.\d+)?)", tag)
    return version[1] if version else ""


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


def _dig(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value
