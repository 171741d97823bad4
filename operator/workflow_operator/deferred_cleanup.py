"""Finishes the deferred cleanup of runs: work that storage did not accept before the Workflow object was deleted.

`main.py` runs it beside the reconciler. Each deferred cleanup contains the identity of its Workflow. The library checks
again, before it changes a run, that the run still belongs to that Workflow.

A cleanup is given up, with a line in the operator's log, if its namespace is gone together with the Secret of its
storage. It is also given up after it failed for seven days.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from workflow_operator.adapters.references import KubeReferences
from workflow_operator.api.base import parse_time
from workflow_operator.core import ports
from workflow_operator.core.actions import DeferCleanup, DeleteCheckpoints, EndRun, ReleaseRun
from workflow_operator.errors import OperatorError

PAUSE_SECONDS = 60.0
EXPIRE_SECONDS = 7 * 24 * 3600.0
"""Age at which a deferred cleanup that still fails is given up, in seconds."""

DELETED = "Deleted"
"""The reason written to the log. If no run exists yet, it keeps the workflow id usable."""

MESSAGE = "the Workflow was deleted"
log = structlog.get_logger(__name__)


async def run_forever(references: KubeReferences, runs: ports.Runs, now: Callable[[], float]) -> None:
    """Try to finish all deferred cleanups every 60 seconds, until canceled.

    Args:
        references: the records of the deferred cleanups.
        runs: the runs in storage.
        now: returns the time in seconds since 1970.
    """
    while True:
        try:
            await finish_all(references, runs, now)
        except OperatorError as error:
            log.warning("cannot list deferred cleanups", error=str(error))
        await asyncio.sleep(PAUSE_SECONDS)


async def finish_all(references: KubeReferences, runs: ports.Runs, now: Callable[[], float]) -> None:
    """Try to finish each deferred cleanup once. One that fails stays recorded, unless it can never be finished.

    Args:
        references: the records of the deferred cleanups.
        runs: the runs in storage.
        now: returns the time in seconds since 1970.

    Raises:
        OperatorError: the deferred cleanups could not be listed.
    """
    for config_map, cleanup in await references.deferred():
        context = {"namespace": cleanup.namespace, "workflow": cleanup.run.name}
        try:
            await _carry_out(cleanup, runs)
            await references.finish_cleanup(config_map)
        except OperatorError as error:
            created = parse_time(config_map["metadata"]["creationTimestamp"])
            why = await _never_finished(cleanup, references, now() - created)
            if not why:
                log.warning("deferred cleanup failed", **context, error=str(error))
                continue
            run = cleanup.run
            log.warning(
                "deferred cleanup given up", **context, cleanup=cleanup.what, why=why, error=str(error),
                workflow_id=run.workflow_id, run_number=run.run_number, storage=run.store.url,
            )  # fmt: skip
            await references.finish_cleanup(config_map)


async def _never_finished(cleanup: DeferCleanup, references: KubeReferences, age: float) -> str:
    """Return why a cleanup that failed will never be finished, or an empty string.

    Args:
        cleanup: the cleanup that failed.
        references: reads if its namespace still exists.
        age: seconds since it was recorded.
    """
    if age >= EXPIRE_SECONDS:
        return f"it failed for {EXPIRE_SECONDS / 86400:.0f} days"
    if cleanup.run.store.secret and await references.namespace_terminating(cleanup.namespace):
        return f"namespace {cleanup.namespace} is gone together with Secret {cleanup.run.store.secret}"
    return ""


async def _carry_out(cleanup: DeferCleanup, runs: ports.Runs) -> None:
    match cleanup.what:
        case "release":
            await runs.release(cleanup.namespace, ReleaseRun(cleanup.run, DELETED))
        case "cancel":
            await runs.end(cleanup.namespace, EndRun(cleanup.run, "CANCELED", DELETED, MESSAGE))
        case "delete":
            await runs.delete(cleanup.namespace, DeleteCheckpoints(cleanup.run))
