"""Phase Provisioning: an attempt has started, and its submission is not running yet.

The operator creates or selects the cluster, and then records the identity of the head in the status. Only then it
submits, and only to that head.
"""

from __future__ import annotations

from dataclasses import replace

from workflow_operator.api.status import ClusterStatus
from workflow_operator.core.actions import CreateCluster
from workflow_operator.core.attempt_count import TEMPLATE_CHANGED
from workflow_operator.core.cluster_manifest import Refusal
from workflow_operator.core.conditions import Explanation
from workflow_operator.core.decide.attempts import manifest_of
from workflow_operator.core.decide.context import SLOW_POLL, Outcome, ReconcileContext, earliest
from workflow_operator.core.decide.edits import changed_cluster_fields
from workflow_operator.core.decide.ending import stop_on_selected_cluster
from workflow_operator.core.decide.failure import DetectedFailure, fail_attempt, is_owned
from workflow_operator.core.decide.sidecars import sidecar_problem, wait_for_sidecars
from workflow_operator.core.decide.submitted import follow_head, interruption, post_submission
from workflow_operator.core.log_facts import Ownership
from workflow_operator.core.names import UID_LABEL, cluster_name
from workflow_operator.core.observation import ClusterView, HeadRefused, HeadUnreachable

_POLL = 5.0
_INVALID = ("InvalidRayCluster",)
"""Start of the reasons of KubeRay's events on a spec that it does not accept."""


def provisioning(context: ReconcileContext) -> Outcome:
    """Decide a round in Provisioning."""
    return interruption(context) or _limit_by_deadline(context, _provision(context))


def _limit_by_deadline(context: ReconcileContext, outcome: Outcome) -> Outcome:
    """Fail the attempt if it stays in Provisioning after the deadline. Time in a queue does not count."""
    state = outcome.state
    if state.phase is not context.state.phase or (state.cluster is not None and state.cluster.queued):
        return outcome
    if _may_run_unseen(context):
        return outcome
    since = state.attempt_time if state.attempt_time is not None else context.now
    left = since + context.deadline_seconds - context.now
    if left > 0:
        return replace(outcome, requeue_after=earliest(outcome.requeue_after or 0.0, left))
    text = (
        f"the submission of attempt {state.attempt} was not running within {context.deadline_seconds:.0f} s "
        f"(spec.preRunningDeadlineSeconds): {outcome.explanation.message}"
    )
    failed = fail_attempt(context, DetectedFailure("PreRunningDeadlineExceeded", text))
    return replace(failed, actions=stop_on_selected_cluster(context))


def _may_run_unseen(context: ReconcileContext) -> bool:
    """Return whether the attempt may run, although its head does not report the submission.

    A live manager of this Workflow owns the run, or the network of the operator may have failed.
    """
    reply, heads = context.observation.submission, context.observation.heads
    if isinstance(reply, HeadUnreachable) and heads is not None and heads.suspects_network:
        return True
    is_owned_alive = context.facts.ownership is Ownership.OURS and context.facts.owner_alive
    return is_owned_alive and isinstance(reply, (HeadRefused, HeadUnreachable))


def _provision(context: ReconcileContext) -> Outcome:
    recorded, cluster = context.state.cluster, context.observation.named
    if recorded is None:
        return _select_cluster(context)
    if cluster is None:
        return _create_cluster(context, recorded)
    if recorded.provisioned and not recorded.uid and not is_owned(context, cluster):
        text = f"RayCluster {cluster.name} exists and was not created for this Workflow: delete or rename it"
        return context.stay(Explanation("ClusterNameTaken", text, blocked=True, stalled=True), SLOW_POLL)
    if not recorded.provisioned and recorded.head is None and not _is_head_ready(cluster):
        text = f"RayCluster {cluster.name} is no longer ready: selecting another one"
        return context.stay(Explanation("NoClusterMatches", text, blocked=True), 1.0, cluster=None)
    recorded = recorded.model_copy(update={"uid": cluster.uid})
    if cluster.suspended:
        queued = recorded.model_copy(update={"queued": True})
        text = f"RayCluster {cluster.name} is suspended in a queue"
        return context.stay(Explanation("Queued", text), SLOW_POLL, cluster=queued)
    if recorded.queued:
        recorded = recorded.model_copy(update={"queued": False})
        context = context.with_state(attempt_time=context.now)
    if recorded.head is None and not _is_head_ready(cluster):
        changed = changed_cluster_fields(context.spec, recorded, cluster)
        if changed:
            text = f"{', '.join(changed)} changed before RayCluster {cluster.name} was ready: the next attempt uses it"
            return fail_attempt(context, DetectedFailure(TEMPLATE_CHANGED, text))
        return context.stay(_why_not_ready(cluster), _POLL, cluster=recorded)
    context = context.with_state(cluster=recorded)
    return wait_for_sidecars(context, cluster) or follow_head(context) or post_submission(context, cluster)


