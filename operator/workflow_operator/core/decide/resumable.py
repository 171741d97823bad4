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
from workflow_operator.core.decide.context import SLOW_POLL, Outcome, ReconcileContext, sooner
from workflow_operator.core.decide.ending import end_run, from_log
from workflow_operator.core.decide.failure import cluster_failure, owned
from workflow_operator.core.decide.submitted import step_back
from workflow_operator.core.log_facts import Ownership
from workflow_operator.core.names import RESUME_ANNOTATION
from workflow_operator.core.state import Event

_POLL = 5.0
CLUSTER_GONE_SECONDS = 60.0


def resumable(context: ReconcileContext) -> Outcome:
    """One round in Resumable."""
    ended = from_log(context)
    if ended:
        return ended
    if context.cancel_wanted:
        return context.moved(Event.CANCEL_ASKED, Note("CancelAsked", "spec.cancel is true"), ending=None)
    if context.facts.ownership is Ownership.UNREAD:
        return context.stays(store_note(context), _POLL)
    if context.facts.ownership is Ownership.IN_USE:
        return step_back(context)
    if context.state.ending is not None:
        note = Note(context.state.ending.reason, f"writing the end to the log: {context.state.ending.message}")
        return context.stays(note, _POLL, *end_run(context))
    if _used_up(context):
        return _give_up(context, "ResumesExhausted", _exhaustion(context))
    return _wait_or_go_on(context)


def _used_up(context: ReconcileContext) -> bool:
    view = context.facts.view
    stalled = view.epochs_without_progress if view is not None and context.facts.ownership is Ownership.OURS else 0
    return (
        stalled + context.state.resumes.never_ran >= context.recovery.max_resumes
        and context.state.last_failure is not None
    )


def _exhaustion(context: ReconcileContext) -> str:
    view, failure = context.facts.view, context.state.last_failure
    ran = (*(view.suspect_steps if view else ()), *(failure.running_steps if failure else ()))
    suspect_steps = f"; steps that ran when it died: {', '.join(dict.fromkeys(ran))}" if ran else ""
    last = f"; the last failure was {failure.reason}: {failure.message}" if failure else ""
    return (
        f"given up after {context.state.resumes.without_progress} resumes or attempts in a row without a new finished "
        f"step (spec.recovery.maxResumes: {context.recovery.max_resumes}){suspect_steps}{last}"
    )


def _give_up(context: ReconcileContext, reason: str, message: str) -> Outcome:
    ending = Ending(status="FAILED", reason=reason, message=clip(message))
    context = context.with_state(ending=ending)
    return context.stays(Note(reason, message, blocked=True), 1.0, *end_run(context))


def _wait_or_go_on(context: ReconcileContext) -> Outcome:
    state = context.state
    token = context.workflow.annotations.get(RESUME_ANNOTATION, "")
    asked = bool(token) and token != state.resume_token
    if context.recovery.policy is RecoveryPolicy.MANUAL and not asked:
        text = f"recovery is Manual: set the annotation {RESUME_ANNOTATION} to a new value to continue"
        return context.stays(Note("WaitingForResume", text, blocked=True, stalled=True), SLOW_POLL, cluster=None)
    due = state.next_attempt_time if state.next_attempt_time is not None else context.now
    if context.now < due and not asked:
        note = Note("BackingOff", f"attempt {state.attempt + 1} begins at {format_time(due)}")
        return context.stays(note, due - context.now)
    if cluster_failure(context) or context.seen.named is None:
        context = context.with_state(cluster=None)
    left = (state.phase_time or context.now) + CLUSTER_GONE_SECONDS - context.now
    old = [
        cluster.name
        for cluster in context.seen.clusters
        if owned(context, cluster) and not _kept(context, cluster.name)
    ]
    if old and left > 0:
        note = Note("ClusterEnding", f"waiting until RayCluster {', '.join(old)} is gone")
        return context.stays(note, sooner(_POLL, left))
    blocker = obstacle(context)
    if blocker:
        return _blocked(context, blocker, max(due, state.phase_time or due))
    if asked:
        context = context.with_state(resume_token=token)
    return begin(context, Note("Resuming", f"attempt {state.attempt + 1} continues the run"), resume=True)


def _kept(context: ReconcileContext, name: str) -> bool:
    return context.state.cluster is not None and context.state.cluster.name == name


def _blocked(context: ReconcileContext, note: Note, since: float) -> Outcome:
    left = since + context.deadline_seconds - context.now
    if left > 0:
        return context.stays(note, sooner(SLOW_POLL, left))
    text = f"no attempt could begin within {context.deadline_seconds:.0f} s: {note.message}"
    return _give_up(context, "PreRunningDeadlineExceeded", text)
