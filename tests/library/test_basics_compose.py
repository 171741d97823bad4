"""The sections "Workflow Basics", "Composing workflow steps" and "Passing nested arguments" of the specification."""

from __future__ import annotations

from typing import Any

import pytest
import ray

import workflow
from tests.support.marks import Marks
from workflow import Workflow, step, wait_for_event
from workflow.errors import InvalidInputError
from workflow.event_listener import TimerListener

pytestmark = pytest.mark.usefixtures("storage")


@workflow.step
def read_data(num: int) -> list[int]:
    return list(range(num))


@workflow.step
def preprocessing(data: list[float]) -> list[float]:
    return [d**2 for d in data]


@workflow.step
def aggregate(data: list[float]) -> float:
    return sum(data)


@workflow.step
def add(left: int, right: int) -> int:
    return left + right


@workflow.step
def get_val() -> int:
    return 10


@workflow.step
def marked(marks: Marks, name: str, *values: Any) -> Any:
    marks.started(name)
    return values[-1] if values else name


def composed() -> Workflow[float]:
    return aggregate.step(preprocessing.step(read_data.step(10)))


def test_three_step_workflow_returns_its_value() -> None:
    """`print(output.run())`"""
    data = read_data.step(10)
    preprocessed_data = preprocessing.step(data)
    output = aggregate.step(preprocessed_data)
    assert output.run() == 285


def test_run_async_returns_an_object_ref_of_the_value() -> None:
    """`ray.get(output.run_async())`"""
    reference = composed().run_async()
    assert isinstance(reference, ray.ObjectRef)
    assert ray.get(reference) == 285


def test_step_decorator_can_be_imported_by_name() -> None:
    """`@workflow.step`, or `from workflow import step`."""

    @step
    def one() -> int:
        return 1

    assert one.step().run() == 1


def test_steps_take_values_or_outputs_of_other_steps() -> None:
    """Text: "can take in either concrete values or the output of another workflow step as an argument"."""
    assert add.step(1, 2).run() == 3
    assert add.step(get_val.step(), right=get_val.step()).run() == 20


def test_steps_are_not_executed_until_run(marks: Marks) -> None:
    """Text: "workflow steps return `Workflow[T]` and are not executed until `.run()` is called"."""
    lazy = marked.step(marks, "b", marked.step(marks, "a"))
    assert isinstance(lazy, Workflow)
    assert marks.order() == []
    assert lazy.run() == "a"
    assert marks.order() == ["a", "b"]


def test_step_with_two_inputs_receives_resolved_values() -> None:
    """Text: "the `add` function will see its resolved value"."""
    ret = add.step(get_val.step(), 20)
    assert ret.run() == 30


def test_steps_in_a_list_argument_are_resolved() -> None:
    """Text: "when you pass a list of `Workflow` outputs to a step, the values are fully resolved"."""

    @workflow.step
    def add(values: list[int]) -> int:
        return sum(values)

    ret = add.step([get_val.step() for _ in range(3)])
    assert ret.run() == 30


@pytest.mark.parametrize(
    ("wrap", "unwrap"),
    [
        pytest.param(lambda w: {"k": {"deep": [w]}}, lambda v: v["k"]["deep"][0], id="dict in dict in list"),
        pytest.param(lambda w: (1, (2, w)), lambda v: v[1][1], id="tuples"),
        pytest.param(lambda w: [[[[w]]]], lambda v: v[0][0][0][0], id="lists"),
    ],
)
def test_steps_are_resolved_at_any_depth_of_an_argument(wrap: Any, unwrap: Any) -> None:
    @workflow.step
    def same(value: Any) -> Any:
        return value

    assert unwrap(same.step(wrap(get_val.step())).run()) == 10


def test_all_ancestors_are_executed_before_the_step_starts(marks: Marks) -> None:
    """Text: "This ensures that all a step's ancestors are fully executed prior to the step starting"."""
    parents = [marked.step(marks, f"parent{i}", marked.step(marks, f"grandparent{i}")) for i in range(3)]
    marked.step(marks, "child", {"all": parents}).run()
    assert marks.order()[-1] == "child"
    assert sorted(marks.order()[:-1]) == sorted([f"{who}{i}" for who in ("parent", "grandparent") for i in range(3)])


