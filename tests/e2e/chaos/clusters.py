"""Watches the RayClusters of a namespace, to see which of them are deleted although their head is healthy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from dev.kube import Object
from tests.e2e.kubectl import Kubectl
from tests.e2e.watches import watching


@dataclass(frozen=True)
class Deletion:
    """The first time that a RayCluster was seen with a deletionTimestamp.

    Attributes:
        cluster: the name of the RayCluster.
        workflow: the name of the Workflow that it was created for, or empty.
        at: seconds since 1970.
        head: why its head was unhealthy at that time, or empty if the head was Ready.
    """

    cluster: str
    workflow: str
    at: float
    head: str


@dataclass
class ClusterWatch:
    """Records deletions of RayClusters while a block of `watching()` runs.

    Attributes:
        deletions: by the name of the RayCluster.
        created: the names of all RayClusters that existed.
    """

    kubectl: Kubectl
    namespace: str
    deletions: dict[str, Deletion] = field(default_factory=dict)
    created: set[str] = field(default_factory=set)
    _heads: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def watching(self) -> Iterator[ClusterWatch]:
        """Watch while the block runs."""
        with (
            watching(self.kubectl, self.namespace, "rayclusters", self._take_cluster),
            watching(self.kubectl, self.namespace, "pods", self._take_pod),
        ):
            yield self

    def _take_cluster(self, kind: str, cluster: Object) -> None:
        name = cluster["metadata"]["name"]
        self.created.add(name)
        if "deletionTimestamp" in cluster["metadata"] or kind == "DELETED":
            workflow = (cluster["metadata"].get("labels") or {}).get("rayworkflow.dev/workflow", "")
            head = self._heads.get(name, "it has no head pod")
            self.deletions.setdefault(name, Deletion(name, workflow, time.time(), head))

    def _take_pod(self, kind: str, pod: Object) -> None:
        labels = pod["metadata"].get("labels") or {}
        if labels.get("ray.io/node-type") == "head":
            self._heads[labels["ray.io/cluster"]] = "its head pod was deleted" if kind == "DELETED" else unhealthy(pod)


def unhealthy(pod: Object) -> str:
    """Return why a head pod is unhealthy, or empty if it is Ready."""
    if "deletionTimestamp" in pod["metadata"]:
        return "its head pod is being deleted"
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions") or ()}
    return "" if conditions.get("Ready") == "True" else "its head pod is not Ready"
