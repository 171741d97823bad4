"""Finishes the deferred cleanup of runs: work that storage did not accept before the Workflow object was deleted.

`main.py` runs it beside the reconciler. Each deferred cleanup contains the identity of its Workflow. The library checks
again, before it changes a run, that the run still belongs to that Workflow.
"""

from __future__ import annotations

import asyncio

import structlog

from workflow_operator.adapters.references import KubeReferences
from workflow_operator.core import ports
from workflow_operator.core.actions import DeferCleanup, DeleteCheckpoints, EndRun, ReleaseRun
from workflow_operator.errors import OperatorError

PAUSE_SECONDS = 60.0
DELETED = "Deleted"
"""The reason written to the log. If no run exists yet, it keeps the workflow id usable."""

MESSAGE = "the Workflow was deleted"
log = structlog.get_logger(__name__)


async def run_forever(references: KubeReferences, runs: ports.Runs) -> None:
    """Try to finish all deferred cleanups every 60 seconds, until canceled."""
    while True:
        try:
            await finish_all(references, runs)
        except OperatorError as error:
            log.warning("cannot list deferred cleanups", error=str(error))
        await asyncio.sleep(PAUSE_SECONDS)


async def finish_all(references: KubeReferences, runs: ports.Runs) -> None:
    """Try to finish each deferred cleanup once. One that fails stays recorded.

    Raises:
        OperatorError: the deferred cleanups could not be listed.
    """
    for config_map, cleanup in await references.deferred():
        try:
            await _carry_out(cleanup, runs)
            await references.finish_cleanup(config_map)
        except OperatorError as error:
            log.warning(
                "deferred cleanup failed", namespace=cleanup.namespace, workflow=cleanup.run.name, error=str(error)
            )


async def _carry_out(cleanup: DeferCleanup, runs: ports.Runs) -> None:
    match cleanup.what:
        case "release":
            await runs.release(cleanup.namespace, ReleaseRun(cleanup.run, DELETED))
        case "cancel":
            await runs.end(cleanup.namespace, EndRun(cleanup.run, "CANCELED", DELETED, MESSAGE))
        case "delete":
            await runs.delete(cleanup.namespace, DeleteCheckpoints(cleanup.run))
