"""How long a sleep goes on: pure arithmetic on two clocks. Called by the run loop.

Within the life of one manager only a monotonic clock counts, so that whoever sets the machine's clock neither ends a
sleep nor stretches it. From one manager to the next nothing but the wall clock goes on; where it went backwards in
between, a sleep is never made longer than it was meant to be.
"""

from __future__ import annotations


def left(seconds: float, due: float, now: float) -> float:
    """What is left of a sleep that another manager began.

    Args:
        seconds: its whole duration.
        due: when it is over, by that manager's clock; seconds since 1970.
        now: by this one's.

    Returns:
        Seconds, between none and the whole duration.
    """
    return min(max(due - now, 0.0), seconds)
