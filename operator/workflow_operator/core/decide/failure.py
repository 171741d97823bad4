"""When a cluster, or what was submitted to it, has failed.

Called in the phases that have an attempt. KubeRay's `status.state` says nothing here: it stays `ready` while a head
dies.
"""

from __future__ import annotations

from dataclasses import dataclass

from workflow.submission import ExitCode
from workflow_operator.api.spec import RecoveryPolicy
from workflow_operator.api.status import ClusterStatus, Ending, Failure, Resumes
from workflow_operator.core import backoff
from workflow_operator.core.conditions import Note, clip
from workflow_operator.core.decide.context import Outcome, ReconcileContext
from workflow_operator.core.log_facts import Ownership, is_mine
from workflow_operator.core.names import UID_LABEL
from workflow_operator.core.observation import ClusterView, HeadView, JobState, SubmissionView
from workflow_operator.core.state import Event

_ENDED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.STOPPED})
_SHOWN_STEPS = 5


@dataclass(frozen=True, slots=True)
class Found:
    """A failure.

    Attributes:
        reason: one CamelCase word.
        message: in words.
        head_lives: only the submission died; the same cluster can take the next one.
    """

    reason: str
    message: str
    head_lives: bool = False


def cluster_failure(context: ReconcileContext) -> Found | None:
    """Why the cluster of this attempt has failed, or None."""
    recorded, cluster = context.state.cluster, context.seen.named
    if recorded is None:
        return None
    if cluster is None:
        return Found("RayClusterDeleted", f"RayCluster {recorded.name} was deleted") if recorded.uid else None
    if recorded.uid and cluster.uid != recorded.uid:
        return Found("RayClusterDeleted", f"RayCluster {recorded.name} was deleted, another stands under its name")
    if not recorded.uid and not owned(context, cluster):
        return None
    if cluster.deleting:
        return Found("RayClusterDeleted", f"RayCluster {recorded.name} is being deleted")
    if cluster.failed:
        return Found("RayClusterFailed", f"RayCluster {recorded.name} failed: {cluster.failed}")
    if cluster.suspended:
        text = f"RayCluster {recorded.name} was suspended after it was ready"
        return Found("RayClusterSuspended", text) if recorded.head else None
    return _head_failure(recorded, cluster.head) or _silence(context, recorded)


def submission_failure(context: ReconcileContext) -> Found | None:
    """Why the submission counts as failed, where it ended and the log has no end; None while it lives or is unknown.

    The exit code IN_USE is no failure and not answered here.
    """
    job = context.seen.submission
    if not isinstance(job, SubmissionView) or context.facts.ownership is Ownership.UNREAD:
        return None
    if context.facts.ownership is Ownership.FREE and context.facts.run_number > context.state.run_number:
        text = f"the name of run {context.state.run_number} was taken away before the run began"
        return Found("RunSwept", text, head_lives=True)
    if job.state not in _ENDED or job.exit_code == ExitCode.IN_USE:
        return None
    words = f": {job.message}" if job.message else ""
    if job.state is JobState.STOPPED:
        return Found("SubmissionStopped", f"the submission was stopped{words}", head_lives=True)
    if job.state is JobState.SUCCEEDED:
        return Found("SubmissionEndedEarly", "the submission ended, but the log has no end", head_lives=True)
    if job.exit_code == ExitCode.MANAGER_UNRESPONSIVE:
        return Found("ManagerUnresponsive", f"the run's manager does not answer{words}", head_lives=True)
    if job.exit_code == ExitCode.SUPERSEDED:
        return Found("SubmissionSuperseded", f"the submission found a later attempt{words}", head_lives=True)
    code = "" if job.exit_code is None else f" with exit code {job.exit_code}"
    return Found("SubmissionFailed", f"the submission failed{code}{words}", head_lives=True)


def in_use(context: ReconcileContext) -> bool:
    """The submission said that another owner has the run, and the log does not say otherwise."""
    job = context.seen.submission
    said = isinstance(job, SubmissionView) and job.state in _ENDED and job.exit_code == ExitCode.IN_USE
    return said and context.facts.ownership in (Ownership.IN_USE, Ownership.FREE)


