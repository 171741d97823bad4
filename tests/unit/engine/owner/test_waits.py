"""What waits are in the log: which functions they bring, what of them is stored."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

import workflow
from tests.support import runs
from tests.support.fake_runner import returned
from tests.support.managers import House, begun, never
from tests.support.waiting import eventually
from workflow.engine.owner import planning
from workflow.engine.worker import functions
from workflow.engine.worker.encoding import Encoder
from workflow.engine.worker.run_values import RunValues
from workflow.event_listener import TimerListener
from workflow.log.run_log import RunLog
from workflow.model import fold
from workflow.model.graph import Graph, StepKind, StepNode, Value
from workflow.store.memory import MemoryStore


@workflow.step
def together(*parts: Any) -> None:
    """Takes whatever it is given."""


def encoded(root: StepNode) -> Graph:
    log = RunLog(MemoryStore("waits"), runs.created(runs.graph("a")))
    return Encoder(RunValues(log.store, log.paths)).encode(root, "")


def test_a_sleep_brings_no_function_which_a_later_epoch_could_look_for() -> None:
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
    assert functions.present(state, lambda function: pytest.fail(f"{function} is stored")) == {}


def test_a_wait_is_two_steps_and_listeners_of_one_class_share_their_functions() -> None:
    dag = encoded(together.step(*(workflow.wait_for_event(TimerListener, float(when)) for when in range(3))))
    *waits, _ = dag.steps
    assert [step.kind for step in waits] == [StepKind.EVENT] * 6
    assert {step.name.rpartition("TimerListener.")[2] for step in waits} == {"poll_for_event", "event_checkpointed"}
    assert len({step.function for step in waits}) == 2
    assert all(step.options.checkpoint for step in waits), "also below a step with checkpoint=False"


def test_options_of_a_wait_are_added_up() -> None:
    given = workflow.wait_for_event(TimerListener, 0.0).options(name="alarm").options(max_retries=3, metadata={"k": 1})
    poll, told = encoded(given).steps
    assert (told.name, told.options.metadata) == ("alarm", '{"k": 1}')
    assert (poll.options.max_retries, told.options.max_retries) == (3, 3)
    assert poll.options.metadata == "{}"


def test_waits_take_no_places_from_steps_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "MOST_IN_FLIGHT", 1)
    *steps, last = runs.graph("e1 t1 e2 t2 e3 z:e1,t1,e2,t2,e3").steps
    waits = [replace(step, kind=StepKind.EVENT) if step.step_id.startswith("e") else step for step in steps]
    dag = Graph((*waits, last), "z")

    async def play() -> None:
        house = House()
        async with house.manager(script=never) as (manager, runner):
            await begun(house, manager, dag)
            await eventually(lambda: len(runner.tries) == 4)
            assert runner.started == ["e1", "e2", "e3", "t1"]
            runner.of("e2").answer(returned())
            runner.of("t1").answer(returned())
            await eventually(lambda: runner.started[4:] == ["t2"])

    asyncio.run(play())


def test_a_negative_sleep_is_none() -> None:
    assert encoded(workflow.sleep(-1)).steps[0].seconds == 0.0
