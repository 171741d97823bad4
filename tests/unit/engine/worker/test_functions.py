"""Which functions a later epoch brings: those that a name tells, where they differ, of the steps without an outcome."""

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
    """At the top of a module."""


class Holder:
    """Has a method."""

    def method(self) -> None:
        """Of objects."""


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
def test_where_a_later_process_finds_a_function(given: Callable[..., Any], module: str) -> None:
    assert functions.module_of(given) == module


@pytest.fixture
def users(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The user's module, as it is now."""
    module = ModuleType("users_module")
    exec("def one(): ...\ndef two(): ...", module.__dict__)
    for name in ("one", "two"):
        module.__dict__[name] = SimpleNamespace(function=module.__dict__[name])
    monkeypatch.setitem(sys.modules, "users_module", module)
    return module


def run_of(*steps: str, main: str = "", module: str = "users_module") -> RunState:
    """A run of steps whose stored function is `old <step>`."""
    dag = runs.graph(" ".join(steps))
    specs = [replace(each, function=f"old {each.step_id}", qualname=f"{module}.{each.step_id}") for each in dag.steps]
    graph = Graph(tuple(replace(each, module=module) for each in specs), dag.output)
    created = replace(runs.created(graph), main_script=main)
    return fold.begin(created, graph)


def named(function: Callable[..., Any]) -> str:
    """Stands for its blob."""
    return f"new {function.__name__}"


def test_each_function_that_is_there_now_is_brought(users: ModuleType) -> None:
    assert functions.present(run_of("one", "two:one"), named) == {"old one": "new one", "old two": "new two"}


def test_one_that_did_not_change_is_not(users: ModuleType) -> None:
    assert functions.present(run_of("one", "two:one"), lambda each: f"old {each.__name__}") == {}


def test_one_that_was_changed_back_is_brought_again(users: ModuleType) -> None:
    state = run_of("one", "two:one")
    fold.apply(state, 1, replace(runs.claimed(2), functions={"old one": "fixed", "old two": "fixed two"}))
    del users.__dict__["two"]  # and one that is gone stays as the last epoch had it
    assert functions.present(state, lambda each: f"old {each.__name__}") == {"old one": "old one"}
    fold.apply(state, 2, replace(runs.claimed(3), functions={"old one": "old one"}))
    assert functions.present(state, lambda each: f"old {each.__name__}") == {}
    assert state.functions == {"old one": "old one", "old two": "fixed two"}


def test_one_whose_steps_have_their_outcomes_is_not(users: ModuleType) -> None:
    state = run_of("one", "two:one")
    fold.apply(state, 1, runs.started("one"))
    fold.apply(state, 2, runs.committed("one"))
    assert functions.present(state, named) == {"old two": "new two"}


def test_one_that_is_gone_or_no_step_any_more_stays_as_it_was_stored(users: ModuleType) -> None:
    del users.__dict__["one"]
    users.__dict__["two"] = function
    assert functions.present(run_of("one", "two:one"), named) == {}


def test_a_module_that_is_not_here_leaves_all_as_it_was_stored() -> None:
    assert functions.present(run_of("one", module="nowhere_to_be_found"), named) == {}


@pytest.mark.parametrize(("main", "brought"), [("mine.py", {"old one": "new one"}), ("other.py", {})])
def test_steps_of_a_script_are_only_those_of_that_script(
    main: str, brought: dict[str, str], users: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    users.__file__ = "/somewhere/mine.py"
    monkeypatch.setitem(sys.modules, "__main__", users)
    assert functions.present(run_of("one", main=main, module="__main__"), named) == brought
