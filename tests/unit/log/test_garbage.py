"""What a garbage collection removes, and what it keeps, on a memory store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TypeVar

import pytest

from tests.support import runs
from tests.support.managers import Clock
from tests.support.stored import in_memory
from workflow import requests
from workflow.errors import InvalidInputError, StoreUnavailableError
from workflow.garbage import DAY, Collected, FolderDecision, collect, decide_folder
from workflow.log import index, keys, owned, registry
from workflow.log.blobs import Blobs
from workflow.log.keys import RunPaths
from workflow.log.owned import OwnedRun
from workflow.log.registry import RegistryEntry
from workflow.log.run_log import RunLog
from workflow.model import records as r
from workflow.model.status import WorkflowStatus
from workflow.model.totals import totals_of
from workflow.reading import read_run
from workflow.requests import Requester
from workflow.store.memory import MemoryStore
from workflow.store.port import Data, ObjectInfo, Store

T = TypeVar("T")
S = WorkflowStatus
USER = Requester("", 0, "me")
DAG = runs.graph("a b:a")
THIS_RUN, OTHER_RUN = runs.created(DAG), runs.created(DAG, run_uuid="other")
LONG = "a pipeline of the team " * 20

RUNNING: list[r.Record] = [runs.started("a")]
SUCCESSFUL: list[r.Record] = [runs.committed("a"), runs.committed("b"), r.StatusChanged(S.SUCCESSFUL, 1, 1.0)]
FAILED: list[r.Record] = [
    runs.failed("a"),
    r.StepCanceled("b", 1, "a failed"),
    r.StatusChanged(S.FAILED, 1, 1.0, "StepFailed"),
]


def tombstone(reason: str, run_number: int = 1) -> r.Tombstone:
    return r.Tombstone("w", run_number, S.CANCELED, reason, 1.0)


@pytest.mark.parametrize(
    ("run_number", "latest", "entry", "expected"),
    [
        pytest.param(1, 1, THIS_RUN, FolderDecision.KEEP, id="run that the id names"),
        pytest.param(1, 1, OTHER_RUN, FolderDecision.REMOVE, id="another run has the number"),
        pytest.param(1, 1, tombstone("Canceled"), FolderDecision.REMOVE, id="a tombstone has the number"),
        pytest.param(1, 1, tombstone("Abandoned"), FolderDecision.REMOVE, id="abandoned by an earlier collection"),
        pytest.param(1, 2, tombstone("Deleted", 2), FolderDecision.REMOVE, id="deleted"),
        pytest.param(1, 2, runs.created(DAG, run_number=2), FolderDecision.REMOVE, id="replaced"),
        pytest.param(1, 0, None, FolderDecision.ABANDON, id="begun, never created"),
        pytest.param(2, 1, tombstone("Deleted"), FolderDecision.ABANDON, id="begun after a deleted run"),
        pytest.param(2, 1, tombstone("Abandoned"), FolderDecision.ABANDON, id="begun after an abandoned run"),
        pytest.param(2, 1, THIS_RUN, FolderDecision.KEEP, id="a tombstone would hide the run before"),
        pytest.param(2, 1, tombstone("Canceled"), FolderDecision.KEEP, id="a tombstone would hide why no run exists"),
        pytest.param(3, 1, tombstone("Deleted"), FolderDecision.KEEP, id="the number before is free"),
    ],
)
def test_decide_folder(run_number: int, latest: int, entry: RegistryEntry | None, expected: FolderDecision) -> None:
    assert decide_folder(run_number, "run-1", latest, entry) is expected


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return MemoryStore(clock=clock)


def make(store: Store, *segments: list[r.Record], workflow_id: str = "w", run_number: int = 1) -> RunLog:
    """A run as its manager m1 leaves it: owned object, index entry, registry entry, function and log."""
    created = runs.created(DAG, workflow_id, run_number, f"{workflow_id}-{run_number}")
    note(store, created)
    index.set_status(store, workflow_id, S.RUNNING, replaces=())
    assert registry.register(store, created).entry == created
    log = RunLog(store, created)
    log.blobs.put(b"a function")
    for records in segments:
        runs.append(log, records)
        if isinstance(records[-1], r.StatusChanged):
            index.set_status(store, workflow_id, records[-1].status, replaces=(S.RUNNING,))
    return log


def note(store: Store, created: r.Created, manager: str = "m1") -> None:
    owned.add(store, manager, OwnedRun(created.workflow_id, created.run_number, created.run_uuid))


def begin(store: Store, workflow_id: str = "w", run_number: int = 1, run_uuid: str = "begun") -> None:
    """Store what a driver stores before it creates its run."""
    Blobs(store, RunPaths(workflow_id, run_number, run_uuid)).put(b"a function")


def keys_of(store: Store, prefix: str = "") -> list[str]:
    return [info.key for info in store.list(prefix)]


def changes(store: MemoryStore, clock: Clock, act: Callable[[], object]) -> tuple[set[str], set[str]]:
    """Let a day pass, act, and return the removed and the added keys. No other object may change."""
    clock.now += DAY + 1
    before = in_memory(store)
    act()
    after = in_memory(store)
    assert {key: after[key] for key in before if key in after} == {
        key: data for key, data in before.items() if key in after
    }
    return set(before) - set(after), set(after) - set(before)


# --- run folders ---


def test_old_run_that_its_id_names_is_kept(store: MemoryStore, clock: Clock) -> None:
    make(store, RUNNING)
    make(store, SUCCESSFUL, workflow_id="successful")
    make(store, FAILED, workflow_id="failed")
    removed, added = changes(store, clock, lambda: collect(store))
    assert (removed, added) == ({"owned/m1/successful-1"}, set())


def test_objects_written_late_to_a_deleted_run_are_removed(store: MemoryStore, clock: Clock) -> None:
    late = make(store, RUNNING)
    requests.delete_run(store, "w", run_number=1, requester=USER)
    late.store_segment(late.seal(3, [runs.committed("a")], totals_of(late.begin())))
    late.blobs.put(b"a value")
    make(store, SUCCESSFUL, run_number=3)
    left = set(keys_of(store, late.paths.folder))
    assert len(left) == 2
    removed, added = changes(store, clock, lambda: collect(store))
    assert (removed, added) == ({*left, "owned/m1/w-1", "owned/m1/w-3"}, set())


def test_run_never_created_gets_a_tombstone_and_loses_its_folder(store: MemoryStore, clock: Clock) -> None:
    begin(store)
    clock.now += DAY + 1
    collected = collect(store)
    assert (collected.runs, collected.objects, collected.abandoned) == (1, 1, 1)
    assert keys_of(store) == [keys.registry_entry("w", 1)]
    registered = registry.register(store, runs.created(DAG, run_uuid="begun")).entry
    assert isinstance(registered, r.Tombstone)
    assert registered.reason == "Abandoned"


class RaceStore(MemoryStore):
    """Lets another process act right before the first write of a registry entry."""

    rival: Callable[[], object] | None = None

    def create(self, key: str, data: Data, put_id: str) -> bool:
        """Implement the port."""
        if "/registry/" in key and self.rival is not None:
            rival, self.rival = self.rival, None
            rival()
        return super().create(key, data, put_id)


@pytest.mark.parametrize("uuid", ["begun", "other"], ids=["the same run", "another run"])
def test_driver_that_creates_its_run_first_keeps_its_folder(clock: Clock, uuid: str) -> None:
    store = RaceStore(clock=clock)
    begin(store)
    clock.now += DAY + 1
    store.rival = lambda: registry.register(store, runs.created(DAG, run_uuid=uuid))
    collected = collect(store)
    entry = registry.current_entry(store, "w")
    assert isinstance(entry, r.Created)
    assert entry.run_uuid == uuid
    assert collected.abandoned == 0
    assert bool(keys_of(store, keys.runs("w"))) is (uuid == "begun")


def test_folder_of_run_that_lost_its_number_is_removed(store: MemoryStore, clock: Clock) -> None:
    make(store, RUNNING)
    begin(store, run_uuid="slower")
    removed, added = changes(store, clock, lambda: collect(store))
    assert all(key.startswith("workflows/w/runs/1-slower/") for key in removed)
    assert len(removed) == 1
    assert not added


def test_folder_begun_after_a_run_is_kept_until_its_deletion(store: MemoryStore, clock: Clock) -> None:
    make(store, SUCCESSFUL)
    begin(store, run_number=2)
    removed, added = changes(store, clock, lambda: collect(store))
    assert (removed, added) == ({"owned/m1/w-1"}, set())
    view = read_run(store, "w")
    assert view is not None
    assert view.status is S.SUCCESSFUL
    requests.delete_run(store, "w", run_number=1, requester=USER)
    collect(store)
    assert not keys_of(store, keys.runs("w"))


def test_replaced_run_is_removed_and_read_as_abandoned(store: MemoryStore, clock: Clock) -> None:
    make(store, RUNNING)
    make(store, RUNNING, run_number=2)
    clock.now += DAY + 1
    collected = collect(store)
    assert collected.runs == 1
    assert not keys_of(store, f"{keys.runs('w')}1-")
    first, second = read_run(store, "w", 1), read_run(store, "w", 2)
    assert first is not None
    assert (first.tombstone, first.reason) == (True, "Abandoned")
    assert second is not None
    assert second.status is S.RUNNING


def test_objects_within_the_grace_time_are_kept(store: MemoryStore, clock: Clock) -> None:
    successful = make(store, SUCCESSFUL, workflow_id="successful")
    owned.remove(store, "m1", "successful-1")
    begin(store)
    clock.now += DAY + 1
    store.create(RunPaths("w", 1, "begun").blob("f" * 64), b"another function", "1")
    begin(store, run_uuid="young")
    note(store, runs.created(DAG, workflow_id="noted"))
    store.create(successful.paths.request("request"), b"{}", "1")
    store.create(keys.notification("successful-1", "request"), b"", "1")
    before = keys_of(store)
    assert collect(store) == Collected()
    assert keys_of(store) == before


def test_negative_grace_time_is_refused(store: MemoryStore) -> None:
    with pytest.raises(InvalidInputError, match="-1 seconds"):
        collect(store, grace=-1)


@pytest.mark.parametrize("known_by", ["registry", "index", "nothing"])
def test_long_id_is_read_from_registry_or_index(store: MemoryStore, clock: Clock, known_by: str) -> None:
    begin(store, LONG)
    if known_by == "registry":
        registry.register(store, runs.created(DAG, LONG))
    if known_by == "index":
        index.set_status(store, LONG, S.RUNNING, replaces=())
    clock.now += DAY + 1
    collected = collect(store)
    left = keys_of(store, keys.runs(LONG))
    if known_by == "nothing":
        assert len(left) == 1
        assert "no object records its workflow id" in collected.skipped[0]
    else:
        assert (collected.runs, left, collected.skipped) == (1, [], [])


def test_damaged_and_foreign_objects_are_skipped(store: MemoryStore, clock: Clock) -> None:
    begin(store, "a")
    store.create(keys.registry_entry("a", 1), b"no registry entry", "1")
    begin(store, "b")
    store.create("owned/m1/run-1", b"no run", "1")
    store.create("workflows/b/notes.txt", b"a note", "1")
    store.create("workflows/notes.txt", b"a note", "1")
    store.create("workflows/a b/runs/1-x/log/1", b"not our object", "1")
    clock.now += DAY + 1
    collected = collect(store)
    assert len(collected.skipped) == 3
    assert [keys.registry_entry("a", 1) in text for text in collected.skipped] == [False, True, False]
    assert collected.runs == 1
    assert not keys_of(store, keys.runs("b"))
    assert len(keys_of(store)) == 7


# --- managers, requests and notifications ---


@pytest.mark.parametrize(
    ("records", "kept"), [(RUNNING, True), (FAILED, True), (SUCCESSFUL, False)], ids=["running", "failed", "successful"]
)
def test_heartbeat_is_kept_while_its_manager_may_own_a_run(
    store: MemoryStore, clock: Clock, records: list[r.Record], kept: bool
) -> None:
    make(store, records)
    store.overwrite(keys.heartbeat("m1"), b"")
    clock.now += DAY + 1
    store.overwrite(keys.heartbeat("m2"), b"")
    collect(store)
    assert keys_of(store, keys.OWNED) == (["owned/m1/w-1"] if kept else [])
    assert keys_of(store, keys.MANAGERS) == [*(["managers/m1"] if kept else []), "managers/m2"]


def test_heartbeat_that_has_not_expired_is_kept(store: MemoryStore, clock: Clock) -> None:
    store.overwrite(keys.heartbeat("m1"), b"")
    clock.now += 30
    assert collect(store, grace=0).managers == 0
    clock.now += 1
    assert collect(store, grace=0).managers == 1


def test_owned_object_of_a_run_never_created_is_removed(store: MemoryStore, clock: Clock) -> None:
    note(store, runs.created(DAG))
    clock.now += DAY + 1
    collected = collect(store)
    assert (collected.abandoned, collected.owned) == (1, 1)
    assert keys_of(store) == [keys.registry_entry("w", 1)]


@pytest.mark.parametrize(
    ("records", "kept"),
    [(RUNNING, True), (FAILED, False), (SUCCESSFUL, False)],
    ids=["running", "failed", "successful"],
)
def test_request_is_kept_until_its_run_is_finished(
    store: MemoryStore, clock: Clock, records: list[r.Record], kept: bool
) -> None:
    log = make(store)
    view = read_run(store, "w")
    assert view is not None
    request = requests.request_cancel(store, view, uid="", reason="")
    runs.append(log, records)  # if the run is finished here, its manager died before it read the inbox
    clock.now += DAY + 1
    assert collect(store).requests == (0 if kept else 1)
    assert log.inbox() == ([request] if kept else [])
    assert bool(keys_of(store, keys.NOTIFICATIONS)) is kept


def test_notification_without_a_request_is_removed(store: MemoryStore, clock: Clock) -> None:
    make(store, RUNNING)
    store.create(keys.notification("w-1", "withdrawn"), b"", "1")
    clock.now += DAY + 1
    store.create(keys.notification("w-1", "young"), b"", "2")
    assert collect(store).notifications == 1
    assert keys_of(store, keys.NOTIFICATIONS) == [keys.notification("w-1", "young")]


@pytest.mark.parametrize("old", ["first", "last", "none"])
def test_requests_are_withdrawn_if_any_is_old(store: MemoryStore, clock: Clock, old: str) -> None:
    log = make(store, SUCCESSFUL)
    owned.remove(store, "m1", "w-1")
    names = {"first": ("a", "b"), "last": ("b", "a"), "none": ("", "a")}[old]
    for name in names:
        if name:
            store.create(log.paths.request(name), b"{}", "1")
            store.create(keys.notification("w-1", name), b"", "1")
        clock.now += DAY + 1 if name == names[0] else 0
    assert collect(store).requests == (0 if old == "none" else 2)
    assert len(keys_of(store, keys.NOTIFICATIONS)) == len(log.inbox()) == (1 if old == "none" else 0)


def test_heartbeat_of_each_manager_with_a_run_is_kept(store: MemoryStore, clock: Clock) -> None:
    for number in (1, 2, 3):
        note(store, make(store, RUNNING, workflow_id=f"w{number}").created, manager=f"m{number}")
        store.overwrite(keys.heartbeat(f"m{number}"), b"")
    store.overwrite(keys.heartbeat("m4"), b"")
    clock.now += DAY + 1
    assert collect(store).managers == 1
    assert keys_of(store, keys.MANAGERS) == [f"managers/m{number}" for number in (1, 2, 3)]


def test_heartbeat_of_a_manager_with_a_young_record_is_kept(store: MemoryStore, clock: Clock) -> None:
    store.overwrite(keys.heartbeat("m1"), b"")
    clock.now += DAY + 1
    note(store, make(store, SUCCESSFUL).created)
    assert collect(store).managers == 0
    assert keys_of(store, keys.OWNED) == ["owned/m1/w-1"]


@pytest.mark.parametrize("status", [S.SUCCESSFUL, S.FAILED, S.CANCELED])
def test_owned_record_is_kept_while_the_run_may_be_claimed(
    store: MemoryStore, clock: Clock, status: WorkflowStatus
) -> None:
    ends: list[r.Record] = [runs.committed("a"), runs.committed("b"), r.StatusChanged(status, 1, 1.0)]
    make(store, ends)
    clock.now += DAY + 1
    assert collect(store).owned == (status is not S.FAILED)
    assert keys_of(store, keys.OWNED) == (["owned/m1/w-1"] if status is S.FAILED else [])


# --- everything together ---


def clutter(store: Store) -> None:
    """Write every kind of garbage, and three runs that must be kept."""
    for workflow_id, records in {"running": RUNNING, "successful": SUCCESSFUL, "failed": FAILED}.items():
        make(store, records, workflow_id=workflow_id)
    make(store, RUNNING, workflow_id="deleted")
    requests.delete_run(store, "deleted", run_number=1, requester=USER)
    begin(store, "deleted", run_uuid="deleted-1")
    begin(store, "deleted", run_number=3)
    begin(store, "never", run_number=1)
    begin(store, "successful", run_uuid="slower")
    store.create(RunPaths("never", 1, "begun").request("request"), b"{}", "1")
    store.create(keys.notification("begun", "request"), b"", "1")
    store.create(keys.notification("unknown", "request"), b"", "1")
    index.set_status(store, "failed", S.SUCCESSFUL, replaces=())
    index.set_status(store, "successful", S.RUNNING, replaces=S)
    for workflow_id in ("deleted", "never"):
        index.set_status(store, workflow_id, S.RUNNING, replaces=())
        index.set_status(store, workflow_id, S.FAILED, replaces=())
    for manager in ("m0", "m1"):
        store.overwrite(keys.heartbeat(manager), b"")


def test_a_second_collection_finds_nothing(store: MemoryStore, clock: Clock) -> None:
    clutter(store)
    clock.now += DAY + 1
    first = collect(store)
    assert (first.runs, first.abandoned, first.notifications, first.managers, first.index_corrected) == (4, 2, 1, 1, 6)
    assert collect(store) == Collected()


def countable(store: Store, name: str) -> None:
    """Write garbage of each kind that a collection counts, under ids that begin with a name."""
    finished = make(store, SUCCESSFUL, workflow_id=f"{name}-successful")
    store.create(finished.paths.request("request"), b"{}", "1")
    index.set_status(store, f"{name}-successful", S.RUNNING, replaces=())
    make(store, RUNNING, workflow_id=f"{name}-unlisted")
    index.remove(store, f"{name}-unlisted")
    begin(store, f"{name}-never")
    begin(store, f"{name}-damaged")
    store.create(keys.registry_entry(f"{name}-damaged", 1), b"no registry entry", "1")
    store.create(keys.notification(f"{name}-unknown", "request"), b"", "1")
    store.overwrite(keys.heartbeat(f"{name}-gone"), b"")


def test_counts_of_a_collection_are_sums(clock: Clock) -> None:
    counts = []
    for names in (["a"], ["a", "b", "c"]):
        store = MemoryStore(clock=clock)
        for name in names:
            countable(store, name)
        clock.now += DAY  # exactly the grace time
        collected = asdict(collect(store))
        counts.append({field: value if isinstance(value, int) else len(value) for field, value in collected.items()})
    one, three = counts
    assert all(one.values()), one
    assert three == {field: 3 * count for field, count in one.items()}


class UnavailableOnce(MemoryStore):
    """A store that fails one call, given by its number.

    Attributes:
        calls: how many calls were made.
        failing_call: number of the call that fails; -1 for none.
        takes_effect: whether the failing call changes the store before it fails.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.calls, self.failing_call, self.takes_effect = 0, -1, False

    def create(self, key: str, data: Data, put_id: str) -> bool:
        """Implement the port."""
        return self._call(lambda: super(UnavailableOnce, self).create(key, data, put_id))

    def get(self, key: str) -> bytes | None:
        """Implement the port."""
        return self._call(lambda: super(UnavailableOnce, self).get(key))

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        """Implement the port."""
        for info in super().list(prefix, start_after):
            yield self._call(lambda info=info: info)  # type: ignore[misc]

    def delete(self, key: str) -> None:
        """Implement the port."""
        self._call(lambda: super(UnavailableOnce, self).delete(key))

    def _call(self, call: Callable[[], T]) -> T:
        self.calls += 1
        if self.calls != self.failing_call:
            return call()
        if self.takes_effect:
            call()
        raise StoreUnavailableError("this call fails")


def cluttered(clock: Clock) -> UnavailableOnce:
    store = UnavailableOnce(clock)
    clutter(store)
    clock.now += DAY + 1
    return store


@pytest.mark.parametrize("takes_effect", [False, True], ids=["lost call", "lost reply"])
def test_next_collection_finishes_one_that_failed_at_any_call(clock: Clock, takes_effect: bool) -> None:
    whole = cluttered(clock)
    calls_before = whole.calls
    collect(whole)
    assert whole.calls > calls_before + 50
    for failing_call in range(calls_before + 1, whole.calls + 1):
        store = cluttered(clock)
        store.failing_call, store.takes_effect = failing_call, takes_effect
        with pytest.raises(StoreUnavailableError):
            collect(store)
        collect(store)
        assert keys_of(store) == keys_of(whole), failing_call
