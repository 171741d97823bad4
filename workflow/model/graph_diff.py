"""Finds the first difference between the shapes of two DAGs, for the error about an id that is used by another DAG."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Final

from workflow.model.graph import Graph, StepSpec

_STEPS_SHOWN: Final = 5


def first_difference(stored: Graph, given: Graph) -> str:
    """Return the first step that differs, and how; empty if the shapes are equal (see `Graph.shape`).

    Args:
        stored: the DAG of the existing run.
        given: the DAG that this program composed.
    """
    stored_by_id = {step.step_id: step for step in stored.steps}
    given_by_id = {step.step_id: step for step in given.steps}
    for old, new in zip_longest(stored.steps, given.steps):
        if new is not None and new.step_id not in stored_by_id:
            return f"the stored one has no step {new.step_id!r} ({_function(new)})"
        if old is not None and old.step_id not in given_by_id:
            return f"only the stored one has step {old.step_id!r} ({_function(old)})"
        difference = _step_difference(old, given_by_id[old.step_id]) if old is not None else ""
        if difference:
            return difference
    if stored.output != given.output:
        return f"the output is that of step {stored.output!r} in the stored one, and of {given.output!r} in this one"
    if stored.shape() != given.shape():
        return "the steps are composed in another order"
    return ""


def _step_difference(stored: StepSpec, given: StepSpec) -> str:
    if stored.qualname != given.qualname:
        return (
            f"step {stored.step_id!r} calls {_function(stored)} in the stored one, and {_function(given)} in this one"
        )
    if stored.parents != given.parents:
        return (
            f"step {stored.step_id!r} takes the outcomes of {_listed(stored.parents)} in the stored one, and of "
            f"{_listed(given.parents)} in this one"
        )
    return ""


def _function(step: StepSpec) -> str:
    return f"function {step.qualname!r}"


def _listed(parents: Sequence[str]) -> str:
    if not parents:
        return "no step"
    shown = ", ".join(map(repr, parents[:_STEPS_SHOWN]))
    return shown if len(parents) <= _STEPS_SHOWN else f"{shown} and {len(parents) - _STEPS_SHOWN} more"
