"""RayClusters and their pods: the port `core.ports.Clusters`, and the translation of their JSON into values.

The status that KubeRay writes is not enough: `status.state` stays `ready` after the head has died. So a view combines
the conditions of the cluster, the identity of the head pod, and the pod statuses that the kubelet writes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

from workflow_operator.adapters.kube import EVENTS, PODS, RAYCLUSTERS, Kube, Object, event_time
from workflow_operator.adapters.pod_status import (
    GROUP_LABEL,
    conditions_of,
    is_ready,
    pod_problem,
    ray_container,
    ray_container_names,
    sidecars_not_ready,
    why_ended,
)
from workflow_operator.adapters.worker_pods import DELETED_WORKER, lacks_workers, workers_view
from workflow_operator.api.base import parse_time
from workflow_operator.api.status import HeadIdentity
from workflow_operator.core.names import UID_LABEL
from workflow_operator.core.observation import ClusterView, Disruption, HeadView
from workflow_operator.errors import ConflictError

CLUSTER_LABEL = "ray.io/cluster"
TYPE_LABEL = "ray.io/node-type"

NODE_LOST = "NodeLost"
DISRUPTION_EVENTS = {
    "Preempted": "PreemptionByScheduler",
    "TaintManagerEviction": "DeletionByTaintManager",
    "NodeNotReady": NODE_LOST,
}
"""Reasons of the events on a pod that Kubernetes ended, and the reasons of the condition DisruptionTarget for them."""

_NODE_PRESSURE = "The node was low on resource"
"""Start of the message of an eviction by the kubelet that the pod itself did not cause."""


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

    async def disruption(self, namespace: str, pod_uid: str) -> Disruption | None:
        """Return why Kubernetes ended a pod that is gone, according to its events, or None."""
        found = await self._kube.list(EVENTS, namespace, {}, fields={"involvedObject.uid": pod_uid})
        return disruption_of_events(found)

    async def _view(self, namespace: str, cluster: Object) -> ClusterView:
        name, uid = cluster["metadata"]["name"], cluster["metadata"]["uid"]
        pods = await self._kube.list(PODS, namespace, {CLUSTER_LABEL: name})
        pods = [pod for pod in pods if _owner_uid(pod) in ("", uid)]
        warning, deleted = "", []
        if not any(_is_head(pod) for pod in pods):  # KubeRay rejects a spec before it creates a head pod
            selector = {"involvedObject.uid": uid, "type": "Warning"}
            warning = newest_warning(await self._kube.list(EVENTS, namespace, {}, fields=selector))
        elif lacks_workers(cluster.get("status") or {}, (pod for pod in pods if not _is_head(pod))):
            selector = {"involvedObject.uid": uid, "reason": DELETED_WORKER}
            deleted = await self._kube.list(EVENTS, namespace, {}, fields=selector)
        return cluster_view(cluster, pods, warning, deleted)


def cluster_view(
    cluster: Object, pods: Collection[Object], warning: str = "", deleted: Iterable[Object] = ()
) -> ClusterView:
    """Return a RayCluster with its pods as one value.

    Args:
        cluster: the JSON of the RayCluster.
        pods: the JSON of the pods that belong to it.
        warning: the newest Warning event on it, or empty.
        deleted: the events about workers that KubeRay deleted.
    """
    meta, spec, status = cluster["metadata"], cluster.get("spec") or {}, cluster.get("status") or {}
    conditions = conditions_of(cluster)
    suspended = any(_true(conditions, kind) for kind in ("RayClusterSuspended", "RayClusterSuspending"))
    heads = sorted((pod for pod in pods if _is_head(pod)), key=_age_order)
    workers = sorted((pod for pod in pods if not _is_head(pod)), key=_age_order)
    names = ray_container_names(spec)
    problems = (pod_problem(pod, names.get(_group(pod), "")) for pod in (*heads, *workers))
    return ClusterView(
        name=meta["name"],
        uid=meta["uid"],
        created=_seconds(meta["creationTimestamp"]),
        labels=meta.get("labels") or {},
        owner_uid=_owner_uid(cluster),
        ready=_true(conditions, "RayClusterProvisioned") and _true(conditions, "HeadPodReady"),
        was_ready=_true(conditions, "RayClusterProvisioned"),
        suspended=bool(spec.get("suspend")) or suspended,
        failed=_failure(status, conditions),
        deleting="deletionTimestamp" in meta,
        warning=warning,
        pod_problem=next(filter(None, problems), None),
        head=head_view(heads[0], names["head"]) if heads else None,
        token_secret=_token_secret(meta["name"], spec),
        workers=workers_view(status, workers, names, deleted),
    )


def head_view(pod: Object, ray_name: str = "") -> HeadView:
    """Return a head pod as a value.

    Args:
        pod: the JSON of the pod.
        ray_name: the name of the Ray container in the template, or empty.
    """
    meta, status = pod["metadata"], pod.get("status") or {}
    ray = ray_container(pod, ray_name)
    ended = (ray.get("state") or {}).get("terminated") or {}
    started = ((ray.get("state") or {}).get("running") or {}).get("startedAt")
    conditions = conditions_of(pod)
    return HeadView(
        pod_name=meta["name"],
        identity=HeadIdentity(pod_uid=meta["uid"], container_id=ray.get("containerID") or ""),
        ip=pod_address(status),
        phase=status.get("phase") or "Pending",
        running="running" in (ray.get("state") or {}),
        ready=is_ready(pod, ray_name),
        deleting="deletionTimestamp" in meta,
        reason=status.get("reason") or ended.get("reason") or "",
        disruption=disruption_of(pod),
        node_lost=_is_node_lost(status, conditions),
        detail=why_ended(pod, ray_name),
        sidecars=sidecars_not_ready(pod, ray_name),
        started=_seconds(started) if started else None,
    )


def pod_address(status: Mapping[str, Any]) -> str:
    """Return the IPv4 address of a pod, or its IPv6 address if it has no other; empty if it has none yet.

    KubeRay starts the dashboard of a head on 0.0.0.0, which accepts IPv4 only. The first address of a pod in a
    dual-stack cluster may be an IPv6 address.
    """
    addresses = [str(each.get("ip") or "") for each in status.get("podIPs") or ()]
    candidates = [each for each in addresses if each] or [str(status.get("podIP") or "")]
    return next((each for each in candidates if ":" not in each), candidates[0])


def disruption_of(pod: Object) -> Disruption | None:
    """Return why Kubernetes ends a pod, by its condition DisruptionTarget, or None."""
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            return Disruption(condition.get("reason") or "DisruptionTarget", condition.get("message") or "")
    return None


def disruption_of_events(events: Iterable[Object]) -> Disruption | None:
    """Return why Kubernetes ended a pod, by the newest event on it that shows this, or None."""
    for event in sorted(events, key=event_time, reverse=True):
        reason, message = str(event.get("reason")), str(event.get("message") or "")
        known = DISRUPTION_EVENTS.get(reason)
        if reason == "Evicted" and message.startswith(_NODE_PRESSURE):
            known = "TerminationByKubelet"
        if known:
            return Disruption(known, message, node_lost=known == NODE_LOST)
    return None


def _is_node_lost(status: Mapping[str, Any], conditions: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether the node controller set the pod to not Ready. The kubelet would also have reported the containers.

    The kubelet always gives a reason for a pod that is not Ready, and the node controller gives none.
    """
    if status.get("reason") == NODE_LOST:
        return True
    ready = conditions.get("Ready") or {}
    unexplained = ready.get("status") in ("False", "Unknown") and not ready.get("reason")
    return unexplained and _true(conditions, "ContainersReady")


def newest_warning(events: Iterable[Object]) -> str:
    """Return `reason: message` of the newest event, or empty."""
    last = max(events, key=event_time, default=None)
    return f"{last.get('reason')}: {last.get('message')}" if last else ""


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


def _group(pod: Object) -> str:
    """Return the key of a pod in the names of the Ray containers."""
    return "head" if _is_head(pod) else (pod["metadata"].get("labels") or {}).get(GROUP_LABEL, "")


def _owner_uid(found: Object) -> str:
    owners = found["metadata"].get("ownerReferences") or ()
    return next((str(each["uid"]) for each in owners if each.get("controller")), "")


def _age_order(pod: Object) -> tuple[bool, float]:
    """Sort key: the newest pod first, and pods that are being deleted last."""
    meta = pod["metadata"]
    return "deletionTimestamp" in meta, -_seconds(meta["creationTimestamp"])


def _seconds(time: str) -> float:
    return float(parse_time(time))
