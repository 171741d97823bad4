"""The pause between the attempts of a step that raises, and what a long series of attempts costs and shows."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import logging
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import invariants, runs
from tests.support.fake_runner import FakeRunner, inputs_lost, raised, returned, returned_ephemeral
from tests.support.managers import ManagerFixture, never_returns, start_run, with_timeout
from tests.support.waiting import eventually
from workflow import requests
from workflow.engine.messages import RunAddress, StepResult
from workflow.engine.owner import planning, retries
from workflow.engine.owner.planning import AttemptDue, AttemptFinished, Planner
from workflow.engine.retry import Backoff
from workflow.model import codec, snapshot
from workflow.model import records as r
from workflow.model.graph import StepKind, StepOptions
from workflow.model.run_view import ErrorInfo
from workflow.model.status import StepPhase, WorkflowStatus
from workflow.reading import read_run
from workflow.view import as_text

FOREVER = StepOptions(max_retries=-1)
LONG = Backoff(3600.0, 3600.0)


@pytest.fixture
def fixture() -> ManagerFixture:
    return ManagerFixture()


# --- the pause ---


def test_pauses_of_a_series_grow_from_zero_to_a_minute() -> None:
    longest = [retries.RETRY_BACKOFF.delay(failures - 1) for failures in range(1, 15)]
    assert longest == [0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60.0, 60.0]
    assert sum(retries.pause_after(failures, "s") for failures in (1, 2)) <= 0.05, "max_retries=3 has two pauses"


@given(st.integers(1, 10**9), st.text())
def test_each_pause_is_at_most_a_quarter_shorter(failures: int, key: str) -> None:
    longest = retries.RETRY_BACKOFF.delay(failures - 1)
    pause = retries.pause_after(failures, key)
    assert 0.75 * longest <= pause <= longest <= 60.0
    assert pause == retries.pause_after(failures, key)


def test_pauses_of_steps_that_failed_together_differ() -> None:
    assert len({retries.pause_after(20, f"step-{number}") for number in range(100)}) > 90


def test_first_retry_and_powers_of_two_are_logged() -> None:
    assert [number for number in range(100) if retries.is_logged(number)] == [1, 2, 4, 8, 16, 32, 64]


# --- plans ---


def planner_of(dag: str, **options: StepOptions) -> Planner:
    def ignore(*message: object) -> None:
        """Timers are not awaited here."""

    state = runs.state_of(runs.graph(dag, **options))
    return Planner(state, RunAddress("memory://x", "w", 1, "run-1"), lambda: 100.0, ignore, ignore)


def finish(planner: Planner, step_id: str, result: StepResult) -> planning.SegmentPlan:
    return planner.plan([AttemptFinished(step_id, planner.state.steps[step_id].attempt, result)])


def due(planner: Planner, step_id: str) -> planning.SegmentPlan:
    return planner.plan([AttemptDue(step_id, planner.state.steps[step_id].attempt)])


def started(plan: planning.SegmentPlan) -> list[str]:
    return [step.spec.step_id for step in plan.to_start]


async def test_ten_thousand_attempts_need_bounded_memory_and_records() -> None:
    planner = planner_of("a", a=FOREVER)
    planner.plan([])
    huge = dataclasses.replace(raised("a"), error=ErrorInfo("ValueError", "x" * 16_000, "y" * 30_000, "a"))
    lines, tracked = 0, 0
    for number in range(1, 10_001):
        if number == 9_000:
            tracemalloc.start()
        if number == 9_200:
            tracked = tracemalloc.get_traced_memory()[0]
        plan = finish(planner, "a", huge)
        (record,) = plan.records
        lines += len(plan.notices)
        planner.stop_timers()
        if number % 100 == 0:
            await asyncio.sleep(0)  # the loop forgets stopped timers
        if number > 1:
            assert due(planner, "a").to_start == [planner.state.steps["a"]]
    grown = tracemalloc.get_traced_memory()[0] - tracked
    tracemalloc.stop()
    assert grown < 20_000
    assert lines == 14
    assert len(json.dumps(codec.encode(record))) < 1_500
    assert isinstance(record, r.StepStarted)
    assert (record.attempt, record.failed_attempts) == (10_001, 10_000)
    assert 145.0 <= record.at <= 160.0
    assert len(snapshot.compact(planner.state)) == 2


async def test_steps_in_a_pause_leave_their_places_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "MAX_RUNNING_TASKS", 2)
    planner = planner_of("a b c d e", a=FOREVER, b=FOREVER)
    assert started(planner.plan([])) == ["a", "b"]
    for step_id in "ab":
        assert started(finish(planner, step_id, raised(step_id))) == [step_id], "the first retry starts at once"
    assert started(finish(planner, "a", raised("a"))) == ["c"]
    assert started(finish(planner, "b", raised("b"))) == ["d"]
    assert started(due(planner, "a")) == [], "both places are occupied"
    assert started(finish(planner, "c", returned())) == ["a"], "an attempt whose pause is over goes first"
    assert started(finish(planner, "d", returned())) == ["e"]
    assert started(due(planner, "b")) == []
    assert started(finish(planner, "e", returned())) == []
    assert planner.state.is_finished
    planner.stop_timers()


async def test_pause_of_a_step_that_waits_for_its_inputs_again_ends() -> None:
    planner = planner_of("a b:a c:a d:b,c", a=StepOptions(checkpoint=False), b=FOREVER)
    planner.plan([])
    finish(planner, "a", returned_ephemeral())
    for _ in range(2):
        paused = finish(planner, "b", raised("b"))
    assert started(paused) == []
    stale = AttemptDue("b", planner.state.steps["b"].attempt)
    assert started(finish(planner, "c", inputs_lost("a"))) == ["a"]
    assert started(planner.plan([stale])) == []
    assert sorted(started(finish(planner, "a", returned("a")))) == ["b", "c"]
    assert planner.state.steps["b"].failed_attempts == 2
    assert not planner._paused
    planner.stop_timers()


async def test_listener_that_raised_pauses_without_a_place() -> None:
    dag = runs.graph("e", e=FOREVER)
    listener = dataclasses.replace(dag, steps=(dataclasses.replace(dag.steps[0], kind=StepKind.EVENT),))
    planner = planner_of("a")
    planner.state = runs.state_of(listener)
    planner.plan([])
    finish(planner, "e", raised("e"))
    assert started(finish(planner, "e", raised("e"))) == []
    assert not planner._paused
    assert started(due(planner, "e")) == ["e"]
    planner.stop_timers()


# --- runs ---


def has_attempts(runner: FakeRunner, number: int) -> bool:
    return len(runner.attempts) == number


async def test_retries_are_visible_while_the_run_goes_on(
    fixture: ManagerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    dag = runs.graph("a", a=FOREVER)
    async with fixture.manager(script=never_returns) as (manager, runner):
        created = await start_run(fixture, manager, dag)
        for number in range(1, 4):
            await eventually(functools.partial(has_attempts, runner, number))
            runner.attempts[-1].answer(raised("a"))
        await eventually(lambda: len(caplog.messages) == 2)
        await eventually(lambda: len(invariants.log_of(fixture.inner, "w")) == 4)
        view = read_run(fixture.inner, "w")
        assert view is not None
        (step,) = view.steps
        assert (step.phase, step.attempts, step.error) == (
            StepPhase.RUNNING,
            4,
            ErrorInfo("ValueError", "boom", step_id="a"),
        )
        assert "(4 attempts)  last error ValueError: boom" in as_text(view)
        await eventually(lambda: len(runner.attempts) == 4)
        runner.attempts[-1].answer(returned())
        await with_timeout(manager.wait(fixture.address(created)))
    first, second = caplog.messages
    limit = "(max_retries=-1: no limit)"
    assert first == f"workflow 'w': step 'a' raised ValueError: boom; attempt 2 {limit} starts now"
    assert second.startswith(f"workflow 'w': step 'a' raised ValueError: boom; attempt 3 {limit} starts in 0.0")
    view = read_run(fixture.inner, "w")
    assert view is not None
    assert view.steps[0].error is None


async def test_canceled_run_starts_no_attempt_after_its_pause(
    fixture: ManagerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "RETRY_BACKOFF", LONG)
    async with fixture.manager(script=lambda task: raised("a")) as (manager, runner):
        created = await start_run(fixture, manager, runs.graph("a", a=FOREVER))
        await eventually(lambda: len(invariants.log_of(fixture.inner, "w")) == 3)
        view = read_run(fixture.inner, "w")
        assert view is not None
        requests.request_cancel(fixture.inner, view, uid="", reason="Enough")
        ended = await with_timeout(manager.wait(fixture.address(created)))
    assert ended.status is WorkflowStatus.CANCELED
    assert len(runner.attempts) == 2
    invariants.check(fixture.inner, "w")


async def test_next_owner_does_not_wait_for_the_rest_of_a_pause(
    fixture: ManagerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "RETRY_BACKOFF", LONG)
    async with fixture.manager(script=lambda task: raised("a")) as (manager, _):
        await start_run(fixture, manager, runs.graph("a", a=FOREVER))
        await eventually(lambda: len(invariants.log_of(fixture.inner, "w")) == 3)
        await fixture.abandon(manager)
    async with fixture.manager(incarnation="i2", script=never_returns) as (_, runner):
        await eventually(lambda: runner.attempts)
    assert runner.attempts[0].task.attempt == 1
