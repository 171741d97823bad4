"""Actor handles in the functions of steps: allowed with a warning, since an actor does not outlive its cluster."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import pytest
import ray

import workflow
from workflow.engine.worker import actor_handles
from workflow.errors import InvalidInputError

pytestmark = pytest.mark.usefixtures("storage")


@ray.remote(num_cpus=0)
class Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self, number: int) -> int:
        self.count += number
        return self.count


class Holder:
    def __init__(self, counter: Any) -> None:
        self.counter = counter

    @workflow.step
    def add(self, number: int) -> int:
        return ray.get(self.counter.add.remote(number))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def counter(storage: str) -> Any:
    return Counter.remote()


def closure_over(counter: Any) -> workflow.Workflow[int]:
    @workflow.step
    def add(number: int) -> int:
        return ray.get(counter.add.remote(number))  # type: ignore[no-any-return]

    return add.step(1)


def global_of_a_script(counter: Any) -> workflow.Workflow[int]:
    def add(number: int) -> int:
        import ray

        return ray.get(COUNTER.add.remote(number))  # type: ignore[name-defined,no-any-return]  # noqa: F821

    names: dict[str, Any] = {"__name__": "__main__", "COUNTER": counter}
    function = type(add)(add.__code__, names, "add")
    function.__module__, function.__qualname__ = "__main__", "add"
    return workflow.step(function).step(1)


def partial_of(counter: Any) -> workflow.Workflow[int]:
    def add(actor: Any, number: int) -> int:
        return ray.get(actor.add.remote(number))  # type: ignore[no-any-return]

    return workflow.step(functools.partial(add, counter)).step(1)


def method_of_an_actor(counter: Any) -> workflow.Workflow[int]:
    method = counter.add

    @workflow.step
    def add(number: int) -> int:
        return ray.get(method.remote(number))  # type: ignore[no-any-return]

    return add.step(1)


FORMS: dict[str, Callable[[Any], workflow.Workflow[int]]] = {
    "closure": closure_over,
    "global of a script": global_of_a_script,
    "object of a method": lambda counter: Holder(counter).add.step(1),
    "partial": partial_of,
    "method of an actor": method_of_an_actor,
}


@pytest.mark.parametrize("form", FORMS)
def test_function_of_a_step_may_refer_to_an_actor(form: str, counter: Any, caplog: pytest.LogCaptureFixture) -> None:
    before = ray.get(counter.add.remote(0))
    with caplog.at_level(logging.WARNING):
        assert FORMS[form](counter).run() == before + 1
    warnings = [record.getMessage() for record in caplog.records]
    assert sum("refers to Ray actor Counter: an actor does not outlive its cluster" in each for each in warnings) == 1


def test_actor_warning_is_logged_once_for_a_function(counter: Any, caplog: pytest.LogCaptureFixture) -> None:
    @workflow.step
    def add(number: int) -> int:
        return ray.get(counter.add.remote(number))  # type: ignore[no-any-return]

    with caplog.at_level(logging.WARNING):
        add.step(add.step(add.step(0))).run()
    assert len([record for record in caplog.records if "refers to Ray actor" in record.getMessage()]) == 1


def test_actor_handle_of_another_cluster_is_explained(counter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is resumed on another cluster loads the handle there."""
    load, args = actor_handles.reduced(counter)
    assert load(*args) == counter
    monkeypatch.setattr(actor_handles, "this_cluster", lambda: "session_2")
    with pytest.raises(
        InvalidInputError, match=r"Ray actor Counter: .* cluster session_.*, this is session_2.* find the actor"
    ):
        load(*args)


def test_function_with_an_actor_is_refused_as_an_argument(counter: Any) -> None:
    @workflow.step
    def call(function: Any) -> Any:
        return function()

    with pytest.raises(InvalidInputError, match=r"cannot store a Ray actor handle"):
        call.step(lambda: counter)
