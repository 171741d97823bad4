"""`workflow.wait` in a real Ray: what is ready, the timeout, remaining workflows, failures, and a resume."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import ray

import workflow
from tests.support import invariants
from tests.support.marks import Marks
from workflow.engine.driver import discovery
from workflow.errors import InvalidInputError
from workflow.store import Store

pytestmark = pytest.mark.usefixtures("storage")


@workflow.step
def value(number: Any) -> Any:
    return number


@workflow.step
def opened(gate: Path, number: int) -> int:
    """Return the number after the gate is opened."""
    while not gate.exists():
        time.sleep(0.02)
    return number


@workflow.step
def fail() -> int:
    raise ValueError("no value")


@workflow.step
def split(lists: tuple[list[Any], list[workflow.Workflow[Any]]]) -> tuple[list[Any], int]:
    ready, remaining = lists
    return ready, len(remaining)


def test_wait_returns_ready_values_and_remaining_workflows(wid: str, folder: Path, store: Store) -> None:
    slow = opened.step(folder / "gate", 1)
    ready, remaining = workflow.wait([slow, value.step(2), value.step(3)], num_returns=2).run(wid)
    assert ready == [2, 3]
    assert [isinstance(each, workflow.Workflow) for each in remaining] == [True]
    assert workflow.get_status(wid) is workflow.SUCCESSFUL, "the remaining workflow was stopped"
    assert ray.get(workflow.get_output(wid, name="workflow.wait"))[0] == [2, 3]
    with pytest.raises(InvalidInputError, match=r"which workflow.wait left over in another run"):
        value.step(remaining[0]).run()
    with pytest.raises(InvalidInputError, match=r"cannot return or run .* it is executed already"):
        remaining[0].run()
    invariants.check(store, wid)


def test_wait_ends_after_its_timeout(folder: Path) -> None:
    waiting = workflow.wait([value.step(1), opened.step(folder / "gate", 2)], num_returns=2, timeout=1.5)
    assert split.step(waiting).run() == ([1], 1)


def test_remaining_workflows_are_passed_to_later_steps(folder: Path, marks: Marks) -> None:
    @workflow.step
    def count(marks: Marks, number: int) -> int:
        marks.started(f"count {number}")
        return number

    @workflow.step
    def collect(folder: Path, found: list[int], lists: Any) -> Any:
        ready, remaining = lists
        (folder / f"gate {len(found) + 1}").touch()
        if not remaining:
            return [*found, *ready]
        return collect.step(folder, [*found, *ready], workflow.wait(remaining))

    gates = [count.step(marks, opened.step(folder / f"gate {index}", index)) for index in (2, 0, 1)]
    (folder / "gate 0").touch()
    assert collect.step(folder, [], workflow.wait(gates)).run() == [0, 1, 2]
    assert marks.starts() == {"count 0": 1, "count 1": 1, "count 2": 1}


def test_remaining_workflow_is_an_argument_or_part_of_a_value(folder: Path) -> None:
    @workflow.step
    def last(lists: Any) -> Any:
        return lists[1][0]

    @workflow.step
    def keep(lists: Any) -> Any:
        return {"rest": lists[1]}

    @workflow.step
    def take(gate: Path, kept: Any) -> Any:
        gate.touch()
        return value.step({"value": kept["rest"][0]})

    lists = workflow.wait([opened.step(folder / "gate", 5), value.step(1)])
    assert take.step(folder / "gate", keep.step(lists)).run() == {"value": 5}
    with pytest.raises(InvalidInputError, match=r"pass it to a step, and return that step"):
        last.step(workflow.wait([opened.step(folder / "never", 5), value.step(1)])).run()


def test_failure_of_a_ready_workflow_fails_the_wait() -> None:
    with pytest.raises(ValueError, match="no value"):
        split.step(workflow.wait([fail.step(), value.step(1)], num_returns=2)).run()


def test_failure_of_a_remaining_workflow_fails_its_consumers(folder: Path) -> None:
    @workflow.step
    def fail_later(gate: Path) -> int:
        while not gate.exists():
            time.sleep(0.02)
        raise ValueError("late")

    @workflow.step
    def ignore(gate: Path, lists: Any) -> Any:
        gate.touch()
        return workflow.sleep(0.3)

    @workflow.step(catch_exceptions=True)
    def use(gate: Path, lists: Any) -> Any:
        gate.touch()
        return value.step(lists[1][0])

    def waiting(name: str) -> Any:
        return workflow.wait([fail_later.step(folder / name), value.step(1)])

    assert ignore.step(folder / "a", waiting("a")).run() is None
    nothing, error = use.step(folder / "b", waiting("b")).run()
    assert nothing is None
    assert str(error) == "late"


def test_next_owner_uses_the_decision_of_the_wait(wid: str, folder: Path, marks: Marks, store: Store) -> None:
    @workflow.step
    def after(marks: Marks, gate: Path, lists: Any) -> Any:
        ready, remaining = lists
        marks.started("after")
        while not gate.exists():
            time.sleep(0.02)
        return value.step([ready, remaining[0]])

    first, second = opened.step(folder / "1", 1), opened.step(folder / "2", 2)
    (folder / "2").touch()
    waiting = after.step(marks, folder / "after", workflow.wait([first, second])).run_async(wid)
    marks.wait_started("after")
    manager = discovery.find(f"manager-{discovery.fingerprint(store.url)}")
    assert manager is not None
    ray.kill(manager, no_restart=False)
    (folder / "1").touch()  # both are ready now
    marks.wait_started("after", times=2)
    (folder / "after").touch()
    assert ray.get(workflow.get_output(wid)) == [[2], 1]
    del waiting  # it keeps the reference to the value until here
    invariants.check(store, wid)
