"""Which callables can be steps, and where the arguments of a step may contain other steps."""

from __future__ import annotations

import asyncio
import functools
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import ray

import workflow
from tests.support.marks import Marks
from workflow.errors import InvalidInputError

pytestmark = pytest.mark.usefixtures("storage")


@workflow.step
def number(value: int) -> int:
    return value


@workflow.step
def same(value: Any) -> Any:
    return value


# --- callables ---


class Till:
    """A till with a fee."""

    def __init__(self, fee: int) -> None:
        self.fee = fee

    @workflow.step
    def charge(self, price: int) -> int:
        return price + self.fee

    def plain(self, price: int) -> int:
        return price + self.fee

    @staticmethod
    @workflow.step
    def free(price: int) -> int:
        return price


def test_method_is_a_step_with_its_object() -> None:
    assert Till(3).charge.step(number.step(10)).run() == 13
    assert workflow.step(Till(4).plain).step(10).run() == 14
    assert Till.free.step(10).run() == 10


def test_lambda_and_partial_are_steps(wid: str) -> None:
    assert workflow.step(lambda a, b: a * b).step(6, number.step(7)).run() == 42
    base = functools.partial(int, base=2)
    assert workflow.step(functools.partial(base)).step("101").run(wid) == 5
    assert ray.get(workflow.get_output(wid, name="builtins.int")) == 5


def test_async_function_is_awaited(marks: Marks) -> None:
    @workflow.step(max_retries=2)
    async def fetched(path: str) -> str:
        await asyncio.sleep(0)
        marks.started("fetched")
        if marks.starts()["fetched"] == 1:
            raise ConnectionError("no answer")
        return path.upper()

    assert fetched.step("a").run() == "A"
    assert marks.starts() == {"fetched": 2}


class Adds:
    """A callable object with a state."""

    def __init__(self, more: int) -> None:
        self.more = more

    def __call__(self, value: int) -> int:
        return value + self.more


class Awaits(Adds):
    async def __call__(self, value: int) -> int:
        await asyncio.sleep(0)
        return value + self.more


@pytest.mark.parametrize(
    "called",
    [
        pytest.param(Adds(3), id="itself"),
        pytest.param(Awaits(3), id="awaited"),
        pytest.param(functools.partial(Adds(3)), id="in a partial"),
    ],
)
def test_callable_object_is_a_step(called: Any) -> None:
    adds = workflow.step(max_retries=2)(called)
    assert adds.step(adds.options(name="first").step(number.step(1))).run() == 7
    with pytest.raises(TypeError, match=r"__call__\(value.*missing a required argument: 'value'"):
        adds.step()


class Yields:
    def __call__(self) -> Any:
        yield "a"


def test_generator_function_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"lines cannot be a step: it is a generator function.*return a list"):

        @workflow.step
        def lines() -> Any:
            yield "a"

    with pytest.raises(InvalidInputError, match="rows cannot be a step: it is a generator function"):

        @workflow.step
        async def rows() -> Any:
            yield "a"

    with pytest.raises(InvalidInputError, match=r"Yields\.__call__ cannot be a step: it is a generator function"):
        workflow.step(Yields())


def test_generator_as_value_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"value returned by step .*a generator cannot be pickled"):
        workflow.step(lambda: (each for each in "abc")).step().run()


@pytest.mark.parametrize(
    ("bad", "kind"),
    [("number", "str"), (Till(3), "Till"), (operator.itemgetter(1), "itemgetter")],
    ids=["text", "object", "object written in C"],
)
def test_object_that_is_not_callable_is_refused(bad: Any, kind: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"takes a function, not an? {kind} \(.*\); write it above the `def`"):
        workflow.step(bad)


# --- names ---


def test_local_function_has_the_step_name_of_ray(wid: str) -> None:
    """The name is `module.outer.locals.inner`, without the brackets of the qualified name."""

    @workflow.step
    def inner(value: int) -> int:
        return value + 1

    here = f"{__name__}.test_local_function_has_the_step_name_of_ray.locals"
    inner.step(workflow.step(lambda: 41).step()).run(wid)
    assert ray.get(workflow.get_output(wid, name=f"{here}.inner")) == 42
    assert ray.get(workflow.get_output(wid, name=f"{here}.lambda")) == 41
    assert workflow.get_metadata(wid, f"{here}.inner")["name"] == f"{here}.inner"
    assert workflow.get_metadata(wid, f"{here}.inner")["workflows"] == [f"{here}.lambda"]