def bad_input(context: ReconcileContext) -> Found | None:
    """The submission could not even read what it was given; no later attempt can."""
    job = context.seen.submission
    if isinstance(job, SubmissionView) and job.state in _ENDED and job.exit_code == ExitCode.BAD_INPUT:
        return Found("EntrypointInvalid", job.message or "the entrypoint refused its input", head_lives=True)
    return None


def owned(context: ReconcileContext, cluster: ClusterView) -> bool:
    """We made this cluster for this object: owner reference and label both say so."""
    uid = context.workflow.uid
    return cluster.owner_uid == uid and cluster.labels.get(UID_LABEL) == uid


def fail(context: ReconcileContext, found: Found, **changes: object) -> Outcome:
    """The outcome of a failure: Resumable, with the time of the next attempt."""
    resumes = _counted(context)
    keep = found.head_lives and resumes.never_ran < 2 and context.recovery.policy is RecoveryPolicy.AUTOMATIC
    wait = backoff.delay(context.recovery.backoff, resumes.without_progress)
    view = context.facts.view
    running = [step.step_id for step in view.steps if str(step.phase) == "RUNNING"] if view is not None else []
    failure = Failure(
        time=context.now,
        reason=found.reason,
        message=clip(found.message, 1000),
        running_steps=tuple(running[:_SHOWN_STEPS]),
    )
    note = Note(found.reason, found.message, blocked=True)
    return context.moved(
        Event.ATTEMPT_FAILED,
        note,
        wait,
        resumes=resumes,
        last_failure=failure,
        cluster=context.state.cluster if keep else None,
        submission=None,
        next_attempt_time=context.now + wait,
        **changes,
    )


def doomed(context: ReconcileContext, found: Found) -> Outcome:
    """A failure that no later attempt can mend: the end is written to the log next."""
    return fail(context, found, ending=Ending(status="FAILED", reason=found.reason, message=clip(found.message)))


def _head_failure(recorded: ClusterStatus, head: HeadView | None) -> Found | None:
    if recorded.head is None:
        if head is not None and head.phase == "Failed":
            why = f" ({head.reason})" if head.reason else ""
            return Found("HeadPodFailed", f"head pod {head.pod_name} failed before it was ready{why}")
        return None
    if head is None:
        return Found("HeadPodLost", f"the head pod of RayCluster {recorded.name} is gone")
    if head.identity.pod_uid != recorded.head.pod_uid:
        return Found("HeadPodLost", f"the head pod of RayCluster {recorded.name} was replaced by {head.pod_name}")
    if head.deleting:
        return Found("HeadPodLost", f"head pod {head.pod_name} is being deleted")
    if head.identity != recorded.head or not head.running:
        why = f" ({head.reason})" if head.reason else ""
        return Found("HeadPodLost", f"the Ray container of head pod {head.pod_name} ended{why}")
    if head.phase != "Running":
        return Found("HeadPodLost", f"head pod {head.pod_name} is {head.phase} {head.reason}".rstrip())
    return None


def _silence(context: ReconcileContext, recorded: ClusterStatus) -> Found | None:
    since = recorded.unreachable_since
    if since is None or context.now - since < context.unreachable_seconds:
        return None
    return Found(
        "HeadUnreachable", f"the head of RayCluster {recorded.name} did not answer for {context.now - since:.0f} s"
    )


def _counted(context: ReconcileContext) -> Resumes:
    """Attempts that came to nothing are counted here, ownerships without progress in the log."""
    old, facts = context.state.resumes, context.facts
    stalled = (
        facts.view.epochs_without_progress if facts.view is not None and is_mine(context.workflow, facts.view) else 0
    )
    never = old.never_ran
    if facts.ownership is not Ownership.UNREAD and not _ran(context):
        never += 1
    return old.model_copy(update={"never_ran": never, "without_progress": stalled + never})


def _ran(context: ReconcileContext) -> bool:
    """This attempt came to own the run, or watched a manager that lives."""
    facts = context.facts
    if facts.view is None or facts.view.owner is None or not is_mine(context.workflow, facts.view):
        return False
    return facts.alive or facts.view.owner.attempt == context.state.attempt
