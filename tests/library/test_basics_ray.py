"""workflow-basics, "Ray Integration": tasks and actors, object references, datasets, actor handles, resources."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import ray

import workflow
from tests.support import invariants
from tests.support.marks import Marks
from workflow.errors import Invalid
from workflow.log import naming
from workflow.log.run_log import RunLog
from workflow.model.records import Created
from workflow.store import Store

pytestmark = pytest.mark.usefixtures("storage")


@workflow.step
def double(x: int) -> int:
    return 2 * x


@workflow.step
def same(value: Any) -> Any:
    return value


@ray.remote
def returning(wrapped: list[Any]) -> Any:
    return wrapped[0]


def blobs(store: Store, workflow_id: str) -> int:
    """Blobs of a run besides its functions."""
    named = naming.current(store, workflow_id)
    assert isinstance(named, Created)
    log = RunLog(store, named)
    functions = {step.spec.function for step in log.replay().steps.values()}
    return len({info.key.rpartition("/")[2] for info in store.list(f"{log.paths.folder}blobs/")} - functions)


def test_a_workflow_is_launched_from_a_ray_task() -> None:
    """Text: "Workflows can be launched from within a Ray task or actor"."""

    @ray.remote
    def task() -> int:
        return double.step(21).run()

    assert ray.get(task.remote()) == 42


def test_a_workflow_is_launched_from_a_ray_actor() -> None:
    @ray.remote
    class Server:
        def handle(self, x: int) -> Any:
            return double.step(x).run_async(f"served-{x}")

    server = Server.remote()
    assert ray.get(ray.get(server.handle.remote(4))) == 8
    ray.kill(server)
    assert workflow.get_output("served-4") == 8


def test_a_workflow_is_launched_from_a_step() -> None:
    @workflow.step
    def outer() -> int:
        return double.step(double.step(1)).run()

    assert outer.step().run() == 4


def test_a_step_can_use_ray_tasks_and_actors() -> None:
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


def test_object_references_are_passed_into_steps() -> None:
    @workflow.step
    def read(value: list[int], refs: list[Any]) -> int:
        return sum(value) + sum(ray.get(refs[0]))

    assert read.step(ray.put([1, 2, 3]), [ray.put([4, 5])]).run() == 15


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda ref: [ref], id="list"),
        pytest.param(lambda ref: {"a": (1, [ref])}, id="dict, tuple, list"),
        pytest.param(lambda ref: ray.put({"inner": ref}), id="a reference to a reference"),
        pytest.param(lambda ref: [ray.put([ray.put([ref])])], id="three deep"),
        pytest.param(lambda ref: [returning.remote([returning.remote([ref])])], id="whose content is a reference"),
    ],
)
def test_references_in_structures_are_passed_into_and_returned_from_steps(wrap: Any) -> None:
    """Text: "Ray object references and data structures composed of them can be passed into and returned from"."""

    def find(value: Any) -> Any:
        while not isinstance(value, np.ndarray):
            if isinstance(value, ray.ObjectRef):
                value = ray.get(value)
            elif isinstance(value, dict):
                value = next(iter(value.values()))
            else:
                value = value[-1]
        return value

    @workflow.step
    def look(value: Any, find: Any) -> Any:
        return int(find(value).sum()), value

    total, back = look.step(same.step(wrap(ray.put(np.ones(1_000)))), find).run()
    assert total == 1_000
    assert find(back).sum() == 1_000


def test_a_reference_is_returned_from_a_step_and_read_by_the_next_and_by_the_driver() -> None:
    @workflow.step
    def make() -> Any:
        return {"ref": ray.put("content")}

    @workflow.step
    def read(value: Any) -> str:
        assert isinstance(value["ref"], ray.ObjectRef)
        return str(ray.get(value["ref"]))

    assert read.step(make.step()).run() == "content"
    assert ray.get(make.step().run()["ref"]) == "content"


def test_an_object_is_not_stored_more_than_once_even_if_many_steps_get_it(wid: str, store: Store) -> None:
    """Text: "an object will not be checkpointed more than once, even if it is passed to many different steps"."""

    @workflow.step
    def size(values: list[Any]) -> int:
        return len(ray.get(values[0]))

    @workflow.step
    def total(sizes: list[int]) -> int:
        return sum(sizes)

    ref = ray.put(b"x" * 300_000)
    assert total.step([size.step([ref]) for _ in range(8)]).run(wid) == 8 * 300_000
    assert blobs(store, wid) == 1
    invariants.check(store, wid)


def test_an_object_that_goes_through_several_steps_is_stored_once(wid: str, store: Store) -> None:
    @workflow.step
    def make() -> Any:
        return [ray.put(b"y" * 300_000)]

    values = ray.get(same.step(same.step(make.step())).run(wid)[0])
    assert len(values) == 300_000
    assert blobs(store, wid) == 1


def test_contents_are_stored_before_run_async_returns(wid: str, store: Store) -> None:
    """The driver may exit at once, and its objects with it."""
    reference = same.step([ray.put(b"z" * 100_000)]).run_async(wid)
    assert blobs(store, wid) == 1
    assert len(ray.get(ray.get(reference)[0])) == 100_000


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")  # it sets its own deprecated options
def test_a_dataset_is_passed_into_and_returned_from_steps(wid: str) -> None:
    """Text: "data structures composed of them (e.g., `ray.Dataset`)"."""
    import ray.data

    @workflow.step
    def keep_even(dataset: Any) -> Any:
        return dataset.filter(lambda row: row["id"] % 2 == 0)

    @workflow.step
    def total(dataset: Any) -> int:
        return sum(row["id"] for row in dataset.take_all())

    assert total.step(keep_even.step(ray.data.range(20))).run(wid) == 90
    back = keep_even.step(ray.data.range(6)).run()
    assert sorted(row["id"] for row in back.take_all()) == [0, 2, 4]


@ray.remote(num_cpus=0)
class Counter:
    def one(self) -> int:
        return 1


def test_actor_handles_are_refused_as_arguments_with_step_and_place() -> None:
    """Text: "Ray actor handles are not allowed to be passed between steps."""
    actor = Counter.remote()
    with pytest.raises(Invalid, match=r"arguments of step '.*same'.* actor handle at value\[0\]\[0\]\['a'\]\[1\]"):
        same.step({"a": [0, actor]}).run()
    with pytest.raises(Invalid, match=r"[Aa]n actor does not survive its cluster"):
        same.step([ray.put(actor)]).run()


