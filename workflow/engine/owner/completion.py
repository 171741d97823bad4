"""Waits until runs are finished, for any owner: from memory if this manager drives the run, else by reading its log.

Thousands of callers may wait at one manager at once. Waiting commits nothing.
"""

from __future__ import annotations

import asyncio
import logging

from workflow.engine.messages import ClaimRequest, RunAddress, RunResult
from workflow.engine.owner.manager_context import ManagerContext
from workflow.engine.owner.owned_runs import OwnedRuns
from workflow.engine.owner.run_loop import result_of
from workflow.engine.retry import async_retry_while_unavailable
from workflow.errors import (
    FencedError,
    OwnerLostError,
    StoreUnavailableError,
    SupersededError,
    UnavailableError,
    WorkflowConflictError,
    WorkflowInUseError,
)
from workflow.log import liveness, registry
from workflow.log.owned import OwnedRun
from workflow.log.run_log import RunLog
from workflow.model.records import Created

logger = logging.getLogger(__name__)


def owner_lost(workflow_id: str) -> OwnerLostError:
    """Return the error of a call that waits for a workflow whose owner is lost."""
    return OwnerLostError(
        f"workflow {workflow_id!r} is RESUMABLE: no manager owns it, so its output will not be produced; call "
        f"workflow.resume({workflow_id!r})"
    )


class CompletionWaiter:
    """All callers that wait at one manager.

    Args:
        runs: the runs of the manager.
        context: the context of the manager.
        pause: seconds between two reads of a log that another manager writes.

    Attributes:
        waiter_count: the number of callers that wait now.
    """

    def __init__(self, runs: OwnedRuns, context: ManagerContext, pause: float) -> None:
        self.waiter_count = 0
        self._runs = runs
        self._context = context
        self._in_thread = context.threads.run
        self._pause = pause

    async def wait(self, run: RunAddress) -> RunResult:
        """Return the result of a run, as `Manager.wait` describes."""
        self.waiter_count += 1
        try:
            while True:
                pending = self._runs.live.result(run.run_uuid)
                try:
                    result = await (asyncio.shield(pending) if pending is not None else self._follow(run))
                except (FencedError, StoreUnavailableError) as error:
                    logger.info("run %s: %s; its log is read from now on", run.run_uuid, error)
                    result = await self._follow(run)
                if result is not None:
                    return result
        finally:
            self.waiter_count -= 1
            self._runs.record_use()

    async def observe(self, run: RunAddress) -> RunResult:
        """Return the result of a run, and never resume the run: see `Manager.observe`."""

        def report(error: StoreUnavailableError) -> None:
            logger.warning("run %s: %s", run.run_uuid, error)

        return await async_retry_while_unavailable(lambda: self.wait(run), self._pause, report)

    async def wait_or_resume(self, run: RunAddress) -> RunResult:
        """Return the result of a run, and resume the run if it has no owner: see `Manager.wait_or_resume`."""
        while True:
            try:
                return await self.observe(run)
            except UnavailableError:  # no manager owns the run, or this manager is leaving and refuses the claim
                if not await self._claimed(run):
                    await asyncio.sleep(self._pause)

    async def _claimed(self, run: RunAddress) -> bool:
        """Claim a run without an owner. Return False if it cannot be claimed now."""
        try:
            await self._runs.claim(ClaimRequest(run.workflow_id, run.run_number))
        except (WorkflowInUseError, WorkflowConflictError, StoreUnavailableError) as error:
            logger.info("run %s: %s", run.run_uuid, error)
            return False
        return True

    async def _follow(self, run: RunAddress) -> RunResult | None:
        """Read the log of a run until it is finished. Return None once this manager drives the run."""
        store, manager_id, runs = self._context.store, self._context.identity.manager, self._runs
        entry = await self._in_thread(lambda: registry.read_entry(store, run.workflow_id, run.run_number))
        if not isinstance(entry, Created) or entry.run_uuid != run.run_uuid:
            raise SupersededError(
                f"cannot wait for run {run.run_uuid} of workflow {run.workflow_id!r}: it was deleted or replaced; "
                "wait for the run that the id names now"
            )
        await self._in_thread(lambda: registry.check_current(store, entry))
        log = RunLog(store, entry)
        state = await self._in_thread(log.replay)
        while not state.is_finished:
            if run.run_uuid in runs.live:
                return None
            if state.released or await self._in_thread(lambda: liveness.is_lost(store, state.owner)):
                raise owner_lost(run.workflow_id)
            if state.owner.manager == manager_id and not runs.is_pending_release(run.run_uuid):
                runs.add_pending(OwnedRun(run.workflow_id, run.run_number, run.run_uuid))
                await runs.recover_pending()
            await asyncio.sleep(self._pause)
            await self._in_thread(lambda: registry.check_current(store, entry))
            await self._in_thread(lambda: log.catch_up(state))
        return result_of(state, run)
