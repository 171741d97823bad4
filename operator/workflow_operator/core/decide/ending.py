"""Terminal phases, and how a Workflow comes into one: always from what the log says, or because it owns no run.

Called first in every live phase, before anything is said about clusters.
"""

from __future__ import annotations

import json
from typing import Any

from workflow_operator.core.actions import Action, EndRun, StopSubmission
from workflow_operator.core.conditions import Note
from workflow_operator.core.decide.context import Outcome, ReconcileContext
from workflow_operator.core.log_facts import Ownership
from workflow_operator.core.log_view import RunView, WorkflowStatus
from workflow_operator.core.read_plan import head_to_ask
from workflow_operator.core.state import Event

RESULT_LIMIT = 4096
_EVENTS = {
    WorkflowStatus.SUCCESSFUL: Event.LOG_SUCCEEDED,
    WorkflowStatus.FAILED: Event.LOG_FAILED,
    WorkflowStatus.CANCELED: Event.LOG_CANCELED,
}


def from_log(context: ReconcileContext) -> Outcome | None:
    """The terminal phase that the log asks for, or None while it asks for none."""
    facts, view = context.facts, context.facts.view
    if facts.ownership is Ownership.ENDED and view is not None:
        return _ended(context, view, _EVENTS[view.status], _reason_of_end(view))
    if facts.ownership is Ownership.FINISHED_BEFORE and view is not None:
        return _finished_before(context, view)
    if facts.ownership is Ownership.GONE:
        text = f"run {context.state.run_number} of workflow id {context.state.workflow_id!r} was deleted from storage"
        return _stop(
            context, context.moved(Event.SUPERSEDED, Note("RunDeleted", text), None, completion_time=context.now)
        )
    if facts.ownership is Ownership.SUPERSEDED and view is not None:
        text = f"another owner{_owner(view)} took over run {view.run_number} of workflow id {view.workflow_id!r}"
        return _stop(
            context, context.moved(Event.SUPERSEDED, Note("Superseded", text), None, completion_time=context.now)
        )
    return None


def terminal(context: ReconcileContext) -> Outcome:
    """A terminal Workflow stays as it is; only clusters that are left are deleted, by the clean-up of every round."""
    old = context.state.condition(str(context.state.phase))
    note = Note(old.reason, old.message) if old else Note(str(context.state.phase), "")
    return Outcome(context.state.model_copy(update={"cluster": None}), note, (), None)


def end_run(context: ReconcileContext) -> tuple[Action, ...]:
    """The action that writes the end which the state names; none where no storage is known."""
    run, ending = context.run(), context.state.ending
    if run is None or ending is None:
        return ()
    return (EndRun(run, ending.status, ending.reason, ending.message),)


def stop_reused(context: ReconcileContext) -> tuple[Action, ...]:
    """Stop the driver on a cluster that stays: one that we made goes as a whole."""
    cluster, submission = context.state.cluster, context.state.submission
    head = head_to_ask(context.workflow, context.seen.named)
    if cluster is None or cluster.provisioned or submission is None or head is None:
        return ()
    return (StopSubmission(head, submission.id),)


def _stop(context: ReconcileContext, outcome: Outcome) -> Outcome:
    return Outcome(outcome.state, outcome.note, (*outcome.actions, *stop_reused(context)), outcome.requeue_after)


def _ended(context: ReconcileContext, view: RunView, event: Event, note: Note) -> Outcome:
    changes = {"completion_time": round(view.ended, 3) if view.ended is not None else context.now}
    outcome = context.moved(event, note, None, **changes, **_result(view))
    return outcome if view.status is WorkflowStatus.SUCCESSFUL else _stop(context, outcome)


def _finished_before(context: ReconcileContext, view: RunView) -> Outcome:
    taken = {"run_number": view.run_number, "run_id": view.run_uuid, "workflow_id": view.workflow_id}
    if view.status is WorkflowStatus.SUCCESSFUL:
        text = f"workflow id {view.workflow_id!r} had succeeded before; its stored result is taken over"
        outcome = _ended(context, view, Event.LOG_SUCCEEDED, Note("AlreadyCompleted", text))
        return Outcome(outcome.state.model_copy(update=taken), outcome.note, outcome.actions, None)
    text = (
        f"workflow id {view.workflow_id!r} has ended {view.status} before ({view.reason or 'no reason given'}): choose "
        f"another spec.workflowId, or delete the old run from storage to start anew"
    )
    return context.moved(Event.SUPERSEDED, Note("WorkflowIdFinished", text), None, completion_time=context.now)


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
