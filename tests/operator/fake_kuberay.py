"""A fake KubeRay and kubelet: it gives each RayCluster on a real API server a head pod, a token and conditions.

It polls the API server, on which no other controller runs. It writes the status of pods and deletes them, and the
operator watches these changes. The definition of the RayCluster resource is the original one.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count

from kubernetes.aio.client import CoreV1Api
from kubernetes.aio.client.exceptions import NotFoundException

from tests.operator.fake_ray import FakeRay
from workflow_operator.adapters.kube import PODS, RAYCLUSTERS, SECRETS, Kube, Object
from workflow_operator.errors import ConflictError, OperatorError

PAUSE = 0.05
ADDRESS = "127.0.0.1"


class FakeKubeRay:
    """Starts every RayCluster, and deletes the pods of deleted ones.

    Args:
        kube: the API server.
        ray: runs the heads of the clusters.

    Attributes:
        paused: if true, no cluster is started.
        started: the clusters that were started, as (namespace, name), in order.
    """

    def __init__(self, kube: Kube, ray: FakeRay) -> None:
        self._kube = kube
        self._ray = ray
        self._numbers = count(1)
        self.paused = False
        self.started: list[tuple[str, str]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FakeKubeRay]:
        """Run the controller while the block runs."""
        task = asyncio.create_task(self._work())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            with suppress(OperatorError):  # a test restarts the API server
                await self._reconcile()
            await asyncio.sleep(PAUSE)

    async def _reconcile(self) -> None:
        clusters = {
            (cluster["metadata"]["namespace"], cluster["metadata"]["name"]): cluster
            for cluster in await self._kube.list(RAYCLUSTERS, None, {})
        }
        for key, cluster in clusters.items():
            if key not in self.started and not self.paused:
                await self._start(cluster)
        for key in [key for key in self.started if key not in clusters]:
            self.started.remove(key)
            await self.kill_head(*key)

    async def _start(self, cluster: Object) -> None:
        """Create the token, the head pod and the conditions of a cluster."""
        meta = cluster["metadata"]
        namespace, name = meta["namespace"], meta["name"]
        self._ray.head(namespace, name)
        secret = {
            "metadata": {"name": name},
            "data": {"auth_token": base64.b64encode(self._ray.token.encode()).decode()},
        }
        with suppress(ConflictError):  # a new head keeps the token
            await self._kube.create(SECRETS, namespace, secret)
        await self.start_pod(cluster)
        conditions = [_condition("RayClusterProvisioned"), _condition("HeadPodReady")]
        body = {"status": {"state": "ready", "conditions": conditions}}
        await self._kube.patch(RAYCLUSTERS, namespace, name, body, subresource="status")
        self.started.append((namespace, name))

    async def start_pod(self, cluster: Object, **status: object) -> str:
        """Create a head pod and return its name. Its status is Running, with `status` merged into it."""
        meta = cluster["metadata"]
        name = f"{meta['name']}-head-{next(self._numbers)}"
        pod = {
            "metadata": {
                "name": name,
                "labels": {"ray.io/cluster": meta["name"], "ray.io/node-type": "head"},
                "ownerReferences": [
                    {
                        "apiVersion": "ray.io/v1",
                        "kind": "RayCluster",
                        "name": meta["name"],
                        "uid": meta["uid"],
                        "controller": True,
                    }
                ],
            },
            "spec": {"containers": [{"name": "ray-head", "image": "fake"}]},
        }
        await self._kube.create(PODS, meta["namespace"], pod)
        running = {
            "phase": "Running",
            "podIP": ADDRESS,
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [_container(f"fake://{name}")],
        }
        body = {"status": {**running, **status}}
        await self._kube.patch(PODS, meta["namespace"], name, body, subresource="status")
        return name

    async def kill_head(self, namespace: str, cluster: str) -> None:
        """Force-delete the head pod, and stop everything that runs on it."""
        await self._ray.kill(namespace, cluster)
        for pod in await self._kube.list(PODS, namespace, {"ray.io/cluster": cluster}):
            await self.delete_pod(pod)

    async def delete_pod(self, pod: Object) -> None:
        """Delete a pod like `kubectl delete --grace-period=0 --force`."""
        meta = pod["metadata"]
        with suppress(NotFoundException):
            await CoreV1Api(self._kube.api).delete_namespaced_pod(
                meta["name"], meta["namespace"], grace_period_seconds=0
            )


def _condition(kind: str) -> Object:
    return {
        "type": kind,
        "status": "True",
        "reason": "Fake",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


def _container(identity: str) -> Object:
    return {
        "name": "ray-head",
        "image": "fake",
        "imageID": "",
        "ready": True,
        "restartCount": 0,
        "containerID": identity,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    }
