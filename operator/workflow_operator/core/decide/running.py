"""Running: the submission runs, and the run's progress is read from its log.

A lost worker is no failure here: Ray retries its steps. What ends this phase is in `submitted.disrupted`.
"""

from __future__ import annotations

from workflow_operator.core.decide.context import Outcome, Turn
from workflow_operator.core.decide.submitted import answer_of_head, disrupted, pace, post, running_note


def running(turn: Turn) -> Outcome:
    """One round in Running."""
    outcome = disrupted(turn) or answer_of_head(turn)
    if outcome:
        return outcome
    if turn.seen.named is not None and turn.seen.submission is not None:
        return post(turn, turn.seen.named)
    return turn.stays(running_note(turn), pace(turn))