def test_actor_handles_are_refused_as_results_with_step_and_place(wid: str) -> None:
    @workflow.step
    def bad() -> Any:
        return {"k": Counter.remote()}

    with pytest.raises(Invalid, match=r"value returned by step '.*bad'.* actor handle at value\['k'\]"):
        bad.step().run(wid)


def test_a_refused_argument_leaves_no_run(wid: str, store: Store) -> None:
    with pytest.raises(Invalid):
        same.step(Counter.remote()).run(wid)
    with pytest.raises(workflow_not_found()):
        workflow.get_status(wid)


def workflow_not_found() -> type[Exception]:
    from workflow.errors import WorkflowNotFoundError

    return WorkflowNotFoundError


def test_resources_are_assigned_as_for_ray_tasks() -> None:
    """Text: "via the same `num_cpus`, `num_gpus`, and `resources` arguments that Ray tasks take"."""

    @workflow.step(num_cpus=2, resources={"special": 0.5})
    def train() -> dict[str, float]:
        return dict(ray.get_runtime_context().get_assigned_resources())

    assert train.step().run() == {"CPU": 2.0, "special": 0.5}
    assert train.options(num_cpus=1, resources={}).step().run() == {"CPU": 1.0}


def test_a_step_is_assigned_a_gpu() -> None:
    """Text: "This step is assigned a GPU by Ray."""

    @workflow.step(num_gpus=1)
    def train_model() -> list[str]:
        return list(ray.get_runtime_context().get_accelerator_ids()["GPU"])

    assert len(train_model.step().run()) == 1


def test_a_step_has_the_environment_it_asks_for() -> None:
    @workflow.step(runtime_env={"env_vars": {"FLAVOR": "sweet"}})
    def taste() -> str | None:
        import os

        return os.environ.get("FLAVOR")

    assert taste.step().run() == "sweet"


def test_a_step_waits_for_a_resource_and_holds_no_other_up(marks: Marks) -> None:
    @workflow.step(resources={"special": 1})
    def exclusive(marks: Marks, i: int) -> int:
        marks.started("exclusive")
        return i

    @workflow.step
    def total(values: list[int]) -> int:
        return sum(values)

    assert total.step([exclusive.step(marks, i) for i in range(4)]).run() == 6
