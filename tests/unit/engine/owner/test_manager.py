"""The manager on a memory store: waiters, restarts, the fence, deletion, requests."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.support import invariants
from tests.support.fake_runner import raised, returned
from tests.support.managers import FAST, SILENT, House, begun, finish, never, new_run, soon
from tests.support.waiting import eventually
from workflow import requests
from workflow.engine.messages import StepResult
from workflow.engine.owner.manager import ClaimRequest
from workflow.errors import (
    CorruptLogError,
    StoreUnavailableError,
    SupersededError,
    UnavailableError,
    WorkflowConflictError,
    WorkflowInUseError,
)
from workflow.log import registry
from workflow.model import records as r
from workflow.model.records import Tombstone
from workflow.model.status import WorkflowStatus
from workflow.reading import read_run, status_of
from workflow.testing.failing import FailingStore
from workflow.testing.instrumented import InstrumentedStore

RARE = replace(FAST, heartbeat=60.0, bell=60.0, fence=60.0)
"""The regular work of a manager stays out of what is counted."""


@pytest.fixture
def house() -> House:
    return House()


def owner_of(house: House, workflow_id: str = "w") -> tuple[str, str, int]:
    view = read_run(house.inner, workflow_id)
    assert view is not None
    assert view.owner is not None
    return view.owner.manager, view.owner.incarnation, view.epoch


# --- what a run leaves behind ---


async def test_a_finished_run_leaves_its_log_its_name_and_one_index_entry(house: House) -> None:
    async with house.manager() as (manager, _):
        await finish(house, manager, new_run("a"))
        await eventually(lambda: not house.keys("owned/"))
    assert house.keys("index/") == ["index/SUCCESSFUL/w"]
    assert house.keys("notifications/") == []
    assert house.keys("managers/") == []


async def test_a_finished_run_is_not_read_again(house: House) -> None:
    counted = InstrumentedStore(house.inner)
    house.store = FailingStore(counted)
    chain = " ".join(["s0", *(f"s{i}:s{i - 1}" for i in range(1, 50))])
    async with house.manager(pace=RARE) as (manager, _):
        await finish(house, manager, new_run(chain))
        await eventually(lambda: not house.keys("owned/"))
    assert counted.counts()["create"].calls > 50
    assert counted.counts()["get"].calls < 10


async def test_a_second_wait_and_a_wait_long_after_give_the_same_end(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflow.engine.owner.owned_runs.ENDS_REMEMBERED", 2)
    async with house.manager() as (manager, _):
        ends = []
        created = [new_run("a", workflow_id=f"w{i}") for i in range(5)]
        for each in created:
            ends.append(await finish(house, manager, each))
        again = [await soon(manager.wait(house.address(each))) for each in created]
    assert [end.outcome for end in again] == [end.outcome for end in ends]


async def test_many_finished_runs_never_push_a_live_one_out(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workflow.engine.owner.owned_runs.ENDS_REMEMBERED", 1)
    async with house.manager(script=lambda task: None if task.run.workflow_id == "slow" else returned()) as (
        manager,
        runner,
    ):
        slow = await begun(house, manager, "a", workflow_id="slow")
        for i in range(4):
            await finish(house, manager, new_run("a", workflow_id=f"w{i}"))
        waiting = asyncio.ensure_future(manager.wait(house.address(slow)))
        await asyncio.sleep(0)
        next(each for each in runner.tries if each.task.run.workflow_id == "slow").answer(returned())
        assert (await soon(waiting)).status is WorkflowStatus.SUCCESSFUL


async def test_who_starts_under_a_name_that_is_taken_is_told_what_is_there(house: House) -> None:
    async with house.manager(script=never) as (manager, _):
        first = await begun(house, manager)
        there = await soon(manager.start(new_run("x")))
        assert isinstance(there, r.Created)
        assert there.run_uuid == first.run_uuid
        assert manager.live == 1
        assert house.keys("owned/") == [f"owned/m1/{first.run_uuid}"]


async def test_who_starts_under_a_tombstone_is_told_so(house: House) -> None:
    stone = Tombstone("w", 1, WorkflowStatus.CANCELED, "Canceled", 1.0)
    registry.register(house.inner, stone)
    async with house.manager() as (manager, _):
        assert await soon(manager.start(new_run("a"))) == stone
        assert house.keys("owned/") == []


# --- restarts ---


async def test_a_restarted_manager_takes_its_runs_up_and_runs_no_committed_step(house: House) -> None:
    script = lambda task: returned() if task.step_id == "a" else None  # noqa: E731
    async with house.manager(script=script) as (manager, runner):
        created = await begun(house, manager, "a b:a c:b")
        await eventually(lambda: "b" in runner.started)
        await house.abandon(manager)
    async with house.manager(incarnation="i2") as (manager, runner):
        ended = await soon(manager.wait(house.address(created)))
        assert ended.status is WorkflowStatus.SUCCESSFUL
        assert runner.started == ["b", "c"]
        assert owner_of(house) == ("m1", "i2", 2)
    invariants.check(house.inner, "w")


async def test_a_restarted_manager_leaves_alone_what_another_claimed_since(house: House) -> None:
    async with house.manager(script=never) as (manager, _):
        created = await begun(house, manager)
        await house.abandon(manager)
    async with house.manager("m2", script=never) as (second, _):
        await soon(second.claim(ClaimRequest("w", 1, take_over=True)))
        async with house.manager(incarnation="i2") as (first_again, runner):
            assert first_again.live == 0
            assert runner.tries == []
            assert owner_of(house) == ("m2", "i1", 2)
            assert house.keys("owned/m1/") == []
        assert house.keys("owned/m2/") == [f"owned/m2/{created.run_uuid}"]


async def test_a_start_whose_answer_was_lost_goes_on_in_the_next_incarnation(house: House) -> None:
    created = new_run("a")
    house.keep_function(created)
    house.store.fail("create", key="registry/", after=True)
    async with house.manager() as (manager, _):
        with pytest.raises(StoreUnavailableError):
            await soon(manager.start(created))
        await house.abandon(manager)
    async with house.manager(incarnation="i2") as (manager, _):
        assert (await soon(manager.wait(house.address(created)))).status is WorkflowStatus.SUCCESSFUL


async def test_a_start_whose_answer_was_lost_goes_on_in_the_same_incarnation_too(house: House) -> None:
    created = new_run("a")
    house.keep_function(created)
    house.store.fail("create", key="registry/", after=True)
    async with house.manager() as (manager, _):
        with pytest.raises(StoreUnavailableError):
            await soon(manager.start(created))
        assert (await soon(manager.wait(house.address(created)))).status is WorkflowStatus.SUCCESSFUL


@pytest.mark.parametrize("remembered", [True, False])
@pytest.mark.parametrize("end", [returned(), raised("a")], ids=["succeeds", "fails"])
async def test_a_start_whose_answer_was_lost_until_the_run_had_ended_executes_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch, end: StepResult, remembered: bool
) -> None:
    if not remembered:
        monkeypatch.setattr("workflow.engine.owner.owned_runs.ENDS_REMEMBERED", 0)
    created = new_run("a")
    async with house.manager(script=lambda task: end, pace=RARE) as (manager, runner):
        ended = await finish(house, manager, created)
        await eventually(lambda: not house.keys("owned/"))
        stored = house.keys()
        await soon(manager.start(created))
        assert (await soon(manager.wait(house.address(created)))).status is ended.status
        assert (runner.started, house.keys()) == (["a"], stored)


async def test_one_damaged_run_keeps_no_other_from_being_taken_up(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    async with house.manager(script=never) as (manager, _):
        bad = await begun(house, manager, workflow_id="bad")
        good = await begun(house, manager, workflow_id="good")
        await house.abandon(manager)
    segment = f"workflows/bad/runs/1-{bad.run_uuid}/log/{1:020d}"
    house.inner.overwrite(segment, b"torn")
    async with house.manager(incarnation="i2") as (manager, _):
        assert (await soon(manager.wait(house.address(good)))).status is WorkflowStatus.SUCCESSFUL
        with pytest.raises(CorruptLogError, match=segment):
            await soon(manager.wait(house.address(bad)))
    assert segment in caplog.text


async def test_an_end_whose_hints_were_not_written_is_put_right_by_the_next_incarnation(house: House) -> None:
    async with house.manager() as (manager, _):
        house.store.fail("create", key="index/SUCCESSFUL", times=10_000)
        created = new_run("a")
        house.keep_function(created)
        await soon(manager.start(created))
        await eventually(lambda: (view := read_run(house.inner, "w")) is not None and view.ended is not None)
        await house.abandon(manager)
    assert house.keys("index/") == ["index/RUNNING/w"]
    house.store = type(house.store)(house.inner)
    async with house.manager(incarnation="i2"):
        assert house.keys("index/") == ["index/SUCCESSFUL/w"]
        assert house.keys("owned/") == []


# --- claim and fence ---


async def test_a_run_whose_owner_lives_is_not_claimed(house: House) -> None:
    async with house.manager(script=never) as (first, _), house.manager("m2") as (second, _):
        await begun(house, first)
        with pytest.raises(WorkflowInUseError, match="manager-m1") as refused:
            await soon(second.claim(ClaimRequest("w", 1)))
        assert refused.value.owner.manager == "m1"  # type: ignore[attr-defined]
        assert house.keys("owned/m2/") == []
        assert second.live == 0


async def test_an_owner_that_only_waits_learns_that_it_was_fenced_and_stops_its_steps(house: House) -> None:
    async with house.manager(script=never) as (old, old_runner), house.manager("m2") as (new, _):
        created = await begun(house, old)
        await eventually(lambda: old_runner.started == ["a"])
        waiting = asyncio.ensure_future(old.wait(house.address(created)))
        await soon(new.claim(ClaimRequest("w", 1, take_over=True)))
        assert (await soon(new.wait(house.address(created)))).status is WorkflowStatus.SUCCESSFUL
        written = invariants.log_bytes(house.inner, "w")

        await eventually(lambda: old_runner.stopped == ["a"])
        assert (await soon(waiting)).status is WorkflowStatus.SUCCESSFUL  # it follows the log of the new owner
        old_runner.of("a").answer(returned("too late"))
        await eventually(lambda: not house.keys("owned/m1/"))
        assert old.live == 0
        assert invariants.log_bytes(house.inner, "w") == written
    invariants.check(house.inner, "w")


async def test_an_outcome_of_a_fenced_owner_is_not_committed(house: House) -> None:
    pace = type(FAST)(heartbeat=0.05, bell=0.02, fence=1_000.0, follow=0.02, store=0.02)
    async with (
        house.manager(script=never, pace=pace) as (old, old_runner),
        house.manager("m2", script=never) as (new, new_runner),
    ):
        created = await begun(house, old)
        await eventually(lambda: old_runner.started == ["a"])
        await soon(new.claim(ClaimRequest("w", 1, take_over=True)))
        old_runner.of("a").answer(returned("old"))
        await eventually(lambda: old_runner.stopped)
        await eventually(lambda: new_runner.started == ["a"])
        new_runner.of("a").answer(returned("new"))
        await eventually(lambda: new_runner.started == ["a", "b"])
        assert new_runner.of("b").task.parents[0].value.inline == b"new"
        new_runner.of("b").answer(returned())
        assert (await soon(new.wait(house.address(created)))).status is WorkflowStatus.SUCCESSFUL
    invariants.check(house.inner, "w")


async def test_a_silent_owner_makes_a_run_resumable_and_a_waiter_is_told(house: House) -> None:
    async with house.manager(script=never) as (manager, _):
        created = await begun(house, manager)
        await house.abandon(manager)
    house.clock.now += SILENT
    view = read_run(house.inner, "w")
    assert view is not None
    assert status_of(house.inner, view) is WorkflowStatus.RESUMABLE
    async with house.manager("m2") as (second, _):
        with pytest.raises(UnavailableError, match="RESUMABLE"):
            await soon(second.wait(house.address(created)))


async def test_seeing_a_run_through_claims_it_where_its_owner_falls_silent(house: House) -> None:
    async with house.manager(script=never) as (manager, _):
        created = await begun(house, manager)
        await house.abandon(manager)
    async with house.manager("m2") as (second, _):
        waiting = asyncio.ensure_future(second.wait_or_resume(house.address(created)))
        await asyncio.sleep(0)
        assert not waiting.done()
        house.clock.now += SILENT
        assert (await soon(waiting)).status is WorkflowStatus.SUCCESSFUL
        assert owner_of(house)[0] == "m2"


async def test_two_claims_of_one_run_at_one_manager_are_one_claim(house: House) -> None:
    async with house.manager(script=never) as (manager, _):
        created = await begun(house, manager)
        await house.abandon(manager)
    async with house.manager("m2", script=never) as (second, _):
        request = ClaimRequest("w", 1, take_over=True)
        await soon(asyncio.gather(second.claim(request), second.claim(request)))
        assert owner_of(house) == ("m2", "i1", 2)
        assert house.keys("owned/m2/") == [f"owned/m2/{created.run_uuid}"]


@pytest.mark.parametrize(
    ("uid", "attempt", "refused"),
    [
        pytest.param("u", 2, None, id="the same attempt"),
        pytest.param("u", 3, None, id="a later attempt of the same object"),
        pytest.param("u", 1, SupersededError, id="an earlier attempt"),
        pytest.param("other", 9, WorkflowInUseError, id="another object"),
        pytest.param("", 0, None, id="nobody's"),
    ],
)
async def test_a_run_that_lives_here_is_given_to_its_own_object_only(
    house: House, uid: str, attempt: int, refused: type[Exception] | None
) -> None:
    async with house.manager(script=never) as (manager, _):
        await begun(house, manager, uid="u", attempt=2)
        request = ClaimRequest("w", 1, uid=uid, attempt=attempt)
        if refused is None:
            await soon(manager.claim(request))
        else:
            with pytest.raises(refused):
                await soon(manager.claim(request))
        assert manager.live == 1


async def test_an_ended_run_is_not_claimed(house: House) -> None:
    async with house.manager() as (manager, _), house.manager("m2") as (second, _):
        await finish(house, manager, new_run("a"))
        with pytest.raises(WorkflowConflictError, match="already ended with status SUCCESSFUL"):
            await soon(second.claim(ClaimRequest("w", 1, take_over=True, retry_failed=True)))


async def test_a_run_given_up_in_its_claim_ends_failed_and_names_the_culprits(house: House) -> None:
    async with house.manager(script=never) as (manager, runner):
        created = await begun(house, manager, "a b", max_resumes=0)
        await eventually(lambda: len(runner.tries) == 2)
        await eventually(lambda: len(invariants.log_of(house.inner, "w")) == 2)
        await house.abandon(manager)
    async with house.manager("m2") as (second, runner):
        await soon(second.claim(ClaimRequest("w", 1, take_over=True)))
        ended = await soon(second.wait(house.address(created)))
        assert (ended.status, ended.reason) == (WorkflowStatus.FAILED, "ResumesExhausted")
        assert ended.error is not None
        assert "steps running at those times: a, b" in ended.error.message
        assert runner.tries == []
        await eventually(lambda: not house.keys("owned/m2/"))
        assert house.keys("index/") == ["index/FAILED/w"]


# --- deletion ---


async def test_a_deleted_run_is_not_claimed_and_its_owner_stops(house: House) -> None:
    async with house.manager(script=never) as (manager, runner), house.manager("m2") as (second, _):
        created = await begun(house, manager)
        await eventually(lambda: runner.started == ["a"])
        waiting = asyncio.ensure_future(manager.wait(house.address(created)))
        registry.register(house.inner, Tombstone("w", 2, WorkflowStatus.CANCELED, "Deleted", 1.0))
        with pytest.raises(SupersededError, match="was deleted or replaced"):
            await soon(second.claim(ClaimRequest("w", 1, take_over=True)))
        await eventually(lambda: runner.stopped == ["a"])
        with pytest.raises(SupersededError):
            await soon(waiting)
        await eventually(lambda: not house.keys("owned/"))


async def test_who_follows_the_log_of_a_run_is_told_that_it_was_deleted(house: House) -> None:
    async with house.manager(script=never) as (manager, _):
        created = await begun(house, manager)
        house.store = FailingStore(counted := InstrumentedStore(house.inner))
        async with house.manager("m2", pace=RARE) as (second, _):
            waiting = asyncio.ensure_future(second.wait(house.address(created)))
            await eventually(lambda: sum(each.calls for each in counted.counts().values()) > 30)  # it reads on and on
            registry.register(house.inner, Tombstone("w", 2, WorkflowStatus.CANCELED, "Deleted", 1.0))
            with pytest.raises(SupersededError):
                await soon(waiting)


async def test_nobody_is_told_the_end_of_a_run_that_was_deleted_since(house: House) -> None:
    async with house.manager() as (manager, _), house.manager("m2") as (second, _):
        created = new_run("a")
        await finish(house, manager, created)
        registry.register(house.inner, Tombstone("w", 2, WorkflowStatus.CANCELED, "Deleted", 1.0))
        with pytest.raises(SupersededError, match="was deleted or replaced"):
            await soon(second.wait(house.address(created)))


# --- requests ---


async def test_a_cancel_from_before_a_claim_is_seen_by_the_claimant(house: House) -> None:
    async with house.manager(script=never) as (manager, _):
        created = await begun(house, manager)
        await house.abandon(manager)
    view = read_run(house.inner, "w")
    assert view is not None
    requests.request_cancel(house.inner, view, uid="", reason="Canceled")
    for bell in house.keys("notifications/"):
        house.inner.delete(bell)  # whoever asked died before it rang
    async with house.manager("m2", script=never) as (second, _):
        await soon(second.claim(ClaimRequest("w", 1, take_over=True)))
        assert (await soon(second.wait(house.address(created)))).status is WorkflowStatus.CANCELED


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"kind": "dance"}'], ids=["empty", "torn", "list", "unknown"])
async def test_a_request_that_is_none_harms_nobody(house: House, content: bytes) -> None:
    async with house.manager(script=never) as (manager, _):
        created = await begun(house, manager, "a")
        house.inner.create(f"workflows/w/runs/1-{created.run_uuid}/inbox/odd", content, "1")
        house.inner.create(f"notifications/{created.run_uuid}.odd", b"", "1")
        view = read_run(house.inner, "w")
        assert view is not None
        requests.request_cancel(house.inner, view, uid="", reason="Canceled")
        assert (await soon(manager.wait(house.address(created)))).status is WorkflowStatus.CANCELED
