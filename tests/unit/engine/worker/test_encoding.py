"""Steps of a DAG that have the same name are numbered as in Ray 1.12."""

from __future__ import annotations

from typing import Any

import pytest

import workflow
from workflow.engine.worker.encoding import ShapeEncoder


@workflow.step(name="f")
def f(*values: Any) -> Any: ...


@workflow.step(name="join")
def join(*values: Any, last: Any) -> Any: ...


def chain() -> Any:
    return f.step(2, f.step(1))


def tree() -> Any:
    shared = f.step(0)
    return join.step([f.step(1, f.step(2)), shared], last=f.step(3, shared))


@pytest.mark.parametrize(
    ("compose", "parent", "parents_of"),
    [
        pytest.param(chain, "", {"f": ("f_1",), "f_1": ()}, id="the output first"),
        pytest.param(chain, "p", {"p/f": ("p/f_1",), "p/f_1": ()}, id="in a dynamic step"),
        pytest.param(
            tree,
            "",
            {"join": ("f", "f_1", "f_2"), "f": ("f_3",), "f_1": (), "f_2": ("f_1",), "f_3": ()},
            id="breadth first",
        ),
    ],
)
def test_equal_names_are_numbered_from_the_output(compose: Any, parent: str, parents_of: Any) -> None:
    dag = ShapeEncoder().encode(compose(), parent)
    assert {step.step_id: step.parents for step in dag.steps} == parents_of
