"""The section "Dynamic workflows" of the specification: recursion, the trip, order of execution, depth and width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

import workflow
from tests.support import invariants
from tests.support.marks import Marks
from workflow import Workflow, WorkflowStatus
from workflow.errors import InvalidInputError
from workflow.log import registry
from workflow.log.run_log import RunLog
from workflow.model.records import Created
from workflow.reading import read_run
from workflow.store import Store

pytestmark = pytest.mark.usefixtures("storage")


@workflow.step
def factorial(n: int) -> int:
    if n == 1:
        return 1
    return multiply.step(n, factorial.step(n - 1))


@workflow.step
def multiply(a: int, b: int) -> int:
    return a * b


@workflow.step
def tail(n: int, acc: int = 0) -> Any:
    return acc if n == 0 else tail.step(n - 1, acc + n)


def test_recursive_factorial(wid: str, store: Store) -> None:
    """The snippet `factorial.step(10)`."""
    ret = factorial.step(10)
    assert ret.run(wid) == 3628800
    invariants.check(store, wid)


@dataclass(frozen=True)
class Flight:
    origin: str
    dest: str
    date: str


@dataclass(frozen=True)
class Hotel:
    dest: str


@dataclass(frozen=True)
class Receipt:
    flights: list[Flight]
    hotels: list[Hotel]


@workflow.step
def book_flight(marks: Marks, origin: str, dest: str, date: str) -> Flight:
    marks.started("book")
    marks.wait_started("book", 3)  # all three must run at the same time
    return Flight(origin, dest, date)


@workflow.step
def book_hotel(marks: Marks, dest: str, dates: list[str]) -> Hotel:
    marks.started("book")
    marks.wait_started("book", 3)
    return Hotel(dest)


@workflow.step
def finalize_or_cancel(marks: Marks, flights: list[Flight], hotels: list[Hotel]) -> Receipt:
    marks.started("finalize")
    return Receipt(flights, hotels)


@workflow.step
def book_trip(marks: Marks, origin: str, dest: str, dates: list[str]) -> Workflow[Receipt]:
    f1: Workflow[Flight] = book_flight.step(marks, origin, dest, dates[0])
    f2: Workflow[Flight] = book_flight.step(marks, dest, origin, dates[1])
    hotel: Workflow[Hotel] = book_hotel.step(marks, dest, dates)
    assert marks.order() == []
    marks.started("trip")
    return finalize_or_cancel.step(marks, [f1, f2], [hotel])


def test_trip_steps_run_in_the_documented_order(marks: Marks, wid: str, store: Store) -> None:
    """First `book_trip`, then both `book_flight` and `book_hotel` in parallel, then `finalize_or_cancel`."""
    fut = book_trip.step(marks, "OAK", "SAN", ["6/12", "7/5"])
    assert fut.run(wid) == Receipt([Flight("OAK", "SAN", "6/12"), Flight("SAN", "OAK", "7/5")], [Hotel("SAN")])
    assert marks.order() == ["trip", "book", "book", "book", "finalize"]
    view = read_run(store, wid)
    assert view is not None
    (trip,) = [step.step_id for step in view.steps if not step.parent_expansion]
    assert {step.parent_expansion for step in view.steps} == {"", trip}
    invariants.check(store, wid)


def test_child_workflows_start_after_the_parent_returns(marks: Marks) -> None:
    """Text: "the workflow engine will not begin executing child workflows until the parent step returns"."""

    @workflow.step
    def child(marks: Marks) -> list[str]:
        return marks.order()

    @workflow.step
    def parent(marks: Marks) -> Any:
        made = child.step(marks)
        marks.started("parent returns")
        return made

    assert parent.step(marks).run() == ["parent returns"]


def test_returned_workflow_provides_the_value_of_the_step(marks: Marks) -> None:
    """Text: "that workflow's output will be substituted for the step's return"."""

    @workflow.step
    def plus_one(value: int) -> int:
        return value + 1

    assert plus_one.step(factorial.step(4)).run() == 25


def test_returning_a_step_inside_a_list_is_refused_with_advice() -> None:
    @workflow.step
    def bad() -> Any:
        return [factorial.step(2)]

    with pytest.raises(
        InvalidInputError,
        match=r"contains the composed workflow of step .*factorial.* inside another value; return what",
    ):
        bad.step().run()


def test_returned_dag_with_shared_steps_runs_each_once(marks: Marks) -> None:
    @workflow.step
    def one(marks: Marks, name: str, *parents: Any) -> int:
        marks.started(name)
        return 1 + sum(parents)

    @workflow.step
    def diamond(marks: Marks) -> Any:
        root = one.step(marks, "root")
        return one.step(marks, "join", one.step(marks, "left", root), one.step(marks, "right", root), root)

    assert diamond.step(marks).run() == 6
    assert marks.starts() == {"root": 1, "left": 1, "right": 1, "join": 1}


def test_step_may_return_a_workflow_or_a_value() -> None:
    @workflow.step
    def branch(flag: bool) -> Any:
        return factorial.step(3) if flag else -1

    assert branch.step(True).run() == 6
    assert branch.step(False).run() == -1


def segment_sizes(store: Store, workflow_id: str) -> list[int]:
    return [len(data) for data in invariants.log_bytes(store, workflow_id).values()]


def test_segments_stay_small_in_a_tail_recursion_1000_deep(wid: str, store: Store) -> None:
    depth = 1_000
    assert tail.step(depth).run(wid) == depth * (depth + 1) // 2
    sizes = segment_sizes(store, wid)
    assert max(sizes[-100:]) < 2 * max(sizes[:100])
    steps = _state(store, wid).steps
    assert len(steps) == depth + 1
    assert max(map(len, steps)) < 300
    invariants.check(store, wid)


def test_recursion_1000_deep_without_tail_call(wid: str, store: Store) -> None:
    @workflow.step
    def count(n: int) -> Any:
        return 0 if n == 0 else plus.step(1, count.step(n - 1))

    @workflow.step
    def plus(a: int, b: int) -> int:
        return a + b

    assert count.step(1_000).run(wid) == 1_000
    invariants.check(store, wid)


def test_step_that_returns_1000_steps_at_once(wid: str, store: Store) -> None:
    @workflow.step
    def number(i: int) -> int:
        return i

    @workflow.step
    def total(values: list[int]) -> int:
        return sum(values)

    @workflow.step
    def fan_out(width: int) -> Any:
        return total.step([number.step(i) for i in range(width)])

    assert fan_out.step(1_000).run(wid) == 499_500
    view = read_run(store, wid)
    assert view is not None
    assert (view.status, view.counts.total) == (WorkflowStatus.SUCCESSFUL, 1_002)
    assert len(segment_sizes(store, wid)) < 300
    invariants.check(store, wid)


def _state(store: Store, workflow_id: str) -> Any:
    entry = registry.current_entry(store, workflow_id)
    assert isinstance(entry, Created)
    return RunLog(store, entry).replay()
