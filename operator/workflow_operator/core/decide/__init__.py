"""`decide` computes the new status of a Workflow and the actions from one observation. It is total and pure.

A table maps each phase to its function. `decide` first updates the state from the log and then calls the function of
the phase. From the outcome it derives the conditions, the events and the deletion of obsolete clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from workflow_operator.api.spec import Recovery
from workflow_operator.api.status import Phase, Steps, WorkflowState
from workflow_operator.core import log_facts, names
from workflow_operator.core.actions import Action, Decision, DeleteCluster, EmitEvent
from workflow_operator.core.attempt_count import RESET
from workflow_operator.core.conditions import conditions, short_reason
from workflow_operator.core.decide.canceling import canceling
from workflow_operator.core.decide.context import Outcome, ReconcileContext
from workflow_operator.core.decide.deleting import deleting
from workflow_operator.core.decide.driver_log import driver_log
from workflow_operator.core.decide.edits import spec_applied
from workflow_operator.core.decide.ending import terminal
from workflow_operator.core.decide.failure import is_owned
from workflow_operator.core.decide.lost import lost
from workflow_operator.core.decide.lost import update as update_lost
from workflow_operator.core.decide.pending import pending
from workflow_operator.core.decide.provisioning import provisioning
from workflow_operator.core.decide.reachability import with_reply
from workflow_operator.core.decide.resumable import resumable
from workflow_operator.core.decide.retained import effects as retention_actions
from workflow_operator.core.decide.retained import is_kept, remaining_seconds, retained_cluster
from workflow_operator.core.decide.running import running
from workflow_operator.core.decide.workers import workers_condition, workers_event
from workflow_operator.core.log_facts import LogFacts, Ownership
from workflow_operator.core.log_view import RunView
from workflow_operator.core.observation import Observation
from workflow_operator.core.recorded_times import correct_times
from workflow_operator.core.state import TERMINAL
from workflow_operator.core.texts import clip

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
_WITH_RESULTS = (Ownership.OURS, Ownership.ENDED, Ownership.FINISHED_BEFORE)
"""Relations to a run whose progress and result belong into the status."""

_EVENT_TEXT_LIMIT = 1000


def decide(observation: Observation, now: float) -> Decision:
    """Compute the next status of a Workflow, and the actions to execute after it was written.

    Args:
        observation: what `observe` read in this round.
        now: seconds since 1970.

    Returns:
        The status, the actions in order, and the longest delay until the next round.
    """
    now = round(now, 3)
    workflow = observation.workflow
    state = workflow.state
    facts = log_facts.read(workflow, observation.run)
    if state.phase is None:
        state = state.model_copy(update={"phase": Phase.PENDING, "phase_time": now})
    if state.phase not in TERMINAL:
        recovery = workflow.spec.recovery if workflow.spec else Recovery()
        state = correct_times(state.model_copy(update={"size_note": ""}), recovery.backoff, now)
        state = update_lost(_update_from_log(state, facts, now), facts, now)
    context = with_reply(ReconcileContext(observation, now, state, facts))
    return _decision(context, _outcome(context))


def _outcome(context: ReconcileContext) -> Outcome:
    if context.is_deleted:
        return deleting(context)
    phase = context.state.phase or Phase.PENDING
    missing = lost(context) if phase not in TERMINAL else None
    return missing or PHASES[phase](context)


def _update_from_log(state: WorkflowState, facts: LogFacts, now: float) -> WorkflowState:
    """Copy progress, epoch and run number from the log to the state, if the run concerns this Workflow."""
    view = facts.view
    if (
        facts.ownership is Ownership.FREE
        and state.phase in _WITHOUT_SUBMISSION
        and facts.run_number > state.run_number > 0
    ):
        return state.model_copy(update={"run_number": facts.run_number, "run_id": facts.run_uuid})
    if view is None or view.tombstone or facts.ownership not in _WITH_RESULTS:
        return state
    changes: dict[str, object] = {"steps": _steps(state.steps, view, now)}
    if facts.ownership is not Ownership.FINISHED_BEFORE:
        changes |= {"epoch": max(state.epoch, view.epoch), "blocked_since": None}
    if facts.ownership is Ownership.OURS and view.owner is not None and view.owner.attempt > state.attempt:
        changes |= _restore_attempt(state, view, view.owner.attempt)
    if view.counts.succeeded > state.steps.succeeded or view.counts.total > state.steps.total:
        changes["resumes"] = state.resumes.model_copy(update=RESET)
    return state.model_copy(update=changes)


def _restore_attempt(state: WorkflowState, view: RunView, attempt: int) -> dict[str, object]:
    """Return the attempt and the run from the log, if the status was lost or restored from an older copy.

    A state whose submission may still be running is not changed.
    """
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


def _decision(context: ReconcileContext, outcome: Outcome) -> Decision:
    generation = context.workflow.generation
    kept = retained_cluster(context, outcome.state)
    log, log_actions = driver_log(context, outcome.state)
    state = outcome.state.model_copy(
        update={
            "retained_cluster": kept,
            "driver_log": log,
            "observed_generation": generation,
            "conditions": (
                *conditions(
                    outcome.state,
                    outcome.explanation,
                    generation,
                    context.now,
                    (spec_applied(context, outcome.state),),
                ),
                workers_condition(context, outcome.state),
            ),
        }
    )
    state = state.model_copy(update={"reason": short_reason(state, outcome.explanation)})
    actions: tuple[Action, ...] = (
        *_events(context, state, outcome),
        *workers_event(context, state, outcome.explanation.reason),
        *log_actions,
        *_delete_obsolete_clusters(context, state),
        *outcome.actions,
        *retention_actions(context, kept),
    )
    delays = [delay for delay in (outcome.requeue_after, remaining_seconds(context, kept)) if delay is not None]
    return Decision(state, actions, min(delays, default=None))


def _delete_obsolete_clusters(context: ReconcileContext, state: WorkflowState) -> tuple[DeleteCluster, ...]:
    """Delete the clusters of this Workflow that its new state does not name or retain.

    These are clusters of earlier attempts, and all clusters if the Workflow is finished or being deleted.
    """
    current = state.cluster.name if state.cluster is not None else ""
    needs_no_cluster = context.is_deleted or state.phase in TERMINAL
    return tuple(
        DeleteCluster(cluster.name, cluster.uid)
        for cluster in context.observation.clusters
        if is_owned(context, cluster)
        and not cluster.deleting
        and cluster.name != current
        and not is_kept(cluster, state.retained_cluster)
        and (needs_no_cluster or names.attempt_of(cluster.labels) <= state.attempt)
    )


def _events(context: ReconcileContext, state: WorkflowState, outcome: Outcome) -> tuple[EmitEvent, ...]:
    """Return an event for a change of the phase, or for a new reason that blocks the Workflow."""
    explanation = outcome.explanation
    if state.phase is not context.workflow.state.phase:
        warning = state.phase in (Phase.RESUMABLE, Phase.FAILED) or explanation.blocked
        text = clip(f"{state.phase}: {explanation.message}", _EVENT_TEXT_LIMIT)
        return (EmitEvent("Warning" if warning else "Normal", explanation.reason, text),)
    before = context.workflow.state.condition("Reconciling")
    if explanation.blocked and (before is None or before.reason != explanation.reason):
        return (EmitEvent("Warning", explanation.reason, clip(explanation.message, _EVENT_TEXT_LIMIT)),)
    return ()
