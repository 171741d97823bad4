"""The remaining time of a sleep that another manager started.

Within one manager, only a monotonic clock counts, so setting the clock of the machine does not change a sleep. Between
managers only the wall clock continues. If it was set back, the sleep still lasts no longer than its whole duration.
"""

from __future__ import annotations


def left(seconds: float, due: float, now: float) -> float:
    """Return the remaining seconds of a sleep, from 0.0 to its whole duration.

    Args:
        seconds: the whole duration.
        due: the end of the sleep by the clock of the manager that started it, in seconds since 1970.
        now: the time by the clock of this manager, in seconds since 1970.
    """
    return min(max(due - now, 0.0), seconds)