# --- steps inside arguments ---


@dataclass(frozen=True)
class Order:
    city: str
    price: Any


@pytest.mark.parametrize(
    ("holds", "value"),
    [
        pytest.param(lambda step: [step, 2], [1, 2], id="list"),
        pytest.param(lambda step: (step, (step,)), (1, (1,)), id="tuple"),
        pytest.param(lambda step: {"a": {"b": step}}, {"a": {"b": 1}}, id="dict"),
        pytest.param(lambda step: {step: "a"}, {1: "a"}, id="key of a dict"),
        pytest.param(lambda step: {step, 2}, {1, 2}, id="set"),
        pytest.param(lambda step: frozenset({step}), frozenset({1}), id="frozenset"),
        pytest.param(lambda step: Order("SAN", step), Order("SAN", 1), id="dataclass"),
        pytest.param(lambda step: [Order("SAN", [step])], [Order("SAN", [1])], id="dataclass in a list"),
    ],
)
def test_step_in_a_container_is_resolved(holds: Any, value: Any) -> None:
    assert same.step(holds(number.step(1))).run() == value


def test_step_in_a_numpy_array_of_objects_is_resolved() -> None:
    held = np.array([number.step(1), 2, [number.step(3)]], dtype=object)
    assert same.step(held).run().tolist() == [1, 2, [3]]


# --- options ---


@pytest.mark.parametrize("given", ["x", 3, [("a", 1)]])
def test_metadata_that_is_not_a_dict_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="metadata must be a dict of JSON values, got"):
        number.options(metadata=given)
    with pytest.raises(ValueError, match="metadata must be a dict of JSON values, got"):
        number.step(1).run(metadata=given)


# --- values ---


@dataclass(frozen=True)
class Basket:
    orders: list[Order]
    array: Any = None


def test_step_in_nested_containers_is_resolved() -> None:
    array = np.array([number.step(1), {"a": (number.step(2), {number.step(3)})}], dtype=object)
    basket = same.step(Basket([Order("SAN", number.step(4))], array)).run()
    assert basket.orders == [Order("SAN", 4)]
    assert basket.array.tolist() == [1, {"a": (2, {3})}]


def test_step_given_twice_is_resolved_to_one_object() -> None:
    @workflow.step
    def shared(left: list[int], right: list[int]) -> bool:
        left.append(2)
        return right is left

    held = same.step([1])
    assert shared.step(held, held).run() is True


def test_top_level_references_are_followed_as_in_ray_tasks() -> None:
    @ray.remote
    def nested() -> Any:
        return ray.put(42)

    @workflow.step
    def returns_reference() -> Any:
        return nested.remote()

    @workflow.step
    def takes(number: int, *, named: int, inside: list[Any]) -> Any:
        return number, named, ray.get(inside[0])

    assert returns_reference.step().run() == 42
    assert takes.step(ray.put(1), named=ray.put(2), inside=[ray.put(3)]).run() == (1, 2, 3)
    assert takes.step(returns_reference.step(), named=1, inside=[ray.put(3)]).run() == (42, 1, 3)


@pytest.mark.parametrize(
    "holds",
    [
        pytest.param(lambda: (each for each in "abc"), id="itself"),
        pytest.param(lambda: [Order("SAN", (each for each in "abc"))], id="inside"),
    ],
)
def test_generator_in_an_argument_is_refused(holds: Any) -> None:
    with pytest.raises(
        InvalidInputError, match=r"arguments of step .*same.*cannot pickle 'generator' object.*pass data"
    ):
        same.step(holds()).run()


def test_step_inside_a_returned_value_is_refused() -> None:
    with pytest.raises(
        InvalidInputError, match=r"value returned by step .*composed workflow of step .*number.*inside another value"
    ):
        workflow.step(lambda: [number.step(1)]).step().run()