def test_step_with_many_consumers_runs_once(marks: Marks) -> None:
    root = marked.step(marks, "root")
    left, right = marked.step(marks, "left", root), marked.step(marks, "right", root)
    marked.step(marks, "join", left, right, root).run()
    assert set(marks.starts().values()) == {1}
    assert len(marks.starts()) == 4


def test_dag_with_exponentially_many_paths_runs_each_step_once(marks: Marks) -> None:
    node = marked.step(marks, "0")
    for i in range(1, 25):
        node = marked.step(marks, str(i), [node, node])
    node.run()
    assert len(marks.order()) == 25


def test_running_a_workflow_object_twice_makes_two_runs(marks: Marks) -> None:
    ret = marked.step(marks, "a")
    assert ret.run() == ret.run() == "a"
    assert marks.starts() == {"a": 2}


def test_error_of_a_direct_call_names_the_step_method() -> None:
    with pytest.raises(TypeError, match=r"get_val\.step\(\.\.\.\)"):
        get_val()


@pytest.mark.parametrize(
    ("compose", "text"),
    [
        pytest.param(lambda: add.step(1), r"add\(left.*missing a required argument: 'right'", id="too few"),
        pytest.param(lambda: add.step(1, 2, 3), r"add\(left.*too many positional arguments", id="too many"),
        pytest.param(lambda: add.step(1, 2, middle=3), "unexpected keyword argument 'middle'", id="unknown"),
        pytest.param(
            lambda: wait_for_event(TimerListener), r"poll_for_event\(.*\): missing .* 'timestamp'", id="event, few"
        ),
        pytest.param(
            lambda: wait_for_event(TimerListener, 1, 2),
            r"TimerListener\.poll_for_event\(.*\): too many",
            id="event, many",
        ),
    ],
)
def test_wrong_arguments_are_refused_when_composing(compose: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text) as refused:
        compose()
    assert isinstance(refused.value, InvalidInputError)


@ray.remote
def takes(value: Any) -> str:
    return "taken"


@ray.remote
def returns() -> Any:
    return [get_val.step()]


@pytest.mark.parametrize(
    "carry",
    [
        pytest.param(lambda: ray.put(get_val.step()), id="put"),
        pytest.param(lambda: ray.put([get_val.step()]), id="put in a list"),
        pytest.param(lambda: ray.put({"a": (1, add.step(get_val.step(), 2))}), id="put deep inside"),
        pytest.param(lambda: ray.put(workflow.sleep(1)), id="put a wait"),
        pytest.param(lambda: takes.remote(get_val.step()), id="argument of a task"),
        pytest.param(lambda: takes.remote([get_val.step()]), id="inside an argument of a task"),
        pytest.param(lambda: ray.get(returns.remote()), id="value of a task"),
    ],
)
def test_ray_refuses_to_carry_a_composed_workflow(carry: Any) -> None:
    """Text: "are not executed until `.run()` is called". Until then there is no value that Ray could carry."""
    advice = "give it to another step as an argument, return it from a step, or run it first"
    with pytest.raises(ValueError, match=rf"is not executed yet, so it has no value; {advice}") as refused:
        carry()
    assert isinstance(refused.value, InvalidInputError)


@pytest.mark.parametrize(
    "bad", [lambda: step(7), lambda: step(get_val), lambda: step(nonsense=1)], ids=["7", "step", "option"]
)
def test_decorator_refuses_non_functions_and_unknown_options(bad: Any) -> None:
    with pytest.raises(InvalidInputError):
        bad()


def test_large_value_is_passed_between_steps(marks: Marks) -> None:
    import numpy as np

    @workflow.step
    def make(n: int) -> Any:
        return np.arange(n)

    @workflow.step
    def total(array: Any) -> int:
        return int(array.sum())

    assert total.step(make.step(1_000_000)).run() == 499_999_500_000
    assert make.step(1_000_000).run()[-1] == 999_999


def test_step_with_an_unpicklable_value_fails_with_advice() -> None:
    import threading

    @workflow.step
    def bad() -> Any:
        return threading.Lock()

    with pytest.raises(InvalidInputError, match=r"value returned by step .*bad.*pass data instead of open files"):
        bad.step().run()
