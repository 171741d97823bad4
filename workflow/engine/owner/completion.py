"""Waiting for the ends of runs, whoever owns them: by what is known here, else by following the log.

The part of `manager` that thousands of callers may sit in at once; it commits nothing.
"""

from __future__ import annotations

import asyncio
import logging

from workflow.engine.messages import ClaimRequest, RunAddress, RunResult
from workflow.engine.owner.owned_runs import ManagerContext, OwnedRuns
from workflow.engine.owner.run_loop import result_of
from workflow.errors import (
    FencedError,
    StoreUnavailableError,
    SupersededError,
    UnavailableError,
    WorkflowConflictError,
    WorkflowInUseError,
)
from workflow.log import registry
from workflow.log.claim import heartbeat_expired
from workflow.log.owned import OwnedRun
from workflow.log.run_log import RunLog
from workflow.model.records import Created

logger = logging.getLogger(__name__)


class CompletionWaiter:
    """Everybody who waits at one manager.

    Args:
        runs: those it owns.
        tools: of the manager.
        pause: seconds between looks at a log that another writes.

    Attributes:
        count: how many wait now.
    """

    def __init__(self, runs: OwnedRuns, tools: ManagerContext, pause: float) -> None:
        self.count = 0
        self._runs = runs
        self._tools = tools
        self._in_thread = tools.threads.run
        self._pause = pause

    async def wait(self, run: RunAddress) -> RunResult:
        """How a run ended: see Manager.wait."""
        self.count += 1
        try:
            while True:
                end = self._runs.ends.get(run.run_uuid)
                try:
                    ended = await (asyncio.shield(end) if end is not None else self._follow(run))
                except (FencedError, StoreUnavailableError) as error:
                    logger.info("run %s: %s; following its log", run.run_uuid, error)
                    ended = await self._follow(run)
                if ended is not None:
                    return ended
        finally:
            self.count -= 1
            self._runs.used()

    async def wait_or_resume(self, run: RunAddress) -> RunResult:
        """Wait, and go on with the run where its owner is lost: see Manager.see_through."""
        while True:
            try:
                return await self.wait(run)
            except StoreUnavailableError as error:
                logger.warning("run %s: %s", run.run_uuid, error)
            except UnavailableError:
                try:
                    await self._runs.claim(ClaimRequest(run.workflow_id, run.run_number))
                    continue
                except (WorkflowInUseError, WorkflowConflictError, StoreUnavailableError) as error:
                    logger.info("run %s: %s", run.run_uuid, error)
            await asyncio.sleep(self._pause)

    async def _follow(self, run: RunAddress) -> RunResult | None:
        """How a run ended, by its log; None where this manager drives it by now."""
        store, me, runs = self._tools.store, self._tools.me, self._runs
        named = await self._in_thread(lambda: registry.read_entry(store, run.workflow_id, run.run_number))
        if not isinstance(named, Created) or named.run_uuid != run.run_uuid:
            raise SupersededError(
                f"workflow {run.workflow_id!r}: run {run.run_uuid} is not what registry/{run.run_number} names"
            )
        await self._in_thread(lambda: registry.check_current(store, named))
        log = RunLog(store, named)
        state = await self._in_thread(log.replay)
        while not state.is_finished:
            if run.run_uuid in runs.live:
                return None
            if state.released or await self._in_thread(lambda: heartbeat_expired(store, state.owner.manager)):
                raise UnavailableError(f"workflow {run.workflow_id!r} is RESUMABLE: nobody owns it now; resume it")
            if state.owner.manager == me.manager and run.run_uuid not in runs.pending_release:
                runs.pending_recovery[run.run_uuid] = OwnedRun(run.workflow_id, run.run_number, run.run_uuid)
                await runs.recover_pending()
            await asyncio.sleep(self._pause)
            await self._in_thread(lambda: registry.check_current(store, named))
            await self._in_thread(lambda: log.catch_up(state))
        return result_of(state, run)
