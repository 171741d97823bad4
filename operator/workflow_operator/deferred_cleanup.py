"""Works off what is owed to runs whose Workflow is gone: noted where a store was down while its object was deleted.

Run by `main.py` beside the reconciler. What is noted names the object that owes it; the library checks again, when the
debt is paid, that the run is still that object's.
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
"""The reason that keeps the workflow id usable where no run existed yet."""

MESSAGE = "the Workflow was deleted"
log = structlog.get_logger(__name__)


async def run_forever(references: KubeReferences, runs: ports.Runs) -> None:
    """Pay all debts again and again, until canceled."""
    while True:
        try:
            await finish_all(references, runs)
        except OperatorError as error:
            log.warning("debts not read", error=str(error))
        await asyncio.sleep(PAUSE_SECONDS)


async def finish_all(references: KubeReferences, runs: ports.Runs) -> None:
    """Try each noted debt once; one that cannot be paid now stays.

    Raises:
        OperatorError: the debts could not be read.
    """
    for noted, debt in await references.deferred():
        try:
            await _pay(debt, runs)
            await references.finish_cleanup(noted)
        except OperatorError as error:
            log.warning("debt not paid yet", namespace=debt.namespace, workflow=debt.run.name, error=str(error))


async def _pay(debt: DeferCleanup, runs: ports.Runs) -> None:
    match debt.what:
        case "release":
            await runs.release(debt.namespace, ReleaseRun(debt.run, DELETED))
        case "cancel":
            await runs.end(debt.namespace, EndRun(debt.run, "CANCELED", DELETED, MESSAGE))
        case "delete":
            await runs.delete(debt.namespace, DeleteCheckpoints(debt.run))
