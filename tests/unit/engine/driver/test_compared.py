"""A warning names the step if a stored value is returned for other arguments or for another function."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import workflow
from workflow.engine.driver import compared
from workflow.engine.worker.encoding import Encoder
from workflow.engine.worker.run_values import RunValues
from workflow.log import registry
from workflow.log.keys import RunPaths
from workflow.model.graph import StepNode
from workflow.model.records import Created
from workflow.model.run_view import Owner
from workflow.store.memory import MemoryStore

LARGE = 300_000


@workflow.step
def price(kind: Any, *, count: Any = 1) -> None: ...


@workflow.step
def total(*prices: Any) -> None: ...


def made(rate: Any) -> workflow.Workflow[Any]:
    @workflow.step(name="rated")
    def rated() -> Any:
        return rate

    return rated.step()


def partial(rate: Any) -> workflow.Workflow[Any]:
    def rated(rate: Any) -> Any:
        return rate

    return workflow.step(name="rated")(functools.partial(rated, rate)).step()


class Shop:
    def __init__(self, rate: Any) -> None:
        self.rate = rate

    @workflow.step
    def rated(self) -> Any:
        return self.rate


def first_code() -> workflow.Workflow[Any]:
    @workflow.step(name="coded")
    def coded() -> int:
        return 1

    return coded.step()


def second_code() -> workflow.Workflow[Any]:
    @workflow.step(name="coded")
    def coded() -> int:
        return 2

    coded.function.__qualname__ = first_code().qualname.removeprefix(f"{__name__}.")
    return coded.step()


def warning(stored: StepNode, given: StepNode, caplog: pytest.LogCaptureFixture) -> str:
    """Return the warning for a DAG whose id refers to a run of another DAG."""
    store = MemoryStore()
    run_uuid = uuid.uuid4().hex
    values = RunValues(store, RunPaths("w", 1, run_uuid))
    graph, blob = values.store_graph(Encoder(values).encode(stored))
    created = Created("w", 1, run_uuid, Owner(""), "shape", 1.0, graph, blob)
    registry.register(store, created)
    caplog.clear()
    compared.warn_of_other_inputs(given, store, created)
    return caplog.text


DIFFERENT: dict[str, tuple[Callable[[], StepNode], Callable[[], StepNode], str]] = {
    "positional": (
        lambda: price.step("flight"),
        lambda: price.step("hotel"),
        "[0] is 'flight' in the stored run, and 'hotel'",
    ),
    "keyword": (
        lambda: price.step("x", count=1),
        lambda: price.step("x", count=2),
        "count is 1 in the stored run, and 2",
    ),
    "mutable": (lambda: price.step({"a": [1]}), lambda: price.step({"a": [2]}), "{'a': [1]} in the stored run"),
    "parent's": (
        lambda: total.step(price.step(1), price.step(2)),
        lambda: total.step(price.step(1), price.step(3)),
        "price_1' has other arguments",
    ),
    "array": (lambda: price.step(np.arange(9)), lambda: price.step(np.arange(1, 10)), "has other arguments"),
    "large": (lambda: price.step(np.zeros(LARGE)), lambda: price.step(np.ones(LARGE)), "a large value differs"),
    "closure": (lambda: made(1), lambda: made(2), "step 'rated' has another function"),
    "closure over a list": (lambda: made([1]), lambda: made([2]), "depends on other values"),
    "partial": (lambda: partial(1), lambda: partial(2), "depends on other values"),
    "object of a method": (lambda: Shop(1).rated.step(), lambda: Shop(2).rated.step(), "depends on other values"),
    "code": (first_code, second_code, "the code of"),
    "sleep": (lambda: workflow.sleep(1), lambda: workflow.sleep(2), "waits 1.0 s in the stored run, and 2.0 s here"),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_other_inputs_are_named(name: str, caplog: pytest.LogCaptureFixture) -> None:
    stored, given, expected = DIFFERENT[name]
    text = warning(stored(), given(), caplog)
    assert expected in text
    assert "give another workflow_id" in text


SAME: dict[str, Callable[[], StepNode]] = {
    "immutable": lambda: price.step("flight", count=2),
    "mutable": lambda: price.step({"a": [1], "b": {"x", "y"}}),
    "dict in another order": lambda: price.step(
        dict(sorted({"a": 1, "b": 2}.items(), reverse=uuid.uuid4().int % 2 == 0))
    ),
    "array": lambda: price.step(np.arange(9)),
    "large": lambda: price.step(np.zeros(LARGE)),
    "parents": lambda: total.step(price.step(1), [price.step(2)]),
    "closure": lambda: made([1]),
    "partial": lambda: partial([1]),
    "object of a method": lambda: Shop([1]).rated.step(),
    "sleep": lambda: workflow.sleep(1),
}


@pytest.mark.parametrize("name", SAME)
def test_same_inputs_give_no_warning(name: str, caplog: pytest.LogCaptureFixture) -> None:
    assert warning(SAME[name](), SAME[name](), caplog) == ""


def test_warning_names_three_steps_at_most(caplog: pytest.LogCaptureFixture) -> None:
    stored, given = (total.step(*(price.step(offset + n) for n in range(10))) for offset in (0, 100))
    text = warning(stored, given, caplog)
    assert text.count("has other arguments") == 3
    assert "and 7 more" in text
