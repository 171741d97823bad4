"""The whole operator: it reacts to watch events at once, and only one of two replicas is active.

The poll interval is one hour in most tests, so that only a watch event can change a Workflow.
"""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Callable

from tests.operator.harness import TEMPLATE, Harness
from tests.support.waiting import eventually
from workflow_operator.adapters.kube import LEASES, PODS, RAYCLUSTERS, Kube, Object
from workflow_operator.api.status import Phase

ONE_HOUR = 3600.0


async def create_running(harness: Harness) -> None:
    await harness.create(recovery={"policy": "Manual"})
    harness.manager.allow(1)
    await harness.until_phase(Phase.RUNNING)


async def head_pod(harness: Harness) -> Object:
    (pod,) = await harness.kube.list(PODS, harness.namespace, {"ray.io/node-type": "head"})
    return pod


async def test_reacts_to_a_force_deleted_head_pod(harness: Harness) -> None:
    async with harness.serving(poll_seconds=ONE_HOUR):
        await create_running(harness)
        await harness.kuberay.delete_pod(await head_pod(harness))
        state = await harness.until_phase(Phase.RESUMABLE)
    assert state.last_failure is not None
    assert state.last_failure.reason == "HeadPodLost"


async def test_reacts_to_a_failed_head_pod(harness: Harness) -> None:
    async with harness.serving(poll_seconds=ONE_HOUR):
        await create_running(harness)
        pod = await head_pod(harness)
        status = {"phase": "Failed", "reason": "Evicted", "message": "the node ran out of memory"}
        await harness.kube.patch(
            PODS, harness.namespace, pod["metadata"]["name"], {"status": status}, subresource="status"
        )
        await harness.until_phase(Phase.RESUMABLE)


async def test_reacts_to_a_deleted_ray_cluster(harness: Harness) -> None:
    async with harness.serving(poll_seconds=ONE_HOUR):
        await create_running(harness)
        (cluster,) = await harness.kube.list(RAYCLUSTERS, harness.namespace, {})
        meta = cluster["metadata"]
        await harness.kube.delete(RAYCLUSTERS, harness.namespace, meta["name"], meta["uid"])
        await harness.until_phase(Phase.RESUMABLE)


async def test_reacts_to_a_new_cluster_that_a_selector_matches(harness: Harness) -> None:
    labels = {"team": "red"}
    harness.manager.allow_all()
    async with harness.serving(poll_seconds=ONE_HOUR):
        await harness.create(cluster={"selector": {"matchLabels": labels}})
        await harness.until(lambda state: state.phase is not None)
        spec = {**TEMPLATE["spec"], "authOptions": {"mode": "token"}}
        body = {
            "apiVersion": "ray.io/v1",
            "kind": "RayCluster",
            "metadata": {"name": "ours", "labels": labels},
            "spec": spec,
        }
        await harness.kube.create(RAYCLUSTERS, harness.namespace, body)
        await harness.until(lambda state: state.cluster is not None and state.cluster.name == "ours")


async def test_reacts_to_a_change_of_the_spec(harness: Harness) -> None:
    async with harness.serving(poll_seconds=ONE_HOUR):
        await create_running(harness)
        await harness.change(cancel=True)
        await harness.until(lambda state: state.phase in (Phase.CANCELING, Phase.CANCELED))


async def test_second_replica_takes_over_after_the_leader_stops(harness: Harness) -> None:
    await harness.create()
    harness.manager.allow(1)
    async with harness.serving(identity="replica-1"):
        await harness.until(lambda state: state.steps.succeeded == 1)
        async with harness.serving(identity="replica-2") as second:
            assert await holder(harness.kube, harness.namespace) == "replica-1"
            harness.manager.allow(2)
            await harness.until(lambda state: state.steps.succeeded == 2)
            assert not second.done()
    async with harness.serving(identity="replica-2"):
        harness.manager.allow_all()
        await harness.until_phase(Phase.SUCCEEDED)
        assert await holder(harness.kube, harness.namespace) == "replica-2"


async def holder(kube: Kube, namespace: str) -> str:
    lease = await kube.get(LEASES, namespace, "rayworkflow-operator")
    assert lease is not None
    return str(lease["spec"].get("holderIdentity"))


async def test_watches_survive_a_restart_of_the_api_server(harness: Harness, restart: Callable[[], None]) -> None:
    await harness.create()
    harness.manager.allow(1)
    async with harness.serving(lease_seconds=60) as operator:
        await harness.until(lambda state: state.steps.succeeded == 1)
        await asyncio.to_thread(restart)
        await harness.kill_head()
        harness.manager.allow_all()
        state = await harness.until_phase(Phase.SUCCEEDED, timeout=60)
        assert not operator.done()
    assert state.attempt == 2


async def test_probes_and_metrics_are_served(harness: Harness, free_port: int) -> None:
    def fetch(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{free_port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    await harness.create()
    harness.manager.allow_all()
    async with harness.serving(port=free_port):
        await harness.until_phase(Phase.SUCCEEDED)
        assert await asyncio.to_thread(fetch, "/healthz") == "ok"
        assert await asyncio.to_thread(fetch, "/readyz") == "ready"

        async def counted() -> bool:
            text = await asyncio.to_thread(fetch, "/metrics")
            assert 'rayworkflow_workflows{phase="Succeeded"} 1.0' in text, text
            return "rayworkflow_leader 1.0" in text

        await eventually(counted)
