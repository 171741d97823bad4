"""Values that are held and not stored, of steps with `checkpoint=False`: who still takes them, what is lost with them.

Called by `fold`, which alone changes the state, and by the engine, which asks what to let go. A held value lives with
the owner of its epoch: the next claim loses all of them, and the steps whose values are still needed run again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from workflow.model.state import EphemeralLoss, RunState, StepState
from workflow.model.status import StepPhase

P = StepPhase

TAKING = frozenset({P.WAITING, P.READY, P.RUNNING})
"""Phases in which a step still needs the outcomes of its parents."""


def risen(step: StepState) -> Iterator[StepState]:
    """The step, and each dynamic step that got this step's outcome as its own."""
    yield step
    while step.resolves is not None:
        step = step.resolves
        yield step


def held_parents(state: RunState, step: StepState) -> list[str]:
    """Ids of the steps whose held values stand in the arguments of `step`."""
    outcomes = (state.steps[parent].outcome for parent in step.spec.parents)
    return [outcome.held for outcome in outcomes if outcome is not None and outcome.held]


def hold(state: RunState, step: StepState) -> None:
    """The step has passed: count the steps that take its value."""
    takers = sum(1 for each in risen(step) for taker in each.dependants if taker.phase in TAKING)
    state.ephemeral[step.spec.step_id] = takers


def let_go(state: RunState, step: StepState) -> None:
    """The step leaves the phase that it is in: from then on it needs its parents' outcomes no longer."""
    if state.ephemeral and step.phase in TAKING:
        for held in held_parents(state, step):
            state.ephemeral[held] -= 1


def lost(state: RunState, gone: Iterable[str]) -> list[StepState]:
    """All steps that have to run again because some held values are gone.

    Args:
        state: before any of them is voided.
        gone: ids of steps that passed.

    Returns:
        These steps, and those whose values they take in turn and that were let go already, each once.
    """
    found: dict[str, StepState] = {}
    waiting = [step_id for step_id in gone if step_id in state.ephemeral]
    while waiting:
        step_id = waiting.pop()
        if step_id not in found:
            found[step_id] = step = state.steps[step_id]
            waiting += [held for held in held_parents(state, step) if not state.ephemeral[held]]
    return list(found.values())


def void(state: RunState, step: StepState) -> None:
    """The step's value is gone: it, the dynamic steps that had it as their outcome, and its takers stand as before."""
    state.journal.append(EphemeralLoss(step))
    del state.ephemeral[step.spec.step_id]
    for each in risen(step):
        each.outcome = None
        state.set_phase(each, P.EXPANDED)
        for taker in each.dependants:
            taker.pending_parents += 1
            if taker.phase in (P.READY, P.RUNNING):
                state.set_phase(taker, P.WAITING)
                state.deactivate(taker)
    step.attempt = step.failed_attempts = 0
    state.set_phase(step, P.WAITING)
    if not step.pending_parents:
        state.make_ready(step)
    for held in held_parents(state, step):
        state.ephemeral[held] += 1


def void_all(state: RunState) -> None:
    """A new epoch: every held value is gone, and the steps whose values are needed by one that may run, run again."""
    if state.ephemeral:
        # Every value is lost, needed or not: none is left that a voided step could take.
        takers = [step for step in state.steps.values() if step.phase in TAKING]
        for held in state.ephemeral:
            state.ephemeral[held] = 0
        for step in lost(state, (held for taker in takers for held in held_parents(state, taker))):
            void(state, step)
