"""How a garbage collection corrects the index: entries agree with the logs, and missing entries are added.

An entry is kept if the log cannot be read. What a probe left, in the index and elsewhere, is removed.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import runs
from tests.support.managers import Clock
from workflow.garbage import DAY, Collected, collect
from workflow.log import index, keys, registry
from workflow.log.blobs import Blobs
from workflow.log.keys import RunPaths
from workflow.log.registry import RegistryEntry
from workflow.log.run_log import RunLog
from workflow.model import records as r
from workflow.model.status import WorkflowStatus
from workflow.store.memory import MemoryStore
from workflow.store.port import Store
from workflow.testing.failing import FailingStore

S = WorkflowStatus
DAG = runs.graph("a")
LONG = "a pipeline of the team " * 20

RUNNING: list[r.Record] = [runs.started("a")]
RELEASED: list[r.Record] = [r.StatusChanged(S.RESUMABLE, 1, 1.0)]
SUCCESSFUL: list[r.Record] = [runs.committed("a"), r.StatusChanged(S.SUCCESSFUL, 1, 1.0)]
FAILED: list[r.Record] = [runs.failed("a"), r.StatusChanged(S.FAILED, 1, 1.0)]
RESUMED: list[r.Record] = [runs.claimed(2, retry_failed=1)]


class RecordingStore(MemoryStore):
    """Records every change, in order."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.changes: list[str] = []

    def create(self, key: str, data: object, put_id: str) -> bool:
        """Implement the port."""
        created = super().create(key, data, put_id)  # type: ignore[arg-type]
        self.changes.append(f"create {key}")
        return created

    def delete(self, key: str) -> None:
        """Implement the port."""
        super().delete(key)
        self.changes.append(f"delete {key}")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> RecordingStore:
    return RecordingStore(clock)


def make(store: Store, *segments: list[r.Record], workflow_id: str = "w", run_number: int = 1) -> RunLog:
    """Create a run without an index entry."""
    created = runs.created(DAG, workflow_id, run_number, f"{workflow_id[:9]}-{run_number}")
    registry.register(store, created)
    log = RunLog(store, created)
    runs.append(log, *segments)
    return log


def bury(store: Store, reason: str, status: WorkflowStatus = S.CANCELED, run_number: int = 1) -> RegistryEntry:
    """Write a tombstone."""
    return registry.register(store, r.Tombstone("w", run_number, status, reason, 1.0)).entry


def indexed(store: Store, workflow_id: str = "w") -> set[str]:
    """Return the statuses for which a workflow has an index entry."""
    return {status for status in S if store.head(keys.index(status, workflow_id)) is not None}


CASES: dict[str, tuple[Callable[[Store], object], str, str]] = {
    "running": (lambda store: make(store, RUNNING), "RUNNING", "RUNNING"),
    "released by its owner": (lambda store: make(store, RELEASED), "RUNNING", "RUNNING"),
    "successful": (lambda store: make(store, SUCCESSFUL), "SUCCESSFUL", "SUCCESSFUL"),
    "owner died after the last segment": (lambda store: make(store, SUCCESSFUL), "RUNNING", "SUCCESSFUL"),
    "failed, entry from before is left": (lambda store: make(store, FAILED), "RUNNING FAILED", "FAILED"),
    "resumed, late entry of the first owner": (
        lambda store: make(store, FAILED, RESUMED),
        "RUNNING FAILED",
        "RUNNING",
    ),
    "resumed, owner died after the claim": (lambda store: make(store, FAILED, RESUMED), "FAILED", "RUNNING"),
    "never created": (lambda store: None, "RUNNING", ""),
    "deleted, late entry of its owner": (
        lambda store: (make(store, SUCCESSFUL), bury(store, "Deleted", run_number=2)),
        "SUCCESSFUL",
        "",
    ),
    "abandoned": (lambda store: bury(store, "Abandoned"), "RUNNING", ""),
    "created again after a deletion": (
        lambda store: (
            make(store, SUCCESSFUL),
            bury(store, "Deleted", run_number=2),
            make(store, RUNNING, run_number=3),
        ),
        "RUNNING SUCCESSFUL",
        "RUNNING",
    ),
    "running, entry removed by a delayed call": (lambda store: make(store, RUNNING), "", "RUNNING"),
    "failed, entry removed by a delayed call": (lambda store: make(store, FAILED), "", "FAILED"),
    "deleted, some objects are left": (
        lambda store: (make(store, SUCCESSFUL), bury(store, "Deleted", run_number=2)),
        "",
        "",
    ),
    "ended before its creation": (lambda store: bury(store, "BadInput", S.FAILED), "RUNNING", "FAILED"),
}