def _is_head_ready(cluster: ClusterView) -> bool:
    head = cluster.head
    if head is None or cluster.deleting or cluster.suspended:
        return False
    return head.running and head.ready and not head.deleting and bool(head.ip and head.identity.container_id)


def _belongs_to_workflow(cluster: ClusterView) -> bool:
    """Return whether a cluster was created for a Workflow, which will delete it."""
    return UID_LABEL in cluster.labels


def _select_cluster(context: ReconcileContext) -> Outcome:
    """Select one of the ready clusters that match; the uid and the attempt spread Workflows over them."""
    if context.spec is not None and context.spec.cluster.template is not None:
        name = cluster_name(context.workflow.name, context.workflow.uid, context.state.attempt)
        explanation = Explanation("CreatingCluster", f"spec.cluster.template replaced the selector: creating {name}")
        return context.stay(explanation, 0.0, cluster=ClusterStatus(name=name))
    ready = [c for c in context.observation.candidates if _is_head_ready(c) and not _belongs_to_workflow(c)]
    ready.sort(key=lambda cluster: cluster.name)
    if not ready:
        labels = context.spec.cluster.selector.match_labels if context.spec and context.spec.cluster.selector else {}
        text = f"no ready RayCluster in namespace {context.workflow.namespace} has the labels {labels}"
        return context.stay(Explanation("NoClusterMatches", text, blocked=True), _POLL)
    digits = [int(digit, 16) for digit in context.workflow.uid if digit in "0123456789abcdef"]
    selected = ready[(sum(digits) + context.state.attempt) % len(ready)]
    cluster = ClusterStatus(name=selected.name, uid=selected.uid, provisioned=False)
    return context.stay(Explanation("ClusterSelected", f"using RayCluster {selected.name}"), 0.0, cluster=cluster)


def _create_cluster(context: ReconcileContext, recorded: ClusterStatus) -> Outcome:
    if not recorded.provisioned:
        explanation = Explanation("NoClusterMatches", f"RayCluster {recorded.name} no longer exists")
        return context.stay(explanation, 0.0, cluster=None)
    manifest = manifest_of(context, context.state.attempt, recorded.name)
    if isinstance(manifest, Refusal):
        explanation = Explanation("InvalidClusterTemplate", manifest.message, blocked=True, stalled=True)
        return context.stay(explanation, SLOW_POLL)
    if manifest is None and context.spec is not None:
        text = "spec.cluster.selector replaced the template: selecting a RayCluster"
        return context.stay(Explanation("NoClusterMatches", text), 0.0, cluster=None)
    if manifest is None:
        explanation = Explanation("InvalidSpec", context.workflow.refusal, blocked=True, stalled=True)
        return context.stay(explanation, SLOW_POLL)
    if context.observation.refused:
        text = f"correct spec.cluster.template: {context.observation.refused}"
        explanation = Explanation("RayClusterRefused", text, blocked=True, stalled=True)
    else:
        explanation = Explanation("CreatingCluster", f"creating RayCluster {recorded.name}")
    return context.stay(explanation, _POLL, CreateCluster(recorded.name, manifest))


def _why_not_ready(cluster: ClusterView) -> Explanation:
    """Return what the head of a cluster waits for, in the words of Kubernetes and KubeRay."""
    if cluster.pod_problem is not None:
        text = f"{cluster.pod_problem.message}; {cluster.failed}" if cluster.failed else cluster.pod_problem.message
        return Explanation(cluster.pod_problem.reason, text, blocked=True)
    if cluster.warning.startswith(_INVALID):
        text = f"KubeRay did not create the pods of RayCluster {cluster.name}: correct spec.cluster.template"
        return Explanation("RayClusterWarning", f"{text}: {cluster.warning}", blocked=True, stalled=True)
    waits_for_sidecar = sidecar_problem(cluster)
    if waits_for_sidecar is not None:
        return waits_for_sidecar
    if cluster.failed or cluster.warning:
        problem = cluster.failed or cluster.warning
        if cluster.warning and cluster.warning not in problem:
            problem = f"{problem}; {cluster.warning}" if problem else cluster.warning
        text = f"KubeRay retries until spec.preRunningDeadlineSeconds: RayCluster {cluster.name}: {problem}"
        return Explanation(_reason(problem), text, blocked=True)
    return Explanation("ClusterStarting", f"waiting for the head of RayCluster {cluster.name}")


def _reason(problem: str) -> str:
    """Return the reason at the start of a text of KubeRay, such as FailedCreateHeadPod; else a general one."""
    word = problem.partition(":")[0]
    return word if word.isalnum() else "ReplicaFailure"
