"""The conditions of a Workflow: its own, and kstatus's Reconciling and Stalled.

Called once at the end of each decision, so that conditions are always a function of the state and of one note that
says what it waits for; no handler writes a condition by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from workflow_operator.api.status import Condition, Phase, WorkflowState
from workflow_operator.core.state import TERMINAL

TEXT_LIMIT = 4000


@dataclass(frozen=True, slots=True)
class Note:
    """What a Workflow waits for, or why it is where it is.

    Attributes:
        reason: one CamelCase word.
        message: in words, with what to do where somebody must do something.
        blocked: something is in the way; worth a Warning event when it is new.
        stalled: it stays in the way until somebody changes something.
    """

    reason: str
    message: str
    blocked: bool = False
    stalled: bool = False


def clip(text: str, limit: int = TEXT_LIMIT) -> str:
    """The text, with its middle left out where it is too long: the end of a traceback says most."""
    if len(text) <= limit:
        return text
    head = limit // 4
    return f"{text[:head]}\n...\n{text[head + 5 - limit :]}"


def conditions(state: WorkflowState, note: Note, generation: int, now: float) -> tuple[Condition, ...]:
    """All conditions of a state, with the times of those whose status did not change kept.

    Args:
        state: the new state, with the old conditions in it.
        note: what it waits for.
        generation: of the spec that was looked at.
        now: seconds since 1970.
    """
    said = [_accepted(state, note), _cluster_ready(state, note), _running(state, note), _resumable(state, note)]
    if state.phase in TERMINAL:
        said.append((str(state.phase), True, note.reason, note.message))
    live = state.phase not in TERMINAL
    stuck = note.stalled or state.phase is Phase.FAILED
    said.append(("Reconciling", live and not note.stalled, note.reason, note.message if live else ""))
    said.append(("Stalled", stuck, note.reason, note.message if stuck else ""))
    return tuple(_condition(state, entry, generation, now) for entry in said)


Entry = tuple[str, bool, str, str]


def _accepted(state: WorkflowState, note: Note) -> Entry:
    waiting = state.phase is Phase.PENDING and note.blocked
    refused = state.phase is Phase.FAILED and state.attempt == 0
    if waiting or refused:
        return "Accepted", False, note.reason, note.message
    return "Accepted", True, "Accepted", "the spec can be run"


def _cluster_ready(state: WorkflowState, note: Note) -> Entry:
    cluster = state.cluster
    if cluster is None:
        if state.phase is Phase.PROVISIONING:
            return "ClusterReady", False, note.reason, note.message
        return "ClusterReady", False, "NoCluster", "no cluster is wanted now"
    if cluster.head is None or cluster.unreachable_since is not None:
        return "ClusterReady", False, note.reason, note.message
    return "ClusterReady", True, "HeadReady", f"the head of RayCluster {cluster.name} is ready"


def _running(state: WorkflowState, note: Note) -> Entry:
    running = state.phase is Phase.RUNNING
    return "Running", running, note.reason if running else str(state.phase), note.message if running else ""


def _resumable(state: WorkflowState, note: Note) -> Entry:
    failure = state.last_failure
    if state.phase is Phase.RESUMABLE:
        reason, message = (failure.reason, failure.message) if failure else (note.reason, note.message)
        return "Resumable", True, reason, message
    return "Resumable", False, str(state.phase), ""


def _condition(state: WorkflowState, entry: Entry, generation: int, now: float) -> Condition:
    kind, holds, reason, message = entry
    status = "True" if holds else "False"
    old = state.condition(kind)
    same = old is not None and old.status == status
    return Condition(
        type=kind,
        status="True" if holds else "False",
        reason=reason,
        message=clip(message),
        last_transition_time=old.last_transition_time if old is not None and same else now,
        observed_generation=generation,
    )
