"""The parts that Provisioning and Running share: interruptions, the state of the submission, and the submission itself.

The operator submits only to the head that is recorded in the status, with the submission id that is recorded there.
"""

from __future__ import annotations

from workflow_operator.api.status import Phase
from workflow_operator.core.actions import HeadRef
from workflow_operator.core.conditions import Explanation
from workflow_operator.core.decide.attempts import code_of, code_problem, stage_code, store_problem
from workflow_operator.core.decide.context import Outcome, ReconcileContext, earliest
from workflow_operator.core.decide.edits import with_submitted_spec
from workflow_operator.core.decide.ending import terminal_from_log
from workflow_operator.core.decide.failure import (
    DetectedFailure,
    cluster_failure,
    fail_attempt,
    fail_permanently,
    is_id_in_use,
    submission_failure,
    unreachable_head,
)
from workflow_operator.core.decide.limits import exhausted_while_running
from workflow_operator.core.decide.reachability import REPLIED, NoReply, explain, no_reply
from workflow_operator.core.decide.refused import refused_submission
from workflow_operator.core.log_facts import Ownership, claimed_by
from workflow_operator.core.observation import ClusterView, HeadRefused, HeadUnreachable, JobState
from workflow_operator.core.owner_names import owner_name, run_metadata
from workflow_operator.core.state import Event
from workflow_operator.core.submission import stage_args, submit

_POLL = 5.0
_SHORT_POLL = 1.0
_SUBMISSION_SECONDS = 60.0


def interruption(context: ReconcileContext) -> Outcome | None:
    """Return what ends this attempt, or None.

    It ends with a terminal state in the log, a cancel request, a failure, or another owner of the workflow id.
    """
    finished = terminal_from_log(context)
    if finished:
        return finished
    if context.cancel_requested:
        return context.move(Event.CANCEL_REQUESTED, Explanation("Canceling", "spec.cancel is true"))
    failure = cluster_failure(context) or unreachable_head(context)
    if failure:
        return fail_attempt(context, failure)
    exhausted = exhausted_while_running(context)
    if exhausted:
        return fail_permanently(context, DetectedFailure("ResumesExhausted", exhausted, head_alive=True))
    refused = refused_submission(context)
    if refused:
        return refused
    if is_id_in_use(context):
        return wait_for_other_owner(context)
    failure = submission_failure(context)
    return fail_attempt(context, failure) if failure else None


def wait_for_other_owner(context: ReconcileContext) -> Outcome:
    """Return to Pending without a cluster, because another owner runs the workflow id."""
    owner = owner_name(context.facts.view if context.facts.ownership is Ownership.IN_USE else None)
    text = f"{owner} runs the workflow id: waiting until that run is finished or released"
    since = context.state.blocked_since if context.state.blocked_since is not None else context.now
    explanation = Explanation("WorkflowIdInUse", text, blocked=True)
    return context.move(Event.ID_IN_USE, explanation, cluster=None, submission=None, blocked_since=since)


