"""What a step gets is what `.step()` was given, on a real cluster. Large arrays are stored once."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import ray

import workflow
from tests.support import invariants
from workflow.errors import InvalidInputError
from workflow.store import Store

pytestmark = pytest.mark.usefixtures("storage")

SIZE = 4 << 20


@dataclasses.dataclass
class Config:
    number: int
    table: Any = None


@workflow.step
def number_of(config: Any, *rest: Any) -> int:
    return int(config["number"] if isinstance(config, dict) else config.number)


@workflow.step
def total_of(given: Any) -> float:
    array = given.table if isinstance(given, Config) else given["x"] if isinstance(given, dict) else given
    return float(array.sum())


@workflow.step
def gather(values: list[Any]) -> list[Any]:
    return values


class Model:
    def __init__(self) -> None:
        self.number = -1

    @workflow.step
    def read(self) -> int:
        return self.number


def test_steps_of_a_loop_get_what_each_was_given(wid: str, store: Store) -> None:
    config, box, model = {"number": -1}, Config(-1), Model()
    composed = []
    for number in range(3):
        config["number"] = box.number = model.number = number
        composed += [number_of.step(config), number_of.step(box, [config]), model.read.step()]
    config["number"] = box.number = model.number = 9
    assert gather.step(composed).run(wid) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    invariants.check(store, wid)


def test_a_dynamic_step_may_change_what_it_passed_on() -> None:
    @workflow.step
    def plan() -> Any:
        config: dict[str, int] = {}
        composed = []
        for config["number"] in range(3):
            composed.append(number_of.step(config))
        composed.append(number_of.step(config))
        config.clear()
        return gather.step(composed)

    assert plan.step().run() == [0, 1, 2, 2]


def test_a_large_array_of_many_steps_is_stored_once(wid: str, store: Store) -> None:
    array = np.ones(SIZE // 8)
    composed = [total_of.step(given) for _ in range(4) for given in (array, {"x": array, "i": _}, Config(_, array))]
    assert gather.step(composed).run(wid) == [SIZE / 8] * 12
    sizes = [info.size for info in store.list("workflows/") if "/blobs/" in info.key]
    assert sum(sizes) < SIZE + 200_000
    invariants.check(store, wid)


def test_a_large_array_that_changes_is_refused_by_run(wid: str) -> None:
    array = np.zeros(SIZE // 8)
    composed = gather.step([total_of.step({"x": array}), total_of.step(array)])
    array[0] = 1
    with pytest.raises(InvalidInputError, match=r"arguments of step '.*total_of': argument given.* was changed after"):
        composed.run(wid)
    with pytest.raises(workflow.common.WorkflowNotFoundError):
        workflow.get_status(wid)
    array[0] = 0
    assert composed.run(wid) == [0, 0]


def test_an_argument_that_cannot_be_stored_is_refused_by_step() -> None:
    @ray.remote(num_cpus=0)
    class Actor:
        """Its handle cannot be stored."""

    handle = Actor.remote()
    with pytest.raises(
        InvalidInputError, match=r"arguments of step .*cannot store a Ray actor handle at argument \w+\[0\]"
    ):
        gather.step([handle])
    ray.kill(handle)