@pytest.mark.parametrize(("write", "before", "after"), CASES.values(), ids=CASES)
def test_old_entry_is_corrected_from_the_log(
    store: RecordingStore, clock: Clock, write: Callable[[Store], object], before: str, after: str
) -> None:
    write(store)
    for status in before.split():
        index.set_status(store, "w", S(status), replaces=())
    assert collect(store) == Collected(), "within the grace time"
    clock.now += DAY + 1
    wrong = set(before.split()) - set(after.split())
    assert collect(store).index_corrected == len(wrong)
    assert indexed(store) == set(after.split())
    assert collect(store) == Collected()


def test_missing_entries_are_added_and_counted(store: RecordingStore) -> None:
    for workflow_id in ("a", "b", "c"):
        make(store, SUCCESSFUL, workflow_id=workflow_id)
    index.set_status(store, "b", S.SUCCESSFUL, replaces=())
    assert collect(store, grace=0) == Collected(index_added=2)
    assert list(index.list_ids(store, S.SUCCESSFUL)) == ["a", "b", "c"]


PARTS = st.text("ab-.%0", min_size=1, max_size=4)


@given(parts=st.sets(PARTS), entries=st.lists(st.sets(PARTS), min_size=1, max_size=3))
def test_indexed_ids_finds_missing_entries_in_one_pass(parts: set[str], entries: list[set[str]]) -> None:
    ids = index.IndexedIds([iter(sorted(each)) for each in entries])
    in_order = sorted(parts, key=lambda part: f"{part}/")
    assert [part for part in in_order if ids.contains(part)] == [
        part for part in in_order if part in set().union(*entries)
    ]


def test_indexed_ids_refuses_a_look_up_out_of_order() -> None:
    ids = index.IndexedIds([iter(["a", "a-b", "b"])])
    assert [ids.contains(part) for part in ("a-b", "a", "a", "b")] == [True] * 4, "the order of folders"
    for part in ("a", "a-b"):
        with pytest.raises(ValueError, match=f"cannot look up '{part}' after 'b/': follow the order"):
            ids.contains(part)


ENDS: dict[str, list[r.Record]] = {
    "RUNNING": RUNNING,
    "SUCCESSFUL": SUCCESSFUL,
    "FAILED": FAILED,
    "CANCELED": [r.StatusChanged(S.CANCELED, 1, 1.0)],
}


@pytest.mark.parametrize("wrong", [*ENDS, "RESUMABLE"])
@pytest.mark.parametrize("status", ENDS)
def test_each_wrong_entry_of_each_status_is_corrected(store: RecordingStore, status: str, wrong: str) -> None:
    make(store, ENDS[status])
    make(store, ENDS.get(wrong, RUNNING), workflow_id="w2")
    for workflow_id in ("w", "w2"):
        index.set_status(store, workflow_id, S(wrong), replaces=())
    collect(store, grace=0)
    assert indexed(store) == {status}
    assert indexed(store, "w2") == {wrong if wrong in ENDS else "RUNNING"}


@pytest.mark.parametrize("young", ["nothing", "a segment", "the first key", "everything"])
def test_missing_entry_is_added_after_the_grace_time(store: RecordingStore, clock: Clock, young: str) -> None:
    """Any old object of a folder is enough: a long run may write its log all the time."""
    clock.now += DAY if young == "everything" else 0
    log = make(store, RUNNING)
    log.blobs.put(b"a function")
    clock.now += DAY + 1 if young != "everything" else 1
    if young == "a segment":
        runs.append(log, [r.RequestHandled("q", 1, "done")])
    if young == "the first key":
        store.create(log.paths.blob("0" * 64), b"the first key of the folder", "1")
    assert collect(store).index_added == (young != "everything")
    assert indexed(store) == (set() if young == "everything" else {"RUNNING"})


def test_one_old_folder_of_an_id_is_enough(store: RecordingStore, clock: Clock) -> None:
    make(store, RUNNING)
    clock.now += DAY + 1
    Blobs(store, RunPaths("w", 1, "young")).put(b"a function of a driver that lost the race")
    assert collect(store).index_added == 1


def test_new_entry_is_written_before_the_old_one_is_removed(store: RecordingStore) -> None:
    make(store, SUCCESSFUL)
    index.set_status(store, "w", S.RUNNING, replaces=())
    store.changes.clear()
    collect(store, grace=0)
    assert store.changes == ["create index/SUCCESSFUL/w", "delete index/RUNNING/w"]