def follow_head(context: ReconcileContext) -> Outcome | None:
    """Return what follows from the reply of the head; None if the driver must be submitted."""
    reply, cluster, submission = context.observation.submission, context.state.cluster, context.state.submission
    if reply is None or cluster is None or submission is None or cluster.head is None:
        return None
    found = no_reply(context)
    if found is not None:
        return _wait_for_head(context, found)
    if isinstance(reply, HeadRefused):
        return _wait_for_answer(context, reply)
    if isinstance(reply, HeadUnreachable):  # the pod disappeared in this round, which `cluster_failure` decides
        return context.stay(Explanation("HeadUnreachable", reply.message, blocked=True), _SHORT_POLL)
    context = context.with_state(
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
    with_head = recorded.model_copy(update={"head": head.identity, **REPLIED})
    submitted = with_submitted_spec(submission, context.spec)
    state = context.state.model_copy(update={"cluster": with_head, "code": code, "submission": submitted})
    if recorded.head is None:
        state = state.model_copy(update={"attempt_time": _time_to_submit(context)})
    target = HeadRef(cluster.name, head.identity, head.ip, cluster.token_secret)
    sha256, exists = code.sha256 if code else "", context.state.epoch > 0
    metadata = run_metadata(context.workflow.namespace, context.workflow.name, context.workflow.uid)
    action = submit(context.spec, run, target, submission.id, sha256, metadata, run_exists=exists)
    explanation = Explanation("Submitting", f"submitting to the head of RayCluster {cluster.name}")
    if context.observation.refused:
        explanation = Explanation("SubmissionRefused", context.observation.refused, blocked=True)
    args = () if claimed_by(context.workflow, context.facts.view) else stage_args(context.spec, run)
    return Outcome(state, explanation, (*stage_code(context, state), *args, action), _SHORT_POLL)


def progress_delay(context: ReconcileContext) -> float:
    """Return the seconds until the next read of the progress.

    The delay grows with the time since the last progress, up to `Defaults.poll_seconds`.
    """
    last = context.state.steps.changed or context.state.phase_time or context.now
    return earliest(max((context.now - last) / 4, _SHORT_POLL), context.observation.defaults.poll_seconds)


def _submission_running(context: ReconcileContext) -> Outcome:
    if context.state.phase is Phase.RUNNING:
        return context.stay(running_explanation(context), progress_delay(context))
    return _enter_running(context, running_explanation(context))


def _enter_running(context: ReconcileContext, explanation: Explanation) -> Outcome:
    start = context.state.start_time if context.state.start_time is not None else context.now
    return context.move(Event.SUBMISSION_RUNNING, explanation, _SHORT_POLL, start_time=start)


def running_explanation(context: ReconcileContext) -> Explanation:
    """Return the explanation of the phase Running, which includes a failed read of the log and trouble of KubeRay.

    The condition WorkersReady shows the trouble of workers.
    """
    if context.facts.ownership is Ownership.UNREAD:
        return store_problem(context)
    text = f"the submission of attempt {context.state.attempt} is running"
    named = context.observation.named
    if named is not None and named.failed and "Worker" not in named.failed.partition(":")[0]:
        problem = f"KubeRay cannot change the pods of RayCluster {named.name}: {named.failed}"
        return Explanation("ReplicaFailure", f"{text} on the pods that exist; {problem}", blocked=True)
    return Explanation("SubmissionRunning", text)


def _wait_for_head(context: ReconcileContext, found: NoReply) -> Outcome:
    """Wait for a head that does not reply. If the log shows that the attempt runs, its phase is Running."""
    context = context.with_state(cluster=found.cluster)
    explanation = explain(context, found)
    if _runs_by_log(context):
        return _enter_running(context, explanation)
    left = context.unreachable_seconds - found.seconds
    return context.stay(explanation, earliest(max(left, _SHORT_POLL), _POLL))


def _wait_for_answer(context: ReconcileContext, reply: HeadRefused) -> Outcome:
    """Wait until the head reports the state of the submission. A reply, even a refusal, proves that the head works."""
    explanation = Explanation(reply.reason, reply.message, blocked=True)
    if _runs_by_log(context):
        return _enter_running(context, explanation)
    return context.stay(explanation, _POLL)


def _runs_by_log(context: ReconcileContext) -> bool:
    """Return whether this attempt is in Provisioning, although the log shows that its manager runs the run."""
    facts, view = context.facts, context.facts.view
    owner = view.owner if view is not None and facts.ownership is Ownership.OURS else None
    is_own = owner is not None and owner.attempt == context.state.attempt
    return context.state.phase is Phase.PROVISIONING and is_own and facts.owner_alive


def _time_to_submit(context: ReconcileContext) -> float:
    """Return the start of the attempt, corrected so that the submission has a minute after the head became ready.

    The head may have become ready long ago, while no operator was running.
    """
    started = context.state.attempt_time if context.state.attempt_time is not None else context.now
    reserved = min(_SUBMISSION_SECONDS, context.deadline_seconds)
    return max(started, context.now - context.deadline_seconds + reserved)
