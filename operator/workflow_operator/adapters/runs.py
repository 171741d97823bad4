"""Runs in storage, without Ray: the port `core.ports.Runs`, on the library's `reading` and `requests`.

The library blocks, so its calls run in a bounded pool of threads, a few at a time for each store, so that one store
that hangs does not take the threads of all. A run is followed: a look at one without news is one small GET.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from workflow import reading, requests
from workflow.errors import (
    CorruptLogError,
    NewerFormatError,
    OwnershipError,
    StoreRefusedError,
    StoreUnavailableError,
    WorkflowConflictError,
    WorkflowError,
)
from workflow.model.run_view import RunView
from workflow.model.status import WorkflowStatus
from workflow.store import Store, open_store
from workflow_operator.core.actions import (
    DeleteCheckpoints,
    EndRun,
    ReleaseRun,
    RequestCancel,
    RunRef,
    StageCode,
    StoreRef,
)
from workflow_operator.core.observation import RunRead, RunReadFailure, StoreFailure
from workflow_operator.errors import RefusedError, UnreachableError

T = TypeVar("T")
THREADS = 16
THREADS_A_STORE = 4
FOLLOWED = 2000
"""Runs kept in memory between two looks; one that was dropped is read anew."""

READ_SECONDS = 5.0
"""A look that takes longer counts as one that failed: a store that hangs must not keep a dead cluster from sight."""

LIVENESS_SECONDS = 5.0
"""How long a live owner's heartbeat counts as seen, and a workflow id as not used anew."""

ASK_AGAIN_SECONDS = 10.0
"""A manager that was asked to cancel is asked again after this time: each time is one more request in its inbox."""

TROUBLES: tuple[tuple[type[WorkflowError], StoreFailure], ...] = (
    (StoreUnavailableError, StoreFailure.UNAVAILABLE),
    (CorruptLogError, StoreFailure.CORRUPT),
    (NewerFormatError, StoreFailure.NEWER),
    (StoreRefusedError, StoreFailure.REFUSED),
)

YIELD = (OwnershipError, WorkflowConflictError)
"""Somebody else owns the run, or there is none: the log says so, and this side does nothing."""

Credentials = Callable[[str, str], Awaitable[tuple[str, str]]]
"""(namespace, Secret) -> access key, secret key."""

Code = Callable[[str, str], Awaitable[tuple[bytes, str]]]
"""(namespace, ConfigMap) -> package, digest."""


@dataclass
class _Followed:
    """A run under observation; one look at a time, which goes on when nobody waits for it any more."""

    follower: reading.Follower
    looking: asyncio.Task[None] | None = None
    asked: float = float("-inf")
    view: RunView | None = None
    liveness: WorkflowStatus | None = None
    checked: float = float("-inf")


@dataclass
class _Open:
    """A store that is open, how many threads may wait for it, and the runs that are followed in it."""

    store: Store
    credentials: tuple[str, str] = field(repr=False)
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(THREADS_A_STORE))
    followed: OrderedDict[str, _Followed] = field(default_factory=OrderedDict)


