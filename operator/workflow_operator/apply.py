"""Carries out the actions of a decision in order, and stops at the first one that fails.

`reconcile.py` calls it after the API server accepted the status PATCH. Every action is idempotent. If the process is
killed between two actions, the next one observes again, decides again and repeats them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from workflow_operator.api.status import DriverLog
from workflow_operator.core import actions
from workflow_operator.core.observation import WorkflowObject
from workflow_operator.core.texts import clip
from workflow_operator.errors import OperatorError, UnreachableError
from workflow_operator.observe import Clients

log = structlog.get_logger(__name__)

DRIVER_LOG_SECONDS = 10.0
"""Deadline for copying a driver's log to storage. After it, the log counts as lost."""

MESSAGE_LIMIT = 1000


class Failpoints(Protocol):
    """Named points of a reconciliation at which a test stops or kills the operator."""

    async def reach(self, point: str) -> None:
        """Called when the reconciliation reaches a point; may raise."""


class NoFailpoints:
    """The failpoints of production: they do nothing."""

    async def reach(self, point: str) -> None:
        """Do nothing."""


def _ignore(log: DriverLog) -> None:
    """Do nothing with the place of a driver's log."""


async def apply(
    clients: Clients,
    workflow: WorkflowObject,
    resource_version: str,
    decided: Sequence[actions.Action],
    failpoints: Failpoints,
    report: Callable[[DriverLog], None] = _ignore,
) -> None:
    """Carry out actions in order.

    Args:
        clients: the systems that the actions change.
        workflow: the object that the decision is about.
        resource_version: the version that the status PATCH returned.
        decided: the actions.
        failpoints: reached at `before <action>` and `after <action>` for each action.
        report: called with the place of a driver's log, or with the reason why it is lost.

    Raises:
        UnreachableError, RefusedError, ConflictError: an action failed; the actions after it are skipped.
    """
    for action in decided:
        name = type(action).__name__
        await failpoints.reach(f"before {name}")
        if isinstance(action, actions.StoreDriverLog):
            report(await _store_driver_log(clients, workflow.namespace, action))
        else:
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
        case actions.StageArgs():
            await clients.runs.stage_args(namespace, action)
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
        case actions.AbandonCleanup():
            run = action.run
            log.warning(
                "cleanup abandoned", namespace=namespace, workflow=run.name, cleanup=action.what, why=action.why,
                workflow_id=run.workflow_id, run_number=run.run_number, storage=run.store.url,
            )  # fmt: skip
        case actions.EmitEvent():
            await clients.workflows.emit(workflow, action)


async def _store_driver_log(clients: Clients, namespace: str, action: actions.StoreDriverLog) -> DriverLog:
    """Copy the end of a driver's log from its head to the run. A failure becomes a part of the result."""

    async def copy() -> str:
        log = await clients.jobs.log(namespace, action.head, action.submission_id)
        return await clients.runs.store_driver_log(namespace, action.run, action.submission_id, log)

    copying = asyncio.create_task(copy())
    try:
        done, _ = await asyncio.wait({copying}, timeout=DRIVER_LOG_SECONDS)
        if not done:
            raise UnreachableError(f"it was not copied to storage within {DRIVER_LOG_SECONDS:.0f} s")
        return DriverLog(attempt=action.attempt, location=copying.result())
    except OperatorError as error:
        return DriverLog(attempt=action.attempt, message=clip(f"lost: {error}", MESSAGE_LIMIT))
    finally:
        copying.cancel()
