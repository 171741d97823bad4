"""A step gets its arguments as they were when `.step()` was called, or `.run()` refuses a large one that changed."""

from __future__ import annotations

import collections
import dataclasses
import functools
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import ray

import workflow
from workflow.engine.worker import refs
from workflow.engine.worker.caches import SharedCache
from workflow.engine.worker.encoding import Encoder, ShapeEncoder
from workflow.engine.worker.run_values import RunValues
from workflow.errors import InvalidInputError
from workflow.log import values
from workflow.log.blobs import Blobs
from workflow.log.keys import RunPaths
from workflow.log.pickled import OUT_OF_BAND_LIMIT
from workflow.model.graph import Graph, StepNode, StepSpec
from workflow.store.memory import MemoryStore

PATHS = RunPaths("w", 1, "run-1")
LARGE = OUT_OF_BAND_LIMIT // 8


@workflow.step
def join(*given: Any, **named: Any) -> None:
    """Accept any arguments."""


@workflow.step
def fit(table: Any, rate: float = 0.5, *rest: Any, seed: Any = None) -> None:
    """Have parameters with names."""


@dataclasses.dataclass
class Box:
    content: Any


class Plain:
    def __init__(self, content: Any) -> None:
        self.content = content


class OwnList(list[Any]):
    """A subclass of a container."""


class OwnDict(dict[str, Any]):
    """A subclass of a container."""


class Pair(NamedTuple):
    left: list[int]
    right: int


class Run:
    """The values of a run in memory.

    Attributes:
        store: contains them.
    """

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.blobs = Blobs(self.store, PATHS)

    def encode(self, root: StepNode) -> Graph:
        return Encoder(RunValues(self.store, PATHS)).encode(root)

    def arguments(self, spec: StepSpec) -> Any:
        """Return the arguments of a step; a composed step in them is `parent <index>`."""

        def resolve(kind: str, name: str) -> Any:
            return f"{kind} {name}" if kind == "parent" else (kind, values.loads(self.blobs.fetch(name), resolve))

        return values.loads(self.blobs.load_value(spec.args), resolve)

    def given(self, *composed: StepNode) -> list[Any]:
        """Return the first argument of each step, as one run of all of them gets it."""
        graph = self.encode(join.options(name="last").step(*composed))
        return [self.arguments(spec)[0][0] for spec in graph.steps if spec.name != "last"]


def box(value: Any) -> Any:
    return Box([value])


CONTAINERS: dict[str, tuple[Callable[[], Any], Callable[[Any, int], Any], Callable[[Any], Any]]] = {
    "dict": (lambda: {"i": 9}, lambda it, i: it.update(i=i), lambda it: it["i"]),
    "list": (lambda: [9], lambda it, i: it.__setitem__(0, i), lambda it: it[0]),
    "set": (lambda: {9}, lambda it, i: (it.clear(), it.add(i)), lambda it: next(iter(it))),
    "bytearray": (lambda: bytearray(1), lambda it, i: it.__setitem__(0, i), lambda it: it[0]),
    "large bytearray": (lambda: bytearray(2 << 20), lambda it, i: it.append(i), lambda it: it[-1]),
    "deque": (collections.deque, lambda it, i: it.append(i), lambda it: it[-1]),
    "ordered dict": (collections.OrderedDict, lambda it, i: it.update(i=i), lambda it: it["i"]),
    "counter": (collections.Counter, lambda it, i: it.update({"i": i - it["i"]}), lambda it: it["i"]),
    "list in a tuple": (lambda: ([9],), lambda it, i: it[0].__setitem__(0, i), lambda it: it[0][0]),
    "list in a named tuple": (
        lambda: Pair([9], 1),
        lambda it, i: it.left.__setitem__(0, i),
        lambda it: it.left[0],
    ),
    "subclass of list": (lambda: OwnList([9]), lambda it, i: it.__setitem__(0, i), lambda it: it[0]),
    "subclass of dict": (lambda: OwnDict(i=9), lambda it, i: it.update(i=i), lambda it: it["i"]),
    "dataclass": (lambda: Box(9), lambda it, i: setattr(it, "content", i), lambda it: it.content),
    "plain object": (lambda: Plain(9), lambda it, i: setattr(it, "content", i), lambda it: it.content),
    "dict in an object": (lambda: Plain({}), lambda it, i: it.content.update(i=i), lambda it: it.content["i"]),
    "array": (lambda: np.zeros(3), lambda it, i: it.__setitem__(0, i), lambda it: it[0]),
    "slice of an array": (lambda: np.zeros(9)[::3], lambda it, i: it.__setitem__(0, i), lambda it: it[0]),
    "array of 100 KB": (lambda: np.zeros(12_500), lambda it, i: it.__setitem__(0, i), lambda it: it[0]),
    "read-only view": (
        lambda: np.broadcast_to(np.zeros(1), 3),
        lambda it, i: it.base.__setitem__(0, i),
        lambda it: it[0],
    ),
    "large slice with gaps": (
        lambda: np.zeros(2 * LARGE)[::2],
        lambda it, i: it.__setitem__(0, i),
        lambda it: it[0],
    ),
    "frame": (lambda: pd.DataFrame({"i": [9]}), lambda it, i: it.__setitem__("i", i), lambda it: it["i"][0]),
}


