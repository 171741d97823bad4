"""The adapter for runs in storage, on the library's memory store."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from tests.unit.operator import build
from workflow import requests
from workflow.log import keys, liveness, registry
from workflow.log.run_log import RunLog
from workflow.model.graph import Graph, StepSpec, Value
from workflow.model.records import Claimed, Created, Tombstone
from workflow.model.run_view import Owner, RunView, StepCounts
from workflow.model.status import WorkflowStatus
from workflow.reading import Follower
from workflow.store import Store, open_store
from workflow_operator.adapters import followed_runs
from workflow_operator.adapters import runs as adapter
from workflow_operator.adapters.followed_runs import WAITING_SECONDS, FollowedRun, _refresh_waiting
from workflow_operator.adapters.runs import StoredRuns
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


def register_run(run: RunRef, uid: str = "uid-1", run_number: int = 1) -> None:
    owner = Owner("manager-1", "1", uid=uid, attempt=1)
    store_of(run).overwrite(keys.heartbeat("manager-1"), b"{}")
    registry.register(
        store_of(run), Created("trip", run_number, f"run-{run_number}", owner, GRAPH.shape(), time.time(), GRAPH)
    )


async def read(runs: StoredRuns, run: RunRef) -> RunRead:
    found = await runs.read("team", run.store, run.workflow_id, None, "")
    assert isinstance(found, RunRead)
    return found


async def test_unknown_workflow_id_gives_an_empty_read(runs: StoredRuns, run: RunRef) -> None:
    assert await read(runs, run) == RunRead()


async def test_new_and_ended_run_is_seen(runs: StoredRuns, run: RunRef) -> None:
    assert (await read(runs, run)).view is None
    register_run(run)
    found = await read(runs, run)
    assert found.view is not None
    assert (found.liveness, found.view.owner and found.view.owner.uid) == (WorkflowStatus.RUNNING, "uid-1")
    await runs.end("team", EndRun(run, "FAILED", "Deadline", "too late"))
    found = await read(runs, run)
    assert found.view is not None
    assert (found.liveness, found.view.reason, found.view.epoch) == (WorkflowStatus.FAILED, "Deadline", 2)


async def test_newest_run_under_the_id_is_read(runs: StoredRuns, run: RunRef) -> None:
    register_run(run)
    await read(runs, run)
    await runs.end("team", EndRun(run, "CANCELED", "Canceled", "asked"))
    tombstone = Tombstone("trip", 2, WorkflowStatus.CANCELED, "Deleted", time.time())
    registry.register(store_of(run), tombstone)
    register_run(run, "uid-2", run_number=3)
    found = await read(runs, run)
    assert found.view is not None
    assert (found.view.run_number, found.view.status) == (3, WorkflowStatus.RUNNING)


async def test_run_of_another_object_is_not_changed(runs: StoredRuns, run: RunRef) -> None:
    register_run(run, uid="uid-2")
    await runs.end("team", EndRun(run, "FAILED", "Deadline", "too late"))
    await runs.release("team", ReleaseRun(run, "deleted"))
    await runs.delete("team", DeleteCheckpoints(run))
    found = await read(runs, run)
    assert found.view is not None
    assert (found.view.status, found.view.epoch) == (WorkflowStatus.RUNNING, 1)


def second_run(run: RunRef) -> RunRef:
    """Store a deleted run 1 and a run 3 of this object's second attempt; return a reference to run 3."""
    register_run(run)
    store_of(run).delete(keys.heartbeat("manager-1"))
    requests.delete_run(store_of(run), "trip", run_number=1, requester=requests.Requester("", 0, "a user"))
    register_run(run, run_number=3)
    claimed = replace(run, run_number=3, run_uuid="run-3", attempt=2)
    created = registry.read_entry(store_of(run), "trip", 3)
    assert isinstance(created, Created)
    log = RunLog(store_of(run), created)
    log.append(log.replay(), [Claimed(2, Owner("manager-1", "2", "address", "uid-1", 2), 5.0)])
    return claimed


