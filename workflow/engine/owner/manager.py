"""The manager's core: owns runs, keeps its heartbeat, answers the bell, notices that it was fenced. Needs no Ray.

`actor` puts it into a Ray actor, tests into a plain loop. It only passes messages: values stay pickled, and every call
of the store runs in a thread. Its work is in three parts: `owning`, `waiting` and `upkeep`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

from workflow.engine.messages import ClaimRequest, RunAddress, RunResult
from workflow.engine.owner.completion import CompletionWaiter
from workflow.engine.owner.inbox import Inbox
from workflow.engine.owner.maintenance import DEFAULT_INTERVALS, Intervals, Maintenance
from workflow.engine.owner.owned_runs import ManagerContext, OwnedRuns
from workflow.engine.owner.run_loop import Runner, RunServices
from workflow.engine.owner.runtime import SYSTEM_RUNTIME, Runtime
from workflow.errors import UnavailableError, WorkflowError
from workflow.log import keys
from workflow.log.failpoints import NO_FAILPOINTS, Failpoints
from workflow.model.records import Created, Tombstone
from workflow.model.run_view import Owner
from workflow.store.port import Store

__all__ = ["ClaimRequest", "Intervals", "Manager"]

logger = logging.getLogger(__name__)


class Manager:
    """Owns runs.

    Args:
        store: where they lie.
        me: this manager: id, incarnation, address.
        runner: executes steps.
        pace: how often what.
        points: for tests.
        machine: its clocks and threads.

    Attributes:
        replaced: set once a later incarnation is known to be at work: this process must end, or the two would take
            runs from each other for ever.
    """

    def __init__(
        self,
        store: Store,
        me: Owner,
        runner: Runner,
        pace: Intervals = DEFAULT_INTERVALS,
        failpoints: Failpoints = NO_FAILPOINTS,
        machine: Runtime = SYSTEM_RUNTIME,
    ) -> None:
        self.me = me
        self._store = store
        self._clock = machine.clock
        self._threads = machine.threads()
        self._heart = machine.threads()
        self._tasks: dict[asyncio.Task[None], None] = {}  # in their order: a simulation repeats them
        self._leaving = False
        self.replaced = asyncio.Event()
        tools = ManagerContext(
            store=store,
            me=me,
            clock=machine.clock,
            threads=self._threads,
            services=RunServices(runner, self._threads.run, machine.clock.now, pace.store),
            inbox=Inbox(store, self._threads.run),
            failpoints=failpoints,
            spawn=self._spawn,
            refuse_when_leaving=self._refuse_when_leaving,
            replaced=self._be_replaced,
        )
        self._runs = OwnedRuns(tools)
        self._waiting = CompletionWaiter(self._runs, tools, pace.follow)
        self._upkeep = Maintenance(self._runs, tools, pace, self._heart)

    async def begin(self) -> None:
        """Say that this manager lives, take up what an earlier incarnation of it owned, and keep watch.

        Where the store is away that goes on being tried, for as long as it takes.
        """
        await self._upkeep.begin()

    async def start(self, created: Created) -> Created | Tombstone:
        """Make a run and own it.

        Args:
            created: its record; its owner's manager is filled in here.

        Returns:
            What the name says then: this very run, or what was there first.

        Raises:
            Unavailable: this manager is leaving; make it anew.
        """
        await self._upkeep.ready()
        return await self._runs.start(created)

    async def claim(self, request: ClaimRequest) -> None:
        """Take a run over and go on with it. Nothing happens where it is owned here already.

        Raises:
            InUse, Superseded, WorkflowConflict: it may not be claimed.
            Unavailable: this manager is leaving; make it anew.
        """
        await self._upkeep.ready()
        await self._runs.claim(request)

    async def wait(self, run: RunAddress) -> RunResult:
        """How a run ended, as soon as it has; by its log where another owns it.

        Raises:
            Superseded: the run was deleted. Unavailable: nobody owns it any more: claim it; or this manager is leaving.
        """
        self._refuse_when_leaving()
        return await self._waiting.wait(run)

    async def wait_or_resume(self, run: RunAddress) -> RunResult:
        """Like `wait`, and goes on with the run by itself where its owner is lost meanwhile.

        Raises:
            Superseded: the run was deleted. Unavailable: this manager is leaving.
        """
        self._refuse_when_leaving()
        return await self._waiting.wait_or_resume(run)

    async def notify(self, run_uuid: str) -> None:
        """Look into a run's inbox now, rather than at the next bell.

        Raises:
            Unavailable: this manager is leaving.
        """
        self._refuse_when_leaving()
        await self._upkeep.notify(run_uuid)

    @property
    def live(self) -> int:
        """Runs owned now."""
        return len(self._runs.live)

    async def idle(self, seconds: float) -> None:
        """Return once no run was owned or waited for for so long."""
        runs = self._runs
        while True:
            left = runs.last_used + seconds - self._clock.monotonic()
            used = (
                runs.live or self._waiting.count or runs.pending_recovery or runs.pending_release or self._upkeep.unread
            )
            if left <= 0 and not used:
                return
            await asyncio.sleep(max(left, 1.0))

    async def leave(self) -> None:
        """Refuse new runs, stop what still goes on and remove this manager's heartbeat.

        A run that is still owned here becomes RESUMABLE by the missing heartbeat, and its waiters get Unavailable. A
        heartbeat that cannot be removed is left: it grows stale.
        """
        self._leaving = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A heartbeat that was on its way would put the key back: it is removed behind the last call of the store.
        try:
            await self._threads.close(lambda: None)
            await self._heart.close(lambda: self._store.delete(keys.heartbeat(self.me.manager)))
        except WorkflowError as error:
            logger.warning("manager %s leaves its heartbeat behind: %s", self.me.address, error)

    def _refuse_when_leaving(self) -> None:
        if self._leaving:
            raise UnavailableError(f"manager {self.me.address} is leaving; make it anew")

    def _be_replaced(self) -> None:
        self._leaving = True
        self.replaced.set()

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
