"""Terminal phases, and how a Workflow comes into one: always from what the log says, or because it owns no run.

Called first in every live phase, before anything is said about clusters.
"""

from __future__ import annotations

import json
from typing import Any

from workflow_operator.core.actions import Action, EndRun, StopSubmission
from workflow_operator.core.conditions import Note
from workflow_operator.core.decide.context import Outcome, Turn
from workflow_operator.core.log_facts import Standing
from workflow_operator.core.log_view import RunView, WorkflowStatus
from workflow_operator.core.read_plan import head_to_ask
from workflow_operator.core.state import Event

RESULT_LIMIT = 4096
_EVENTS = {
    WorkflowStatus.SUCCESSFUL: Event.LOG_SUCCEEDED,
    WorkflowStatus.FAILED: Event.LOG_FAILED,
    WorkflowStatus.CANCELED: Event.LOG_CANCELED,
}


def from_log(turn: Turn) -> Outcome | None:
    """The terminal phase that the log asks for, or None while it asks for none."""
    facts, view = turn.facts, turn.facts.view
    if facts.standing is Standing.ENDED and view is not None:
        return _ended(turn, view, _EVENTS[view.status], _reason_of_end(view))
    if facts.standing is Standing.FINISHED_BEFORE and view is not None:
        return _finished_before(turn, view)
    if facts.standing is Standing.GONE:
        text = f"run {turn.state.n} of workflow id {turn.state.workflow_id!r} was deleted from storage"
        return _stop(turn, turn.moved(Event.SUPERSEDED, Note("RunDeleted", text), None, completion_time=turn.now))
    if facts.standing is Standing.SUPERSEDED and view is not None:
        text = f"another owner{_owner(view)} took over run {view.n} of workflow id {view.workflow_id!r}"
        return _stop(turn, turn.moved(Event.SUPERSEDED, Note("Superseded", text), None, completion_time=turn.now))
    return None


def terminal(turn: Turn) -> Outcome:
    """A terminal Workflow stays as it is; only clusters that are left are deleted, by the clean-up of every round."""
    old = turn.state.condition(str(turn.state.phase))
    note = Note(old.reason, old.message) if old else Note(str(turn.state.phase), "")
    return Outcome(turn.state.model_copy(update={"cluster": None}), note, (), None)


def end_run(turn: Turn) -> tuple[Action, ...]:
    """The action that writes the end which the state names; none where no storage is known."""
    run, ending = turn.run(), turn.state.ending
    if run is None or ending is None:
        return ()
    return (EndRun(run, ending.status, ending.reason, ending.message),)


def stop_reused(turn: Turn) -> tuple[Action, ...]:
    """Stop the driver on a cluster that stays: one that we made goes as a whole."""
    cluster, submission = turn.state.cluster, turn.state.submission
    head = head_to_ask(turn.workflow, turn.seen.named)
    if cluster is None or cluster.provisioned or submission is None or head is None:
        return ()
    return (StopSubmission(head, submission.id),)


def _stop(turn: Turn, outcome: Outcome) -> Outcome:
    return Outcome(outcome.state, outcome.note, (*outcome.actions, *stop_reused(turn)), outcome.requeue_after)


def _ended(turn: Turn, view: RunView, event: Event, note: Note) -> Outcome:
    changes = {"completion_time": round(view.ended, 3) if view.ended is not None else turn.now}
    outcome = turn.moved(event, note, None, **changes, **_result(view))
    return outcome if view.status is WorkflowStatus.SUCCESSFUL else _stop(turn, outcome)


def _finished_before(turn: Turn, view: RunView) -> Outcome:
    taken = {"n": view.n, "run_id": view.run_uuid, "workflow_id": view.workflow_id}
    if view.status is WorkflowStatus.SUCCESSFUL:
        text = f"workflow id {view.workflow_id!r} had succeeded before; its stored result is taken over"
        outcome = _ended(turn, view, Event.LOG_SUCCEEDED, Note("AlreadyCompleted", text))
        return Outcome(outcome.state.model_copy(update=taken), outcome.note, outcome.actions, None)
    text = (
        f"workflow id {view.workflow_id!r} has ended {view.status} before ({view.reason or 'no reason given'}): choose "
        f"another spec.workflowId, or delete the old run from storage to start anew"
    )
    return turn.moved(Event.SUPERSEDED, Note("WorkflowIdFinished", text), None, completion_time=turn.now)


def _reason_of_end(view: RunView) -> Note:
    if view.status is WorkflowStatus.SUCCESSFUL:
        return Note("Succeeded", f"{view.counts.succeeded} of {view.counts.total} steps succeeded")
    error = view.error
    if error is None:
        return Note(view.reason or str(view.status).capitalize(), f"the run ended {view.status}")
    step = f"step {error.step_id}: " if error.step_id else ""
    trace = f"\n{error.traceback}" if error.traceback else ""
    return Note(view.reason or "Failed", f"{step}{error.kind}: {error.message}{trace}")


def _result(view: RunView) -> dict[str, Any]:
    text = view.result_text
    if view.status is not WorkflowStatus.SUCCESSFUL or text is None:
        return {}
    if len(text) > RESULT_LIMIT:
        return {"result_location": f"too large for the status: read it with workflow.get_output({view.workflow_id!r})"}
    try:
        return {"result": json.loads(text)}
    except ValueError:
        return {"result": text}


def _owner(view: RunView) -> str:
    return f" (object {view.owner.uid})" if view.owner is not None and view.owner.uid else ""
