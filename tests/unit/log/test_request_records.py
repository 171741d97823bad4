"""What a request writes and removes, exactly: every field of its records, and no key of any other run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.support import invariants, runs
from tests.support.managers import AFTER_HEARTBEAT_TIMEOUT, Clock
from tests.support.stored import in_memory
from tests.support.strict import StrictStore
from workflow import garbage, requests
from workflow.errors import SupersededError
from workflow.log import index, keys, owned, registry
from workflow.log.claim import Claimant, claim
from workflow.log.keys import RunPaths
from workflow.log.owned import OwnedRun
from workflow.log.run_log import RunLog
from workflow.log.values import versions
from workflow.model import records as r
from workflow.model.graph import Graph
from workflow.model.run_view import ErrorInfo, Owner
from workflow.model.status import WorkflowStatus
from workflow.reading import read_run
from workflow.requests import Requester
from workflow.store.memory import MemoryStore
from workflow.store.port import Store

S = WorkflowStatus
NOW = 7.0
U1 = Requester("u", 1, "team/u")
USER = Requester("", 0, "me")
OWNER = Owner("m1", "i1", "manager-1", "u", 1)
ERROR = ErrorInfo("DeadlineExceeded", "took too long")
DAG = Graph((*runs.graph("a b c:a").steps, runs.sleeper("s", 7.0)), "c")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    monkeypatch.setattr("time.time", lambda: NOW)
    return StrictStore(clock=clock)


def make(
    store: Store, *segments: list[r.Record], workflow_id: str = "w", run_number: int = 1, **fields: object
) -> RunLog:
    """Store a run as its manager does, with a request in its inbox."""
    run_uuid = f"{workflow_id[:9].replace('/', '_')}-{run_number}"
    created = runs.created(DAG, workflow_id, run_number, run_uuid, **{"owner": OWNER, **fields})
    log = RunLog(store, created)
    log.blobs.put(b"a function")
    owned.add(store, "m1", OwnedRun(workflow_id, run_number, run_uuid))
    index.set_status(store, workflow_id, S.RUNNING, replaces=())
    assert registry.register(store, created).created
    runs.append(log, *segments)
    view = read_run(store, workflow_id, run_number)
    if view is not None and not view.tombstone:
        requests.request_cancel(store, view, uid="", reason="Asked")
    return log


def end(store: Store, requester: Requester = U1, status: WorkflowStatus = S.FAILED, run_number: int = 1) -> object:
    return requests.end_run(
        store, "w", run_number=run_number, status=status, reason=ERROR.kind, message=ERROR.message, requester=requester
    )


def release(store: Store, requester: Requester = U1, run_number: int = 1) -> object:
    return requests.release_run(store, "w", run_number=run_number, requester=requester, reason="Suspended")


def delete(store: Store, requester: Requester = U1, run_number: int = 1) -> None:
    requests.delete_run(store, "w", run_number=run_number, requester=requester)


def new_records(store: Store, before: int) -> list[r.Record]:
    """Return the records after a number of segments. The id of the requester's manager is cut to its kind."""
    found: list[r.Record] = []
    for written in invariants.log_of(store, "w"):
        record = written.record
        if isinstance(record, r.Claimed):
            record = replace(record, owner=replace(record.owner, manager=record.owner.manager.partition("-")[0]))
        if written.seq > before:
            found.append(record)
    return found


def claimed(reason: str, requester: Requester = U1, epoch: int = 2, retry_failed: int = -1) -> r.Claimed:
    owner = Owner("outside", "", requester.name, requester.uid, requester.attempt)
    return r.Claimed(epoch, owner, NOW, reason, retry_failed, versions())


# --- records ---


