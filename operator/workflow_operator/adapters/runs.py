"""Runs in storage: the port `core.ports.Runs`, implemented with the library's `reading` and `requests`, without Ray.

The library blocks, so its calls run in a bounded pool of threads. Each store may use only a few of them, so that one
unresponsive store cannot block all threads. The operator follows each run, so reading a run without news costs one
small GET.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from cachetools import LRUCache

from workflow import reading, requests
from workflow.errors import (
    CorruptLogError,
    OwnershipError,
    StoreUnavailableError,
    WorkflowConflictError,
    WorkflowError,
)
from workflow.model.status import WorkflowStatus
from workflow.store import Store, open_store
from workflow_operator.adapters.bounded import BoundedCalls
from workflow_operator.adapters.followed_runs import FollowedRun, refresh
from workflow_operator.adapters.store_failures import loss_of, operator_errors, store_failure
from workflow_operator.core.actions import (
    DeleteCheckpoints,
    EndRun,
    ReleaseRun,
    RequestCancel,
    RunRef,
    StageArgs,
    StageCode,
    StoreRef,
)
from workflow_operator.core.observation import Loss, RunRead, RunReadFailure, StoreFailure
from workflow_operator.errors import RefusedError, UnreachableError

T = TypeVar("T")
THREADS = 16
THREADS_PER_STORE = 4
MAX_FOLLOWED_RUNS = 2000
"""Runs of a store that are kept in memory. A run that was dropped is read from the start of its log."""

READ_SECONDS = 5.0
"""Timeout of reading a run. It is short, so that a store that does not respond cannot delay other observations."""

ACT_SECONDS = 10.0
"""Time for which a round waits until a change of a run is stored. A change that takes longer continues."""

CANCEL_REPEAT_SECONDS = 10.0
"""Interval at which a cancel request is repeated. Each repetition adds a request to the inbox of the run."""

NOT_OUR_RUN = (OwnershipError, WorkflowConflictError)
"""Errors if another owner has the run, or no run exists. The operator then changes nothing, and reads the log again."""

Credentials = Callable[[str, str], Awaitable[tuple[str, str]]]
"""(namespace, name of the Secret) -> access key and secret key."""

Code = Callable[[str, str], Awaitable[tuple[bytes, str]]]
"""(namespace, name of the ConfigMap) -> package and sha256."""


@dataclass
class _OpenStore:
    """An open store, the number of threads that may use it at a time, and the runs in it that are followed."""

    store: Store
    credentials: tuple[str, str] = field(repr=False)
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(THREADS_PER_STORE))
    followed: LRUCache[str, FollowedRun] = field(default_factory=lambda: LRUCache(MAX_FOLLOWED_RUNS))


class StoredRuns:
    """Implements the port with the library's stores.

    Args:
        credentials: reads a storage Secret.
        code: makes the package of a ConfigMap.
    """

    def __init__(self, credentials: Credentials, code: Code) -> None:
        self._credentials = credentials
        self._code = code
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="store")
        self._stores: dict[tuple[str, StoreRef], _OpenStore] = {}
        self._calls = BoundedCalls(ACT_SECONDS)

    def close(self) -> None:
        """Close threads and connections, and cancel the calls that still wait."""
        self._calls.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for opened in self._stores.values():
            for followed in opened.followed.values():
                if followed.refresh is not None:
                    followed.refresh.cancel()
            opened.store.close()

    async def read(
        self, namespace: str, store: StoreRef, workflow_id: str, staged: RunRef | None, code: str
    ) -> RunRead | RunReadFailure:
        """Return the newest run under this id and whether its code is staged, or why the run could not be read."""
        try:
            opened = await self._open(namespace, store)
            followed = await self._refreshed(opened, workflow_id)
            view, code_staged = followed.view, False
            if staged and code and not (view and view.code):
                code_staged = await self._is_staged(opened, staged, code)
            return RunRead(view, followed.liveness, code_staged, followed.waiting)
        except WorkflowError as error:
            return RunReadFailure(store_failure(error), str(error), loss_of(error))
        except RefusedError as refusal:
            return RunReadFailure(StoreFailure.REFUSED, str(refusal))

    async def loss(self, namespace: str, run: RunRef) -> RunReadFailure | None:
        """Return what the store no longer contains of a run, or None if its registry entry exists."""
        try:
            remains = await self._act(
                namespace,
                run,
                "remains",
                lambda store: reading.remains_of(store, run.workflow_id, run.run_number, run.run_uuid),
            )
        except UnreachableError as error:
            return RunReadFailure(StoreFailure.UNAVAILABLE, str(error))
        except RefusedError as refusal:
            return RunReadFailure(StoreFailure.REFUSED, str(refusal))
        if remains.has_entry:
            return None
        if remains.has_log:
            text = f"{remains.entry} is missing, but {remains.log} exists"
            return RunReadFailure(StoreFailure.LOST, text, Loss.OBJECT)
        text = f"{run.store.url} replied, and contains neither {remains.entry} nor {remains.log}"
        return RunReadFailure(StoreFailure.LOST, text, Loss.RUN)

    async def code(self, namespace: str, run: RunRef, sha256: str) -> bytes:
        """Return the copy of the user's code that is stored with the run.

        Raises:
            RefusedError: the copy does not exist or is damaged.
        """
        return await self._act(
            namespace,
            run,
            f"read code {sha256}",
            lambda store: requests.read_code(store, run.workflow_id, run.run_number, run.run_uuid, sha256),
        )

    async def stage_code(self, namespace: str, action: StageCode) -> None:
        """Store a copy of the code with the run. If it is already stored, do not read the ConfigMap.

        Raises:
            RefusedError: the ConfigMap has other content than the decision was based on.
        """
        run = action.run
        with operator_errors():
            if await self._is_staged(await self._open(namespace, run.store), run, action.sha256):
                return
        data, digest = await self._code(namespace, action.config_map)
        if digest != action.sha256:
            raise RefusedError(
                f"the ConfigMap {action.config_map} changed while its code was stored; the operator reads it again"
            )
        await self._act(
            namespace,
            run,
            f"stage code {digest}",
            lambda store: requests.stage_code(store, run.workflow_id, run.run_number, run.run_uuid, data),
        )

    async def stage_args(self, namespace: str, action: StageArgs) -> None:
        """Store a copy of the arguments with the run."""
        run, data = action.run, action.data
        await self._act(
            namespace,
            run,
            f"stage arguments {hashlib.sha256(data).hexdigest()}",
            lambda store: requests.stage_args(store, run.workflow_id, run.run_number, run.run_uuid, data),
        )

    async def request_cancel(self, namespace: str, action: RequestCancel) -> None:
        """Request that the run's manager cancels it, at most every 10 seconds. If the run is finished, do nothing."""
        run, now = action.run, asyncio.get_running_loop().time()
        with operator_errors():
            followed = self._follow(await self._open(namespace, run.store), run.workflow_id)
        if now - followed.cancel_requested < CANCEL_REPEAT_SECONDS:
            return

        def request(store: Store) -> None:
            view = reading.read_run(store, run.workflow_id, run.run_number)
            if view is not None and not view.status.is_terminal:
                requests.request_cancel(store, view, uid=run.uid, reason=action.reason)
                followed.cancel_requested = now

        await self._act(namespace, run, "request cancel", request)

    async def end(self, namespace: str, action: EndRun) -> None:
        """Write a terminal status to the log of the run. If another owner has the run, do nothing."""
        run = action.run

        def end(store: Store) -> None:
            if action.only_absent:
                requests.refuse_run(
                    store,
                    run.workflow_id,
                    run_number=run.run_number,
                    reason=action.reason,
                    message=action.message,
                    requester=_requester(namespace, run),
                )
                return
            with suppress(*NOT_OUR_RUN):
                requests.end_run(
                    store,
                    run.workflow_id,
                    run_number=run.run_number,
                    status=WorkflowStatus(action.status),
                    reason=action.reason,
                    message=action.message,
                    requester=_requester(namespace, run),
                )

        await self._act(namespace, run, f"end {action.status} {action.reason}", end)

    async def release(self, namespace: str, action: ReleaseRun) -> None:
        """Release the run, so that a later object can resume it. If another owner has it or none exists, do nothing."""
        run = action.run

        def release(store: Store) -> None:
            with suppress(*NOT_OUR_RUN):
                requester = _requester(namespace, run)
                requests.release_run(
                    store, run.workflow_id, run_number=run.run_number, requester=requester, reason=action.reason
                )

        await self._act(namespace, run, "release", release)

    async def delete(self, namespace: str, action: DeleteCheckpoints) -> None:
        """Delete the run and everything it stored. If another owner has the run, do nothing."""
        run = action.run

        def delete(store: Store) -> None:
            with suppress(*NOT_OUR_RUN):
                requester = _requester(namespace, run)
                requests.delete_run(store, run.workflow_id, run_number=run.run_number, requester=requester)

        await self._act(namespace, run, "delete", delete)

    async def store_driver_log(self, namespace: str, run: RunRef, submission_id: str, log: bytes) -> str:
        """Store the end of a driver's log with its run, unless it is stored already; return its address.

        Raises:
            UnreachableError, RefusedError: the store failed.
        """
        root = run.store.url.partition("?")[0].rstrip("/")

        def store_log(store: Store) -> str:
            key = requests.store_driver_log(store, run.workflow_id, run.run_number, run.run_uuid, submission_id, log)
            return f"{root}/{key}"

        return await self._act(namespace, run, f"store driver log {submission_id}", store_log)

    async def _act(self, namespace: str, run: RunRef, what: str, work: Callable[[Store], T]) -> T:
        """Do something with a run in a thread, and wait for it for at most 10 seconds.

        Args:
            namespace: the namespace of the Workflow.
            run: the run to act on.
            what: names the work; the same work on the same run is done once at a time.
            work: what to do.
        """

        async def act() -> T:
            with operator_errors():
                opened = await self._open_for_change(namespace, run.store)
                return await self._in_thread(opened, lambda: work(opened.store))

        return await self._calls.call((namespace, run, what), act)

    async def _open_for_change(self, namespace: str, ref: StoreRef) -> _OpenStore:
        """Return the open store. If its Secret is gone, return the store that was opened with it.

        The Secret of a namespace that is being deleted may disappear before its Workflows.
        """
        try:
            return await self._open(namespace, ref)
        except RefusedError:
            known = self._stores.get((namespace, ref))
            if known is None:
                raise
            return known

    async def _open(self, namespace: str, ref: StoreRef) -> _OpenStore:
        """Return the open store, and open it again if its credentials have changed."""
        credentials = await self._credentials(namespace, ref.secret) if ref.secret else ("", "")
        known = self._stores.get((namespace, ref))
        if known is not None and known.credentials == credentials:
            return known
        access, secret = credentials
        store = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: open_store(ref.url, access_key=access or None, secret_key=secret or None)
        )
        opened = self._stores[namespace, ref] = _OpenStore(store, credentials)
        return opened

    def _follow(self, opened: _OpenStore, workflow_id: str) -> FollowedRun:
        followed = opened.followed.get(workflow_id)
        if followed is None:
            followed = opened.followed[workflow_id] = FollowedRun(reading.Follower(opened.store, workflow_id))
        return followed

    async def _refreshed(self, opened: _OpenStore, workflow_id: str) -> FollowedRun:
        """Wait for the refresh of a run, and start one unless one is running.

        Raises:
            StoreUnavailableError: the refresh did not finish within 5 seconds; it continues.
        """
        followed = self._follow(opened, workflow_id)
        if followed.refresh is None or followed.refresh.done():
            now = asyncio.get_running_loop().time()
            reading_it = self._in_thread(opened, lambda: refresh(followed, opened.store, workflow_id, now))
            followed.refresh = asyncio.create_task(reading_it)
            followed.refresh.add_done_callback(_retrieve_exception)
        done, _ = await asyncio.wait({followed.refresh}, timeout=READ_SECONDS)
        if not done:
            raise StoreUnavailableError(f"{opened.store.url} has not answered for {READ_SECONDS:.0f} s")
        followed.refresh.result()
        return followed

    async def _is_staged(self, opened: _OpenStore, run: RunRef, sha256: str) -> bool:
        def is_staged() -> bool:
            try:
                requests.read_code(opened.store, run.workflow_id, run.run_number, run.run_uuid, sha256)
            except CorruptLogError:
                return False
            return True

        return await self._in_thread(opened, is_staged)

    async def _in_thread(self, opened: _OpenStore, work: Callable[[], T]) -> T:
        async with opened.slots:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _retrieve_exception(refresh: asyncio.Task[None]) -> None:
    """Mark the task's exception as retrieved, or asyncio logs it. If no reader waits, the next refresh raises again."""
    if not refresh.cancelled():
        refresh.exception()


def _requester(namespace: str, run: RunRef) -> requests.Requester:
    return requests.Requester(uid=run.uid, attempt=run.attempt, name=f"{namespace}/{run.name}")
