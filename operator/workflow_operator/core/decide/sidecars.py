"""Decides how long a first submission waits for the sidecars of a head.

The proxy of a service mesh can start after the Ray container, and until then it closes connections. A sidecar that
never gets ready, such as a broken log shipper, must not prevent the run.
"""

from __future__ import annotations

from workflow_operator.core.conditions import Explanation
from workflow_operator.core.decide.context import Outcome, ReconcileContext, earliest
from workflow_operator.core.observation import ClusterView

SIDECAR_SECONDS = 60.0
"""How long a head with a ready Ray container waits for its sidecars, from the start of the Ray container."""

_POLL = 5.0


def wait_for_sidecars(context: ReconcileContext, cluster: ClusterView) -> Outcome | None:
    """Return the outcome of waiting for sidecars of the head; None if the submission may start.

    Args:
        context: the current round, with a cluster whose Ray container is ready.
        cluster: that cluster.
    """
    explanation, head, recorded = sidecar_problem(cluster), cluster.head, context.state.cluster
    if explanation is None or head is None or head.started is None or (recorded is not None and recorded.head):
        return None
    left = head.started + SIDECAR_SECONDS - context.now
    return context.stay(explanation, earliest(_POLL, left)) if left > 0 else None


def sidecar_problem(cluster: ClusterView) -> Explanation | None:
    """Return that containers of the head besides the Ray container are not ready, or None.

    Args:
        cluster: the cluster of the current attempt.
    """
    head = cluster.head
    if head is None or not head.sidecars:
        return None
    text = (
        f"head pod {head.pod_name} waits for its sidecar {', '.join(head.sidecars)}, which is not ready: see the log "
        "of that container, or exclude the pod from the injection of the sidecar (docs/meshes.md)"
    )
    return Explanation("SidecarNotReady", text, blocked=True)
