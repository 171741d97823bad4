"""Decides what follows if a store that replies lacks stored data of a run that was read from it before.

The condition `CheckpointsLost` shows this at once. A second observation confirms it before anything is deleted. If the
whole run is missing, the Workflow then fails. If an object or the bucket is missing, it may be restored: the compute is
freed, and the Workflow waits without another attempt.
"""

from __future__ import annotations

from dataclasses import replace

from workflow_operator.api.status import Phase, WorkflowState
from workflow_operator.core.decide.context import Outcome, ReconcileContext, earliest
from workflow_operator.core.decide.ending import stop_on_selected_cluster
from workflow_operator.core.decide.failure import DetectedFailure, fail_attempt
from workflow_operator.core.log_facts import LogFacts, Ownership
from workflow_operator.core.loss import REASON, explain
from workflow_operator.core.observation import Loss
from workflow_operator.core.state import Event

CONFIRM_SECONDS = {Loss.RUN: 15.0, Loss.OBJECT: 15.0, Loss.BUCKET: 60.0}
"""Seconds for which the data must be missing before the operator acts. A server that starts may not have loaded its
buckets yet."""

_POLL = 5.0
_WITH_SUBMISSION = (Phase.PROVISIONING, Phase.RUNNING)


def update(state: WorkflowState, facts: LogFacts, now: float) -> WorkflowState:
    """Record since when data is missing. A read of the log that succeeds clears the time.

    Args:
        state: the state of the Workflow.
        facts: what the log implies in this round.
        now: seconds since 1970.
    """
    if facts.loss is not None and state.checkpoints_lost_since is None:
        return state.model_copy(update={"checkpoints_lost_since": now})
    if facts.ownership is not Ownership.UNREAD and state.checkpoints_lost_since is not None:
        return state.model_copy(update={"checkpoints_lost_since": None})
    return state


def lost(context: ReconcileContext) -> Outcome | None:
    """Return what follows from missing data, or None if the phase decides."""
    loss = context.facts.loss
    if loss is None:
        return None
    explanation = explain(context.state, context.observation.run, loss, context.now)
    since = context.state.checkpoints_lost_since
    left = (since if since is not None else context.now) + CONFIRM_SECONDS[loss] - context.now
    has_submission = context.state.phase in _WITH_SUBMISSION
    if loss is not Loss.RUN and not has_submission:
        return None
    if left > 0:
        return context.stay(explanation, earliest(_POLL, left))
    if loss is Loss.RUN:
        outcome = context.move(Event.CHECKPOINTS_LOST, explanation, None, completion_time=context.now)
    else:
        failure = DetectedFailure(REASON, explanation.message)
        outcome = replace(fail_attempt(context, failure), explanation=explanation)
    return replace(outcome, actions=(*outcome.actions, *stop_on_selected_cluster(context)))