@pytest.mark.parametrize(("make", "change", "read"), CONTAINERS.values(), ids=CONTAINERS)
def test_steps_of_a_loop_get_what_each_was_given(make: Any, change: Any, read: Any) -> None:
    value, composed = make(), []
    for i in range(3):
        change(value, i)
        composed.append(join.options(name=f"s{i}").step(value))
    change(value, 7)
    assert [read(each) for each in Run().given(*composed)] == [0, 1, 2]


def test_keyword_arguments_are_taken_too() -> None:
    config = {"i": 0}
    node = join.step(1, config=config)
    config["i"] = 1
    run = Run()
    (spec,) = run.encode(node).steps
    assert run.arguments(spec) == ((1,), {"config": {"i": 0}})


def test_a_list_of_composed_steps_is_taken() -> None:
    steps = [join.options(name="a").step(), join.options(name="b").step()]
    node = join.step(steps, {"again": steps[1]})
    steps.pop()
    run = Run()
    graph = run.encode(node)
    assert graph.steps[-1].parents == ("a", "b")
    assert run.arguments(graph.steps[-1])[0] == (["parent 0", "parent 1"], {"again": "parent 1"})
    assert ShapeEncoder().encode(node).shape() == graph.shape()


def test_a_list_that_contains_itself_is_taken() -> None:
    loop: list[Any] = [join.options(name="a").step()]
    loop.append(loop)
    node = join.step(loop)
    loop.clear()
    run = Run()
    (found,) = run.arguments(run.encode(node).steps[-1])[0]
    assert (found[0], found[1] is found) == ("parent 0", True)


def test_one_object_in_two_arguments_stays_one_object() -> None:
    shared = [1]
    run = Run()
    (spec,) = run.encode(join.step(shared, {"it": shared})).steps
    one, other = run.arguments(spec)[0]
    assert one is other["it"]


def test_a_workflow_runs_twice_with_the_same_arguments() -> None:
    config = {"i": 0}
    node = join.step(config)
    first, second = Run(), Run()
    (spec,) = first.encode(node).steps
    config["i"] = 1
    assert second.arguments(second.encode(node).steps[0]) == first.arguments(spec) == (({"i": 0},), {})


def test_arguments_of_a_wait_are_taken_once() -> None:
    class Listener(workflow.EventListener):
        async def poll_for_event(self, config: Any) -> Any:
            return config

    config = {"i": 0}
    wait = workflow.wait_for_event(Listener, config)
    config["i"] = 1
    run = Run()
    for each in (wait, wait.options(name="again", max_retries=2)):
        graph = run.encode(each)
        assert run.arguments(graph.steps[0]) == (({"i": 0},), {})
    assert [step.options.max_retries for step in graph.steps] == [2, 2]


