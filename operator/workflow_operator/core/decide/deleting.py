"""Decides the rounds of a Workflow that is being deleted.

The operator deletes its clusters, releases or ends the run, and deletes checkpoints according to `retention`. If
storage does not accept this in time, the rest becomes a deferred cleanup in the operator's own namespace.

If the namespace is being deleted, its Secrets disappear too. The time is then shorter, and what needs a Secret is
abandoned: it could never be finished. A run that is not released can be resumed after its heartbeat expired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workflow_operator.api.spec import Checkpoints, Retention
from workflow_operator.core.actions import (
    AbandonCleanup,
    Action,
    DeferCleanup,
    DeleteCheckpoints,
    EmitEvent,
    EndRun,
    ReleaseRun,
    RemoveFinalizer,
    RunRef,
)
from workflow_operator.core.conditions import Explanation
from workflow_operator.core.decide.context import Outcome, ReconcileContext, earliest
from workflow_operator.core.decide.ending import stop_on_selected_cluster
from workflow_operator.core.log_facts import DELETED, Ownership, claimed_by_other_object
from workflow_operator.core.log_view import WorkflowStatus
from workflow_operator.core.names import FINALIZER
from workflow_operator.core.observation import Loss
from workflow_operator.core.state import TERMINAL

DEADLINE_SECONDS = 40.0
"""After this time, a cleanup that storage did not accept is deferred. Rounds and calls add up to 20 seconds."""

TERMINATING_SECONDS = 5.0
"""The same if the namespace is being deleted, so that it is gone within 30 seconds."""

REFUSED_SECONDS = 15.0
"""After this further time, a cleanup that cannot be deferred is abandoned."""

_POLL = 5.0
_REASON = "the Workflow object was deleted"


@dataclass(frozen=True, slots=True)
class PendingCleanup:
    """A change in storage that must happen before the object may be removed.

    Attributes:
        what: the kind of the cleanup, as `DeferCleanup` records it.
        action: the action that makes the change.
        run: the run to change.
    """

    what: Literal["release", "cancel", "delete"]
    action: Action
    run: RunRef


def deleting(context: ReconcileContext) -> Outcome:
    """Decide a round of a Workflow with a deletionTimestamp, in any phase."""
    explanation = Explanation("Deleting", _REASON)
    without_cluster = context.with_state(cluster=None)
    if FINALIZER not in context.workflow.finalizers:
        return without_cluster.stay(explanation, None)
    stop = stop_on_selected_cluster(context)
    cleanup = _pending_cleanup(context)
    if cleanup is None:
        if context.facts.is_free_run_of_other_owner and context.state.submission is not None:
            # The submission may have claimed the run after this observation: stop it, and observe once more.
            return without_cluster.with_state(submission=None).stay(explanation, _POLL, *stop)
        return without_cluster.stay(explanation, _POLL, *stop, RemoveFinalizer())
    deleted = context.workflow.deleted if context.workflow.deleted is not None else context.now
    limit = TERMINATING_SECONDS if context.observation.namespace_terminating else DEADLINE_SECONDS
    left = deleted + limit - context.now
    if left <= 0:
        return without_cluster.stay(explanation, _POLL, *stop, *_give_up(context, cleanup, -left), RemoveFinalizer())
    # If the Secret is gone, the log is not read again, so the success of the action is enough.
    last = (RemoveFinalizer(),) if _lacks_secret(context) else ()
    return without_cluster.stay(explanation, earliest(_POLL, left), *stop, cleanup.action, *last)


def _lacks_secret(context: ReconcileContext) -> bool:
    secret = context.observation.secret
    return secret is not None and (not secret.present or bool(secret.missing))


def _give_up(context: ReconcileContext, cleanup: PendingCleanup, late: float) -> tuple[Action, ...]:
    """Defer a cleanup, or abandon it if nothing could finish it later.

    Args:
        context: the current round.
        cleanup: what storage did not accept.
        late: seconds since the time limit.
    """
    if context.observation.namespace_terminating and cleanup.run.store.secret:
        why = f"namespace {context.workflow.namespace} is being deleted together with Secret {cleanup.run.store.secret}"
    elif context.observation.refused and late >= REFUSED_SECONDS:
        why = f"it cannot be deferred: {context.observation.refused}"
    else:
        return (DeferCleanup(context.workflow.namespace, cleanup.run, cleanup.what),)
    text = f"run {cleanup.run.run_number} of workflow id {cleanup.run.workflow_id!r} stays in storage as it is: {why}"
    return (EmitEvent("Warning", "CleanupAbandoned", text), AbandonCleanup(cleanup.run, cleanup.what, why))


def _pending_cleanup(context: ReconcileContext) -> PendingCleanup | None:
    """Return the next change that storage needs, or None if there is nothing left to do."""
    run, ownership = context.run(), context.facts.ownership
    if run is None or (context.state.attempt == 0 and ownership is not Ownership.OURS):
        return None
    if context.facts.loss is Loss.RUN:
        return None
    if context.state.phase in TERMINAL and ownership not in (Ownership.ENDED, Ownership.UNREAD):
        return None
    delete = PendingCleanup("delete", DeleteCheckpoints(run), run)
    cancel = PendingCleanup("cancel", EndRun(run, "CANCELED", DELETED, _REASON), run)
    release = PendingCleanup("release", ReleaseRun(run, _REASON), run)
    may_continue = _may_continue_later(context)
    match ownership:
        case Ownership.UNREAD:
            return _cleanup_of_unread_run(context, delete, release if may_continue else cancel)
        case Ownership.ENDED:
            foreign = claimed_by_other_object(context.workflow, context.facts.view)
            return delete if _deletes_checkpoints(context) and not foreign and not _is_tombstone(context) else None
        case Ownership.OURS:
            if _retention(context) is Retention.DELETE:
                return delete
            if may_continue:
                return None if _is_released(context) else release
            return cancel
        case Ownership.FREE if (
            not context.facts.is_free_run_of_other_owner and context.facts.run_number == context.state.run_number
        ):
            return cancel  # this writes a tombstone, so that a late submission cannot create the run
        case _:
            return None


def _cleanup_of_unread_run(
    context: ReconcileContext, delete: PendingCleanup, unfinished: PendingCleanup
) -> PendingCleanup | None:
    """Return the cleanup of a run whose log could not be read. The action itself reads the log again.

    Args:
        context: the current round.
        delete: the cleanup that deletes the checkpoints.
        unfinished: the cleanup for an unfinished run.
    """
    if _retention(context) is Retention.DELETE:
        return delete
    if context.state.completion_time is not None:
        return delete if _deletes_checkpoints(context) else None
    return unfinished


def _retention(context: ReconcileContext) -> Retention:
    return (context.spec.checkpoints if context.spec else Checkpoints()).retention


def _deletes_checkpoints(context: ReconcileContext) -> bool:
    """Return whether the checkpoints of this finished run are deleted together with the object."""
    retention, view = _retention(context), context.facts.view
    succeeded = context.state.condition("Succeeded") is not None
    succeeded = succeeded or (view is not None and view.status is WorkflowStatus.SUCCESSFUL)
    return retention is Retention.DELETE or (retention is Retention.DELETE_ON_SUCCESS and succeeded)


def _may_continue_later(context: ReconcileContext) -> bool:
    """Return whether a later object may continue this run: it sets `workflowId`, and the checkpoints are retained."""
    has_workflow_id = context.spec is not None and context.spec.workflow_id is not None
    return has_workflow_id and _retention(context) is not Retention.DELETE


def _is_released(context: ReconcileContext) -> bool:
    """Return whether the last claim, which this Workflow made, is the operator's own and released the run."""
    view = context.facts.view
    if view is None or view.owner is None:
        return False
    claimed_by_operator = not view.owner.incarnation  # a manager always has an incarnation
    return view.status is WorkflowStatus.RESUMABLE and claimed_by_operator


def _is_tombstone(context: ReconcileContext) -> bool:
    return context.facts.view is not None and context.facts.view.tombstone
