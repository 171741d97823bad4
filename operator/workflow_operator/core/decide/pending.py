"""Pending: nothing of this object runs. It waits for what is missing, or for an id that another owner has.

The wait is bounded: an object that never submitted anything owns no run, so its end needs no word in the log.
"""

from __future__ import annotations

from workflow_operator.core import names
from workflow_operator.core.actions import AddFinalizer
from workflow_operator.core.conditions import Note
from workflow_operator.core.decide.attempts import begin, obstacle, secret_note, store_note
from workflow_operator.core.decide.context import SLOW_POLL, Outcome, ReconcileContext, sooner
from workflow_operator.core.decide.ending import from_log, stop_reused
from workflow_operator.core.log_facts import Ownership
from workflow_operator.core.read_plan import workflow_id_of
from workflow_operator.core.state import Event

_STORE_POLL = 5.0


def pending(context: ReconcileContext) -> Outcome:
    """One round in Pending."""
    ended = from_log(context)
    if ended:
        return ended
    if context.facts.ownership is Ownership.OURS:
        return _found(context)
    if context.cancel_wanted:
        return _cancel(context)
    if names.FINALIZER not in context.workflow.finalizers:
        return context.stays(Note("Accepting", "the finalizer is being added"), 1.0, AddFinalizer())
    if context.facts.ownership is Ownership.UNREAD:
        blocker = (obstacle(context) if context.spec is None else None) or secret_note(context) or store_note(context)
        return _wait(context, blocker, _STORE_POLL)
    if context.facts.ownership is Ownership.IN_USE:
        return _in_use(context)
    blocker_found = obstacle(context)
    if blocker_found:
        return _wait(context, blocker_found, SLOW_POLL)
    return begin(context, Note("Provisioning", "the first attempt begins"), resume=False)


def _found(context: ReconcileContext) -> Outcome:
    """The status was lost, the log was not: go on from there."""
    note = Note("AttemptFound", "the log names this object as the owner of a run: continuing it")
    return context.moved(Event.ATTEMPT_FOUND, note, next_attempt_time=context.now)


def _cancel(context: ReconcileContext) -> Outcome:
    """Without an attempt, or with another owner on the run, nothing has to be written to the log."""
    unowned = context.facts.ownership is Ownership.IN_USE or context.facts.left_by_another
    if context.state.attempt > 0 and not unowned:
        return context.moved(Event.CANCEL_ASKED, Note("CancelAsked", "spec.cancel is true"))
    if context.facts.ownership is Ownership.UNREAD and context.seen.run is not None:
        return context.stays(store_note(context), _STORE_POLL)
    note = Note("Canceled", "canceled before it owned a run")
    outcome = context.moved(Event.CANCELED_UNOWNED, note, None, completion_time=context.now)
    return Outcome(outcome.state, outcome.note, stop_reused(context), None)


def _in_use(context: ReconcileContext) -> Outcome:
    view = context.facts.view
    since = context.state.blocked_since if context.state.blocked_since is not None else context.now
    owner = view.owner if view is not None else None
    who = f"object {owner.uid}" if owner is not None and owner.uid else "an owner outside this operator"
    text = (
        f"workflow id {workflow_id_of(context.workflow)!r} is run by {who}: waiting until it ends or is "
        f"left; choose another spec.workflowId to run beside it"
    )
    left = since + context.deadline_seconds - context.now
    if left <= 0:
        note = Note("WorkflowIdInUse", text)
        return context.moved(Event.REFUSED, note, None, completion_time=context.now)
    return context.stays(Note("WorkflowIdInUse", text, blocked=True), sooner(_STORE_POLL, left), blocked_since=since)


def _wait(context: ReconcileContext, note: Note, poll: float) -> Outcome:
    """Stay, until the blocker goes or the time is up."""
    since = context.state.phase_time if context.state.phase_time is not None else context.now
    left = since + context.deadline_seconds - context.now
    if left > 0:
        return context.stays(note, sooner(poll, left))
    text = f"nothing ran within {context.deadline_seconds:.0f} s (spec.preRunningDeadlineSeconds): {note.message}"
    reason = note.reason if context.spec is None else "PreRunningDeadlineExceeded"
    return context.moved(Event.REFUSED, Note(reason, text), None, completion_time=context.now)
