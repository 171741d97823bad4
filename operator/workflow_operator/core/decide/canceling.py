"""Phase Canceling: the run is to become CANCELED. The Workflow is Canceled when the log contains that state.

If a live manager owns the run, the operator requests it to cancel, so that it can stop its steps in order. Without such
a manager, or if it does not cancel within 60 seconds, the operator frees the compute and writes the terminal state
itself. If the log cannot be read, the compute is freed after 30 seconds, and the terminal state is written later.
"""

from __future__ import annotations

from dataclasses import replace

from workflow_operator.api.status import Ending
from workflow_operator.core.actions import RequestCancel
from workflow_operator.core.conditions import Explanation
from workflow_operator.core.decide.attempts import store_problem
from workflow_operator.core.decide.context import Outcome, ReconcileContext, earliest
from workflow_operator.core.decide.ending import end_run, stop_on_selected_cluster, terminal_from_log
from workflow_operator.core.decide.failure import cluster_failure
from workflow_operator.core.decide.freeing import free_compute, grace_left, owed
from workflow_operator.core.log_facts import Ownership
from workflow_operator.core.state import Event

_POLL = 2.0
_STORE_POLL = 5.0
_MANAGER_SECONDS = 60.0
CANCEL_REASON = "spec.cancel is true"


def canceling(context: ReconcileContext) -> Outcome:
    """Decide a round in Canceling."""
    finished = terminal_from_log(context)
    if finished:
        return finished
    ownership = context.facts.ownership
    if ownership is Ownership.UNREAD:
        return _wait_for_store(context)
    if ownership is Ownership.IN_USE or context.facts.is_free_run_of_other_owner:
        explanation = Explanation("Canceled", "canceled before it owned a run")
        outcome = context.move(Event.CANCELED_WITHOUT_RUN, explanation, None, completion_time=context.now)
        return replace(outcome, actions=stop_on_selected_cluster(context))
    has_cluster = context.state.cluster is not None and not cluster_failure(context)
    may_request = context.state.ending is None and has_cluster and not context.observation.refused
    if ownership is Ownership.OURS and context.facts.owner_alive and may_request:
        requested = _request_cancel(context)
        if requested:
            return requested
    context = context.with_state(ending=Ending(status="CANCELED", reason="Canceled", message=CANCEL_REASON))
    context, stop = free_compute(context)
    if context.observation.refused:
        return context.stay(cancel_owed(context), _STORE_POLL, *stop, *end_run(context))
    text = "no manager stops the run: writing the state CANCELED to its log"
    return context.stay(Explanation("EndingRun", text), _POLL, *stop, *end_run(context))


def cancel_owed(context: ReconcileContext) -> Explanation:
    """Explain that the compute is freed, and that the store must still accept the state CANCELED."""
    return owed(context, "CancelOwed", "the state CANCELED")


def _wait_for_store(context: ReconcileContext) -> Outcome:
    """Wait until the log can be read. After the grace period, the compute does not wait for it."""
    since = context.state.phase_time if context.state.phase_time is not None else context.now
    left = grace_left(context, since)
    if left > 0:
        return context.stay(store_problem(context), earliest(_STORE_POLL, left))
    context, stop = free_compute(context)
    return context.stay(cancel_owed(context), _STORE_POLL, *stop)


def _request_cancel(context: ReconcileContext) -> Outcome | None:
    """Request the manager to cancel, or return None after the time limit.

    Each round repeats the request, because the process may have been killed before the first one was sent.
    """
    run, requested_at = context.run(), context.state.cancel_time or context.now
    left = requested_at + _MANAGER_SECONDS - context.now
    if run is None or left <= 0:
        return None
    explanation = Explanation("CancelRequested", "the manager of the run was requested to stop its steps")
    action = RequestCancel(run, CANCEL_REASON)
    return context.stay(explanation, earliest(_POLL, left), action, cancel_time=requested_at)
