"""Detects failures of a cluster or its submission, and decides what follows.

The phases with an attempt call it. It does not use `status.state` of KubeRay, which stays `ready` while a head fails.
"""

from __future__ import annotations

from dataclasses import dataclass

from workflow.submission import ExitCode
from workflow_operator.api.spec import RecoveryPolicy
from workflow_operator.api.status import ClusterStatus, Ending, Failure, Resumes
from workflow_operator.core import backoff
from workflow_operator.core.conditions import Explanation, clip
from workflow_operator.core.decide.context import Outcome, ReconcileContext
from workflow_operator.core.log_facts import Ownership, claimed_by
from workflow_operator.core.names import UID_LABEL
from workflow_operator.core.observation import ClusterView, HeadView, JobState, SubmissionView
from workflow_operator.core.state import Event

_ENDED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.STOPPED})
_SHOWN_STEPS = 5
_MESSAGE_LIMIT = 1000
_MAX_ATTEMPTS_WITHOUT_RUN = 2
"""After this number of attempts that never owned the run, counted since the last progress, the cluster is replaced."""


@dataclass(frozen=True, slots=True)
class DetectedFailure:
    """A failure of the current attempt.

    Attributes:
        reason: one CamelCase word.
        message: an explanation for people.
        head_alive: whether only the submission failed, so that the same cluster can run the next attempt.
    """

    reason: str
    message: str
    head_alive: bool = False


def cluster_failure(context: ReconcileContext) -> DetectedFailure | None:
    """Return why the cluster of this attempt has failed, or None."""
    recorded, cluster = context.state.cluster, context.observation.named
    if recorded is None:
        return None
    name = f"RayCluster {recorded.name}"
    if cluster is None:
        return DetectedFailure("RayClusterDeleted", f"{name} was deleted") if recorded.uid else None
    if recorded.uid and cluster.uid != recorded.uid:
        return DetectedFailure("RayClusterDeleted", f"{name} was deleted, and another one has its name")
    if not recorded.uid and not is_owned(context, cluster):
        return None
    if cluster.deleting:
        return DetectedFailure("RayClusterDeleted", f"{name} is being deleted")
    if cluster.failed:
        return DetectedFailure("RayClusterFailed", f"{name} failed: {cluster.failed}")
    if cluster.suspended:
        text = f"{name} was suspended after it was ready"
        return DetectedFailure("RayClusterSuspended", text) if recorded.head else None
    return _head_failure(recorded, cluster.head) or _head_timeout(context, recorded)


def submission_failure(context: ReconcileContext) -> DetectedFailure | None:
    """Return why the submission has failed, or None while it runs or its state is unknown.

    The caller has checked that the log contains no terminal state. The exit code IN_USE is not a failure, and
    `is_id_in_use` handles it.
    """
    job = context.observation.submission
    if not isinstance(job, SubmissionView) or context.facts.ownership is Ownership.UNREAD:
        return None
    if context.facts.ownership is Ownership.FREE and context.facts.run_number > context.state.run_number:
        text = f"run {context.state.run_number} was abandoned before it was created"
        return DetectedFailure("RunAbandoned", text, head_alive=True)
    if job.state not in _ENDED or job.exit_code == ExitCode.IN_USE:
        return None
    detail = f": {job.message}" if job.message else ""
    if job.state is JobState.STOPPED:
        return DetectedFailure("SubmissionStopped", f"the submission was stopped{detail}", head_alive=True)
    if job.state is JobState.SUCCEEDED:
        text = "the submission exited, but the run is not finished"
        return DetectedFailure("SubmissionEndedEarly", text, head_alive=True)
    if job.exit_code == ExitCode.MANAGER_UNRESPONSIVE:
        text = f"the manager of the run does not reply{detail}"
        return DetectedFailure("ManagerUnresponsive", text, head_alive=True)
    if job.exit_code == ExitCode.SUPERSEDED:
        text = f"a later submission attempt owns the run{detail}"
        return DetectedFailure("SubmissionSuperseded", text, head_alive=True)
    code = "" if job.exit_code is None else f" with exit code {job.exit_code}"
    return DetectedFailure("SubmissionFailed", f"the submission failed{code}{detail}", head_alive=True)


def is_id_in_use(context: ReconcileContext) -> bool:
    """Return whether the submission exited because another owner runs the workflow id, and the log agrees."""
    job = context.observation.submission
    exited_in_use = isinstance(job, SubmissionView) and job.state in _ENDED and job.exit_code == ExitCode.IN_USE
    return exited_in_use and context.facts.ownership in (Ownership.IN_USE, Ownership.FREE)


