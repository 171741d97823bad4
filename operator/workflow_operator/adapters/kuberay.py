"""RayClusters and their pods: the port `core.ports.Clusters`, and the translation of their JSON into values.

The status that KubeRay writes is not enough: `status.state` stays `ready` after the head has died. So a view combines
the conditions of the cluster, the identity of the head pod, and the pod statuses that the kubelet writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from workflow_operator.adapters.kube import EVENTS, PODS, RAYCLUSTERS, Kube, Object
from workflow_operator.api.base import parse_time
from workflow_operator.api.status import HeadIdentity
from workflow_operator.core.names import UID_LABEL
from workflow_operator.core.observation import ClusterView, HeadView, PodProblem
from workflow_operator.errors import ConflictError

CLUSTER_LABEL = "ray.io/cluster"
TYPE_LABEL = "ray.io/node-type"
STARTING_REASONS = frozenset({"", "ContainerCreating", "PodInitializing"})
"""Reasons of a waiting container that starts normally."""


class KubeRayClusters:
    """Implements the port with the Kubernetes API."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    async def owned(self, namespace: str, uid: str) -> tuple[ClusterView, ...]:
        """Return all RayClusters with this Workflow uid in their label."""
        return await self.matching(namespace, {UID_LABEL: uid})

    async def named(self, namespace: str, name: str) -> ClusterView | None:
        """Return the RayCluster of this name, or None."""
        found = await self._kube.get(RAYCLUSTERS, namespace, name)
        return None if found is None else await self._view(namespace, found)

    async def matching(self, namespace: str, labels: Mapping[str, str]) -> tuple[ClusterView, ...]:
        """Return all RayClusters with these labels, sorted by name."""
        found = await self._kube.list(RAYCLUSTERS, namespace, labels)
        return tuple(
            [await self._view(namespace, each) for each in sorted(found, key=lambda each: each["metadata"]["name"])]
        )

    async def create(self, namespace: str, manifest: Mapping[str, Any]) -> None:
        """Create a RayCluster. If one of this name exists, leave it unchanged.

        Raises:
            RefusedError: the API server rejected the manifest; the text contains its message.
        """
        with suppress(ConflictError):  # the next reconciliation reads whose cluster it is
            await self._kube.create(RAYCLUSTERS, namespace, dict(manifest))

    async def delete(self, namespace: str, name: str, uid: str) -> None:
        """Delete the RayCluster with this uid. If it no longer exists or has another uid, do nothing."""
        await self._kube.delete(RAYCLUSTERS, namespace, name, uid)

    async def _view(self, namespace: str, cluster: Object) -> ClusterView:
        name, uid = cluster["metadata"]["name"], cluster["metadata"]["uid"]
        pods = await self._kube.list(PODS, namespace, {CLUSTER_LABEL: name})
        pods = [pod for pod in pods if _owner_uid(pod) in ("", uid)]
        warning = ""
        if not any(_is_head(pod) for pod in pods):  # KubeRay rejects a spec before it creates a head pod
            selector = {"involvedObject.uid": uid, "type": "Warning"}
            warning = newest_warning(await self._kube.list(EVENTS, namespace, {}, fields=selector))
        return cluster_view(cluster, pods, warning)


def cluster_view(cluster: Object, pods: Iterable[Object], warning: str = "") -> ClusterView:
    """Return a RayCluster with its pods as one value.

    Args:
        cluster: the JSON of the RayCluster.
        pods: the JSON of the pods that belong to it.
        warning: the newest Warning event on it, or empty.
    """
    meta, spec, status = cluster["metadata"], cluster.get("spec") or {}, cluster.get("status") or {}
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    suspended = any(_true(conditions, kind) for kind in ("RayClusterSuspended", "RayClusterSuspending"))
    heads = sorted((pod for pod in pods if _is_head(pod)), key=_age_order)
    workers = sorted((pod for pod in pods if not _is_head(pod)), key=_age_order)
    return ClusterView(
        name=meta["name"],
        uid=meta["uid"],
        created=_seconds(meta["creationTimestamp"]),
        labels=meta.get("labels") or {},
        owner_uid=_owner_uid(cluster),
        ready=_true(conditions, "RayClusterProvisioned") and _true(conditions, "HeadPodReady"),
        suspended=bool(spec.get("suspend")) or suspended,
        failed=_failure(status, conditions),
        deleting="deletionTimestamp" in meta,
        warning=warning,
        pod_problem=next(filter(None, map(pod_problem, [*heads, *workers])), None),
        head=head_view(heads[0]) if heads else None,
        token_secret=_token_secret(meta["name"], spec),
    )


