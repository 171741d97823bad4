"""The runs that a manager owns: it creates or claims them, drives them until they are finished, and releases them.

This part of the manager decides which runs are its own. `completion` reads the results of the live runs from it.
`maintenance` calls it at intervals to recover the runs that are not driven yet.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from weakref import WeakValueDictionary

from workflow.engine.messages import ClaimRequest, RunAddress
from workflow.engine.owner import takeover
from workflow.engine.owner.live_runs import LiveRun, LiveRuns
from workflow.engine.owner.manager_context import ManagerContext
from workflow.engine.owner.run_loop import RunLoop
from workflow.engine.retry import async_retry_while_unavailable
from workflow.errors import (
    InternalError,
    InvalidInputError,
    OwnershipError,
    StoreUnavailableError,
    SupersededError,
    UnavailableError,
    WorkflowConflictError,
    WorkflowError,
)
from workflow.log import index, owned, registry
from workflow.log.claim import Claimant, ClaimPurpose
from workflow.log.owned import OwnedRun
from workflow.log.run_log import RunLog
from workflow.log.values import versions
from workflow.model.records import Created, Tombstone
from workflow.model.state import RunState

logger = logging.getLogger(__name__)

_BUG, _WRONG_CLUSTER = "Bug", "WrongCluster"
"""Reasons for a release: an error of the engine, or a cluster that cannot execute the steps."""


class OwnedRuns:
    """All runs of one manager.

    A run that the manager may own is in one of three states. It is *live* while its loop runs. It is *pending recovery*
    if the manager does not drive it yet, for example because the store was unavailable. It is *pending release* if the
    manager stopped after an error of the engine, and the release is not stored yet.

    Attributes:
        live: the runs that are driven now. Other parts of the manager only read it.
        last_used: when a run was last created, claimed, waited for or finished, by the monotonic clock.
    """

    def __init__(self, context: ManagerContext) -> None:
        self.live = LiveRuns()
        self.last_used = context.clock.monotonic()
        self._pending_recovery: dict[str, OwnedRun] = {}
        self._pending_release: dict[str, RunLog] = {}
        self._release_reasons: dict[str, str] = {}
        self._context = context
        self._store = context.store
        self._in_thread = context.threads.run
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def has_work(self) -> bool:
        """Whether a run is live, pending recovery or pending release."""
        return bool(self.live or self._pending_recovery or self._pending_release)

    def is_pending_release(self, run_uuid: str) -> bool:
        """Return whether this manager stopped driving the run and has not stored the release yet."""
        return run_uuid in self._pending_release

    def add_pending(self, run: OwnedRun) -> None:
        """Mark a run that this manager may own as pending recovery."""
        self._pending_recovery[run.run_uuid] = run

    def record_use(self) -> None:
        """Record that a client uses the manager now."""
        self.last_used = self._context.clock.monotonic()

    # --- creating, claiming and recovering runs ---

    async def start(self, created: Created) -> Created | Tombstone:
        """Create a run and own it, as `Manager.start` describes."""
        self._context.refuse_when_leaving()
        self.record_use()
        owner = replace(self._context.identity, uid=created.owner.uid, attempt=created.owner.attempt)
        record = replace(created, owner=owner)
        run = OwnedRun(created.workflow_id, created.run_number, created.run_uuid)
        async with self._lock(run.run_uuid):
            self.add_pending(run)
            await self._write_entries_of_new_run(run)
            registration = await self._in_thread(
                lambda: registry.register(self._store, record, self._context.failpoints)
            )
            entry = registration.entry
            if isinstance(entry, Tombstone) or entry.run_uuid != run.run_uuid:
                await self._remove_owned_key(run)
                return entry
            if registration.created:
                log = RunLog(self._store, entry, self._context.failpoints)
                self._drive(log, await self._in_thread(log.begin))
        if run.run_uuid not in self.live:
            # An earlier call created the run, and its reply was lost. The run may have advanced since then.
            await self._recover(run)
        return entry

    async def _write_entries_of_new_run(self, run: OwnedRun) -> None:
        manager_id = self._context.identity.manager
        results = await asyncio.gather(
            self._in_thread(lambda: owned.add(self._store, manager_id, run)),
            self._in_thread(lambda: index.set_status(self._store, run.workflow_id, index.LIVE, replaces=())),
            return_exceptions=True,  # wait for both: neither may still write after this method has failed
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def claim(self, request: ClaimRequest) -> None:
        """Claim a run and drive it, as `Manager.claim` describes."""
        self._context.refuse_when_leaving()
        self.record_use()
        entry = await self._in_thread(lambda: registry.read_entry(self._store, request.workflow_id, request.run_number))
        if not isinstance(entry, Created):
            raise SupersededError(
                f"cannot claim workflow {request.workflow_id!r}: it has no run {request.run_number}, or that run was "
                "deleted; start the workflow again"
            )
        run = OwnedRun(request.workflow_id, request.run_number, entry.run_uuid)
        live = self.live.get(run.run_uuid)
        if request.retry_failed >= 0 and live is not None and live.loop.state.is_finished:
            await live.stopped.wait()  # the run has failed, and its index entries are being updated
        async with self._lock(run.run_uuid):
            live = self.live.get(run.run_uuid)
            if live is not None:
                takeover.check_same_object(live.loop.state, request)
                return
            was_pending = run.run_uuid in self._pending_recovery
            self.add_pending(run)  # before the write: a call that fails may still have written the key
            await self._in_thread(lambda: owned.add(self._store, self._context.identity.manager, run))
            try:
                await self._claim(entry, request)
            except OwnershipError:
                # A run that was pending before may still be this manager's, for another object.
                # A finished run (WorkflowConflictError) stays pending, since its index entries may be outdated.
                if not was_pending:
                    await self._remove_owned_key(run)
                raise

    async def recover_pending(self) -> None:
        """Store the pending releases, and drive the runs that are pending recovery if they are this manager's.

        If one run fails, the others are still recovered. The failed one stays pending.
        """
        for run_uuid in list(self._pending_release):
            try:
                await self._release(run_uuid)
            except WorkflowError as error:
                logger.error("run %s: the release is not stored yet: %s", run_uuid, error)
        for run in list(self._pending_recovery.values()):
            try:
                await self._recover(run)
            except WorkflowError as error:
                logger.error("run %s of workflow %r is not recovered yet: %s", run.run_uuid, run.workflow_id, error)

    async def _release(self, run_uuid: str) -> None:
        identity, clock = self._context.identity, self._context.clock
        async with self._lock(run_uuid):
            log = self._pending_release.get(run_uuid)
            if log is None:  # this manager has claimed the run again
                return
            reason = self._release_reasons.pop(run_uuid, _BUG)
            try:
                await self._in_thread(lambda: takeover.release(log, identity, clock.now(), reason))
            except SupersededError as error:
                logger.info("run %s needs no release: %s", run_uuid, error)
            self._pending_release.pop(run_uuid, None)

    def _lock(self, run_uuid: str) -> asyncio.Lock:
        """Return the lock of a run. Two concurrent creations, claims, recoveries or removals would fence each other."""
        return self._locks.setdefault(run_uuid, asyncio.Lock())

    async def _recover(self, run: OwnedRun) -> None:
        """Drive a run that this manager claimed last, in an earlier incarnation or before an outage."""
        self._context.refuse_when_leaving()
        async with self._lock(run.run_uuid):
            if run.run_uuid not in self.live and not await self._claim_if_own(run):
                await self._remove_owned_key(run)
            elif run.run_uuid in self.live:  # a claim that failed the run leaves it pending: see _drive
                self._pending_recovery.pop(run.run_uuid, None)

    async def _claim_if_own(self, run: OwnedRun) -> bool:
        """Claim the run if its log names this manager as the owner. Return whether it was claimed."""
        entry = await self._in_thread(lambda: registry.read_entry(self._store, run.workflow_id, run.run_number))
        if not isinstance(entry, Created) or entry.run_uuid != run.run_uuid:
            return False
        log = RunLog(self._store, entry)
        try:
            state = await self._in_thread(log.replay)
            is_own = state.owner.manager == self._context.identity.manager
            if not state.is_finished and is_own and not state.released:
                request = ClaimRequest(run.workflow_id, run.run_number, state.owner.uid, state.owner.attempt)
                try:
                    await self._claim(entry, request, ClaimPurpose.RECOVER)
                    return True
                except (OwnershipError, WorkflowConflictError) as error:
                    logger.warning("run %s is not recovered: %s", run.run_uuid, error)
                    state = await self._in_thread(log.replay)
            if state.is_finished:  # an earlier incarnation may have failed before it updated the index entries
                await self._in_thread(lambda: takeover.finish_run(log, state))
        except SupersededError as error:
            logger.info("run %s: %s", run.run_uuid, error)
        return False

    async def _remove_owned_key(self, run: OwnedRun) -> None:
        """Remove the `owned/` key of a run. If the store is unavailable, the run stays pending until it is removed."""
        await self._in_thread(lambda: owned.remove(self._store, self._context.identity.manager, run.run_uuid))
        self._pending_recovery.pop(run.run_uuid, None)

    async def _claim(self, entry: Created, request: ClaimRequest, purpose: ClaimPurpose = ClaimPurpose.DRIVE) -> None:
        log = RunLog(self._store, entry, self._context.failpoints)
        claimant = Claimant(
            owner=replace(self._context.identity, uid=request.uid, attempt=request.attempt),
            at=self._context.clock.now(),
            purpose=purpose,
            take_over=request.take_over,
            retry_failed=request.retry_failed,
            versions=versions(),
            functions=request.functions,
        )
        self._drive(log, await self._in_thread(lambda: takeover.claim_run(log, claimant)), claimed=True)

    # --- driving runs ---

    def _drive(self, log: RunLog, state: RunState, *, claimed: bool = False) -> None:
        """Start the loop of a run that this manager owns now."""
        run_uuid = state.created.run_uuid
        self._pending_release.pop(run_uuid, None)
        self.live.drop_result(run_uuid)
        if state.is_finished:  # the claim failed the run; it stays pending until its index entries are updated
            return
        address = RunAddress(self._store.url, state.created.workflow_id, state.created.run_number, run_uuid)
        self._pending_recovery.pop(run_uuid, None)
        live = self.live.add(run_uuid, RunLoop(log, state, address, self._context.services))
        self._context.spawn(self._run(live, claimed))

    async def _run(self, live: LiveRun, claimed: bool) -> None:
        """Drive a live run until it is finished or this manager may not drive it any more."""
        loop = live.loop
        created = loop.state.created
        run = OwnedRun(created.workflow_id, created.run_number, created.run_uuid)
        finished_state: RunState | None = None
        try:
            if claimed:
                await self._retry_while_unavailable(lambda: self._context.inbox.deliver(loop))
            result = await loop.run()
            finished_state = loop.state
            await self._retry_while_unavailable(
                lambda: self._in_thread(lambda: takeover.finish_run(loop.log, loop.state))
            )
            live.result.set_result(result)
        except OwnershipError as error:
            logger.warning(
                "run %s of workflow %r is not driven here any more: %s", run.run_uuid, run.workflow_id, error
            )
            live.result.set_exception(error)
        except Exception as error:
            if isinstance(error, InvalidInputError):  # this cluster cannot execute the steps
                logger.error("run %s of workflow %r: %s", run.run_uuid, run.workflow_id, error)
                self._release_reasons[run.run_uuid] = _WRONG_CLUSTER
            else:
                logger.exception("run %s of workflow %r", run.run_uuid, run.workflow_id)
            self._pending_release[run.run_uuid] = loop.log
            live.result.set_exception(_as_workflow_error(error, run))
            await self.recover_pending()
        finally:
            self._stop_driving(run)
        if not self.is_pending_release(run.run_uuid):
            try:
                await self._retry_while_unavailable(lambda: self._forget(run, loop.log, finished_state))
            except WorkflowError as error:  # garbage collection removes the key later
                logger.error(
                    "run %s of workflow %r: its owned/ key is not removed: %s", run.run_uuid, run.workflow_id, error
                )

    def _stop_driving(self, run: OwnedRun) -> None:
        address = self._context.identity.address
        leaving = f"cannot wait for workflow {run.workflow_id!r}: manager {address} is leaving; wait at another manager"
        self.live.remove(run.run_uuid, UnavailableError(leaving))
        self.record_use()

    async def _forget(self, run: OwnedRun, log: RunLog, finished_state: RunState | None) -> None:
        """Remove the `owned/` key of a run that is finished or has another owner.

        The key stays if the run is live again, or if a later incarnation of this manager owns it.

        Args:
            run: the run to forget.
            log: the log of that run.
            finished_state: its state if it was finished here. Only the later part of the log is read then.
        """
        async with self._lock(run.run_uuid):
            if run.run_uuid in self.live:
                return
            try:
                state = await self._in_thread(lambda: log.now(finished_state))
                # Checked after the log: if the run is being deleted, the log that was read is incomplete.
                await self._in_thread(lambda: registry.check_current(self._store, log.created))
            except SupersededError as error:
                logger.info("run %s: %s", run.run_uuid, error)
            else:
                identity = self._context.identity
                if not state.is_finished and state.owner.manager == identity.manager:
                    if state.owner.incarnation != identity.incarnation:
                        self._context.report_replacement()
                    return
            await self._remove_owned_key(run)

    async def _retry_while_unavailable(self, call: Callable[[], Awaitable[None]]) -> None:
        def report(error: StoreUnavailableError) -> None:
            logger.warning("manager %s: %s", self._context.identity.address, error)

        await async_retry_while_unavailable(call, self._context.services.retry_pause, report)


def _as_workflow_error(error: Exception, run: OwnedRun) -> WorkflowError:
    if isinstance(error, WorkflowError):
        return error
    return InternalError(
        f"workflow {run.workflow_id!r} stopped: the engine raised {error!r}; the run is RESUMABLE, call "
        f"workflow.resume({run.workflow_id!r})"
    )
