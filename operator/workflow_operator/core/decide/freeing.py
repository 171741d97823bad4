"""Frees the compute of a Workflow whose run cannot be ended in order, because its log cannot be read or written.

The log is changed later, when the store accepts it. Canceling uses these functions. They do not depend on the phase.
"""

from __future__ import annotations

from workflow_operator.core.actions import Action
from workflow_operator.core.conditions import Explanation
from workflow_operator.core.decide.attempts import store_problem
from workflow_operator.core.decide.context import ReconcileContext
from workflow_operator.core.decide.ending import stop_on_selected_cluster
from workflow_operator.core.observation import JobState, SubmissionView

GRACE_SECONDS = 30.0
"""Time for the store to return before the compute is freed without it, in seconds."""

_LIVE = frozenset({JobState.PENDING, JobState.RUNNING})


def grace_left(context: ReconcileContext, since: float) -> float:
    """Return the seconds for which the compute is kept, so that the manager can stop its steps in order.

    Args:
        context: the current round.
        since: when the user requested to free the compute, in seconds since 1970.

    Returns:
        The seconds; zero or less if the time has passed, or if nothing was submitted to the cluster.
    """
    cluster = context.state.cluster
    if cluster is None or cluster.head is None:
        return 0.0
    return since + GRACE_SECONDS - context.now


def free_compute(context: ReconcileContext) -> tuple[ReconcileContext, tuple[Action, ...]]:
    """Give up the cluster of the current attempt.

    A cluster that the operator created leaves the state, so `decide` deletes it. A selected cluster stays in the state,
    and its submission is stopped in each round in which the head reports it as live.
    """
    cluster, job = context.state.cluster, context.observation.submission
    if cluster is None:
        return context, ()
    if cluster.provisioned:
        return context.with_state(cluster=None), ()
    is_live = isinstance(job, SubmissionView) and job.state in _LIVE
    return context, stop_on_selected_cluster(context) if is_live else ()


def owed(context: ReconcileContext, reason: str, what: str) -> Explanation:
    """Explain that the compute is freed, and what must still be written to the log.

    Args:
        context: the current round.
        reason: one CamelCase word.
        what: what must be written, for example `the state CANCELED`.
    """
    run = context.run()
    where = f" to the log of run {run.run_number} of workflow id {run.workflow_id!r}" if run is not None else ""
    problem = store_problem(context)
    cause = context.observation.refused or f"{problem.reason}: {problem.message}"
    text = f"the compute is freed; the operator writes {what}{where} when the store accepts it. Last problem: {cause}"
    return Explanation(reason, text, blocked=True, stalled=problem.stalled)
