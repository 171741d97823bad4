"""What is asked of a run from outside, on a memory store: end it, leave it, delete it, cancel it; and who may not."""

from __future__ import annotations

from collections.abc import Callable

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
from workflow.log.run_log import RunLog
from workflow.model import records as r
from workflow.model.run_view import Owner
from workflow.model.status import StepPhase, WorkflowStatus
from workflow.reading import read_run, status_of
from workflow.requests import Requester
from workflow.store.memory import MemoryStore
from workflow.testing.failing import FailingStore

S = WorkflowStatus
PERSON = Requester("", 0, "me")
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


def end(store: MemoryStore, actor: Requester = PERSON, status: WorkflowStatus = S.FAILED) -> S:
    view = requests.end_run(
        store, "w", run_number=1, status=status, reason="DeadlineExceeded", message="took too long", requester=actor
    )
    return view.status


def all_keys(store: MemoryStore) -> list[str]:
    return [info.key for info in store.list("")]


# --- end_run ---


def test_a_run_that_nobody_owns_is_ended_in_the_segment_of_its_claim(store: MemoryStore) -> None:
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


def test_a_run_whose_owner_lives_is_not_ended(store: MemoryStore) -> None:
    make(store)
    with pytest.raises(WorkflowInUseError, match="manager-1"):
        end(store)
    assert invariants.log_of(store, "w") == []


def test_an_object_ends_its_own_run_whether_or_not_its_owner_lives(store: MemoryStore) -> None:
    make(store, uid="u", attempt=1)
    assert end(store, Requester("u", 1, "ns/w"), S.CANCELED) is S.CANCELED


def test_an_object_does_not_end_another_objects_run(store: MemoryStore) -> None:
    make(store, uid="u", attempt=1, alive=False)
    with pytest.raises(SupersededError, match="owned by object u"):
        end(store, Requester("v", 1, "ns/w"))


def test_an_earlier_attempt_ends_nothing(store: MemoryStore) -> None:
    make(store, uid="u", attempt=2, alive=False)
    with pytest.raises(SupersededError, match="attempt 1 cannot claim workflow 'w'"):
        end(store, Requester("u", 1, "ns/w"))


def test_the_end_that_was_first_holds(store: MemoryStore) -> None:
    make(store, [runs.committed("a"), runs.committed("b"), r.StatusChanged(S.SUCCESSFUL, 1, 1.0)], alive=False)
    assert end(store) is S.SUCCESSFUL


def test_a_run_that_does_not_exist_yet_is_ended_by_a_tombstone(store: MemoryStore) -> None:
    assert end(store, status=S.CANCELED) is S.CANCELED
    late = registry.register(store, runs.created(DAG)).entry
    assert isinstance(late, r.Tombstone)
    assert late.reason == "DeadlineExceeded"
    view = read_run(store, "w")
    assert view is not None
    assert view.tombstone


# --- goodbye ---


def test_a_goodbye_leaves_the_run_resumable(store: MemoryStore) -> None:
    make(store, [runs.started("a")], uid="u", attempt=1)
    view = requests.release_run(store, "w", run_number=1, requester=Requester("u", 1, "ns/w"), reason="Suspended")
    assert status_of(store, view) is S.RESUMABLE
    assert {step.step_id: step.phase for step in view.steps}["a"] is StepPhase.READY
    again = requests.release_run(store, "w", run_number=1, requester=Requester("u", 1, "ns/w"), reason="Suspended")
    assert again.next_seq == view.next_seq
    invariants.check(store, "w")


def test_nobody_says_goodbye_for_a_run_that_is_not_there(store: MemoryStore) -> None:
    with pytest.raises(WorkflowConflictError, match="has no run 1"):
        requests.release_run(store, "w", run_number=1, requester=PERSON, reason="Suspended")


@pytest.mark.parametrize(
    "act", [end, lambda store: requests.release_run(store, "w", run_number=1, requester=PERSON, reason="Bye")]
)
def test_nothing_is_written_into_a_run_that_was_deleted(
    store: MemoryStore, act: Callable[[MemoryStore], object]
) -> None:
    make(store, [runs.started("a")], alive=False)
    requests.delete_run(store, "w", run_number=1, requester=PERSON)
    before = all_keys(store)
    with pytest.raises(SupersededError, match="was deleted or replaced"):
        act(store)
    assert all_keys(store) == before


# --- delete ---


def test_a_deleted_run_leaves_its_name_and_the_tombstone_behind_it(store: MemoryStore) -> None:
    make(store, alive=False)
    requests.delete_run(store, "w", run_number=1, requester=PERSON)
    assert all_keys(store) == [keys.registry_entry("w", 1), keys.registry_entry("w", 2)]
    stone = registry.current_entry(store, "w")
    assert isinstance(stone, r.Tombstone)
    assert stone.reason == "Deleted"