@pytest.mark.parametrize("status", ["FAILED", "CANCELED"])
async def test_end_acts_on_the_run_of_the_action(runs: StoredRuns, run: RunRef, status: Any) -> None:
    third = second_run(run)
    await runs.end("team", EndRun(third, status, "Deadline", "too late"))
    view = (await read(runs, run)).view
    assert view is not None
    assert (view.run_number, view.status, view.reason) == (3, WorkflowStatus(status), "Deadline")
    assert (view.error.message if view.error else "") == ("too late" if status == "FAILED" else "")
    assert view.owner is not None
    assert (view.owner.address, view.owner.uid, view.owner.attempt) == ("team/trip", "uid-1", 2)


async def test_release_acts_on_the_run_of_the_action(runs: StoredRuns, run: RunRef) -> None:
    await runs.release("team", ReleaseRun(second_run(run), "Suspended"))
    view = (await read(runs, run)).view
    assert view is not None
    assert (view.run_number, view.status, view.epoch) == (3, WorkflowStatus.RESUMABLE, 3)


async def test_deletion_acts_on_the_run_of_the_action(runs: StoredRuns, run: RunRef) -> None:
    await runs.delete("team", DeleteCheckpoints(second_run(run)))
    assert not list(store_of(run).list(keys.runs("trip")))
    assert registry.latest_run_number(store_of(run), "trip") == 4


@pytest.mark.parametrize("attempt", [0, 1], ids=["without an attempt", "an earlier attempt"])
async def test_actions_of_an_earlier_attempt_change_nothing(runs: StoredRuns, run: RunRef, attempt: int) -> None:
    earlier = replace(second_run(run), attempt=attempt)
    await runs.end("team", EndRun(earlier, "FAILED", "Deadline", "too late"))
    await runs.release("team", ReleaseRun(earlier, "Suspended"))
    await runs.delete("team", DeleteCheckpoints(earlier))
    found = await read(runs, run)
    assert found.view is not None
    assert (found.view.run_number, found.liveness, found.view.epoch) == (3, WorkflowStatus.RUNNING, 2)


async def test_finished_run_of_another_object_is_not_deleted(runs: StoredRuns, run: RunRef) -> None:
    register_run(run, uid="uid-2")
    other = replace(run, uid="uid-2")
    await runs.end("team", EndRun(other, "CANCELED", "Canceled", "asked"))
    await runs.delete("team", DeleteCheckpoints(run))
    assert list(store_of(run).list(f"{keys.runs('trip')}1-"))
    await runs.delete("team", DeleteCheckpoints(other))
    assert not list(store_of(run).list(f"{keys.runs('trip')}1-"))


async def test_cancel_request_names_its_object_and_reason(runs: StoredRuns, run: RunRef) -> None:
    third = second_run(run)
    await runs.request_cancel("team", RequestCancel(third, "spec.cancel is true"))
    (request,) = store_of(run).list(f"{keys.runs('trip')}3-run-3/inbox/")
    assert json.loads(store_of(run).get(request.key) or b"") == {
        "kind": "cancel",
        "uid": "uid-1",
        "reason": "spec.cancel is true",
    }


