"""Carries out what was decided, one action after the other; the first that fails ends the round.

Called by `reconcile.py` after the status PATCH was answered with 200. Every action is harmless when it was carried out
before: a process killed between any two of them is started again and decides anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from workflow_operator.core import actions
from workflow_operator.core.observation import WorkflowObject
from workflow_operator.observe import Clients


class Failpoints(Protocol):
    """Told of each named point of a round; does nothing outside of tests."""

    async def reach(self, point: str) -> None:
        """The round is at this point."""


class NoFailpoints:
    """Nobody listens."""

    async def reach(self, point: str) -> None:
        """Do nothing."""


async def apply(
    clients: Clients,
    workflow: WorkflowObject,
    resource_version: str,
    decided: Sequence[actions.Action],
    failpoints: Failpoints,
) -> None:
    """Carry the actions out, in order.

    Args:
        world: what they act on.
        workflow: the object that was decided on.
        resource_version: what the status PATCH returned.
        decided: the actions.
        points: told `before <action>` and `after <action>` for each.

    Raises:
        Unreachable, Refused, Conflict: of the first that fails; those after it are not tried.
    """
    for action in decided:
        name = type(action).__name__
        await failpoints.reach(f"before {name}")
        await _carry_out(clients, workflow, resource_version, action)
        await failpoints.reach(f"after {name}")


async def _carry_out(clients: Clients, workflow: WorkflowObject, resource_version: str, action: actions.Action) -> None:
    namespace = workflow.namespace
    match action:
        case actions.AddFinalizer():
            await clients.workflows.add_finalizer(workflow, resource_version)
        case actions.RemoveFinalizer():
            await clients.workflows.remove_finalizer(workflow, resource_version)
        case actions.CreateCluster():
            await clients.clusters.create(namespace, action.manifest)
        case actions.DeleteCluster():
            await clients.clusters.delete(namespace, action.name, action.uid)
        case actions.StageCode():
            await clients.runs.stage_code(namespace, action)
        case actions.SubmitRun():
            await clients.jobs.submit(namespace, action)
        case actions.StopSubmission():
            await clients.jobs.stop(namespace, action.head, action.submission_id)
        case actions.RequestCancel():
            await clients.runs.request_cancel(namespace, action)
        case actions.EndRun():
            await clients.runs.end(namespace, action)
        case actions.ReleaseRun():
            await clients.runs.release(namespace, action)
        case actions.DeleteCheckpoints():
            await clients.runs.delete(namespace, action)
        case actions.DeferCleanup():
            await clients.references.defer_cleanup(action)
        case actions.EmitEvent():
            await clients.workflows.emit(workflow, action)