def is_owned(context: ReconcileContext, cluster: ClusterView) -> bool:
    """Return whether the operator created a cluster for this Workflow, by its owner reference and its label."""
    uid = context.workflow.uid
    return cluster.owner_uid == uid and cluster.labels.get(UID_LABEL) == uid


def fail_attempt(context: ReconcileContext, failure: DetectedFailure, **changes: object) -> Outcome:
    """Return the transition to Resumable, with the time of the next attempt.

    Args:
        context: the current round.
        failure: why the attempt failed.
        changes: further changes of the state.
    """
    resumes = _count_attempt(context)
    keeps_cluster = (
        failure.head_alive
        and resumes.never_ran < _MAX_ATTEMPTS_WITHOUT_RUN
        and context.recovery.policy is RecoveryPolicy.AUTOMATIC
    )
    wait = backoff.delay(context.recovery.backoff, resumes.without_progress)
    view = context.facts.view
    running = [step.step_id for step in view.steps if str(step.phase) == "RUNNING"] if view is not None else []
    recorded = Failure(
        time=context.now,
        reason=failure.reason,
        message=clip(failure.message, _MESSAGE_LIMIT),
        running_steps=tuple(running[:_SHOWN_STEPS]),
    )
    return context.move(
        Event.ATTEMPT_FAILED,
        Explanation(failure.reason, failure.message, blocked=True),
        wait,
        resumes=resumes,
        last_failure=recorded,
        cluster=context.state.cluster if keeps_cluster else None,
        submission=None,
        next_attempt_time=context.now + wait,
        **changes,
    )


def fail_permanently(context: ReconcileContext, failure: DetectedFailure) -> Outcome:
    """Return the transition for a failure that another attempt cannot fix: the next round prevents the run.

    The caller has checked that the log contains no run.
    """
    ending = Ending(status="FAILED", reason=failure.reason, message=clip(failure.message))
    return fail_attempt(context, failure, ending=ending)


def _head_failure(recorded: ClusterStatus, head: HeadView | None) -> DetectedFailure | None:
    if recorded.head is None:
        if head is not None and head.phase == "Failed":
            why = f" ({head.reason})" if head.reason else ""
            return DetectedFailure("HeadPodFailed", f"head pod {head.pod_name} failed before it was ready{why}")
        return None
    problem = _lost_head(recorded, head)
    return DetectedFailure("HeadPodLost", problem) if problem else None


def _lost_head(recorded: ClusterStatus, head: HeadView | None) -> str:
    """Return why the recorded head is lost, or an empty string."""
    if head is None:
        return f"the head pod of RayCluster {recorded.name} no longer exists"
    if recorded.head is not None and head.identity.pod_uid != recorded.head.pod_uid:
        return f"the head pod of RayCluster {recorded.name} was replaced by {head.pod_name}"
    if head.deleting:
        return f"head pod {head.pod_name} is being deleted"
    if head.identity != recorded.head or not head.running:
        why = f" ({head.reason})" if head.reason else ""
        return f"the Ray container of head pod {head.pod_name} terminated{why}"
    if head.phase != "Running":
        return f"head pod {head.pod_name} is {head.phase} {head.reason}".rstrip()
    return ""


def _head_timeout(context: ReconcileContext, recorded: ClusterStatus) -> DetectedFailure | None:
    since = recorded.unreachable_since
    if since is None or context.now - since < context.unreachable_seconds:
        return None
    text = f"the head of RayCluster {recorded.name} did not reply for {context.now - since:.0f} s"
    return DetectedFailure("HeadUnreachable", text)


def _count_attempt(context: ReconcileContext) -> Resumes:
    """Count the failed attempt.

    The status counts attempts that never owned the run. The log counts epochs without progress.
    """
    old, facts = context.state.resumes, context.facts
    is_ours = claimed_by(context.workflow, facts.view)
    epochs = facts.view.epochs_without_progress if facts.view is not None and is_ours else 0
    never_ran = old.never_ran
    if facts.ownership is not Ownership.UNREAD and not _attempt_ran(context):
        never_ran += 1
    return old.model_copy(update={"never_ran": never_ran, "without_progress": epochs + never_ran})


def _attempt_ran(context: ReconcileContext) -> bool:
    """Return whether this attempt owned the run, or attached to a manager whose heartbeat has not expired."""
    facts = context.facts
    if facts.view is None or facts.view.owner is None or not claimed_by(context.workflow, facts.view):
        return False
    return facts.owner_alive or facts.view.owner.attempt == context.state.attempt
