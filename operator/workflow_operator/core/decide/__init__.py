"""`decide`: from what was seen to a new status and what to do. Total and pure; the whole life cycle is tested through
it.

A table gives each phase its function. What is the same for all stands here: the log is read first, then the phase's
function answers, and of its answer come conditions, events and the clean-up of clusters that nobody wants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from workflow_operator.api.status import Phase, Steps, WorkflowState
from workflow_operator.core import log_facts, names
from workflow_operator.core.actions import Action, Decision, DeleteCluster, EmitEvent
from workflow_operator.core.conditions import conditions
from workflow_operator.core.decide.canceling import canceling
from workflow_operator.core.decide.context import Outcome, ReconcileContext
from workflow_operator.core.decide.deleting import deleting
from workflow_operator.core.decide.ending import terminal
from workflow_operator.core.decide.failure import owned
from workflow_operator.core.decide.pending import pending
from workflow_operator.core.decide.provisioning import provisioning
from workflow_operator.core.decide.resumable import resumable
from workflow_operator.core.decide.running import running
from workflow_operator.core.log_facts import LogFacts, Ownership
from workflow_operator.core.log_view import RunView
from workflow_operator.core.observation import Observation
from workflow_operator.core.state import TERMINAL

PHASES: Mapping[Phase, Callable[[ReconcileContext], Outcome]] = {
    Phase.PENDING: pending,
    Phase.PROVISIONING: provisioning,
    Phase.RUNNING: running,
    Phase.RESUMABLE: resumable,
    Phase.CANCELING: canceling,
    Phase.SUCCEEDED: terminal,
    Phase.FAILED: terminal,
    Phase.CANCELED: terminal,
}
_WITHOUT_SUBMISSION = (Phase.RESUMABLE, Phase.CANCELING)
_TELLING = (Ownership.OURS, Ownership.ENDED, Ownership.FINISHED_BEFORE)


def decide(observation: Observation, now: float) -> Decision:
    """The next status of a Workflow, and what to do once it is written.

    Args:
        observation: what this round saw.
        now: seconds since 1970.

    Returns:
        The status, the actions in order, and when to look again at the latest.
    """
    now = round(now, 3)
    workflow = observation.workflow
    state = workflow.state
    facts = log_facts.read(workflow, observation.run)
    if state.phase is None:
        state = state.model_copy(update={"phase": Phase.PENDING, "phase_time": now})
    if state.phase not in TERMINAL:
        state = _with_log(state, facts, now)
    context = ReconcileContext(observation, now, state, facts)
    outcome = deleting(context) if workflow.deleted is not None else PHASES[state.phase or Phase.PENDING](context)
    return _finish(context, outcome)


def _with_log(state: WorkflowState, facts: LogFacts, now: float) -> WorkflowState:
    """The state with what the log tells of a run that is this object's."""
    view = facts.view
    if (
        facts.ownership is Ownership.FREE
        and state.phase in _WITHOUT_SUBMISSION
        and facts.run_number > state.run_number > 0
    ):
        return state.model_copy(update={"run_number": facts.run_number, "run_id": facts.run_uuid})
    if view is None or view.tombstone or facts.ownership not in _TELLING:
        return state
    changes: dict[str, object] = {"steps": _steps(state.steps, view, now)}
    if facts.ownership is not Ownership.FINISHED_BEFORE:
        changes |= {"epoch": max(state.epoch, view.epoch), "blocked_since": None}
    if facts.ownership is Ownership.OURS and view.owner is not None and view.owner.attempt > state.attempt:
        changes |= _status_lost(state, view, view.owner.attempt)
    if view.counts.succeeded > state.steps.succeeded or view.counts.total > state.steps.total:
        changes["resumes"] = state.resumes.model_copy(update={"never_ran": 0})
    return state.model_copy(update=changes)


def _status_lost(state: WorkflowState, view: RunView, attempt: int) -> dict[str, object]:
    """What the log knows better than a status that was lost or restored; never under a submission that may live."""
    if state.attempt > 0 and state.phase not in _WITHOUT_SUBMISSION:
        return {}
    return {"attempt": attempt, "run_number": view.run_number, "run_id": view.run_uuid}


def _steps(old: Steps, view: RunView, now: float) -> Steps:
    counts = view.counts
    new = Steps(
        total=counts.total,
        succeeded=counts.succeeded,
        running=counts.running,
        failed=counts.failed,
        summary=f"{counts.succeeded}/{counts.total}",
        changed=old.changed,
    )
    return old if new == old else new.model_copy(update={"changed": now})


def _finish(context: ReconcileContext, outcome: Outcome) -> Decision:
    generation = context.workflow.generation
    state = outcome.state.model_copy(
        update={
            "observed_generation": generation,
            "conditions": conditions(outcome.state, outcome.note, generation, context.now),
        }
    )
    actions: tuple[Action, ...] = (*_events(context, state, outcome), *_unwanted(context, state), *outcome.actions)
    return Decision(state, actions, outcome.requeue_after)


def _unwanted(context: ReconcileContext, state: WorkflowState) -> tuple[DeleteCluster, ...]:
    """Clusters that were made for this object and that its state does not name: of earlier attempts, or where none is
    wanted."""
    wanted = state.cluster.name if state.cluster is not None else ""
    over = context.workflow.deleted is not None or state.phase in TERMINAL
    return tuple(
        DeleteCluster(cluster.name, cluster.uid)
        for cluster in context.seen.clusters
        if owned(context, cluster)
        and not cluster.deleting
        and cluster.name != wanted
        and (over or names.attempt_of(cluster.labels) <= state.attempt)
    )


def _events(context: ReconcileContext, state: WorkflowState, outcome: Outcome) -> tuple[EmitEvent, ...]:
    """An event for each change of phase, and one for each new thing that is in the way."""
    note = outcome.note
    if state.phase is not context.workflow.state.phase:
        bad = state.phase in (Phase.RESUMABLE, Phase.FAILED) or note.blocked
        return (EmitEvent("Warning" if bad else "Normal", note.reason, f"{state.phase}: {note.message}"[:1000]),)
    before = context.workflow.state.condition("Reconciling")
    if note.blocked and (before is None or before.reason != note.reason):
        return (EmitEvent("Warning", note.reason, note.message[:1000]),)
    return ()
