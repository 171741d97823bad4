"""A FAKE KubeRay and kubelet: gives each RayCluster at a real API server a head pod, a token and conditions.

It looks at the API server again and again, as no controller but this one runs there. What it does to pods (their
status, their removal) is what the operator watches for. The RayCluster resource itself is KubeRay's own.
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
    """Brings up every cluster it sees, and takes down those that were deleted.

    Args:
        kube: the API server.
        ray: whose heads stand behind the pods.

    Attributes:
        held: names of clusters to leave alone.
        made: clusters brought up, as (namespace, name), in order.
    """

    def __init__(self, kube: Kube, ray: FakeRay) -> None:
        self._kube = kube
        self._ray = ray
        self._numbers = count(1)
        self.held: set[str] = set()
        self.hold_all = False
        self.made: list[tuple[str, str]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FakeKubeRay]:
        """Work for the length of a block."""
        task = asyncio.create_task(self._work())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            with suppress(OperatorError):  # a test restarts the API server
                await self._round()
            await asyncio.sleep(PAUSE)

    async def _round(self) -> None:
        clusters = {
            (one["metadata"]["namespace"], one["metadata"]["name"]): one
            for one in await self._kube.list(RAYCLUSTERS, None, {})
        }
        for key, cluster in clusters.items():
            if key not in self.made and cluster["metadata"]["name"] not in self.held and not self.hold_all:
                await self.bring_up(cluster)
        for key in [key for key in self.made if key not in clusters]:
            self.made.remove(key)
            await self.kill_head(*key)

    async def bring_up(self, cluster: Object) -> None:
        """Make the token, the head pod and the conditions of a cluster."""
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
        self.made.append((namespace, name))

    async def start_pod(self, cluster: Object, **status: object) -> str:
        """Make a head pod, running unless its status says otherwise, and return its name."""
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
        """Force-delete the head pod, and with it all that ran there."""
        await self._ray.kill(namespace, cluster)
        for pod in await self._kube.list(PODS, namespace, {"ray.io/cluster": cluster}):
            await self.delete_pod(pod)

    async def delete_pod(self, pod: Object) -> None:
        """What `kubectl delete --grace-period=0 --force` does."""
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
