"""Provisioning: an attempt has begun, its submission does not run yet.

Its cluster is made or chosen, the identity of its head goes into the status, and only then is anything posted, to
that head alone.
"""

from __future__ import annotations

from dataclasses import replace

from workflow_operator.api.status import ClusterStatus
from workflow_operator.core.actions import CreateCluster
from workflow_operator.core.cluster_manifest import Refusal, digest
from workflow_operator.core.conditions import Note
from workflow_operator.core.decide.attempts import manifest_of
from workflow_operator.core.decide.context import SLOW_POLL, Outcome, ReconcileContext, sooner
from workflow_operator.core.decide.ending import stop_reused
from workflow_operator.core.decide.failure import Found, fail, owned
from workflow_operator.core.decide.submitted import answer_of_head, disrupted, post
from workflow_operator.core.names import TEMPLATE_LABEL, UID_LABEL
from workflow_operator.core.observation import ClusterView

_POLL = 5.0


def provisioning(context: ReconcileContext) -> Outcome:
    """One round in Provisioning."""
    return disrupted(context) or _within_deadline(context, _bring_up(context))


def _within_deadline(context: ReconcileContext, outcome: Outcome) -> Outcome:
    """Staying is bounded; the clock stands still in a queue."""
    state = outcome.state
    if state.phase is not context.state.phase or (state.cluster is not None and state.cluster.queued):
        return outcome
    since = state.attempt_time if state.attempt_time is not None else context.now
    left = since + context.deadline_seconds - context.now
    if left > 0:
        return Outcome(state, outcome.note, outcome.actions, sooner(outcome.requeue_after or 0.0, left))
    text = f"attempt {state.attempt} did not run within {context.deadline_seconds:.0f} s: {outcome.note.message}"
    failed = fail(context, Found("PreRunningDeadlineExceeded", text))
    return replace(failed, actions=stop_reused(context))


def _bring_up(context: ReconcileContext) -> Outcome:
    recorded, cluster = context.state.cluster, context.seen.named
    if recorded is None:
        return _choose(context)
    if cluster is None:
        return _create(context, recorded)
    if recorded.provisioned and not recorded.uid and not owned(context, cluster):
        text = f"a RayCluster named {cluster.name} exists that was not made for this Workflow: delete or rename it"
        return context.stays(Note("ClusterNameTaken", text, blocked=True, stalled=True), SLOW_POLL)
    if not recorded.provisioned and recorded.head is None and not _head_ready(cluster):
        note = Note("NoClusterMatches", f"RayCluster {cluster.name} is no longer ready: choosing again", blocked=True)
        return context.stays(note, 1.0, cluster=None)
    recorded = recorded.model_copy(update={"uid": cluster.uid})
    if cluster.suspended:
        text = f"RayCluster {cluster.name} waits in a queue"
        return context.stays(Note("Queued", text), SLOW_POLL, cluster=recorded.model_copy(update={"queued": True}))
    if recorded.queued:
        recorded = recorded.model_copy(update={"queued": False})
        context = context.with_state(attempt_time=context.now)
    if recorded.head is None and not _head_ready(cluster):
        if _outdated(context, cluster):
            text = f"spec.cluster.template was changed before RayCluster {cluster.name} was ready: another one is made"
            return fail(context, Found("TemplateChanged", text))
        return context.stays(_not_ready(context, cluster), _POLL, cluster=recorded)
    context = context.with_state(cluster=recorded)
    return answer_of_head(context) or post(context, cluster)


def _head_ready(cluster: ClusterView) -> bool:
    head = cluster.head
    if head is None or cluster.deleting or cluster.suspended or cluster.failed:
        return False
    return head.running and head.ready and not head.deleting and bool(head.ip and head.identity.container_id)


def _outdated(context: ReconcileContext, cluster: ClusterView) -> bool:
    """The author has corrected the template that this cluster was made from."""
    template = context.spec.cluster.template if context.spec else None
    made_from = cluster.labels.get(TEMPLATE_LABEL)
    return template is not None and made_from is not None and made_from != digest(template)


def _bound(cluster: ClusterView) -> bool:
    """It was made for a Workflow and goes with it."""
    return UID_LABEL in cluster.labels


def _choose(context: ReconcileContext) -> Outcome:
    """One of the ready clusters that match, another one for each object, so that objects spread."""
    ready = sorted(
        (c for c in context.seen.candidates if _head_ready(c) and not _bound(c)), key=lambda cluster: cluster.name
    )
    if not ready:
        labels = context.spec.cluster.selector.match_labels if context.spec and context.spec.cluster.selector else {}
        text = f"no ready RayCluster of this namespace has the labels {labels}"
        return context.stays(Note("NoClusterMatches", text, blocked=True), _POLL)
    digits = [int(digit, 16) for digit in context.workflow.uid if digit in "0123456789abcdef"]
    chosen = ready[(sum(digits) + context.state.attempt) % len(ready)]
    note = Note("ClusterChosen", f"RayCluster {chosen.name} is used")
    return context.stays(note, 0.0, cluster=ClusterStatus(name=chosen.name, uid=chosen.uid, provisioned=False))


def _create(context: ReconcileContext, recorded: ClusterStatus) -> Outcome:
    if not recorded.provisioned:
        return context.stays(Note("NoClusterMatches", f"RayCluster {recorded.name} is gone"), 0.0, cluster=None)
    manifest = manifest_of(context, context.state.attempt)
    if isinstance(manifest, Refusal):
        return context.stays(Note("InvalidClusterTemplate", manifest.message, blocked=True, stalled=True), SLOW_POLL)
    if manifest is None:
        text = (
            context.workflow.refusal or "spec.cluster.template is needed again to make the RayCluster of this attempt"
        )
        return context.stays(Note("InvalidSpec", text, blocked=True, stalled=True), SLOW_POLL)
    if context.seen.refused:
        text = f"correct spec.cluster.template: {context.seen.refused}"
        note = Note("RayClusterRefused", text, blocked=True, stalled=True)
    else:
        note = Note("CreatingCluster", f"RayCluster {recorded.name} is being made")
    return context.stays(note, _POLL, CreateCluster(recorded.name, manifest))


def _not_ready(context: ReconcileContext, cluster: ClusterView) -> Note:
    if cluster.trouble is not None:
        return Note(cluster.trouble.reason, cluster.trouble.message, blocked=True)
    if cluster.warning:
        text = f"RayCluster {cluster.name} is not made; correct spec.cluster.template: {cluster.warning}"
        return Note("RayClusterWarning", text, blocked=True, stalled=True)
    return Note("ClusterStarting", f"waiting for the head of RayCluster {cluster.name}")
