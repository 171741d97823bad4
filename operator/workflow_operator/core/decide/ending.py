"""The terminal phases, and the transitions into them.

A Workflow becomes terminal if the log contains the terminal state of its run, or if it can no longer own a run. Each
live phase checks the log before it looks at clusters.
"""

from __future__ import annotations

from workflow.submission import REFUSALS
from workflow_operator.core.actions import Action, EndRun, StopSubmission
from workflow_operator.core.conditions import Explanation
from workflow_operator.core.decide.context import Outcome, ReconcileContext
from workflow_operator.core.log_facts import Ownership
from workflow_operator.core.log_view import RunView, WorkflowStatus
from workflow_operator.core.owner_names import owner_name
from workflow_operator.core.read_plan import head_to_query
from workflow_operator.core.results import result_of
from workflow_operator.core.state import Event

_EVENTS = {
    WorkflowStatus.SUCCESSFUL: Event.LOG_SUCCEEDED,
    WorkflowStatus.FAILED: Event.LOG_FAILED,
    WorkflowStatus.CANCELED: Event.LOG_CANCELED,
}


def terminal_from_log(context: ReconcileContext) -> Outcome | None:
    """Return the transition to a terminal phase that the log requires, or None."""
    facts, view, state = context.facts, context.facts.view, context.state
    if facts.ownership is Ownership.ENDED and view is not None:
        return _finish(context, view, _EVENTS[view.status], _final_explanation(view))
    if facts.ownership is Ownership.FINISHED_BEFORE and view is not None:
        return _finished_before(context, view)
    if facts.ownership is Ownership.GONE:
        text = f"run {state.run_number} of workflow id {state.workflow_id!r} was deleted from storage"
        return fail_without_log(context, Explanation("RunDeleted", text))
    if facts.ownership is Ownership.SUPERSEDED and view is not None:
        text = f"{owner_name(view)} took over run {view.run_number} of workflow id {view.workflow_id!r}"
        return fail_without_log(context, Explanation("Superseded", text))
    return None


def terminal(context: ReconcileContext) -> Outcome:
    """Decide a round in a terminal phase: nothing changes, and `decide` deletes remaining clusters."""
    old = context.state.condition(str(context.state.phase))
    explanation = Explanation(old.reason, old.message) if old else Explanation(str(context.state.phase), "")
    return Outcome(context.state.model_copy(update={"cluster": None}), explanation, (), None)


def end_run(context: ReconcileContext) -> tuple[Action, ...]:
    """Return the action that writes `status.ending` to the log; no action if no storage is known."""
    run, ending = context.run(), context.state.ending
    if run is None or ending is None:
        return ()
    return (EndRun(run, ending.status, ending.reason, ending.message, ending.reason in REFUSALS),)


def fail_without_log(context: ReconcileContext, explanation: Explanation) -> Outcome:
    """Return the transition to Failed of a Workflow that owns no run. The log stays as it is.

    Args:
        context: the current round.
        explanation: why the Workflow fails.
    """
    outcome = context.move(Event.SUPERSEDED, explanation, None, completion_time=context.now)
    return _with_stopped_submission(context, outcome)


def stop_on_selected_cluster(context: ReconcileContext) -> tuple[Action, ...]:
    """Return the action that stops the driver on a selected cluster; none for a created cluster, which is deleted."""
    cluster, submission = context.state.cluster, context.state.submission
    head = head_to_query(context.workflow, context.observation.named)
    if cluster is None or cluster.provisioned or submission is None or head is None:
        return ()
    return (StopSubmission(head, submission.id),)


def _with_stopped_submission(context: ReconcileContext, outcome: Outcome) -> Outcome:
    actions = (*outcome.actions, *stop_on_selected_cluster(context))
    return Outcome(outcome.state, outcome.explanation, actions, outcome.requeue_after)


def _finish(context: ReconcileContext, view: RunView, event: Event, explanation: Explanation) -> Outcome:
    completed = round(view.ended, 3) if view.ended is not None else context.now
    outcome = context.move(event, explanation, None, completion_time=completed, **result_of(view))
    if view.status is WorkflowStatus.SUCCESSFUL:
        return outcome
    return _with_stopped_submission(context, outcome)


def _finished_before(context: ReconcileContext, view: RunView) -> Outcome:
    if view.status is WorkflowStatus.SUCCESSFUL:
        text = f"workflow id {view.workflow_id!r} succeeded earlier: this Workflow uses the stored result"
        outcome = _finish(context, view, Event.LOG_SUCCEEDED, Explanation("AlreadyCompleted", text))
        run = {"run_number": view.run_number, "run_id": view.run_uuid, "workflow_id": view.workflow_id}
        return Outcome(outcome.state.model_copy(update=run), outcome.explanation, outcome.actions, None)
    text = (
        f"workflow id {view.workflow_id!r} finished earlier as {view.status} ({view.reason or 'no reason given'}): set "
        f"another spec.workflowId, or delete the old run from storage"
    )
    explanation = Explanation("WorkflowIdFinished", text)
    return context.move(Event.SUPERSEDED, explanation, None, completion_time=context.now)


def _final_explanation(view: RunView) -> Explanation:
    if view.status is WorkflowStatus.SUCCESSFUL:
        return Explanation("Succeeded", f"{view.counts.succeeded} of {view.counts.total} steps succeeded")
    error = view.error
    if error is None:
        return Explanation(view.reason or str(view.status).capitalize(), f"the run is {view.status}")
    step = f"step {error.step_id}: " if error.step_id else ""
    trace = f"\n{error.traceback}" if error.traceback else ""
    return Explanation(view.reason or "Failed", f"{step}{error.kind}: {error.message}{trace}")
