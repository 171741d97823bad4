"""Snapshots: the state of a run as records that fold to the same state.

The fold checks these records as it checks those of the log. A snapshot can therefore only contain a state that a log
could have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from workflow.model import records as r
from workflow.model.graph import Graph
from workflow.model.state import EphemeralLoss, RunState, StepState
from workflow.model.status import StepPhase


def compact(state: RunState) -> list[r.Record]:
    """Return the records of a snapshot of an unfinished run."""
    records: list[r.Record] = [
        r.SnapshotHeader(
            seq=state.seq,
            epoch=state.epoch,
            owner=state.owner,
            epoch_started=state.epoch_started,
            status=state.status,
            released=state.released,
            epochs_without_progress=state.epochs_without_progress,
            suspect_steps=state.suspect_steps,
            handled_requests=tuple(sorted(state.handled_requests)),
            functions=dict(state.functions),
        )
    ]
    records += _history(state)
    records += [_failure(step) for step in state.steps.values() if step.phase is StepPhase.FAILED]
    records += [
        r.StepCanceled(step.spec.step_id, step.epoch, "canceled before the snapshot")
        for step in state.steps.values()
        if step.phase is StepPhase.CANCELED
    ]
    records += [
        r.StepStarted(step.spec.step_id, step.epoch, step.attempt, step.started, step.failed_attempts, step.last_error)
        for step in state.running.values()
    ]
    records += [r.TimerSet(step.spec.step_id, step.epoch, step.started, step.due) for step in state.sleeping.values()]
    return records


def _history(state: RunState) -> Iterator[r.Record]:
    """Yield the records of outcomes and expansions, in their order in the journal.

    A lost ephemeral value has two records, as in the log: one for the value and one for its loss.
    """
    losses = Counter(entry.step.spec.step_id for entry in state.journal if isinstance(entry, EphemeralLoss))
    expanded: set[str] = set()
    for entry in state.journal:
        if isinstance(entry, EphemeralLoss):
            losses[entry.step.spec.step_id] -= 1
            yield r.StepEphemeralLost(entry.step.spec.step_id, state.epoch)
        elif losses[entry.spec.step_id]:
            yield r.StepReturnedEphemeral(entry.spec.step_id, state.epoch)
        elif entry.members and entry.spec.step_id not in expanded:
            expanded.add(entry.spec.step_id)
            yield _expansion(entry)
        else:
            yield _outcome(entry)


def _expansion(step: StepState) -> r.StepExpanded:
    output = next(each for each in step.members if each.resolves is step)
    graph = Graph(tuple(each.spec for each in step.members), output.spec.step_id)
    return r.StepExpanded(
        step.spec.step_id, step.epoch, graph, attempt=step.attempt, started=step.started, ended=step.ended
    )


def _outcome(step: StepState) -> r.StepCommitted | r.StepReturnedEphemeral | r.WaitDecided:
    outcome = step.outcome
    assert outcome is not None, "a step in the journal has an outcome, or its first entry is its expansion"
    if step.spec.wait is not None:
        assert outcome.waited is not None, "the outcome of a wait is what it decided"
        ready = tuple(parent for parent in step.spec.parents if parent not in outcome.waited.remaining)
        return r.WaitDecided(step.spec.step_id, step.epoch, ready, step.started, step.ended)
    if outcome.ephemeral_step:
        return r.StepReturnedEphemeral(step.spec.step_id, step.epoch, step.attempt, step.started, step.ended)
    return r.StepCommitted(
        step.spec.step_id,
        step.epoch,
        outcome.value,
        caught=outcome.caught,
        text=step.text,
        attempt=step.attempt,
        started=step.started,
        ended=step.ended,
    )


def _failure(step: StepState) -> r.StepFailed:
    assert step.error is not None, "a failed step has its error"
    return r.StepFailed(
        step.spec.step_id,
        step.epoch,
        step.error,
        step.error_value,
        attempt=step.attempt,
        started=step.started,
        ended=step.ended,
    )
