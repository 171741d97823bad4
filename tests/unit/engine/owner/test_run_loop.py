"""The loop of one owned run: order, attempts, expansion, failure, cancellation, group commit and snapshots."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter

import pytest

from tests.support import invariants, runs
from tests.support.fake_runner import expanded, raised, returned
from tests.support.managers import ManagerFixture, new_run, run_to_result, with_timeout
from tests.support.waiting import eventually
from workflow import requests
from workflow.engine.messages import Expanded, Raised, Returned, StepTask
from workflow.engine.owner import planning, retries, run_loop
from workflow.engine.retry import Backoff
from workflow.model import records as r
from workflow.model.graph import StepOptions
from workflow.model.status import StepPhase, WorkflowStatus
from workflow.reading import read_run

CATCH = StepOptions(catch_exceptions=True)


@pytest.fixture
def fixture() -> ManagerFixture:
    return ManagerFixture()


def commits(fixture: ManagerFixture) -> list[str]:
    return invariants.committed(fixture.inner, "w")


async def test_child_starts_after_parent_outcomes_are_stored(fixture: ManagerFixture) -> None:
    def script(task: StepTask) -> Returned:
        if task.step_id == "c":
            assert set(commits(fixture)) == {"a", "b"}
            assert [parent.value.inline for parent in task.parents] == [b"a", b"b"]
        return returned(task.step_id)

    async with fixture.manager(script=script) as (manager, runner):
        ended = await run_to_result(fixture, manager, new_run("a b c:a,b"))
    assert ended.status is WorkflowStatus.SUCCESSFUL
    assert ended.outcome is not None
    assert ended.outcome.value.inline == b"c"
    assert sorted(runner.started) == ["a", "b", "c"]
    invariants.check(fixture.inner, "w")


async def test_shared_step_runs_once(fixture: ManagerFixture) -> None:
    async with fixture.manager() as (manager, runner):
        await run_to_result(fixture, manager, new_run("root l:root r:root join:l,r again:root,join"))
    assert Counter(runner.started) == {"root": 1, "l": 1, "r": 1, "join": 1, "again": 1}


@pytest.mark.parametrize(
    ("max_retries", "raises", "attempts", "status"),
    [
        pytest.param(1, 0, 1, "SUCCESSFUL", id="first attempt returns"),
        pytest.param(3, 2, 3, "SUCCESSFUL", id="third of three attempts returns"),
        pytest.param(3, 3, 3, "FAILED", id="all three attempts raise"),
        pytest.param(1, 1, 1, "FAILED", id="the only attempt raises"),
        pytest.param(-1, 7, 8, "SUCCESSFUL", id="no limit"),
    ],
)
async def test_max_retries_limits_the_attempts(
    fixture: ManagerFixture,
    monkeypatch: pytest.MonkeyPatch,
    max_retries: int,
    raises: int,
    attempts: int,
    status: str,
) -> None:
    monkeypatch.setattr(retries, "RETRY_BACKOFF", Backoff(0.001, 0.001))

    def script(task: StepTask) -> Returned | Raised:
        return raised(task.step_id) if task.attempt <= raises else returned()

    dag = runs.graph("a", a=StepOptions(max_retries=max_retries))
    async with fixture.manager(script=script) as (manager, runner):
        ended = await run_to_result(fixture, manager, new_run(dag))
    assert len(runner.attempts) == attempts
    assert str(ended.status) == status
    invariants.check(fixture.inner, "w")


async def test_result_of_a_replaced_attempt_is_ignored(fixture: ManagerFixture) -> None:
    graph = runs.graph("a", a=StepOptions(max_retries=2))
    async with fixture.manager(script=lambda task: None) as (manager, runner):
        fixture.keep_function(created := new_run(graph))
        await with_timeout(manager.start(created))
        await eventually(lambda: len(runner.attempts) == 1)
        first = runner.attempts[0]
        first.answer(raised("a"))
        await eventually(lambda: len(runner.attempts) == 2)
        first.answer(returned("first"))
        runner.attempts[1].answer(returned("second"))
        ended = await with_timeout(manager.wait(fixture.address(created)))
    assert ended.outcome is not None
    assert ended.outcome.value.inline == b"second"


async def test_start_is_stored_first_after_epoch_without_progress(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=lambda task: None) as (manager, _):
        fixture.keep_function(created := new_run("a"))
        await with_timeout(manager.start(created))
        await eventually(lambda: len(invariants.log_of(fixture.inner, "w")) == 1)
        await fixture.abandon(manager)
    fixture.store.fail("create", key=f"/log/{3:020d}", times=3)
    stored: list[int] = []

    def script(task: StepTask) -> None:
        stored.append(len(invariants.log_of(fixture.inner, "w")))

    async with fixture.manager(incarnation="i2", script=script):
        await eventually(lambda: stored)
    assert stored == [3], "the first start, the claim and this start"


async def test_system_failure_is_not_retried(fixture: ManagerFixture) -> None:
    dag = runs.graph("a", a=StepOptions(max_retries=5))
    system_failure = dataclasses.replace(raised("a"), system=True)
    async with fixture.manager(script=lambda task: system_failure) as (manager, runner):
        ended = await run_to_result(fixture, manager, new_run(dag))
    assert ended.status is WorkflowStatus.FAILED
    assert len(runner.attempts) == 1


@pytest.mark.parametrize("max_retries", [1, 3])
async def test_exception_is_caught_after_the_last_attempt(fixture: ManagerFixture, max_retries: int) -> None:
    dag = runs.graph("a b:a", a=StepOptions(max_retries=max_retries, catch_exceptions=True))
    script = lambda task: raised("a") if task.step_id == "a" else returned()  # noqa: E731
    async with fixture.manager(script=script) as (manager, runner):
        ended = await run_to_result(fixture, manager, new_run(dag))
    assert ended.status is WorkflowStatus.SUCCESSFUL
    assert runner.started == ["a"] * max_retries + ["b"]
    (caught,) = runner.last_attempt("b").task.parents
    assert (caught.caught, caught.wrapped, caught.value.inline) == (True, False, b"pickled error")


async def test_failure_stops_running_steps_and_starts_none(fixture: ManagerFixture) -> None:
    script = lambda task: None  # noqa: E731
    async with fixture.manager(script=script) as (manager, runner):
        created = new_run("a b c:b d:a,c")
        fixture.keep_function(created)
        await with_timeout(manager.start(created))
        await eventually(lambda: len(runner.attempts) == 2)
        runner.last_attempt("a").answer(raised("a"))
        ended = await with_timeout(manager.wait(fixture.address(created)))
        runner.last_attempt("b").answer(returned())  # too late: this attempt was stopped
    assert (ended.status, ended.reason) == (WorkflowStatus.FAILED, "StepFailed")
    assert ended.error is not None
    assert ended.error.step_id == "a"
    assert ended.error_value == runs.value("pickled error")
    assert runner.stopped == ["b"]
    assert commits(fixture) == []
    invariants.check(fixture.inner, "w")


async def test_dynamic_step_is_replaced_by_its_sub_dag(fixture: ManagerFixture) -> None:
    def script(task: StepTask) -> Returned | Expanded:
        if task.step_id == "trip":
            return expanded(runs.graph("trip/f1 trip/f2 trip/end:trip/f1,trip/f2"))
        return returned(task.step_id)

    async with fixture.manager(script=script) as (manager, runner):
        await run_to_result(fixture, manager, new_run("trip pay:trip"))
    assert runner.started[0] == "trip"
    assert set(runner.started[1:3]) == {"trip/f1", "trip/f2"}
    assert runner.started[3:] == ["trip/end", "pay"]
    assert runner.last_attempt("pay").task.parents[0].value.inline == b"trip/end"
    invariants.check(fixture.inner, "w")


async def test_catching_dynamic_step_catches_in_its_sub_dag(fixture: ManagerFixture) -> None:
    def script(task: StepTask) -> Returned | Raised | Expanded | None:
        if task.step_id == "x":
            return expanded(runs.graph("x/bad x/slow x/end:x/bad,x/slow"))
        return {"x/bad": raised("x/bad"), "x/slow": None}.get(task.step_id, returned())

    async with fixture.manager(script=script) as (manager, runner):
        ended = await run_to_result(fixture, manager, new_run(runs.graph("x y:x", x=CATCH)))
    assert ended.status is WorkflowStatus.SUCCESSFUL
    assert runner.stopped == ["x/slow"]
    assert runner.last_attempt("y").task.parents[0].caught
    assert "x/end" not in runner.started
    invariants.check(fixture.inner, "w")


async def test_dynamic_step_is_not_retried_after_expansion(fixture: ManagerFixture) -> None:
    def script(task: StepTask) -> Raised | Expanded:
        if task.step_id == "x" and task.attempt == 2:
            return expanded(runs.graph("x/bad"))
        return raised(task.step_id)

    dag = runs.graph("x", x=StepOptions(max_retries=5))
    async with fixture.manager(script=script) as (manager, runner):
        ended = await run_to_result(fixture, manager, new_run(dag))
    assert runner.started == ["x", "x", "x/bad"]
    assert ended.status is WorkflowStatus.FAILED


async def test_results_during_a_write_share_one_segment(fixture: ManagerFixture) -> None:
    width = 200
    dag = runs.graph(" ".join(f"s{i}" for i in range(width)) + " end:" + ",".join(f"s{i}" for i in range(width)))
    async with fixture.manager() as (manager, _):
        await run_to_result(fixture, manager, new_run(dag))
    segments = {written.seq for written in invariants.log_of(fixture.inner, "w")}
    assert len(segments) <= 10
    invariants.check(fixture.inner, "w")


async def test_recursion_of_1000_keeps_segments_small(fixture: ManagerFixture) -> None:
    depth = 1_000

    def script(task: StepTask) -> Returned | Expanded:
        number = int(task.step_id[1:])
        return returned() if number == depth else expanded(runs.graph(f"s{number + 1}"))

    async with fixture.manager(script=script) as (manager, runner):
        ended = await with_timeout(run_to_result(fixture, manager, new_run("s0")), 60)
    assert ended.status is WorkflowStatus.SUCCESSFUL
    assert len(runner.attempts) == depth + 1
    sizes = [len(data) for data in invariants.log_bytes(fixture.inner, "w").values()]
    assert max(sizes) < 3_000


async def test_late_outcomes_do_not_overwrite_a_cancellation(fixture: ManagerFixture) -> None:
    async with fixture.manager(script=lambda task: None) as (manager, runner):
        created = new_run("a b c:a,b")
        fixture.keep_function(created)
        await with_timeout(manager.start(created))
        await eventually(lambda: len(runner.attempts) == 2)
        view = read_run(fixture.inner, "w")
        assert view is not None
        requests.request_cancel(fixture.inner, view, uid="", reason="Enough")
        ended = await with_timeout(manager.wait(fixture.address(created)))
        for each in runner.attempts:
            each.answer(returned())
        await asyncio.sleep(0)
    assert (ended.status, ended.reason) == (WorkflowStatus.CANCELED, "Enough")
    assert sorted(runner.stopped) == ["a", "b"]
    view = read_run(fixture.inner, "w")
    assert view is not None
    assert view.status is WorkflowStatus.CANCELED
    assert {step.step_id: step.phase for step in view.steps}["a"] is StepPhase.CANCELED
    handled = [
        each.record for each in invariants.log_of(fixture.inner, "w") if isinstance(each.record, r.RequestHandled)
    ]
    assert len(handled) == 1
    assert not list(fixture.inner.list("notifications/"))
    assert not [info.key for info in fixture.inner.list("workflows/") if "/inbox/" in info.key]
    invariants.check(fixture.inner, "w")


async def test_ready_steps_of_a_failed_run_are_not_started(
    fixture: ManagerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "MAX_RUNNING_TASKS", 3)
    async with fixture.manager(script=lambda task: None) as (manager, runner):
        created = new_run(" ".join(f"s{i}" for i in range(9)) + " end:s0")
        fixture.keep_function(created)
        await with_timeout(manager.start(created))
        await eventually(lambda: len(runner.attempts) == 3)
        runner.last_attempt("s0").answer(returned())
        await eventually(lambda: len(runner.attempts) == 4)
        runner.last_attempt("s1").answer(raised("s1"))
        ended = await with_timeout(manager.wait(fixture.address(created)))
    assert ended.status is WorkflowStatus.FAILED
    assert len(runner.attempts) == 4


async def test_long_run_resumes_from_its_newest_snapshot(
    fixture: ManagerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_loop, "SNAPSHOT_EVERY", 10)
    chain = "s0 " + " ".join(f"s{i}:s{i - 1}" for i in range(1, 40))

    def script(task: StepTask) -> Returned | None:
        return None if task.step_id == "s39" else returned()

    async with fixture.manager(script=script) as (manager, runner):
        created = new_run(chain)
        fixture.keep_function(created)
        await with_timeout(manager.start(created))
        await eventually(lambda: "s39" in runner.started)
        await fixture.abandon(manager)
    snapshots = [info.key for info in fixture.inner.list("workflows/") if "/snapshot/" in info.key]
    assert snapshots
    async with fixture.manager(incarnation="i2") as (manager, runner):
        ended = await with_timeout(manager.wait(fixture.address(created)))
        assert ended.status is WorkflowStatus.SUCCESSFUL
        assert runner.started == ["s39"]
    invariants.check(fixture.inner, "w")