async def test_cancel_is_requested_again_after_a_while(
    runs: StoredRuns, run: RunRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_run(run)
    await runs.request_cancel("team", RequestCancel(run, "first"))
    monkeypatch.setattr(adapter, "CANCEL_REPEAT_SECONDS", 0.0)
    await runs.request_cancel("team", RequestCancel(run, "second"))
    assert len(list(store_of(run).list("notifications/"))) == 2
    await runs.end("team", EndRun(run, "CANCELED", "Canceled", "asked"))
    await runs.request_cancel("team", RequestCancel(run, "the run is finished"))
    assert not list(store_of(run).list("notifications/"))


async def test_released_run_is_resumable(runs: StoredRuns, run: RunRef) -> None:
    register_run(run)
    await runs.release("team", ReleaseRun(run, "deleted"))
    assert (await read(runs, run)).liveness is WorkflowStatus.RESUMABLE


async def test_release_without_a_run_does_nothing(runs: StoredRuns, run: RunRef) -> None:
    await runs.release("team", ReleaseRun(run, "deleted"))
    assert (await read(runs, run)).view is None


async def test_ending_a_missing_run_writes_a_tombstone(runs: StoredRuns, run: RunRef) -> None:
    await runs.end("team", EndRun(run, "CANCELED", "Canceled", "asked"))
    found = await read(runs, run)
    assert found.view is not None
    assert (found.view.tombstone, found.view.status) == (True, WorkflowStatus.CANCELED)


async def test_deleted_run_leaves_no_keys(runs: StoredRuns, run: RunRef) -> None:
    register_run(run)
    await runs.delete("team", DeleteCheckpoints(run))
    assert not list(store_of(run).list(f"{keys.runs('trip')}1-"))


async def test_repeated_cancel_writes_one_request(runs: StoredRuns, run: RunRef) -> None:
    await runs.request_cancel("team", RequestCancel(run, "no run exists"))
    register_run(run)
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


async def test_code_that_changed_before_staging_is_refused(runs: StoredRuns, run: RunRef) -> None:
    with pytest.raises(RefusedError, match="changed while its code was stored"):
        await runs.stage_code("team", StageCode(run, "trip-code", "0" * 64))


async def test_staged_code_does_not_need_the_config_map(run: RunRef) -> None:
    async def missing(namespace: str, config_map: str) -> tuple[bytes, str]:
        raise RefusedError("the ConfigMap does not exist")

    first, second = StoredRuns(credentials, code), StoredRuns(credentials, missing)
    _, sha256 = await code("team", "trip-code")
    await first.stage_code("team", StageCode(run, "trip-code", sha256))
    await second.stage_code("team", StageCode(run, "trip-code", sha256))
    first.close()
    second.close()


async def test_missing_code_is_refused(runs: StoredRuns, run: RunRef) -> None:
    with pytest.raises(RefusedError, match="missing"):
        await runs.code("team", run, "0" * 64)


@pytest.mark.parametrize(
    ("url", "message"),
    [("gopher://x", "no kind of store"), ("s3://UPPER/x", "UPPER")],
    ids=["unknown scheme", "invalid bucket name"],
)
async def test_invalid_url_becomes_a_read_failure(runs: StoredRuns, run: RunRef, url: str, message: str) -> None:
    found = await runs.read("team", StoreRef(url, "minio"), "trip", None, "")
    assert isinstance(found, RunReadFailure)
    assert found.kind is StoreFailure.REFUSED
    assert message in found.message


async def test_damaged_log_becomes_a_read_failure(runs: StoredRuns, run: RunRef) -> None:
    store_of(run).overwrite(keys.registry_entry("trip", 1), b"no record")
    found = await runs.read("team", run.store, "trip", None, "")
    assert isinstance(found, RunReadFailure)
    assert found.kind is StoreFailure.CORRUPT


async def test_log_of_a_newer_version_is_not_reported_as_damage(
    runs: StoredRuns, run: RunRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        newer.setattr("workflow.log.segments.FORMAT", "rayworkflow-log-2")
        register_run(run)
    found = await runs.read("team", run.store, "trip", None, "")
    assert isinstance(found, RunReadFailure)
    assert found.kind is StoreFailure.NEWER
    assert "it was written by a newer version" in found.message


async def test_new_credentials_reopen_the_store(run: RunRef) -> None:
    access_keys = ["first"]

    async def rotating(namespace: str, secret: str) -> tuple[str, str]:
        return access_keys[-1], "secret"

    runs = StoredRuns(rotating, code)
    ref = replace(run.store, secret="minio")
    before = await runs._open("team", ref)
    assert await runs._open("team", ref) is before
    access_keys.append("second")
    assert await runs._open("team", ref) is not before
    runs.close()


async def test_unresponsive_store_fails_the_read_but_not_the_refresh(
    runs: StoredRuns, run: RunRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_run(run)
    proceed = threading.Event()
    refresh = followed_runs.refresh

    def block(followed: Any, store: Store, workflow_id: str, now: float) -> None:
        proceed.wait()
        refresh(followed, store, workflow_id, now)

    monkeypatch.setattr(adapter, "refresh", block)
    monkeypatch.setattr(adapter, "READ_SECONDS", 0.01)
    found = await runs.read("team", run.store, "trip", None, "")
    assert isinstance(found, RunReadFailure)
    assert (found.kind, "has not answered" in found.message) == (StoreFailure.UNAVAILABLE, True)
    proceed.set()
    monkeypatch.setattr(adapter, "READ_SECONDS", 20.0)
    assert (await read(runs, run)).view is not None


def test_reason_of_a_wait_is_read_every_few_seconds() -> None:
    store = open_store(f"memory://runs-{next(NUMBERS)}/team")
    view = build.view()
    assert view.owner is not None
    followed = FollowedRun(Follower(store, "trip"), view=view, liveness=WorkflowStatus.RUNNING)
    liveness.send_heartbeat(store, view.owner, 1, {view.run_uuid: "step a has no worker"})
    _refresh_waiting(followed, store, 100.0)
    assert followed.waiting == "step a has no worker"
    liveness.send_heartbeat(store, view.owner, 1)
    _refresh_waiting(followed, store, 100.0 + WAITING_SECONDS / 2)
    assert followed.waiting == "step a has no worker"
    _refresh_waiting(followed, store, 100.0 + WAITING_SECONDS)
    assert followed.waiting == ""


@pytest.mark.parametrize(
    ("view", "status"),
    [
        pytest.param(None, None, id="no run"),
        pytest.param(build.view(), WorkflowStatus.RESUMABLE, id="owner is lost"),
        pytest.param(build.view(counts=StepCounts(total=1)), WorkflowStatus.RUNNING, id="no running step"),
    ],
)
def test_wait_is_not_read_if_no_step_can_wait(view: RunView | None, status: WorkflowStatus | None) -> None:
    followed = FollowedRun(
        Follower(open_store("memory://unused"), "trip"), view=view, liveness=status, waiting="an old reason"
    )
    _refresh_waiting(followed, open_store("memory://unused"), 100.0)
    assert followed.waiting == ""
    assert followed.waiting_checked == float("-inf")


async def test_arguments_are_staged_and_read_back(runs: StoredRuns, run: RunRef) -> None:
    data = b'{"password":"hidden"}'
    await runs.stage_args("team", StageArgs(run, data))
    await runs.stage_args("team", StageArgs(run, data))
    sha256 = hashlib.sha256(data).hexdigest()
    assert requests.read_args(store_of(run), run.workflow_id, run.run_number, run.run_uuid, sha256) == data


@pytest.mark.parametrize("only_absent", [False, True])
async def test_run_that_exists_is_ended_only_on_purpose(runs: StoredRuns, run: RunRef, only_absent: bool) -> None:
    register_run(run)
    await runs.end("team", EndRun(run, "FAILED", "EntrypointInvalid", "no module", only_absent))
    view = (await read(runs, run)).view
    assert view is not None
    assert view.status is (WorkflowStatus.RUNNING if only_absent else WorkflowStatus.FAILED)


async def test_refused_input_prevents_a_run(runs: StoredRuns, run: RunRef) -> None:
    await runs.end("team", EndRun(run, "FAILED", "EntrypointInvalid", "no module", True))
    view = (await read(runs, run)).view
    assert view is not None
    assert (view.tombstone, view.reason) == (True, "EntrypointInvalid")
