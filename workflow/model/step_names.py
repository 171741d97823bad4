"""Finds a step by the name under which a user asks for it."""

from __future__ import annotations

from workflow.model.state import RunState, StepState


def step_named(state: RunState, name: str) -> StepState | None:
    """Return the step with this id, or else the step that has this name in Ray 1.12.

    There, the steps of a run that have the same name are numbered in the order in which they join the run: `load`,
    `load_1`, `load_2`. Ids number only the steps of one DAG, and begin with the dynamic step that returned it.

    Args:
        state: the run.
        name: an id, a name, or a name with `_` and a number.
    """
    if name in state.steps:
        return state.steps[name]
    base, _, number = name.rpartition("_")
    found = _in_order(state, name)
    if not found and number.isdecimal() and number == str(int(number)) and number != "0":
        found = _in_order(state, base)[int(number) :]
    return found[0] if found else None


def _in_order(state: RunState, name: str) -> list[StepState]:
    """Return the steps with a name: those of an earlier DAG first, and within a DAG the shorter id first."""
    scopes: dict[StepState | None, list[StepState]] = {}
    for step in state.steps.values():
        if step.spec.name == name:
            scopes.setdefault(step.scope, []).append(step)
    return [
        step
        for same_dag in scopes.values()
        for step in sorted(same_dag, key=lambda each: (len(each.spec.step_id), each.spec.step_id))
    ]
