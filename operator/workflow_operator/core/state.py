"""The life cycle of a Workflow: the one table of what may follow what.

`decide` moves only through `move`; docs/lifecycle.md is drawn from the same table, and a test walks all of it.
"""

from __future__ import annotations

from enum import Enum

from workflow_operator.api.status import Phase, WorkflowState


class Event(str, Enum):
    """What moves a Workflow from one phase to another."""

    ATTEMPT_BEGAN = "attempt begun"
    ATTEMPT_FOUND = "own attempt found in the log"
    SUBMISSION_RAN = "submission runs"
    ATTEMPT_FAILED = "cluster or submission failed"
    ID_IN_USE = "another owner has the workflow id"
    CANCEL_ASKED = "cancel asked"
    CANCELED_UNOWNED = "canceled before it owned a run"
    REFUSED = "refused before it owned a run"
    SUPERSEDED = "run deleted, finished before, or owned by another"
    LOG_SUCCEEDED = "log says SUCCESSFUL"
    LOG_FAILED = "log says FAILED"
    LOG_CANCELED = "log says CANCELED"


LIVE = (Phase.PENDING, Phase.PROVISIONING, Phase.RUNNING, Phase.RESUMABLE, Phase.CANCELING)
TERMINAL = (Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELED)

P, E = Phase, Event
TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (P.PENDING, E.ATTEMPT_BEGAN): P.PROVISIONING,
    (P.PENDING, E.ATTEMPT_FOUND): P.RESUMABLE,
    (P.PENDING, E.CANCELED_UNOWNED): P.CANCELED,
    (P.PENDING, E.REFUSED): P.FAILED,
    (P.PROVISIONING, E.SUBMISSION_RAN): P.RUNNING,
    (P.PROVISIONING, E.ATTEMPT_FAILED): P.RESUMABLE,
    (P.PROVISIONING, E.ID_IN_USE): P.PENDING,
    (P.RUNNING, E.ATTEMPT_FAILED): P.RESUMABLE,
    (P.RUNNING, E.ID_IN_USE): P.PENDING,
    (P.RESUMABLE, E.ATTEMPT_BEGAN): P.PROVISIONING,
    (P.RESUMABLE, E.ID_IN_USE): P.PENDING,
    (P.CANCELING, E.CANCELED_UNOWNED): P.CANCELED,
    **{(phase, E.CANCEL_ASKED): P.CANCELING for phase in LIVE if phase is not P.CANCELING},
    **{(phase, E.SUPERSEDED): P.FAILED for phase in LIVE},
    **{(phase, E.LOG_SUCCEEDED): P.SUCCEEDED for phase in LIVE},
    **{(phase, E.LOG_FAILED): P.FAILED for phase in LIVE},
    **{(phase, E.LOG_CANCELED): P.CANCELED for phase in LIVE},
}
"""(phase, event) -> phase. What is not here does not happen."""


def move(state: WorkflowState, event: Event, now: float) -> WorkflowState:
    """The state after an event.

    Args:
        state: must be in a phase that has this event in the table; a KeyError is a bug of the caller.
        event: what happened.
        now: seconds since 1970.
    """
    if state.phase is None:
        raise KeyError(f"{event} without a phase")
    phase = TRANSITIONS[state.phase, event]
    changes: dict[str, object] = {"phase": phase, "phase_time": now}
    if phase in TERMINAL:
        changes |= {"cluster": None, "ending": None, "next_attempt_time": None, "blocked_since": None}
    return state.model_copy(update=changes)


def diagram() -> str:
    """The table as a Mermaid state diagram. What every live phase has in common is drawn once, from all of them."""
    common = {event for event in Event if all((phase, event) in TRANSITIONS for phase in LIVE)}
    own, shared = _Arrows(), _Arrows()
    for (phase, event), target in TRANSITIONS.items():
        arrows, source = (shared, "Live") if event in common else (own, str(phase))
        arrows.setdefault((source, str(target)), {})[event.value] = None
    lines = ["stateDiagram-v2", "    [*] --> Pending", "    state Live {"]
    lines += [f"        {arrow}" for arrow in _drawn({key: own[key] for key in own if key[1] not in _ENDS})]
    lines += ["    }"]
    lines += [f"    {arrow}" for arrow in _drawn({key: own[key] for key in own if key[1] in _ENDS} | shared)]
    lines += [f"    {phase} --> [*]" for phase in TERMINAL]
    return "\n".join(lines) + "\n"


_Arrows = dict[tuple[str, str], dict[str, None]]
_ENDS = frozenset(map(str, TERMINAL))


def _drawn(arrows: _Arrows) -> list[str]:
    return [f"{source} --> {target}: {' / '.join(events)}" for (source, target), events in arrows.items()]
