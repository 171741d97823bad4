"""`workflow.wait` in the manager: when it decides, which attempts it stops, and how it is composed and encoded."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

import workflow
from tests.support import invariants, runs
from tests.support.fake_runner import expanded, raised, returned
from tests.support.managers import ManagerFixture, never_returns, start_run
from tests.support.runs import graph
from tests.support.waiting import eventually
from workflow.engine.messages import RunResult
from workflow.engine.worker.encoding import Encoder
from workflow.engine.worker.run_values import RunValues
from workflow.errors import InvalidInputError
from workflow.log.run_log import RunLog
from workflow.model import records as r
from workflow.model.graph import Graph, StepKind, StepNode, Value, WaitOptions
from workflow.model.status import WorkflowStatus
from workflow.store.memory import MemoryStore
from workflow.waits import remaining_workflow


@workflow.step
def join(*parts: Any) -> None:
    """Accept any arguments."""


def encoded(root: StepNode, run_uuid: str = "run-1") -> Graph:
    log = RunLog(MemoryStore("waits"), runs.created(graph("a"), run_uuid=run_uuid))
    return Encoder(RunValues(log.store, log.paths)).encode(root, "")


def waiting(text: str, num_returns: int = 1, timeout: float | None = None) -> Graph:
    """Return a DAG in which `w` is a wait."""
    dag, wait = graph(text), WaitOptions(num_returns, timeout)
    steps = (
        replace(step, kind=StepKind.WAIT, wait=wait, function="") if step.step_id == "w" else step for step in dag.steps
    )
    return Graph(tuple(steps), dag.output)


def decisions(fixture: ManagerFixture) -> list[tuple[str, ...]]:
    log = invariants.log_of(fixture.inner, "w")
    return [each.record.ready for each in log if isinstance(each.record, r.WaitDecided)]


def test_wait_is_encoded_with_its_parents_and_options() -> None:
    one, two = join.step(1), join.step(2)
    *_, waited, _ = encoded(join.step(one, workflow.wait([two, one], num_returns=2, timeout=3), two)).steps
    assert (waited.kind, waited.function, waited.module, waited.args) == (StepKind.WAIT, "", "", Value())
    assert (waited.name, waited.qualname) == ("workflow.wait", "workflow.waits.wait")
    assert waited.wait == WaitOptions(2, 3.0)
    assert len(waited.parents) == 2
    (named,) = encoded(workflow.wait([]).options(name="first", metadata={"k": 1})).steps
    assert (named.name, named.options.metadata, named.parents) == ("first", '{"k": 1}', ())


def test_remaining_workflow_is_encoded_as_its_step() -> None:
    rest = remaining_workflow("run-1", "a/b")
    (step,) = encoded(join.step([rest], rest)).steps
    assert step.parents == ("a/b",)
    with pytest.raises(InvalidInputError, match=r"takes 'a/b', which workflow.wait left over in another run"):
        encoded(join.step(rest), "run-2")


async def test_wait_decides_with_the_first_and_the_rest_is_stopped() -> None:
    fixture = ManagerFixture()
    async with fixture.manager(script=never_returns) as (manager, runner):
        created = await start_run(fixture, manager, waiting("a b c w:a,b,c z:w", 2))
        await eventually(lambda: len(runner.attempts) == 3)
        runner.last_attempt("c").answer(returned())
        runner.last_attempt("a").answer(returned())
        await eventually(lambda: "z" in runner.started)
        runner.last_attempt("z").answer(returned())
        ended: RunResult = await manager.wait(fixture.address(created))
    assert ended.status is WorkflowStatus.SUCCESSFUL
    assert decisions(fixture) == [("a", "c")]
    invariants.check(fixture.inner, "w")


async def test_wait_decides_after_its_timeout() -> None:
    fixture = ManagerFixture()
    async with fixture.manager(script=never_returns) as (manager, runner):
        await start_run(fixture, manager, waiting("a b w:a,b z:w", 2, timeout=0.01))
        await eventually(lambda: "z" in runner.started)
    assert decisions(fixture) == [()]
    invariants.check(fixture.inner, "w")


async def test_later_failure_fails_only_what_takes_the_step() -> None:
    fixture = ManagerFixture()
    async with fixture.manager(script=never_returns) as (manager, runner):
        created = await start_run(fixture, manager, waiting("a b w:a,b z:w"))
        await eventually(lambda: len(runner.attempts) == 2)
        runner.last_attempt("a").answer(returned())
        runner.last_attempt("b").answer(raised("b"))
        await eventually(lambda: "z" in runner.started)
        runner.last_attempt("z").answer(expanded(graph("z/y:b")))
        ended: RunResult = await manager.wait(fixture.address(created))
    assert ended.status is WorkflowStatus.FAILED
    assert ended.error is not None
    assert ended.error.step_id == "b", "the error is that of the step that was left over"
    invariants.check(fixture.inner, "w")


def test_waits_of_one_list_may_overlap() -> None:
    async def scenario() -> None:
        fixture = ManagerFixture()
        async with fixture.manager(script=lambda task: returned()) as (manager, _):
            one = workflow.wait([first := join.step(1), join.step(2)])
            dag = encoded(join.step(one, workflow.wait([first]), first))
            created = await start_run(fixture, manager, dag)
            ended = await manager.wait(fixture.address(created))
        assert ended.status is WorkflowStatus.SUCCESSFUL
        assert len(decisions(fixture)) == 2

    asyncio.run(scenario())


wait: Any = workflow.wait


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: wait(join.step(1)), "takes a list of workflows"),
        (lambda: wait([1]), "takes a list of workflows"),
        (lambda: wait([join.step(1)], num_returns=2), "must be from 1 to 1"),
        (lambda: wait([join.step(1)], num_returns=0), "must be from 1 to 1"),
        (lambda: wait([join.step(1)], num_returns=1.0), "must be a whole number"),
        (lambda: wait([join.step(1)], timeout=-1), "finite number of seconds from 0"),
        (lambda: wait([join.step(1)], timeout="1"), "must be a number of seconds or None"),
        (lambda: wait([join.step(1)] * 1 + [join.step(1)]).options(num_cpus=1), "no option num_cpus"),
        (lambda: wait([(one := join.step(1)), one]), "takes each workflow once"),
    ],
)
def test_wrong_calls_of_wait_are_explained(call: Any, text: str) -> None:
    with pytest.raises(InvalidInputError, match=text):
        call()
