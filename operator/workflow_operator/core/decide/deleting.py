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
    DeleteCheckpoints,
    EndRun,
    NoteDebt,
    RemoveFinalizer,
    RunRef,
    SayGoodbye,
)
from workflow_operator.core.conditions import Note
from workflow_operator.core.decide.context import Outcome, Turn, sooner
from workflow_operator.core.decide.ending import stop_reused
from workflow_operator.core.log_facts import DELETED, Standing, is_mine
from workflow_operator.core.log_view import WorkflowStatus
from workflow_operator.core.names import FINALIZER
from workflow_operator.core.state import TERMINAL

DEADLINE_SECONDS = 120.0
_POLL = 5.0
_WHY = "the Workflow object was deleted"


@dataclass(frozen=True, slots=True)
class Owed:
    """What storage is still owed before the object may go."""

    what: Literal["goodbye", "cancel", "delete"]
    action: Action
    run: RunRef


def deleting(turn: Turn) -> Outcome:
    """One round of an object with a deletionTimestamp, in any phase."""
    note = Note("Deleting", _WHY)
    gone = turn.with_state(cluster=None)
    if FINALIZER not in turn.workflow.finalizers:
        return gone.stays(note, None)
    stops = stop_reused(turn)
    owed = _owed(turn)
    if owed is None and turn.facts.left_by_another and turn.state.submission is not None:
        # The submission may have come to own the run just now: stop it, and look once more.
        return gone.with_state(submission=None).stays(note, _POLL, *stops)
    if owed is None:
        return gone.stays(note, _POLL, *stops, RemoveFinalizer())
    deleted = turn.workflow.deleted if turn.workflow.deleted is not None else turn.now
    left = deleted + DEADLINE_SECONDS - turn.now
    if left <= 0:
        debt = NoteDebt(turn.workflow.namespace, owed.run, owed.what)
        return gone.stays(note, _POLL, *stops, debt, RemoveFinalizer())
    return gone.stays(note, sooner(_POLL, left), *stops, owed.action)


def _owed(turn: Turn) -> Owed | None:
    """The next thing that the run's log needs, or None when nothing is left to do there."""
    run = turn.run()
    if run is None or (turn.state.attempt == 0 and turn.facts.standing is not Standing.OURS):
        return None
    if turn.state.phase in TERMINAL and turn.facts.standing not in (Standing.ENDED, Standing.UNREAD):
        return None
    delete = Owed("delete", DeleteCheckpoints(run), run)
    cancel = Owed("cancel", EndRun(run, "CANCELED", DELETED, _WHY), run)
    goodbye = Owed("goodbye", SayGoodbye(run, _WHY), run)
    live = goodbye if _may_go_on(turn) else cancel
    match turn.facts.standing:
        case Standing.UNREAD:
            return _owed_unread(turn, delete, live)
        case Standing.ENDED:
            return delete if _goes(turn) and not _nothing_stored(turn) else None
        case Standing.OURS:
            if _retention(turn) is Retention.DELETE:
                return delete
            return None if live is goodbye and _said_goodbye(turn) else live
        case Standing.FREE if not turn.facts.left_by_another and turn.facts.n == turn.state.n:
            return cancel  # a tombstone, so that a late submission finds its name taken
        case _:
            return None


def _owed_unread(turn: Turn, delete: Owed, live: Owed) -> Owed | None:
    """What to note where the log could not be read: the worker of debts looks again at the log itself."""
    if _retention(turn) is Retention.DELETE:
        return delete
    if turn.state.completion_time is not None:
        return delete if _goes(turn) else None
    return live


def _retention(turn: Turn) -> Retention:
    return (turn.spec.checkpoints if turn.spec else Checkpoints()).retention


def _goes(turn: Turn) -> bool:
    """The checkpoints of this ended run go with the object."""
    retention, view = _retention(turn), turn.facts.view
    succeeded = turn.state.condition("Succeeded") is not None
    succeeded = succeeded or (view is not None and view.status is WorkflowStatus.SUCCESSFUL)
    return retention is Retention.DELETE or (retention is Retention.DELETE_ON_SUCCESS and succeeded)


def _may_go_on(turn: Turn) -> bool:
    """A later object may continue this run: its id was given, and its checkpoints stay."""
    given = turn.spec is not None and turn.spec.workflow_id is not None
    return given and _retention(turn) is not Retention.DELETE


def _said_goodbye(turn: Turn) -> bool:
    """The last claim is one that the operator made for this object, and it left."""
    view = turn.facts.view
    if view is None or view.owner is None or not is_mine(turn.workflow, view):
        return False
    return view.status is WorkflowStatus.RESUMABLE and not view.owner.incarnation


def _nothing_stored(turn: Turn) -> bool:
    return turn.facts.view is not None and turn.facts.view.tombstone
