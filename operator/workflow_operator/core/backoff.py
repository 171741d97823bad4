"""How long to wait before the next attempt.

Called by `decide`; pure, so without jitter: the waits of many objects differ already by the times of their failures.
"""

from __future__ import annotations

from workflow_operator.api.spec import Backoff


def delay(backoff: Backoff, without_progress: int) -> float:
    """Seconds until the next attempt may begin.

    Args:
        backoff: the object's settings.
        without_progress: ownerships and attempts in a row without a new finished step; the wait doubles with each after
            the first.
    """
    doublings = min(max(without_progress - 1, 0), 32)
    return float(min(backoff.initial_seconds * 2**doublings, backoff.max_seconds))
