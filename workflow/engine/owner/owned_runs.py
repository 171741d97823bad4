"""The runs that a manager owns: makes them, claims them, drives each to its end, gives up what it may not keep.

The part of `manager` that decides which runs are its own. `waiting` reads from it how a run ended here, and `upkeep`
has it take up at intervals what it does not drive yet.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

from workflow.engine.messages import ClaimRequest, RunAddress, RunResult
from workflow.engine.owner import takeover
from workflow.engine.owner.clock import Clock
from workflow.engine.owner.inbox import Inbox
from workflow.engine.owner.run_loop import RunLoop, RunServices
from workflow.engine.owner.runtime import Threads
from workflow.errors import (
    InternalError,
    OwnershipError,
    StoreUnavailableError,
    SupersededError,
    UnavailableError,
    WorkflowConflictError,
    WorkflowError,
)
from workflow.log import index, owned, registry
from workflow.log.claim import Claimant
from workflow.log.failpoints import Failpoints
from workflow.log.owned import OwnedRun
from workflow.log.run_log import RunLog
from workflow.log.values import versions
from workflow.model.records import Created, Tombstone
from workflow.model.run_view import Owner
from workflow.model.state import RunState
from workflow.model.status import WorkflowStatus
from workflow.store.port import Store

logger = logging.getLogger(__name__)

ENDS_REMEMBERED = 1_000


@dataclass(frozen=True)
class ManagerContext:
    """What the parts of one manager share.

    Attributes:
        me: the manager.
        services: what each of its run loops is given.
        spawn: begins a task that ends with the manager.
        refuse_when_leaving: raises Unavailable where the manager takes no more runs.
        replaced: told that a later incarnation of this manager is at work: this process must end.
    """

    store: Store
    me: Owner
    clock: Clock
    threads: Threads
    services: RunServices
    inbox: Inbox
    failpoints: Failpoints
    spawn: Callable[[Awaitable[None]], None]
    refuse_when_leaving: Callable[[], None]
    replaced: Callable[[], None]


class OwnedRuns:
    """All runs of one manager.

    Args:
        tools: see there.

    Attributes:
        live: those that are driven now, by run uuid.
        ends: how each ended, or will; the oldest are forgotten.
        loose: those that may be this manager's and that it does not drive: taken up as soon as the store answers.
        owes_goodbye: those it gave up after an error that is not the user's: nobody may claim them before its goodbye
            is stored.
        last_used: when a run was made, claimed, waited for or ended last, by the monotonic clock.
    """

    def __init__(self, tools: ManagerContext) -> None:
        self.live: dict[str, RunLoop] = {}
        self.ends: OrderedDict[str, asyncio.Future[RunResult]] = OrderedDict()
        self.pending_recovery: dict[str, OwnedRun] = {}
        self.pending_release: dict[str, RunLog] = {}
        self.last_used = tools.clock.monotonic()
        self._driven: dict[str, asyncio.Event] = {}
        self._tools = tools
        self._store = tools.store
        self._in_thread = tools.threads.run
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def used(self) -> None:
        """Somebody needs this manager."""
        self.last_used = self._tools.clock.monotonic()

    async def start(self, created: Created) -> Created | Tombstone:
        """Make a run and own it: see Manager.start."""
        self._tools.refuse_when_leaving()
        self.used()
        me = self._tools.me
        mine = replace(created, owner=replace(me, uid=created.owner.uid, attempt=created.owner.attempt))
        run = OwnedRun(created.workflow_id, created.run_number, created.run_uuid)
        async with self._alone(created.run_uuid):
            self.pending_recovery[created.run_uuid] = run
            hints = await asyncio.gather(
                self._in_thread(lambda: owned.add(self._store, me.manager, run)),
                self._in_thread(lambda: index.set_status(self._store, created.workflow_id, index.LIVE, replaces=())),
                return_exceptions=True,  # where one fails the other is waited for: it must not come behind what follows
            )
            for failed in filter(None, hints):
                raise failed
            there = await self._in_thread(lambda: registry.register(self._store, mine, self._tools.failpoints))
            if isinstance(there, Tombstone) or there.run_uuid != created.run_uuid:
                await self._forget(run)
                return there
            if there is mine:  # made by this very call; what is equal was made before, and may have gone on since
                log = RunLog(self._store, there, self._tools.failpoints)
                self._drive(log, await self._in_thread(log.begin))
        if created.run_uuid not in self.live:  # made before, perhaps by an earlier incarnation; the answer was lost
            await self._recover(run)
        return there

    async def claim(self, request: ClaimRequest) -> None:
        """Take a run over and go on with it: see Manager.claim."""
        self._tools.refuse_when_leaving()
        self.used()
        named = await self._in_thread(lambda: registry.read_entry(self._store, request.workflow_id, request.run_number))
        if not isinstance(named, Created):
            raise SupersededError(
                f"workflow {request.workflow_id!r} has no run {request.run_number} that could be claimed"
            )
        run = OwnedRun(request.workflow_id, request.run_number, named.run_uuid)
        loop = self.live.get(named.run_uuid)
        if request.retry_failed and loop is not None and loop.state.is_finished:
            await self._driven[named.run_uuid].wait()  # it FAILED just now, and is not closed yet
        async with self._alone(named.run_uuid):
            loop = self.live.get(named.run_uuid)
            if loop is not None:
                takeover.check_same_object(loop.state, request)
                return
            known = named.run_uuid in self.pending_recovery
            self.pending_recovery[named.run_uuid] = run  # first: its key may be written although no answer comes
            await self._in_thread(lambda: owned.add(self._store, self._tools.me.manager, run))
            try:
                await self._claim(named, request)
            except OwnershipError:  # where it has ended, it stays loose: its hints may have to be put right
                if not known:  # else it is this manager's all the same, for another object
                    await self._forget(run)
                raise

    async def recover_pending(self) -> None:
        """Take up what is loose, and say the goodbyes that are owed. One damaged run keeps no other waiting."""
        for run_uuid in list(self.pending_release):
            try:
                await self._release(run_uuid)
            except WorkflowError as error:
                logger.error("run %s: no goodbye could be said: %s", run_uuid, error)
        for run in list(self.pending_recovery.values()):
            try:
                await self._recover(run)
            except WorkflowError as error:
                logger.error("run %s of workflow %r is not taken up yet: %s", run.run_uuid, run.workflow_id, error)

    async def _release(self, run_uuid: str) -> None:
        me, clock = self._tools.me, self._tools.clock
        async with self._alone(run_uuid):
            log = self.pending_release.get(run_uuid)
            if log is None:  # it was claimed anew since
                return
            try:
                await self._in_thread(lambda: takeover.release(log, me, clock.now(), "Bug"))
            except SupersededError as error:
                logger.info("run %s needs no goodbye: %s", run_uuid, error)
            self.pending_release.pop(run_uuid, None)

    def _alone(self, run_uuid: str) -> asyncio.Lock:
        """One call at a time makes, claims, takes up or leaves a run: two would fence each other."""
        return self._locks.setdefault(run_uuid, asyncio.Lock())

    async def _recover(self, run: OwnedRun) -> None:
        """Go on with a run whose last claim is this manager's, by an earlier incarnation or before an outage."""
        self._tools.refuse_when_leaving()
        async with self._alone(run.run_uuid):
            if run.run_uuid not in self.live and not await self._claim_own(run):
                await self._forget(run)
            elif run.run_uuid in self.live:  # else it was given up in the segment of its claim: see _drive
                self.pending_recovery.pop(run.run_uuid, None)

    async def _claim_own(self, run: OwnedRun) -> bool:
        """Whether the run was this manager's and is driven now."""
        named = await self._in_thread(lambda: registry.read_entry(self._store, run.workflow_id, run.run_number))
        if not isinstance(named, Created) or named.run_uuid != run.run_uuid:
            return False
        log = RunLog(self._store, named)
        try:
            state = await self._in_thread(log.replay)
            if not state.is_finished and state.owner.manager == self._tools.me.manager and not state.released:
                request = ClaimRequest(run.workflow_id, run.run_number, state.owner.uid, state.owner.attempt)
                try:
                    await self._claim(named, request)
                    return True
                except (OwnershipError, WorkflowConflictError) as error:
                    logger.warning("run %s is not taken up again: %s", run.run_uuid, error)
                    state = await self._in_thread(log.replay)
            if state.is_finished:  # perhaps by the hand of an earlier incarnation that is dead by now
                await self._in_thread(lambda: takeover.settle(log, state))
        except SupersededError as error:
            logger.info("run %s: %s", run.run_uuid, error)
        return False

    async def _forget(self, run: OwnedRun) -> None:
        await self._in_thread(lambda: owned.remove(self._store, self._tools.me.manager, run.run_uuid))
        self.pending_recovery.pop(
            run.run_uuid, None
        )  # only now: where the store does not answer, it is tried again later

    async def _claim(self, named: Created, request: ClaimRequest) -> None:
        log = RunLog(self._store, named, self._tools.failpoints)
        claimant = Claimant(
            owner=replace(self._tools.me, uid=request.uid, attempt=request.attempt),
            at=self._tools.clock.now(),
            take_over=request.take_over,
            retry_failed=request.retry_failed,
            versions=versions(),
            functions=request.functions,
        )
        self._drive(log, await self._in_thread(lambda: takeover.take(log, claimant)), claimed=True)

    def _drive(self, log: RunLog, state: RunState, *, claimed: bool = False) -> None:
        run_uuid = state.created.run_uuid
        self.pending_release.pop(run_uuid, None)
        self.ends.pop(run_uuid, None)
        if state.is_finished:  # given up in the segment of the claim: stays loose, so that its hints are put right
            return
        address = RunAddress(self._store.url, state.created.workflow_id, state.created.run_number, run_uuid)
        end: asyncio.Future[RunResult] = asyncio.get_running_loop().create_future()
        end.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.ends[run_uuid] = end
        self.pending_recovery.pop(run_uuid, None)
        loop = RunLoop(log, state, address, self._tools.services)
        self.live[run_uuid] = loop
        self._driven[run_uuid] = asyncio.Event()
        self._tools.spawn(self._run(loop, end, claimed))

    async def _run(self, loop: RunLoop, end: asyncio.Future[RunResult], claimed: bool) -> None:
        created, me = loop.state.created, self._tools.me
        run = OwnedRun(created.workflow_id, created.run_number, created.run_uuid)
        at_end: RunState | None = None
        try:
            if claimed:
                await self._retry_while_unavailable(lambda: self._tools.inbox.look(loop))
            ended = await loop.run()
            at_end = loop.state
            await self._retry_while_unavailable(lambda: self._in_thread(lambda: takeover.settle(loop.log, loop.state)))
            end.set_result(ended)
            if ended.status is WorkflowStatus.FAILED:  # no end for ever: another manager may resume it
                self.ends.pop(run.run_uuid, None)
        except OwnershipError as error:
            logger.warning("run %s of workflow %r stops here: %s", run.run_uuid, run.workflow_id, error)
            end.set_exception(error)
        except Exception as error:
            logger.exception("run %s of workflow %r", run.run_uuid, run.workflow_id)
            self.pending_release[run.run_uuid] = loop.log
            end.set_exception(
                error
                if isinstance(error, WorkflowError)
                else InternalError(f"workflow {run.workflow_id!r} is RESUMABLE after an error of the engine: {error!r}")
            )
            await self.recover_pending()
        finally:
            self.live.pop(run.run_uuid, None)
            self._driven.pop(run.run_uuid).set()
            if not end.done():
                end.set_exception(UnavailableError(f"manager {me.address} leaves workflow {run.workflow_id!r}"))
            if end.exception() is not None:  # that is how it went here; how the run ends its log will say
                self.ends.pop(run.run_uuid, None)
            self.used()
            self._remember_fewer_ends()
        if run.run_uuid not in self.pending_release:
            try:
                await self._retry_while_unavailable(lambda: self._let_go(run, loop.log, at_end))
            except WorkflowError as error:  # its key stays for the collector
                logger.error("run %s of workflow %r is not let go of: %s", run.run_uuid, run.workflow_id, error)

    async def _let_go(self, run: OwnedRun, log: RunLog, at_end: RunState | None) -> None:
        """Forget a run that is over, or another's. What a later incarnation of this manager claimed is that one's.

        Args:
            at_end: what is stored up to the run's end, where it came to one: only what lies behind is read.
        """
        async with self._alone(run.run_uuid):
            if run.run_uuid in self.live:
                return
            try:
                state = await self._in_thread(lambda: log.now(at_end))
                # Behind it: what was read while the run was deleted says too little.
                await self._in_thread(lambda: registry.check_current(self._store, log.created))
            except SupersededError as error:
                logger.info("run %s: %s", run.run_uuid, error)
            else:
                if not state.is_finished and state.owner.manager == self._tools.me.manager:
                    if state.owner.incarnation != self._tools.me.incarnation:
                        self._tools.replaced()
                    return
            await self._forget(run)

    async def _retry_while_unavailable(self, act: Callable[[], Awaitable[None]]) -> None:
        """Do it, however long the store does not answer."""
        while True:
            try:
                await act()
                return
            except StoreUnavailableError as error:
                logger.warning("manager %s: %s", self._tools.me.address, error)
                await asyncio.sleep(self._tools.services.pause)

    def _remember_fewer_ends(self) -> None:
        surplus = len(self.ends) - len(self.live) - ENDS_REMEMBERED
        for run_uuid in [each for each in self.ends if each not in self.live][: max(surplus, 0)]:
            del self.ends[run_uuid]
