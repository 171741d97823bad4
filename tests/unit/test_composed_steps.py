"""Composed steps as Python objects: `repr`, `copy`, `pickle`, `==`, `hash` and garbage collection, at any depth."""

from __future__ import annotations

import copy
import functools
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import workflow
from workflow.errors import InvalidInputError

DEEP = 5_000


@workflow.step
def first(*parts: Any) -> None:
    """Accept any arguments."""


@workflow.step(name="last")
def named(*parts: Any, key: Any = None) -> None:
    """Accept any arguments."""


NAME = repr(f"{__name__}.first")

SHAPES: dict[str, Callable[[Any], Any]] = {
    "chain": lambda before: first.step(before),
    "shared parents": lambda before: first.step(before, before),
    "in lists": lambda before: first.step([before]),
}


@functools.cache
def composed(shape: str, depth: int = DEEP) -> Any:
    root = first.step(1)
    for _ in range(depth):
        root = SHAPES[shape](root)
    return root


@pytest.mark.parametrize("text", [repr, str, lambda root: f"{root}", lambda root: repr([root])[1:-1]])
@pytest.mark.parametrize("shape", SHAPES)
def test_text_of_a_deep_workflow_is_short(shape: str, text: Callable[[Any], str]) -> None:
    assert text(composed(shape)) == f"<workflow {NAME} after {NAME}>"


def test_text_names_the_first_parents() -> None:
    a, b = first.step(), named.step()
    assert repr(a) == f"<workflow {NAME}>"
    assert repr(named.step(b, 1, "x" * 1_000, key=a)) == f"<workflow 'last' after 'last', {NAME}>"
    assert repr(first.step(((b, (a,)), 2))) == f"<workflow {NAME} after 'last', {NAME}>"
    assert repr(first.step([b], {"key": a})) == f"<workflow {NAME} after 'last', {NAME}>"
    many = repr(first.step(*(named.step() for _ in range(100))))
    assert many == f"<workflow {NAME} after 'last', 'last', 'last', ...>"
    assert repr(workflow.sleep(1)) == "<workflow 'workflow.waits.sleep'>"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copy_of_a_composed_step_is_the_same_step(copied: Callable[[Any], Any]) -> None:
    root = composed("in lists")
    assert copied(root) is root
    assert copied([root])[0] is root


def test_deep_workflow_is_compared_and_refuses_pickle() -> None:
    root = composed("shared parents")
    assert root == root
    assert root != composed("shared parents", 1)
    assert len({root, root}) == 1
    with pytest.raises(InvalidInputError, match=r"cannot pickle step .*test_composed_steps.first'"):
        pickle.dumps(root)


def test_a_workflow_of_100_000_steps_is_collected() -> None:
    root = composed.__wrapped__("chain", 100_000)
    collected = weakref.ref(root)
    del root
    gc.collect()
    assert collected() is None
