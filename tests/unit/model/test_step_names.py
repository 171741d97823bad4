"""Steps are found by their ids, and by the names that Ray 1.12 gives them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support import runs
from tests.support.runs import expanded, graph
from workflow.model.graph import Graph
from workflow.model.state import RunState
from workflow.model.step_names import step_named


def named(dag: Graph, name: str) -> Graph:
    """Return the DAG with the same name for all of its steps."""
    return replace(dag, steps=tuple(replace(step, name=name) for step in dag.steps))


def recursion() -> RunState:
    """Return a run of a step that returned itself twice, next to a step whose name ends in a number."""
    return runs.state_of(
        named(graph("f g_2:f"), "f"),
        [expanded("f", named(graph("f/f_1 f/f:f/f_1"), "f"))],
        [expanded("f/f_1", named(graph("f/f_1/f"), "f"))],
    )


@pytest.mark.parametrize(
    ("name", "step_id"),
    [
        pytest.param("f", "f", id="an id"),
        pytest.param("f/f", "f/f", id="an id in a dynamic step"),
        pytest.param("f_1", "g_2", id="the second of the first DAG"),
        pytest.param("f_2", "f/f", id="the first of the DAG that a dynamic step returned"),
        pytest.param("f_3", "f/f_1", id="its second, although it is stored before the first"),
        pytest.param("f_4", "f/f_1/f", id="deeper"),
        pytest.param("f_5", None, id="too high a number"),
        pytest.param("f_01", None, id="not a number of Ray"),
        pytest.param("f_", None, id="no number"),
        pytest.param("h_1", None, id="another name"),
        pytest.param("_1", None, id="only a number"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_step_is_found_by_id_or_numbered_name(name: str, step_id: str | None) -> None:
    found = step_named(recursion(), name)
    assert (found.spec.step_id if found is not None else None) == step_id


def test_plain_name_is_the_first_step_with_it() -> None:
    state = runs.state_of(
        named(graph("outer"), "outer"), [expanded("outer", named(graph("outer/in_1 outer/in:outer/in_1"), "in"))]
    )
    assert [step_named(state, name).spec.step_id for name in ("in", "in_1")] == ["outer/in", "outer/in_1"]  # type: ignore[union-attr]
