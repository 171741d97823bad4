"""The object is being deleted: what we made goes, the run is left or ended, checkpoints go by `retention`.

Bounded in time: what storage did not take by then is noted as a debt in the operator's own namespace. Never creates
anything in the Workflow's namespace, which may be going away itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workflow_operator.api.spec import Checkpoints, Retention
from workflow_operator.core.actions import (
    Action,
    DeferCleanup,
    DeleteCheckpoints,
    EndRun,
    ReleaseRun,
    RemoveFinalizer,
    RunRef,
)
from workflow_operator.core.conditions import Note
from workflow_operator.core.decide.context import Outcome, ReconcileContext, sooner
from workflow_operator.core.decide.ending import stop_reused
from workflow_operator.core.log_facts import DELETED, Ownership, is_mine
from workflow_operator.core.log_view import WorkflowStatus
from workflow_operator.core.names import FINALIZER
from workflow_operator.core.state import TERMINAL

DEADLINE_SECONDS = 120.0
_POLL = 5.0
_WHY = "the Workflow object was deleted"


@dataclass(frozen=True, slots=True)
class PendingCleanup:
    """What storage is still owed before the object may go."""

    what: Literal["release", "cancel", "delete"]
    action: Action
    run: RunRef


def deleting(context: ReconcileContext) -> Outcome:
    """One round of an object with a deletionTimestamp, in any phase."""
    note = Note("Deleting", _WHY)
    gone = context.with_state(cluster=None)
    if FINALIZER not in context.workflow.finalizers:
        return gone.stays(note, None)
    stops = stop_reused(context)
    owed = _owed(context)
    if owed is None and context.facts.left_by_another and context.state.submission is not None:
        # The submission may have come to own the run just now: stop it, and look once more.
        return gone.with_state(submission=None).stays(note, _POLL, *stops)
    if owed is None:
        return gone.stays(note, _POLL, *stops, RemoveFinalizer())
    deleted = context.workflow.deleted if context.workflow.deleted is not None else context.now
    left = deleted + DEADLINE_SECONDS - context.now
    if left <= 0:
        debt = DeferCleanup(context.workflow.namespace, owed.run, owed.what)
        return gone.stays(note, _POLL, *stops, debt, RemoveFinalizer())
    return gone.stays(note, sooner(_POLL, left), *stops, owed.action)


def _owed(context: ReconcileContext) -> PendingCleanup | None:
    """The next thing that the run's log needs, or None when nothing is left to do there."""
    run = context.run()
    if run is None or (context.state.attempt == 0 and context.facts.ownership is not Ownership.OURS):
        return None
    if context.state.phase in TERMINAL and context.facts.ownership not in (Ownership.ENDED, Ownership.UNREAD):
        return None
    delete = PendingCleanup("delete", DeleteCheckpoints(run), run)
    cancel = PendingCleanup("cancel", EndRun(run, "CANCELED", DELETED, _WHY), run)
    release = PendingCleanup("release", ReleaseRun(run, _WHY), run)
    live = release if _may_go_on(context) else cancel
    match context.facts.ownership:
        case Ownership.UNREAD:
            return _owed_unread(context, delete, live)
        case Ownership.ENDED:
            return delete if _goes(context) and not _nothing_stored(context) else None
        case Ownership.OURS:
            if _retention(context) is Retention.DELETE:
                return delete
            return None if live is release and _said_goodbye(context) else live
        case Ownership.FREE if (
            not context.facts.left_by_another and context.facts.run_number == context.state.run_number
        ):
            return cancel  # a tombstone, so that a late submission finds its name taken
        case _:
            return None


def _owed_unread(context: ReconcileContext, delete: PendingCleanup, live: PendingCleanup) -> PendingCleanup | None:
    """What to note where the log could not be read: the worker of debts looks again at the log itself."""
    if _retention(context) is Retention.DELETE:
        return delete
    if context.state.completion_time is not None:
        return delete if _goes(context) else None
    return live


def _retention(context: ReconcileContext) -> Retention:
    return (context.spec.checkpoints if context.spec else Checkpoints()).retention


def _goes(context: ReconcileContext) -> bool:
    """The checkpoints of this ended run go with the object."""
    retention, view = _retention(context), context.facts.view
    succeeded = context.state.condition("Succeeded") is not None
    succeeded = succeeded or (view is not None and view.status is WorkflowStatus.SUCCESSFUL)
    return retention is Retention.DELETE or (retention is Retention.DELETE_ON_SUCCESS and succeeded)


def _may_go_on(context: ReconcileContext) -> bool:
    """A later object may continue this run: its id was given, and its checkpoints stay."""
    given = context.spec is not None and context.spec.workflow_id is not None
    return given and _retention(context) is not Retention.DELETE


def _said_goodbye(context: ReconcileContext) -> bool:
    """The last claim is one that the operator made for this object, and it left."""
    view = context.facts.view
    if view is None or view.owner is None or not is_mine(context.workflow, view):
        return False
    return view.status is WorkflowStatus.RESUMABLE and not view.owner.incarnation


def _nothing_stored(context: ReconcileContext) -> bool:
    return context.facts.view is not None and context.facts.view.tombstone
