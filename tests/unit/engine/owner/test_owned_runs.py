"""Concurrent operations on one run: a finish and a resume, a release and a claim, two incarnations of a manager."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.support import invariants
from tests.support.claims import retry, state_of, take_over
from tests.support.fake_runner import raised, returned
from tests.support.managers import (
    AFTER_HEARTBEAT_TIMEOUT,
    FAST,
    ManagerFixture,
    never_returns,
    new_run,
    start_run,
    with_timeout,
)
from tests.support.waiting import eventually
from workflow import requests
from workflow.engine.messages import StepResult
from workflow.engine.owner import takeover
from workflow.engine.owner.manager import ClaimRequest, Manager
from workflow.errors import FencedError, StoreRefusedError, StoreUnavailableError, SupersededError, WorkflowInUseError
from workflow.log import index, owned, registry
from workflow.log.claim import Claimant, claim
from workflow.log.owned import OwnedRun
from workflow.log.run_log import RunLog
from workflow.model.records import Created, StatusChanged, Tombstone
from workflow.model.run_view import ErrorInfo, Owner, RunView
from workflow.model.status import WorkflowStatus
from workflow.reading import read_run
from workflow.testing.failing import FailingStore

QUIET = replace(FAST, heartbeat=60.0, notifications=60.0, fence=60.0)
"""No regular work happens during a test."""


@pytest.fixture
def fixture() -> ManagerFixture:
    return ManagerFixture()


def view(fixture: ManagerFixture) -> RunView:
    found = read_run(fixture.inner, "w")
    assert found is not None
    return found


def log_of(fixture: ManagerFixture, created: Created) -> RunLog:
    entry = registry.read_entry(fixture.inner, created.workflow_id, created.run_number)
    assert isinstance(entry, Created)
    return RunLog(fixture.inner, entry)


def request_cancel(fixture: ManagerFixture, uid: str = "") -> str:
    return requests.request_cancel(fixture.inner, view(fixture), uid=uid, reason="Canceled")


def in_order(*results: StepResult | None) -> Any:
    """A script that returns the next result for each attempt of any step."""
    left = list(results)
    return lambda task: left.pop(0)


def delete(fixture: ManagerFixture) -> None:
    """Delete the run without a check whether its owner lives."""
    registry.register(fixture.inner, Tombstone("w", 2, WorkflowStatus.CANCELED, "Deleted", 1.0))
    requests.remove_below(fixture.inner, "w", "workflows/w/runs/1-")


async def segments_stored(fixture: ManagerFixture, count: int) -> None:
    await eventually(lambda: len(invariants.log_of(fixture.inner, "w")) >= count)


# --- an owner that was fenced ---


async def test_fence_while_a_failure_is_stored_stops_other_steps(fixture: ManagerFixture) -> None:
    async with (
        fixture.manager(script=never_returns, intervals=QUIET) as (old, runner),
        fixture.manager("m2", script=never_returns) as (new, _),
    ):
        await start_run(fixture, old, "a b c:a,b")
        await eventually(lambda: runner.started == ["a", "b"])
        await segments_stored(fixture, 1)
        await with_timeout(new.claim(take_over(fixture.inner)))
        runner.last_attempt("a").answer(raised("a"))
        await eventually(lambda: "b" in runner.stopped)


async def test_busy_owner_checks_its_fence(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=never_returns, intervals=QUIET) as (manager, runner):
        await start_run(fixture, manager, "a b:a")
        await segments_stored(fixture, 1)
        fixture.inner.delete("managers/m1")
        requests.delete_run(fixture.inner, "w", run_number=1, requester=requests.Requester("", 0, "delete"))
        runner.last_attempt("a").run.check_fence()
        runner.last_attempt("a").answer(returned())
        await eventually(lambda: manager.live == 0)
        assert runner.started == ["a"]
    assert fixture.keys("workflows/w/runs/") == []


async def test_earlier_incarnation_reports_its_replacement(
    fixture: ManagerFixture,
) -> None:
    async with fixture.manager(script=never_returns) as (old, _):
        created = await start_run(fixture, old)
        await segments_stored(fixture, 1)
        waiting = asyncio.ensure_future(old.wait(fixture.address(created)))
        async with fixture.manager(incarnation="i2", script=never_returns) as (new, _):
            await with_timeout(old.replaced.wait())
            await eventually(lambda: old.live == 0)
            assert (view(fixture).epoch, new.live, new.replaced.is_set()) == (2, 1, False)
            assert fixture.keys("owned/") == [f"owned/m1/{created.run_uuid}"], (
                "the key belongs to the later incarnation"
            )
        waiting.cancel()


async def test_earlier_incarnation_does_not_release_a_later_epoch(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=never_returns) as (old, _):
        created = await start_run(fixture, old)
        await segments_stored(fixture, 1)
        me = old.identity
        await fixture.abandon(old)
    async with fixture.manager(incarnation="i2", script=never_returns):
        await eventually(lambda: view(fixture).epoch == 2)
        takeover.release(log_of(fixture, created), me, 1.0, "Bug")
        assert view(fixture).status is WorkflowStatus.RUNNING


async def test_run_claimed_by_a_failed_manager_is_not_taken_back(
    fixture: ManagerFixture,
) -> None:
    async with fixture.manager(script=never_returns) as (manager, _):
        await start_run(fixture, manager)
        await segments_stored(fixture, 1)
        await fixture.abandon(manager)
    async with fixture.manager("m2", script=never_returns) as (second, _):
        await with_timeout(second.claim(take_over(fixture.inner)))
        await fixture.abandon(second)
    fixture.clock.now += AFTER_HEARTBEAT_TIMEOUT
    async with fixture.manager(incarnation="i2", script=never_returns) as (again, _):
        await eventually(lambda: not fixture.keys("owned/m1/"))
        assert (view(fixture).epoch, again.live) == (2, 0)


async def test_recovery_does_not_claim_a_run_released_meanwhile(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=never_returns, intervals=QUIET) as (manager, _):
        await start_run(fixture, manager, "a", uid="u", attempt=1)
        await segments_stored(fixture, 1)
        await fixture.abandon(manager)

    def release() -> None:
        requester = requests.Requester("u", 1, "team/u")
        requests.release_run(fixture.inner, "w", run_number=1, requester=requester, reason="Suspended")

    fixture.store.after_call("list", "/registry/", release)  # between the read and the claim
    async with fixture.manager(incarnation="i2", intervals=QUIET) as (restarted, runner):
        await eventually(lambda: not fixture.keys("owned/"))
        assert view(fixture).status is WorkflowStatus.RESUMABLE
        assert (restarted.live, runner.attempts) == (0, [])


async def test_recovery_does_not_claim_a_run_that_a_lost_owner_claimed(fixture: ManagerFixture) -> None:
    """That run may be claimed by anybody, but the restarted manager only meant to continue its own."""
    async with fixture.manager(script=never_returns, intervals=QUIET) as (manager, _):
        await start_run(fixture, manager, "a")
        await segments_stored(fixture, 1)
        await fixture.abandon(manager)

    def claimed_by_object_v() -> None:
        state = state_of(fixture.inner)
        log = RunLog(fixture.inner, state.created)
        claim(log, state, Claimant(Owner("lost", "i1", "manager-lost", "v", 1), 1.0, take_over=state.owner))

    fixture.store.after_call("list", "/registry/", claimed_by_object_v)
    async with fixture.manager(incarnation="i2", intervals=QUIET) as (restarted, runner):
        await eventually(lambda: not fixture.keys("owned/"))
        owner = view(fixture).owner
        assert owner is not None
        assert (owner.uid, restarted.live, runner.attempts) == ("v", 0, [])


# --- a finished run, and its resume ---


async def test_resume_right_after_a_failure_starts_a_new_epoch(fixture: ManagerFixture) -> None:
    fixture.store.fail("create", key="index/FAILED", times=5)  # its index entry is written later
    async with fixture.manager(script=in_order(raised("a"), returned())) as (manager, runner):
        created = await start_run(fixture, manager, "a")
        await eventually(lambda: view(fixture).status is WorkflowStatus.FAILED)
        assert manager.live == 1
        await with_timeout(manager.claim(retry(fixture.inner)))
        assert (await with_timeout(manager.wait(fixture.address(created)))).status is WorkflowStatus.SUCCESSFUL
        assert runner.started == ["a", "a"]


async def test_wait_after_failure_returns_result_of_the_resume(
    fixture: ManagerFixture,
) -> None:
    async with fixture.manager(script=lambda task: raised("a")) as (manager, _), fixture.manager("m2") as (second, _):
        created = await start_run(fixture, manager, "a")
        assert (await with_timeout(manager.wait(fixture.address(created)))).status is WorkflowStatus.FAILED
        await eventually(lambda: manager.live == 0)
        await with_timeout(second.claim(retry(fixture.inner)))
        await with_timeout(second.wait(fixture.address(created)))
        assert (await with_timeout(manager.wait(fixture.address(created)))).status is WorkflowStatus.SUCCESSFUL


async def test_late_finish_keeps_requests_to_the_resumed_run(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=lambda task: raised("a"), intervals=QUIET) as (manager, _):
        created = await start_run(fixture, manager, "a")
        await eventually(lambda: manager.live == 0)
    late = log_of(fixture, created)
    failed = late.replay()
    async with fixture.manager("m2", script=never_returns, intervals=QUIET) as (second, _):
        await with_timeout(second.claim(retry(fixture.inner)))
        request_cancel(fixture)
        takeover.finish_run(late, failed)
        assert fixture.keys("index/") == ["index/RUNNING/w"]
        await second.notify(created.run_uuid)
        assert (await with_timeout(second.wait(fixture.address(created)))).status is WorkflowStatus.CANCELED
    assert fixture.keys("index/") == ["index/CANCELED/w"]


async def test_requests_before_a_failure_are_withdrawn(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=never_returns, intervals=QUIET) as (manager, runner):
        await start_run(fixture, manager, "a")
        await segments_stored(fixture, 1)
        request_cancel(fixture)
        runner.last_attempt("a").answer(raised("a"))
        await eventually(lambda: manager.live == 0)
    assert fixture.keys("notifications/") == []


async def test_late_finish_of_a_deleted_run_writes_no_index_entry(fixture: ManagerFixture) -> None:
    async with fixture.manager(intervals=QUIET) as (manager, _):
        created = await start_run(fixture, manager, "a")
        await eventually(lambda: manager.live == 0)
    late = log_of(fixture, created)
    ended = late.replay()
    requests.delete_run(fixture.inner, "w", run_number=1, requester=requests.Requester("", 0, "delete"))
    with pytest.raises(Exception, match="was deleted or replaced"):
        takeover.finish_run(late, ended)
    assert fixture.keys("index/SUCCESSFUL") == []


async def test_deleted_run_is_not_released(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=never_returns, intervals=QUIET) as (manager, _):
        created = await start_run(fixture, manager, "a")
        await segments_stored(fixture, 1)
        late = log_of(fixture, created)
        delete(fixture)
        before = fixture.keys("workflows/")
        with pytest.raises(SupersededError, match="was deleted or replaced"):
            takeover.release(late, manager.identity, 1.0, "Bug")
        assert fixture.keys("workflows/") == before


@pytest.mark.parametrize(
    ("status", "index_keys"),
    [
        (WorkflowStatus.FAILED, ["index/RUNNING/w"]),
        (WorkflowStatus.CANCELED, ["index/CANCELED/w", "index/RUNNING/w"]),
    ],
)
async def test_late_claimant_leaves_the_run_in_the_index(
    fixture: ManagerFixture, status: WorkflowStatus, index_keys: list[str]
) -> None:
    async with fixture.manager(script=lambda task: raised("a"), intervals=QUIET) as (manager, _):
        created = await start_run(fixture, manager, "a")
        await eventually(lambda: manager.live == 0)

    def another_process_ends_it() -> None:
        log = log_of(fixture, created)
        state = log.replay()
        log.append(state, [StatusChanged(status, state.epoch, 1.0, "Ended", ErrorInfo("ValueError", "boom"))])
        index.set_status(fixture.inner, "w", status, replaces=(WorkflowStatus.RUNNING,))

    fixture.store.after_call("create", "index/RUNNING/w", another_process_ends_it)
    named = log_of(fixture, created).created
    failure = retry(fixture.inner).retry_failed
    takeover.claim_run(RunLog(fixture.store, named), Claimant(Owner("m2", "i1", "late"), 1.0, retry_failed=failure))
    assert fixture.keys("index/") == index_keys, "readers check RUNNING against the log"


async def test_owned_key_of_a_run_deleted_meanwhile_is_removed(fixture: ManagerFixture) -> None:
    store = fixture.store
    async with fixture.manager(script=never_returns, intervals=QUIET) as (manager, runner):
        created = await start_run(fixture, manager, "a")
        await segments_stored(fixture, 1)
        fixture.store = FailingStore(fixture.inner)
        async with fixture.manager("m2", script=never_returns, intervals=QUIET) as (second, _):
            await with_timeout(second.claim(take_over(fixture.inner)))
            store.after_call("list", "/registry/", lambda: delete(fixture))
            runner.last_attempt("a").answer(returned())
            with pytest.raises((FencedError, SupersededError)):
                await with_timeout(manager.wait(fixture.address(created)))
            await eventually(lambda: not fixture.keys("owned/m1/"))


# --- a run that is released after an error ---


async def refuse_next_segment(fixture: ManagerFixture, runner: Any) -> None:
    """Let the step return, and let the store refuse the segment with its outcome."""
    await segments_stored(fixture, 1)
    fixture.store.fail("create", key="/log/", error=StoreRefusedError("access denied"))
    runner.last_attempt("a").answer(returned())


async def test_request_to_a_released_run_takes_effect_after_claim(
    fixture: ManagerFixture,
) -> None:
    async with fixture.manager(script=never_returns) as (manager, _):
        created = await start_run(fixture, manager, "a")
        await segments_stored(fixture, 1)
        fixture.store.fail("create", key="/log/", error=StoreRefusedError("access denied"))
        request_cancel(fixture)  # the segment that cancels the run is refused
        await eventually(lambda: view(fixture).status is WorkflowStatus.RESUMABLE)
        await with_timeout(manager.claim(ClaimRequest("w", 1)))
        assert (await with_timeout(manager.wait(fixture.address(created)))).status is WorkflowStatus.CANCELED


async def test_second_wait_returns_the_result_of_another_manager(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=never_returns) as (manager, runner):
        created = await start_run(fixture, manager, "a")
        await refuse_next_segment(fixture, runner)
        with pytest.raises(StoreRefusedError):
            await with_timeout(manager.wait(fixture.address(created)))
        await eventually(lambda: view(fixture).status is WorkflowStatus.RESUMABLE)
        async with fixture.manager("m2") as (second, _):
            await with_timeout(second.claim(ClaimRequest("w", 1)))
            await with_timeout(second.wait(fixture.address(created)))
        assert (await with_timeout(manager.wait(fixture.address(created)))).status is WorkflowStatus.SUCCESSFUL


async def test_late_release_does_not_end_the_next_epoch(
    fixture: ManagerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def delayed_release(*arguments: Any) -> None:
        reached.set()
        assert go_on.wait(10.0)
        release(*arguments)

    release = takeover.release
    monkeypatch.setattr(takeover, "release", delayed_release)
    async with fixture.manager(script=never_returns, intervals=QUIET) as (manager, runner):
        created = await start_run(fixture, manager, "a")
        await refuse_next_segment(fixture, runner)
        await eventually(reached.is_set)
        claim = asyncio.ensure_future(manager.claim(ClaimRequest("w", 1)))
        await asyncio.sleep(0)
        go_on.set()
        await with_timeout(claim)
        await eventually(lambda: len(runner.started) == 2)
        runner.last_attempt("a").answer(returned())
        assert (await with_timeout(manager.wait(fixture.address(created)))).status is WorkflowStatus.SUCCESSFUL


async def test_refused_snapshot_does_not_end_the_run(fixture: ManagerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workflow.engine.owner.run_loop.SNAPSHOT_EVERY", 1)
    fixture.store.fail("create", key="/snapshot/", error=StoreRefusedError("entity too large"), times=10)
    async with fixture.manager() as (manager, runner):
        created = await start_run(fixture, manager, "a b:a c:b d:c")
        assert (await with_timeout(manager.wait(fixture.address(created)))).status is WorkflowStatus.SUCCESSFUL
        assert runner.started == ["a", "b", "c", "d"]


# --- owned/ keys ---


async def test_owned_key_is_removed_after_an_outage(fixture: ManagerFixture) -> None:
    async with fixture.manager(intervals=QUIET) as (manager, _):
        created = await start_run(fixture, manager, "a")
        await eventually(lambda: not fixture.keys("owned/"))
    owned.add(
        fixture.inner, "m1", OwnedRun("w", 1, created.run_uuid)
    )  # as if the manager had failed after the run finished
    fixture.store.fail("delete", key="owned/", times=3)
    async with fixture.manager(incarnation="i2"):
        await eventually(lambda: not fixture.keys("owned/"))


@pytest.mark.parametrize(
    "act",
    [
        lambda manager, fixture: manager.start(new_run("a", workflow_id="other")),
        lambda manager, fixture: manager.claim(take_over(fixture.inner)),
    ],
    ids=["start", "claim"],
)
async def test_owned_key_with_lost_reply_is_removed(
    fixture: ManagerFixture, act: Callable[[Manager, ManagerFixture], Awaitable[object]]
) -> None:
    async with fixture.manager(script=never_returns) as (manager, _), fixture.manager("m2") as (second, _):
        await start_run(fixture, manager, "a")
        fixture.store.fail("create", key="owned/m2/", after=True)
        with pytest.raises(StoreUnavailableError):
            await with_timeout(act(second, fixture))
        await eventually(lambda: not fixture.keys("owned/m2/"))


# --- which object owns a run ---


async def test_refused_claim_keeps_the_managers_own_run(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=never_returns) as (manager, _):
        created = await start_run(fixture, manager, "a", uid="object-1", attempt=1)
        await fixture.abandon(manager)
    fixture.store.fail("list", key="registry/", times=1)  # the recovery of the next incarnation fails at first
    async with fixture.manager(incarnation="i2", intervals=replace(FAST, fence=0.3)) as (manager, _):
        with pytest.raises(WorkflowInUseError):
            await with_timeout(manager.claim(ClaimRequest("w", 1, uid="object-2", attempt=1)))
        assert fixture.keys("owned/m1/") == [f"owned/m1/{created.run_uuid}"]
        assert (await with_timeout(manager.wait(fixture.address(created)))).status is WorkflowStatus.SUCCESSFUL


@pytest.mark.parametrize(("uid", "accepted"), [("object-1", True), ("", True), ("object-2", False)])
async def test_object_cancels_only_its_own_run(fixture: ManagerFixture, uid: str, accepted: bool) -> None:
    async with fixture.manager(script=never_returns) as (manager, runner):
        created = await start_run(fixture, manager, "a", uid="object-1", attempt=1)
        await eventually(lambda: runner.started == ["a"])
        request = request_cancel(fixture, uid)
        log = log_of(fixture, created)
        await eventually(lambda: request in log.replay().handled_requests)
        assert log.replay().is_finished is accepted
        if not accepted:
            runner.last_attempt("a").answer(returned())
        status = WorkflowStatus.CANCELED if accepted else WorkflowStatus.SUCCESSFUL
        assert (await with_timeout(manager.wait(fixture.address(created)))).status is status
        await eventually(lambda: not fixture.keys("notifications/"))


async def test_wait_or_resume_tolerates_an_outage_at_the_claim(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=never_returns) as (manager, _):
        created = await start_run(fixture, manager, "a")
        await fixture.abandon(manager)
    fixture.clock.now += AFTER_HEARTBEAT_TIMEOUT
    fixture.store.fail("create", key="/log/", error=StoreUnavailableError("away"), times=2)
    async with fixture.manager("m2") as (second, _):
        assert (await with_timeout(second.wait_or_resume(fixture.address(created)))).status is WorkflowStatus.SUCCESSFUL