def test_metadata_of_a_wait_is_taken_when_it_is_given() -> None:
    metadata = {"k": 1}
    wait = workflow.sleep(1).options(metadata=metadata)
    metadata["k"] = 2
    assert wait.options(name="s").step_options.metadata == '{"k": 1}'


@pytest.mark.parametrize("value", [1, "text", b"bytes", None, True, 0.5, 1j, (1, ("a",)), frozenset({1}), ...])
def test_immutable_arguments_are_not_pickled(value: Any) -> None:
    node = join.step(value, join.step(), name=value)
    assert node.taken is None
    assert (node.args[0], node.kwargs) == (value, {"name": value})


class PickledOnce:
    def __init__(self) -> None:
        self.times = 0

    def __reduce__(self) -> Any:
        self.times += 1
        return int, (self.times,)


def test_a_run_does_not_pickle_taken_arguments_again() -> None:
    value = PickledOnce()
    node = join.step(value)
    assert value.times == 1
    run = Run()
    assert run.arguments(run.encode(node).steps[0])[0] == (1,)
    ShapeEncoder().encode(node)
    assert value.times == 1


def test_an_argument_that_cannot_be_stored_is_refused_at_once() -> None:
    with pytest.raises(
        InvalidInputError, match=r"arguments of step 'locked': .*cannot be pickled.*create those inside"
    ):
        join.options(name="locked").step([threading.Lock()])


# --- large buffers ---


@dataclasses.dataclass
class Model:
    weights: Any
    name: str = "m"


TABLE = {
    "array": (lambda array: array, "argument table"),
    "dict": (lambda array: {"x": [1, array]}, r"argument table\['x'\]\[1\]"),
    "dataclass": (Model, "argument table.weights"),
    "tuple": (lambda array: (1, "b", array), r"argument table\[2\]"),
    "view": (lambda array: array[: LARGE + 7], "argument table"),
}


@pytest.mark.parametrize(("wrap", "place"), TABLE.values(), ids=TABLE)
def test_a_large_array_that_changes_before_run_is_refused(wrap: Any, place: str) -> None:
    array = np.zeros(2 * LARGE)
    node = fit.options(name="fit").step(wrap(array), 0.1, [1])
    array[5] = 1
    run = Run()
    with pytest.raises(
        InvalidInputError, match=f"arguments of step 'fit': {place} was changed after .step.*pass a copy"
    ):
        run.encode(node)
    array[5] = 0
    run.encode(node)


def test_the_changed_argument_is_the_one_that_is_named() -> None:
    arrays = [np.full(LARGE, i, dtype=float) for i in range(4)]
    for i, place in enumerate(("table", "rate", r"args\[2\]", "seed")):
        node = fit.step(arrays[0], arrays[1], arrays[2], seed=arrays[3])
        arrays[i][0] += 1
        with pytest.raises(InvalidInputError, match=f"argument {place} was changed"):
            Run().encode(node)


def test_a_changed_table_in_an_object_is_named() -> None:
    frame = pd.DataFrame({"a": np.zeros(2 * LARGE)})
    node = fit.step({"f": frame})
    frame.iloc[0, 0] = 1
    with pytest.raises(InvalidInputError, match=r"argument table\['f'\].* was changed"):
        Run().encode(node)


def test_a_large_array_is_stored_as_it_was_in_an_earlier_run() -> None:
    """The second run of the same store has no such blob, and refuses the change; a blob that exists is right."""
    array = np.zeros(LARGE)
    first, second = fit.step(array), fit.step([array])
    run = Run()
    run.encode(first)
    array[0] = 1
    assert not run.arguments(run.encode(second).steps[0])[0][0][0].any()


def test_a_loop_that_fills_one_large_array_is_refused() -> None:
    array, composed = np.zeros(LARGE), []
    for i in range(3):
        array[:] = i
        composed.append(fit.options(name=f"s{i}").step(array))
    with pytest.raises(InvalidInputError, match="arguments of step 's0': argument table was changed"):
        Run().given(*composed)


