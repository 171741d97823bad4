"""The life cycle of a Workflow: the table of all transitions between phases.

`decide` changes the phase only through `move`. docs/lifecycle.md contains a diagram of the same table, and a test
compares the two.
"""

from __future__ import annotations

from enum import Enum

from workflow_operator.api.status import Phase, WorkflowState


class Event(str, Enum):
    """An event that causes a transition. The value is its label in the diagram."""

    ATTEMPT_STARTED = "attempt started"
    ATTEMPT_RECOVERED = "attempt of this object found in the log"
    SUBMISSION_RUNNING = "submission is running"
    ATTEMPT_FAILED = "cluster or submission failed"
    ID_IN_USE = "another owner runs the workflow id"
    CANCEL_REQUESTED = "cancel requested"
    CANCELED_WITHOUT_RUN = "canceled before it owned a run"
    FAILED_WITHOUT_RUN = "blocked until the deadline"
    SUPERSEDED = "run deleted, finished earlier, or owned by another"
    CHECKPOINTS_LOST = "checkpoints lost"
    LOG_SUCCEEDED = "log contains SUCCESSFUL"
    LOG_FAILED = "log contains FAILED"
    LOG_CANCELED = "log contains CANCELED"


LIVE = (Phase.PENDING, Phase.PROVISIONING, Phase.RUNNING, Phase.RESUMABLE, Phase.CANCELING)
TERMINAL = (Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELED)

P, E = Phase, Event
TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (P.PENDING, E.ATTEMPT_STARTED): P.PROVISIONING,
    (P.PENDING, E.ATTEMPT_RECOVERED): P.RESUMABLE,
    (P.PENDING, E.CANCELED_WITHOUT_RUN): P.CANCELED,
    (P.PENDING, E.FAILED_WITHOUT_RUN): P.FAILED,
    (P.PROVISIONING, E.SUBMISSION_RUNNING): P.RUNNING,
    (P.PROVISIONING, E.ATTEMPT_FAILED): P.RESUMABLE,
    (P.PROVISIONING, E.ID_IN_USE): P.PENDING,
    (P.RUNNING, E.ATTEMPT_FAILED): P.RESUMABLE,
    (P.RUNNING, E.ID_IN_USE): P.PENDING,
    (P.RESUMABLE, E.ATTEMPT_STARTED): P.PROVISIONING,
    (P.RESUMABLE, E.ID_IN_USE): P.PENDING,
    (P.CANCELING, E.CANCELED_WITHOUT_RUN): P.CANCELED,
    **{(phase, E.CANCEL_REQUESTED): P.CANCELING for phase in LIVE if phase is not P.CANCELING},
    **{(phase, E.SUPERSEDED): P.FAILED for phase in LIVE},
    **{(phase, E.CHECKPOINTS_LOST): P.FAILED for phase in LIVE},
    **{(phase, E.LOG_SUCCEEDED): P.SUCCEEDED for phase in LIVE},
    **{(phase, E.LOG_FAILED): P.FAILED for phase in LIVE},
    **{(phase, E.LOG_CANCELED): P.CANCELED for phase in LIVE},
}
"""The next phase for each phase and event. All other pairs are bugs."""


def move(state: WorkflowState, event: Event, now: float) -> WorkflowState:
    """Apply an event to a state.

    Args:
        state: a state in a phase that has this event in the table.
        event: what happened.
        now: seconds since 1970.

    Raises:
        KeyError: the table has no transition for the phase and the event; this is a bug of the caller.
    """
    if state.phase is None:
        raise KeyError(f"{event} without a phase")
    phase = TRANSITIONS[state.phase, event]
    changes: dict[str, object] = {"phase": phase, "phase_time": now}
    if phase in TERMINAL:
        changes |= {"cluster": None, "ending": None, "next_attempt_time": None, "blocked_since": None}
    return state.model_copy(update=changes)


_Arrows = dict[tuple[str, str], dict[str, None]]
"""The events of each arrow, by source and target. The inner dictionary is an ordered set."""

_TERMINAL_NAMES = frozenset(map(str, TERMINAL))


def diagram() -> str:
    """Draw the table as a Mermaid state diagram; transitions that all live phases share are drawn once."""
    shared_events = {event for event in Event if all((phase, event) in TRANSITIONS for phase in LIVE)}
    arrows, shared_arrows = _Arrows(), _Arrows()
    for (phase, event), target in TRANSITIONS.items():
        if event in shared_events:
            shared_arrows.setdefault(("Live", str(target)), {})[event.value] = None
        else:
            arrows.setdefault((str(phase), str(target)), {})[event.value] = None
    between_live = {key: events for key, events in arrows.items() if key[1] not in _TERMINAL_NAMES}
    to_terminal = {key: events for key, events in arrows.items() if key[1] in _TERMINAL_NAMES}
    lines = ["stateDiagram-v2", "    [*] --> Pending", "    state Live {"]
    lines += [f"        {line}" for line in _arrow_lines(between_live)]
    lines += ["    }"]
    lines += [f"    {line}" for line in _arrow_lines(to_terminal | shared_arrows)]
    lines += [f"    {phase} --> [*]" for phase in TERMINAL]
    return "\n".join(lines) + "\n"


def _arrow_lines(arrows: _Arrows) -> list[str]:
    return [f"{source} --> {target}: {' / '.join(events)}" for (source, target), events in arrows.items()]
