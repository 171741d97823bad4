"""The manager: owns runs, keeps its heartbeat, reads requests, and detects that it was fenced. It does not need Ray.

In production `workflow.engine.driver.actor` runs it in a Ray actor, and tests run it in a plain event loop. The manager
only passes messages: values stay pickled, and every call of the store runs in a thread. Its work has three parts:
`owned_runs`, `completion` and `maintenance`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from workflow.engine.messages import ClaimRequest, RunAddress, RunResult
from workflow.engine.owner.completion import CompletionWaiter
from workflow.engine.owner.inbox import Inbox
from workflow.engine.owner.maintenance import DEFAULT_INTERVALS, Intervals, Maintenance
from workflow.engine.owner.manager_context import ManagerContext
from workflow.engine.owner.owned_runs import OwnedRuns
from workflow.engine.owner.run_loop import Runner, RunServices
from workflow.engine.owner.runtime import SYSTEM_RUNTIME, Runtime
from workflow.errors import UnavailableError, WorkflowError
from workflow.log import liveness
from workflow.log.failpoints import NO_FAILPOINTS, Failpoints
from workflow.model.records import Created, Tombstone
from workflow.model.run_view import Owner
from workflow.store.port import Store

__all__ = ["ClaimRequest", "Intervals", "Manager"]

logger = logging.getLogger(__name__)


class Manager:
    """Owns runs.

    Args:
        store: the store that contains the runs.
        identity: the id, incarnation and address of this manager.
        runner: executes steps.
        intervals: how often the regular work is done.
        failpoints: places at which tests stop the manager.
        runtime: the clocks and threads of the manager.
        waits: returns why steps have had no worker for a while, by the uuid of their run. The heartbeat contains these
            texts for readers without Ray.

    Attributes:
        replaced: set when a later incarnation of this manager is known to run. This process must exit then, because
            two incarnations would claim the runs from each other forever.
    """

    def __init__(
        self,
        store: Store,
        identity: Owner,
        runner: Runner,
        intervals: Intervals = DEFAULT_INTERVALS,
        failpoints: Failpoints = NO_FAILPOINTS,
        runtime: Runtime = SYSTEM_RUNTIME,
        waits: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self.identity = identity
        self._store = store
        self._clock = runtime.clock
        self._threads = runtime.threads()
        self._heartbeat_threads = runtime.threads()
        # A dictionary keeps the order of the tasks, so that a simulation can repeat them. A set would not.
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._leaving = False
        self.replaced = asyncio.Event()
        context = ManagerContext(
            store=store,
            identity=identity,
            clock=runtime.clock,
            threads=self._threads,
            services=RunServices(runner, self._threads.run, runtime.clock.now, intervals.retry),
            inbox=Inbox(store, self._threads.run),
            failpoints=failpoints,
            spawn=self._spawn,
            refuse_when_leaving=self._refuse_when_leaving,
            report_replacement=self._report_replacement,
        )
        self._runs = OwnedRuns(context)
        self._completion = CompletionWaiter(self._runs, context, intervals.follow)
        self._maintenance = Maintenance(self._runs, context, intervals, self._heartbeat_threads, waits)

    async def begin(self) -> None:
        """Store the first heartbeat, recover the runs of an earlier incarnation, and start the regular work.

        If the store is unavailable, the recovery is repeated in the background until the store answers.
        """
        await self._maintenance.begin()

    async def start(self, created: Created) -> Created | Tombstone:
        """Create a run and own it.

        Args:
            created: the record of the run. The manager of its owner is set here.

        Returns:
            The registry entry under this run number: this run, or the entry that was created before.

        Raises:
            UnavailableError: this manager is leaving; start the run at a new manager.
        """
        await self._maintenance.ready()
        return await self._runs.start(created)

    async def claim(self, request: ClaimRequest) -> None:
        """Claim a run and drive it. If this manager already drives the run, nothing changes.

        Raises:
            WorkflowInUseError, SupersededError, WorkflowConflictError: the run may not be claimed.
            UnavailableError: this manager is leaving; claim the run at a new manager.
        """
        await self._maintenance.ready()
        await self._runs.claim(request)

    async def wait(self, run: RunAddress) -> RunResult:
        """Wait until a run is finished, and return its result. Another manager may own the run.

        Raises:
            SupersededError: the run was deleted.
            OwnerLostError: no manager owns the run any more, so it must be claimed.
            UnavailableError: this manager is leaving.
        """
        self._refuse_when_leaving()
        return await self._completion.wait(run)

    async def observe(self, run: RunAddress) -> RunResult:
        """Wait until a run is finished, also while the store is unavailable. The run is never resumed.

        Raises:
            SupersededError: the run was deleted.
            OwnerLostError: no manager owns the run any more.
            UnavailableError: this manager is leaving.
        """
        self._refuse_when_leaving()
        return await self._completion.observe(run)

    async def wait_or_resume(self, run: RunAddress) -> RunResult:
        """Wait until a run is finished, and claim it if its owner fails in the meantime.

        Raises:
            SupersededError: the run was deleted.
            UnavailableError: this manager is leaving.
        """
        self._refuse_when_leaving()
        return await self._completion.wait_or_resume(run)

    async def show_store(self) -> None:
        """Store a heartbeat now, for a process that checks whether it sees the same store.

        Raises:
            StoreUnavailableError, StoreRefusedError: the store does not allow it now.
            UnavailableError: this manager is leaving.
        """
        self._refuse_when_leaving()
        await self._maintenance.show_store()

    async def notify(self, run_uuid: str) -> None:
        """Read the inbox of a run now, instead of after the next regular read of the notifications.

        Raises:
            UnavailableError: this manager is leaving.
        """
        self._refuse_when_leaving()
        await self._maintenance.notify(run_uuid)

    @property
    def live(self) -> int:
        """The number of runs that this manager drives now."""
        return len(self._runs.live)

    async def idle(self, seconds: float) -> None:
        """Return when this manager has owned no run and served no waiter for this many seconds."""
        runs = self._runs
        while True:
            remaining = runs.last_used + seconds - self._clock.monotonic()
            is_used = runs.has_work or self._completion.waiter_count or self._maintenance.may_own_unread_runs
            if remaining <= 0 and not is_used:
                return
            await asyncio.sleep(max(remaining, 1.0))

    async def leave(self) -> None:
        """Refuse new calls, cancel all tasks and remove the heartbeat of this manager.

        Without the heartbeat, the runs that are still owned become RESUMABLE. Their waiters get UnavailableError. If
        the heartbeat cannot be removed, it expires later.
        """
        self._leaving = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A heartbeat that is being written would create the key again, so the key is removed after the last call.
        try:
            await self._threads.close(lambda: None)
            await self._heartbeat_threads.close(lambda: liveness.remove_heartbeat(self._store, self.identity))
        except WorkflowError as error:
            logger.warning("manager %s leaves, but its heartbeat is not removed: %s", self.identity.address, error)

    def _refuse_when_leaving(self) -> None:
        if self._leaving:
            raise UnavailableError(
                f"manager {self.identity.address} refused the call: it is leaving; repeat the call at a new manager"
            )

    def _report_replacement(self) -> None:
        self._leaving = True
        self.replaced.set()

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
