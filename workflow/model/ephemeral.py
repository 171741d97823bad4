"""Ephemeral values, which steps with `checkpoint=False` return: which steps consume them, and what a loss repeats.

Only `fold` changes the state through this module. The engine reads from it which values it can release. The owner of an
epoch keeps its ephemeral values in memory. The next claim loses all of them, and the steps whose values are still
needed run again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from workflow.model.state import EphemeralLoss, RunState, StepState
from workflow.model.status import StepPhase

P = StepPhase

NEEDS_INPUTS = frozenset({P.WAITING, P.READY, P.RUNNING})
"""Phases in which a step still needs the outcomes of its parents."""


def with_same_outcome(step: StepState) -> Iterator[StepState]:
    """Yield the step, and each dynamic step that has this step's outcome as its own."""
    yield step
    while step.resolves is not None:
        step = step.resolves
        yield step


def ephemeral_inputs(state: RunState, step: StepState) -> list[str]:
    """Return the ids of the steps whose ephemeral values are arguments of `step`."""
    outcomes = (state.steps[parent].outcome for parent in step.spec.parents)
    return [outcome.ephemeral_step for outcome in outcomes if outcome is not None and outcome.ephemeral_step]


def add(state: RunState, step: StepState) -> None:
    """Record that the step returned an ephemeral value, with the number of steps that still need it."""
    dependants = [dependant for each in with_same_outcome(step) for dependant in each.dependants]
    state.ephemeral[step.spec.step_id] = sum(dependant.phase in NEEDS_INPUTS for dependant in dependants)


def release_inputs(state: RunState, step: StepState) -> None:
    """Record that the step, which leaves its phase now, no longer needs the ephemeral values of its parents."""
    if state.ephemeral and step.phase in NEEDS_INPUTS:
        for step_id in ephemeral_inputs(state, step):
            state.ephemeral[step_id] -= 1


def lost(state: RunState, lost_ids: Iterable[str]) -> list[StepState]:
    """Return all steps that must run again because ephemeral values are lost.

    Args:
        state: the state before any of these values is invalidated.
        lost_ids: ids of the steps whose values are lost.

    Returns:
        These steps, and the steps whose values they need in turn and that are already released. Each step is returned
        once.
    """
    found: dict[str, StepState] = {}
    pending = [step_id for step_id in lost_ids if step_id in state.ephemeral]
    while pending:
        step_id = pending.pop()
        if step_id not in found:
            found[step_id] = step = state.steps[step_id]
            released_inputs = [each for each in ephemeral_inputs(state, step) if state.ephemeral[each] == 0]
            pending += released_inputs
    return list(found.values())


def invalidate(state: RunState, step: StepState) -> None:
    """Undo the outcome of a step whose ephemeral value is lost.

    The dynamic steps that have the same outcome are expanded again, and the steps that need it wait again.
    """
    state.journal.append(EphemeralLoss(step))
    del state.ephemeral[step.spec.step_id]
    for each in with_same_outcome(step):
        each.outcome = None
        state.set_phase(each, P.EXPANDED)
        for dependant in each.dependants:
            dependant.pending_parents += 1
            if dependant.phase in (P.READY, P.RUNNING):
                state.set_phase(dependant, P.WAITING)
                state.deactivate(dependant)
    step.attempt = step.failed_attempts = 0
    state.set_phase(step, P.WAITING)
    if not step.pending_parents:
        state.make_ready(step)
    for step_id in ephemeral_inputs(state, step):
        state.ephemeral[step_id] += 1


def invalidate_all(state: RunState) -> None:
    """Invalidate every ephemeral value at the start of an epoch. Steps whose values are still needed run again."""
    if state.ephemeral:
        consumers = [step for step in state.steps.values() if step.phase in NEEDS_INPUTS]
        # No value survives an epoch, so every value counts as released: `lost` must find all steps that run again.
        for step_id in state.ephemeral:
            state.ephemeral[step_id] = 0
        needed = (step_id for consumer in consumers for step_id in ephemeral_inputs(state, consumer))
        for step in lost(state, needed):
            invalidate(state, step)
