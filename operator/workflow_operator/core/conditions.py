"""The conditions of a Workflow: its own types, and the kstatus types Reconciling and Stalled.

`decide` calls `conditions` once at the end of each round. So the conditions always follow from the state and one
explanation, and no phase function writes a condition itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from workflow_operator.api.status import Condition, Phase, WorkflowState
from workflow_operator.core.state import TERMINAL
from workflow_operator.core.texts import clip


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a Workflow is in its state, or what it waits for.

    Attributes:
        reason: one CamelCase word, used in conditions and events.
        message: an explanation for people, with what to do if a user must act.
        blocked: something prevents progress; a Warning event is written when this begins.
        stalled: progress is prevented until a user changes something.
    """

    reason: str
    message: str
    blocked: bool = False
    stalled: bool = False


def conditions(
    state: WorkflowState, explanation: Explanation, generation: int, now: float, more: tuple[Entry, ...] = ()
) -> tuple[Condition, ...]:
    """Build all conditions of a state; a condition with an unchanged status keeps its transition time.

    Args:
        state: the new state, which still contains the old conditions.
        explanation: why the Workflow is in this state.
        generation: the generation of the observed spec.
        now: seconds since 1970.
        more: further conditions.
    """
    reason, message = explanation.reason, explanation.message
    entries = [
        _accepted(state, explanation),
        _cluster_ready(state, explanation),
        _running(state, explanation),
        _resumable(state, explanation),
    ]
    if state.phase in TERMINAL:
        entries.append((str(state.phase), True, reason, message))
    live = state.phase not in TERMINAL
    stalled = explanation.stalled or state.phase is Phase.FAILED
    entries.append(("Reconciling", live and not explanation.stalled, reason, message if live else ""))
    entries.append(("Stalled", stalled, reason, message if stalled else ""))
    return tuple(_condition(state, entry, generation, now) for entry in (*entries, *more))


def short_reason(state: WorkflowState, explanation: Explanation) -> str:
    """Return the one word that explains the phase best, for a column of `kubectl get`.

    Args:
        state: the new state with its conditions.
        explanation: why the Workflow is in this state.
    """
    workers = state.condition("WorkersReady")
    if state.phase is Phase.RUNNING and not explanation.blocked and workers is not None and workers.status == "False":
        return workers.reason
    if state.phase is Phase.RESUMABLE and not explanation.blocked and state.last_failure is not None:
        return state.last_failure.reason
    return explanation.reason


def explanation_of(state: WorkflowState) -> str:
    """Return the message that explains the phase of a state, from its conditions; or empty."""
    kinds = (str(state.phase),) if state.phase in (*TERMINAL, Phase.RESUMABLE) else ("Reconciling", "Stalled")
    found = (state.condition(kind) for kind in kinds)
    return next((each.message for each in found if each is not None and each.message), "")


Entry = tuple[str, bool, str, str]
"""Type, whether the status is True, reason and message of a condition."""


def _accepted(state: WorkflowState, explanation: Explanation) -> Entry:
    blocked = state.phase is Phase.PENDING and explanation.blocked
    failed_before_start = state.phase is Phase.FAILED and state.attempt == 0
    if blocked or failed_before_start:
        return "Accepted", False, explanation.reason, explanation.message
    return "Accepted", True, "Accepted", "the spec can be run"


def _cluster_ready(state: WorkflowState, explanation: Explanation) -> Entry:
    cluster = state.cluster
    if state.phase in TERMINAL:
        return "ClusterReady", False, "NoCluster", "the workflow is finished and needs no cluster"
    if cluster is None:
        if state.phase is Phase.PROVISIONING:
            return "ClusterReady", False, explanation.reason, explanation.message
        return "ClusterReady", False, "NoCluster", "the workflow needs no cluster now"
    if cluster.head is None or cluster.unreachable_since is not None:
        return "ClusterReady", False, explanation.reason, explanation.message
    return "ClusterReady", True, "HeadReady", f"the head of RayCluster {cluster.name} is ready"


def _running(state: WorkflowState, explanation: Explanation) -> Entry:
    if state.phase is Phase.RUNNING:
        return "Running", True, explanation.reason, explanation.message
    return "Running", False, str(state.phase), ""


def _resumable(state: WorkflowState, explanation: Explanation) -> Entry:
    if state.phase is not Phase.RESUMABLE:
        return "Resumable", False, str(state.phase), ""
    failure = state.last_failure
    if failure is None:
        return "Resumable", True, explanation.reason, explanation.message
    return "Resumable", True, failure.reason, failure.message


def _condition(state: WorkflowState, entry: Entry, generation: int, now: float) -> Condition:
    kind, is_true, reason, message = entry
    old = state.condition(kind)
    unchanged = old is not None and old.status == ("True" if is_true else "False")
    return Condition(
        type=kind,
        status="True" if is_true else "False",
        reason=reason,
        message=clip(message),
        last_transition_time=old.last_transition_time if old is not None and unchanged else now,
        observed_generation=generation,
    )
