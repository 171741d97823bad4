"""Sleeps and events as steps of a DAG: their functions, their options, and their place in the schedule."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

import workflow
from tests.support import runs
from tests.support.fake_runner import returned
from tests.support.managers import ManagerFixture, never_returns, start_run
from tests.support.waiting import eventually
from workflow.engine.driver.present_code import replace_functions
from workflow.engine.owner import planning
from workflow.engine.worker.encoding import Encoder
from workflow.engine.worker.run_values import RunValues
from workflow.event_listener import TimerListener
from workflow.log.keys import RunPaths
from workflow.log.run_log import RunLog
from workflow.model import fold
from workflow.model.graph import Graph, StepKind, StepNode, Value
from workflow.model.program import Program
from workflow.store.memory import MemoryStore


@workflow.step
def join(*parts: Any) -> None:
    """Accept any arguments."""


def encoded(root: StepNode) -> Graph:
    log = RunLog(MemoryStore("waits"), runs.created(runs.graph("a")))
    return Encoder(RunValues(log.store, log.paths)).encode(root, "")


def test_sleep_has_no_function() -> None:
    dag = encoded(workflow.sleep(5))
    (slept,) = dag.steps
    assert (slept.kind, slept.seconds, slept.function, slept.module, slept.args) == (
        StepKind.SLEEP,
        5.0,
        "",
        "",
        Value(),
    )
    assert slept.name == "workflow.waits.sleep"
    state = fold.begin(runs.created(dag), dag)
    assert replace_functions(state, RunValues(MemoryStore("waits"), RunPaths("w", 1, "run-1")), Program(), "") == {}


def test_listeners_of_one_class_share_two_functions() -> None:
    dag = encoded(join.step(*(workflow.wait_for_event(TimerListener, float(when)) for when in range(3))))
    *waits, _ = dag.steps
    assert [step.kind for step in waits] == [StepKind.EVENT] * 6
    assert {step.name.rpartition("TimerListener.")[2] for step in waits} == {"poll_for_event", "event_checkpointed"}
    assert len({step.function for step in waits}) == 2
    assert all(step.options.checkpoint for step in waits), "events are stored even inside a step with checkpoint=False"


def test_options_of_a_wait_are_combined() -> None:
    given = workflow.wait_for_event(TimerListener, 0.0).options(name="alarm").options(max_retries=3, metadata={"k": 1})
    poll, checkpointed = encoded(given).steps
    assert (checkpointed.name, checkpointed.options.metadata) == ("alarm", '{"k": 1}')
    assert (poll.options.max_retries, checkpointed.options.max_retries) == (3, 3)
    assert poll.options.metadata == "{}"


def test_waits_do_not_use_places_of_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "MAX_RUNNING_TASKS", 1)
    *steps, last = runs.graph("e1 t1 e2 t2 e3 z:e1,t1,e2,t2,e3").steps
    waits = [replace(step, kind=StepKind.EVENT) if step.step_id.startswith("e") else step for step in steps]
    dag = Graph((*waits, last), "z")

    async def scenario() -> None:
        fixture = ManagerFixture()
        async with fixture.manager(script=never_returns) as (manager, runner):
            await start_run(fixture, manager, dag)
            await eventually(lambda: len(runner.attempts) == 4)
            assert runner.started == ["e1", "e2", "e3", "t1"]
            runner.last_attempt("e2").answer(returned())
            runner.last_attempt("t1").answer(returned())
            await eventually(lambda: runner.started[4:] == ["t2"])

    asyncio.run(scenario())


def test_negative_sleep_lasts_zero_seconds() -> None:
    assert encoded(workflow.sleep(-1)).steps[0].seconds == 0.0
