"""The manager on a memory store: results, restarts, claims and fences, deletion, requests."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.support import invariants
from tests.support.claims import state_of, take_over
from tests.support.fake_runner import FakeRunner, raised, returned
from tests.support.managers import (
    AFTER_HEARTBEAT_TIMEOUT,
    FAST,
    ManagerFixture,
    never_returns,
    new_run,
    run_to_result,
    start_run,
    with_timeout,
)
from tests.support.waiting import eventually
from workflow import requests
from workflow.engine.messages import StepResult
from workflow.engine.owner.manager import ClaimRequest, Manager
from workflow.errors import (
    CorruptLogError,
    StoreUnavailableError,
    SupersededError,
    UnavailableError,
    WorkflowConflictError,
    WorkflowInUseError,
)
from workflow.log import liveness, registry
from workflow.model import records as r
from workflow.model.records import Tombstone
from workflow.model.run_view import Owner
from workflow.model.status import WorkflowStatus
from workflow.reading import read_run, status_of
from workflow.testing.failing import FailingStore
from workflow.testing.instrumented import InstrumentedStore

RARE = replace(FAST, heartbeat=60.0, notifications=60.0, fence=60.0)
"""No regular work happens during a test, so that only the calls under test are counted."""


@pytest.fixture
def fixture() -> ManagerFixture:
    return ManagerFixture()


def owner_of(fixture: ManagerFixture, workflow_id: str = "w") -> tuple[str, str, int]:
    view = read_run(fixture.inner, workflow_id)
    assert view is not None
    assert view.owner is not None
    return view.owner.manager, view.owner.incarnation, view.epoch


# --- results and stored keys ---


async def test_finished_run_leaves_log_registry_and_index_entry(fixture: ManagerFixture) -> None:
    async with fixture.manager() as (manager, _):
        await run_to_result(fixture, manager, new_run("a"))
        await eventually(lambda: not fixture.keys("owned/"))
    assert fixture.keys("index/") == ["index/SUCCESSFUL/w"]
    assert fixture.keys("notifications/") == []
    assert fixture.keys("managers/") == []


async def test_finished_run_is_not_read_again(fixture: ManagerFixture) -> None:
    counted = InstrumentedStore(fixture.inner)
    fixture.store = FailingStore(counted)
    chain = " ".join(["s0", *(f"s{i}:s{i - 1}" for i in range(1, 50))])
    async with fixture.manager(intervals=RARE) as (manager, _):
        await run_to_result(fixture, manager, new_run(chain))
        await eventually(lambda: not fixture.keys("owned/"))
    assert counted.counts()["create"].calls > 50
    assert counted.counts()["get"].calls < 10


async def test_later_waits_return_the_same_result(fixture: ManagerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workflow.engine.owner.live_runs.RESULTS_KEPT", 2)
    async with fixture.manager() as (manager, _):
        results = []
        created = [new_run("a", workflow_id=f"w{i}") for i in range(5)]
        for each in created:
            results.append(await run_to_result(fixture, manager, each))
        again = [await with_timeout(manager.wait(fixture.address(each))) for each in created]
    assert [result.outcome for result in again] == [result.outcome for result in results]


async def test_finished_runs_do_not_evict_a_live_run(fixture: ManagerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workflow.engine.owner.live_runs.RESULTS_KEPT", 1)
    async with fixture.manager(script=lambda task: None if task.run.workflow_id == "slow" else returned()) as (
        manager,
        runner,
    ):
        slow = await start_run(fixture, manager, "a", workflow_id="slow")
        for i in range(4):
            await run_to_result(fixture, manager, new_run("a", workflow_id=f"w{i}"))
        waiting = asyncio.ensure_future(manager.wait(fixture.address(slow)))
        await asyncio.sleep(0)
        next(each for each in runner.attempts if each.task.run.workflow_id == "slow").answer(returned())
        assert (await with_timeout(waiting)).status is WorkflowStatus.SUCCESSFUL


async def test_start_with_a_used_id_returns_the_existing_run(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=never_returns) as (manager, _):
        first = await start_run(fixture, manager)
        existing = await with_timeout(manager.start(new_run("x")))
        assert isinstance(existing, r.Created)
        assert existing.run_uuid == first.run_uuid
        assert manager.live == 1
        assert fixture.keys("owned/") == [f"owned/m1/{first.run_uuid}"]


async def test_start_with_a_tombstone_returns_the_tombstone(fixture: ManagerFixture) -> None:
    stone = Tombstone("w", 1, WorkflowStatus.CANCELED, "Canceled", 1.0)
    registry.register(fixture.inner, stone)
    async with fixture.manager() as (manager, _):
        assert await with_timeout(manager.start(new_run("a"))) == stone
        assert fixture.keys("owned/") == []


# --- restarts ---


async def test_restarted_manager_resumes_without_committed_steps(fixture: ManagerFixture) -> None:
    script = lambda task: returned() if task.step_id == "a" else None  # noqa: E731
    async with fixture.manager(script=script) as (manager, runner):
        created = await start_run(fixture, manager, "a b:a c:b")
        await eventually(lambda: "b" in runner.started)
        await fixture.abandon(manager)
    async with fixture.manager(incarnation="i2") as (manager, runner):
        ended = await with_timeout(manager.wait(fixture.address(created)))
        assert ended.status is WorkflowStatus.SUCCESSFUL
        assert runner.started == ["b", "c"]
        assert owner_of(fixture) == ("m1", "i2", 2)
    invariants.check(fixture.inner, "w")


async def test_restarted_manager_leaves_a_run_claimed_by_another(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=never_returns) as (manager, _):
        created = await start_run(fixture, manager)
        await fixture.abandon(manager)
    async with fixture.manager("m2", script=never_returns) as (second, _):
        await with_timeout(second.claim(take_over(fixture.inner)))
        async with fixture.manager(incarnation="i2") as (first_again, runner):
            assert first_again.live == 0
            assert runner.attempts == []
            assert owner_of(fixture) == ("m2", "i1", 2)
            assert fixture.keys("owned/m1/") == []
        assert fixture.keys("owned/m2/") == [f"owned/m2/{created.run_uuid}"]


async def test_start_with_lost_reply_resumes_in_next_incarnation(fixture: ManagerFixture) -> None:
    created = new_run("a")
    fixture.keep_function(created)
    fixture.store.fail("create", key="registry/", after=True)
    async with fixture.manager() as (manager, _):
        with pytest.raises(StoreUnavailableError):
            await with_timeout(manager.start(created))
        await fixture.abandon(manager)
    async with fixture.manager(incarnation="i2") as (manager, _):
        assert (await with_timeout(manager.wait(fixture.address(created)))).status is WorkflowStatus.SUCCESSFUL


async def test_start_with_lost_reply_resumes_in_same_incarnation(fixture: ManagerFixture) -> None:
    created = new_run("a")
    fixture.keep_function(created)
    fixture.store.fail("create", key="registry/", after=True)
    async with fixture.manager() as (manager, _):
        with pytest.raises(StoreUnavailableError):
            await with_timeout(manager.start(created))
        assert (await with_timeout(manager.wait(fixture.address(created)))).status is WorkflowStatus.SUCCESSFUL


@pytest.mark.parametrize("remembered", [True, False], ids=["in memory", "from the log"])
@pytest.mark.parametrize("result", [returned(), raised("a")], ids=["successful", "failed"])
async def test_repeated_start_of_a_finished_run_executes_nothing(
    fixture: ManagerFixture, monkeypatch: pytest.MonkeyPatch, result: StepResult, remembered: bool
) -> None:
    monkeypatch.setattr("workflow.engine.owner.live_runs.RESULTS_KEPT", 1)
    created = new_run("a")
    async with fixture.manager(script=lambda task: result, intervals=RARE) as (manager, runner):
        ended = await run_to_result(fixture, manager, created)
        if not remembered:  # the result of another run evicts it from memory
            await run_to_result(fixture, manager, new_run("a", workflow_id="other"))
        await eventually(lambda: not fixture.keys("owned/"))
        stored, started = fixture.keys(), list(runner.started)
        await with_timeout(manager.start(created))
        assert (await with_timeout(manager.wait(fixture.address(created)))).status is ended.status
        assert (runner.started, fixture.keys()) == (started, stored)


async def test_damaged_run_does_not_stop_recovery_of_others(
    fixture: ManagerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    async with fixture.manager(script=never_returns) as (manager, _):
        bad = await start_run(fixture, manager, workflow_id="bad")
        good = await start_run(fixture, manager, workflow_id="good")
        await fixture.abandon(manager)
    segment = f"workflows/bad/runs/1-{bad.run_uuid}/log/{1:020d}"
    fixture.inner.overwrite(segment, b"torn")
    async with fixture.manager(incarnation="i2") as (manager, _):
        assert (await with_timeout(manager.wait(fixture.address(good)))).status is WorkflowStatus.SUCCESSFUL
        with pytest.raises(CorruptLogError, match=segment):
            await with_timeout(manager.wait(fixture.address(bad)))
    assert segment in caplog.text


async def test_next_incarnation_writes_missing_index_entries(
    fixture: ManagerFixture,
) -> None:
    async with fixture.manager() as (manager, _):
        fixture.store.fail("create", key="index/SUCCESSFUL", times=10_000)
        created = new_run("a")
        fixture.keep_function(created)
        await with_timeout(manager.start(created))
        await eventually(lambda: (view := read_run(fixture.inner, "w")) is not None and view.ended is not None)
        await fixture.abandon(manager)
    assert fixture.keys("index/") == ["index/RUNNING/w"]
    fixture.store = type(fixture.store)(fixture.inner)
    async with fixture.manager(incarnation="i2"):
        assert fixture.keys("index/") == ["index/SUCCESSFUL/w"]
        assert fixture.keys("owned/") == []


# --- claim and fence ---


async def test_run_with_a_live_owner_is_not_claimed(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=never_returns) as (first, _), fixture.manager("m2") as (second, _):
        await start_run(fixture, first)
        with pytest.raises(WorkflowInUseError, match="manager-m1") as refused:
            await with_timeout(second.claim(ClaimRequest("w", 1)))
        assert refused.value.owner.manager == "m1"  # type: ignore[attr-defined]
        assert fixture.keys("owned/m2/") == []
        assert second.live == 0


async def test_waiting_owner_detects_fence_and_stops_its_steps(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=never_returns) as (old, old_runner), fixture.manager("m2") as (new, _):
        created = await start_run(fixture, old)
        await eventually(lambda: old_runner.started == ["a"])
        waiting = asyncio.ensure_future(old.wait(fixture.address(created)))
        await with_timeout(new.claim(take_over(fixture.inner)))
        assert (await with_timeout(new.wait(fixture.address(created)))).status is WorkflowStatus.SUCCESSFUL
        written = invariants.log_bytes(fixture.inner, "w")

        await eventually(lambda: old_runner.stopped == ["a"])
        assert (await with_timeout(waiting)).status is WorkflowStatus.SUCCESSFUL  # it reads the log of the new owner
        old_runner.last_attempt("a").answer(returned("too late"))
        await eventually(lambda: not fixture.keys("owned/m1/"))
        assert old.live == 0
        assert invariants.log_bytes(fixture.inner, "w") == written
    invariants.check(fixture.inner, "w")


async def test_outcome_of_a_fenced_owner_is_not_committed(fixture: ManagerFixture) -> None:
    intervals = type(FAST)(heartbeat=0.05, notifications=0.02, fence=1_000.0, follow=0.02, retry=0.02)
    async with (
        fixture.manager(script=never_returns, intervals=intervals) as (old, old_runner),
        fixture.manager("m2", script=never_returns) as (new, new_runner),
    ):
        created = await start_run(fixture, old)
        await eventually(lambda: old_runner.started == ["a"])
        await with_timeout(new.claim(take_over(fixture.inner)))
        old_runner.last_attempt("a").answer(returned("old"))
        await eventually(lambda: old_runner.stopped)
        await eventually(lambda: new_runner.started == ["a"])
        new_runner.last_attempt("a").answer(returned("new"))
        await eventually(lambda: new_runner.started == ["a", "b"])
        assert new_runner.last_attempt("b").task.parents[0].value.inline == b"new"
        new_runner.last_attempt("b").answer(returned())
        assert (await with_timeout(new.wait(fixture.address(created)))).status is WorkflowStatus.SUCCESSFUL
    invariants.check(fixture.inner, "w")


async def test_heartbeat_contains_why_steps_have_no_worker(fixture: ManagerFixture) -> None:
    identity = Owner("m1", "i1", "manager-m1")
    waits = {"run-1": "step a has no worker"}
    manager = Manager(fixture.store, identity, FakeRunner(), FAST, runtime=fixture.runtime, waits=lambda: waits)
    await manager.begin()
    assert liveness.wait_reason(fixture.inner, identity, "run-1") == "step a has no worker"
    waits.clear()
    await eventually(lambda: liveness.wait_reason(fixture.inner, identity, "run-1") == "")
    await manager.leave()


async def test_expired_heartbeat_makes_run_resumable_for_waiters(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=never_returns) as (manager, _):
        created = await start_run(fixture, manager)
        await fixture.abandon(manager)
    fixture.clock.now += AFTER_HEARTBEAT_TIMEOUT
    view = read_run(fixture.inner, "w")
    assert view is not None
    assert status_of(fixture.inner, view) is WorkflowStatus.RESUMABLE
    async with fixture.manager("m2") as (second, _):
        with pytest.raises(UnavailableError, match="RESUMABLE"):
            await with_timeout(second.wait(fixture.address(created)))


async def test_wait_or_resume_claims_after_heartbeat_expired(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=never_returns) as (manager, _):
        created = await start_run(fixture, manager)
        await fixture.abandon(manager)
    async with fixture.manager("m2") as (second, _):
        waiting = asyncio.ensure_future(second.wait_or_resume(fixture.address(created)))
        await asyncio.sleep(0)
        assert not waiting.done()
        fixture.clock.now += AFTER_HEARTBEAT_TIMEOUT
        assert (await with_timeout(waiting)).status is WorkflowStatus.SUCCESSFUL
        assert owner_of(fixture)[0] == "m2"


async def test_two_claims_at_one_manager_start_one_epoch(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=never_returns) as (manager, _):
        created = await start_run(fixture, manager)
        await fixture.abandon(manager)
    async with fixture.manager("m2", script=never_returns) as (second, _):
        request = take_over(fixture.inner)
        await with_timeout(asyncio.gather(second.claim(request), second.claim(request)))
        assert owner_of(fixture) == ("m2", "i1", 2)
        assert fixture.keys("owned/m2/") == [f"owned/m2/{created.run_uuid}"]


@pytest.mark.parametrize(
    ("uid", "attempt", "refused"),
    [
        pytest.param("u", 2, None, id="the same attempt"),
        pytest.param("u", 3, None, id="a later attempt"),
        pytest.param("u", 1, SupersededError, id="an earlier attempt"),
        pytest.param("other", 9, WorkflowInUseError, id="another object"),
        pytest.param("", 0, None, id="no object"),
    ],
)
async def test_live_run_accepts_claims_of_its_own_object_only(
    fixture: ManagerFixture, uid: str, attempt: int, refused: type[Exception] | None
) -> None:
    async with fixture.manager(script=never_returns) as (manager, _):
        await start_run(fixture, manager, uid="u", attempt=2)
        request = ClaimRequest("w", 1, uid=uid, attempt=attempt)
        if refused is None:
            await with_timeout(manager.claim(request))
        else:
            with pytest.raises(refused):
                await with_timeout(manager.claim(request))
        assert manager.live == 1


async def test_successful_run_is_not_claimed(fixture: ManagerFixture) -> None:
    async with fixture.manager() as (manager, _), fixture.manager("m2") as (second, _):
        await run_to_result(fixture, manager, new_run("a"))
        request = replace(take_over(fixture.inner), retry_failed=state_of(fixture.inner).seq)
        with pytest.raises(WorkflowConflictError, match="already ended with status SUCCESSFUL"):
            await with_timeout(second.claim(request))


async def test_claim_over_max_resumes_fails_and_names_suspects(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=never_returns) as (manager, runner):
        created = await start_run(fixture, manager, "a b", max_resumes=0)
        await eventually(lambda: len(runner.attempts) == 2)
        await eventually(lambda: len(invariants.log_of(fixture.inner, "w")) == 2)
        await fixture.abandon(manager)
    async with fixture.manager("m2") as (second, runner):
        await with_timeout(second.claim(take_over(fixture.inner)))
        ended = await with_timeout(second.wait(fixture.address(created)))
        assert (ended.status, ended.reason) == (WorkflowStatus.FAILED, "ResumesExhausted")
        assert ended.error is not None
        assert "steps running at those times: a, b" in ended.error.message
        assert runner.attempts == []
        await eventually(lambda: not fixture.keys("owned/m2/"))
        assert fixture.keys("index/") == ["index/FAILED/w"]


# --- deletion ---


async def test_deleted_run_is_not_claimed_and_its_owner_stops(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=never_returns) as (manager, runner), fixture.manager("m2") as (second, _):
        created = await start_run(fixture, manager)
        await eventually(lambda: runner.started == ["a"])
        waiting = asyncio.ensure_future(manager.wait(fixture.address(created)))
        registry.register(fixture.inner, Tombstone("w", 2, WorkflowStatus.CANCELED, "Deleted", 1.0))
        with pytest.raises(SupersededError, match="was deleted or replaced"):
            await with_timeout(second.claim(take_over(fixture.inner)))
        await eventually(lambda: runner.stopped == ["a"])
        with pytest.raises(SupersededError):
            await with_timeout(waiting)
        await eventually(lambda: not fixture.keys("owned/"))


async def test_owner_stops_if_the_store_is_emptied(fixture: ManagerFixture) -> None:
    """It learns so from its next check of the fence. What it wrote after the loss belongs to no run."""
    async with fixture.manager(script=never_returns) as (manager, runner):
        created = await start_run(fixture, manager)
        await eventually(lambda: runner.started == ["a"] and any("/log/" in key for key in fixture.keys("")))
        waiting = asyncio.ensure_future(manager.wait(fixture.address(created)))
        for info in list(fixture.inner.list("")):
            fixture.inner.delete(info.key)
        with pytest.raises(SupersededError, match=r"the store lost .*: restore it from a copy"):
            await with_timeout(waiting)
        await eventually(lambda: runner.stopped == ["a"])
        assert registry.current_entry(fixture.inner, "w") is None
        assert not [key for key in fixture.keys("") if "/log/" in key]


async def test_waiter_that_reads_the_log_learns_of_deletion(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=never_returns) as (manager, _):
        created = await start_run(fixture, manager)
        fixture.store = FailingStore(counted := InstrumentedStore(fixture.inner))
        async with fixture.manager("m2", intervals=RARE) as (second, _):
            waiting = asyncio.ensure_future(second.wait(fixture.address(created)))
            await eventually(
                lambda: sum(each.calls for each in counted.counts().values()) > 30
            )  # the waiter reads repeatedly
            registry.register(fixture.inner, Tombstone("w", 2, WorkflowStatus.CANCELED, "Deleted", 1.0))
            with pytest.raises(SupersededError):
                await with_timeout(waiting)


async def test_wait_for_a_deleted_finished_run_raises(fixture: ManagerFixture) -> None:
    async with fixture.manager() as (manager, _), fixture.manager("m2") as (second, _):
        created = new_run("a")
        await run_to_result(fixture, manager, created)
        registry.register(fixture.inner, Tombstone("w", 2, WorkflowStatus.CANCELED, "Deleted", 1.0))
        with pytest.raises(SupersededError, match="was deleted or replaced"):
            await with_timeout(second.wait(fixture.address(created)))


# --- requests ---


async def test_claimant_handles_a_cancel_sent_before_the_claim(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=never_returns) as (manager, _):
        created = await start_run(fixture, manager)
        await fixture.abandon(manager)
    view = read_run(fixture.inner, "w")
    assert view is not None
    requests.request_cancel(fixture.inner, view, uid="", reason="Canceled")
    for notification in fixture.keys("notifications/"):
        fixture.inner.delete(notification)  # the requester failed before it wrote one
    async with fixture.manager("m2", script=never_returns) as (second, _):
        await with_timeout(second.claim(take_over(fixture.inner)))
        assert (await with_timeout(second.wait(fixture.address(created)))).status is WorkflowStatus.CANCELED


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"kind": "unknown"}'], ids=["empty", "truncated", "not an object", "unknown kind"]
)
async def test_malformed_request_is_ignored(fixture: ManagerFixture, content: bytes) -> None:
    async with fixture.manager(script=never_returns) as (manager, _):
        created = await start_run(fixture, manager, "a")
        fixture.inner.create(f"workflows/w/runs/1-{created.run_uuid}/inbox/malformed", content, "1")
        fixture.inner.create(f"notifications/{created.run_uuid}.malformed", b"", "1")
        view = read_run(fixture.inner, "w")
        assert view is not None
        requests.request_cancel(fixture.inner, view, uid="", reason="Canceled")
        assert (await with_timeout(manager.wait(fixture.address(created)))).status is WorkflowStatus.CANCELED
