"""The manager's core: owns runs, keeps its heartbeat, answers the bell, notices that it was fenced. Needs no Ray.

`actor` puts it into a Ray actor, tests into a plain loop. It only passes messages: values stay pickled, and every call
of the store runs in a thread.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar
from weakref import WeakValueDictionary

from workflow.engine.inbox import Inbox
from workflow.engine.messages import Ended, RunAddress
from workflow.engine.run_loop import RunLoop, Runner, Services, end_of
from workflow.errors import (
    Bug,
    Fenced,
    InUse,
    Ownership,
    StoreUnavailable,
    Superseded,
    Unavailable,
    WorkflowConflict,
    WorkflowError,
)
from workflow.log import naming
from workflow.log import paths as keys
from workflow.log.claim import Claimant, claim, is_silent
from workflow.log.naming import OwnedRun
from workflow.log.points import NO_POINTS, Points
from workflow.log.run_log import RunLog
from workflow.log.values import versions
from workflow.model.records import Created, StatusChanged, Tombstone
from workflow.model.run_view import Owner
from workflow.model.state import RunState
from workflow.model.status import WorkflowStatus
from workflow.store.port import Store

logger = logging.getLogger(__name__)

T = TypeVar("T")

STORE_THREADS = 16
ENDS_REMEMBERED = 1_000


@dataclass(frozen=True)
class Pace:
    """How often what is done, in seconds."""

    heartbeat: float = 5.0
    bell: float = 1.0
    fence: float = 20.0
    follow: float = 0.5
    store: float = 2.0


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """Take a run over.

    Attributes:
        uid, attempt: of the Workflow object it is done for; empty and 0 without the operator.
    """

    workflow_id: str
    n: int
    uid: str = ""
    attempt: int = 0
    take_over: bool = False
    retry_failed: bool = False


class Manager:
    """Owns runs.

    Args:
        store: where they lie.
        me: this manager: id, incarnation, address.
        runner: executes steps.
        pace: how often what.
        points: for tests.
    """

    def __init__(
        self, store: Store, me: Owner, runner: Runner, pace: Pace = Pace(), points: Points = NO_POINTS
    ) -> None:
        self.me = me
        self._store = store
        self._pace = pace
        self._points = points
        self._pool = ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="store")
        self._services = Services(runner, self._in_thread, time.time, pace.store)
        self._inbox = Inbox(store, self._in_thread)
        self._live: dict[str, RunLoop] = {}
        self._ends: OrderedDict[str, asyncio.Future[Ended]] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        # Runs that may be this manager's and that it does not drive: taken up as soon as the store answers.
        self._loose: dict[str, OwnedRun] = {}
        # Runs it gave up after an error that is not the user's: nobody may claim them before its goodbye is stored.
        self._owes_goodbye: dict[str, RunLog] = {}
        self._waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving = False
        self._idle_since = time.monotonic()

    async def begin(self) -> None:
        """Say that this manager lives, take up what an earlier incarnation of it owned, and keep watch."""
        await self._beat()
        for owned in await self._in_thread(lambda: list(naming.owned_by(self._store, self.me.manager))):
            self._loose[owned.run_uuid] = owned
        await self._tidy()
        for period, act in (
            (self._pace.heartbeat, self._beat),
            (self._pace.bell, self._answer_bells),
            (self._pace.fence, self._look),
            (self._pace.fence, self._tidy),
        ):
            self._spawn(self._every(period, act))

    async def start(self, created: Created) -> Created | Tombstone:
        """Make a run and own it.

        Args:
            created: its record; its owner's manager is filled in here.

        Returns:
            What the name says then: this very run, or what was there first.

        Raises:
            Unavailable: this manager is leaving; make it anew.
        """
        self._refuse_when_leaving()
        self._idle_since = time.monotonic()
        mine = replace(created, owner=self._as_owner(created.owner.uid, created.owner.attempt))
        owned = OwnedRun(created.workflow_id, created.n, created.run_uuid)
        async with self._alone(created.run_uuid):
            self._loose[created.run_uuid] = owned
            await asyncio.gather(
                self._in_thread(lambda: naming.note_owned(self._store, self.me.manager, owned)),
                self._in_thread(lambda: naming.index(self._store, created.workflow_id, naming.LIVE, replaces=())),
            )
            there = await self._in_thread(lambda: naming.write_name(self._store, mine, self._points))
            if isinstance(there, Tombstone) or there.run_uuid != created.run_uuid:
                await self._forget(owned)
                return there
            if there == mine and created.run_uuid not in self._live and created.run_uuid not in self._ends:
                log = RunLog(self._store, there, self._points)
                self._drive(log, await self._in_thread(log.begin))
        if created.run_uuid not in self._live and created.run_uuid not in self._ends:
            await self._take_up(owned)  # made by an earlier incarnation, whose answer was lost
        return there

    async def claim(self, request: ClaimRequest) -> None:
        """Take a run over and go on with it. Nothing happens where it is owned here already.

        Raises:
            InUse, Superseded, WorkflowConflict: it may not be claimed.
            Unavailable: this manager is leaving; make it anew.
        """
        self._refuse_when_leaving()
        self._idle_since = time.monotonic()
        named = await self._in_thread(lambda: naming.read_name(self._store, request.workflow_id, request.n))
        if not isinstance(named, Created):
            raise Superseded(f"workflow {request.workflow_id!r} has no run {request.n} that could be claimed")
        owned = OwnedRun(request.workflow_id, request.n, named.run_uuid)
        async with self._alone(named.run_uuid):
            loop = self._live.get(named.run_uuid)
            if loop is not None:
                _check_same_object(loop.state, request)
                return
            await self._in_thread(lambda: naming.note_owned(self._store, self.me.manager, owned))
            self._loose[named.run_uuid] = owned
            try:
                await self._claim(named, request)
            except (Ownership, WorkflowConflict):
                await self._forget(owned)
                raise

    async def wait(self, run: RunAddress) -> Ended:
        """How a run ended, as soon as it has; by its log where another owns it.

        Raises:
            Superseded: the run was deleted. Unavailable: nobody owns it any more: claim it.
        """
        self._waiting += 1
        try:
            while True:
                end = self._ends.get(run.run_uuid)
                try:
                    ended = await (asyncio.shield(end) if end is not None else self._follow(run))
                except (Fenced, StoreUnavailable) as error:
                    logger.info("run %s: %s; following its log", run.run_uuid, error)
                    ended = await self._follow(run)
                if ended is not None:
                    return ended
        finally:
            self._waiting -= 1
            self._idle_since = time.monotonic()

    async def see_through(self, run: RunAddress) -> Ended:
        """Like `wait`, and goes on with the run by itself where its owner is lost meanwhile.

        Raises:
            Superseded: the run was deleted. Unavailable: this manager is leaving.
        """
        while True:
            try:
                return await self.wait(run)
            except StoreUnavailable as error:
                logger.warning("run %s: %s", run.run_uuid, error)
            except Unavailable:
                try:
                    await self.claim(ClaimRequest(run.workflow_id, run.n))
                    continue
                except (InUse, WorkflowConflict) as error:
                    logger.info("run %s: %s", run.run_uuid, error)
            await asyncio.sleep(self._pace.follow)

    async def ring(self, run_uuid: str) -> None:
        """Look into a run's inbox now, rather than at the next bell."""
        loop = self._live.get(run_uuid)
        if loop is not None:
            await self._inbox.look(loop)

    @property
    def live(self) -> int:
        """Runs owned now."""
        return len(self._live)

    async def idle(self, seconds: float) -> None:
        """Return once no run was owned or waited for for so long."""
        while True:
            left = self._idle_since + seconds - time.monotonic()
            if left <= 0 and not (self._live or self._waiting or self._loose or self._owes_goodbye):
                return
            await asyncio.sleep(max(left, 1.0))

    async def leave(self) -> None:
        """Refuse new runs, stop what still goes on and remove this manager's heartbeat.

        A run that is still owned here becomes RESUMABLE by the missing heartbeat, and its waiters get Unavailable.
        """
        self._leaving = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A heartbeat that was on its way would put the key back: it is removed behind the last call of the store.
        await asyncio.to_thread(self._pool.shutdown)
        await asyncio.to_thread(self._store.delete, keys.heartbeat(self.me.manager))

    def _refuse_when_leaving(self) -> None:
        if self._leaving:
            raise Unavailable(f"manager {self.me.address} is leaving; make it anew")

    def _as_owner(self, uid: str, attempt: int) -> Owner:
        return replace(self.me, uid=uid, attempt=attempt)

    def _alone(self, run_uuid: str) -> asyncio.Lock:
        """One call at a time makes, claims or takes up a run: two would fence each other."""
        return self._locks.setdefault(run_uuid, asyncio.Lock())

    async def _tidy(self) -> None:
        """Take up what is loose, and say the goodbyes that are owed. One damaged run keeps no other waiting."""
        for run_uuid, log in list(self._owes_goodbye.items()):
            try:
                await self._in_thread(lambda log=log: self._say_goodbye(log, "Bug"))  # type: ignore[misc]
                self._owes_goodbye.pop(run_uuid, None)
            except WorkflowError as error:
                logger.error("run %s: no goodbye could be said: %s", run_uuid, error)
        for owned in list(self._loose.values()):
            try:
                await self._take_up(owned)
            except WorkflowError as error:
                logger.error("run %s of workflow %r is not taken up yet: %s", owned.run_uuid, owned.workflow_id, error)

    async def _take_up(self, owned: OwnedRun) -> None:
        """Go on with a run whose last claim is this manager's, by an earlier incarnation or before an outage."""
        async with self._alone(owned.run_uuid):
            if owned.run_uuid not in self._live and not await self._claim_own(owned):
                await self._forget(owned)
            self._loose.pop(owned.run_uuid, None)

    async def _claim_own(self, owned: OwnedRun) -> bool:
        """Whether the run was this manager's and is driven now."""
        named = await self._in_thread(lambda: naming.read_name(self._store, owned.workflow_id, owned.n))
        if not isinstance(named, Created) or named.run_uuid != owned.run_uuid:
            return False
        state = await self._in_thread(RunLog(self._store, named).replay)
        if state.ended:
            await self._in_thread(
                lambda: naming.index(self._store, owned.workflow_id, state.status, replaces=(naming.LIVE,))
            )
            return False
        if state.owner.manager != self.me.manager or state.goodbye:
            return False
        try:
            await self._claim(named, ClaimRequest(owned.workflow_id, owned.n, state.owner.uid, state.owner.attempt))
        except (Ownership, WorkflowConflict) as error:
            logger.warning("run %s is not taken up again: %s", owned.run_uuid, error)
            return False
        return True

    async def _forget(self, owned: OwnedRun) -> None:
        self._loose.pop(owned.run_uuid, None)
        await self._in_thread(lambda: naming.forget_owned(self._store, self.me.manager, owned.run_uuid))

    async def _claim(self, named: Created, request: ClaimRequest) -> None:
        log = RunLog(self._store, named, self._points)
        claimant = Claimant(
            owner=self._as_owner(request.uid, request.attempt),
            at=time.time(),
            take_over=request.take_over,
            retry_failed=request.retry_failed,
            versions=versions(),
        )

        def take() -> RunState:
            naming.check_named(self._store, named)
            state = log.replay()
            claim(log, state, claimant)
            try:
                naming.check_named(self._store, named)
                live = WorkflowStatus.FAILED if state.ended else naming.LIVE
                naming.index(self._store, named.workflow_id, live, replaces=WorkflowStatus)
            except StoreUnavailable as error:  # the claim stands: the run must be driven, its hints are only hints
                logger.warning("run %s: claimed, but its hints are not written: %s", named.run_uuid, error)
            return state

        self._drive(log, await self._in_thread(take), claimed=True)

    def _drive(self, log: RunLog, state: RunState, *, claimed: bool = False) -> None:
        run_uuid = state.created.run_uuid
        address = RunAddress(self._store.url, state.created.workflow_id, state.created.n, run_uuid)
        end: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        end.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._ends[run_uuid] = end
        self._owes_goodbye.pop(run_uuid, None)
        if state.ended:  # given up in the segment of the claim: stays loose, so that its hints are put right
            end.set_result(end_of(state, address))
            return
        self._loose.pop(run_uuid, None)
        loop = RunLoop(log, state, address, self._services)
        self._live[run_uuid] = loop
        self._spawn(self._run(loop, end, claimed))

    async def _run(self, loop: RunLoop, end: asyncio.Future[Ended], claimed: bool) -> None:
        created = loop.state.created
        owned = OwnedRun(created.workflow_id, created.n, created.run_uuid)
        try:
            if claimed:
                await self._patiently(lambda: self._inbox.look(loop))
            ended = await loop.run()
            await self._patiently(lambda: self._close(loop, ended))
            end.set_result(ended)
        except Ownership as error:
            logger.warning("run %s of workflow %r stops here: %s", owned.run_uuid, owned.workflow_id, error)
            end.set_exception(error)
        except Exception as error:
            logger.exception("run %s of workflow %r", owned.run_uuid, owned.workflow_id)
            self._owes_goodbye[owned.run_uuid] = loop.log
            end.set_exception(
                error
                if isinstance(error, WorkflowError)
                else Bug(f"workflow {owned.workflow_id!r} is RESUMABLE after an error of the engine: {error!r}")
            )
            await self._tidy()
        finally:
            self._live.pop(owned.run_uuid, None)
            if not end.done():
                end.set_exception(Unavailable(f"manager {self.me.address} leaves workflow {owned.workflow_id!r}"))
            self._idle_since = time.monotonic()
            self._remember_fewer_ends()
        if owned.run_uuid not in self._owes_goodbye:
            await self._forget(owned)

    async def _close(self, loop: RunLoop, ended: Ended) -> None:
        """What is put right in the store once a run has ended."""
        created = loop.state.created
        await self._in_thread(lambda: naming.check_named(self._store, created))
        await self._in_thread(
            lambda: naming.index(self._store, created.workflow_id, ended.status, replaces=(naming.LIVE,))
        )
        await self._inbox.clear(loop)

    async def _patiently(self, act: Callable[[], Awaitable[None]]) -> None:
        """Do it, however long the store does not answer."""
        while True:
            try:
                await act()
                return
            except StoreUnavailable as error:
                logger.warning("manager %s: %s", self.me.address, error)
                await asyncio.sleep(self._pace.store)

    def _remember_fewer_ends(self) -> None:
        surplus = len(self._ends) - len(self._live) - ENDS_REMEMBERED
        for run_uuid in [each for each in self._ends if each not in self._live][: max(surplus, 0)]:
            del self._ends[run_uuid]

    def _say_goodbye(self, log: RunLog, reason: str) -> None:
        """Leave a run that is still this manager's, so that another may claim it. Blocks."""
        state = log.replay()
        if not state.ended and not state.goodbye and state.owner.incarnation == self.me.incarnation:
            try:
                log.append(state.seq + 1, [StatusChanged(WorkflowStatus.RESUMABLE, state.epoch, time.time(), reason)])
            except Fenced as error:
                logger.info("run %s needs no goodbye: %s", log.created.run_uuid, error)

    async def _follow(self, run: RunAddress) -> Ended | None:
        """How a run ended, by its log; None where this manager drives it by now."""
        named = await self._in_thread(lambda: naming.read_name(self._store, run.workflow_id, run.n))
        if not isinstance(named, Created) or named.run_uuid != run.run_uuid:
            raise Superseded(f"workflow {run.workflow_id!r}: run {run.run_uuid} is not what names/{run.n} names")
        log = RunLog(self._store, named)
        state = await self._in_thread(log.replay)
        while not state.ended:
            if run.run_uuid in self._live:
                return None
            if state.goodbye or await self._in_thread(lambda: is_silent(self._store, state.owner.manager)):
                raise Unavailable(f"workflow {run.workflow_id!r} is RESUMABLE: nobody owns it now; resume it")
            if state.owner.manager == self.me.manager and run.run_uuid not in self._owes_goodbye:
                self._loose[run.run_uuid] = OwnedRun(run.workflow_id, run.n, run.run_uuid)
                await self._tidy()
            await asyncio.sleep(self._pace.follow)
            await self._in_thread(lambda: naming.check_named(self._store, named))
            await self._in_thread(lambda: log.catch_up(state))
        return end_of(state, run)

    async def _beat(self) -> None:
        content = json.dumps({"incarnation": self.me.incarnation, "runs": len(self._live)}).encode()
        await self._in_thread(lambda: self._store.overwrite(keys.heartbeat(self.me.manager), content))

    async def _look(self) -> None:
        for loop in list(self._live.values()):
            loop.look()

    async def _answer_bells(self) -> None:
        if self._live:
            for run_uuid in await self._inbox.rung():
                await self.ring(run_uuid)

    async def _every(self, period: float, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(period)
            try:
                await act()
            except WorkflowError as error:
                logger.warning("manager %s: %s", self.me.address, error)
            except Exception:  # a heartbeat that stopped for good would give every run of this manager away
                logger.exception("manager %s", self.me.address)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)


def _check_same_object(state: RunState, request: ClaimRequest) -> None:
    """Whether a run that is driven here already is so for whoever asks."""
    owner = state.owner
    if request.uid and owner.uid != request.uid:
        raise InUse(
            f"workflow {request.workflow_id!r} is run by object {owner.uid or 'none'}, attempt {owner.attempt}, on the "
            f"very manager {owner.address}; wait for its end, or give this one another workflow id",
            owner=owner,
        )
    if request.uid and owner.attempt > request.attempt:
        raise Superseded(f"workflow {request.workflow_id!r} is owned by attempt {owner.attempt} of the same object")
