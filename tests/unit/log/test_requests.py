"""Ending, releasing, deleting and canceling a run from outside, on a memory store, and which requesters are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support import invariants, runs
from tests.support.managers import Clock
from workflow import requests
from workflow.errors import (
    CorruptLogError,
    StoreUnavailableError,
    SupersededError,
    WorkflowConflictError,
    WorkflowInUseError,
)
from workflow.log import index, keys, registry
from workflow.log.claim import claim
from workflow.log.run_log import RunLog
from workflow.model import records as r
from workflow.model.graph import Graph, StepKind, StepOptions, StepSpec, Value, WaitOptions
from workflow.model.run_view import Owner
from workflow.model.status import StepPhase, WorkflowStatus
from workflow.reading import read_run, status_of
from workflow.requests import Requester
from workflow.store.memory import MemoryStore
from workflow.testing.failing import FailingStore

S = WorkflowStatus
USER = Requester("", 0, "me")
DAG = runs.graph("a b:a")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return MemoryStore(clock=clock)


def make(store: MemoryStore, *segments: list[r.Record], uid: str = "", attempt: int = 0, alive: bool = True) -> RunLog:
    owner = Owner("m1", "i1", "manager-1", uid, attempt)
    created = runs.created(DAG, owner=owner)
    index.set_status(store, "w", S.RUNNING, replaces=())
    registry.register(store, created)
    log = RunLog(store, created)
    log.blobs.put(b"a function")
    runs.append(log, *segments)
    if alive:
        store.overwrite(keys.heartbeat("m1"), b"")
    return log


def end(store: MemoryStore, requester: Requester = USER, status: WorkflowStatus = S.FAILED) -> S:
    view = requests.end_run(
        store, "w", run_number=1, status=status, reason="DeadlineExceeded", message="took too long", requester=requester
    )
    return view.status


def all_keys(store: MemoryStore) -> list[str]:
    return [info.key for info in store.list("")]


# --- refuse_run ---


def refuse(store: MemoryStore, requester: Requester = USER) -> S:
    view = requests.refuse_run(store, "w", run_number=1, reason="NoModule", message="no module", requester=requester)
    return view.status


def test_refusal_prevents_the_creation_of_a_run(store: MemoryStore) -> None:
    assert refuse(store, Requester("u", 1, "me")) is S.FAILED
    assert refuse(store, Requester("u", 2, "me")) is S.FAILED
    view = read_run(store, "w", 1)
    assert view is not None
    assert view.error is not None
    assert (view.tombstone, view.reason, view.error.message) == (True, "NoModule", "no module")
    assert not registry.register(store, runs.created(DAG)).created


@pytest.mark.parametrize("uid", ["", "u", "other"])
def test_refusal_changes_no_run_that_exists(store: MemoryStore, uid: str) -> None:
    make(store, uid="u", alive=False)
    before = all_keys(store)
    assert refuse(store, Requester(uid, 1, "me")) is S.RUNNING
    assert all_keys(store) == before


# --- end_run ---


def test_run_without_live_owner_is_claimed_and_ended_at_once(store: MemoryStore) -> None:
    make(store, [runs.started("a")], alive=False)
    assert end(store) is S.FAILED
    written = invariants.log_of(store, "w")
    assert [(w.seq, type(w.record).__name__) for w in written] == [
        (1, "StepStarted"), (2, "Claimed"), (2, "StepCanceled"), (2, "StatusChanged"),
    ]  # fmt: skip
    view = read_run(store, "w")
    assert view is not None
    assert view.error is not None
    assert (view.reason, view.error.message) == ("DeadlineExceeded", "took too long")
    assert [info.key for info in store.list("index/")] == ["index/FAILED/w"]
    invariants.check(store, "w")


def test_run_with_a_live_owner_is_not_ended(store: MemoryStore) -> None:
    make(store)
    with pytest.raises(WorkflowInUseError, match="manager-1"):
        end(store)
    assert invariants.log_of(store, "w") == []


def test_object_ends_its_own_run_even_with_a_live_owner(store: MemoryStore) -> None:
    make(store, uid="u", attempt=1)
    assert end(store, Requester("u", 1, "ns/w"), S.CANCELED) is S.CANCELED


def test_object_cannot_end_the_run_of_another_object(store: MemoryStore) -> None:
    make(store, uid="u", attempt=1, alive=False)
    with pytest.raises(SupersededError, match="owned by object u"):
        end(store, Requester("v", 1, "ns/w"))


def test_earlier_attempt_cannot_end_the_run(store: MemoryStore) -> None:
    make(store, uid="u", attempt=2, alive=False)
    with pytest.raises(SupersededError, match="attempt 1 cannot claim workflow 'w'"):
        end(store, Requester("u", 1, "ns/w"))


def test_finished_run_keeps_its_status(store: MemoryStore) -> None:
    make(store, [runs.committed("a"), runs.committed("b"), r.StatusChanged(S.SUCCESSFUL, 1, 1.0)], alive=False)
    assert end(store) is S.SUCCESSFUL


def test_ending_a_run_that_does_not_exist_writes_a_tombstone(store: MemoryStore) -> None:
    assert end(store, status=S.CANCELED) is S.CANCELED
    late = registry.register(store, runs.created(DAG)).entry
    assert isinstance(late, r.Tombstone)
    assert late.reason == "DeadlineExceeded"
    view = read_run(store, "w")
    assert view is not None
    assert view.tombstone


# --- release_run ---


def test_released_run_is_resumable_and_second_release_is_no_op(store: MemoryStore) -> None:
    make(store, [runs.started("a")], uid="u", attempt=1)
    view = requests.release_run(store, "w", run_number=1, requester=Requester("u", 1, "ns/w"), reason="Suspended")
    assert status_of(store, view) is S.RESUMABLE
    assert {step.step_id: step.phase for step in view.steps}["a"] is StepPhase.READY
    again = requests.release_run(store, "w", run_number=1, requester=Requester("u", 1, "ns/w"), reason="Suspended")
    assert again.next_seq == view.next_seq
    invariants.check(store, "w")


def test_release_of_a_run_that_does_not_exist_is_refused(store: MemoryStore) -> None:
    with pytest.raises(WorkflowConflictError, match=r"cannot release run 1 .* there is no such run") as caught:
        requests.release_run(store, "w", run_number=1, requester=USER, reason="Suspended")
    assert caught.value.fields == {"workflow_id": "w"}


def release(store: MemoryStore) -> S:
    return requests.release_run(store, "w", run_number=1, requester=USER, reason="Left").status


@pytest.mark.parametrize("segments", [0, 1])
@pytest.mark.parametrize("act", [end, release])
def test_run_that_fails_during_a_request_stays_failed(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch, act: Callable[[MemoryStore], S], segments: int
) -> None:
    before: list[list[r.Record]] = [[runs.started("a")]] * segments
    log = make(store, *before, alive=False)

    def fail_first(*arguments: Any) -> int:
        runs.append(log, [runs.failed("a"), r.StatusChanged(S.FAILED, 1, 2.0, "StepFailed")])
        return claim(*arguments)

    monkeypatch.setattr(requests, "claim", fail_first)
    assert act(store) is S.FAILED
    state = log.replay()
    assert (state.epoch, state.seq) == (1, segments + 1)
    assert [info.key for info in store.list("index/FAILED/")] == (["index/FAILED/w"] if act is end else [])


def test_end_of_a_run_that_was_replaced_returns_that_run(store: MemoryStore) -> None:
    """Its id is free by then, and a tombstone has the next number."""
    end(store, status=S.CANCELED)
    requests.delete_run(store, "w", run_number=1, requester=USER)
    view = requests.end_run(
        store, "w", run_number=1, status=S.FAILED, reason="Late", message="too late", requester=USER
    )
    assert (view.run_number, view.status, view.reason) == (1, S.CANCELED, "DeadlineExceeded")
    view = requests.release_run(store, "w", run_number=1, reason="Late", requester=USER)
    assert (view.run_number, view.status, view.reason) == (1, S.CANCELED, "DeadlineExceeded")


@pytest.mark.parametrize(
    "act",
    [end, lambda store: requests.release_run(store, "w", run_number=1, requester=USER, reason="Bye")],
    ids=["end", "release"],
)
def test_nothing_is_written_to_a_deleted_run(store: MemoryStore, act: Callable[[MemoryStore], object]) -> None:
    make(store, [runs.started("a")], alive=False)
    requests.delete_run(store, "w", run_number=1, requester=USER)
    before = all_keys(store)
    with pytest.raises(SupersededError, match="was deleted or replaced"):
        act(store)
    assert all_keys(store) == before


# --- delete_run ---


def test_deleted_run_leaves_registry_entry_and_tombstone(store: MemoryStore) -> None:
    make(store, alive=False)
    requests.delete_run(store, "w", run_number=1, requester=USER)
    assert all_keys(store) == [keys.registry_entry("w", 1), keys.registry_entry("w", 2)]
    tombstone = registry.current_entry(store, "w")
    assert isinstance(tombstone, r.Tombstone)
    assert tombstone.reason == "Deleted"


def test_deletion_removes_requests_and_notifications(store: MemoryStore) -> None:
    log = make(
        store, [r.StatusChanged(S.CANCELED, 1, 2.0, "Asked")], alive=False
    )  # its owner died before it read the inbox
    store.create(log.paths.request("asked"), b"{}", "1")
    store.create(keys.notification(log.created.run_uuid, "asked"), b"", "1")
    requests.delete_run(store, "w", run_number=1, requester=USER)
    assert all_keys(store) == [keys.registry_entry("w", 1), keys.registry_entry("w", 2)]


def test_run_with_a_live_owner_is_not_deleted(store: MemoryStore) -> None:
    make(store)
    before = all_keys(store)
    with pytest.raises(WorkflowInUseError):
        requests.delete_run(store, "w", run_number=1, requester=USER)
    assert all_keys(store) == before


@pytest.mark.parametrize("left", ["nothing", "a damaged segment", "a segment"])
def test_interrupted_deletion_is_finished_by_the_next_one(store: MemoryStore, left: str) -> None:
    log = make(store, [runs.started("a")], alive=False)
    requests.delete_run(store, "w", run_number=1, requester=USER)
    if left == "a damaged segment":
        log.store.create(log.paths.segment(2), b"torn", "1")
    elif left == "a segment":
        runs.append(log, [runs.started("a")])
    requests.delete_run(store, "w", run_number=1, requester=USER)
    assert all_keys(store) == [keys.registry_entry("w", 1), keys.registry_entry("w", 2)]


def test_deleting_an_old_run_keeps_the_new_run_of_the_id(store: MemoryStore) -> None:
    make(store, alive=False)
    requests.delete_run(store, "w", run_number=1, requester=USER)
    index.set_status(store, "w", S.RUNNING, replaces=())
    registry.register(store, runs.created(DAG, run_number=3, run_uuid="third"))
    before = all_keys(store)
    failing = FailingStore(store)
    for method in ("create", "delete", "overwrite"):  # the index is not even touched
        failing.fail(method, key="index/")
    requests.delete_run(failing, "w", run_number=1, requester=USER)
    assert all_keys(store) == before


def test_deleting_a_run_that_never_existed_writes_nothing(store: MemoryStore) -> None:
    requests.delete_run(store, "w", run_number=1, requester=USER)
    assert all_keys(store) == []


def test_deleting_a_tombstone_frees_the_id(store: MemoryStore) -> None:
    end(store, status=S.CANCELED)
    requests.delete_run(store, "w", run_number=1, requester=USER)
    tombstone = registry.current_entry(store, "w")
    assert isinstance(tombstone, r.Tombstone)
    assert (tombstone.run_number, tombstone.reason) == (2, "Deleted")
    requests.delete_run(store, "w", run_number=2, requester=USER)
    assert registry.latest_run_number(store, "w") == 2


# --- request_cancel ---


def test_cancel_writes_a_request_and_a_notification(store: MemoryStore) -> None:
    log = make(store)
    view = read_run(store, "w")
    assert view is not None
    request = requests.request_cancel(store, view, uid="u", reason="Enough")
    assert log.inbox() == [request]
    assert [info.key for info in store.list("notifications/")] == [keys.notification("run-1", request)]
    assert store.get(keys.notification("run-1", request)) == b""
    requests.withdraw(store, log.paths, request)
    assert log.inbox() == []
    assert not list(store.list("notifications/"))


def test_withdraw_removes_the_notification_first(store: MemoryStore) -> None:
    log = make(store)
    view = read_run(store, "w")
    assert view is not None
    request = requests.request_cancel(store, view, uid="", reason="Asked")
    failing = FailingStore(store)
    failing.fail("delete", key="notifications/")
    with pytest.raises(StoreUnavailableError):
        requests.withdraw(failing, log.paths, request)
    assert log.paths.request(request) in all_keys(store)
    requests.withdraw(failing, log.paths, request)
    assert not [key for key in all_keys(store) if "notifications/" in key or "/inbox/" in key]


def test_requests_are_withdrawn_if_the_run_was_not_resumed(store: MemoryStore) -> None:
    log = make(store, [runs.failed("a"), r.StatusChanged(S.FAILED, 1, 2.0)])
    finished = log.replay()
    assert requests.withdraw_all(log, finished) == 0
    for name in ("one", "two"):
        store.create(log.paths.request(name), b"{}", "1")
    runs.append(log, [runs.claimed(2, retry_failed=1)])
    assert requests.withdraw_all(log, finished) == 0
    assert log.inbox() == ["one", "two"]
    assert requests.withdraw_all(log, log.replay()) == 2
    assert log.inbox() == []


def test_cancel_of_a_finished_run_leaves_no_request(store: MemoryStore) -> None:
    log = make(store)
    view = read_run(store, "w")
    assert view is not None
    runs.append(log, [r.StatusChanged(S.CANCELED, 1, 1.0)])
    requests.request_cancel(store, view, uid="", reason="Enough")
    assert log.inbox() == []
    assert not list(store.list("notifications/"))


def test_cancel_of_a_deleted_run_leaves_no_request(store: MemoryStore) -> None:
    """Even if the id has another run by now."""
    log = make(store, alive=False)
    view = read_run(store, "w")
    assert view is not None
    requests.delete_run(store, "w", run_number=1, requester=USER)
    registry.register(store, runs.created(DAG, run_number=3, run_uuid="third"))
    requests.request_cancel(store, view, uid="", reason="Enough")
    assert log.inbox() == []
    assert not list(store.list("notifications/"))


# --- reading ---


@pytest.mark.parametrize(
    ("seconds", "status"),
    [(0.0, S.RUNNING), (29.0, S.RUNNING), (30.0, S.RUNNING), (30.5, S.RESUMABLE), (31.0, S.RESUMABLE)],
    ids=["new", "29 s", "30 s", "30.5 s", "31 s"],
)
def test_run_is_resumable_after_its_heartbeat_expired(
    store: MemoryStore, clock: Clock, seconds: float, status: WorkflowStatus
) -> None:
    make(store)
    clock.now += seconds
    view = read_run(store, "w")
    assert view is not None
    assert status_of(store, view) is status


def test_result_text_is_read_through_dynamic_steps(store: MemoryStore) -> None:
    make(
        store,
        [runs.committed("a")],
        [runs.expanded("b", runs.graph("b/1"))],
        [runs.expanded("b/1", runs.graph("b/1/1"))],
        [r.StepCommitted("b/1/1", 1, runs.value(), text='{"x": 1}'), r.StatusChanged(S.SUCCESSFUL, 1, 1.0)],
    )
    view = read_run(store, "w")
    assert view is not None
    assert view.result_text == '{"x": 1}'
    assert view.counts.total == view.counts.succeeded == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [('{"x": 1}', '[{"x": 1}, null]'), ("<a set>", "<a tuple that contains a set>"), ("", "")],
    ids=["JSON", "description", "no text"],
)
def test_result_text_of_a_step_that_catches_is_a_tuple(store: MemoryStore, text: str, expected: str) -> None:
    log = caught_run(store)
    runs.append(log, [r.StepCommitted("b", 1, runs.value(), text=text), r.StatusChanged(S.SUCCESSFUL, 1, 1.0)])
    view = read_run(store, "w")
    assert view is not None
    assert view.result_text == expected


@pytest.mark.parametrize("expanded", [False, True])
def test_result_text_of_a_caught_failure_is_a_description(store: MemoryStore, expanded: bool) -> None:
    log = caught_run(store)
    if expanded:
        runs.append(log, [runs.expanded("b", runs.graph("b/1"))], [runs.started("b/1")])
    failed = [r.StepFailed("b/1", 1, runs.failed("b/1").error)] if expanded else []
    caught = r.StepCommitted("b", 1, runs.value(), caught=True, text="(None, ValueError: boom)")
    runs.append(log, [*failed, caught, r.StatusChanged(S.SUCCESSFUL, 1, 1.0)])
    view = read_run(store, "w")
    assert view is not None
    assert view.result_text == "<the tuple (None, ValueError: boom)>"


def caught_run(store: MemoryStore) -> RunLog:
    """Return a run whose output catches exceptions."""
    catching = StepOptions(catch_exceptions=True)
    created = runs.created(runs.graph("a b:a", b=catching))
    registry.register(store, created)
    log = RunLog(store, created)
    runs.append(log, [runs.committed("a")])
    return log


def test_result_text_of_a_wait_is_a_description(store: MemoryStore) -> None:
    wait = StepSpec("w", "w", "", "m.wait", Value(), ("a", "b"), kind=StepKind.WAIT, wait=WaitOptions(1))
    created = runs.created(Graph((*runs.graph("a b").steps, wait), "w"))
    registry.register(store, created)
    decided = r.WaitDecided("w", 1, ("a",))
    runs.append(RunLog(store, created), [runs.committed("a"), decided, r.StatusChanged(S.SUCCESSFUL, 1, 1.0)])
    view = read_run(store, "w")
    assert view is not None
    assert view.result_text == "<the outcome of workflow.wait with 1 ready and 1 other steps>"


def test_staged_code_is_read_back(store: MemoryStore) -> None:
    sha = requests.stage_code(store, "w", 1, "run-1", b"zip")
    assert requests.read_code(store, "w", 1, "run-1", sha) == b"zip"


def test_staging_code_again_never_removes_a_good_copy(store: MemoryStore) -> None:
    """A process that reads it in the meantime would not find it."""
    failing = FailingStore(store)
    failing.fail("delete", times=9)
    names = {requests.stage_code(failing, "w", 1, "uuid", b"zip") for _ in range(3)}
    assert [requests.read_code(store, "w", 1, "uuid", name) for name in names] == [b"zip"]


@pytest.mark.parametrize("size", [10, 2 << 20], ids=["small", "large"])
def test_staging_code_again_replaces_a_damaged_copy(store: MemoryStore, size: int) -> None:
    code = b"x" * size
    name = requests.stage_code(store, "w", 1, "uuid", code)
    store.overwrite(keys.RunPaths("w", 1, "uuid").blob(name), code[:-1])
    with pytest.raises(CorruptLogError, match=name):
        requests.read_code(store, "w", 1, "uuid", name)
    assert requests.stage_code(store, "w", 1, "uuid", code) == name
    assert requests.read_code(store, "w", 1, "uuid", name) == code


def test_arguments_are_stored_with_the_run(store: MemoryStore) -> None:
    name = requests.stage_args(store, "w", 1, "uuid", b"{}")
    assert requests.stage_args(store, "w", 1, "uuid", b"{}") == name
    assert requests.read_args(store, "w", 1, "uuid", name) == b"{}"
    with pytest.raises(CorruptLogError):
        requests.read_args(store, "w", 1, "uuid", "0" * 64)
