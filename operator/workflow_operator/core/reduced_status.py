"""Shortens a status that the API server refuses, for example because the object would be too large.

A shorter status keeps everything that decides: the phase, the attempt, the run, the cluster, and each condition with
its reason. It loses the result, lists of steps, and texts for people.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from workflow_operator.api.status import Condition, WorkflowState
from workflow_operator.core.texts import clip

SIZE_NOTE: Final = (
    "parts of this status are left out, because the API server refused to store them with this object: shorten the "
    "spec, for example put large arguments into the code or into storage"
)
_RESULT_NOTE: Final = (
    "the API server refused to store the result with this object: read it with ray.get(workflow.get_output(workflowId))"
)
_LENGTHS: Final = (200, 40, 0)
"""The longest texts, in characters, in each shorter status."""


def shorter_statuses(state: WorkflowState) -> Iterator[WorkflowState]:
    """Yield shorter versions of a status; the last one is the shortest.

    Args:
        state: the status that was refused.
    """
    if state.result is not None:
        state = state.model_copy(update={"result": None, "result_note": _RESULT_NOTE})
        yield state
    for length in _LENGTHS:
        yield _shortened(state, length)


def _shortened(state: WorkflowState, length: int) -> WorkflowState:
    """Return a status whose texts for people have at most `length` characters."""
    failure, ending = state.last_failure, state.ending
    changes: dict[str, object] = {
        "conditions": tuple(_shortened_condition(each, length) for each in state.conditions),
        "result": None,
        "result_note": _short(state.result_note, length),
        "size_note": SIZE_NOTE[:length] if length < len(SIZE_NOTE) // 2 else SIZE_NOTE,
    }
    if failure is not None:
        changes["last_failure"] = failure.model_copy(
            update={"message": _short(failure.message, length), "running_steps": ()}
        )
    if ending is not None:
        changes["ending"] = ending.model_copy(update={"message": _short(ending.message, length)})
    return state.model_copy(update=changes)


def _shortened_condition(condition: Condition, length: int) -> Condition:
    return condition.model_copy(update={"message": _short(condition.message, length)})


def _short(text: str, length: int) -> str:
    return clip(text, length) if length else ""
