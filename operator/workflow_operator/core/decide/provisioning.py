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
from workflow_operator.core.decide.context import SLOW_POLL, Outcome, Turn, sooner
from workflow_operator.core.decide.ending import stop_reused
from workflow_operator.core.decide.failure import Found, fail, owned
from workflow_operator.core.decide.submitted import answer_of_head, disrupted, post
from workflow_operator.core.names import TEMPLATE_LABEL, UID_LABEL
from workflow_operator.core.observation import ClusterView

_POLL = 5.0


def provisioning(turn: Turn) -> Outcome:
    """One round in Provisioning."""
    return disrupted(turn) or _within_deadline(turn, _bring_up(turn))


def _within_deadline(turn: Turn, outcome: Outcome) -> Outcome:
    """Staying is bounded; the clock stands still in a queue."""
    state = outcome.state
    if state.phase is not turn.state.phase or (state.cluster is not None and state.cluster.queued):
        return outcome
    since = state.attempt_time if state.attempt_time is not None else turn.now
    left = since + turn.deadline_seconds - turn.now
    if left > 0:
        return Outcome(state, outcome.note, outcome.actions, sooner(outcome.requeue_after or 0.0, left))
    text = f"attempt {state.attempt} did not run within {turn.deadline_seconds:.0f} s: {outcome.note.message}"
    failed = fail(turn, Found("PreRunningDeadlineExceeded", text))
    return replace(failed, actions=stop_reused(turn))


def _bring_up(turn: Turn) -> Outcome:
    recorded, cluster = turn.state.cluster, turn.seen.named
    if recorded is None:
        return _choose(turn)
    if cluster is None:
        return _create(turn, recorded)
    if recorded.provisioned and not recorded.uid and not owned(turn, cluster):
        text = f"a RayCluster named {cluster.name} exists that was not made for this Workflow: delete or rename it"
        return turn.stays(Note("ClusterNameTaken", text, blocked=True, stalled=True), SLOW_POLL)
    if not recorded.provisioned and recorded.head is None and not _head_ready(cluster):
        note = Note("NoClusterMatches", f"RayCluster {cluster.name} is no longer ready: choosing again", blocked=True)
        return turn.stays(note, 1.0, cluster=None)
    recorded = recorded.model_copy(update={"uid": cluster.uid})
    if cluster.suspended:
        text = f"RayCluster {cluster.name} waits in a queue"
        return turn.stays(Note("Queued", text), SLOW_POLL, cluster=recorded.model_copy(update={"queued": True}))
    if recorded.queued:
        recorded = recorded.model_copy(update={"queued": False})
        turn = turn.with_state(attempt_time=turn.now)
    if recorded.head is None and not _head_ready(cluster):
        if _outdated(turn, cluster):
            text = f"spec.cluster.template was changed before RayCluster {cluster.name} was ready: another one is made"
            return fail(turn, Found("TemplateChanged", text))
        return turn.stays(_not_ready(turn, cluster), _POLL, cluster=recorded)
    turn = turn.with_state(cluster=recorded)
    return answer_of_head(turn) or post(turn, cluster)


def _head_ready(cluster: ClusterView) -> bool:
    head = cluster.head
    if head is None or cluster.deleting or cluster.suspended or cluster.failed:
        return False
    return head.running and head.ready and not head.deleting and bool(head.ip and head.identity.container_id)


def _outdated(turn: Turn, cluster: ClusterView) -> bool:
    """The author has corrected the template that this cluster was made from."""
    template = turn.spec.cluster.template if turn.spec else None
    made_from = cluster.labels.get(TEMPLATE_LABEL)
    return template is not None and made_from is not None and made_from != digest(template)


def _bound(cluster: ClusterView) -> bool:
    """It was made for a Workflow and goes with it."""
    return UID_LABEL in cluster.labels


def _choose(turn: Turn) -> Outcome:
    """One of the ready clusters that match, another one for each object, so that objects spread."""
    ready = sorted(
        (c for c in turn.seen.candidates if _head_ready(c) and not _bound(c)), key=lambda cluster: cluster.name
    )
    if not ready:
        labels = turn.spec.cluster.selector.match_labels if turn.spec and turn.spec.cluster.selector else {}
        text = f"no ready RayCluster of this namespace has the labels {labels}"
        return turn.stays(Note("NoClusterMatches", text, blocked=True), _POLL)
    digits = [int(digit, 16) for digit in turn.workflow.uid if digit in "0123456789abcdef"]
    chosen = ready[(sum(digits) + turn.state.attempt) % len(ready)]
    note = Note("ClusterChosen", f"RayCluster {chosen.name} is used")
    return turn.stays(note, 0.0, cluster=ClusterStatus(name=chosen.name, uid=chosen.uid, provisioned=False))


def _create(turn: Turn, recorded: ClusterStatus) -> Outcome:
    if not recorded.provisioned:
        return turn.stays(Note("NoClusterMatches", f"RayCluster {recorded.name} is gone"), 0.0, cluster=None)
    manifest = manifest_of(turn, turn.state.attempt)
    if isinstance(manifest, Refusal):
        return turn.stays(Note("InvalidClusterTemplate", manifest.message, blocked=True, stalled=True), SLOW_POLL)
    if manifest is None:
        text = turn.workflow.refusal or "spec.cluster.template is needed again to make the RayCluster of this attempt"
        return turn.stays(Note("InvalidSpec", text, blocked=True, stalled=True), SLOW_POLL)
    if turn.seen.refused:
        text = f"correct spec.cluster.template: {turn.seen.refused}"
        note = Note("RayClusterRefused", text, blocked=True, stalled=True)
    else:
        note = Note("CreatingCluster", f"RayCluster {recorded.name} is being made")
    return turn.stays(note, _POLL, CreateCluster(recorded.name, manifest))


def _not_ready(turn: Turn, cluster: ClusterView) -> Note:
    if cluster.trouble is not None:
        return Note(cluster.trouble.reason, cluster.trouble.message, blocked=True)
    if cluster.warning:
        text = f"RayCluster {cluster.name} is not made; correct spec.cluster.template: {cluster.warning}"
        return Note("RayClusterWarning", text, blocked=True, stalled=True)
    return Note("ClusterStarting", f"waiting for the head of RayCluster {cluster.name}")
