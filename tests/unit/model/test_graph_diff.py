"""The error about an id that is used by another DAG names the first step that differs, and its difference."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import runs
from workflow.model.graph import Graph
from workflow.model.graph_diff import first_difference


def renamed(text: str, **functions: str) -> Graph:
    """Return a DAG in which some steps call other functions."""
    dag = runs.graph(text)
    steps = tuple(replace(each, qualname=functions.get(each.step_id, each.qualname)) for each in dag.steps)
    return replace(dag, steps=steps)


CHAIN = runs.graph("a b:a c:b")


@pytest.mark.parametrize(
    ("given_dag", "difference"),
    [
        pytest.param(CHAIN, "", id="equal"),
        pytest.param(
            renamed("a b:a c:b", b="other.f"),
            "step 'b' calls function 'module.b' in the stored one, and function 'other.f' in this one",
            id="function",
        ),
        pytest.param(
            runs.graph("a b:a c:b,a"),
            "step 'c' takes the outcomes of 'b' in the stored one, and of 'b', 'a' in this one",
            id="more parents",
        ),
        pytest.param(
            runs.graph("a b c:b"),
            "step 'b' takes the outcomes of 'a' in the stored one, and of no step in this one",
            id="no parent",
        ),
        pytest.param(
            runs.graph("a b:a x:b c:x"), "the stored one has no step 'x' (function 'module.x')", id="step added"
        ),
        pytest.param(
            runs.graph("a b:a c:b d:c"), "the stored one has no step 'd' (function 'module.d')", id="added at the end"
        ),
        pytest.param(runs.graph("a c:a"), "only the stored one has step 'b' (function 'module.b')", id="step missing"),
        pytest.param(
            runs.graph("a b:a"), "only the stored one has step 'c' (function 'module.c')", id="missing at the end"
        ),
        pytest.param(
            replace(CHAIN, output="b"),
            "the output is that of step 'c' in the stored one, and of 'b' in this one",
            id="output",
        ),
        pytest.param(
            renamed("a b:a c:b", a="m.first", b="m.second"),
            "step 'a' calls function 'module.a' in the stored one, and function 'm.first' in this one",
            id="the first of two",
        ),
    ],
)
def test_first_difference_names_the_step(given_dag: Graph, difference: str) -> None:
    assert first_difference(CHAIN, given_dag) == difference


def test_order_of_independent_steps_is_a_difference() -> None:
    difference = first_difference(runs.graph("a b c:a,b"), runs.graph("b a c:a,b"))
    assert difference == "the steps are composed in another order"


def test_long_list_of_parents_is_cut() -> None:
    names = [f"p{number}" for number in range(100)]
    wide = runs.graph(f"{' '.join(names)} c:{','.join(names)}")
    short = first_difference(wide, runs.graph(f"{' '.join(names)} c:p0"))
    assert "'p0', 'p1', 'p2', 'p3', 'p4' and 95 more in the stored one, and of 'p0' in this one" in short


IDS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=True)
DAGS = IDS.map(lambda ids: runs.graph(" ".join(ids)))


@given(DAGS, DAGS)
def test_difference_is_empty_only_for_equal_shapes(stored: Graph, given_dag: Graph) -> None:
    assert bool(first_difference(stored, given_dag)) == (stored.shape() != given_dag.shape())
