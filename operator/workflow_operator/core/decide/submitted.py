"""What Provisioning and Running share: what breaks an attempt off, what the head says of the submission, and the post.

A submission is posted only to the head that stands in the status, under the id that stands there.
"""

from __future__ import annotations

from workflow_operator.api.status import ClusterStatus, Phase
from workflow_operator.core.actions import HeadRef
from workflow_operator.core.conditions import Note
from workflow_operator.core.decide.attempts import code_note, code_of, stage, store_note
from workflow_operator.core.decide.context import Outcome, Turn, sooner
from workflow_operator.core.decide.ending import from_log
from workflow_operator.core.decide.failure import bad_input, cluster_failure, doomed, fail, in_use, submission_failure
from workflow_operator.core.log_facts import Standing
from workflow_operator.core.observation import ClusterView, HeadUnreachable, JobState, SubmissionView
from workflow_operator.core.state import Event
from workflow_operator.core.submission import submit

_POLL = 5.0
_QUICK = 1.0


def disrupted(turn: Turn) -> Outcome | None:
    """Why this attempt does not go on: the log has an end, cancel was asked, the cluster or the submission failed."""
    ended = from_log(turn)
    if ended:
        return ended
    if turn.cancel_wanted:
        return turn.moved(Event.CANCEL_ASKED, Note("CancelAsked", "spec.cancel is true"))
    found = cluster_failure(turn)
    if found:
        return fail(turn, found)
    found = bad_input(turn)
    if found:
        return doomed(turn, found)
    if in_use(turn):
        return step_back(turn)
    found = submission_failure(turn)
    return fail(turn, found) if found else None


def step_back(turn: Turn) -> Outcome:
    """Another owner has the run: wait for it in Pending, without a cluster."""
    note = Note("WorkflowIdInUse", "another owner has the run: waiting until it ends or is left", blocked=True)
    since = turn.state.blocked_since if turn.state.blocked_since is not None else turn.now
    return turn.moved(Event.ID_IN_USE, note, cluster=None, submission=None, blocked_since=since)


def answer_of_head(turn: Turn) -> Outcome | None:
    """What follows from the head's answer; None where the submission has to be posted."""
    said, cluster, submission = turn.seen.submission, turn.state.cluster, turn.state.submission
    if said is None or cluster is None or submission is None or cluster.head is None:
        return None
    if isinstance(said, HeadUnreachable):
        return _silent(turn, cluster, said)
    heard = cluster.model_copy(update={"unreachable_since": None})
    turn = turn.with_state(cluster=heard, submission=submission.model_copy(update={"state": said.state.value}))
    if said.state is JobState.UNKNOWN:
        return None
    if said.state is JobState.RUNNING:
        return _runs(turn)
    if said.state is JobState.PENDING:
        text = said.message or "the head prepares the submission's environment"
        return turn.stays(Note("SubmissionPending", text), _QUICK)
    return turn.stays(store_note(turn) if turn.facts.standing is Standing.UNREAD else _undecided(said), _QUICK)


def post(turn: Turn, cluster: ClusterView) -> Outcome:
    """Record the head, keep a copy of the code, post; later rounds read what became of it."""
    recorded, head, run, submission = turn.state.cluster, cluster.head, turn.run(), turn.state.submission
    if recorded is None or head is None or run is None or submission is None or turn.spec is None:
        return turn.stays(Note("InvalidSpec", turn.workflow.refusal, blocked=True, stalled=True), _POLL)
    if turn.facts.standing is Standing.UNREAD:
        return turn.stays(store_note(turn), _POLL)
    if turn.facts.standing is Standing.IN_USE:
        return step_back(turn)
    missing = code_note(turn)
    if missing:
        return turn.stays(missing, _POLL)
    code = code_of(turn)
    changed = recorded.model_copy(update={"head": head.identity, "unreachable_since": None})
    state = turn.state.model_copy(update={"cluster": changed, "code": code})
    target = HeadRef(cluster.name, head.identity, head.ip, cluster.token_secret)
    posting = submit(turn.spec, run, target, submission.id, code.sha256 if code else "")
    note = Note("Submitting", f"submitting to the head of RayCluster {cluster.name}")
    if turn.seen.refused:
        note = Note("SubmissionRefused", turn.seen.refused, blocked=True)
    return Outcome(state, note, (*stage(turn, state), posting), _QUICK)


def pace(turn: Turn) -> float:
    """Seconds until progress is read again: it follows the run's own."""
    last = turn.state.steps.changed or turn.state.phase_time or turn.now
    return sooner(max((turn.now - last) / 4, _QUICK), turn.seen.defaults.poll_seconds)


def _runs(turn: Turn) -> Outcome:
    if turn.state.phase is Phase.RUNNING:
        return turn.stays(running_note(turn), pace(turn))
    start = turn.state.start_time if turn.state.start_time is not None else turn.now
    return turn.moved(Event.SUBMISSION_RAN, running_note(turn), _QUICK, start_time=start)


def running_note(turn: Turn) -> Note:
    """How far the run is; or that its log cannot be read just now."""
    if turn.facts.standing is Standing.UNREAD:
        return store_note(turn)
    return Note("SubmissionRunning", f"attempt {turn.state.attempt} runs")


def _silent(turn: Turn, cluster: ClusterStatus, said: HeadUnreachable) -> Outcome:
    since = cluster.unreachable_since if cluster.unreachable_since is not None else turn.now
    left = since + turn.unreachable_seconds - turn.now
    note = Note("HeadUnreachable", said.message, blocked=True)
    changed = cluster.model_copy(update={"unreachable_since": since})
    return turn.stays(note, sooner(max(left, _QUICK), _POLL), cluster=changed)


def _undecided(said: SubmissionView) -> Note:
    return Note("SubmissionEnded", f"the submission ended {said.state.value}: reading the log")