class StoredRuns:
    """The port on real stores.

    Args:
        credentials: reads a storage Secret.
        code: makes the package of a ConfigMap.
    """

    def __init__(self, credentials: Credentials, code: Code) -> None:
        self._credentials = credentials
        self._code = code
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="store")
        self._stores: dict[tuple[str, StoreRef], _Open] = {}

    def close(self) -> None:
        """Give back threads and connections; calls that wait are given up."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for opened in self._stores.values():
            for followed in opened.followed.values():
                if followed.looking is not None:
                    followed.looking.cancel()
            opened.store.close()

    async def read(
        self, namespace: str, store: StoreRef, workflow_id: str, staged: RunRef | None, code: str
    ) -> RunRead | RunReadFailure:
        """The highest run under this id, and whether the copy of the code lies there; or why it could not be read."""
        try:
            opened = await self._open(namespace, store)
            followed = await self._look(opened, workflow_id)
            view, lies = followed.view, False
            if staged and code and not (view and view.code):
                lies = await self._is_staged(opened, staged, code)
            return RunRead(view, followed.liveness, lies)
        except WorkflowError as error:
            return RunReadFailure(_trouble(error), str(error))
        except RefusedError as refusal:
            return RunReadFailure(StoreFailure.REFUSED, str(refusal))

    async def code(self, namespace: str, run: RunRef, sha256: str) -> bytes:
        """The copy of the user's code that is kept with the run.

        Raises:
            Refused: it is not there, or damaged.
        """
        return await self._act(
            namespace,
            run,
            lambda store: requests.read_code(store, run.workflow_id, run.run_number, run.run_uuid, sha256),
        )

    async def stage_code(self, namespace: str, action: StageCode) -> None:
        """Keep a copy of the code; one that lies there already is a success, without a look at the ConfigMap.

        Raises:
            Refused: the ConfigMap now gives another digest than was decided on.
        """
        run = action.run
        with _translating():
            if await self._is_staged(await self._open(namespace, run.store), run, action.sha256):
                return
        data, digest = await self._code(namespace, action.config_map)
        if digest != action.sha256:
            raise RefusedError(f"the ConfigMap {action.config_map} changed while its code was stored; it is taken anew")
        await self._act(
            namespace,
            run,
            lambda store: requests.stage_code(store, run.workflow_id, run.run_number, run.run_uuid, data),
        )

    async def request_cancel(self, namespace: str, action: RequestCancel) -> None:
        """Ask the live manager to cancel, not more often than now and then; nothing to ask of a run that has ended."""
        run, now = action.run, asyncio.get_running_loop().time()
        with _translating():
            followed = self._follow(await self._open(namespace, run.store), run.workflow_id)
        if now - followed.asked < ASK_AGAIN_SECONDS:
            return

        def ask(store: Store) -> None:
            view = reading.read_run(store, run.workflow_id, run.run_number)
            if view is not None and not view.status.is_terminal:
                requests.request_cancel(store, view, uid=run.uid, reason=action.reason)
                followed.asked = now

        await self._act(namespace, run, ask)

    async def end(self, namespace: str, action: EndRun) -> None:
        """End the run; where somebody else owns it, the log says so and nothing is done."""
        run = action.run

        def end(store: Store) -> None:
            with suppress(*YIELD):
                requests.end_run(
                    store,
                    run.workflow_id,
                    run_number=run.run_number,
                    status=WorkflowStatus(action.status),
                    reason=action.reason,
                    message=action.message,
                    requester=_actor(namespace, run),
                )

        await self._act(namespace, run, end)

    async def release(self, namespace: str, action: ReleaseRun) -> None:
        """Leave the run for a later object; where somebody else owns it, or there is none, nothing is done."""
        run = action.run

        def leave(store: Store) -> None:
            with suppress(*YIELD):
                requester = _actor(namespace, run)
                requests.release_run(
                    store, run.workflow_id, run_number=run.run_number, requester=requester, reason=action.reason
                )

        await self._act(namespace, run, leave)

    async def delete(self, namespace: str, action: DeleteCheckpoints) -> None:
        """Delete the run and what it stored; where somebody else owns it, nothing is done."""
        run = action.run

        def remove(store: Store) -> None:
            with suppress(*YIELD):
                requests.delete_run(store, run.workflow_id, run_number=run.run_number, requester=_actor(namespace, run))

        await self._act(namespace, run, remove)

    async def _act(self, namespace: str, run: RunRef, work: Callable[[Store], T]) -> T:
        with _translating():
            opened = await self._open(namespace, run.store)
            return await self._in_thread(opened, lambda: work(opened.store))

    async def _open(self, namespace: str, ref: StoreRef) -> _Open:
        given = await self._credentials(namespace, ref.secret) if ref.secret else ("", "")
        known = self._stores.get((namespace, ref))
        if known is not None and known.credentials == given:
            return known
        access, secret = given
        store = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: open_store(ref.url, access_key=access or None, secret_key=secret or None)
        )
        opened = self._stores[namespace, ref] = _Open(store, given)
        return opened

    def _follow(self, opened: _Open, workflow_id: str) -> _Followed:
        if workflow_id not in opened.followed:
            opened.followed[workflow_id] = _Followed(reading.Follower(opened.store, workflow_id))
        opened.followed.move_to_end(workflow_id)
        while len(opened.followed) > FOLLOWED:
            opened.followed.popitem(last=False)
        return opened.followed[workflow_id]

    async def _look(self, opened: _Open, workflow_id: str) -> _Followed:
        followed = self._follow(opened, workflow_id)
        if followed.looking is None or followed.looking.done():
            now = asyncio.get_running_loop().time()
            look = self._in_thread(opened, lambda: _refresh(followed, opened.store, workflow_id, now))
            followed.looking = asyncio.create_task(look)
            followed.looking.add_done_callback(_heard)
        done, _ = await asyncio.wait({followed.looking}, timeout=READ_SECONDS)
        if not done:
            raise StoreUnavailableError(f"{opened.store.url} has not answered for {READ_SECONDS:.0f} s")
        followed.looking.result()
        return followed

    async def _is_staged(self, opened: _Open, run: RunRef, sha256: str) -> bool:
        def there() -> bool:
            try:
                requests.read_code(opened.store, run.workflow_id, run.run_number, run.run_uuid, sha256)
            except CorruptLogError:
                return False
            return True

        return await self._in_thread(opened, there)

    async def _in_thread(self, opened: _Open, work: Callable[[], T]) -> T:
        async with opened.turns:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)


@contextmanager
def _translating() -> Iterator[None]:
    """The library's errors as the operator's own."""
    try:
        yield
    except StoreUnavailableError as error:
        raise UnreachableError(str(error)) from error
    except WorkflowError as error:
        raise RefusedError(str(error)) from error


def _refresh(followed: _Followed, store: Store, workflow_id: str, now: float) -> None:
    """Look at the run; and now and then at its owner's heartbeat, and whether its id was used anew."""
    before, view = followed.view, followed.follower.poll()
    due = view is not before or now - followed.checked >= LIVENESS_SECONDS
    if view is not None and (due or view.status.is_terminal):
        later = reading.Follower(store, workflow_id, view.run_number + 1)
        next_view = later.poll()
        while next_view is not None:
            followed.follower, view = later, next_view
            later = reading.Follower(store, workflow_id, view.run_number + 1)
            next_view = later.poll()
    if due or view is not before:
        followed.liveness = None if view is None else reading.status_of(store, view)
        followed.checked = now
    followed.view = view


def _heard(look: asyncio.Task[None]) -> None:
    """Its error is told to who waits for it; where nobody does any more, the next look meets it again."""
    if not look.cancelled():
        look.exception()


def _actor(namespace: str, run: RunRef) -> requests.Requester:
    return requests.Requester(uid=run.uid, attempt=run.attempt, name=f"{namespace}/{run.name}")


def _trouble(error: WorkflowError) -> StoreFailure:
    return next((trouble for kind, trouble in TROUBLES if isinstance(error, kind)), StoreFailure.REFUSED)
