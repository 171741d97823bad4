"""Corrects times in the status that are in the future. They were recorded by a clock that has been set back since.

Without this correction, a deadline would be missed by the hours by which the clock was wrong.
"""

from __future__ import annotations

from workflow_operator.api.spec import Backoff
from workflow_operator.api.status import WorkflowState

TOLERANCE_SECONDS = 60.0
"""Smaller differences between clocks are normal, and are not corrected."""

_PAST_FIELDS = ("phase_time", "attempt_time", "blocked_since", "cancel_time", "start_time")


def correct_times(state: WorkflowState, backoff: Backoff, now: float) -> WorkflowState:
    """Return the state without times that cannot be right.

    Args:
        state: the recorded state.
        backoff: the settings that limit the delay before the next attempt.
        now: seconds since 1970.
    """
    latest = dict.fromkeys(_PAST_FIELDS, now)
    latest["next_attempt_time"] = now + backoff.max_seconds
    wrong: dict[str, object] = {
        name: limit for name, limit in latest.items() if (getattr(state, name) or 0.0) > limit + TOLERANCE_SECONDS
    }
    return state.model_copy(update=wrong) if wrong else state
