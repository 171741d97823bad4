"""Ids come from place and name only, and are unique in a run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.model import ids

NAMES = st.lists(st.text(alphabet="ab_1/~", min_size=1, max_size=4), max_size=12)


@given(names=NAMES)
def test_every_step_of_a_dag_has_an_id_of_its_own(names: list[str]) -> None:
    placed = ids.place("", names)
    assert len(set(placed)) == len(names)
    assert ids.place("", names) == placed


@given(names=NAMES, others=NAMES)
def test_children_never_have_an_id_of_their_parents_siblings(names: list[str], others: list[str]) -> None:
    siblings = ids.place("", names)
    for parent in siblings:
        assert not set(ids.place(parent, others)) & set(siblings)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param(["f", "f", "f"], ["p/f", "p/f_1", "p/f_2"], id="counted in order"),
        pytest.param(["f", "f_1", "f"], ["p/f", "p/f_1", "p/f_2"], id="a name that looks counted"),
        pytest.param(["a/b"], ["p/a.b"], id="no name makes a scope"),
    ],
)
def test_names_become_ids(names: list[str], expected: list[str]) -> None:
    assert ids.place("p", names) == expected


def test_an_id_stays_short_at_any_depth() -> None:
    step_id = "start"
    for _ in range(1_000):
        (step_id,) = ids.place(step_id, ["module.recurse"])
    assert len(step_id) < 200
