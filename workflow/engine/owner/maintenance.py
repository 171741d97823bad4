"""What a manager does at intervals: heartbeat, bells, a look at the fence of each run, and what it still owes.

Begun by `manager`, in tasks that end with it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from workflow.engine.owner.owned_runs import ManagerContext, OwnedRuns
from workflow.engine.owner.runtime import Threads
from workflow.errors import StoreRefusedError, WorkflowError
from workflow.log import keys, owned

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Intervals:
    """How often what is done, in seconds."""

    heartbeat: float = 5.0
    bell: float = 1.0
    fence: float = 20.0
    follow: float = 0.5
    store: float = 2.0


DEFAULT_INTERVALS = Intervals()


class Maintenance:
    """The regular work of one manager.

    Args:
        runs: those it owns.
        tools: of the manager.
        pace: how often what.
        heart: threads for the heartbeat alone: behind calls for thousands of runs it would come too late, and the
            manager would count as gone.

    Attributes:
        unread: it may own runs of which it could not read yet, and will: it must not leave.
    """

    def __init__(self, runs: OwnedRuns, tools: ManagerContext, pace: Intervals, heart: Threads) -> None:
        self._heart = heart
        self._runs = runs
        self._tools = tools
        self._pace = pace
        self.unread = True
        self._reading: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """See Manager.begin. Raises nothing: there is nobody who could do better than try again."""
        for period, act in (
            (self._pace.heartbeat, self._beat),
            (self._pace.bell, self._answer_bells),
            (self._pace.fence, self._look),
            (self._pace.fence, self._runs.recover_pending),
        ):
            self._tools.spawn(self._every(period, act))
        if not await self._began():
            self._tools.spawn(self._begin_later())

    async def ready(self) -> None:
        """Return once this manager said that it lives, and knows what an earlier incarnation of it owned.

        Whoever owns a run without a heartbeat would seem to be gone.

        Raises:
            StoreUnavailable, StoreRefused: neither can be done now.
        """
        if self._reading is None or (self._reading.done() and self._reading.exception() is not None):
            self._reading = asyncio.ensure_future(self._read())
        await asyncio.shield(self._reading)  # whoever asks meanwhile waits for this very attempt

    async def _read(self) -> None:
        try:
            await self._beat()
            store, me = self._tools.store, self._tools.me
            for run in await self._tools.threads.run(lambda: list(owned.list_runs(store, me.manager))):
                self._runs.pending_recovery[run.run_uuid] = run
        except StoreRefusedError:  # it may never answer otherwise: no reason to stay
            self.unread = False
            raise
        self.unread = False

    async def _began(self) -> bool:
        try:
            await self.ready()
            await self._runs.recover_pending()
            return True
        except Exception as error:  # noqa: BLE001 - whatever it is, to try again is the only way to the runs
            logger.warning("manager %s cannot begin yet: %s", self._tools.me.address, error)
            return False

    async def _begin_later(self) -> None:
        while True:
            await asyncio.sleep(self._pace.heartbeat)
            if await self._began():
                return

    async def notify(self, run_uuid: str) -> None:
        """See Manager.ring."""
        loop = self._runs.live.get(run_uuid)
        if loop is not None:
            await self._tools.inbox.look(loop)

    async def _beat(self) -> None:
        store, me = self._tools.store, self._tools.me
        content = json.dumps({"incarnation": me.incarnation, "runs": len(self._runs.live)}).encode()
        await self._heart.run(lambda: store.overwrite(keys.heartbeat(me.manager), content))

    async def _look(self) -> None:
        for loop in list(self._runs.live.values()):
            loop.look()

    async def _answer_bells(self) -> None:
        if self._runs.live:
            for run_uuid in await self._tools.inbox.notified_runs():
                await self.notify(run_uuid)

    async def _every(self, period: float, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(period)
            try:
                await act()
            except WorkflowError as error:
                logger.warning("manager %s: %s", self._tools.me.address, error)
            except Exception:  # a heartbeat that stopped for good would give every run of this manager away
                logger.exception("manager %s", self._tools.me.address)
