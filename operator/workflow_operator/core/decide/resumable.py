"""Resumable: the run has no end, and nothing of this object drives it.

Here it is decided whether it goes on: by itself after a wait, by a word of the user under Manual, or not at all, and
then the end is written to the log first.
"""

from __future__ import annotations

from workflow_operator.api.base import format_time
from workflow_operator.api.spec import RecoveryPolicy
from workflow_operator.api.status import Ending
from workflow_operator.core.conditions import Note, clip
from workflow_operator.core.decide.attempts import begin, obstacle, store_note
from workflow_operator.core.decide.context import SLOW_POLL, Outcome, Turn, sooner
from workflow_operator.core.decide.ending import end_run, from_log
from workflow_operator.core.decide.failure import cluster_failure, owned
from workflow_operator.core.decide.submitted import step_back
from workflow_operator.core.log_facts import Standing
from workflow_operator.core.names import RESUME_ANNOTATION
from workflow_operator.core.state import Event

_POLL = 5.0
CLUSTER_GONE_SECONDS = 60.0


def resumable(turn: Turn) -> Outcome:
    """One round in Resumable."""
    ended = from_log(turn)
    if ended:
        return ended
    if turn.cancel_wanted:
        return turn.moved(Event.CANCEL_ASKED, Note("CancelAsked", "spec.cancel is true"), ending=None)
    if turn.facts.standing is Standing.UNREAD:
        return turn.stays(store_note(turn), _POLL)
    if turn.facts.standing is Standing.IN_USE:
        return step_back(turn)
    if turn.state.ending is not None:
        note = Note(turn.state.ending.reason, f"writing the end to the log: {turn.state.ending.message}")
        return turn.stays(note, _POLL, *end_run(turn))
    if _used_up(turn):
        return _give_up(turn, "ResumesExhausted", _exhaustion(turn))
    return _wait_or_go_on(turn)


def _used_up(turn: Turn) -> bool:
    view = turn.facts.view
    stalled = view.stalled if view is not None and turn.facts.standing is Standing.OURS else 0
    return stalled + turn.state.resumes.never_ran >= turn.recovery.max_resumes and turn.state.last_failure is not None


def _exhaustion(turn: Turn) -> str:
    view, failure = turn.facts.view, turn.state.last_failure
    ran = (*(view.culprits if view else ()), *(failure.running_steps if failure else ()))
    culprits = f"; steps that ran when it died: {', '.join(dict.fromkeys(ran))}" if ran else ""
    last = f"; the last failure was {failure.reason}: {failure.message}" if failure else ""
    return (
        f"given up after {turn.state.resumes.without_progress} resumes or attempts in a row without a new finished "
        f"step (spec.recovery.maxResumes: {turn.recovery.max_resumes}){culprits}{last}"
    )


def _give_up(turn: Turn, reason: str, message: str) -> Outcome:
    ending = Ending(status="FAILED", reason=reason, message=clip(message))
    turn = turn.with_state(ending=ending)
    return turn.stays(Note(reason, message, blocked=True), 1.0, *end_run(turn))


def _wait_or_go_on(turn: Turn) -> Outcome:
    state = turn.state
    token = turn.workflow.annotations.get(RESUME_ANNOTATION, "")
    asked = bool(token) and token != state.resume_token
    if turn.recovery.policy is RecoveryPolicy.MANUAL and not asked:
        text = f"recovery is Manual: set the annotation {RESUME_ANNOTATION} to a new value to continue"
        return turn.stays(Note("WaitingForResume", text, blocked=True, stalled=True), SLOW_POLL, cluster=None)
    due = state.next_attempt_time if state.next_attempt_time is not None else turn.now
    if turn.now < due and not asked:
        note = Note("BackingOff", f"attempt {state.attempt + 1} begins at {format_time(due)}")
        return turn.stays(note, due - turn.now)
    if cluster_failure(turn) or turn.seen.named is None:
        turn = turn.with_state(cluster=None)
    left = (state.phase_time or turn.now) + CLUSTER_GONE_SECONDS - turn.now
    old = [cluster.name for cluster in turn.seen.clusters if owned(turn, cluster) and not _kept(turn, cluster.name)]
    if old and left > 0:
        note = Note("ClusterEnding", f"waiting until RayCluster {', '.join(old)} is gone")
        return turn.stays(note, sooner(_POLL, left))
    blocker = obstacle(turn)
    if blocker:
        return _blocked(turn, blocker, max(due, state.phase_time or due))
    if asked:
        turn = turn.with_state(resume_token=token)
    return begin(turn, Note("Resuming", f"attempt {state.attempt + 1} continues the run"), resume=True)


def _kept(turn: Turn, name: str) -> bool:
    return turn.state.cluster is not None and turn.state.cluster.name == name


def _blocked(turn: Turn, note: Note, since: float) -> Outcome:
    left = since + turn.deadline_seconds - turn.now
    if left > 0:
        return turn.stays(note, sooner(SLOW_POLL, left))
    text = f"no attempt could begin within {turn.deadline_seconds:.0f} s: {note.message}"
    return _give_up(turn, "PreRunningDeadlineExceeded", text)
