"""Canceling: the run is to end CANCELED, and is Canceled when its log says so.

A manager that lives is asked, so that it stops its steps in order; where none lives, or it does not answer in time, the
operator ends the run itself.
"""

from __future__ import annotations

from workflow_operator.api.status import Ending
from workflow_operator.core.actions import RequestCancel
from workflow_operator.core.conditions import Note
from workflow_operator.core.decide.attempts import store_note
from workflow_operator.core.decide.context import Outcome, Turn, sooner
from workflow_operator.core.decide.ending import end_run, from_log, stop_reused
from workflow_operator.core.decide.failure import cluster_failure
from workflow_operator.core.log_facts import Standing
from workflow_operator.core.state import Event

_POLL = 2.0
_STORE_POLL = 5.0
_ANSWER_SECONDS = 60.0
_WHY = "spec.cancel is true"


def canceling(turn: Turn) -> Outcome:
    """One round in Canceling."""
    ended = from_log(turn)
    if ended:
        return ended
    standing = turn.facts.standing
    if standing is Standing.UNREAD:
        return turn.stays(store_note(turn), _STORE_POLL)
    if standing is Standing.IN_USE or turn.facts.left_by_another:
        outcome = turn.moved(Event.CANCELED_UNOWNED, Note("Canceled", "canceled before it owned a run"), None)
        state = outcome.state.model_copy(update={"completion_time": turn.now})
        return Outcome(state, outcome.note, stop_reused(turn), None)
    reached = turn.state.cluster is not None and not cluster_failure(turn)
    if standing is Standing.OURS and turn.facts.alive and turn.state.ending is None and reached:
        asked = _ask(turn)
        if asked:
            return asked
    turn = turn.with_state(ending=Ending(status="CANCELED", reason="Canceled", message=_WHY))
    return turn.stays(Note("EndingRun", "no manager stops the run: writing its end to the log"), _POLL, *end_run(turn))


def _ask(turn: Turn) -> Outcome | None:
    """Ask the manager, in each round anew, as the first time may not have come to pass; None when its time is up."""
    run, asked = turn.run(), turn.state.cancel_time or turn.now
    left = asked + _ANSWER_SECONDS - turn.now
    if run is None or left <= 0:
        return None
    note = Note("CancelRequested", "the run's manager was asked to stop its steps")
    return turn.stays(note, sooner(_POLL, left), RequestCancel(run, _WHY), cancel_time=asked)
