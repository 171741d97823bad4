"""The manager during errors of the engine, store outages and refusals, and while it leaves. Waiters never hang."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from tests.support import invariants
from tests.support.claims import take_over
from tests.support.fake_runner import returned
from tests.support.managers import (
    AFTER_HEARTBEAT_TIMEOUT,
    ManagerFixture,
    never_returns,
    new_run,
    start_run,
    with_timeout,
)
from tests.support.waiting import eventually
from workflow import requests
from workflow.engine.messages import StepTask
from workflow.engine.owner.manager import ClaimRequest
from workflow.errors import InternalError, StoreRefusedError, StoreUnavailableError, UnavailableError
from workflow.model.run_view import RunView
from workflow.model.status import WorkflowStatus
from workflow.reading import read_run


@pytest.fixture
def fixture() -> ManagerFixture:
    return ManagerFixture()


async def test_engine_error_releases_the_run(fixture: ManagerFixture, caplog: pytest.LogCaptureFixture) -> None:
    def script(task: StepTask) -> None:
        raise ZeroDivisionError("the engine broke")

    async with fixture.manager(script=script) as (manager, _):
        created = await start_run(fixture, manager)
        with pytest.raises(InternalError, match=r"engine raised ZeroDivisionError.*workflow\.resume"):
            await with_timeout(manager.wait(fixture.address(created)))
        view = await eventually(lambda: _with_status(fixture, WorkflowStatus.RESUMABLE))
        assert (view.reason, view.epoch) == ("", 1)
        assert "the engine broke" in caplog.text
    async with fixture.manager("m2") as (second, _):
        await with_timeout(second.claim(ClaimRequest("w", 1)))
        assert (await with_timeout(second.wait(fixture.address(created)))).status is WorkflowStatus.SUCCESSFUL


def _with_status(fixture: ManagerFixture, status: WorkflowStatus) -> RunView | None:
    view = read_run(fixture.inner, "w")
    return view if view is not None and view.status is status else None


async def test_refused_write_ends_the_wait_and_releases_later(
    fixture: ManagerFixture,
) -> None:
    async with fixture.manager(script=never_returns) as (manager, runner):
        created = await start_run(fixture, manager)
        await eventually(lambda: runner.started == ["a"])
        await eventually(lambda: len(invariants.log_of(fixture.inner, "w")) == 1)
        fixture.store.fail("create", key="/log/", times=3, error=StoreRefusedError("the credentials expired"))
        runner.last_attempt("a").answer(returned())
        with pytest.raises(StoreRefusedError, match="expired"):
            await with_timeout(manager.wait(fixture.address(created)))
        await eventually(lambda: _with_status(fixture, WorkflowStatus.RESUMABLE))
        await with_timeout(manager.claim(ClaimRequest("w", 1)))
        await eventually(lambda: runner.started == ["a", "a"])
        assert manager.live == 1


OUTAGES: dict[str, Callable[[ManagerFixture], None]] = {
    "segments": lambda fixture: fixture.store.fail("create", key="/log/", times=5),
    "the replies to segments": lambda fixture: fixture.store.fail("create", key="/log/", times=5, after=True),
    "reads": lambda fixture: fixture.store.fail("get", times=5),
    "lists": lambda fixture: fixture.store.fail("list", times=5),
    "index entries of a finished run": lambda fixture: fixture.store.fail("create", key="index/SUCCESSFUL", times=5),
    "heartbeats": lambda fixture: fixture.store.fail("overwrite", times=5),
    "deletions": lambda fixture: fixture.store.fail("delete", times=5),
}


@pytest.mark.parametrize("name", OUTAGES)
async def test_run_survives_a_store_outage(
    fixture: ManagerFixture, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    async with fixture.manager() as (manager, runner):
        created = new_run("a b:a")
        fixture.keep_function(created)
        await with_timeout(manager.start(created))
        OUTAGES[name](fixture)
        ended = await with_timeout(manager.wait_or_resume(fixture.address(created)))
        assert ended.status is WorkflowStatus.SUCCESSFUL
        assert runner.started == ["a", "b"]
        await eventually(lambda: not fixture.keys("owned/"))
    invariants.check(fixture.inner, "w")


@pytest.mark.parametrize("key", ["owned/", "registry/", "/log/", "index/"])
@pytest.mark.parametrize("after", [False, True], ids=["not executed", "executed, reply lost"])
async def test_claim_during_an_outage_leaves_the_run_driven(fixture: ManagerFixture, key: str, after: bool) -> None:
    async with fixture.manager(script=never_returns) as (manager, _):
        created = await start_run(fixture, manager, "a")
        await fixture.abandon(manager)
    async with fixture.manager("m2") as (second, _):
        fixture.store.fail("get" if key == "registry/" else "create", key=key, times=1, after=after)
        try:
            await with_timeout(second.claim(take_over(fixture.inner)))
        except StoreUnavailableError:
            view = read_run(fixture.inner, "w")
            assert view is not None
            if view.owner is not None and view.owner.manager != "m2":
                await with_timeout(second.claim(take_over(fixture.inner)))
        assert (await with_timeout(second.wait(fixture.address(created)))).status is WorkflowStatus.SUCCESSFUL
    invariants.check(fixture.inner, "w")


async def test_waiters_of_a_leaving_manager_get_an_error(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=never_returns) as (manager, _):
        created = await start_run(fixture, manager)
        waiting = asyncio.ensure_future(manager.wait(fixture.address(created)))
        await asyncio.sleep(0)
        await with_timeout(manager.leave())
        with pytest.raises(UnavailableError, match="is leaving; wait at another manager"):
            await with_timeout(waiting)
        with pytest.raises(UnavailableError, match="leaving; repeat the call"):
            await with_timeout(manager.start(new_run("a", workflow_id="other")))
        assert fixture.keys("managers/") == []


async def test_manager_is_idle_only_without_runs_and_waiters(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=never_returns) as (manager, runner):
        await start_run(fixture, manager, "a")
        idle = asyncio.ensure_future(manager.idle(0.0))
        await eventually(lambda: runner.started == ["a"])
        assert not idle.done()
        runner.last_attempt("a").answer(returned())
        await with_timeout(idle)


async def test_run_ended_by_a_deadline_stays_ended_after_restart(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=never_returns) as (manager, _):
        created = await start_run(fixture, manager)
        await fixture.abandon(manager)
    fixture.clock.now += AFTER_HEARTBEAT_TIMEOUT
    requests.end_run(
        fixture.inner, "w", run_number=1, status=WorkflowStatus.FAILED, reason="DeadlineExceeded", message="late",
        requester=requests.Requester("", 0, "operator"),
    )  # fmt: skip
    async with fixture.manager(incarnation="i2") as (manager, runner):
        ended = await with_timeout(manager.wait(fixture.address(created)))
        assert (ended.status, ended.reason) == (WorkflowStatus.FAILED, "DeadlineExceeded")
        assert runner.attempts == []
    invariants.check(fixture.inner, "w")
