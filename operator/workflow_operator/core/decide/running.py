"""Phase Running: the submission is running, and the operator reads the progress of the run from its log.

The loss of a worker is not a failure, because Ray retries its steps. `submitted.interruption` decides what ends this
phase.
"""

from __future__ import annotations

from workflow_operator.core.decide.context import Outcome, ReconcileContext
from workflow_operator.core.decide.submitted import (
    follow_head,
    interruption,
    post_submission,
    progress_delay,
    running_explanation,
)


def running(context: ReconcileContext) -> Outcome:
    """Decide a round in Running."""
    outcome = interruption(context) or follow_head(context)
    if outcome:
        return outcome
    if context.observation.named is not None and context.observation.submission is not None:
        return post_submission(context, context.observation.named)
    return context.stay(running_explanation(context), progress_delay(context))
