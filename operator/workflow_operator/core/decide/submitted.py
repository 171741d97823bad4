"""What Provisioning and Running share: what breaks an attempt off, what the head says of the submission, and the post.

A submission is posted only to the head that stands in the status, under the id that stands there.
"""

from __future__ import annotations

from workflow_operator.api.status import ClusterStatus, Phase
from workflow_operator.core.actions import HeadRef
from workflow_operator.core.conditions import Note
from workflow_operator.core.decide.attempts import code_note, code_of, stage, store_note
from workflow_operator.core.decide.context import Outcome, ReconcileContext, sooner
from workflow_operator.core.decide.ending import from_log
from workflow_operator.core.decide.failure import bad_input, cluster_failure, doomed, fail, in_use, submission_failure
from workflow_operator.core.log_facts import Ownership
from workflow_operator.core.observation import ClusterView, HeadUnreachable, JobState, SubmissionView
from workflow_operator.core.state import Event
from workflow_operator.core.submission import submit

_POLL = 5.0
_QUICK = 1.0


def disrupted(context: ReconcileContext) -> Outcome | None:
    """Why this attempt does not go on: the log has an end, cancel was asked, the cluster or the submission failed."""
    ended = from_log(context)
    if ended:
        return ended
    if context.cancel_wanted:
        return context.moved(Event.CANCEL_ASKED, Note("CancelAsked", "spec.cancel is true"))
    found = cluster_failure(context)
    if found:
        return fail(context, found)
    found = bad_input(context)
    if found:
        return doomed(context, found)
    if in_use(context):
        return step_back(context)
    found = submission_failure(context)
    return fail(context, found) if found else None


def step_back(context: ReconcileContext) -> Outcome:
    """Another owner has the run: wait for it in Pending, without a cluster."""
    note = Note("WorkflowIdInUse", "another owner has the run: waiting until it ends or is left", blocked=True)
    since = context.state.blocked_since if context.state.blocked_since is not None else context.now
    return context.moved(Event.ID_IN_USE, note, cluster=None, submission=None, blocked_since=since)


def answer_of_head(context: ReconcileContext) -> Outcome | None:
    """What follows from the head's answer; None where the submission has to be posted."""
    said, cluster, submission = context.seen.submission, context.state.cluster, context.state.submission
    if said is None or cluster is None or submission is None or cluster.head is None:
        return None
    if isinstance(said, HeadUnreachable):
        return _silent(context, cluster, said)
    heard = cluster.model_copy(update={"unreachable_since": None})
    context = context.with_state(cluster=heard, submission=submission.model_copy(update={"state": said.state.value}))
    if said.state is JobState.UNKNOWN:
        return None
    if said.state is JobState.RUNNING:
        return _runs(context)
    if said.state is JobState.PENDING:
        text = said.message or "the head prepares the submission's environment"
        return context.stays(Note("SubmissionPending", text), _QUICK)
    return context.stays(
        store_note(context) if context.facts.ownership is Ownership.UNREAD else _undecided(said), _QUICK
    )


def post(context: ReconcileContext, cluster: ClusterView) -> Outcome:
    """Record the head, keep a copy of the code, post; later rounds read what became of it."""
    recorded, head, run, submission = context.state.cluster, cluster.head, context.run(), context.state.submission
    if recorded is None or head is None or run is None or submission is None or context.spec is None:
        return context.stays(Note("InvalidSpec", context.workflow.refusal, blocked=True, stalled=True), _POLL)
    if context.facts.ownership is Ownership.UNREAD:
        return context.stays(store_note(context), _POLL)
    if context.facts.ownership is Ownership.IN_USE:
        return step_back(context)
    missing = code_note(context)
    if missing:
        return context.stays(missing, _POLL)
    code = code_of(context)
    changed = recorded.model_copy(update={"head": head.identity, "unreachable_since": None})
    state = context.state.model_copy(update={"cluster": changed, "code": code})
    target = HeadRef(cluster.name, head.identity, head.ip, cluster.token_secret)
    posting = submit(context.spec, run, target, submission.id, code.sha256 if code else "")
    note = Note("Submitting", f"submitting to the head of RayCluster {cluster.name}")
    if context.seen.refused:
        note = Note("SubmissionRefused", context.seen.refused, blocked=True)
    return Outcome(state, note, (*stage(context, state), posting), _QUICK)


def pace(context: ReconcileContext) -> float:
    """Seconds until progress is read again: it follows the run's own."""
    last = context.state.steps.changed or context.state.phase_time or context.now
    return sooner(max((context.now - last) / 4, _QUICK), context.seen.defaults.poll_seconds)


def _runs(context: ReconcileContext) -> Outcome:
    if context.state.phase is Phase.RUNNING:
        return context.stays(running_note(context), pace(context))
    start = context.state.start_time if context.state.start_time is not None else context.now
    return context.moved(Event.SUBMISSION_RAN, running_note(context), _QUICK, start_time=start)


def running_note(context: ReconcileContext) -> Note:
    """How far the run is; or that its log cannot be read just now."""
    if context.facts.ownership is Ownership.UNREAD:
        return store_note(context)
    return Note("SubmissionRunning", f"attempt {context.state.attempt} runs")


def _silent(context: ReconcileContext, cluster: ClusterStatus, said: HeadUnreachable) -> Outcome:
    since = cluster.unreachable_since if cluster.unreachable_since is not None else context.now
    left = since + context.unreachable_seconds - context.now
    note = Note("HeadUnreachable", said.message, blocked=True)
    changed = cluster.model_copy(update={"unreachable_since": since})
    return context.stays(note, sooner(max(left, _QUICK), _POLL), cluster=changed)


def _undecided(said: SubmissionView) -> Note:
    return Note("SubmissionEnded", f"the submission ended {said.state.value}: reading the log")