@pytest.mark.parametrize("requester", [U1, USER], ids=["object", "user"])
@pytest.mark.parametrize(("status", "error"), [(S.FAILED, ERROR), (S.CANCELED, None)], ids=["failed", "canceled"])
def test_end_writes_these_records(
    store: MemoryStore, requester: Requester, status: WorkflowStatus, error: ErrorInfo | None
) -> None:
    make(store, [runs.started("a"), r.TimerSet("s", 1, 2.0, 9.0)])
    end(store, requester, status)
    assert new_records(store, 1) == [
        claimed(ERROR.kind, requester),
        r.StepCanceled("a", 2, ERROR.kind),
        r.StepCanceled("b", 2, ERROR.kind),
        r.StepCanceled("s", 2, ERROR.kind),
        r.StatusChanged(status, 2, NOW, ERROR.kind, error),
    ]
    assert [info.key for info in store.list("index/")] == [keys.index(status, "w")]
    assert not [key for key in in_memory(store) if "notifications/" in key or "/inbox/" in key]


@pytest.mark.parametrize(("status", "error"), [(S.FAILED, ERROR), (S.CANCELED, None)], ids=["failed", "canceled"])
def test_end_of_a_missing_run_writes_this_tombstone(
    store: MemoryStore, status: WorkflowStatus, error: ErrorInfo | None
) -> None:
    end(store, U1, status)
    assert registry.current_entry(store, "w") == r.Tombstone("w", 1, status, ERROR.kind, NOW, "u", error)


def test_release_writes_these_records(store: MemoryStore) -> None:
    make(store, [runs.started("a")])
    release(store)
    assert new_records(store, 1) == [claimed("Suspended"), r.StatusChanged(S.RESUMABLE, 2, NOW, "Suspended")]


@pytest.mark.parametrize("other", [Requester("v", 1, "team/v"), USER], ids=["another object", "a user"])
def test_release_by_another_requester_claims_the_run(store: MemoryStore, other: Requester) -> None:
    """A release is left out only if the owner of the released run is the requester's own object."""
    make(store, [r.StatusChanged(S.RESUMABLE, 1, 2.0)])
    release(store, other)
    assert new_records(store, 1) == [claimed("Suspended", other), r.StatusChanged(S.RESUMABLE, 2, NOW, "Suspended")]


@pytest.mark.parametrize(
    ("records", "retry_failed"),
    [
        pytest.param([runs.started("a")], -1, id="running"),
        pytest.param([r.StatusChanged(S.RESUMABLE, 1, 2.0)], -1, id="released"),
        pytest.param([runs.failed("a"), r.StatusChanged(S.FAILED, 1, 2.0)], 1, id="failed"),
    ],
)
def test_deletion_closes_the_log_before_it_removes_a_key(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch, records: list[r.Record], retry_failed: int
) -> None:
    class Stopped(BaseException):
        pass

    def stop(store: Store, workflow_id: str) -> None:
        raise Stopped

    make(store, records)
    monkeypatch.setattr(index, "remove", stop)
    with pytest.raises(Stopped):
        delete(store)
    found = new_records(store, 1)
    assert found[0] == claimed("Deleted", retry_failed=retry_failed)
    canceled = sorted(found[1:-1], key=lambda record: getattr(record, "step_id", ""))
    assert canceled == [r.StepCanceled(step, 2, "Deleted") for step in ("a", "b", "s")]
    assert found[-1] == r.StatusChanged(S.CANCELED, 2, NOW, "Deleted")
    assert [info.key for info in store.list("index/")] == ["index/CANCELED/w"]


def test_deletion_of_a_run_writes_this_tombstone(store: MemoryStore) -> None:
    make(store)
    delete(store)
    assert registry.current_entry(store, "w") == r.Tombstone("w", 2, S.CANCELED, "Deleted", NOW, "u")


@pytest.mark.parametrize("max_resumes", [0, 1])
@pytest.mark.parametrize("act", ["cancel", "release", "delete"])
def test_request_takes_effect_if_resumes_are_used_up(store: MemoryStore, act: str, max_resumes: int) -> None:
    log = make(store, [runs.started("a")], max_resumes=max_resumes)
    for epoch in range(2, 2 + max_resumes):
        runs.append(log, [runs.claimed(epoch, OWNER), runs.started("a", epoch)])
    if act == "cancel":
        end(store, U1, S.CANCELED)
        assert log.replay().status is S.CANCELED
    elif act == "release":
        release(store)
        assert log.replay().released
    else:
        delete(store)
        assert not list(store.list(log.paths.folder))


