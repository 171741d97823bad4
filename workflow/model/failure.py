"""The consequences of a step that raised in its last attempt: which step catches it, and which steps are canceled."""

from __future__ import annotations

from workflow.model import records as r
from workflow.model.fold import unfinished_below
from workflow.model.graph import Value
from workflow.model.state import RunState, StepState
from workflow.model.status import StepPhase, WorkflowStatus


def consequences(state: RunState, step: StepState, failed: r.StepFailed, pickled: Value) -> list[r.Record]:
    """Return the records that a failure causes, in order. They are stored in one segment, so they take effect together.

    Args:
        state: the state before the failure.
        step: the step that raised in its last attempt.
        failed: the record of the failure.
        pickled: the pickled exception, or a pickled substitute for an exception that cannot be pickled.

    Returns:
        If the step catches exceptions, its own `StepCommitted`. Otherwise its `StepFailed`, a `StepCanceled` for each
        step that will not run, and a last record: the `StepCommitted` of the dynamic step that catches the exception,
        or the change of the run's status to FAILED.
    """
    if step.spec.options.catch_exceptions:
        return [_caught(state, step, failed, pickled)]
    written: list[r.Record] = [failed]
    reason = f"step {failed.step_id} failed"
    if step.catcher is not None:
        canceled = [each for each in unfinished_below(step.catcher) if each is not step]
        written += cancellations(state, canceled, reason)
        written.append(_caught(state, step.catcher, failed, pickled))
        return written
    canceled = [each for each in state.running.values() if each is not step]
    written += cancellations(state, canceled, reason)
    written.append(r.StatusChanged(WorkflowStatus.FAILED, state.epoch, failed.ended, "StepFailed", failed.error))
    return written


def cancellations(state: RunState, steps: list[StepState], reason: str) -> list[r.Record]:
    """Return a `StepCanceled` for each step."""
    return [r.StepCanceled(step.spec.step_id, state.epoch, reason) for step in steps]


def _caught(state: RunState, step: StepState, failed: r.StepFailed, pickled: Value) -> r.StepCommitted:
    # A dynamic step has its own attempt: the one that returned the DAG in which the failed step is.
    attempt = step.attempt if step.phase is StepPhase.EXPANDED else failed.attempt
    return r.StepCommitted(
        step.spec.step_id,
        state.epoch,
        pickled,
        caught=True,
        text=f"(None, {failed.error.kind}: {failed.error.message})",
        attempt=attempt,
        started=step.started or failed.started,
        ended=failed.ended,
    )
