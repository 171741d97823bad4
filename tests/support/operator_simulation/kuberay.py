"""KubeRay and the kubelets of the simulation. They give each RayCluster a head pod, a token and conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.operator_simulation.heads import Head
from tests.support.simulation.loop import Process
from workflow_operator.adapters.kube import Object
from workflow_operator.core.names import UID_LABEL

if TYPE_CHECKING:
    from tests.support.operator_simulation.world import World

ACTOR = "kuberay"
RETRY_SECONDS = 3.0
TOKEN = {"auth_token": "dG9rZW4="}


class KubeRay:
    """The controller of RayClusters and their head pods.

    Args:
        world: the simulation.

    Attributes:
        quota: the text of the refusal of new pods, or empty.
        image_missing: whether new heads wait for their image.
        replaces_heads: whether a lost head of a Workflow's cluster is replaced by an empty one.
        linger_seconds: how long a deleted RayCluster keeps its deletionTimestamp.
        queued: whether new RayClusters are suspended in a queue.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.quota = ""
        self.image_missing = False
        self.replaces_heads = False
        self.linger_seconds = 0.0
        self.queued = False
        self._numbers = 0
        world.api.hooks.append(self._changed)

    def head_of(self, cluster: str) -> Head | None:
        """Return the newest head of a cluster that is alive, or None."""
        heads = [head for head in self._world.heads.values() if head.cluster == cluster and head.process.alive]
        return heads[-1] if heads else None

    def lose_head(self, cluster: str, how: str) -> None:
        """End the head of a cluster.

        Args:
            cluster: the name of the RayCluster.
            how: `deleted` (the pod), `terminated` (its container), or `evicted` (a disruption).
        """
        head = self.head_of(cluster)
        if head is None:
            return
        self._world.stop_head(head)
        pod = f"{head.pod}"
        if how == "deleted":
            self._world.api.delete(ACTOR, "pods", self._world.namespace, pod)
        else:
            ended: dict[str, Any] = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
            status: dict[str, Any] = {"phase": "Failed", "containerStatuses": [_container(pod, ended)]}
            status["conditions"] = [{"type": "Ready", "status": "False"}]
            if how == "evicted":
                status["reason"] = "Evicted"
                disruption = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
                status["conditions"].append({**disruption, "message": "the node is drained"})
            self._world.api.patch(ACTOR, "pods", self._world.namespace, pod, {"status": status})
        found = self._world.api.get("rayclusters", self._world.namespace, cluster)
        if found is not None and (self.replaces_heads or UID_LABEL not in (found["metadata"].get("labels") or {})):
            self._world.later(5.0, self._replace_head, cluster, pod)

    def suspend(self, cluster: str, suspended: bool) -> None:
        """Suspend or resume a cluster, as Kueue does."""
        self._world.api.patch(ACTOR, "rayclusters", self._world.namespace, cluster, {"spec": {"suspend": suspended}})

    def retry(self) -> None:
        """Look at all clusters again, after the quota or another obstacle changed."""
        for cluster in self._world.api.list("rayclusters", None, {}):
            self._world.later(RETRY_SECONDS, self._reconcile, cluster["metadata"]["name"])

    def _changed(self, actor: str, plural: str, before: Object | None, after: Object | None) -> None:
        if plural != "rayclusters":
            return
        if before is None and after is not None:
            self._world.later(0.3, self._reconcile, after["metadata"]["name"])
        elif after is None and before is not None:
            self._remove_pods(before["metadata"]["name"])
        elif before is not None and after is not None:
            meta = after["metadata"]
            if "deletionTimestamp" in meta and "deletionTimestamp" not in before["metadata"]:
                self._remove_pods(meta["name"])
                self._world.later(self.linger_seconds, self._finish_deletion, meta["name"])
            elif (after.get("spec") or {}).get("suspend") != (before.get("spec") or {}).get("suspend"):
                self._world.later(0.5, self._reconcile, meta["name"])

    def _reconcile(self, name: str) -> None:
        api, namespace = self._world.api, self._world.namespace
        cluster = api.get("rayclusters", namespace, name)
        if cluster is None or "deletionTimestamp" in cluster["metadata"]:
            return
        if self.linger_seconds and not cluster["metadata"].get("finalizers"):
            api.patch(ACTOR, "rayclusters", namespace, name, {"metadata": {"finalizers": ["ray.io/gcs"]}})
        is_new = not (cluster.get("status") or {}).get("conditions")
        if self.queued and is_new and UID_LABEL in (cluster["metadata"].get("labels") or {}):
            self.suspend(name, True)
        spec = (api.get("rayclusters", namespace, name) or cluster).get("spec") or {}
        if spec.get("suspend"):
            self._remove_pods(name)
            self._set_conditions(cluster, RayClusterSuspended="True")
            return
        pods = [pod for pod in api.list("pods", namespace, {"ray.io/cluster": name}) if _owned(pod, cluster)]
        if self.quota:
            self._set_conditions(cluster, ReplicaFailure="True")
            self._world.later(RETRY_SECONDS, self._reconcile, name)
        elif any(each["type"] == "ReplicaFailure" for each in (cluster.get("status") or {}).get("conditions") or ()):
            self._set_conditions(cluster, **({"RayClusterProvisioned": "True", "HeadPodReady": "True"} if pods else {}))
        if not pods and not self.quota:
            self._create_head(cluster)

    def _create_head(self, cluster: Object) -> None:
        api, namespace, name = self._world.api, self._world.namespace, cluster["metadata"]["name"]
        if namespace in api.terminating:
            return
        self._numbers += 1
        pod = f"{name}-head-{self._numbers}"
        owner = {"uid": cluster["metadata"]["uid"], "kind": "RayCluster", "name": name, "controller": True}
        if api.get("secrets", namespace, name) is None:
            secret = {"metadata": {"name": name, "ownerReferences": [owner]}, "data": TOKEN}
            api.create(ACTOR, "secrets", namespace, secret)
        labels = {"ray.io/cluster": name, "ray.io/node-type": "head"}
        waiting = {"waiting": {"reason": "ContainerCreating"}}
        body = {
            "metadata": {"name": pod, "labels": labels, "ownerReferences": [owner]},
            "spec": {"containers": [{"name": "ray-head", "image": "ray:2.60.0"}]},
            "status": {"phase": "Pending", "containerStatuses": [_container("", waiting)]},
        }
        api.create(ACTOR, "pods", namespace, body)
        ip = f"10.0.0.{self._numbers}"
        self._world.later(self._world.chance.uniform(2.0, 12.0), self._start_head, cluster, pod, ip)

    def _start_head(self, cluster: Object, pod: str, ip: str) -> None:
        api, namespace, name = self._world.api, self._world.namespace, cluster["metadata"]["name"]
        current = api.get("rayclusters", namespace, name)
        if api.get("pods", namespace, pod) is None or current is None:
            return
        if current["metadata"]["uid"] != cluster["metadata"]["uid"]:
            return
        if self.image_missing:
            waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "the image does not exist"}}
            api.patch(ACTOR, "pods", namespace, pod, {"status": {"containerStatuses": [_container("", waiting)]}})
            self._world.later(RETRY_SECONDS, self._start_head, cluster, pod, ip)
            return
        status = {
            "phase": "Running",
            "podIP": ip,
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [_container(pod, {"running": {}})],
        }
        head = Head(self._world, name, pod, ip, Process(pod))
        self._world.heads[ip] = head
        head.start()
        api.patch(ACTOR, "pods", namespace, pod, {"status": status})
        self._set_conditions(current, RayClusterProvisioned="True", HeadPodReady="True")

    def _replace_head(self, cluster: str, pod: str) -> None:
        self._world.api.delete(ACTOR, "pods", self._world.namespace, pod)
        self._reconcile(cluster)

    def _remove_pods(self, cluster: str) -> None:
        head = self.head_of(cluster)
        if head is not None:  # its processes receive SIGTERM, and can commit for a short time
            self._world.later(self._world.chance.uniform(0.0, 10.0), self._world.stop_head, head)
        for pod in self._world.api.list("pods", self._world.namespace, {"ray.io/cluster": cluster}):
            self._world.api.delete(ACTOR, "pods", self._world.namespace, pod["metadata"]["name"])

    def _finish_deletion(self, name: str) -> None:
        self._world.api.patch(ACTOR, "rayclusters", self._world.namespace, name, {"metadata": {"finalizers": []}})

    def _set_conditions(self, cluster: Object, **conditions: str) -> None:
        listed = [
            {"type": kind, "status": status, "reason": "FailedCreatePod" if kind == "ReplicaFailure" else "Set",
             "message": self.quota if kind == "ReplicaFailure" else ""}
            for kind, status in conditions.items()
        ]  # fmt: skip
        name, wanted = cluster["metadata"]["name"], cluster["metadata"]["uid"]
        current = self._world.api.get("rayclusters", self._world.namespace, name)
        if current is None or current["metadata"]["uid"] != wanted:
            return
        old = (current.get("status") or {}).get("conditions") or []
        if "ReplicaFailure" in conditions:  # KubeRay keeps the conditions of the head
            listed = [*(each for each in old if each["type"] != "ReplicaFailure"), *listed]
        if listed != old:
            body = {"status": {"conditions": listed}}
            self._world.api.patch(ACTOR, "rayclusters", self._world.namespace, name, body)


def _container(identity: str, state: Object) -> Object:
    container_id = {"containerID": f"containerd://{identity}"} if identity else {}
    return {"name": "ray-head", "image": "ray:2.60.0", "state": state, **container_id}


def _owned(pod: Object, cluster: Object) -> bool:
    owners = pod["metadata"].get("ownerReferences") or ()
    return any(each["uid"] == cluster["metadata"]["uid"] for each in owners)