def test_a_large_array_is_not_copied_by_step() -> None:
    array = np.zeros(32 * LARGE)
    tracemalloc.start()
    try:
        node = fit.step([array])
        Run().blobs.store_value(b"")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4 * OUT_OF_BAND_LIMIT
    assert node.taken is not None


MEMORY = {
    "equal list": lambda big, i: (big,),
    "number before it": lambda big, i: (i % 256, big),
    "number after it": lambda big, i: (big, i),
    "in a dict": lambda big, i: ({"rows": big, "i": i},),
}


@pytest.mark.parametrize("place", MEMORY.values(), ids=MEMORY)
def test_steps_with_the_same_large_list_share_its_pickle(place: Any) -> None:
    big = [f"row {i}" for i in range(50_000)]  # a pickle of 600 KB
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        composed = [join.step(*place(big, i)) for i in range(30)]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 30 * 20_000 + 1_000_000
    assert len(composed) == 30


def test_steps_with_the_same_large_bytes_share_them() -> None:
    data = bytes(4 << 20)
    tracemalloc.start()
    try:
        composed = [join.step(i, {"data": data}) for i in range(10)]
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2 << 20
    run = Run()
    assert {each["data"] for each in (run.arguments(spec)[0][1] for spec in run.encode(join.step(composed)).steps[:-1])}


# --- Ray objects ---


class Dataset:
    """A double of Ray's Dataset."""

    materialized = 0

    def materialize(self) -> Any:
        Dataset.materialized += 1
        return self

    def to_arrow_refs(self) -> list[Any]:
        return [reference(1), reference(2)]


Dataset.__module__ = "ray.data.dataset"


def reference(number: int) -> Any:
    return ray.ObjectRef(bytes([number]) * 28)


@pytest.fixture
def gets(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The references whose content was fetched. The content of each is a text with its id."""
    fetched: list[Any] = []

    def get(ref: Any) -> Any:
        fetched.append(ref)
        return f"content {ref.hex()[:2]}"

    monkeypatch.setattr(refs, "_blob_of", SharedCache(100))
    monkeypatch.setattr(ray, "get", get)
    return fetched


def test_references_in_containers_are_stored_by_the_run(gets: list[Any]) -> None:
    ref, config = reference(7), {"i": 0}
    node = join.step([ref, {"again": ref}, reference(7), reference(8)], config)
    config["i"] = 1
    assert gets == []
    run = Run()
    ((first, again, same, other), found), _ = run.arguments(run.encode(node).steps[0])
    assert first == again["again"] == same == ("object", "content 07")
    assert (other, found) == (("object", "content 08"), {"i": 0})
    assert len(gets) == 2


def test_a_reference_beside_a_large_list_is_stored(gets: list[Any]) -> None:
    rows = [f"row {i}" for i in range(500_000)]
    node = join.step(reference(7), rows, [reference(8)])
    run = Run()
    (spec,) = run.encode(node).steps
    (first, found, (last,)), _ = run.arguments(spec)
    assert (first, found == rows, last) == (("object", "content 07"), True, ("object", "content 08"))


def test_a_dataset_is_materialized_by_the_run(gets: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.data.from_arrow_refs", lambda blocks: ("dataset", blocks))
    dataset = Dataset()
    composed = [join.options(name=f"s{i}").step({"data": dataset}) for i in range(2)]
    ShapeEncoder().encode(join.step(composed))
    assert Dataset.materialized == 0
    found = Run().given(*composed)
    content = ("value", ("dataset", [("object", "content 01"), ("object", "content 02")]))
    assert found == [{"data": content}] * 2
    assert Dataset.materialized == 1


def test_partials_are_arguments_like_others() -> None:
    config = {"i": 0}
    node = join.step(functools.partial(print, config))
    config["i"] = 1
    assert Run().given(node)[0].args == ({"i": 0},)
