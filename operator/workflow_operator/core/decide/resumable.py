"""Phase Resumable: the run is not finished, and this Workflow has no submission for it.

The next attempt starts after a delay or, with recovery policy Manual, when the user changes an annotation. If the
resumes are exhausted, the operator writes FAILED to the log instead.
"""

from __future__ import annotations

from workflow_operator.api.base import format_time
from workflow_operator.api.spec import RecoveryPolicy
from workflow_operator.api.status import Ending
from workflow_operator.core.conditions import Explanation, clip
from workflow_operator.core.decide.attempts import attempt_blocker, start_attempt, store_problem
from workflow_operator.core.decide.context import SLOW_POLL, Outcome, ReconcileContext, earliest
from workflow_operator.core.decide.edits import changed_cluster_fields
from workflow_operator.core.decide.ending import end_run, terminal_from_log
from workflow_operator.core.decide.failure import cluster_failure, is_owned
from workflow_operator.core.decide.submitted import wait_for_other_owner
from workflow_operator.core.log_facts import Ownership
from workflow_operator.core.names import RESUME_ANNOTATION
from workflow_operator.core.state import Event

_POLL = 5.0
CLUSTER_GONE_SECONDS = 60.0


def resumable(context: ReconcileContext) -> Outcome:
    """Decide a round in Resumable."""
    finished = terminal_from_log(context)
    if finished:
        return finished
    if context.cancel_requested:
        explanation = Explanation("Canceling", "spec.cancel is true")
        return context.move(Event.CANCEL_REQUESTED, explanation, ending=None)
    if context.facts.ownership is Ownership.UNREAD:
        return context.stay(store_problem(context), _POLL)
    if context.facts.ownership is Ownership.IN_USE:
        return wait_for_other_owner(context)
    ending = context.state.ending
    if ending is not None:
        text = f"writing the state {ending.status} to the log: {ending.message}"
        return context.stay(Explanation(ending.reason, text), _POLL, *end_run(context))
    if _are_resumes_exhausted(context):
        return _fail_run(context, "ResumesExhausted", _exhausted_message(context))
    return _wait_or_resume(context)


def _are_resumes_exhausted(context: ReconcileContext) -> bool:
    view = context.facts.view
    is_ours = view is not None and context.facts.ownership is Ownership.OURS
    epochs = view.epochs_without_progress if view is not None and is_ours else 0
    without_progress = epochs + context.state.resumes.never_ran
    return context.state.last_failure is not None and without_progress >= context.recovery.max_resumes


def _exhausted_message(context: ReconcileContext) -> str:
    view, failure = context.facts.view, context.state.last_failure
    steps = (*(view.suspect_steps if view else ()), *(failure.running_steps if failure else ()))
    running = f"; steps that were running at the failures: {', '.join(dict.fromkeys(steps))}" if steps else ""
    last = f"; the last failure was {failure.reason}: {failure.message}" if failure else ""
    return (
        f"{context.state.resumes.without_progress} consecutive resumes or attempts finished no step "
        f"(spec.recovery.maxResumes: {context.recovery.max_resumes}){running}{last}"
    )


def _fail_run(context: ReconcileContext, reason: str, message: str) -> Outcome:
    context = context.with_state(ending=Ending(status="FAILED", reason=reason, message=clip(message)))
    return context.stay(Explanation(reason, message, blocked=True), 1.0, *end_run(context))


def _wait_or_resume(context: ReconcileContext) -> Outcome:
    state = context.state
    token = context.workflow.annotations.get(RESUME_ANNOTATION, "")
    resume_requested = bool(token) and token != state.resume_token
    if context.recovery.policy is RecoveryPolicy.MANUAL and not resume_requested:
        text = f"spec.recovery.policy is Manual: set the annotation {RESUME_ANNOTATION} to another value to resume"
        explanation = Explanation("WaitingForResume", text, blocked=True, stalled=True)
        return context.stay(explanation, SLOW_POLL, cluster=None)
    due = state.next_attempt_time if state.next_attempt_time is not None else context.now
    if context.now < due and not resume_requested:
        explanation = Explanation("BackingOff", f"attempt {state.attempt + 1} starts at {format_time(due)}")
        return context.stay(explanation, due - context.now)
    named, recorded = context.observation.named, context.state.cluster
    edited = recorded is not None and changed_cluster_fields(context.spec, recorded, named)
    if cluster_failure(context) or named is None or edited:
        context = context.with_state(cluster=None)
    waiting = _wait_for_deletion(context)
    if waiting:
        return waiting
    blocker = attempt_blocker(context)
    if blocker:
        return _wait_within_deadline(context, blocker, max(due, state.phase_time or due))
    if resume_requested:
        context = context.with_state(resume_token=token)
    explanation = Explanation("Resuming", f"attempt {state.attempt + 1} continues the run")
    return start_attempt(context, explanation, resume=True)


def _wait_for_deletion(context: ReconcileContext) -> Outcome | None:
    """Wait until the clusters of earlier attempts are deleted, but not longer than `CLUSTER_GONE_SECONDS`."""
    current, kept = context.state.cluster.name if context.state.cluster else None, context.state.retained_cluster
    left = (context.state.phase_time or context.now) + CLUSTER_GONE_SECONDS - context.now
    old = [c.name for c in context.observation.clusters if is_owned(context, c) and c.name != current]
    old = [name for name in old if kept is None or name != kept.name]
    if not old or left <= 0:
        return None
    explanation = Explanation("ClusterTerminating", f"waiting for the deletion of RayCluster {', '.join(old)}")
    return context.stay(explanation, earliest(_POLL, left))


def _wait_within_deadline(context: ReconcileContext, blocker: Explanation, since: float) -> Outcome:
    left = since + context.deadline_seconds - context.now
    if left > 0:
        return context.stay(blocker, earliest(SLOW_POLL, left))
    text = (
        f"no attempt could start within {context.deadline_seconds:.0f} s (spec.preRunningDeadlineSeconds): "
        f"{blocker.message}"
    )
    return _fail_run(context, "PreRunningDeadlineExceeded", text)
