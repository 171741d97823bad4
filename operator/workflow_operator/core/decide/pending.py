"""Pending: nothing of this object runs. It waits for what is missing, or for an id that another owner has.

The wait is bounded: an object that never submitted anything owns no run, so its end needs no word in the log.
"""

from __future__ import annotations

from workflow_operator.core import names
from workflow_operator.core.actions import AddFinalizer
from workflow_operator.core.conditions import Note
from workflow_operator.core.decide.attempts import begin, obstacle, secret_note, store_note
from workflow_operator.core.decide.context import SLOW_POLL, Outcome, Turn, sooner
from workflow_operator.core.decide.ending import from_log, stop_reused
from workflow_operator.core.log_facts import Standing
from workflow_operator.core.read_plan import workflow_id_of
from workflow_operator.core.state import Event

_STORE_POLL = 5.0


def pending(turn: Turn) -> Outcome:
    """One round in Pending."""
    ended = from_log(turn)
    if ended:
        return ended
    if turn.facts.standing is Standing.OURS:
        return _found(turn)
    if turn.cancel_wanted:
        return _cancel(turn)
    if names.FINALIZER not in turn.workflow.finalizers:
        return turn.stays(Note("Accepting", "the finalizer is being added"), 1.0, AddFinalizer())
    if turn.facts.standing is Standing.UNREAD:
        blocker = (obstacle(turn) if turn.spec is None else None) or secret_note(turn) or store_note(turn)
        return _wait(turn, blocker, _STORE_POLL)
    if turn.facts.standing is Standing.IN_USE:
        return _in_use(turn)
    blocker_found = obstacle(turn)
    if blocker_found:
        return _wait(turn, blocker_found, SLOW_POLL)
    return begin(turn, Note("Provisioning", "the first attempt begins"), resume=False)


def _found(turn: Turn) -> Outcome:
    """The status was lost, the log was not: go on from there."""
    note = Note("AttemptFound", "the log names this object as the owner of a run: continuing it")
    return turn.moved(Event.ATTEMPT_FOUND, note, next_attempt_time=turn.now)


def _cancel(turn: Turn) -> Outcome:
    """Without an attempt, or with another owner on the run, nothing has to be written to the log."""
    unowned = turn.facts.standing is Standing.IN_USE or turn.facts.left_by_another
    if turn.state.attempt > 0 and not unowned:
        return turn.moved(Event.CANCEL_ASKED, Note("CancelAsked", "spec.cancel is true"))
    if turn.facts.standing is Standing.UNREAD and turn.seen.run is not None:
        return turn.stays(store_note(turn), _STORE_POLL)
    note = Note("Canceled", "canceled before it owned a run")
    outcome = turn.moved(Event.CANCELED_UNOWNED, note, None, completion_time=turn.now)
    return Outcome(outcome.state, outcome.note, stop_reused(turn), None)


def _in_use(turn: Turn) -> Outcome:
    view = turn.facts.view
    since = turn.state.blocked_since if turn.state.blocked_since is not None else turn.now
    owner = view.owner if view is not None else None
    who = f"object {owner.uid}" if owner is not None and owner.uid else "an owner outside this operator"
    text = (
        f"workflow id {workflow_id_of(turn.workflow)!r} is run by {who}: waiting until it ends or is "
        f"left; choose another spec.workflowId to run beside it"
    )
    left = since + turn.deadline_seconds - turn.now
    if left <= 0:
        note = Note("WorkflowIdInUse", text)
        return turn.moved(Event.REFUSED, note, None, completion_time=turn.now)
    return turn.stays(Note("WorkflowIdInUse", text, blocked=True), sooner(_STORE_POLL, left), blocked_since=since)


def _wait(turn: Turn, note: Note, poll: float) -> Outcome:
    """Stay, until the blocker goes or the time is up."""
    since = turn.state.phase_time if turn.state.phase_time is not None else turn.now
    left = since + turn.deadline_seconds - turn.now
    if left > 0:
        return turn.stays(note, sooner(poll, left))
    text = f"nothing ran within {turn.deadline_seconds:.0f} s (spec.preRunningDeadlineSeconds): {note.message}"
    reason = note.reason if turn.spec is None else "PreRunningDeadlineExceeded"
    return turn.moved(Event.REFUSED, Note(reason, text), None, completion_time=turn.now)