def head_view(pod: Object) -> HeadView:
    """Return a head pod as a value."""
    meta, status = pod["metadata"], pod.get("status") or {}
    ray = _ray_container(pod)
    ended = (ray.get("state") or {}).get("terminated") or {}
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    return HeadView(
        pod_name=meta["name"],
        identity=HeadIdentity(pod_uid=meta["uid"], container_id=ray.get("containerID") or ""),
        ip=pod_address(status),
        phase=status.get("phase") or "Pending",
        running="running" in (ray.get("state") or {}),
        ready=_true(conditions, "Ready"),
        deleting="deletionTimestamp" in meta,
        reason=status.get("reason") or ended.get("reason") or "",
    )


def pod_address(status: Mapping[str, Any]) -> str:
    """Return the IPv4 address of a pod, or its IPv6 address if it has no other; empty if it has none yet.

    KubeRay starts the dashboard of a head on 0.0.0.0, which accepts IPv4 only. The first address of a pod in a
    dual-stack cluster may be an IPv6 address.
    """
    addresses = [str(each.get("ip") or "") for each in status.get("podIPs") or ()]
    candidates = [each for each in addresses if each] or [str(status.get("podIP") or "")]
    return next((each for each in candidates if ":" not in each), candidates[0])


def pod_problem(pod: Object) -> PodProblem | None:
    """Return why a pod does not start, with the reason that Kubernetes gives, or None."""
    meta, status = pod["metadata"], pod.get("status") or {}
    since = _seconds(meta["creationTimestamp"])
    for kind in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(kind) or ():
            waiting = (container.get("state") or {}).get("waiting") or {}
            reason = waiting.get("reason") or ""
            if reason not in STARTING_REASONS:
                text = f"pod {meta['name']}, image {container.get('image')}: {waiting.get('message') or reason}"
                return PodProblem(reason, text, since)
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            text = f"pod {meta['name']}: {condition.get('message') or ''}"
            return PodProblem(
                condition.get("reason") or "Unschedulable", text, _seconds(condition["lastTransitionTime"])
            )
    if status.get("phase") == "Failed":
        text = f"pod {meta['name']}: {status.get('message') or 'the pod failed'}"
        return PodProblem(status.get("reason") or "Failed", text, since)
    return None


def newest_warning(events: Iterable[Object]) -> str:
    """Return `reason: message` of the newest event, or empty."""
    last = max(events, key=lambda each: str(each.get("lastTimestamp") or each.get("eventTime") or ""), default=None)
    return f"{last.get('reason')}: {last.get('message')}" if last else ""


def _ray_container(pod: Object) -> Mapping[str, Any]:
    """Return the status of the Ray container, which is the first container in the pod's spec."""
    name = pod["spec"]["containers"][0]["name"]
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((each for each in statuses if each["name"] == name), {})


def _failure(status: Mapping[str, Any], conditions: Mapping[str, Mapping[str, Any]]) -> str:
    if _true(conditions, "ReplicaFailure"):
        failure = conditions["ReplicaFailure"]
        return f"{failure.get('reason')}: {failure.get('message')}"
    if status.get("state") == "failed":
        return str(status.get("reason") or "KubeRay reports that the cluster failed")
    return ""


def _token_secret(name: str, spec: Mapping[str, Any]) -> str:
    auth = spec.get("authOptions") or {}
    return str(auth.get("secretName") or name) if auth.get("mode") == "token" else ""


def _true(conditions: Mapping[str, Mapping[str, Any]], kind: str) -> bool:
    return (conditions.get(kind) or {}).get("status") == "True"


def _is_head(pod: Object) -> bool:
    return (pod["metadata"].get("labels") or {}).get(TYPE_LABEL) == "head"


def _owner_uid(found: Object) -> str:
    owners = found["metadata"].get("ownerReferences") or ()
    return next((str(each["uid"]) for each in owners if each.get("controller")), "")


def _age_order(pod: Object) -> tuple[bool, float]:
    """Sort key: the newest pod first, and pods that are being deleted last."""
    meta = pod["metadata"]
    return "deletionTimestamp" in meta, -_seconds(meta["creationTimestamp"])


def _seconds(time: str) -> float:
    return float(parse_time(time))