@pytest.mark.parametrize("allowed", [-1, 0, 1, 2])
def test_manager_fails_a_run_only_after_max_resumes(store: MemoryStore, allowed: int) -> None:
    log = make(store, [runs.started("a"), runs.started("b")], max_resumes=allowed)
    for number in range(1, 4):
        state = log.replay()
        if state.is_finished:
            break
        claim(log, state, Claimant(Owner(f"m{number}", "i"), 5.0, take_over=state.owner, reason="Resumed"))
        assert state.is_finished == (0 <= allowed < number)
    state = log.replay()
    if allowed >= 0:
        assert state.terminal is not None
        error = state.terminal[1].error
        assert error is not None
        assert f"(max_resumes={allowed}); steps running at those times: a, b" in error.message
        assert error.message.startswith(f"{allowed + 1} consecutive owners failed")


def test_claim_writes_every_field_of_its_record(store: MemoryStore) -> None:
    log = make(store, [runs.failed("a"), r.StatusChanged(S.FAILED, 1, 2.0)])
    owner = Owner("m2", "i2", "manager-2", "u", 2)
    functions = {runs.FUNCTION: "f" * 64}
    claimant = Claimant(owner, 5.0, retry_failed=1, reason="Resumed", versions="python 9", functions=functions)
    claim(log, log.replay(), claimant)
    written = invariants.log_of(store, "w")[-1].record
    assert written == r.Claimed(2, owner, 5.0, "Resumed", 1, "python 9", functions)


def test_cancel_request_contains_its_sender_and_reason(store: MemoryStore) -> None:
    log = make(store)
    view = read_run(store, "w")
    assert view is not None
    request = requests.request_cancel(store, view, uid="u", reason="Enough")
    assert store.get(log.paths.request(request)) == b'{"kind": "cancel", "uid": "u", "reason": "Enough"}'


def test_end_removes_only_entries_of_claimable_statuses(store: MemoryStore) -> None:
    """A delayed removal of another entry could remove one that is right by then."""
    make(store)
    for status in S:
        index.set_status(store, "w", status, replaces=())
    end(store, U1, S.CANCELED)
    left = {status for status in S if store.head(keys.index(status, "w")) is not None}
    assert left == {S.CANCELED, S.SUCCESSFUL, S.RESUMABLE}


# --- whose run it is ---


@pytest.mark.parametrize("finished", [S.SUCCESSFUL, S.FAILED, S.CANCELED])
def test_object_cannot_delete_a_finished_run_of_another(store: MemoryStore, finished: WorkflowStatus) -> None:
    make(store, [runs.committed("a"), runs.committed("b"), runs.committed("c"), r.StatusChanged(finished, 1, 2.0)])
    before = in_memory(store)
    refused = r"team/v cannot (delete|act on) workflow 'w': its run (belongs to|is owned by) object u, not (to|by) v"
    with pytest.raises(SupersededError, match=refused) as caught:
        delete(store, Requester("v", 9, "team/v"))
    assert caught.value.fields == {"workflow_id": "w"}
    assert in_memory(store) == before
    delete(store, USER)
    assert not list(store.list(keys.runs("w")))


def test_object_cannot_delete_the_tombstone_of_another(store: MemoryStore) -> None:
    end(store)
    before = in_memory(store)
    with pytest.raises(SupersededError, match="team/v cannot delete workflow 'w': its run belongs to object u"):
        delete(store, Requester("v", 9, "team/v"))
    assert in_memory(store) == before
    delete(store)
    assert registry.latest_run_number(store, "w") == 2


