"""Crashes of the operator: it is killed at every failpoint, loses responses, and competes with other clients.

Each scenario must still have the same result, without a duplicate submission or a repeated step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.operator.failpoints import ActAt, KillOnce, LoseOnce
from tests.operator.harness import Harness
from tests.support.waiting import eventually
from workflow.model.status import WorkflowStatus
from workflow_operator.adapters.kube import WORKFLOWS
from workflow_operator.api.status import Phase
from workflow_operator.apply import Failpoints
from workflow_operator.core.names import run_uuid, submission_id

Scenario = Callable[[Harness], Awaitable[None]]


async def head_dies(harness: Harness) -> None:
    """A run loses its head after two steps, and finishes on another cluster."""
    await harness.config_map(trip__py="def book(): ...\n")
    created = await harness.create(
        code={"configMap": {"name": "trip-code"}}, recovery={"backoff": {"initialSeconds": 0, "maxSeconds": 0}}
    )
    harness.manager.allow(2)
    await harness.until(lambda state: state.steps.succeeded == 2)
    await harness.kill_head()
    harness.manager.allow_all()
    state = await harness.until_phase(Phase.SUCCEEDED)
    await harness.until_clusters()
    assert (state.attempt, state.epoch, state.resumes.total) == (2, 2, 1)
    assert [submission.attempt for submission in harness.manager.payloads] == [1, 2], "one submission for each attempt"
    assert {submission.run_uuid for submission in harness.manager.payloads} == {run_uuid(created.uid, 1)}
    assert set(harness.manager.started.values()) == {1}, "no committed step ran again"


async def canceled(harness: Harness) -> None:
    """A running run is canceled."""
    await harness.create()
    harness.manager.allow(1)
    await harness.until(lambda state: state.steps.succeeded == 1)
    await harness.change(cancel=True)
    state = await harness.until_phase(Phase.CANCELED)
    await harness.until_clusters()
    view = harness.run(state.workflow_id)
    assert view is not None
    assert view.status is WorkflowStatus.CANCELED


async def deleted(harness: Harness) -> None:
    """A Workflow is deleted while it runs."""
    await harness.create(checkpoints={"retention": "Delete"})
    harness.manager.allow(1)
    state = await harness.until(lambda state: state.steps.succeeded == 1)
    await harness.delete()
    await harness.until_gone()
    await harness.until_clusters()
    view = harness.run(state.workflow_id)
    assert view is not None
    assert view.tombstone, "its checkpoints are deleted"


SCENARIOS = [
    pytest.param(head_dies, id="head dies"),
    pytest.param(canceled, id="canceled"),
    pytest.param(deleted, id="deleted"),
]


async def operate(harness: Harness, failpoints: KillOnce) -> None:
    """Restart the operator each time it was killed."""
    while True:
        failpoints.killed.clear()
        async with harness.reconciling(failpoints=failpoints):
            await failpoints.killed.wait()


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_kill_at_every_failpoint(harness: Harness, scenario: Scenario) -> None:
    failpoints = KillOnce()
    operating = asyncio.create_task(operate(harness, failpoints))
    try:
        await scenario(harness)
    finally:
        operating.cancel()
        await asyncio.gather(operating, return_exceptions=True)
    assert {"observed", "decided", "patched", "after SubmitRun", "after DeleteCluster"} <= set(failpoints.visited)


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_response_to_every_request_is_lost_once(harness: Harness, scenario: Scenario) -> None:
    failpoints = LoseOnce()
    async with harness.reconciling(failpoints=failpoints):
        await scenario(harness)
    assert {"patched", "after CreateCluster", "after SubmitRun"} <= set(failpoints.lost)


async def test_http_responses_of_the_head_are_lost(harness: Harness) -> None:
    harness.ray.lose.update({("POST", "/api/jobs/"): 2, ("PUT", "/api/packages/"): 1, ("GET", "/api/jobs/"): 2})
    async with harness.reconciling():
        await head_dies(harness)
    assert not any(harness.ray.lose.values()), "some responses were not lost"


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_another_client_changes_the_object_concurrently(harness: Harness, scenario: Scenario) -> None:
    changes = iter(range(1000))

    async def annotate() -> None:
        body = {"metadata": {"annotations": {"team/change": str(next(changes))}}}
        await harness.kube.patch(WORKFLOWS, harness.namespace, "trip", body)

    failpoints = ActAt("decided", annotate, times=15)
    async with harness.reconciling(failpoints=failpoints):
        await scenario(harness)


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_two_active_replicas_cause_no_damage(harness: Harness, scenario: Scenario) -> None:
    async with harness.reconciling(), harness.reconciling():
        await scenario(harness)


async def test_stale_replica_cannot_recreate_a_lost_cluster(harness: Harness) -> None:
    """A replica pauses after its PATCH while another starts the next attempt. Then it applies its old decision."""
    paused, proceed = asyncio.Event(), asyncio.Event()

    async def pause() -> None:
        paused.set()
        await proceed.wait()

    created = await harness.create(recovery={"backoff": {"initialSeconds": 0, "maxSeconds": 0}})
    harness.manager.allow(1)
    stale: Failpoints = ActAt("before CreateCluster", pause, times=1)
    async with harness.reconciling(failpoints=stale):
        await paused.wait()
        async with harness.reconciling():
            await harness.until(lambda state: state.steps.succeeded == 1)
            await harness.kill_head()
            await harness.until(lambda state: state.attempt == 2)
            proceed.set()
            harness.manager.allow_all()
            await harness.until_phase(Phase.SUCCEEDED)
            await harness.until_clusters()
    assert [submission.attempt for submission in harness.manager.payloads] == [1, 2]
    assert submission_id(created.uid, 1) != submission_id(created.uid, 2)


async def test_run_succeeds_after_an_outage_of_the_api_server(harness: Harness, restart: Callable[[], None]) -> None:
    await harness.create()
    harness.manager.allow(1)
    async with harness.reconciling():
        await harness.until(lambda state: state.steps.succeeded == 1)
        await asyncio.to_thread(restart)
        harness.manager.allow_all()

        async def succeeded() -> bool:
            return (await harness.state()).phase is Phase.SUCCEEDED

        await eventually(succeeded, 60)
