"""Workflows that a step starts: each runs once, even if the step is executed more than once."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest
import ray

import workflow
from tests.support import invariants
from tests.support.marks import Marks
from workflow import WorkflowStatus
from workflow.engine.driver import discovery
from workflow.engine.driver.actor import NAMESPACE
from workflow.errors import StepFailedError, WorkflowCancellationError, WorkflowConflictError
from workflow.model import ids
from workflow.reading import read_run
from workflow.store import Store

pytestmark = pytest.mark.usefixtures("storage")

AT_ONCE = 6
"""How many steps start workflows at the same time; more than this Ray has CPUs."""


@workflow.step(name="inner")
def inner(marks: Marks, value: int) -> int:
    marks.started(f"inner {value}")
    return value + 1


@workflow.step
def fails(marks: Marks, value: int, times: int = 1) -> int:
    marks.started("fails")
    if marks.starts()["fails"] <= times:
        raise ValueError("no luck")
    return value


@workflow.step
def held(marks: Marks, value: int) -> int:
    marks.started("held")
    marks.pass_gate("held")
    return value


@workflow.step(name="middle")
def middle(marks: Marks, value: int) -> int:
    marks.started("middle")
    return inner.step(marks, inner.step(marks, value).run()).run()


@workflow.step(name="outer")
def outer(marks: Marks, nested: Any) -> Any:
    marks.started("outer")
    return nested.step(marks, 1).run()


def managers_here() -> set[str]:
    return {each["name"] for each in ray.util.list_named_actors(all_namespaces=True) if each["namespace"] == NAMESPACE}


def owner_of(store: Store, workflow_id: str) -> str:
    view = read_run(store, workflow_id)
    assert view is not None
    return view.owner.address


def test_two_levels_of_nesting_use_one_manager(marks: Marks, wid: str, store: Store) -> None:
    assert outer.step(marks, middle).run(wid) == 3
    assert marks.starts() == {"outer": 1, "middle": 1, "inner 1": 1, "inner 2": 1}
    below = ids.nested(wid, 1, "outer", 1)
    nested = [below, ids.nested(below, 1, "middle", 1), ids.nested(below, 1, "middle", 2)]
    assert [ray.get(workflow.get_output(each)) for each in nested] == [3, 2, 3]
    assert {owner_of(store, each) for each in (wid, *nested)} == managers_here()
    assert len(managers_here()) == 1
    for each in (wid, *nested):
        invariants.check(store, each)


def test_nested_workflow_is_not_repeated_after_worker_death(marks: Marks, wid: str) -> None:
    @workflow.step
    def dies_once(marks: Marks) -> int:
        value = middle.step(marks, 1).run()
        marks.started("outer")
        if marks.starts()["outer"] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return value

    assert dies_once.step(marks).run(wid) == 3
    assert marks.starts() == {"outer": 2, "middle": 1, "inner 1": 1, "inner 2": 1}


def test_next_attempt_attaches_to_the_running_nested_workflow(marks: Marks, wid: str) -> None:
    @workflow.step(max_retries=2)
    def impatient(marks: Marks) -> Any:
        ref = held.step(marks, 1).run_async()
        marks.wait_started("held")
        marks.started("outer")
        if marks.starts()["outer"] == 1:
            raise ValueError("no luck")
        marks.open("held")
        return ray.get(ref)

    assert impatient.step(marks).run(wid) == 1
    assert marks.starts() == {"outer": 2, "held": 1}


def test_resume_keeps_outcomes_of_nested_workflows(marks: Marks, wid: str) -> None:
    @workflow.step
    def fails_afterwards(marks: Marks) -> Any:
        values = [inner.step(marks, n).run() for n in (1, 5)]
        marks.started("outer")
        if marks.starts()["outer"] == 1:
            raise ValueError("no luck")
        return values

    with pytest.raises(ValueError, match="no luck"):
        fails_afterwards.step(marks).run(wid)
    assert ray.get(workflow.resume(wid)) == [2, 6]
    assert marks.starts() == {"outer": 2, "inner 1": 1, "inner 5": 1}


def test_error_of_a_nested_workflow_is_raised_unchanged(marks: Marks, wid: str) -> None:
    with pytest.raises(ValueError, match="no luck") as raised:
        outer.step(marks, fails).run(wid)
    assert isinstance(raised.value.__cause__, StepFailedError)
    assert marks.starts() == {"outer": 1, "fails": 1}
    assert workflow.get_status(ids.nested(wid, 1, "outer", 1)) is WorkflowStatus.FAILED


def test_next_attempt_repeats_only_failed_nested_steps(marks: Marks, wid: str, store: Store) -> None:
    @workflow.step(max_retries=2)
    def retried(marks: Marks) -> int:
        marks.started("outer")
        return fails.step(marks, inner.step(marks, 1)).run()

    assert retried.options(name="retried").step(marks).run(wid) == 2
    assert marks.starts() == {"outer": 2, "inner 1": 1, "fails": 2}
    invariants.check(store, ids.nested(wid, 1, "retried", 1))


def test_given_id_names_one_workflow_for_all_steps(marks: Marks, wid: str) -> None:
    @workflow.step
    def named(marks: Marks, number: int) -> int:
        return inner.step(marks, 1).run(f"{wid}-mine")

    @workflow.step
    def total(*values: int) -> int:
        return sum(values)

    assert total.step(*(named.step(marks, n) for n in range(3))).run(wid) == 6
    assert ray.get(workflow.get_output(f"{wid}-mine")) == 2
    assert marks.starts() == {"inner 1": 1}


def test_next_attempt_continues_a_nested_workflow_with_given_id(marks: Marks, wid: str) -> None:
    @workflow.step(max_retries=2)
    def named(marks: Marks) -> int:
        marks.started("outer")
        return fails.step(marks, inner.step(marks, 1)).run(f"{wid}-mine")

    assert named.step(marks).run(wid) == 2
    assert marks.starts() == {"outer": 2, "inner 1": 1, "fails": 2}


def test_other_dag_in_a_repeated_nested_call_is_refused(marks: Marks, wid: str) -> None:
    @workflow.step(max_retries=2)
    def fickle(marks: Marks) -> int:
        marks.started("outer")
        (inner if marks.starts()["outer"] == 1 else middle).step(marks, 1).run()
        raise ValueError("no luck")

    with pytest.raises(WorkflowConflictError, match="another DAG"):
        fickle.step(marks).run(wid)
    assert marks.starts() == {"outer": 2, "inner 1": 1}


def test_more_waiting_steps_than_cpus_do_not_deadlock(marks: Marks, wid: str) -> None:
    @workflow.step
    def all_of(*values: int) -> list[int]:
        return list(values)

    running = all_of.step(*(outer.step(marks, held) for _ in range(AT_ONCE))).run_async(wid)
    marks.wait_started("outer", AT_ONCE)
    marks.wait_started("held")  # a nested workflow runs while all outer steps wait
    marks.open("held")
    assert ray.get(running) == [1] * AT_ONCE
    assert marks.starts() == {"outer": AT_ONCE, "held": AT_ONCE}


def test_nested_workflow_continues_after_outer_is_canceled(marks: Marks, wid: str) -> None:
    running = outer.step(marks, held).run_async(wid)
    marks.wait_started("held")
    workflow.cancel(wid)
    with pytest.raises(WorkflowCancellationError):
        ray.get(running)
    workflow.delete(wid)
    nested = ids.nested(wid, 1, "outer", 1)
    assert workflow.get_status(nested) is WorkflowStatus.RUNNING
    marks.open("held")
    assert ray.get(workflow.get_output(nested)) == 1


def test_canceled_nested_workflow_is_not_repeated(marks: Marks, wid: str) -> None:
    running = outer.options(max_retries=2).step(marks, held).run_async(wid)
    marks.wait_started("held")
    workflow.cancel(ids.nested(wid, 1, "outer", 1))
    with pytest.raises(WorkflowCancellationError):
        ray.get(running)
    assert marks.starts() == {"outer": 2, "held": 1}


def test_step_reads_other_workflows(marks: Marks, wid: str) -> None:
    @workflow.step
    def reads(other: str) -> list[Any]:
        later = [workflow.get_output(other), workflow.get_output(other, name="inner")]
        return [
            workflow.get_status(other).name,
            ray.get(workflow.get_output(other)),
            ray.get(workflow.get_output(other, name="inner")),
            workflow.get_metadata(other)["user_metadata"],
            *ray.get(later),
        ]

    inner.step(marks, 1).run(f"{wid}-other", metadata={"k": 1})
    assert reads.step(f"{wid}-other").run(wid) == ["SUCCESSFUL", 2, 2, {"k": 1}, 2, 2]


def test_async_step_starts_workflows(marks: Marks, wid: str) -> None:
    @workflow.step
    async def waits(marks: Marks) -> list[int]:
        here = inner.step(marks, 1).run()
        return [here, await asyncio.to_thread(inner.step(marks, 5).run)]

    assert waits.options(name="waits").step(marks).run(wid) == [2, 6]
    assert [ray.get(workflow.get_output(ids.nested(wid, 1, "waits", n))) for n in (1, 2)] == [2, 6]


def test_nested_workflow_inherits_the_runtime_env(wid: str, store: Store) -> None:
    @workflow.step
    def flavor() -> str:
        return os.environ.get("FLAVOR", "")

    @workflow.step(runtime_env={"env_vars": {"FLAVOR": "sweet"}})
    def tastes() -> str:
        return flavor.step().run()

    assert tastes.options(name="tastes").step().run(wid) == "sweet"
    nested = owner_of(store, ids.nested(wid, 1, "tastes", 1))
    assert nested != owner_of(store, wid)
    assert discovery.find(nested) is not None
