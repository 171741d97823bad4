"""One owned run, with a fake runner on a memory store: order, tries, expansion, failure, cancel, group commit."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter

import pytest

from tests.support import invariants, runs
from tests.support.fake_runner import expanded, raised, returned
from tests.support.managers import House, finish, new_run, soon
from tests.support.waiting import eventually
from workflow import requests
from workflow.engine.messages import Expanded, Raised, Returned, StepTask
from workflow.engine.owner import planning, run_loop
from workflow.model import records as r
from workflow.model.graph import StepOptions
from workflow.model.status import StepPhase, WorkflowStatus
from workflow.reading import read_run

CATCH = StepOptions(catch_exceptions=True)


@pytest.fixture
def house() -> House:
    return House()


def commits(house: House) -> list[str]:
    return invariants.committed(house.inner, "w")


async def test_a_child_starts_only_once_its_parents_outcomes_are_stored(house: House) -> None:
    def script(task: StepTask) -> Returned:
        if task.step_id == "c":
            assert set(commits(house)) == {"a", "b"}
            assert [parent.value.inline for parent in task.parents] == [b"a", b"b"]
        return returned(task.step_id)

    async with house.manager(script=script) as (manager, runner):
        ended = await finish(house, manager, new_run("a b c:a,b"))
    assert ended.status is WorkflowStatus.SUCCESSFUL
    assert ended.outcome is not None
    assert ended.outcome.value.inline == b"c"
    assert sorted(runner.started) == ["a", "b", "c"]
    invariants.check(house.inner, "w")


async def test_a_shared_step_runs_once(house: House) -> None:
    async with house.manager() as (manager, runner):
        await finish(house, manager, new_run("root l:root r:root join:l,r again:root,join"))
    assert Counter(runner.started) == {"root": 1, "l": 1, "r": 1, "join": 1, "again": 1}


@pytest.mark.parametrize(
    ("max_retries", "raises", "tries", "status"),
    [
        pytest.param(1, 0, 1, "SUCCESSFUL", id="the first try returns"),
        pytest.param(3, 2, 3, "SUCCESSFUL", id="three tries: the third returns"),
        pytest.param(3, 3, 3, "FAILED", id="three tries in all, no fourth"),
        pytest.param(1, 1, 1, "FAILED", id="one try unless asked for more"),
        pytest.param(-1, 7, 8, "SUCCESSFUL", id="without end"),
    ],
)
async def test_tries(house: House, max_retries: int, raises: int, tries: int, status: str) -> None:
    def script(task: StepTask) -> Returned | Raised:
        return raised(task.step_id) if task.attempt <= raises else returned()

    dag = runs.graph("a", a=StepOptions(max_retries=max_retries))
    async with house.manager(script=script) as (manager, runner):
        ended = await finish(house, manager, new_run(dag))
    assert len(runner.tries) == tries
    assert str(ended.status) == status
    invariants.check(house.inner, "w")


async def test_the_answer_of_a_try_that_was_followed_by_another_counts_no_more(house: House) -> None:
    graph = runs.graph("a", a=StepOptions(max_retries=2))
    async with house.manager(script=lambda task: None) as (manager, runner):
        house.keep_function(created := new_run(graph))
        await soon(manager.start(created))
        await eventually(lambda: len(runner.tries) == 1)
        first = runner.tries[0]
        first.answer(raised("a"))
        await eventually(lambda: len(runner.tries) == 2)
        first.answer(returned("of the first"))
        runner.tries[1].answer(returned("of the second"))
        ended = await soon(manager.wait(house.address(created)))
    assert ended.outcome is not None
    assert ended.outcome.value.inline == b"of the second"


async def test_behind_an_epoch_without_progress_a_step_starts_once_its_start_is_stored(house: House) -> None:
    async with house.manager(script=lambda task: None) as (manager, _):
        house.keep_function(created := new_run("a"))
        await soon(manager.start(created))
        await eventually(lambda: len(invariants.log_of(house.inner, "w")) == 1)
        await house.abandon(manager)
    house.store.fail("create", key=f"/log/{3:020d}", times=3)
    stored: list[int] = []

    def script(task: StepTask) -> None:
        stored.append(len(invariants.log_of(house.inner, "w")))

    async with house.manager(incarnation="i2", script=script):
        await eventually(lambda: stored)
    assert stored == [3], "the first start, the claim, and this start"


async def test_what_ray_could_not_execute_is_not_tried_again(house: House) -> None:
    dag = runs.graph("a", a=StepOptions(max_retries=5))
    lost = dataclasses.replace(raised("a"), system=True)
    async with house.manager(script=lambda task: lost) as (manager, runner):
        ended = await finish(house, manager, new_run(dag))
    assert ended.status is WorkflowStatus.FAILED
    assert len(runner.tries) == 1


@pytest.mark.parametrize("max_retries", [1, 3])
async def test_catching_comes_behind_all_tries(house: House, max_retries: int) -> None:
    dag = runs.graph("a b:a", a=StepOptions(max_retries=max_retries, catch_exceptions=True))
    script = lambda task: raised("a") if task.step_id == "a" else returned()  # noqa: E731
    async with house.manager(script=script) as (manager, runner):
        ended = await finish(house, manager, new_run(dag))
    assert ended.status is WorkflowStatus.SUCCESSFUL
    assert runner.started == ["a"] * max_retries + ["b"]
    (caught,) = runner.of("b").task.parents
    assert (caught.caught, caught.wraps, caught.value.inline) == (True, 0, b"pickled error")


async def test_a_failure_stops_what_runs_and_starts_nothing_more(house: House) -> None:
    script = lambda task: None  # noqa: E731
    async with house.manager(script=script) as (manager, runner):
        created = new_run("a b c:b d:a,c")
        house.keep_function(created)
        await soon(manager.start(created))
        await eventually(lambda: len(runner.tries) == 2)
        runner.of("a").answer(raised("a"))
        ended = await soon(manager.wait(house.address(created)))
        runner.of("b").answer(returned())  # too late: it was stopped
    assert (ended.status, ended.reason) == (WorkflowStatus.FAILED, "StepFailed")
    assert ended.error is not None
    assert ended.error.step_id == "a"
    assert ended.error_value == runs.value("pickled error")
    assert runner.stopped == ["b"]
    assert commits(house) == []
    invariants.check(house.inner, "w")


async def test_a_dynamic_step_becomes_its_sub_dag_and_is_not_executed_again(house: House) -> None:
    def script(task: StepTask) -> Returned | Expanded:
        if task.step_id == "trip":
            return expanded(runs.graph("trip/f1 trip/f2 trip/end:trip/f1,trip/f2"))
        return returned(task.step_id)

    async with house.manager(script=script) as (manager, runner):
        await finish(house, manager, new_run("trip pay:trip"))
    assert runner.started[0] == "trip"
    assert set(runner.started[1:3]) == {"trip/f1", "trip/f2"}
    assert runner.started[3:] == ["trip/end", "pay"]
    assert runner.of("pay").task.parents[0].value.inline == b"trip/end"
    invariants.check(house.inner, "w")


async def test_a_dynamic_step_that_catches_covers_its_sub_dag(house: House) -> None:
    def script(task: StepTask) -> Returned | Raised | Expanded | None:
        if task.step_id == "x":
            return expanded(runs.graph("x/bad x/slow x/end:x/bad,x/slow"))
        return {"x/bad": raised("x/bad"), "x/slow": None}.get(task.step_id, returned())

    async with house.manager(script=script) as (manager, runner):
        ended = await finish(house, manager, new_run(runs.graph("x y:x", x=CATCH)))
    assert ended.status is WorkflowStatus.SUCCESSFUL
    assert runner.stopped == ["x/slow"]
    assert runner.of("y").task.parents[0].caught
    assert "x/end" not in runner.started
    invariants.check(house.inner, "w")


async def test_retries_of_a_dynamic_step_end_with_its_expansion(house: House) -> None:
    def script(task: StepTask) -> Raised | Expanded:
        if task.step_id == "x" and task.attempt == 2:
            return expanded(runs.graph("x/bad"))
        return raised(task.step_id)

    dag = runs.graph("x", x=StepOptions(max_retries=5))
    async with house.manager(script=script) as (manager, runner):
        ended = await finish(house, manager, new_run(dag))
    assert runner.started == ["x", "x", "x/bad"]
    assert ended.status is WorkflowStatus.FAILED


async def test_what_arrives_while_a_segment_is_stored_goes_into_one_segment(house: House) -> None:
    width = 200
    dag = runs.graph(" ".join(f"s{i}" for i in range(width)) + " end:" + ",".join(f"s{i}" for i in range(width)))
    async with house.manager() as (manager, _):
        await finish(house, manager, new_run(dag))
    segments = {written.seq for written in invariants.log_of(house.inner, "w")}
    assert len(segments) <= 10
    invariants.check(house.inner, "w")


async def test_a_recursion_of_1000_takes_the_same_records_at_any_depth(house: House) -> None:
    depth = 1_000

    def script(task: StepTask) -> Returned | Expanded:
        number = int(task.step_id[1:])
        return returned() if number == depth else expanded(runs.graph(f"s{number + 1}"))

    async with house.manager(script=script) as (manager, runner):
        ended = await soon(finish(house, manager, new_run("s0")), 60)
    assert ended.status is WorkflowStatus.SUCCESSFUL
    assert len(runner.tries) == depth + 1
    sizes = [len(data) for data in invariants.log_bytes(house.inner, "w").values()]
    assert max(sizes) < 3_000


async def test_cancel_stops_the_steps_and_no_late_outcome_overwrites_it(house: House) -> None:
    async with house.manager(script=lambda task: None) as (manager, runner):
        created = new_run("a b c:a,b")
        house.keep_function(created)
        await soon(manager.start(created))
        await eventually(lambda: len(runner.tries) == 2)
        view = read_run(house.inner, "w")
        assert view is not None
        requests.request_cancel(house.inner, view, uid="", reason="Enough")
        ended = await soon(manager.wait(house.address(created)))
        for each in runner.tries:
            each.answer(returned())
        await asyncio.sleep(0)
    assert (ended.status, ended.reason) == (WorkflowStatus.CANCELED, "Enough")
    assert sorted(runner.stopped) == ["a", "b"]
    view = read_run(house.inner, "w")
    assert view is not None
    assert view.status is WorkflowStatus.CANCELED
    assert {step.step_id: step.phase for step in view.steps}["a"] is StepPhase.CANCELED
    taken = [each.record for each in invariants.log_of(house.inner, "w") if isinstance(each.record, r.RequestHandled)]
    assert len(taken) == 1
    assert not list(house.inner.list("notifications/"))
    assert not [info.key for info in house.inner.list("workflows/") if "/inbox/" in info.key]
    invariants.check(house.inner, "w")


async def test_a_step_that_cannot_be_started_any_more_is_never_handed_to_the_runner(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "MOST_IN_FLIGHT", 3)
    async with house.manager(script=lambda task: None) as (manager, runner):
        created = new_run(" ".join(f"s{i}" for i in range(9)) + " end:s0")
        house.keep_function(created)
        await soon(manager.start(created))
        await eventually(lambda: len(runner.tries) == 3)
        runner.of("s0").answer(returned())
        await eventually(lambda: len(runner.tries) == 4)
        runner.of("s1").answer(raised("s1"))
        ended = await soon(manager.wait(house.address(created)))
    assert ended.status is WorkflowStatus.FAILED
    assert len(runner.tries) == 4


async def test_a_long_run_writes_snapshots_and_resumes_from_the_newest(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_loop, "SNAPSHOT_EVERY", 10)
    chain = "s0 " + " ".join(f"s{i}:s{i - 1}" for i in range(1, 40))

    def script(task: StepTask) -> Returned | None:
        return None if task.step_id == "s39" else returned()

    async with house.manager(script=script) as (manager, runner):
        created = new_run(chain)
        house.keep_function(created)
        await soon(manager.start(created))
        await eventually(lambda: "s39" in runner.started)
        await house.abandon(manager)
    snapshots = [info.key for info in house.inner.list("workflows/") if "/snapshot/" in info.key]
    assert snapshots
    async with house.manager(incarnation="i2") as (manager, runner):
        ended = await soon(manager.wait(house.address(created)))
        assert ended.status is WorkflowStatus.SUCCESSFUL
        assert runner.started == ["s39"]
    invariants.check(house.inner, "w")
