"""Running: the submission runs, and the run's progress is read from its log.

A lost worker is no failure here: Ray retries its steps. What ends this phase is in `submitted.disrupted`.
"""

from __future__ import annotations

from workflow_operator.core.decide.context import Outcome, ReconcileContext
from workflow_operator.core.decide.submitted import answer_of_head, disrupted, pace, post, running_note


def running(context: ReconcileContext) -> Outcome:
    """One round in Running."""
    outcome = disrupted(context) or answer_of_head(context)
    if outcome:
        return outcome
    if context.seen.named is not None and context.seen.submission is not None:
        return post(context, context.seen.named)
    return context.stays(running_note(context), pace(context))
