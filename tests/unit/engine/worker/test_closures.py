"""A function that depends on values is taken when `.step()` is called: closures, partials, methods of objects."""

from __future__ import annotations

import functools
import weakref
from typing import Any

import numpy as np
import pytest

import workflow
from workflow.engine.worker import arguments, closures
from workflow.engine.worker.encoding import Encoder, ShapeEncoder
from workflow.engine.worker.run_values import RunValues
from workflow.errors import InvalidInputError
from workflow.log import values
from workflow.log.blobs import Blobs
from workflow.log.keys import RunPaths
from workflow.log.pickled import OUT_OF_BAND_LIMIT, Fetched
from workflow.log.stored_function import StoredFunction
from workflow.model.graph import StepNode
from workflow.store.memory import MemoryStore

PATHS = RunPaths("w", 1, "run-1")
LARGE = OUT_OF_BAND_LIMIT // 8


@workflow.step
def join(*given: Any) -> None:
    """Accept any arguments."""


def called(*composed: StepNode) -> list[Any]:
    """Return what each step returns that takes no arguments, in one run of all of them."""
    store = MemoryStore()
    last = join.options(name="last").step(*composed)
    graph = Encoder(RunValues(store, PATHS)).encode(last)
    assert ShapeEncoder().encode(last).shape() == graph.shape()
    functions = [Blobs(store, PATHS).fetch(spec.function) for spec in graph.steps if spec.name != "last"]
    return [_function(each)() for each in functions]


def _function(blob: Fetched) -> Any:
    def resolve(kind: str, name: str) -> Any:
        return pytest.fail(kind)

    stored = values.loads(blob, resolve)
    return values.load_function(stored, resolve).function if isinstance(stored, StoredFunction) else stored


def calls_of(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[Any]:
    """Return the arguments of all later calls of a function."""
    calls: list[Any] = []
    function = getattr(owner, name)

    def recorded(*given: Any) -> Any:
        calls.append(given)
        return function(*given)

    monkeypatch.setattr(owner, name, recorded)
    return calls


class Counter:
    def __init__(self, number: int) -> None:
        self.number = number

    @workflow.step
    def read(self) -> int:
        return self.number

    @classmethod
    def of_class(cls) -> str:
        return cls.__name__


class Callable_:  # noqa: N801 - only its instances matter
    def __init__(self, number: int) -> None:
        self.number = number
        self.__qualname__ = "callable"

    def __call__(self) -> int:
        return self.number


def test_a_method_is_executed_with_its_object_as_it_was() -> None:
    counter, composed = Counter(0), []
    for counter.number in range(3):
        composed.append(counter.read.step())
    counter.number = 9
    assert called(*composed) == [0, 1, 2]


def test_a_callable_object_is_taken() -> None:
    it = Callable_(0)
    step, composed = workflow.step(it), []
    for it.number in range(3):
        composed.append(step.step())
    assert called(*composed) == [0, 1, 2]


def test_a_partial_is_taken() -> None:
    config: dict[str, int] = {}
    step, composed = workflow.step(functools.partial(lambda given: given["i"], config)), []
    for config["i"] in range(3):
        composed.append(step.step())
    assert called(*composed) == [0, 1, 2]


def test_variables_of_a_closure_are_taken() -> None:
    composed = []

    @workflow.step
    def read() -> int:
        return i

    for i in range(3):  # noqa: B007 - the closure uses it
        composed.append(read.step())
    assert called(*composed) == [0, 1, 2]


def test_values_in_a_closure_are_taken() -> None:
    config: dict[str, int] = {}
    composed = []

    @workflow.step
    def read() -> int:
        return config["i"]

    for config["i"] in range(3):
        composed.append(read.step())
    assert called(*composed) == [0, 1, 2]


def test_functions_that_a_closure_calls_are_taken_with_it() -> None:
    composed = []

    def inner() -> int:
        return i

    @workflow.step
    def read() -> int:
        return inner()

    for i in range(3):  # noqa: B007 - the closure uses it
        composed.append(read.step())
    assert called(*composed) == [0, 1, 2]


def test_an_unchanged_closure_is_pickled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = calls_of(monkeypatch, arguments.Taker, "take")
    offset, name = 3, "x"

    @workflow.step
    def helper() -> Any:
        return recursive

    @workflow.step
    def recursive() -> Any:
        return offset, name, recursive, helper, len

    composed = [recursive.step() for _ in range(5)]
    assert len(taken) == 1
    offset = 4
    composed.append(recursive.step())
    assert len(taken) == 2
    assert [each[0] for each in called(*composed)] == [3] * 5 + [4]


def test_a_closure_that_no_composed_step_has_is_forgotten() -> None:
    rows = list(range(1_000_000))

    @workflow.step
    def total() -> int:
        return len(rows)

    taken = total.step().taken_function
    assert taken is total.step().taken_function
    reference = weakref.ref(taken)
    del taken
    assert reference() is None


def test_a_closure_over_a_large_array_is_pickled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pickled = calls_of(monkeypatch, values, "dump")
    array = np.zeros(2 * LARGE)

    @workflow.step
    def total() -> float:
        return float(array.sum())

    composed = [total.step() for _ in range(20)]
    assert len(pickled) <= 2
    assert called(*composed) == [0.0] * 20
    array[0] = 1
    with pytest.raises(InvalidInputError, match=r"function of step '.*total': .* was changed after .step"):
        called(*composed)


def test_a_large_list_in_a_closure_must_not_change() -> None:
    rows = list(range(1_000_000))

    @workflow.step
    def total() -> int:
        return len(rows)

    first = total.step()
    rows.append(1)
    with pytest.raises(InvalidInputError, match=r"a value that it refers to was changed after .step.*pass a copy"):
        called(first, total.step())


def module_level() -> int:
    return 1


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (module_level, False),
        (lambda: 1, False),
        (Counter.of_class, False),
        (len, False),
        (dict, False),
        (Counter(1).read.function, True),
        (functools.partial(module_level), True),
        (Callable_(1), True),
    ],
)
def test_only_functions_with_values_are_taken(function: Any, expected: bool) -> None:
    assert closures.depends_on_values(function) is expected


def test_a_function_of_a_module_is_stored_by_the_run() -> None:
    node = join.step()
    assert node.taken_function is None


def test_a_composed_step_in_a_closure_is_refused_at_once() -> None:
    inner = join.step()

    @workflow.step
    def outer() -> Any:
        return inner

    with pytest.raises(
        InvalidInputError, match=r"composed workflow of step .*join', which has no value yet; pass that as an argument"
    ):
        outer.step()
