"""The condition WorkersReady: whether the workers of the current cluster run, and which steps wait for them.

Trouble of workers fails no attempt, because Ray retries the steps of a lost worker. It is only shown, in every phase
with a cluster. A worker that was killed is shown for a while, although KubeRay replaces it.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Literal

from workflow_operator.api.status import Condition, Phase, WorkflowState
from workflow_operator.core.actions import EmitEvent
from workflow_operator.core.decide.context import ReconcileContext
from workflow_operator.core.observation import KILLED, PodProblem, RunRead, WorkersView
from workflow_operator.core.texts import clip, listed

WORKERS_READY = "WorkersReady"
STEP_WAITS = "StepWaitsForWorker"
"""Reason if steps have no worker and no pod has a problem, for example because no node can ever run them."""

KILLED_SHOWN_SECONDS = 600.0
"""How long a worker that was killed is shown."""

_WITH_CLUSTER = (Phase.PROVISIONING, Phase.RUNNING, Phase.CANCELING)
_SHOWN_STEPS = 5
_EVENT_TEXT_LIMIT = 1000

_Verdict = tuple[Literal["True", "False", "Unknown"], str, str]
"""Status, reason and message of the condition."""


def workers_condition(context: ReconcileContext, state: WorkflowState) -> Condition:
    """Return the condition WorkersReady of a new state.

    Args:
        context: the current round.
        state: the new state, which still contains the old conditions.
    """
    status, reason, message = _verdict(context, state)
    old = state.condition(WORKERS_READY)
    # The time of a new kill counts as a transition too, because it limits how long the kill is shown.
    unchanged = old is not None and old.status == status and (old.reason == reason or reason not in KILLED)
    return Condition(
        type=WORKERS_READY,
        status=status,
        reason=reason,
        message=clip(message),
        last_transition_time=old.last_transition_time if old is not None and unchanged else context.now,
        observed_generation=context.workflow.generation,
    )


def workers_event(context: ReconcileContext, state: WorkflowState, shown_reason: str) -> tuple[EmitEvent, ...]:
    """Return an event if trouble of workers begins; none if it continues with the same reason.

    Args:
        context: the current round.
        state: the new state with its conditions.
        shown_reason: the reason of the other event of this round, which is not repeated.
    """
    new, old = state.condition(WORKERS_READY), context.workflow.state.condition(WORKERS_READY)
    if new is None or new.status != "False" or new.reason == shown_reason:
        return ()
    if old is not None and (old.status, old.reason) == (new.status, new.reason):
        return ()
    return (EmitEvent("Warning", new.reason, clip(f"workers: {new.message}", _EVENT_TEXT_LIMIT)),)


def _verdict(context: ReconcileContext, state: WorkflowState) -> _Verdict:
    cluster = context.observation.named
    recorded = state.cluster
    if recorded is None or cluster is None or cluster.uid != recorded.uid or state.phase not in _WITH_CLUSTER:
        return "Unknown", "NoCluster", "the workflow has no cluster now"
    workers, waiting = cluster.workers, _waiting(context)
    problem = _current_problem(context, workers)
    if problem is not None:
        return "False", problem.reason, _with_steps(context, _message(workers, problem), waiting)
    if waiting:
        return "False", STEP_WAITS, waiting
    old = state.condition(WORKERS_READY)
    if old is not None and old.reason in KILLED and context.now - old.last_transition_time < KILLED_SHOWN_SECONDS:
        return "False", old.reason, old.message
    if workers.desired == 0:
        return "True", "NoWorkers", f"RayCluster {cluster.name} has no workers, so its head executes the steps"
    ready = f"{workers.ready} of {workers.desired} workers of RayCluster {cluster.name} are ready"
    if workers.ready >= workers.desired:
        return "True", WORKERS_READY, ready
    return "Unknown", "WorkersStarting", ready


def _current_problem(context: ReconcileContext, workers: WorkersView) -> PodProblem | None:
    """Return the problem of the workers, or else the worker that was killed last, unless that was long ago."""
    problem, killed = workers.problem, workers.killed
    if killed is None or context.now - killed.since >= KILLED_SHOWN_SECONDS:
        return problem
    if problem is None or problem.reason == killed.reason:
        return problem or killed
    return replace(problem, message=f"{problem.message}; {killed.message}")


def _message(workers: WorkersView, problem: PodProblem) -> str:
    desired = max(workers.desired, workers.affected)
    return f"{workers.affected} of {desired} workers: {problem.message}" if workers.affected > 1 else problem.message


def _with_steps(context: ReconcileContext, message: str, waiting: str) -> str:
    """Add the steps that wait: those that the manager of the run reports, or else all that have started."""
    view = context.facts.view
    if waiting:
        return f"{message}; {waiting}"
    if view is None or view.counts.running == 0:
        return message
    running = (step.name for step in view.steps if str(step.phase) == "RUNNING")
    names = [*islice(running, _SHOWN_STEPS)]
    others = max(view.counts.running - len(names), 0)
    shown = listed([*names, *[""] * others], len(names)) if names else f"{others}"
    return f"{message}; started steps, which may wait for a worker: {shown}"


def _waiting(context: ReconcileContext) -> str:
    run = context.observation.run
    return run.waiting if isinstance(run, RunRead) and context.facts.owner_alive else ""
