"""What follows from a step that raised in its last try: who catches it, who is canceled, whether the run ends."""

from __future__ import annotations

from workflow.model import records as r
from workflow.model.fold import unfinished_below
from workflow.model.graph import Value
from workflow.model.state import RunState, StepState
from workflow.model.status import StepPhase, WorkflowStatus


def consequences(state: RunState, step: StepState, failed: r.StepFailed, pickled: Value) -> list[r.Record]:
    """The records that a failure writes, in order. They are stored in one segment, so that it happens whole.

    Args:
        state: before the failure.
        step: the one that raised, after all its tries.
        failed: the record of its failure.
        pickled: its exception, or a stand-in for one that cannot be pickled.

    Returns:
        The step's own `StepCommitted` where it catches; else its `StepFailed`, the `StepCanceled` of what will never
        run, and either the outcome of the dynamic step that catches it or the run's end FAILED.
    """
    if step.spec.options.catch_exceptions:
        return [_caught(state, step, failed, pickled)]
    written: list[r.Record] = [failed]
    if step.catcher is not None:
        doomed = [each for each in unfinished_below(step.catcher) if each is not step]
        written += cancellations(state, doomed, f"step {failed.step_id} failed")
        written.append(_caught(state, step.catcher, failed, pickled))
        return written
    doomed = [each for each in state.running.values() if each is not step]
    written += cancellations(state, doomed, f"step {failed.step_id} failed")
    written.append(r.StatusChanged(WorkflowStatus.FAILED, state.epoch, failed.ended, "StepFailed", failed.error))
    return written


def cancellations(state: RunState, steps: list[StepState], reason: str) -> list[r.Record]:
    """One `StepCanceled` each."""
    return [r.StepCanceled(step.spec.step_id, state.epoch, reason) for step in steps]


def _caught(state: RunState, step: StepState, failed: r.StepFailed, pickled: Value) -> r.StepCommitted:
    number = step.attempt if step.phase is StepPhase.EXPANDED else failed.attempt
    return r.StepCommitted(
        step.spec.step_id,
        state.epoch,
        pickled,
        caught=True,
        text=f"(None, {failed.error.kind}: {failed.error.message})",
        attempt=number,
        started=step.started or failed.started,
        ended=failed.ended,
    )
