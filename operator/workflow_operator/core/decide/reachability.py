"""Decides when a head that does not reply has failed.

A missing reply alone proves nothing: perhaps only the dashboard or the network of the operator failed. Three things are
required:

1. The head does not reply in this round, and has not replied for `unreachableSeconds`. Only requests of the operator
   count: after a pause of the operator, the count starts again.
2. The log or Kubernetes confirms it. If the heartbeat of the run's owner has not expired, the cluster works. If the
   owner of this attempt has no heartbeat any more, the cluster has failed. Without an owner of this attempt in the log,
   the head pod must be not Ready.
3. Not many heads became unreachable together. Otherwise the operator suspects its own network.
"""

from __future__ import annotations

from dataclasses import dataclass

from workflow_operator.api.status import ClusterStatus
from workflow_operator.core.attempt_count import HEAD_NODE_LOST
from workflow_operator.core.conditions import Explanation
from workflow_operator.core.decide.context import ReconcileContext
from workflow_operator.core.log_facts import Ownership
from workflow_operator.core.observation import HeadRefused, HeadUnreachable, HeadView, SubmissionView

PAUSE_SECONDS = 30.0
"""If the operator sent no request to a head for this long, it does not know whether the head would have replied."""

REFRESH_SECONDS = 10.0
"""Interval at which the status records that the head still does not reply."""

REPLIED: dict[str, object] = {"unreachable_since": None, "unreachable_until": None}
"""The fields of `ClusterStatus` while the head replies."""


@dataclass(frozen=True, slots=True)
class NoReply:
    """A head that did not reply in this round.

    Attributes:
        cluster: the recorded cluster, with the times of the requests without a reply.
        seconds: how long the head has not replied.
        confirmed: what confirms that the head failed; or empty.
        doubt: why this is not a failure, for people; or empty.
        node_lost: whether the node of the head is lost.
    """

    cluster: ClusterStatus
    seconds: float
    confirmed: str
    doubt: str
    node_lost: bool

    def is_failure(self, limit: float) -> bool:
        """Return whether the cluster has failed.

        Args:
            limit: the seconds after which a confirmed outage is a failure.
        """
        return bool(self.confirmed) and not self.doubt and self.seconds >= limit


def no_reply(context: ReconcileContext) -> NoReply | None:
    """Return the outage of the recorded head, or None if it replied or was not asked in this round."""
    recorded, named = context.state.cluster, context.observation.named
    if recorded is None or named is None or named.head is None:
        return None
    if not isinstance(context.observation.submission, HeadUnreachable):
        return None
    cluster = continued(recorded, context.now)
    seconds = context.now - (cluster.unreachable_since or context.now)
    confirmed, doubt = _evidence(context, named.head, seconds)
    return NoReply(cluster, seconds, confirmed, _own_network(context, doubt), named.head.node_lost)


def with_reply(context: ReconcileContext) -> ReconcileContext:
    """Return the context in which the head counts as reachable, if it replied in this round."""
    recorded = context.state.cluster
    if recorded is None or not isinstance(context.observation.submission, (SubmissionView, HeadRefused)):
        return context
    return context.with_state(cluster=recorded.model_copy(update=REPLIED))


def failure_of(context: ReconcileContext, found: NoReply | None) -> tuple[str, str] | None:
    """Return reason and message of the failure that missing replies prove, or None.

    Args:
        context: the current round.
        found: the missing reply in this round.
    """
    if found is None or not found.is_failure(context.unreachable_seconds):
        return None
    name = found.cluster.name
    text = f"the head of RayCluster {name} did not reply for {found.seconds:.0f} s, and {found.confirmed}"
    return (HEAD_NODE_LOST if found.node_lost else "HeadUnreachable"), text


def explain(context: ReconcileContext, found: NoReply) -> Explanation:
    """Return the explanation of a missing reply that is not a failure yet.

    Args:
        context: the current round.
        found: the missing reply in this round.
    """
    reply = context.observation.submission
    message = reply.message if isinstance(reply, HeadUnreachable) else "the head does not reply"
    limit = f"{context.unreachable_seconds:.0f} s without a reply"
    text = f"the cluster is kept: {found.doubt}" if found.doubt else f"the cluster counts as failed after {limit}"
    heads = context.observation.heads
    reason = "NetworkSuspected" if heads is not None and heads.suspects_network else "HeadUnreachable"
    return Explanation(reason, f"{message}; {text}", blocked=True)


def continued(cluster: ClusterStatus, now: float) -> ClusterStatus:
    """Return the recorded cluster after another request without a reply.

    Args:
        cluster: the recorded cluster.
        now: the time of the request, in seconds since 1970.
    """
    since, until = cluster.unreachable_since, cluster.unreachable_until
    if since is None or until is None or not 0 <= now - until <= PAUSE_SECONDS:
        return cluster.model_copy(update={"unreachable_since": now, "unreachable_until": now})
    if now - until < REFRESH_SECONDS:
        return cluster
    return cluster.model_copy(update={"unreachable_until": now})


def _own_network(context: ReconcileContext, doubt: str) -> str:
    """Return why the operator suspects its own network, and otherwise another doubt, which may be empty.

    Args:
        context: the current round.
        doubt: why the head itself may work, or empty.
    """
    heads = context.observation.heads
    if heads is None:
        return doubt
    if heads.suspects_network:
        return (
            f"{heads.unreachable} of {heads.asked} heads became unreachable within one minute, so the network of the "
            f"operator may have failed; check it, or delete the RayCluster if it has really failed"
        )
    return doubt or ("" if heads.is_settled else "the operator started less than a minute ago")


def _evidence(context: ReconcileContext, head: HeadView, seconds: float) -> tuple[str, str]:
    """Return what confirms that an unreachable head failed, and otherwise why it may work."""
    facts, view = context.facts, context.facts.view
    unready = "" if head.ready else f"Kubernetes reports that head pod {head.pod_name} is not Ready"
    if facts.ownership is Ownership.UNREAD:
        return unready, "" if unready else f"head pod {head.pod_name} is Ready, and the log cannot be read"
    if facts.ownership is Ownership.OURS and facts.owner_alive:
        return "", "the heartbeat of the run's owner has not expired, so the run continues"
    owner = view.owner if view is not None and facts.ownership is Ownership.OURS else None
    if owner is not None and owner.attempt == context.state.attempt:
        return "the heartbeat of the run's owner has expired", ""
    if unready or seconds < context.deadline_seconds:
        return unready, "" if unready else f"head pod {head.pod_name} is Ready, and the submission may still start"
    return f"no owner has claimed the run within {context.deadline_seconds:.0f} s", ""
