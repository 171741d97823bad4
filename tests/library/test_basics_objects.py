"""The section "Passing object references between steps" of the specification: structures, storage, datasets."""

from __future__ import annotations

import random
import traceback
from typing import Any

import numpy as np
import pytest
import ray

import workflow
from tests.support import invariants
from tests.support.marks import Marks
from workflow.log import registry, values
from workflow.log.run_log import RunLog
from workflow.model.records import Created
from workflow.store import Store

pytestmark = pytest.mark.usefixtures("storage")


@workflow.step
def same(value: Any) -> Any:
    return value


@ray.remote
def returning(wrapped: list[Any]) -> Any:
    return wrapped[0]


def blobs(store: Store, workflow_id: str) -> int:
    """Return the number of blobs of a run without its functions."""
    entry = registry.current_entry(store, workflow_id)
    assert isinstance(entry, Created)
    log = RunLog(store, entry)
    functions = {step.spec.function for step in log.replay().steps.values()}
    return len({info.key.rpartition("/")[2] for info in store.list(f"{log.paths.folder}blobs/")} - functions)


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
        pytest.param(lambda ref: [returning.remote([returning.remote([ref])])], id="content is a reference"),
    ],
)
def test_references_in_structures_pass_through_steps(wrap: Any) -> None:
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


def test_returned_reference_is_read_by_next_step_and_driver() -> None:
    @workflow.step
    def make() -> Any:
        return {"ref": ray.put("content")}

    @workflow.step
    def read(value: Any) -> str:
        assert isinstance(value["ref"], ray.ObjectRef)
        return str(ray.get(value["ref"]))

    assert read.step(make.step()).run() == "content"
    assert ray.get(make.step().run()["ref"]) == "content"


def test_object_passed_to_many_steps_is_stored_once(wid: str, store: Store) -> None:
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


def test_object_passed_along_several_steps_is_stored_once(wid: str, store: Store) -> None:
    @workflow.step
    def make() -> Any:
        return [ray.put(b"y" * 300_000)]

    values = ray.get(same.step(same.step(make.step())).run(wid)[0])
    assert len(values) == 300_000
    assert blobs(store, wid) == 1


def test_objects_are_stored_before_run_async_returns(wid: str, store: Store) -> None:
    """The driver may exit at once, and its objects are lost then."""
    reference = same.step([ray.put(b"z" * 100_000)]).run_async(wid)
    assert blobs(store, wid) == 1
    assert len(ray.get(ray.get(reference)[0])) == 100_000


class MarksPickling:
    """Leaves a mark each time it is pickled for storage. Each pickle has other bytes, so each would be another blob."""

    def __init__(self, marks: Marks, number: float) -> None:
        self.marks = marks
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        if not any(frame.f_code is values.dumps.__code__ for frame, _ in traceback.walk_stack(None)):
            return MarksPickling, (self.marks, self.number)  # Ray pickles it for its object store
        self.marks.started("pickled for storage")
        return (
            MarksPickling,
            (self.marks, random.random()),
            {"filling": b"x" * 100_000},
        )  # too large to be inline


@pytest.mark.parametrize("steps", [2, 12])
def test_object_is_pickled_for_storage_only_once(steps: int, marks: Marks, wid: str, store: Store) -> None:
    """Text: "an object will not be checkpointed more than once, even if it is passed to many different steps"."""

    @workflow.step
    def numbers(refs: list[Any], direct: MarksPickling) -> Any:
        refs = [refs[0], *(ref for (ref,) in refs[1:])]
        return {direct.number, *(each.number for each in ray.get(refs))}, refs

    ref = ray.put(MarksPickling(marks, 0.0))
    returned = [same.step(same.step([ref])) for _ in range(steps)]
    found, refs = numbers.step([ref, *returned], ref).run(wid)
    assert len(found) == 1
    assert {each.number for each in ray.get(refs)} == found
    assert marks.starts()["pickled for storage"] == 1
    assert blobs(store, wid) == 1
    invariants.check(store, wid)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")  # ray.data sets its own deprecated options
def test_dataset_is_passed_into_and_returned_from_steps(wid: str) -> None:
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
