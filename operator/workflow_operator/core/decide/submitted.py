"""The parts that Provisioning and Running share: interruptions, the state of the submission, and the submission itself.

The operator submits only to the head that is recorded in the status, with the submission id that is recorded there.
"""

from __future__ import annotations

from workflow_operator.api.status import ClusterStatus, Phase
from workflow_operator.core.actions import HeadRef
from workflow_operator.core.conditions import Explanation
from workflow_operator.core.decide.attempts import code_of, code_problem, stage_code, store_problem
from workflow_operator.core.decide.context import Outcome, ReconcileContext, earliest
from workflow_operator.core.decide.edits import with_submitted_spec
from workflow_operator.core.decide.ending import terminal_from_log
from workflow_operator.core.decide.failure import (
    cluster_failure,
    fail_attempt,
    fail_permanently,
    invalid_input,
    is_id_in_use,
    submission_failure,
)
from workflow_operator.core.log_facts import Ownership
from workflow_operator.core.observation import ClusterView, HeadUnreachable, JobState
from workflow_operator.core.state import Event
from workflow_operator.core.submission import submit

_POLL = 5.0
_SHORT_POLL = 1.0


def interruption(context: ReconcileContext) -> Outcome | None:
    """Return what ends this attempt, or None.

    It ends with a terminal state in the log, a cancel request, a failure, or another owner of the workflow id.
    """
    finished = terminal_from_log(context)
    if finished:
        return finished
    if context.cancel_requested:
        return context.move(Event.CANCEL_REQUESTED, Explanation("Canceling", "spec.cancel is true"))
    failure = cluster_failure(context)
    if failure:
        return fail_attempt(context, failure)
    failure = invalid_input(context)
    if failure:
        return fail_permanently(context, failure)
    if is_id_in_use(context):
        return wait_for_other_owner(context)
    failure = submission_failure(context)
    return fail_attempt(context, failure) if failure else None


def wait_for_other_owner(context: ReconcileContext) -> Outcome:
    """Return to Pending without a cluster, because another owner runs the workflow id."""
    text = "another owner runs the workflow id: waiting until that run is finished or released"
    since = context.state.blocked_since if context.state.blocked_since is not None else context.now
    explanation = Explanation("WorkflowIdInUse", text, blocked=True)
    return context.move(Event.ID_IN_USE, explanation, cluster=None, submission=None, blocked_since=since)


def follow_head(context: ReconcileContext) -> Outcome | None:
    """Return what follows from the reply of the head; None if the driver must be submitted."""
    reply, cluster, submission = context.observation.submission, context.state.cluster, context.state.submission
    if reply is None or cluster is None or submission is None or cluster.head is None:
        return None
    if isinstance(reply, HeadUnreachable):
        return _wait_for_head(context, cluster, reply)
    context = context.with_state(
        cluster=cluster.model_copy(update={"unreachable_since": None}),
        submission=submission.model_copy(update={"state": reply.state.value}),
    )
    if reply.state is JobState.UNKNOWN:
        return None
    if reply.state is JobState.RUNNING:
        return _submission_running(context)
    if reply.state is JobState.PENDING:
        text = reply.message or "the head is preparing the runtime environment of the submission"
        return context.stay(Explanation("SubmissionPending", text), _SHORT_POLL)
    if context.facts.ownership is Ownership.UNREAD:
        return context.stay(store_problem(context), _SHORT_POLL)
    text = f"the submission ended with state {reply.state.value}: reading the log"
    return context.stay(Explanation("SubmissionEnded", text), _SHORT_POLL)


def post_submission(context: ReconcileContext, cluster: ClusterView) -> Outcome:
    """Record the head, copy the code, and submit the driver. Later rounds read the result.

    Args:
        context: the current round.
        cluster: the recorded cluster, with a ready head.
    """
    recorded, head, run, submission = context.state.cluster, cluster.head, context.run(), context.state.submission
    if recorded is None or head is None or run is None or submission is None or context.spec is None:
        explanation = Explanation("InvalidSpec", context.workflow.refusal, blocked=True, stalled=True)
        return context.stay(explanation, _POLL)
    if context.facts.ownership is Ownership.UNREAD:
        return context.stay(store_problem(context), _POLL)
    if context.facts.ownership is Ownership.IN_USE:
        return wait_for_other_owner(context)
    problem = code_problem(context)
    if problem:
        return context.stay(problem, _POLL)
    code = code_of(context)
    with_head = recorded.model_copy(update={"head": head.identity, "unreachable_since": None})
    submitted = with_submitted_spec(submission, context.spec)
    state = context.state.model_copy(update={"cluster": with_head, "code": code, "submission": submitted})
    target = HeadRef(cluster.name, head.identity, head.ip, cluster.token_secret)
    action = submit(context.spec, run, target, submission.id, code.sha256 if code else "")
    explanation = Explanation("Submitting", f"submitting to the head of RayCluster {cluster.name}")
    if context.observation.refused:
        explanation = Explanation("SubmissionRefused", context.observation.refused, blocked=True)
    return Outcome(state, explanation, (*stage_code(context, state), action), _SHORT_POLL)


def progress_delay(context: ReconcileContext) -> float:
    """Return the seconds until the next read of the progress.

    The delay grows with the time since the last progress, up to `Defaults.poll_seconds`.
    """
    last = context.state.steps.changed or context.state.phase_time or context.now
    return earliest(max((context.now - last) / 4, _SHORT_POLL), context.observation.defaults.poll_seconds)


def _submission_running(context: ReconcileContext) -> Outcome:
    if context.state.phase is Phase.RUNNING:
        return context.stay(running_explanation(context), progress_delay(context))
    start = context.state.start_time if context.state.start_time is not None else context.now
    return context.move(Event.SUBMISSION_RUNNING, running_explanation(context), _SHORT_POLL, start_time=start)


def running_explanation(context: ReconcileContext) -> Explanation:
    """Return the explanation of the phase Running, which includes a failed read of the log."""
    if context.facts.ownership is Ownership.UNREAD:
        return store_problem(context)
    return Explanation("SubmissionRunning", f"the submission of attempt {context.state.attempt} is running")


def _wait_for_head(context: ReconcileContext, cluster: ClusterStatus, reply: HeadUnreachable) -> Outcome:
    since = cluster.unreachable_since if cluster.unreachable_since is not None else context.now
    left = since + context.unreachable_seconds - context.now
    unreachable = cluster.model_copy(update={"unreachable_since": since})
    explanation = Explanation("HeadUnreachable", reply.message, blocked=True)
    return context.stay(explanation, earliest(max(left, _SHORT_POLL), _POLL), cluster=unreachable)