def test_long_id_is_read_from_registry_or_entry(store: RecordingStore) -> None:
    make(store, SUCCESSFUL, workflow_id=LONG)
    index.set_status(store, LONG, S.RUNNING, replaces=())
    never = f"{LONG} never created"
    index.set_status(store, never, S.RUNNING, replaces=())
    assert collect(store, grace=0).skipped == []
    assert (indexed(store, LONG), indexed(store, never)) == ({"SUCCESSFUL"}, set())
    assert list(index.list_ids(store, S.SUCCESSFUL)) == [LONG]


def test_entry_with_a_damaged_log_is_skipped_and_kept(store: RecordingStore) -> None:
    damaged = make(store, workflow_id="a")
    store.create(damaged.paths.segment(1), b"torn", "1")
    make(store, SUCCESSFUL, workflow_id="b")
    for workflow_id in ("a", "b"):
        index.set_status(store, workflow_id, S.RUNNING, replaces=())
    store.create("index/RUNNING/a b", b"not our object", "1")
    skipped = collect(store, grace=0).skipped
    assert [("a/runs" in text, "index/RUNNING/a b" in text) for text in skipped] == [(True, False), (False, True)]
    assert (indexed(store, "a"), indexed(store, "b")) == ({"RUNNING"}, {"SUCCESSFUL"})


def test_entry_is_kept_if_an_earlier_segment_is_damaged(store: RecordingStore) -> None:
    log = make(store, RUNNING, [r.RequestHandled("q", 1, "done")])
    index.set_status(store, "w", S.FAILED, replaces=())
    store.overwrite(log.paths.segment(1), b"torn")
    assert log.paths.segment(1) in "".join(collect(store, grace=0).skipped)
    assert indexed(store) == {"FAILED"}


def test_only_the_last_segment_of_a_finished_run_is_read(
    store: RecordingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(store, RUNNING, SUCCESSFUL)
    index.set_status(store, "w", S.SUCCESSFUL, replaces=())
    read: list[int] = []
    real = RunLog.read

    def reading(log: RunLog, seq: int) -> list[r.Record] | None:
        read.append(seq)
        return real(log, seq)

    monkeypatch.setattr(RunLog, "read", reading)
    assert collect(store, grace=0) == Collected()
    assert read == [], "the header of the last segment has the status"


# --- other processes change the run at the same time ---


def test_entry_of_a_run_resumed_during_collection_is_right(store: RecordingStore) -> None:
    log = make(store, FAILED)
    index.set_status(store, "w", S.RUNNING, replaces=())

    def resume() -> None:
        runs.append(log, RESUMED)
        index.set_status(store, "w", S.RUNNING, replaces=S)

    shared = FailingStore(store)
    shared.after_call("create", "index/FAILED/w", resume)
    collect(shared, grace=0)
    assert indexed(store) == {"RUNNING"}


def test_entry_of_a_run_created_during_collection_is_kept(store: RecordingStore) -> None:
    make(store, SUCCESSFUL)
    bury(store, "Deleted", run_number=2)
    index.set_status(store, "w", S.SUCCESSFUL, replaces=())
    shared = FailingStore(store)
    shared.after_call("delete", "index/SUCCESSFUL/w", lambda: make(store, SUCCESSFUL, run_number=3))
    collect(shared, grace=0)
    assert indexed(store) == {"SUCCESSFUL"}


def test_entry_of_a_run_begun_during_collection_is_kept(store: RecordingStore) -> None:
    bury(store, "Abandoned")
    index.set_status(store, "w", S.RUNNING, replaces=())
    # The driver stored its functions and found the entry before the entry was removed. It creates the run later.
    shared = FailingStore(store)
    shared.after_call("delete", "index/RUNNING/w", lambda: Blobs(store, RunPaths("w", 2, "begun")).put(b"a function"))
    collect(shared, grace=0)
    assert indexed(store) == {"RUNNING"}


@pytest.mark.parametrize(("age", "kept"), [(0.0, True), (DAY - 1, True), (DAY, False), (DAY + 1, False)])
def test_remains_of_a_probe_are_kept_for_the_grace_time(
    store: RecordingStore, clock: Clock, age: float, kept: bool
) -> None:
    remains = sorted(f"{prefix}{'0' * 32}" for prefix in (keys.PROBED_RUN, *keys.PROBED_FOLDERS))
    for key in remains:
        store.create(key, b"", "1")
    clock.now += age
    assert collect(store) == Collected()
    assert [info.key for info in store.list("")] == (remains if kept else [])
