"""Runs of a manager where two things happen at once: an end and a resume, a goodbye and a claim, two incarnations."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.support import invariants
from tests.support.fake_runner import raised, returned
from tests.support.managers import FAST, SILENT, House, begun, never, new_run, soon
from tests.support.waiting import eventually
from workflow import requests
from workflow.engine.messages import StepResult
from workflow.engine.owner import takeover
from workflow.engine.owner.manager import ClaimRequest, Manager
from workflow.errors import FencedError, StoreRefusedError, StoreUnavailableError, SupersededError, WorkflowInUseError
from workflow.log import index, owned, registry
from workflow.log.claim import Claimant
from workflow.log.owned import OwnedRun
from workflow.log.run_log import RunLog
from workflow.model.records import Created, StatusChanged, Tombstone
from workflow.model.run_view import ErrorInfo, Owner, RunView
from workflow.model.status import WorkflowStatus
from workflow.reading import read_run
from workflow.testing.failing import FailingStore

QUIET = replace(FAST, heartbeat=60.0, bell=60.0, fence=60.0)
"""What comes at intervals stays out of it."""


@pytest.fixture
def house() -> House:
    return House()


def view(house: House) -> RunView:
    found = read_run(house.inner, "w")
    assert found is not None
    return found


def log_of(house: House, created: Created) -> RunLog:
    named = registry.read_entry(house.inner, created.workflow_id, created.run_number)
    assert isinstance(named, Created)
    return RunLog(house.inner, named)


def request_cancel(house: House, uid: str = "") -> str:
    return requests.request_cancel(house.inner, view(house), uid=uid, reason="Canceled")


def one_after_another(*results: StepResult | None) -> Any:
    """A script: what each try comes to, whatever the step."""
    left = list(results)
    return lambda task: left.pop(0)


def delete(house: House) -> None:
    """The run, by somebody who does not ask whether its owner lives."""
    registry.register(house.inner, Tombstone("w", 2, WorkflowStatus.CANCELED, "Deleted", 1.0))
    requests.remove_below(house.inner, "w", "workflows/w/runs/1-")


async def stored(house: House, segments: int) -> None:
    await eventually(lambda: len(invariants.log_of(house.inner, "w")) >= segments)


# --- an owner that was fenced ---


async def test_an_owner_fenced_while_it_stores_a_failure_stops_the_steps_beside_it(house: House) -> None:
    async with (
        house.manager(script=never, pace=QUIET) as (old, runner),
        house.manager("m2", script=never) as (new, _),
    ):
        await begun(house, old, "a b c:a,b")
        await eventually(lambda: runner.started == ["a", "b"])
        await stored(house, 1)
        await soon(new.claim(ClaimRequest("w", 1, take_over=True)))
        runner.of("a").answer(raised("a"))
        await eventually(lambda: "b" in runner.stopped)


async def test_an_owner_that_is_busy_looks_at_its_fence_too(house: House) -> None:
    async with house.manager(script=never, pace=QUIET) as (manager, runner):
        await begun(house, manager, "a b:a")
        await stored(house, 1)
        house.inner.delete("managers/m1")
        requests.delete_run(house.inner, "w", run_number=1, requester=requests.Requester("", 0, "delete"))
        runner.of("a").run.look()
        runner.of("a").answer(returned())
        await eventually(lambda: manager.live == 0)
        assert runner.started == ["a"]
    assert house.keys("workflows/w/runs/") == []


async def test_an_incarnation_that_finds_a_later_one_at_work_takes_nothing_back_and_says_so(house: House) -> None:
    async with house.manager(script=never) as (old, _):
        created = await begun(house, old)
        await stored(house, 1)
        waiting = asyncio.ensure_future(old.wait(house.address(created)))
        async with house.manager(incarnation="i2", script=never) as (new, _):
            await soon(old.replaced.wait())
            await eventually(lambda: old.live == 0)
            assert (view(house).epoch, new.live, new.replaced.is_set()) == (2, 1, False)
            assert house.keys("owned/") == [f"owned/m1/{created.run_uuid}"], "the later one's by now"
        waiting.cancel()


async def test_an_incarnation_says_no_goodbye_for_the_one_behind_it(house: House) -> None:
    async with house.manager(script=never) as (old, _):
        created = await begun(house, old)
        await stored(house, 1)
        me = old.me
        await house.abandon(old)
    async with house.manager(incarnation="i2", script=never):
        await eventually(lambda: view(house).epoch == 2)
        takeover.release(log_of(house, created), me, 1.0, "Bug")
        assert view(house).status is WorkflowStatus.RUNNING


async def test_a_run_that_another_manager_claimed_is_not_taken_back_though_that_one_is_silent(house: House) -> None:
    async with house.manager(script=never) as (manager, _):
        await begun(house, manager)
        await stored(house, 1)
        await house.abandon(manager)
    async with house.manager("m2", script=never) as (second, _):
        await soon(second.claim(ClaimRequest("w", 1, take_over=True)))
        await house.abandon(second)
    house.clock.now += SILENT
    async with house.manager(incarnation="i2", script=never) as (again, _):
        await eventually(lambda: not house.keys("owned/m1/"))
        assert (view(house).epoch, again.live) == (2, 0)


# --- an end, and who resumes it ---


async def test_a_run_that_failed_just_now_is_tried_again_by_who_resumes_it(house: House) -> None:
    house.store.fail("create", key="index/FAILED", times=5)  # its end is stored, and takes a while to close
    async with house.manager(script=one_after_another(raised("a"), returned())) as (manager, runner):
        created = await begun(house, manager, "a")
        await eventually(lambda: view(house).status is WorkflowStatus.FAILED)
        assert manager.live == 1
        await soon(manager.claim(ClaimRequest("w", 1, retry_failed=True)))
        assert (await soon(manager.wait(house.address(created)))).status is WorkflowStatus.SUCCESSFUL
        assert runner.started == ["a", "a"]


async def test_who_waits_for_a_run_that_failed_here_is_told_how_it_ended_elsewhere_since(house: House) -> None:
    async with house.manager(script=lambda task: raised("a")) as (manager, _), house.manager("m2") as (second, _):
        created = await begun(house, manager, "a")
        assert (await soon(manager.wait(house.address(created)))).status is WorkflowStatus.FAILED
        await eventually(lambda: manager.live == 0)
        await soon(second.claim(ClaimRequest("w", 1, retry_failed=True)))
        await soon(second.wait(house.address(created)))
        assert (await soon(manager.wait(house.address(created)))).status is WorkflowStatus.SUCCESSFUL


async def test_what_is_asked_of_a_resumed_run_is_kept_by_who_closes_its_end_before(house: House) -> None:
    async with house.manager(script=lambda task: raised("a"), pace=QUIET) as (manager, _):
        created = await begun(house, manager, "a")
        await eventually(lambda: manager.live == 0)
    late = log_of(house, created)
    failed = late.replay()
    async with house.manager("m2", script=never, pace=QUIET) as (second, _):
        await soon(second.claim(ClaimRequest("w", 1, retry_failed=True)))
        request_cancel(house)
        takeover.settle(late, failed)
        assert house.keys("index/") == ["index/RUNNING/w"]
        await second.notify(created.run_uuid)
        assert (await soon(second.wait(house.address(created)))).status is WorkflowStatus.CANCELED
    assert house.keys("index/") == ["index/CANCELED/w"]


async def test_what_was_asked_of_a_run_before_it_failed_is_not_done_to_the_resumed_one(house: House) -> None:
    async with house.manager(script=never, pace=QUIET) as (manager, runner):
        await begun(house, manager, "a")
        await stored(house, 1)
        request_cancel(house)
        runner.of("a").answer(raised("a"))
        await eventually(lambda: manager.live == 0)
    assert house.keys("notifications/") == []


async def test_no_hint_of_an_end_is_left_of_a_run_that_was_deleted_meanwhile(house: House) -> None:
    async with house.manager(pace=QUIET) as (manager, _):
        created = await begun(house, manager, "a")
        await eventually(lambda: manager.live == 0)
    late = log_of(house, created)
    ended = late.replay()
    requests.delete_run(house.inner, "w", run_number=1, requester=requests.Requester("", 0, "delete"))
    with pytest.raises(Exception, match="was deleted or replaced"):
        takeover.settle(late, ended)
    assert house.keys("index/SUCCESSFUL") == []


async def test_nobody_says_goodbye_for_a_run_that_was_deleted(house: House) -> None:
    async with house.manager(script=never, pace=QUIET) as (manager, _):
        created = await begun(house, manager, "a")
        await stored(house, 1)
        late = log_of(house, created)
        delete(house)
        before = house.keys("workflows/")
        with pytest.raises(SupersededError, match="was deleted or replaced"):
            takeover.release(late, manager.me, 1.0, "Bug")
        assert house.keys("workflows/") == before


@pytest.mark.parametrize(
    ("end", "left"),
    [
        (WorkflowStatus.FAILED, ["index/RUNNING/w"]),
        (WorkflowStatus.CANCELED, ["index/CANCELED/w", "index/RUNNING/w"]),
    ],
)
async def test_a_claimant_that_comes_late_leaves_the_run_in_the_index(
    house: House, end: WorkflowStatus, left: list[str]
) -> None:
    async with house.manager(script=lambda task: raised("a"), pace=QUIET) as (manager, _):
        created = await begun(house, manager, "a")
        await eventually(lambda: manager.live == 0)

    def another_ends_it() -> None:
        log = log_of(house, created)
        state = log.replay()
        log.append(state.seq + 1, [StatusChanged(end, state.epoch, 1.0, "Ended", ErrorInfo("ValueError", "boom"))])
        index.set_status(house.inner, "w", end, replaces=(WorkflowStatus.RUNNING,))

    house.store.after_call("create", "index/RUNNING/w", another_ends_it)
    named = log_of(house, created).created
    takeover.take(RunLog(house.store, named), Claimant(Owner("m2", "i1", "late"), 1.0, retry_failed=True))
    assert house.keys("index/") == left, "nobody believes RUNNING without a look at the log"


async def test_a_run_that_is_deleted_while_its_last_owner_lets_go_of_it_is_let_go_of(house: House) -> None:
    store = house.store
    async with house.manager(script=never, pace=QUIET) as (manager, runner):
        created = await begun(house, manager, "a")
        await stored(house, 1)
        house.store = FailingStore(house.inner)
        async with house.manager("m2", script=never, pace=QUIET) as (second, _):
            await soon(second.claim(ClaimRequest("w", 1, take_over=True)))
            store.after_call("list", "/registry/", lambda: delete(house))
            runner.of("a").answer(returned())
            with pytest.raises((FencedError, SupersededError)):
                await soon(manager.wait(house.address(created)))
            await eventually(lambda: not house.keys("owned/m1/"))


# --- a run that is given up ---


async def given_up(house: House, runner: Any) -> None:
    """The store refuses the next segment of the run."""
    await stored(house, 1)
    house.store.fail("create", key="/log/", error=StoreRefusedError("access denied"))
    runner.of("a").answer(returned())


async def test_a_request_to_a_run_that_was_given_up_takes_effect_once_it_is_claimed_again(house: House) -> None:
    async with house.manager(script=never) as (manager, _):
        created = await begun(house, manager, "a")
        await stored(house, 1)
        house.store.fail("create", key="/log/", error=StoreRefusedError("access denied"))
        request_cancel(house)  # what it does to the run is the segment that is refused
        await eventually(lambda: view(house).status is WorkflowStatus.RESUMABLE)
        await soon(manager.claim(ClaimRequest("w", 1)))
        assert (await soon(manager.wait(house.address(created)))).status is WorkflowStatus.CANCELED


async def test_who_waits_again_is_told_how_the_run_ended_elsewhere(house: House) -> None:
    async with house.manager(script=never) as (manager, runner):
        created = await begun(house, manager, "a")
        await given_up(house, runner)
        with pytest.raises(StoreRefusedError):
            await soon(manager.wait(house.address(created)))
        await eventually(lambda: view(house).status is WorkflowStatus.RESUMABLE)
        async with house.manager("m2") as (second, _):
            await soon(second.claim(ClaimRequest("w", 1)))
            await soon(second.wait(house.address(created)))
        assert (await soon(manager.wait(house.address(created)))).status is WorkflowStatus.SUCCESSFUL


async def test_a_goodbye_that_is_late_does_not_end_the_epoch_behind_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def late(*arguments: Any) -> None:
        reached.set()
        assert go_on.wait(10.0)
        say_goodbye(*arguments)

    say_goodbye = takeover.release
    monkeypatch.setattr(takeover, "release", late)
    async with house.manager(script=never, pace=QUIET) as (manager, runner):
        created = await begun(house, manager, "a")
        await given_up(house, runner)
        await eventually(reached.is_set)
        claim = asyncio.ensure_future(manager.claim(ClaimRequest("w", 1)))
        await asyncio.sleep(0)
        go_on.set()
        await soon(claim)
        await eventually(lambda: len(runner.started) == 2)
        runner.of("a").answer(returned())
        assert (await soon(manager.wait(house.address(created)))).status is WorkflowStatus.SUCCESSFUL


async def test_a_store_that_refuses_a_snapshot_ends_no_run(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workflow.engine.owner.run_loop.SNAPSHOT_EVERY", 1)
    house.store.fail("create", key="/snapshot/", error=StoreRefusedError("entity too large"), times=10)
    async with house.manager() as (manager, runner):
        created = await begun(house, manager, "a b:a c:b d:c")
        assert (await soon(manager.wait(house.address(created)))).status is WorkflowStatus.SUCCESSFUL
        assert runner.started == ["a", "b", "c", "d"]


# --- keys that say whose run it may be ---


async def test_a_key_that_could_not_be_removed_is_removed_later(house: House) -> None:
    async with house.manager(pace=QUIET) as (manager, _):
        created = await begun(house, manager, "a")
        await eventually(lambda: not house.keys("owned/"))
    owned.add(house.inner, "m1", OwnedRun("w", 1, created.run_uuid))  # it died behind the end
    house.store.fail("delete", key="owned/", times=3)
    async with house.manager(incarnation="i2"):
        await eventually(lambda: not house.keys("owned/"))


@pytest.mark.parametrize(
    "act",
    [
        lambda manager: manager.start(new_run("a", workflow_id="other")),
        lambda manager: manager.claim(ClaimRequest("w", 1, take_over=True)),
    ],
    ids=["start", "claim"],
)
async def test_a_key_that_was_written_although_no_answer_came_is_found_again(
    house: House, act: Callable[[Manager], Awaitable[object]]
) -> None:
    async with house.manager(script=never) as (manager, _), house.manager("m2") as (second, _):
        await begun(house, manager, "a")
        house.store.fail("create", key="owned/m2/", after=True)
        with pytest.raises(StoreUnavailableError):
            await soon(act(second))
        await eventually(lambda: not house.keys("owned/m2/"))


# --- whose run it is ---


async def test_a_claim_that_is_refused_leaves_the_manager_its_own_run(house: House) -> None:
    async with house.manager(script=never) as (manager, _):
        created = await begun(house, manager, "a", uid="object-1", attempt=1)
        await house.abandon(manager)
    house.store.fail("head", key="names", times=0)
    house.store.fail("list", key="names", times=1)  # it is not taken up when the next incarnation begins
    async with house.manager(incarnation="i2", pace=replace(FAST, fence=0.3)) as (manager, _):
        with pytest.raises(WorkflowInUseError):
            await soon(manager.claim(ClaimRequest("w", 1, uid="object-2", attempt=1)))
        assert house.keys("owned/m1/") == [f"owned/m1/{created.run_uuid}"]
        assert (await soon(manager.wait(house.address(created)))).status is WorkflowStatus.SUCCESSFUL


@pytest.mark.parametrize(("uid", "ends"), [("object-1", True), ("", True), ("object-2", False)])
async def test_an_object_cancels_its_own_run_only(house: House, uid: str, ends: bool) -> None:
    async with house.manager(script=never) as (manager, runner):
        created = await begun(house, manager, "a", uid="object-1", attempt=1)
        await eventually(lambda: runner.started == ["a"])
        request = request_cancel(house, uid)
        log = log_of(house, created)
        await eventually(lambda: request in log.replay().handled_requests)
        assert log.replay().is_finished is ends
        if not ends:
            runner.of("a").answer(returned())
        status = WorkflowStatus.CANCELED if ends else WorkflowStatus.SUCCESSFUL
        assert (await soon(manager.wait(house.address(created)))).status is status
        await eventually(lambda: not house.keys("notifications/"))


async def test_who_sees_a_run_through_bears_a_store_that_is_away_at_the_claim(house: House) -> None:
    async with house.manager(script=never) as (manager, _):
        created = await begun(house, manager, "a")
        await house.abandon(manager)
    house.clock.now += SILENT
    house.store.fail("create", key="/log/", error=StoreUnavailableError("away"), times=2)
    async with house.manager("m2") as (second, _):
        assert (await soon(second.wait_or_resume(house.address(created)))).status is WorkflowStatus.SUCCESSFUL
