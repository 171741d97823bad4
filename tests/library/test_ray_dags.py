"""`create` and `continuation`: workflows of tasks that are composed with `.bind`, as in Ray 1.12."""

from __future__ import annotations

from typing import Any

import pytest
import ray
from ray.dag import InputNode, MultiOutputNode

import workflow
from tests.support.marks import Marks
from workflow.errors import InvalidInputError, WrongTypeError

pytestmark = pytest.mark.usefixtures("storage")


@ray.remote
def add(left: Any, right: Any = 1) -> Any:
    return left + right


@ray.remote
def describe(value: Any, *more: Any, **named: Any) -> str:
    return f"{value!r} {more!r} {named!r}"


@ray.remote
def contents(references: Any) -> Any:
    assert all(isinstance(each, ray.ObjectRef) for each in references), references
    return ray.get(list(references))


@ray.remote
def countdown(number: int) -> Any:
    return workflow.continuation(countdown.bind(number - 1)) if number else "done"


@ray.remote
class Counter:
    def add(self, number: int) -> int:
        return number


def test_create_runs_a_dag_with_its_input(wid: str) -> None:
    with InputNode() as given:
        both = add.bind(given[0], right=given.more)
        dag = describe.bind(both, both, given[1], last=add.bind(both))
    composed = workflow.create(dag, 2, "x", more=3)
    assert isinstance(composed, workflow.Workflow)
    assert composed.run(wid) == "5 (5, 'x') {'last': 6}"
    assert ray.get(workflow.get_output(wid, name=f"{__name__}.add")) == 5
    assert ray.get(workflow.create(dag, 2, "x", more=3).run_async(wid)) == composed.run(wid)


def test_single_input_is_passed_as_it_is() -> None:
    with InputNode() as given:
        dag = describe.bind(given, given["k"])
    assert workflow.create(dag, {"k": 7}).run() == "{'k': 7} (7,) {}"


def test_results_within_containers_are_references() -> None:
    dag = contents.bind([add.bind(1), add.bind(2), ray.put(4)])
    assert workflow.create(dag).run() == workflow.continuation(dag) == [2, 3, 4]


def test_continuation_takes_the_place_of_a_step(wid: str) -> None:
    assert workflow.create(countdown.bind(3)).run(wid) == "done"
    assert ray.get(workflow.get_output(wid, name=f"{__name__}.countdown")) == "done"


def test_continuation_outside_of_workflows_uses_plain_ray() -> None:
    assert workflow.continuation(add.bind(1, 2)) == 3
    assert ray.get(countdown.remote(2)) == "done"


def test_options_of_a_task_are_those_of_the_step(wid: str, marks: Marks) -> None:
    @ray.remote(num_cpus=2)
    def flaky(marks: Marks) -> Any:
        marks.started("flaky")
        if marks.starts()["flaky"] < 3:
            raise ValueError("again")
        return ray.get_runtime_context().get_assigned_resources()

    dag = flaky.options(max_retries=3, name="often", resources={"special": 1}).bind(marks)
    assert workflow.create(dag).run(wid) == {"CPU": 2.0, "special": 1.0}
    assert ray.get(workflow.get_output(wid, name="often")) == {"CPU": 2.0, "special": 1.0}


def test_failed_dag_runs_only_its_failed_part_again(wid: str, marks: Marks) -> None:
    @ray.remote
    def first(marks: Marks) -> int:
        marks.started("first")
        return 1

    @ray.remote
    def second(marks: Marks, number: int) -> int:
        marks.started("second")
        if marks.starts()["second"] == 1:
            raise ValueError("the first attempt")
        return number + 1

    with pytest.raises(ValueError, match="the first attempt"):
        workflow.create(second.bind(marks, first.bind(marks))).run(wid)
    assert ray.get(workflow.resume(wid)) == 2
    assert marks.starts() == {"first": 1, "second": 2}


NO_STEPS = {
    "class": lambda: Counter.bind(),
    "method": lambda: Counter.bind().add.bind(1),
    "argument": lambda: add.bind(Counter.bind().add.bind(1)),
    "several outputs": lambda: MultiOutputNode([add.bind(1), add.bind(2)]),
}


@pytest.mark.parametrize("case", NO_STEPS)
def test_nodes_that_cannot_be_steps_are_refused(case: str) -> None:
    with pytest.raises(WrongTypeError, match=r"a \w+Node cannot be a step of a workflow"):
        workflow.create(NO_STEPS[case]())


def test_wrong_calls_of_create_are_explained() -> None:
    for call in (workflow.create, workflow.continuation):
        with pytest.raises(WrongTypeError, match=rf"workflow.{call.__name__} takes a DAG .* not a int"):
            call(7)
    with InputNode() as given:
        dag = add.bind(given[1], given.right)
    with pytest.raises(InvalidInputError, match=r"the input of the DAG has no 1, to which its InputNode refers"):
        workflow.create(dag, 2, right=1)
    with pytest.raises(InvalidInputError, match=r"a step cannot have num_returns=2"):
        workflow.create(add.options(num_returns=2).bind(1))
    with pytest.raises(InvalidInputError, match=r"cannot store a Ray actor handle"):
        workflow.create(add.bind(Counter.remote()))