def test_what_was_still_asked_of_a_deleted_run_goes_with_it_bells_too(store: MemoryStore) -> None:
    log = make(store, [r.StatusChanged(S.CANCELED, 1, 2.0, "Asked")], alive=False)  # and its owner cleared nothing
    store.create(log.paths.request("asked"), b"{}", "1")
    store.create(keys.notification(log.created.run_uuid, "asked"), b"", "1")
    requests.delete_run(store, "w", run_number=1, requester=PERSON)
    assert all_keys(store) == [keys.registry_entry("w", 1), keys.registry_entry("w", 2)]


def test_a_run_whose_owner_lives_is_not_deleted(store: MemoryStore) -> None:
    make(store)
    before = all_keys(store)
    with pytest.raises(WorkflowInUseError):
        requests.delete_run(store, "w", run_number=1, requester=PERSON)
    assert all_keys(store) == before


@pytest.mark.parametrize("left", ["nothing", "half of the keys", "the segments only"])
def test_a_deletion_that_was_interrupted_is_finished(store: MemoryStore, left: str) -> None:
    log = make(store, [runs.started("a")], alive=False)
    requests.delete_run(store, "w", run_number=1, requester=PERSON)
    if left == "half of the keys":
        log.store.create(log.paths.segment(2), b"torn", "1")
    elif left == "the segments only":
        runs.append(log, [runs.started("a")])
    requests.delete_run(store, "w", run_number=1, requester=PERSON)
    assert all_keys(store) == [keys.registry_entry("w", 1), keys.registry_entry("w", 2)]


def test_deleting_an_old_run_leaves_the_new_one_of_its_id_alone(store: MemoryStore) -> None:
    make(store, alive=False)
    requests.delete_run(store, "w", run_number=1, requester=PERSON)
    index.set_status(store, "w", S.RUNNING, replaces=())
    registry.register(store, runs.created(DAG, run_number=3, run_uuid="third"))
    before = all_keys(store)
    requests.delete_run(store, "w", run_number=1, requester=PERSON)
    assert all_keys(store) == before


def test_deleting_what_was_never_there_writes_nothing(store: MemoryStore) -> None:
    requests.delete_run(store, "w", run_number=1, requester=PERSON)
    assert all_keys(store) == []


def test_a_tombstone_of_a_canceled_run_is_deleted_too_so_that_its_id_is_free(store: MemoryStore) -> None:
    end(store, status=S.CANCELED)
    requests.delete_run(store, "w", run_number=1, requester=PERSON)
    stone = registry.current_entry(store, "w")
    assert isinstance(stone, r.Tombstone)
    assert (stone.run_number, stone.reason) == (2, "Deleted")
    requests.delete_run(store, "w", run_number=2, requester=PERSON)
    assert registry.latest_run_number(store, "w") == 2


# --- cancel ---


def test_a_cancel_waits_in_the_inbox_and_rings_the_bell(store: MemoryStore) -> None:
    log = make(store)
    view = read_run(store, "w")
    assert view is not None
    request = requests.request_cancel(store, view, uid="u", reason="Enough")
    assert log.inbox() == [request]
    assert [info.key for info in store.list("notifications/")] == [keys.notification("run-1", request)]
    requests.withdraw(store, log.paths, request)
    assert log.inbox() == []
    assert not list(store.list("notifications/"))


def test_a_request_is_found_as_long_as_its_bell_is_there(store: MemoryStore) -> None:
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


def test_a_cancel_of_a_run_that_ended_meanwhile_leaves_nothing(store: MemoryStore) -> None:
    log = make(store)
    view = read_run(store, "w")
    assert view is not None
    runs.append(log, [r.StatusChanged(S.CANCELED, 1, 1.0)])
    requests.request_cancel(store, view, uid="", reason="Enough")
    assert log.inbox() == []
    assert not list(store.list("notifications/"))


# --- reading ---


@pytest.mark.parametrize(
    ("seconds", "status"),
    [(0.0, S.RUNNING), (29.0, S.RUNNING), (31.0, S.RESUMABLE)],
)
def test_a_run_is_resumable_once_its_owner_is_silent_by_the_stores_clock(
    store: MemoryStore, clock: Clock, seconds: float, status: WorkflowStatus
) -> None:
    make(store)
    clock.now += seconds
    view = read_run(store, "w")
    assert view is not None
    assert status_of(store, view) is status


def test_the_rendering_of_a_result_is_read_through_dynamic_steps(store: MemoryStore) -> None:
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


def test_kept_code_reads_back(store: MemoryStore) -> None:
    sha = requests.stage_code(store, "w", 1, "run-1", b"zip")
    assert requests.read_code(store, "w", 1, "run-1", sha) == b"zip"


@pytest.mark.parametrize("size", [10, 2 << 20], ids=["small", "so large that it is asked for first"])
def test_code_that_is_kept_again_takes_the_place_of_a_damaged_copy(store: MemoryStore, size: int) -> None:
    code = b"x" * size
    name = requests.stage_code(store, "w", 1, "uuid", code)
    store.overwrite(keys.RunPaths("w", 1, "uuid").blob(name), code[:-1])
    with pytest.raises(CorruptLogError, match=name):
        requests.read_code(store, "w", 1, "uuid", name)
    assert requests.stage_code(store, "w", 1, "uuid", code) == name
    assert requests.read_code(store, "w", 1, "uuid", name) == code
