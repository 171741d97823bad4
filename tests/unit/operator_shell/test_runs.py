"""Runs in storage as the operator reads and ends them, on a real store in memory."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from workflow.log import keys, registry
from workflow.model.graph import Graph, StepSpec, Value
from workflow.model.records import Created, Tombstone
from workflow.model.run_view import Owner
from workflow.model.status import WorkflowStatus
from workflow.store import Store, open_store
from workflow_operator.adapters import runs as adapter
from workflow_operator.adapters.runs import StoredRuns
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
from workflow_operator.errors import RefusedError

NUMBERS = count(1)
STEP = StepSpec("only", "only", "", "trip.only", Value(inline=b""))
GRAPH = Graph((STEP,), "only")


async def credentials(namespace: str, secret: str) -> tuple[str, str]:
    return "key", "secret"


async def code(namespace: str, config_map: str) -> tuple[bytes, str]:

    return b"the zip", hashlib.sha256(b"the zip").hexdigest()


@pytest.fixture
def runs() -> Iterator[StoredRuns]:
    runs = StoredRuns(credentials, code)
    yield runs
    runs.close()


@pytest.fixture
def run() -> RunRef:
    return RunRef(StoreRef(f"memory://runs-{next(NUMBERS)}/team", ""), "trip", 1, "run-1", "uid-1", 1, "trip")


def store_of(run: RunRef) -> Store:
    return open_store(run.store.url)


def begin(run: RunRef, uid: str = "uid-1", run_number: int = 1) -> None:
    owner = Owner("manager-1", "1", uid=uid, attempt=1)
    store_of(run).overwrite(keys.heartbeat("manager-1"), b"{}")
    registry.register(
        store_of(run), Created("trip", run_number, f"run-{run_number}", owner, GRAPH.shape(), time.time(), GRAPH)
    )


async def read(runs: StoredRuns, run: RunRef) -> RunRead:
    found = await runs.read("team", run.store, run.workflow_id, None, "")
    assert isinstance(found, RunRead)
    return found


async def test_nothing_under_the_id(runs: StoredRuns, run: RunRef) -> None:
    assert await read(runs, run) == RunRead()


async def test_a_run_is_followed(runs: StoredRuns, run: RunRef) -> None:
    assert (await read(runs, run)).view is None
    begin(run)
    found = await read(runs, run)
    assert found.view is not None
    assert (found.liveness, found.view.owner and found.view.owner.uid) == (WorkflowStatus.RUNNING, "uid-1")
    await runs.end("team", EndRun(run, "FAILED", "Deadline", "too late"))
    found = await read(runs, run)
    assert found.view is not None
    assert (found.liveness, found.view.reason, found.view.epoch) == (WorkflowStatus.FAILED, "Deadline", 2)


async def test_the_highest_run_under_the_id_is_read(runs: StoredRuns, run: RunRef) -> None:
    begin(run)
    await read(runs, run)
    await runs.end("team", EndRun(run, "CANCELED", "Canceled", "asked"))
    gone = Tombstone("trip", 2, WorkflowStatus.CANCELED, "Deleted", time.time())
    registry.register(store_of(run), gone)
    begin(run, "uid-2", run_number=3)
    found = await read(runs, run)
    assert found.view is not None
    assert (found.view.run_number, found.view.status) == (3, WorkflowStatus.RUNNING)


async def test_the_run_of_another_object_is_left_alone(runs: StoredRuns, run: RunRef) -> None:
    begin(run, uid="uid-2")
    await runs.end("team", EndRun(run, "FAILED", "Deadline", "too late"))
    await runs.release("team", ReleaseRun(run, "deleted"))
    await runs.delete("team", DeleteCheckpoints(run))
    found = await read(runs, run)
    assert found.view is not None
    assert (found.view.status, found.view.epoch) == (WorkflowStatus.RUNNING, 1)


async def test_a_goodbye_leaves_the_run_resumable(runs: StoredRuns, run: RunRef) -> None:
    begin(run)
    await runs.release("team", ReleaseRun(run, "deleted"))
    assert (await read(runs, run)).liveness is WorkflowStatus.RESUMABLE


async def test_a_goodbye_to_nothing_is_nothing(runs: StoredRuns, run: RunRef) -> None:
    await runs.release("team", ReleaseRun(run, "deleted"))
    assert (await read(runs, run)).view is None


async def test_ending_what_does_not_exist_forbids_it(runs: StoredRuns, run: RunRef) -> None:
    await runs.end("team", EndRun(run, "CANCELED", "Canceled", "asked"))
    found = await read(runs, run)
    assert found.view is not None
    assert (found.view.tombstone, found.view.status) == (True, WorkflowStatus.CANCELED)


async def test_deleted_checkpoints_are_gone(runs: StoredRuns, run: RunRef) -> None:
    begin(run)
    await runs.delete("team", DeleteCheckpoints(run))
    assert not list(store_of(run).list(f"{keys.runs('trip')}1-"))


async def test_a_cancel_lies_in_the_inbox(runs: StoredRuns, run: RunRef) -> None:
    await runs.request_cancel("team", RequestCancel(run, "nobody there"))
    begin(run)
    await runs.request_cancel("team", RequestCancel(run, "spec.cancel is true"))
    await runs.request_cancel("team", RequestCancel(run, "spec.cancel is true"))
    assert len(list(store_of(run).list("notifications/"))) == 1


async def test_code_is_staged_once_and_found_again(runs: StoredRuns, run: RunRef) -> None:
    data, sha256 = await code("team", "trip-code")
    await runs.stage_code("team", StageCode(run, "trip-code", sha256))
    assert await runs.code("team", run, sha256) == data
    found = await runs.read("team", run.store, "trip", run, sha256)
    assert isinstance(found, RunRead)
    assert found.code_staged


async def test_code_that_changed_before_it_was_staged_is_refused(runs: StoredRuns, run: RunRef) -> None:
    with pytest.raises(RefusedError, match="changed while its code was stored"):
        await runs.stage_code("team", StageCode(run, "trip-code", "0" * 64))


async def test_staged_code_needs_no_config_map(run: RunRef) -> None:
    async def gone(namespace: str, config_map: str) -> tuple[bytes, str]:
        raise RefusedError("the ConfigMap is gone")

    first, again = StoredRuns(credentials, code), StoredRuns(credentials, gone)
    _, sha256 = await code("team", "trip-code")
    await first.stage_code("team", StageCode(run, "trip-code", sha256))
    await again.stage_code("team", StageCode(run, "trip-code", sha256))
    first.close()
    again.close()


async def test_code_that_is_not_there_is_refused(runs: StoredRuns, run: RunRef) -> None:
    with pytest.raises(RefusedError, match="missing"):
        await runs.code("team", run, "0" * 64)


@pytest.mark.parametrize(
    ("url", "says"), [("gopher://x", "no kind of store"), ("s3://UPPER/x", "UPPER")], ids=["kind", "bucket"]
)
async def test_a_wrong_address_is_a_value(runs: StoredRuns, run: RunRef, url: str, says: str) -> None:
    found = await runs.read("team", StoreRef(url, "minio"), "trip", None, "")
    assert isinstance(found, RunReadFailure)
    assert found.trouble is StoreFailure.REFUSED
    assert says in found.message


async def test_a_damaged_log_is_a_value(runs: StoredRuns, run: RunRef) -> None:
    store_of(run).overwrite(keys.registry_entry("trip", 1), b"no record")
    found = await runs.read("team", run.store, "trip", None, "")
    assert isinstance(found, RunReadFailure)
    assert found.trouble is StoreFailure.CORRUPT


async def test_a_log_of_a_newer_version_is_not_reported_as_damage(
    runs: StoredRuns, run: RunRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        newer.setattr("workflow.log.segments.FORMAT", "rayworkflow-log-2")
        begin(run)
    found = await runs.read("team", run.store, "trip", None, "")
    assert isinstance(found, RunReadFailure)
    assert found.trouble is StoreFailure.NEWER
    assert "it was written by a newer version" in found.message


async def test_new_credentials_open_the_store_anew(run: RunRef) -> None:
    given = ["first"]

    async def rotating(namespace: str, secret: str) -> tuple[str, str]:
        return given[-1], "secret"

    runs = StoredRuns(rotating, code)
    ref = replace(run.store, secret="minio")
    before = await runs._open("team", ref)
    assert await runs._open("team", ref) is before
    given.append("second")
    assert await runs._open("team", ref) is not before
    runs.close()


async def test_a_store_that_hangs_is_a_value_and_the_look_goes_on(
    runs: StoredRuns, run: RunRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(run)
    go_on = threading.Event()
    look = adapter._refresh

    def hang(followed: Any, store: Store, workflow_id: str, now: float) -> None:
        go_on.wait()
        look(followed, store, workflow_id, now)

    monkeypatch.setattr(adapter, "_refresh", hang)
    monkeypatch.setattr(adapter, "READ_SECONDS", 0.01)
    found = await runs.read("team", run.store, "trip", None, "")
    assert isinstance(found, RunReadFailure)
    assert (found.trouble, "has not answered" in found.message) == (StoreFailure.UNAVAILABLE, True)
    go_on.set()
    monkeypatch.setattr(adapter, "READ_SECONDS", 20.0)
    assert (await read(runs, run)).view is not None
