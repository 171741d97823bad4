"""Keeps the RayCluster of the last failed attempt for inspection, as `spec.cluster.retain` requests.

At most one RayCluster of a Workflow is kept, until a time that follows from the failure and the current spec. It can do
no harm to the run, because the fence of the log stops its manager when the next attempt claims the run.
"""

from __future__ import annotations

from workflow_operator.api.spec import Retain
from workflow_operator.api.status import Phase, RetainedCluster, WorkflowState
from workflow_operator.core.actions import Action, EmitEvent, StopSubmission
from workflow_operator.core.decide.context import ReconcileContext
from workflow_operator.core.decide.failure import is_owned
from workflow_operator.core.observation import ClusterView, JobState, SubmissionView
from workflow_operator.core.read_plan import head_to_query

BLOCKING_SECONDS = 300.0
"""If an attempt has no ready head after this time, a retained cluster may occupy the resources that it waits for."""

_AFTER_FAILURE = (Phase.RESUMABLE, Phase.FAILED)
_LIVE_JOBS = (JobState.PENDING, JobState.RUNNING)


def retained_cluster(context: ReconcileContext, state: WorkflowState) -> RetainedCluster | None:
    """Return the cluster that is kept after this round, or None.

    Args:
        context: the current round.
        state: the new state.
    """
    spec = context.spec
    if spec is None or spec.cluster.retain is not Retain.ON_FAILURE:
        return None
    if context.workflow.deleted is not None or context.cancel_requested:
        return None
    kept = _failed_cluster(context, state) or state.retained_cluster
    if kept is None or not _exists(context, kept):
        return None
    until = kept.since + spec.cluster.retain_seconds
    if context.now >= until or _blocks_attempt(context, state):
        return None
    return kept.model_copy(update={"until": until})


def effects(context: ReconcileContext, kept: RetainedCluster | None) -> tuple[Action, ...]:
    """Return an event about a cluster that is kept from now on, and the action that stops its driver."""
    before = context.workflow.state
    if kept is None or (before.retained_cluster is not None and before.retained_cluster.uid == kept.uid):
        return ()
    text = f"RayCluster {kept.name} of attempt {kept.attempt} is kept for inspection: see status.retainedCluster"
    event = EmitEvent("Normal", "ClusterRetained", text)
    head = head_to_query(context.workflow, context.observation.named)
    job = context.observation.submission
    if head is None or before.submission is None or not isinstance(job, SubmissionView) or job.state not in _LIVE_JOBS:
        return (event,)
    return (event, StopSubmission(head, before.submission.id))


def remaining_seconds(context: ReconcileContext, kept: RetainedCluster | None) -> float | None:
    """Return the seconds until the kept cluster is deleted, or None if there is none."""
    return None if kept is None else max(kept.until - context.now, 0.0)


def _failed_cluster(context: ReconcileContext, state: WorkflowState) -> RetainedCluster | None:
    """Return the cluster that a failed attempt leaves in this round, if there is anything to inspect on it."""
    recorded, failure = context.workflow.state.cluster, state.last_failure
    is_left = recorded is not None and state.cluster is None and state.phase in _AFTER_FAILURE
    if recorded is None or not is_left or not recorded.provisioned or recorded.head is None:
        return None
    named = context.observation.named
    if named is None or named.head is None:
        return None
    if state.phase is Phase.RESUMABLE and failure is not None and failure.reason == "RayClusterSuspended":
        return None
    attempt = context.workflow.state.attempt
    return RetainedCluster(name=recorded.name, uid=recorded.uid, attempt=attempt, since=context.now, until=context.now)


def _exists(context: ReconcileContext, kept: RetainedCluster) -> bool:
    return any(is_kept(cluster, kept) and is_owned(context, cluster) for cluster in context.observation.clusters)


def is_kept(cluster: ClusterView, kept: RetainedCluster | None) -> bool:
    """Return whether this is the kept cluster, and it is not being deleted."""
    return kept is not None and (cluster.name, cluster.uid) == (kept.name, kept.uid) and not cluster.deleting


def _blocks_attempt(context: ReconcileContext, state: WorkflowState) -> bool:
    """Return whether the current attempt has waited for its head so long that the kept cluster may be the cause."""
    if state.phase is not Phase.PROVISIONING or state.attempt_time is None:
        return False
    has_head = state.cluster is not None and state.cluster.head is not None
    return not has_head and context.now - state.attempt_time >= BLOCKING_SECONDS
