"""The operator is killed at every point between two effects, loses answers, and meets rivals: only time is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.operator.failpoints import KillOnce, LoseOnce, Rival
from tests.operator.harness import Harness
from tests.support.waiting import eventually
from workflow.model.status import WorkflowStatus
from workflow_operator.adapters.kube import WORKFLOWS
from workflow_operator.api.status import Phase
from workflow_operator.apply import Failpoints
from workflow_operator.core.names import run_uuid, submission_id

Story = Callable[[Harness], Awaitable[None]]


async def head_dies(harness: Harness) -> None:
    """A run loses its head after two steps and ends on another cluster."""
    await harness.config_map(trip__py="def book(): ...\n")
    made = await harness.create(
        code={"configMap": {"name": "trip-code"}}, recovery={"backoff": {"initialSeconds": 0, "maxSeconds": 0}}
    )
    harness.manager.allow(2)
    await harness.until(lambda state: state.steps.succeeded == 2)
    await harness.kill_head()
    harness.manager.allow_all()
    state = await harness.until_phase(Phase.SUCCEEDED)
    await harness.until_clusters()
    assert (state.attempt, state.epoch, state.resumes.total) == (2, 2, 1)
    assert [told.attempt for told in harness.manager.payloads] == [1, 2], "one submission for each attempt"
    assert {told.run_uuid for told in harness.manager.payloads} == {run_uuid(made.uid, 1)}
    assert set(harness.manager.started.values()) == {1}, "no committed step ran again"


async def canceled(harness: Harness) -> None:
    """A run is canceled in the middle."""
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


STORIES = [
    pytest.param(head_dies, id="head dies"),
    pytest.param(canceled, id="canceled"),
    pytest.param(deleted, id="deleted"),
]


async def operate(harness: Harness, failpoints: KillOnce) -> None:
    """Start the operator again each time it was killed."""
    while True:
        failpoints.struck.clear()
        async with harness.rounds(failpoints=failpoints):
            await failpoints.struck.wait()


@pytest.mark.parametrize("story", STORIES)
async def test_killed_once_at_every_point(harness: Harness, story: Story) -> None:
    failpoints = KillOnce()
    operating = asyncio.create_task(operate(harness, failpoints))
    try:
        await story(harness)
    finally:
        operating.cancel()
        await asyncio.gather(operating, return_exceptions=True)
    assert {"observed", "decided", "patched", "after SubmitRun", "after DeleteCluster"} <= set(failpoints.visited)


@pytest.mark.parametrize("story", STORIES)
async def test_the_answer_to_every_effect_is_lost_once(harness: Harness, story: Story) -> None:
    failpoints = LoseOnce()
    async with harness.rounds(failpoints=failpoints):
        await story(harness)
    assert {"patched", "after CreateCluster", "after SubmitRun"} <= set(failpoints.lost)


async def test_answers_of_the_head_are_lost_on_the_wire(harness: Harness) -> None:
    harness.ray.lose.update({("POST", "/api/jobs/"): 2, ("PUT", "/api/packages/"): 1, ("GET", "/api/jobs/"): 2})
    async with harness.rounds():
        await head_dies(harness)
    assert not +harness.ray.lose


@pytest.mark.parametrize("story", STORIES)
async def test_a_rival_changes_the_object_in_every_round(harness: Harness, story: Story) -> None:
    changes = iter(range(1000))

    async def annotate() -> None:
        body = {"metadata": {"annotations": {"team/change": str(next(changes))}}}
        await harness.kube.patch(WORKFLOWS, harness.namespace, "trip", body)

    failpoints = Rival("decided", annotate, times=15)
    async with harness.rounds(failpoints=failpoints):
        await story(harness)


@pytest.mark.parametrize("story", STORIES)
async def test_two_replicas_that_both_work_do_no_harm(harness: Harness, story: Story) -> None:
    async with harness.rounds(), harness.rounds():
        await story(harness)


async def test_a_stale_replica_cannot_bring_a_lost_cluster_back(harness: Harness) -> None:
    """Stopped after its PATCH, while another goes on to the next attempt; then it carries out what it decided."""
    stopped, go_on = asyncio.Event(), asyncio.Event()

    async def stop() -> None:
        stopped.set()
        await go_on.wait()

    made = await harness.create(recovery={"backoff": {"initialSeconds": 0, "maxSeconds": 0}})
    harness.manager.allow(1)
    stale: Failpoints = Rival("before CreateCluster", stop, times=1)
    async with harness.rounds(failpoints=stale):
        await stopped.wait()
        async with harness.rounds():
            await harness.until(lambda state: state.steps.succeeded == 1)
            await harness.kill_head()
            await harness.until(lambda state: state.attempt == 2)
            go_on.set()
            harness.manager.allow_all()
            await harness.until_phase(Phase.SUCCEEDED)
            await harness.until_clusters()
    assert [told.attempt for told in harness.manager.payloads] == [1, 2]
    assert submission_id(made.uid, 1) != submission_id(made.uid, 2)


async def test_the_api_server_goes_away_for_a_while(harness: Harness, restart: Callable[[], None]) -> None:
    await harness.create()
    harness.manager.allow(1)
    async with harness.rounds():
        await harness.until(lambda state: state.steps.succeeded == 1)
        await asyncio.to_thread(restart)
        harness.manager.allow_all()

        async def ended() -> bool:
            return (await harness.state()).phase is Phase.SUCCEEDED

        await eventually(ended, 60)
