"""A worker's batch: executed in order, and what waits behind a long step is given back, each try on one side only."""

from __future__ import annotations

import threading

from workflow.engine.messages import Returned, RunAddress, StepResult, StepTask
from workflow.engine.worker.worker_loop import execute_all
from workflow.model.graph import Value

RESULT = Returned(Value(b"1"), "", 0.0, 1.0)


def batch(*step_ids: str) -> list[StepTask]:
    """Tries of these steps."""
    run = RunAddress("memory://", "w", 1, "run")
    return [StepTask(run, each, "m.f", "", Value(b""), (), 1, render=False, written_by="") for each in step_ids]


def test_a_batch_is_executed_in_order() -> None:
    ran: list[str] = []

    def run(task: StepTask) -> StepResult:
        ran.append(task.step_id)
        return RESULT

    done = execute_all(batch("a", "b", "c"), run, lambda rest: None, held=60.0)
    assert [each.key[1] for each in done] == ran == ["a", "b", "c"]


def test_what_waits_behind_a_long_step_is_given_back_and_not_begun() -> None:
    given: list[str] = []
    gave = threading.Event()
    ran: list[str] = []

    def run(task: StepTask) -> StepResult:
        ran.append(task.step_id)
        if task.step_id == "b":
            assert gave.wait(10), "b waits for c, which waits behind it"
        return RESULT

    def return_unstarted(rest: list[StepTask]) -> None:
        given.extend(task.step_id for task in rest)
        gave.set()

    done = execute_all(batch("a", "b", "c", "d"), run, return_unstarted, held=0.001)
    assert ran == [each.key[1] for each in done]
    assert sorted(ran + given) == ["a", "b", "c", "d"]
    assert "c" in given


def test_nothing_is_given_back_of_a_batch_of_one() -> None:
    given: list[StepTask] = []
    started = threading.active_count()

    def run(task: StepTask) -> StepResult:
        assert threading.active_count() == started, "no alarm is armed where nothing can wait"
        return RESULT

    assert len(execute_all(batch("a"), run, given.extend, held=0.0)) == 1
    assert given == []
