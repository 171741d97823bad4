"""Ids depend only on position and name, and are unique in a run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.log.keys import escape
from workflow.model import ids

NAMES = st.lists(st.text(alphabet="ab_1/~", min_size=1, max_size=4), max_size=12)


@given(names=NAMES)
def test_steps_of_a_dag_have_distinct_ids(names: list[str]) -> None:
    placed = ids.place("", names)
    assert len(set(placed)) == len(names)
    assert ids.place("", names) == placed


@given(names=NAMES, others=NAMES)
def test_children_have_other_ids_than_the_siblings_of_the_parent(names: list[str], others: list[str]) -> None:
    siblings = ids.place("", names)
    for parent in siblings:
        assert not set(ids.place(parent, others)) & set(siblings)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param(["f", "f", "f"], ["p/f", "p/f_1", "p/f_2"], id="counted in order"),
        pytest.param(["f", "f_1", "f"], ["p/f", "p/f_1", "p/f_2"], id="a name that ends in a number"),
        pytest.param(["a/b"], ["p/a.b"], id="a slash in a name"),
    ],
)
def test_names_become_ids(names: list[str], expected: list[str]) -> None:
    assert ids.place("p", names) == expected


def test_id_stays_short_at_any_depth() -> None:
    step_id = "start"
    for _ in range(1_000):
        (step_id,) = ids.place(step_id, ["module.recurse"])
    assert len(step_id) < 200


CALLS = st.tuples(
    st.text(st.characters(codec=None), min_size=1, max_size=8), st.integers(1), st.text(max_size=8), st.integers(1, 99)
)


@given(calls=st.sets(CALLS, max_size=8))
def test_calls_of_nested_workflows_have_distinct_ids(calls: set[tuple[str, int, str, int]]) -> None:
    assert len({ids.nested(*call) for call in calls}) == len(calls)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(("a/b", 1, "c", 1), ("a", 1, "b/c", 1), id="a moved slash"),
        pytest.param(("a.b", 1, "c", 1), ("a", 1, "b.c", 1), id="a moved dot"),
        pytest.param(("a", 1, "b", 11), ("a", 11, "b", 1), id="swapped numbers"),
        pytest.param(("\ud83d\ude00", 1, "b", 1), ("\U0001f600", 1, "b", 1), id="a surrogate pair"),
        pytest.param(("w" * 70 + "1", 1, "b", 1), ("w" * 70 + "2", 1, "b", 1), id="a difference after the cut"),
    ],
)
def test_similar_calls_have_different_ids(one: tuple[str, int, str, int], other: tuple[str, int, str, int]) -> None:
    assert ids.nested(*one) != ids.nested(*other)


@given(workflow_id=st.text(min_size=1), step_id=st.text(min_size=1), ordinal=st.integers(1, 10**9))
def test_nested_workflow_id_is_not_escaped_in_keys(workflow_id: str, step_id: str, ordinal: int) -> None:
    nested = ids.nested(workflow_id, 1, step_id, ordinal)
    assert escape(nested) == nested
    deeper = ids.nested(nested, 1, step_id, ordinal)
    assert escape(deeper) == deeper


def test_nested_workflow_id_is_readable_and_stable() -> None:
    assert ids.nested("order/7", 1, "bill/pay", 2).startswith("order-7.bill-pay.2-")
    assert ids.nested("order", 1, "pay", 1) == "order.pay.1-d84aa9336e2fd484f0456251"
