"""Canceling: the run is to end CANCELED, and is Canceled when its log says so.

A manager that lives is asked, so that it stops its steps in order; where none lives, or it does not answer in time, the
operator ends the run itself.
"""

from __future__ import annotations

from workflow_operator.api.status import Ending
from workflow_operator.core.actions import RequestCancel
from workflow_operator.core.conditions import Note
from workflow_operator.core.decide.attempts import store_note
from workflow_operator.core.decide.context import Outcome, ReconcileContext, sooner
from workflow_operator.core.decide.ending import end_run, from_log, stop_reused
from workflow_operator.core.decide.failure import cluster_failure
from workflow_operator.core.log_facts import Ownership
from workflow_operator.core.state import Event

_POLL = 2.0
_STORE_POLL = 5.0
_ANSWER_SECONDS = 60.0
_WHY = "spec.cancel is true"


def canceling(context: ReconcileContext) -> Outcome:
    """One round in Canceling."""
    ended = from_log(context)
    if ended:
        return ended
    ownership = context.facts.ownership
    if ownership is Ownership.UNREAD:
        return context.stays(store_note(context), _STORE_POLL)
    if ownership is Ownership.IN_USE or context.facts.left_by_another:
        outcome = context.moved(Event.CANCELED_UNOWNED, Note("Canceled", "canceled before it owned a run"), None)
        state = outcome.state.model_copy(update={"completion_time": context.now})
        return Outcome(state, outcome.note, stop_reused(context), None)
    reached = context.state.cluster is not None and not cluster_failure(context)
    if ownership is Ownership.OURS and context.facts.alive and context.state.ending is None and reached:
        asked = _ask(context)
        if asked:
            return asked
    context = context.with_state(ending=Ending(status="CANCELED", reason="Canceled", message=_WHY))
    return context.stays(
        Note("EndingRun", "no manager stops the run: writing its end to the log"), _POLL, *end_run(context)
    )


def _ask(context: ReconcileContext) -> Outcome | None:
    """Ask the manager, in each round anew, as the first time may not have come to pass; None when its time is up."""
    run, asked = context.run(), context.state.cancel_time or context.now
    left = asked + _ANSWER_SECONDS - context.now
    if run is None or left <= 0:
        return None
    note = Note("CancelRequested", "the run's manager was asked to stop its steps")
    return context.stays(note, sooner(_POLL, left), RequestCancel(run, _WHY), cancel_time=asked)
