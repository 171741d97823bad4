"""The regular work of a manager: its heartbeat, notifications, fence checks, and the recovery of pending runs.

`manager` starts it. All its tasks end when the manager leaves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from workflow.engine.owner.manager_context import ManagerContext
from workflow.engine.owner.owned_runs import OwnedRuns
from workflow.engine.owner.runtime import Threads
from workflow.errors import StoreRefusedError, WorkflowError
from workflow.log import liveness, owned

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Intervals:
    """The intervals of a manager, in seconds.

    Attributes:
        heartbeat: between two heartbeats.
        notifications: between two reads of the notifications.
        fence: between two checks of all fences, and between two recoveries of pending runs.
        follow: between two reads of a log that another manager writes.
        retry: between two attempts of a call while the store is unavailable.
    """

    heartbeat: float = 5.0
    notifications: float = 1.0
    fence: float = 20.0
    follow: float = 0.5
    retry: float = 2.0


DEFAULT_INTERVALS = Intervals()


class Maintenance:
    """The regular work of one manager.

    Args:
        runs: the runs of the manager.
        context: the context of the manager.
        intervals: how often each task runs.
        heartbeat_threads: threads for the heartbeat alone. In the threads that serve thousands of runs the heartbeat
            would wait too long, and it would expire.
        waits: returns why steps have no worker, by the uuid of their run; the heartbeat contains it.

    Attributes:
        may_own_unread_runs: whether an earlier incarnation may own runs that this manager has not read yet. The
            manager must not leave before it has read them.
    """

    def __init__(
        self,
        runs: OwnedRuns,
        context: ManagerContext,
        intervals: Intervals,
        heartbeat_threads: Threads,
        waits: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._waits = waits
        self._heartbeat_threads = heartbeat_threads
        self._runs = runs
        self._context = context
        self._intervals = intervals
        self.may_own_unread_runs = True
        self._preparation: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Start the regular tasks, and recover the runs of an earlier incarnation, as `Manager.begin` describes.

        Raises nothing. If the recovery fails, it is repeated in the background until it succeeds.
        """
        for period, act in (
            (self._intervals.heartbeat, self._send_heartbeat),
            (self._intervals.notifications, self._read_notifications),
            (self._intervals.fence, self._check_fences),
            (self._intervals.fence, self._runs.recover_pending),
        ):
            self._context.spawn(self._repeat(period, act))
        if not await self._recovered():
            self._context.spawn(self._recover_in_background())

    async def ready(self) -> None:
        """Return when the heartbeat is stored and the runs of an earlier incarnation are known.

        A manager that owned a run before its first heartbeat would look failed to other managers.

        Raises:
            StoreUnavailableError, StoreRefusedError: the store does not allow it now.
        """
        failed = (
            self._preparation is not None and self._preparation.done() and self._preparation.exception() is not None
        )
        if self._preparation is None or failed:
            self._preparation = asyncio.ensure_future(self._prepare())
        await asyncio.shield(self._preparation)  # concurrent callers share one preparation

    async def show_store(self) -> None:
        """Store a heartbeat now, as `Manager.show_store` describes."""
        await self.ready()
        await self._send_heartbeat()

    async def _prepare(self) -> None:
        try:
            await self._send_heartbeat()
            store, manager_id = self._context.store, self._context.identity.manager
            for run in await self._context.threads.run(lambda: list(owned.list_runs(store, manager_id))):
                self._runs.add_pending(run)
        except StoreRefusedError:  # the store may refuse this manager forever, so the manager may leave
            self.may_own_unread_runs = False
            raise
        self.may_own_unread_runs = False

    async def _recovered(self) -> bool:
        """Recover the runs of an earlier incarnation. Return whether that succeeded."""
        try:
            await self.ready()
            await self._runs.recover_pending()
        except Exception as error:  # noqa: BLE001 - after any error, only another attempt can recover the runs
            address = self._context.identity.address
            logger.warning("manager %s has not recovered its runs yet: %s", address, error)
            return False
        return True

    async def _recover_in_background(self) -> None:
        while True:
            await asyncio.sleep(self._intervals.heartbeat)
            if await self._recovered():
                return

    async def notify(self, run_uuid: str) -> None:
        """Deliver the new requests of a run, as `Manager.notify` describes."""
        live = self._runs.live.get(run_uuid)
        if live is not None:
            await self._context.inbox.deliver(live.loop)

    async def _send_heartbeat(self) -> None:
        store, identity = self._context.store, self._context.identity
        runs, waits = len(self._runs.live), dict(self._waits())
        await self._heartbeat_threads.run(lambda: liveness.send_heartbeat(store, identity, runs, waits))

    async def _check_fences(self) -> None:
        for loop in self._runs.live.loops():
            loop.check_fence()

    async def _read_notifications(self) -> None:
        if len(self._runs.live) > 0:
            for run_uuid in await self._context.inbox.notified_runs():
                await self.notify(run_uuid)

    async def _repeat(self, period: float, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(period)
            try:
                await act()
            except WorkflowError as error:
                logger.warning("manager %s: %s", self._context.identity.address, error)
            except Exception:  # without a heartbeat, other managers would claim every run of this one
                logger.exception("manager %s", self._context.identity.address)
