"""Detects failures of a cluster or its submission, and decides what follows.

The phases with an attempt call it. A cluster fails only on evidence. Its head pod, or the RayCluster itself, is
gone, replaced, being deleted or terminated. Or the head does not reply, and something else confirms its failure
(`reachability`). A pod that KubeRay could not create is not such evidence. Neither is `status.state` of KubeRay, which
stays `ready` while a head fails.
"""

from __future__ import annotations

from dataclasses import dataclass

from workflow.submission import ExitCode
from workflow_operator.api.spec import RecoveryPolicy
from workflow_operator.api.status import ClusterStatus, Ending, Failure, Phase, Resumes
from workflow_operator.core import backoff
from workflow_operator.core.attempt_count import (
    CLUSTER_SUSPENDED,
    HEAD_DISRUPTED,
    HEAD_NODE_LOST,
    EndedAttempt,
    count,
    end_of,
)
from workflow_operator.core.conditions import Explanation
from workflow_operator.core.decide.context import Outcome, ReconcileContext
from workflow_operator.core.decide.reachability import failure_of, no_reply
from workflow_operator.core.log_facts import Ownership, claimed_by
from workflow_operator.core.names import UID_LABEL, attempt_of
from workflow_operator.core.observation import ENDED_JOBS, ClusterView, Disruption, HeadView, JobState, SubmissionView
from workflow_operator.core.state import Event
from workflow_operator.core.texts import clip

UNREADABLE = "CheckpointsUnreadable"
"""The reason of a failure that every attempt repeats until a user restores an object in storage."""

MANAGER_UNRESPONSIVE = "ManagerUnresponsive"

_SHOWN_STEPS = 5
_MESSAGE_LIMIT = 1000
_MAX_ATTEMPTS_WITHOUT_RUN = 2
"""After this number of attempts that never owned the run, counted since the last progress, the cluster is replaced.
A cluster on which a manager still runs the run is kept."""


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
    if cluster.suspended:
        text = f"{name} was suspended after it was ready"
        return DetectedFailure(CLUSTER_SUSPENDED, text) if recorded.head else None
    if recorded.head is None and cluster.head is None and cluster.was_ready and is_owned(context, cluster):
        # The annotation NO_HEAD_RESTART applies, although no attempt was submitted to the head yet.
        return DetectedFailure("HeadPodLost", f"the head pod of {name} no longer exists, and KubeRay creates no other")
    return _head_failure(recorded, cluster.head, context.observation.disruption)


def unreachable_head(context: ReconcileContext) -> DetectedFailure | None:
    """Return the failure of a head that does not reply in this round, if it is confirmed; or None."""
    failure = failure_of(context, no_reply(context))
    return DetectedFailure(*failure) if failure else None


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
    if job.state not in ENDED_JOBS or job.exit_code == ExitCode.IN_USE:
        return None
    detail = f": {job.message}" if job.message else ""
    if job.state is JobState.STOPPED:
        return DetectedFailure("SubmissionStopped", f"the submission was stopped{detail}", head_alive=True)
    if job.state is JobState.SUCCEEDED:
        text = "the submission exited, but the run is not finished"
        return DetectedFailure("SubmissionEndedEarly", text, head_alive=True)
    if job.exit_code == ExitCode.MANAGER_UNRESPONSIVE:
        text = f"the manager of the run does not reply{detail}"
        return DetectedFailure(MANAGER_UNRESPONSIVE, text, head_alive=True)
    if job.exit_code == ExitCode.SUPERSEDED:
        text = f"a later submission attempt owns the run{detail}"
        return DetectedFailure("SubmissionSuperseded", text, head_alive=True)
    if job.exit_code == ExitCode.CHECKPOINTS_UNREADABLE:
        return DetectedFailure(UNREADABLE, f"an object of the run is missing or damaged{detail}")
    code = "" if job.exit_code is None else f" with exit code {job.exit_code}"
    return DetectedFailure("SubmissionFailed", f"the submission failed{code}{detail}", head_alive=True)


