"""The manager when things break: errors of the engine, a store that is away or refuses, leaving. Waiters never hang."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from tests.support import invariants
from tests.support.fake_runner import returned
from tests.support.managers import SILENT, House, begun, never, new_run, soon
from tests.support.waiting import eventually
from workflow import requests
from workflow.engine.messages import StepTask
from workflow.engine.owner.manager import ClaimRequest
from workflow.errors import InternalError, StoreRefusedError, StoreUnavailableError, UnavailableError
from workflow.model.run_view import RunView
from workflow.model.status import WorkflowStatus
from workflow.reading import read_run


@pytest.fixture
def house() -> House:
    return House()


async def test_an_error_of_the_engine_is_a_bug_a_goodbye_and_resumable(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    def script(task: StepTask) -> None:
        raise ZeroDivisionError("the engine broke")

    async with house.manager(script=script) as (manager, _):
        created = await begun(house, manager)
        with pytest.raises(InternalError, match="ZeroDivisionError"):
            await soon(manager.wait(house.address(created)))
        view = await eventually(lambda: _with_status(house, WorkflowStatus.RESUMABLE))
        assert (view.reason, view.epoch) == ("", 1)
        assert "the engine broke" in caplog.text
    async with house.manager("m2") as (second, _):
        await soon(second.claim(ClaimRequest("w", 1)))
        assert (await soon(second.wait(house.address(created)))).status is WorkflowStatus.SUCCESSFUL


def _with_status(house: House, status: WorkflowStatus) -> RunView | None:
    view = read_run(house.inner, "w")
    return view if view is not None and view.status is status else None


async def test_a_store_that_refuses_ends_the_wait_and_the_goodbye_follows_once_it_can_be_said(house: House) -> None:
    async with house.manager(script=never) as (manager, runner):
        created = await begun(house, manager)
        await eventually(lambda: runner.started == ["a"])
        await eventually(lambda: len(invariants.log_of(house.inner, "w")) == 1)
        house.store.fail("create", key="/log/", times=3, error=StoreRefusedError("the credentials expired"))
        runner.of("a").answer(returned())
        with pytest.raises(StoreRefusedError, match="expired"):
            await soon(manager.wait(house.address(created)))
        await eventually(lambda: _with_status(house, WorkflowStatus.RESUMABLE))
        await soon(manager.claim(ClaimRequest("w", 1)))
        await eventually(lambda: runner.started == ["a", "a"])
        assert manager.live == 1


OUTAGES: dict[str, Callable[[House], None]] = {
    "the first segment": lambda house: house.store.fail("create", key="/log/", times=5),
    "its answers": lambda house: house.store.fail("create", key="/log/", times=5, after=True),
    "every read": lambda house: house.store.fail("get", times=5),
    "every list": lambda house: house.store.fail("list", times=5),
    "the hints of the end": lambda house: house.store.fail("create", key="index/SUCCESSFUL", times=5),
    "the heartbeat": lambda house: house.store.fail("overwrite", times=5),
    "removing": lambda house: house.store.fail("delete", times=5),
}


@pytest.mark.parametrize("name", OUTAGES)
async def test_a_run_survives_a_store_that_is_away_for_a_while(
    house: House, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    async with house.manager() as (manager, runner):
        created = new_run("a b:a")
        house.keep_function(created)
        await soon(manager.start(created))
        OUTAGES[name](house)
        ended = await soon(manager.wait_or_resume(house.address(created)))
        assert ended.status is WorkflowStatus.SUCCESSFUL
        assert runner.started == ["a", "b"]
        await eventually(lambda: not house.keys("owned/"))
    invariants.check(house.inner, "w")


@pytest.mark.parametrize("key", ["owned/", "registry/", "/log/", "index/"])
@pytest.mark.parametrize("after", [False, True], ids=["not done", "done, answer lost"])
async def test_a_claim_that_met_an_outage_leaves_no_run_without_a_driver(house: House, key: str, after: bool) -> None:
    async with house.manager(script=never) as (manager, _):
        created = await begun(house, manager, "a")
        await house.abandon(manager)
    async with house.manager("m2") as (second, _):
        house.store.fail("get" if key == "registry/" else "create", key=key, times=1, after=after)
        try:
            await soon(second.claim(ClaimRequest("w", 1, take_over=True)))
        except StoreUnavailableError:
            view = read_run(house.inner, "w")
            assert view is not None
            if view.owner is not None and view.owner.manager != "m2":
                await soon(second.claim(ClaimRequest("w", 1, take_over=True)))
        assert (await soon(second.wait(house.address(created)))).status is WorkflowStatus.SUCCESSFUL
    invariants.check(house.inner, "w")


async def test_waiters_of_a_manager_that_leaves_are_told(house: House) -> None:
    async with house.manager(script=never) as (manager, _):
        created = await begun(house, manager)
        waiting = asyncio.ensure_future(manager.wait(house.address(created)))
        await asyncio.sleep(0)
        await soon(manager.leave())
        with pytest.raises(UnavailableError, match="leaves"):
            await soon(waiting)
        with pytest.raises(UnavailableError, match="leaving"):
            await soon(manager.start(new_run("a", workflow_id="other")))
        assert house.keys("managers/") == []


async def test_a_manager_is_idle_only_while_it_owns_nothing_and_nobody_waits(house: House) -> None:
    async with house.manager(script=never) as (manager, runner):
        await begun(house, manager, "a")
        idle = asyncio.ensure_future(manager.idle(0.0))
        await eventually(lambda: runner.started == ["a"])
        assert not idle.done()
        runner.of("a").answer(returned())
        await soon(idle)


async def test_deadlines_of_others_end_a_run_whose_manager_is_gone_and_it_stays_so(house: House) -> None:
    async with house.manager(script=never) as (manager, _):
        created = await begun(house, manager)
        await house.abandon(manager)
    house.clock.now += SILENT
    requests.end_run(
        house.inner, "w", run_number=1, status=WorkflowStatus.FAILED, reason="DeadlineExceeded", message="late",
        requester=requests.Requester("", 0, "somebody"),
    )  # fmt: skip
    async with house.manager(incarnation="i2") as (manager, runner):
        ended = await soon(manager.wait(house.address(created)))
        assert (ended.status, ended.reason) == (WorkflowStatus.FAILED, "DeadlineExceeded")
        assert runner.tries == []
    invariants.check(house.inner, "w")
