"""The section "Ray Integration" of the specification: tasks and actors, actor handles, resources."""

from __future__ import annotations

from typing import Any

import pytest
import ray

import workflow
from tests.support.marks import Marks
from workflow.errors import InvalidInputError, WorkflowNotFoundError

pytestmark = pytest.mark.usefixtures("storage")


@workflow.step
def double(x: int) -> int:
    return 2 * x


@workflow.step
def same(value: Any) -> Any:
    return value


def test_workflow_is_launched_from_a_ray_task() -> None:
    """Text: "Workflows can be launched from within a Ray task or actor"."""

    @ray.remote
    def task() -> int:
        return double.step(21).run()

    assert ray.get(task.remote()) == 42


def test_workflow_is_launched_from_a_ray_actor() -> None:
    @ray.remote
    class Server:
        def handle(self, x: int) -> Any:
            return double.step(x).run_async(f"served-{x}")

    server = Server.remote()
    assert ray.get(ray.get(server.handle.remote(4))) == 8
    ray.kill(server)
    assert ray.get(workflow.get_output("served-4")) == 8


def test_workflow_is_launched_from_a_step() -> None:
    @workflow.step
    def outer() -> int:
        return double.step(double.step(1)).run()

    assert outer.step().run() == 4


def test_step_can_use_ray_tasks_and_actors() -> None:
    """Text: "Workflow steps can use Ray tasks or actors within a single step"."""

    @ray.remote
    def square(x: int) -> int:
        return x * x

    @ray.remote
    class Adder:
        def __init__(self) -> None:
            self.total = 0

        def add(self, x: int) -> int:
            self.total += x
            return self.total

    @workflow.step
    def train() -> int:
        adder = Adder.remote()
        for each in [square.remote(i) for i in range(4)]:
            last = adder.add.remote(each)
        return ray.get(last)  # type: ignore[no-any-return]

    assert train.step().run() == 14


def test_retried_step_repeats_its_ray_tasks_and_actors(marks: Marks) -> None:
    """Text: "No durability guarantees apply to the tasks or actors used within the step"."""

    @ray.remote
    def square(marks: Marks, x: int) -> int:
        marks.started("task")
        return x * x

    @ray.remote
    class Adder:
        def __init__(self, marks: Marks) -> None:
            marks.started("actor")
            self.total = 0

        def add(self, x: int) -> int:
            self.total += x
            return self.total

    @workflow.step(max_retries=2)
    def train(marks: Marks) -> int:
        total = ray.get(Adder.remote(marks).add.remote(square.remote(marks, 3)))
        marks.started("step")
        if marks.starts()["step"] == 1:
            raise RuntimeError("the first attempt fails after its tasks")
        return total

    assert train.step(marks).run() == 9
    assert marks.starts() == {"task": 2, "actor": 2, "step": 2}


@ray.remote(num_cpus=0)
class Counter:
    def one(self) -> int:
        return 1


def test_actor_handle_in_an_argument_is_refused_with_its_place() -> None:
    """Text: "Ray actor handles are not allowed to be passed between steps."""
    actor = Counter.remote()
    with pytest.raises(
        InvalidInputError, match=r"arguments of step '.*same'.* actor handle at argument \w+\['a'\]\[1\]"
    ):
        same.step({"a": [0, actor]}).run()
    with pytest.raises(InvalidInputError, match=r"[Aa]n actor does not survive its cluster"):
        same.step([ray.put(actor)]).run()


def test_actor_handle_in_a_result_is_refused_with_its_place(wid: str) -> None:
    @workflow.step
    def bad() -> Any:
        return {"k": Counter.remote()}

    with pytest.raises(InvalidInputError, match=r"value returned by step '.*bad'.* actor handle at value\['k'\]"):
        bad.step().run(wid)


def test_refused_argument_creates_no_run(wid: str) -> None:
    with pytest.raises(InvalidInputError):
        same.step(Counter.remote()).run(wid)
    with pytest.raises(WorkflowNotFoundError):
        workflow.get_status(wid)


def test_step_gets_the_requested_resources() -> None:
    """Text: "via the same `num_cpus`, `num_gpus`, and `resources` arguments that Ray tasks take"."""

    @workflow.step(num_cpus=2, resources={"special": 0.5})
    def train() -> dict[str, float]:
        return dict(ray.get_runtime_context().get_assigned_resources())

    assert train.step().run() == {"CPU": 2.0, "special": 0.5}
    assert train.options(num_cpus=1, resources={}).step().run() == {"CPU": 1.0}


def test_step_is_assigned_a_gpu() -> None:
    """Text: "This step is assigned a GPU by Ray."""

    @workflow.step(num_gpus=1)
    def train_model() -> list[str]:
        return list(ray.get_runtime_context().get_accelerator_ids()["GPU"])

    assert len(train_model.step().run()) == 1


def test_step_runs_in_its_runtime_env() -> None:
    @workflow.step(runtime_env={"env_vars": {"FLAVOR": "sweet"}})
    def taste() -> str | None:
        import os

        return os.environ.get("FLAVOR")

    assert taste.step().run() == "sweet"


def test_steps_share_an_exclusive_resource(marks: Marks) -> None:
    @workflow.step(resources={"special": 1})
    def exclusive(marks: Marks, i: int) -> int:
        marks.started("exclusive")
        return i

    @workflow.step
    def total(values: list[int]) -> int:
        return sum(values)

    assert total.step([exclusive.step(marks, i) for i in range(4)]).run() == 6