def is_id_in_use(context: ReconcileContext) -> bool:
    """Return whether the submission exited because another owner runs the workflow id, and the log agrees."""
    job = context.observation.submission
    exited_in_use = isinstance(job, SubmissionView) and job.state in ENDED_JOBS and job.exit_code == ExitCode.IN_USE
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
    resumes = _count_attempt(context, failure)
    works = failure.reason != MANAGER_UNRESPONSIVE and manager_works(context)
    keeps_cluster = (
        failure.head_alive
        and (works or resumes.never_ran < _MAX_ATTEMPTS_WITHOUT_RUN)
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


def manager_works(context: ReconcileContext) -> bool:
    """Return whether a manager on the created cluster of this attempt owns the run, by its heartbeat in the log.

    The driver of a later attempt can fail on that cluster, for example because the Secret changed. The run continues.
    """
    facts, cluster = context.facts, context.observation.named
    if cluster is None or facts.view is None or facts.view.owner is None or facts.ownership is not Ownership.OURS:
        return False
    return facts.owner_alive and facts.view.owner.attempt >= attempt_of(cluster.labels) > 0


def fail_permanently(context: ReconcileContext, failure: DetectedFailure) -> Outcome:
    """Return the transition for a failure that another attempt cannot fix: the next round prevents the run.

    The caller has checked that the log contains no run.
    """
    ending = Ending(status="FAILED", reason=failure.reason, message=clip(failure.message))
    return fail_attempt(context, failure, ending=ending)


def _head_failure(recorded: ClusterStatus, head: HeadView | None, seen: Disruption | None) -> DetectedFailure | None:
    """Return why the head has failed, or None.

    Args:
        recorded: the recorded cluster.
        head: the current head pod, or None.
        seen: why Kubernetes ended the recorded head pod, if that pod is gone and this is known.
    """
    if recorded.head is None:
        # KubeRay replaces a pod that failed before its Ray container started, for example one that a node rejected.
        if head is not None and head.phase == "Failed" and head.identity.container_id:
            text = f"head pod {head.pod_name} failed before it was ready{_reason_of(head)}"
            return _disrupted(text, head.disruption) or DetectedFailure("HeadPodFailed", text)
        return None
    problem = _lost_head(recorded, head)
    if not problem:
        return None
    is_recorded = head is not None and head.identity.pod_uid == recorded.head.pod_uid
    disruption = head.disruption if head is not None and is_recorded else None
    return _disrupted(problem, disruption or seen) or DetectedFailure("HeadPodLost", problem)


def _disrupted(problem: str, disruption: Disruption | None) -> DetectedFailure | None:
    """Return a failure that Kubernetes caused, or None if it did not."""
    if disruption is None:
        return None
    detail = f": {disruption.message}" if disruption.message else ""
    reason = HEAD_NODE_LOST if disruption.node_lost else HEAD_DISRUPTED
    return DetectedFailure(reason, f"{problem} ({disruption.reason}{detail})")


def _lost_head(recorded: ClusterStatus, head: HeadView | None) -> str:
    """Return why the recorded head is lost, or an empty string.

    A pod in the phase Unknown, or one without a state of its Ray container, may still work.
    """
    if head is None:
        return f"the head pod of RayCluster {recorded.name} no longer exists"
    if recorded.head is not None and head.identity.pod_uid != recorded.head.pod_uid:
        return f"the head pod of RayCluster {recorded.name} was replaced by {head.pod_name}"
    if head.deleting:
        return f"head pod {head.pod_name} is being deleted"
    why = _reason_of(head)
    if head.phase in ("Failed", "Succeeded"):
        return f"head pod {head.pod_name} is {head.phase}{why}"
    if head.identity.container_id and (head.identity != recorded.head or not head.running):
        return f"the Ray container of head pod {head.pod_name} terminated{why}"
    return ""


def _reason_of(head: HeadView) -> str:
    """Return why the head ended, in parentheses, for example `(OOMKilled, exit code 137, memory limit 2Gi)`."""
    known = head.detail if head.reason in head.detail else ", ".join(filter(None, (head.reason, head.detail)))
    return f" ({known})" if known else ""


def _count_attempt(context: ReconcileContext, failure: DetectedFailure) -> Resumes:
    """Count the failed attempt."""
    state, facts = context.state, context.facts
    is_ours = claimed_by(context.workflow, facts.view)
    started_with = state.attempt_steps
    ended = EndedAttempt(
        end=end_of(failure.reason),
        progressed=None if started_with is None else state.steps.succeeded > started_with,
        owned=_attempt_ran(context),
        log_read=facts.ownership is not Ownership.UNREAD,
        epochs=facts.view.epochs_without_progress if facts.view is not None and is_ours else 0,
    )
    return count(state.resumes, ended)


def _attempt_ran(context: ReconcileContext) -> bool:
    """Return whether this attempt owned the run, or attached to a manager whose heartbeat has not expired."""
    facts = context.facts
    if facts.view is None or facts.view.owner is None or not claimed_by(context.workflow, facts.view):
        return False
    is_attached = facts.owner_alive and context.state.phase is Phase.RUNNING
    return is_attached or facts.view.owner.attempt == context.state.attempt