@pytest.mark.parametrize(("writer", "other"), [(USER, U1), (U1, USER)], ids=["by an object", "by a user"])
def test_tombstone_without_another_object_is_deleted(store: MemoryStore, writer: Requester, other: Requester) -> None:
    end(store, writer)
    delete(store, other)
    assert registry.latest_run_number(store, "w") == 2


# --- other runs ---

NEIGHBOURS = ("w2", "w-1", "w/runs", "W", "w.", "ww", "w%2F", "w" * 300)


def crowd(store: Store, latest: int) -> None:
    """Store runs of many ids that look like `w`, and runs 1 to `latest` of `w`: replaced ones, and the last one."""
    for workflow_id in NEIGHBOURS:
        make(store, [runs.started("a")], workflow_id=workflow_id)
    for number in range(1, latest + 1):
        make(store, [runs.started("a")], run_number=number)


def of_run(content: dict[str, bytes], run_number: int) -> set[str]:
    """Return the keys of a run's folder, and of the notifications of its requests."""
    paths = RunPaths("w", run_number, f"w-{run_number}")
    return {key for key in content if key.startswith((paths.folder, f"notifications/{paths.run_uuid}."))}


@pytest.mark.parametrize("latest", [1, 2, 9, 21])
def test_deletion_removes_the_keys_of_one_run(store: MemoryStore, clock: Clock, latest: int) -> None:
    crowd(store, latest)
    clock.now += AFTER_HEARTBEAT_TIMEOUT
    for number in range(1, latest + 1):
        before = in_memory(store)
        delete(store, USER, number)
        after = in_memory(store)
        removed, added = before.keys() - after.keys(), after.keys() - before.keys()
        is_latest = number == latest
        assert removed == of_run(before, number) | ({"index/RUNNING/w"} if is_latest else set()), number
        assert added == ({keys.registry_entry("w", latest + 1)} if is_latest else set()), number
        assert len(of_run(before, number)) > 3


ACTS: dict[str, Callable[[Store], object]] = {
    "end": lambda store: end(store, USER, S.CANCELED, 12),
    "release": lambda store: release(store, USER, 12),
    "delete": lambda store: delete(store, USER, 12),
    "cancel": lambda store: [
        requests.request_cancel(store, view, uid="", reason="Asked") for view in [read_run(store, "w", 12)] if view
    ],
}


@pytest.mark.parametrize("act", ACTS)
def test_request_changes_no_key_of_another_run(store: MemoryStore, clock: Clock, act: str) -> None:
    crowd(store, 12)
    clock.now += AFTER_HEARTBEAT_TIMEOUT
    before = in_memory(store)
    ACTS[act](store)
    after = in_memory(store)
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    own = of_run(before, 12) | of_run(after, 12)
    other = {keys.registry_entry("w", 13), *(keys.index(status, "w") for status in S)}
    assert changed
    assert changed <= own | other


@pytest.mark.parametrize("uuid", ["w-1", "w-10", "w"], ids=["the same", "longer", "shorter"])
def test_collection_removes_the_folder_of_one_run(store: MemoryStore, clock: Clock, uuid: str) -> None:
    """Folders whose names begin like that of the garbage stay."""
    make(store, [runs.started("a")])
    make(store, [runs.started("a")], workflow_id="w2")
    lost = [RunPaths("w", 1, each) for each in (f"{uuid}x", f"{uuid}xy")]
    for paths in lost:
        store.create(paths.blob("f" * 64), b"a function", "1")
    clock.now += garbage.DAY + 1
    store.create(lost[1].blob("e" * 64), b"a function that is being written", "1")
    before = in_memory(store)
    collected = garbage.collect(store)
    assert before.keys() - in_memory(store).keys() == {lost[0].blob("f" * 64)}
    assert (collected.runs, collected.objects) == (1, 1)


def test_remove_below_counts_keys_without_notifications(store: MemoryStore) -> None:
    log = make(store, [runs.started("a")])
    expected = len(list(store.list(log.paths.folder)))
    assert requests.remove_below(store, "w", log.paths.folder) == expected
    assert not list(store.list("notifications/"))
