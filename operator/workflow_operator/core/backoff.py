"""The delay before the next submission attempt.

`decide` calls it. The delay has no jitter, because the failures of different objects happen at different times.
"""

from __future__ import annotations

from workflow_operator.api.spec import Backoff


def delay(backoff: Backoff, without_progress: int) -> float:
    """Return the seconds until the next attempt may start.

    Args:
        backoff: the settings of the Workflow.
        without_progress: the number of consecutive epochs and attempts without a newly finished step; the delay
            doubles with each of them after the first.
    """
    doublings = min(max(without_progress - 1, 0), 32)
    return float(min(backoff.initial_seconds * 2**doublings, backoff.max_seconds))
