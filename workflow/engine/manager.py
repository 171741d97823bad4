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

from workflow.engine.messages import Ended, RunAddress
from workflow.engine.run_loop import RunLoop, Runner, Services, end_of
from workflow.errors import Bug, Fenced, InUse, Superseded, Unavailable, WorkflowConflict, WorkflowError
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
from workflow.requests import withdraw
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
        self._services = Services(runner, self._in_thread, time.time)
        self._live: dict[str, RunLoop] = {}
        self._ends: OrderedDict[str, asyncio.Future[Ended]] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._requests_seen: set[str] = set()
        self._leaving = False
        self._idle_since = time.monotonic()

    async def begin(self) -> None:
        """Say that this manager lives, take up what an earlier incarnation of it owned, and keep watch."""
        await self._beat()
        for owned in await self._in_thread(lambda: list(naming.owned_by(self._store, self.me.manager))):
            await self._recover(owned)
        for period, act in (
            (self._pace.heartbeat, self._beat),
            (self._pace.bell, self._answer_bells),
            (self._pace.fence, self._look),
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
        mine = replace(created, owner=self._as_owner(created.owner.uid, created.owner.attempt))
        owned = OwnedRun(created.workflow_id, created.n, created.run_uuid)
        await asyncio.gather(
            self._in_thread(lambda: naming.note_owned(self._store, self.me.manager, owned)),
            self._in_thread(lambda: naming.index(self._store, created.workflow_id, naming.LIVE, replaces=())),
        )
        there = await self._in_thread(lambda: naming.write_name(self._store, mine, self._points))
        if isinstance(there, Tombstone) or there.run_uuid != created.run_uuid:
            await self._in_thread(lambda: naming.forget_owned(self._store, self.me.manager, created.run_uuid))
        elif created.run_uuid not in self._live and created.run_uuid not in self._ends:
            log = RunLog(self._store, there, self._points)
            if there == mine:
                self._drive(log, await self._in_thread(log.begin))
            else:  # made by an earlier incarnation, whose answer was lost
                await self._recover(owned)
        return there

    async def claim(self, request: ClaimRequest) -> None:
        """Take a run over and go on with it. Nothing happens where it is owned here already.

        Raises:
            InUse, Superseded, WorkflowConflict: it may not be claimed.
            Unavailable: this manager is leaving; make it anew.
        """
        self._refuse_when_leaving()
        named = await self._in_thread(lambda: naming.read_name(self._store, request.workflow_id, request.n))
        if not isinstance(named, Created):
            raise Superseded(f"workflow {request.workflow_id!r} has no run {request.n} that could be claimed")
        if named.run_uuid in self._live:
            return
        owned = OwnedRun(request.workflow_id, request.n, named.run_uuid)
        await self._in_thread(lambda: naming.note_owned(self._store, self.me.manager, owned))
        try:
            await self._claim(named, request)
        except WorkflowError:
            await self._in_thread(lambda: naming.forget_owned(self._store, self.me.manager, named.run_uuid))
            raise

    async def wait(self, run: RunAddress) -> Ended:
        """How a run ended, as soon as it has; by its log where another owns it.

        Raises:
            InUse: never; Superseded: the run was deleted. Unavailable: nobody owns it any more: claim it.
        """
        end = self._ends.get(run.run_uuid)
        if end is not None:
            try:
                return await asyncio.shield(end)
            except Fenced:
                logger.info("run %s is owned elsewhere; following its log", run.run_uuid)
        return await self._follow(run)

    async def ring(self, run_uuid: str) -> None:
        """Look into a run's inbox now, rather than at the next bell."""
        loop = self._live.get(run_uuid)
        if loop is not None:
            await self._look_into(loop)

    @property
    def live(self) -> int:
        """Runs owned now."""
        return len(self._live)

    async def idle(self, seconds: float) -> None:
        """Return once no run was owned for so long."""
        while (left := self._idle_since + seconds - time.monotonic()) > 0 or self._live:  # noqa: ASYNC110 - it waits for time
            await asyncio.sleep(max(left, 1.0))

    async def leave(self) -> None:
        """Refuse new runs and remove this manager's keys; called when it owns none."""
        self._leaving = True
        await self._in_thread(lambda: self._store.delete(keys.heartbeat(self.me.manager)))
        for task in list(self._tasks):
            task.cancel()

    def _refuse_when_leaving(self) -> None:
        if self._leaving:
            raise Unavailable(f"manager {self.me.address} is leaving; make it anew")

    def _as_owner(self, uid: str, attempt: int) -> Owner:
        return replace(self.me, uid=uid, attempt=attempt)

    async def _recover(self, owned: OwnedRun) -> None:
        """Go on with a run of an earlier incarnation of this manager, if the last claim is that one's."""
        named = await self._in_thread(lambda: naming.read_name(self._store, owned.workflow_id, owned.n))
        if isinstance(named, Created) and named.run_uuid == owned.run_uuid:
            state = await self._in_thread(RunLog(self._store, named).replay)
            if not state.ended and state.owner.manager == self.me.manager:
                request = ClaimRequest(owned.workflow_id, owned.n, state.owner.uid, state.owner.attempt)
                try:
                    await self._claim(named, request)
                    return
                except (Superseded, InUse, WorkflowConflict) as error:
                    logger.warning("run %s is not taken up again: %s", owned.run_uuid, error)
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
            naming.check_named(self._store, named)
            live = WorkflowStatus.FAILED if state.ended else naming.LIVE
            naming.index(self._store, named.workflow_id, live, replaces=WorkflowStatus)
            return state

        self._drive(log, await self._in_thread(take))

    def _drive(self, log: RunLog, state: RunState) -> None:
        run_uuid = state.created.run_uuid
        address = RunAddress(self._store.url, state.created.workflow_id, state.created.n, run_uuid)
        end: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        end.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._ends[run_uuid] = end
        if state.ended:
            end.set_result(end_of(state, address))
            return
        loop = RunLoop(log, state, address, self._services)
        self._live[run_uuid] = loop
        self._spawn(self._run(loop, end))

    async def _run(self, loop: RunLoop, end: asyncio.Future[Ended]) -> None:
        created = loop.state.created
        try:
            await self._look_into(loop)
            ended = await loop.run()
            await self._in_thread(lambda: naming.check_named(self._store, created))
            await self._in_thread(
                lambda: naming.index(self._store, created.workflow_id, ended.status, replaces=(naming.LIVE,))
            )
            await self._clear_inbox(loop)
            end.set_result(ended)
        except WorkflowError as error:
            level = logging.WARNING if isinstance(error, (Fenced, Superseded)) else logging.ERROR
            logger.log(level, "run %s of workflow %r stops here: %s", created.run_uuid, created.workflow_id, error)
            end.set_exception(error)
        except Exception as error:
            logger.exception("run %s of workflow %r", created.run_uuid, created.workflow_id)
            end.set_exception(
                Bug(f"workflow {created.workflow_id!r} is RESUMABLE after an error of the engine: {error!r}")
            )
            await self._in_thread(lambda: self._say_goodbye(loop.log, "Bug"))
        finally:
            self._live.pop(created.run_uuid, None)
            self._idle_since = time.monotonic()
            while len(self._ends) > ENDS_REMEMBERED + len(self._live):
                self._ends.popitem(last=False)
        await self._in_thread(lambda: naming.forget_owned(self._store, self.me.manager, created.run_uuid))

    def _say_goodbye(self, log: RunLog, reason: str) -> None:
        """Leave a run that is still this manager's, so that another may claim it. Blocks."""
        state = log.replay()
        if not state.ended and state.owner.incarnation == self.me.incarnation:
            log.append(state.seq + 1, [StatusChanged(WorkflowStatus.RESUMABLE, state.epoch, time.time(), reason)])

    async def _follow(self, run: RunAddress) -> Ended:
        named = await self._in_thread(lambda: naming.read_name(self._store, run.workflow_id, run.n))
        if not isinstance(named, Created) or named.run_uuid != run.run_uuid:
            raise Superseded(f"workflow {run.workflow_id!r}: run {run.run_uuid} is not what names/{run.n} names")
        log = RunLog(self._store, named)
        state = await self._in_thread(log.replay)
        while not state.ended:
            if run.run_uuid in self._live:
                return await asyncio.shield(self._ends[run.run_uuid])
            if state.goodbye or await self._in_thread(lambda: is_silent(self._store, state.owner.manager)):
                raise Unavailable(f"workflow {run.workflow_id!r} is RESUMABLE: nobody owns it now; resume it")
            await asyncio.sleep(self._pace.follow)
            await self._in_thread(lambda: log.catch_up(state))
        return end_of(state, run)

    async def _beat(self) -> None:
        content = json.dumps({"incarnation": self.me.incarnation, "runs": len(self._live)}).encode()
        await self._in_thread(lambda: self._store.overwrite(keys.heartbeat(self.me.manager), content))

    async def _look(self) -> None:
        for loop in list(self._live.values()):
            loop.look()

    async def _answer_bells(self) -> None:
        if not self._live:
            return
        rung = await self._in_thread(lambda: [info.key for info in self._store.list(keys.DOORBELL)])
        for run_uuid in {keys.last_part(key).partition(".")[0] for key in rung}:
            await self.ring(run_uuid)

    async def _look_into(self, loop: RunLoop) -> None:
        for request in await self._in_thread(loop.log.inbox):
            if request in self._requests_seen or request in loop.state.taken:
                continue
            key = loop.log.paths.request(request)
            data = await self._in_thread(lambda key=key: self._store.get(key))  # type: ignore[misc]
            if data is None:
                continue
            self._requests_seen.add(request)
            content = json.loads(data)
            if content.get("kind") == "cancel":
                loop.cancel(request, str(content.get("reason", "")))
            else:
                logger.warning("%s: a request of an unknown kind; left alone", key)

    async def _clear_inbox(self, loop: RunLoop) -> None:
        for request in await self._in_thread(loop.log.inbox):
            self._requests_seen.discard(request)
            await self._in_thread(lambda request=request: withdraw(self._store, loop.log.paths, request))  # type: ignore[misc]

    async def _every(self, period: float, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(period)
            try:
                await act()
            except WorkflowError as error:
                logger.warning("manager %s: %s", self.me.address, error)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)
