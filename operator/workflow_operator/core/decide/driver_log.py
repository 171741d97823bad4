"""Decides when the end of a driver's log is copied to storage: once, when its attempt ends and its head replied.

The copy is a best effort. It happens after the status was written, so it never delays the end of an attempt. The next
round records in the status where the copy is, or why the log is lost.
"""

from __future__ import annotations

from workflow_operator.api.status import DriverLog, WorkflowState
from workflow_operator.core.actions import Action, StoreDriverLog
from workflow_operator.core.decide.context import ReconcileContext
from workflow_operator.core.observation import JobState, SubmissionView
from workflow_operator.core.read_plan import head_to_query
from workflow_operator.core.state import TERMINAL

NOT_STORED_YET = "the operator has not stored it yet"


def driver_log(context: ReconcileContext, state: WorkflowState) -> tuple[DriverLog | None, tuple[Action, ...]]:
    """Return the driver's log for the new state, and the action that copies it.

    Args:
        context: the current round.
        state: the new state.
    """
    before, stored = context.workflow.state, context.observation.driver_log
    if not _attempt_ended(context, state):
        recorded = state.driver_log
        is_news = stored is not None and recorded is not None and stored.attempt == recorded.attempt
        return (stored if is_news else recorded), ()
    run, head = context.run(), head_to_query(context.workflow, context.observation.named)
    job = context.observation.submission
    if not isinstance(job, SubmissionView) or head is None or before.cluster is None:
        name = before.cluster.name if before.cluster is not None else ""
        text = f"lost, because the head of RayCluster {name} did not reply at the end of the attempt"
        return DriverLog(attempt=before.attempt, message=text), ()
    if job.state is JobState.UNKNOWN or run is None or before.submission is None:
        return DriverLog(attempt=before.attempt, message="the submission did not start"), ()
    action = StoreDriverLog(run, head, before.submission.id, before.attempt)
    return DriverLog(attempt=before.attempt, message=NOT_STORED_YET), (action,)


def _attempt_ended(context: ReconcileContext, state: WorkflowState) -> bool:
    """Return whether this round ends an attempt whose driver may have run."""
    before = context.workflow.state
    if before.submission is None or before.cluster is None or before.cluster.head is None:
        return False
    if context.workflow.deleted is not None:
        return False
    has_ended = state.submission is None or state.submission.id != before.submission.id
    return has_ended or state.phase in TERMINAL
