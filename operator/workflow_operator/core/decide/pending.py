"""Phase Pending: the Workflow has no cluster and no submission. It waits for missing objects or for another owner.

The wait has a deadline. Only a Workflow with a submission owns a run. A failure in Pending is therefore not written to
the log.
"""

from __future__ import annotations

from workflow_operator.api.status import ClusterStatus, Ending
from workflow_operator.core import names
from workflow_operator.core.actions import AddFinalizer, DeleteCluster
from workflow_operator.core.conditions import Explanation
from workflow_operator.core.decide.attempts import attempt_blocker, secret_problem, start_attempt, store_problem
from workflow_operator.core.decide.canceling import CANCEL_REASON, cancel_owed
from workflow_operator.core.decide.context import SLOW_POLL, Outcome, ReconcileContext, earliest
from workflow_operator.core.decide.ending import stop_on_selected_cluster, terminal_from_log
from workflow_operator.core.decide.failure import is_owned
from workflow_operator.core.decide.freeing import GRACE_SECONDS
from workflow_operator.core.log_facts import Ownership
from workflow_operator.core.owner_names import owner_name
from workflow_operator.core.read_plan import workflow_id_of
from workflow_operator.core.state import Event

_STORE_POLL = 5.0


def pending(context: ReconcileContext) -> Outcome:
    """Decide a round in Pending."""
    finished = terminal_from_log(context)
    if finished:
        return finished
    if context.facts.ownership is Ownership.OURS:
        return _recover_attempt(context)
    if context.cancel_requested:
        return _cancel(context)
    if names.FINALIZER not in context.workflow.finalizers:
        return _add_finalizer(context)
    if context.facts.ownership is Ownership.UNREAD:
        spec_problem = attempt_blocker(context) if context.spec is None else None
        return _wait(context, spec_problem or secret_problem(context) or store_problem(context), _STORE_POLL)
    if context.facts.ownership is Ownership.IN_USE:
        return _wait_for_other_owner(context)
    blocker = attempt_blocker(context)
    if blocker:
        return _wait(context, blocker, SLOW_POLL)
    return start_attempt(context, Explanation("Provisioning", "starting the first attempt"), resume=False)


def _add_finalizer(context: ReconcileContext) -> Outcome:
    """Add the finalizer. If the API server refused that, the condition shows why."""
    if not context.observation.refused:
        return context.stay(Explanation("Accepting", "adding the finalizer"), 1.0, AddFinalizer())
    text = f"the object cannot be changed, so that no attempt can start: {context.observation.refused}"
    explanation = Explanation("FinalizerRefused", text, blocked=True, stalled=True)
    return context.stay(explanation, SLOW_POLL, AddFinalizer())


def _recover_attempt(context: ReconcileContext) -> Outcome:
    """Continue from the log after the status was lost. The next attempt uses the newest ready cluster."""
    explanation = Explanation("AttemptFound", "the log names this Workflow as the owner of the run: continuing it")
    owned = [cluster for cluster in context.observation.clusters if is_owned(context, cluster) and not cluster.deleting]
    newest = max(owned, key=lambda cluster: names.attempt_of(cluster.labels), default=None)
    head = newest.head if newest is not None else None
    found = None
    if newest is not None and head is not None and head.running and head.ready and not head.deleting:
        found = ClusterStatus(name=newest.name, uid=newest.uid, head=head.identity)
    return context.move(Event.ATTEMPT_RECOVERED, explanation, next_attempt_time=context.now, cluster=found)


def _cancel(context: ReconcileContext) -> Outcome:
    """Cancel the Workflow. If there was no attempt, or another owner has the run, write nothing to the log."""
    has_other_owner = context.facts.ownership is Ownership.IN_USE or context.facts.is_free_run_of_other_owner
    if context.state.attempt > 0 and not has_other_owner:
        return context.move(Event.CANCEL_REQUESTED, Explanation("Canceling", "spec.cancel is true"))
    if context.facts.ownership is Ownership.UNREAD and context.observation.run is not None:
        unread = _cancel_unread(context)
        if unread:
            return unread
    explanation = Explanation("Canceled", "canceled before it owned a run")
    outcome = context.move(Event.CANCELED_WITHOUT_RUN, explanation, None, completion_time=context.now)
    return Outcome(outcome.state, explanation, stop_on_selected_cluster(context), None)


def _cancel_unread(context: ReconcileContext) -> Outcome | None:
    """Cancel a Workflow without an attempt in its status, whose log cannot be read.

    If it has clusters, its status was lost, and it may own a run: the clusters are deleted, and the log must be read.

    Returns:
        None if it owns nothing and the store did not return in time, so that it can be canceled.
    """
    since = context.state.cancel_time if context.state.cancel_time is not None else context.now
    owned = [cluster for cluster in context.observation.clusters if is_owned(context, cluster)]
    if owned or context.state.ending is not None:
        ending = Ending(status="CANCELED", reason="Canceled", message=CANCEL_REASON)
        context = context.with_state(cancel_time=since, ending=ending)
        deleted = [DeleteCluster(cluster.name, cluster.uid) for cluster in owned if not cluster.deleting]
        return context.stay(cancel_owed(context), _STORE_POLL, *deleted)
    left = since + GRACE_SECONDS - context.now
    return context.stay(store_problem(context), earliest(_STORE_POLL, left), cancel_time=since) if left > 0 else None


def _wait_for_other_owner(context: ReconcileContext) -> Outcome:
    since = context.state.blocked_since if context.state.blocked_since is not None else context.now
    text = (
        f"workflow id {workflow_id_of(context.workflow)!r} is in use by {owner_name(context.facts.view)}: waiting "
        f"until that run is finished or released; set another spec.workflowId to start a separate run"
    )
    left = since + context.deadline_seconds - context.now
    if left <= 0:
        explanation = Explanation("WorkflowIdInUse", text)
        return context.move(Event.FAILED_WITHOUT_RUN, explanation, None, completion_time=context.now)
    explanation = Explanation("WorkflowIdInUse", text, blocked=True)
    return context.stay(explanation, earliest(_STORE_POLL, left), blocked_since=since)


def _wait(context: ReconcileContext, blocker: Explanation, poll: float) -> Outcome:
    """Wait until nothing blocks the attempt; after the deadline, the Workflow fails."""
    since = context.state.phase_time if context.state.phase_time is not None else context.now
    left = since + context.deadline_seconds - context.now
    if left > 0:
        return context.stay(blocker, earliest(poll, left))
    text = (
        f"no submission was running within {context.deadline_seconds:.0f} s (spec.preRunningDeadlineSeconds): "
        f"{blocker.message}"
    )
    reason = blocker.reason if context.spec is None else "PreRunningDeadlineExceeded"
    return context.move(Event.FAILED_WITHOUT_RUN, Explanation(reason, text), None, completion_time=context.now)
