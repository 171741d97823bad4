"""What the operator concludes from the objects of a real API server: disruptions, refused pods and its clock."""

from __future__ import annotations

import time

from tests.operator.harness import Harness
from workflow_operator.adapters.kube import EVENTS, PODS, RAYCLUSTERS, Object
from workflow_operator.api.status import Phase
from workflow_operator.core.server_clock import ServerClock

ONE_HOUR = 3600.0


async def create_running(harness: Harness) -> Object:
    """Start a Workflow that runs, and return its head pod."""
    await harness.create(recovery={"policy": "Manual"})
    harness.manager.allow(1)
    await harness.until_phase(Phase.RUNNING)
    (pod,) = await harness.kube.list(PODS, harness.namespace, {"ray.io/node-type": "head"})
    return pod


async def set_conditions(harness: Harness, pod: Object, *conditions: Object) -> None:
    body = {"status": {"conditions": list(conditions)}}
    await harness.kube.patch(PODS, harness.namespace, pod["metadata"]["name"], body, subresource="status")


async def test_preempted_head_is_a_disruption(harness: Harness) -> None:
    """The pod exists for a moment only after Kubernetes announced the disruption."""
    announced = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "by pod x"}
    async with harness.serving(poll_seconds=ONE_HOUR):
        pod = await create_running(harness)
        await set_conditions(harness, pod, {"type": "Ready", "status": "True"}, announced)
        await harness.kuberay.delete_pod(pod)
        state = await harness.until_phase(Phase.RESUMABLE)
        await harness.until_event("HeadDisrupted")
    assert state.last_failure is not None
    assert state.last_failure.reason == "HeadDisrupted"
    assert "PreemptionByScheduler: by pod x" in state.last_failure.message
    assert (state.resumes.disruptions, state.resumes.never_ran) == (1, 0)


async def test_events_show_that_the_node_of_the_head_was_lost(harness: Harness) -> None:
    async with harness.serving(poll_seconds=ONE_HOUR):
        pod = await create_running(harness)
        meta = pod["metadata"]
        event = {
            "metadata": {"name": f"{meta['name']}.1"},
            "involvedObject": {"kind": "Pod", "namespace": harness.namespace, "name": meta["name"], "uid": meta["uid"]},
            "type": "Warning",
            "reason": "NodeNotReady",
            "message": "Node is not ready",
        }
        await harness.kube.create(EVENTS, harness.namespace, event)
        await harness.kuberay.delete_pod(pod)
        state = await harness.until_phase(Phase.RESUMABLE)
    assert state.last_failure is not None
    assert state.last_failure.reason == "HeadNodeLost"


async def test_refused_worker_pod_is_shown_and_costs_nothing(harness: Harness) -> None:
    refused = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreateWorkerPod",
        "message": "exceeded quota: team",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    async with harness.serving():
        await create_running(harness)
        (cluster,) = await harness.kube.list(RAYCLUSTERS, harness.namespace, {})
        name = cluster["metadata"]["name"]
        body = {"status": {"conditions": [refused]}}
        await harness.kube.patch(RAYCLUSTERS, harness.namespace, name, body, subresource="status")
        state = await harness.until_message("WorkersReady", "exceeded quota: team")
        harness.manager.allow_all()
        await harness.until_phase(Phase.SUCCEEDED)
    assert state.attempt == 1


async def test_clock_follows_the_api_server(harness: Harness) -> None:
    harness.kube.clock = ServerClock(lambda: time.time() - 2 * ONE_HOUR, time.monotonic)
    await harness.kube.list(PODS, harness.namespace, {})
    assert abs(harness.kube.clock.now() - time.time()) < 5.0


async def test_head_that_refuses_the_token_keeps_its_cluster(harness: Harness) -> None:
    async with harness.serving(poll_seconds=0.2):
        await harness.create(failureDetection={"unreachableSeconds": 5})
        harness.manager.allow(1)
        await harness.until_phase(Phase.RUNNING)
        token, harness.ray.token = harness.ray.token, "another"
        state = await harness.until_message("Running", "HTTP 403")
        assert state.phase is Phase.RUNNING
        harness.ray.token = token
        harness.manager.allow_all()
        state = await harness.until_phase(Phase.SUCCEEDED)
    assert state.attempt == 1


async def test_lost_replies_do_not_cost_a_running_cluster(harness: Harness) -> None:
    """Only the dashboard fails: the log shows a live owner, and the run continues to its end."""
    async with harness.serving(poll_seconds=0.2):
        await harness.create()
        harness.manager.allow(1)
        state = await harness.until_phase(Phase.RUNNING)
        assert state.cluster is not None
        key = (harness.namespace, state.cluster.name)
        head = harness.ray.heads.pop(key)
        state = await harness.until_message("Running", "the heartbeat of the run's owner has not expired")
        assert state.phase is Phase.RUNNING
        harness.manager.allow_all()
        state = await harness.until_phase(Phase.SUCCEEDED)
        harness.ray.heads[key] = head
    assert (state.attempt, state.epoch) == (1, 1)
