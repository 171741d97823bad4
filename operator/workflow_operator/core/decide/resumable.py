"""Phase Resumable: the run is not finished, and this Workflow has no submission for it.

The next attempt starts after a delay or, with recovery policy Manual, when the user changes an annotation. If the
resumes are exhausted, the operator writes FAILED to the log instead.
"""

from __future__ import annotations

from workflow.submission import REFUSALS
from workflow_operator.api.base import format_time
from workflow_operator.api.spec import RecoveryPolicy
from workflow_operator.api.status import Ending
from workflow_operator.core.conditions import Explanation
from workflow_operator.core.decide.attempts import attempt_blocker, start_attempt, store_problem
from workflow_operator.core.decide.context import SLOW_POLL, Outcome, ReconcileContext, earliest
from workflow_operator.core.decide.edits import changed_cluster_fields
from workflow_operator.core.decide.ending import end_run, fail_without_log, terminal_from_log
from workflow_operator.core.decide.failure import UNREADABLE, cluster_failure, is_owned
from workflow_operator.core.decide.limits import exhausted_limit
from workflow_operator.core.decide.submitted import wait_for_other_owner
from workflow_operator.core.log_facts import Ownership
from workflow_operator.core.names import RESUME_ANNOTATION
from workflow_operator.core.state import Event
from workflow_operator.core.texts import clip

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
    if ending is not None and ending.reason in REFUSALS and context.facts.ownership is Ownership.OURS:
        # The run was created after its input was refused, for example by an older submission: it continues.
        context, ending = context.with_state(ending=None), None
    if ending is not None:
        if context.facts.is_free_run_of_other_owner:
            return fail_without_log(context, Explanation(ending.reason, ending.message))
        text = f"writing the state {ending.status} to the log: {ending.message}"
        return context.stay(Explanation(ending.reason, text), _POLL, *end_run(context))
    exhausted = exhausted_limit(context)
    if exhausted:
        return _fail_run(context, *exhausted)
    return _wait_or_resume(context)


def _fail_run(context: ReconcileContext, reason: str, message: str) -> Outcome:
    """Write FAILED to the log. If this Workflow never owned the run, only the Workflow fails."""
    if context.facts.is_free_run_of_other_owner:
        return fail_without_log(context, Explanation(reason, message))
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
    failure = state.last_failure
    if failure is not None and failure.reason == UNREADABLE and not resume_requested:
        text = f"{failure.message}. Restore it from a copy, then set the annotation {RESUME_ANNOTATION} to resume"
        return context.stay(Explanation(UNREADABLE, text, blocked=True, stalled=True), SLOW_POLL, cluster=None)
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
    """Wait until nothing blocks the attempt. A run of this Workflow waits without a limit, but not its cluster."""
    left = since + context.deadline_seconds - context.now
    if left > 0:
        return context.stay(blocker, earliest(SLOW_POLL, left))
    if context.facts.ownership is Ownership.OURS:
        return context.stay(blocker, SLOW_POLL, cluster=None)
    text = (
        f"no attempt could start within {context.deadline_seconds:.0f} s (spec.preRunningDeadlineSeconds): "
        f"{blocker.message}"
    )
    return _fail_run(context, "PreRunningDeadlineExceeded", text)
