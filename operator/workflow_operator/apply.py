"""Carries out what was decided, one action after the other; the first that fails ends the round.

Called by `reconcile.py` after the status PATCH was answered with 200. Every action is harmless when it was carried out
before: a process killed between any two of them is started again and decides anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from workflow_operator.core import actions
from workflow_operator.core.observation import WorkflowObject
from workflow_operator.observe import World


class Points(Protocol):
    """Told of each named point of a round; does nothing outside of tests."""

    async def reach(self, point: str) -> None:
        """The round is at this point."""


class NoPoints:
    """Nobody listens."""

    async def reach(self, point: str) -> None:
        """Do nothing."""


async def apply(
    world: World,
    workflow: WorkflowObject,
    resource_version: str,
    decided: Sequence[actions.Action],
    points: Points,
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
        await points.reach(f"before {name}")
        await _carry_out(world, workflow, resource_version, action)
        await points.reach(f"after {name}")


async def _carry_out(world: World, workflow: WorkflowObject, resource_version: str, action: actions.Action) -> None:
    namespace = workflow.namespace
    match action:
        case actions.AddFinalizer():
            await world.workflows.add_finalizer(workflow, resource_version)
        case actions.RemoveFinalizer():
            await world.workflows.remove_finalizer(workflow, resource_version)
        case actions.CreateCluster():
            await world.clusters.create(namespace, action.manifest)
        case actions.DeleteCluster():
            await world.clusters.delete(namespace, action.name, action.uid)
        case actions.StageCode():
            await world.runs.stage_code(namespace, action)
        case actions.SubmitRun():
            await world.jobs.submit(namespace, action)
        case actions.StopSubmission():
            await world.jobs.stop(namespace, action.head, action.submission_id)
        case actions.RequestCancel():
            await world.runs.request_cancel(namespace, action)
        case actions.EndRun():
            await world.runs.end(namespace, action)
        case actions.SayGoodbye():
            await world.runs.goodbye(namespace, action)
        case actions.DeleteCheckpoints():
            await world.runs.delete(namespace, action)
        case actions.NoteDebt():
            await world.references.note_debt(action)
        case actions.EmitEvent():
            await world.workflows.emit(workflow, action)
