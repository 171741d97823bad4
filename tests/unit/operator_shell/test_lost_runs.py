"""The adapter for runs in storage, if stored data is missing, the store hangs, or its Secret is gone."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.operator_shell.test_runs import code, credentials, read, register_run, store_of
from tests.unit.operator_shell.test_runs import run as run
from workflow import requests
from workflow.errors import CorruptLogError, StoreRefusedError
from workflow.log import keys
from workflow.log.blobs import Blobs
from workflow.model.status import WorkflowStatus
from workflow.store import Store
from workflow_operator.adapters import followed_runs
from workflow_operator.adapters import runs as adapter
from workflow_operator.adapters.bounded import BoundedCalls
from workflow_operator.adapters.runs import StoredRuns
from workflow_operator.core.actions import EndRun, RunRef
from workflow_operator.core.observation import Loss, RunRead, RunReadFailure, StoreFailure
from workflow_operator.errors import RefusedError, UnreachableError


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[StoredRuns]:
    monkeypatch.setattr(followed_runs, "LIVENESS_SECONDS", 0.0)
    runs = StoredRuns(credentials, code)
    yield runs
    runs.close()


def empty(store: Store) -> None:
    for info in list(store.list("")):
        store.delete(info.key)


async def test_emptied_store_is_noticed_although_the_run_is_in_memory(runs: StoredRuns, run: RunRef) -> None:
    register_run(run)
    assert (await read(runs, run)).view is not None
    empty(store_of(run))
    assert await read(runs, run) == RunRead()


@pytest.mark.parametrize(
    ("remaining", "loss"),
    [
        pytest.param((), Loss.RUN, id="nothing"),
        pytest.param(("segment",), Loss.OBJECT, id="the log"),
        pytest.param(("snapshot",), Loss.OBJECT, id="a snapshot"),
        pytest.param(("later segment",), Loss.RUN, id="what a live manager wrote later"),
    ],
)
async def test_loss_names_what_remains_of_a_run(
    runs: StoredRuns, run: RunRef, remaining: tuple[str, ...], loss: Loss
) -> None:
    paths = keys.RunPaths(run.workflow_id, run.run_number, run.run_uuid)
    stored = {"segment": paths.segment(1), "snapshot": paths.snapshot(4), "later segment": paths.segment(9)}
    for name in remaining:
        store_of(run).overwrite(stored[name], b"x")
    found = await runs.loss("team", run)
    assert found is not None
    assert (found.kind, found.loss) == (StoreFailure.LOST, loss)
    assert keys.registry_entry("trip", 1) in found.message


async def test_existing_registry_entry_is_no_loss(runs: StoredRuns, run: RunRef) -> None:
    register_run(run)
    assert await runs.loss("team", run) is None


@pytest.mark.parametrize(
    ("error", "kind", "loss"),
    [
        pytest.param(
            StoreRefusedError("no bucket", bucket_missing=True), StoreFailure.REFUSED, Loss.BUCKET, id="bucket"
        ),
        pytest.param(StoreRefusedError("403"), StoreFailure.REFUSED, None, id="refused"),
        pytest.param(CorruptLogError("gone", missing=True), StoreFailure.CORRUPT, Loss.OBJECT, id="object"),
        pytest.param(CorruptLogError("damaged"), StoreFailure.CORRUPT, None, id="damaged"),
    ],
)
async def test_errors_of_the_library_show_what_is_lost(
    runs: StoredRuns, run: RunRef, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: StoreFailure, loss: Any
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(adapter, "refresh", fail)
    found = await runs.read("team", run.store, "trip", None, "")
    assert isinstance(found, RunReadFailure)
    assert (found.kind, found.loss) == (kind, loss)


def test_missing_blob_is_told_apart_from_a_damaged_one(run: RunRef) -> None:
    store, paths = store_of(run), keys.RunPaths("trip", 1, "run-1")
    name = Blobs(store, paths).put(b"content")
    store.overwrite(paths.blob(name), b"other")
    with pytest.raises(CorruptLogError) as damaged:
        Blobs(store, paths).get(name)
    store.delete(paths.blob(name))
    with pytest.raises(CorruptLogError) as missing:
        Blobs(store, paths).get(name)
    assert [getattr(each.value, "missing", False) for each in (damaged, missing)] == [False, True]


async def test_change_uses_the_known_store_if_the_secret_is_gone(run: RunRef) -> None:
    exists = True

    async def secret(namespace: str, name: str) -> tuple[str, str]:
        if not exists:
            raise RefusedError("the Secret does not exist")
        return "key", "secret"

    runs, named = StoredRuns(secret, code), replace(run, store=replace(run.store, secret="minio"))
    register_run(run)
    await read(runs, named)
    exists = False
    await runs.end("team", EndRun(named, "CANCELED", "Deleted", "deleted"))
    assert isinstance(await runs.read("team", named.store, "trip", None, ""), RunReadFailure)
    other = replace(named, store=replace(named.store, url=f"{named.store.url}-other"))
    with pytest.raises(RefusedError, match="does not exist"):
        await runs.end("team", EndRun(other, "CANCELED", "Deleted", "deleted"))
    exists = True
    assert (await read(runs, named)).liveness is WorkflowStatus.CANCELED
    runs.close()


async def test_hanging_change_delays_no_round_and_is_not_repeated(
    runs: StoredRuns, run: RunRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_run(run)
    proceed, started = threading.Event(), []
    end_run = requests.end_run

    def block(*arguments: Any, **options: Any) -> Any:
        started.append(time.monotonic())
        proceed.wait()
        return end_run(*arguments, **options)

    monkeypatch.setattr(requests, "end_run", block)
    runs._calls = BoundedCalls(0.05)
    action = EndRun(run, "CANCELED", "Deleted", "deleted")
    for _ in range(3):
        with pytest.raises(UnreachableError, match="has not finished"):
            await runs.end("team", action)
    proceed.set()
    runs._calls._seconds = 20.0
    await runs.end("team", action)
    assert len(started) == 1
    assert (await read(runs, run)).liveness is WorkflowStatus.CANCELED


async def test_bounded_call_reports_each_result_once() -> None:
    calls, attempts = BoundedCalls(20.0), iter(["first", "second"])

    async def work() -> str:
        found = next(attempts)
        if found == "first":
            raise ValueError(found)
        return found

    with pytest.raises(ValueError, match="first"):
        await calls.call("key", work)
    assert await calls.call("key", work) == "second"


async def test_bounded_calls_are_canceled_on_close() -> None:
    calls, canceled = BoundedCalls(0.01), asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            canceled.set()

    start: Callable[[], Any] = hang
    with pytest.raises(UnreachableError):
        await calls.call("key", start)
    calls.close()
    await asyncio.wait_for(canceled.wait(), 20)
