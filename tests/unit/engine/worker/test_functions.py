"""A later epoch uses the current code of changed functions, if a name identifies them and a step still needs them."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.support import runs
from workflow.engine.worker import functions
from workflow.model import fold
from workflow.model.graph import Graph
from workflow.model.state import RunState


def function() -> None:
    """A function at the top of a module."""


class Holder:
    """A class with a method."""

    def method(self) -> None:
        """A method of objects."""


@pytest.mark.parametrize(
    ("given", "module"),
    [
        (function, __name__),
        (Holder.method, __name__),
        (lambda: None, ""),
        (Holder().method, ""),
        (functools.partial(function), ""),
        (len, ""),
    ],
    ids=["function", "method of a class", "lambda", "method of an object", "partial", "builtin"],
)
def test_module_in_which_a_later_process_finds_a_function(given: Callable[..., Any], module: str) -> None:
    assert functions.module_of(given) == module


@pytest.fixture
def user_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The current code of the user's module."""
    module = ModuleType("user_module")
    exec("def one(): ...\ndef two(): ...", module.__dict__)
    for name in ("one", "two"):
        module.__dict__[name] = SimpleNamespace(function=module.__dict__[name])
    monkeypatch.setitem(sys.modules, "user_module", module)
    return module


def run_of(*steps: str, main_script: str = "", module: str = "user_module") -> RunState:
    """Return a run of steps. The stored function of each is `old <step>`."""
    dag = runs.graph(" ".join(steps))
    specs = [replace(each, function=f"old {each.step_id}", qualname=f"{module}.{each.step_id}") for each in dag.steps]
    graph = Graph(tuple(replace(each, module=module) for each in specs), dag.output)
    created = replace(runs.created(graph), main_script=main_script)
    return fold.begin(created, graph)


def store_as_new(function: Callable[..., Any]) -> str:
    """Return the name of the blob that a function is stored in."""
    return f"new {function.__name__}"


def store_as_old(function: Callable[..., Any]) -> str:
    """Return the name of the blob that an unchanged function is stored in."""
    return f"old {function.__name__}"


def test_each_current_function_is_stored(user_module: ModuleType) -> None:
    assert functions.store_current(run_of("one", "two:one"), store_as_new) == {
        "old one": "new one",
        "old two": "new two",
    }


def test_unchanged_function_is_not_reported(user_module: ModuleType) -> None:
    assert functions.store_current(run_of("one", "two:one"), store_as_old) == {}


def test_function_that_was_changed_back_is_reported(user_module: ModuleType) -> None:
    state = run_of("one", "two:one")
    fold.apply(state, 1, replace(runs.claimed(2), functions={"old one": "fixed", "old two": "fixed two"}))
    del user_module.__dict__["two"]  # a removed function keeps the code of the last epoch
    assert functions.store_current(state, store_as_old) == {"old one": "old one"}
    fold.apply(state, 2, replace(runs.claimed(3), functions={"old one": "old one"}))
    assert functions.store_current(state, store_as_old) == {}
    assert state.functions == {"old one": "old one", "old two": "fixed two"}


def test_function_is_not_stored_if_its_steps_have_outcomes(user_module: ModuleType) -> None:
    state = run_of("one", "two:one")
    fold.apply(state, 1, runs.started("one"))
    fold.apply(state, 2, runs.committed("one"))
    assert functions.store_current(state, store_as_new) == {"old two": "new two"}


def test_removed_function_and_name_of_no_step_stay_as_stored(user_module: ModuleType) -> None:
    del user_module.__dict__["one"]
    user_module.__dict__["two"] = function
    assert functions.store_current(run_of("one", "two:one"), store_as_new) == {}


def test_function_of_a_module_that_raises_stays_as_stored(user_module: ModuleType) -> None:
    exec("def __getattr__(name): raise KeyError(name)", user_module.__dict__)
    del user_module.__dict__["one"]
    assert functions.store_current(run_of("one", "two:one"), store_as_new) == {"old two": "new two"}


def test_functions_of_a_missing_module_stay_as_stored() -> None:
    assert functions.store_current(run_of("one", module="nowhere_to_be_found"), store_as_new) == {}


@pytest.mark.parametrize(
    ("main_script", "changed"),
    [
        pytest.param("this.py", {"old one": "new one"}, id="this script"),
        pytest.param("other.py", {}, id="other script"),
    ],
)
def test_functions_of_a_script_are_replaced_only_by_that_script(
    main_script: str, changed: dict[str, str], user_module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_module.__file__ = "/somewhere/this.py"
    monkeypatch.setitem(sys.modules, "__main__", user_module)
    assert functions.store_current(run_of("one", main_script=main_script, module="__main__"), store_as_new) == changed
