"""A worker executes its batch in order. Each attempt is either executed once or returned to the manager."""

from __future__ import annotations

import threading

from workflow.engine.messages import Returned, RunAddress, StepResult, StepTask
from workflow.engine.worker.worker_loop import execute_all
from workflow.model.graph import Value

RESULT = Returned(Value(b"1"), "", 0.0, 1.0)


def batch(*step_ids: str) -> list[StepTask]:
    """Return attempts of these steps."""
    run = RunAddress("memory://", "w", 1, "run")
    return [StepTask(run, each, "m.f", "", Value(b""), (), 1, render=False, written_by="") for each in step_ids]


def test_batch_is_executed_in_order() -> None:
    ran: list[str] = []

    def run(task: StepTask) -> StepResult:
        ran.append(task.step_id)
        return RESULT

    finished = execute_all(batch("a", "b", "c"), run, lambda tasks: None, return_after=60.0)
    assert [each.key[1] for each in finished] == ran == ["a", "b", "c"]


def test_attempts_after_a_long_step_are_returned_unstarted() -> None:
    returned: list[str] = []
    were_returned = threading.Event()
    ran: list[str] = []

    def run(task: StepTask) -> StepResult:
        ran.append(task.step_id)
        if task.step_id == "b":
            assert were_returned.wait(10), "b waits for c, which is after b in the batch"
        return RESULT

    def return_unstarted(tasks: list[StepTask]) -> None:
        returned.extend(task.step_id for task in tasks)
        were_returned.set()

    finished = execute_all(batch("a", "b", "c", "d"), run, return_unstarted, return_after=0.001)
    assert ran == [each.key[1] for each in finished]
    assert sorted(ran + returned) == ["a", "b", "c", "d"]
    assert "c" in returned


def test_nothing_is_returned_of_a_batch_of_one() -> None:
    returned: list[StepTask] = []
    started = threading.active_count()

    def run(task: StepTask) -> StepResult:
        assert threading.active_count() == started, "no timer is started, because no attempt can wait"
        return RESULT

    assert len(execute_all(batch("a"), run, returned.extend, return_after=0.0)) == 1
    assert returned == []
