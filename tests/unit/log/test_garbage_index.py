"""What a collection makes of the index: each old entry says what its log says, and stays where that cannot be read.

A run that has none gets one.
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

LIVE: list[r.Record] = [runs.started("a")]
LEFT: list[r.Record] = [r.StatusChanged(S.RESUMABLE, 1, 1.0)]
DONE: list[r.Record] = [runs.committed("a"), r.StatusChanged(S.SUCCESSFUL, 1, 1.0)]
BROKE: list[r.Record] = [runs.failed("a"), r.StatusChanged(S.FAILED, 1, 1.0)]
AGAIN: list[r.Record] = [runs.claimed(2, retry_failed=1)]


class Remembering(MemoryStore):
    """Notes what is changed, in order."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.changed: list[str] = []

    def create(self, key: str, data: object, put_id: str) -> bool:
        """See the port."""
        created = super().create(key, data, put_id)  # type: ignore[arg-type]
        self.changed.append(f"create {key}")
        return created

    def delete(self, key: str) -> None:
        """See the port."""
        super().delete(key)
        self.changed.append(f"delete {key}")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Remembering:
    return Remembering(clock)


def make(store: Store, *segments: list[r.Record], workflow_id: str = "w", run_number: int = 1) -> RunLog:
    """A run with no entry in the index."""
    created = runs.created(DAG, workflow_id, run_number, f"{workflow_id[:9]}-{run_number}")
    registry.register(store, created)
    log = RunLog(store, created)
    for seq, records in enumerate(segments, 1):
        log.append(seq, records)
    return log


def name(store: Store, reason: str, status: WorkflowStatus = S.CANCELED, run_number: int = 1) -> RegistryEntry:
    """A tombstone."""
    return registry.register(store, r.Tombstone("w", run_number, status, reason, 1.0))


def told(store: Store, workflow_id: str = "w") -> set[str]:
    """The statuses that the index says."""
    return {status for status in S if store.head(keys.index(status, workflow_id)) is not None}


CASES: dict[str, tuple[Callable[[Store], object], str, str]] = {
    "live": (lambda store: make(store, LIVE), "RUNNING", "RUNNING"),
    "left by its owner": (lambda store: make(store, LEFT), "RUNNING", "RUNNING"),
    "done": (lambda store: make(store, DONE), "SUCCESSFUL", "SUCCESSFUL"),
    "its owner died behind the end": (lambda store: make(store, DONE), "RUNNING", "SUCCESSFUL"),
    "failed, and an entry from before": (lambda store: make(store, BROKE), "RUNNING FAILED", "FAILED"),
    "resumed, and the late entry of its first owner": (
        lambda store: make(store, BROKE, AGAIN),
        "RUNNING FAILED",
        "RUNNING",
    ),
    "resumed, and its owner died behind the claim": (lambda store: make(store, BROKE, AGAIN), "FAILED", "RUNNING"),
    "never made": (lambda store: None, "RUNNING", ""),
    "deleted, and the late entry of its owner": (
        lambda store: (make(store, DONE), name(store, "Deleted", run_number=2)),
        "SUCCESSFUL",
        "",
    ),
    "forbidden": (lambda store: name(store, "Abandoned"), "RUNNING", ""),
    "made anew behind a deleted one": (
        lambda store: (make(store, DONE), name(store, "Deleted", run_number=2), make(store, LIVE, run_number=3)),
        "RUNNING SUCCESSFUL",
        "RUNNING",
    ),
    "live, and its entry was taken by a call that came late": (lambda store: make(store, LIVE), "", "RUNNING"),
    "failed, and its entry was taken": (lambda store: make(store, BROKE), "", "FAILED"),
    "deleted, and half of it is left": (
        lambda store: (make(store, DONE), name(store, "Deleted", run_number=2)),
        "",
        "",
    ),
    "ended before it began": (lambda store: name(store, "BadInput", S.FAILED), "RUNNING", "FAILED"),
}


@pytest.mark.parametrize(("log", "before", "behind"), CASES.values(), ids=CASES)
def test_an_old_entry_says_what_the_log_says(
    store: Remembering, clock: Clock, log: Callable[[Store], object], before: str, behind: str
) -> None:
    log(store)
    for status in before.split():
        index.set_status(store, "w", S(status), replaces=())
    assert collect(store) == Collected(), "within the grace time"
    clock.now += DAY + 1
    wrong = set(before.split()) - set(behind.split())
    assert collect(store).index == len(wrong)
    assert told(store) == set(behind.split())
    assert collect(store) == Collected()


def test_runs_without_an_entry_are_counted(store: Remembering) -> None:
    for workflow_id in ("a", "b", "c"):
        make(store, DONE, workflow_id=workflow_id)
    index.set_status(store, "b", S.SUCCESSFUL, replaces=())
    assert collect(store, grace=0) == Collected(unlisted=2)
    assert list(index.list_ids(store, S.SUCCESSFUL)) == ["a", "b", "c"]


PARTS = st.text("ab-.%0", min_size=1, max_size=4)


@given(parts=st.sets(PARTS), entries=st.lists(st.sets(PARTS), min_size=1, max_size=3))
def test_what_has_no_entry_is_found_in_one_pass_in_the_order_of_the_store(
    parts: set[str], entries: list[set[str]]
) -> None:
    listed = index.IndexedIds([iter(sorted(each)) for each in entries])
    in_order = sorted(parts, key=lambda part: f"{part}/")
    assert [part for part in in_order if listed.contains(part)] == [
        part for part in in_order if part in set().union(*entries)
    ]


def test_an_entry_is_replaced_before_it_goes(store: Remembering) -> None:
    make(store, DONE)
    index.set_status(store, "w", S.RUNNING, replaces=())
    store.changed.clear()
    collect(store, grace=0)
    assert store.changed == ["create index/SUCCESSFUL/w", "delete index/RUNNING/w"]


def test_a_long_id_is_known_by_its_name_or_by_the_entry(store: Remembering) -> None:
    make(store, DONE, workflow_id=LONG)
    index.set_status(store, LONG, S.RUNNING, replaces=())
    never = f"{LONG} never made"
    index.set_status(store, never, S.RUNNING, replaces=())
    assert collect(store, grace=0).left == []
    assert (told(store, LONG), told(store, never)) == ({"SUCCESSFUL"}, set())
    assert list(index.list_ids(store, S.SUCCESSFUL)) == [LONG]


def test_an_entry_whose_log_is_damaged_stays_and_keeps_no_other(store: Remembering) -> None:
    damaged = make(store, workflow_id="a")
    store.create(damaged.paths.segment(1), b"torn", "1")
    make(store, DONE, workflow_id="b")
    for workflow_id in ("a", "b"):
        index.set_status(store, workflow_id, S.RUNNING, replaces=())
    store.create("index/RUNNING/a b", b"no part of ours", "1")
    left = collect(store, grace=0).left
    assert [("a/runs" in text, "index/RUNNING/a b" in text) for text in left] == [(True, False), (False, True)]
    assert (told(store, "a"), told(store, "b")) == ({"RUNNING"}, {"SUCCESSFUL"})


def test_a_long_log_is_not_read_to_its_end(store: Remembering, monkeypatch: pytest.MonkeyPatch) -> None:
    make(store, LIVE, DONE)
    index.set_status(store, "w", S.SUCCESSFUL, replaces=())
    read: list[int] = []
    real = RunLog.read

    def reading(log: RunLog, seq: int) -> list[r.Record] | None:
        read.append(seq)
        return real(log, seq)

    monkeypatch.setattr(RunLog, "read", reading)
    assert collect(store, grace=0) == Collected()
    assert read == [2]


# --- beside those whose entries they are ---


def test_a_run_that_is_resumed_at_that_moment_is_told_of(store: Remembering) -> None:
    log = make(store, BROKE)
    index.set_status(store, "w", S.RUNNING, replaces=())

    def resumed() -> None:
        log.append(2, AGAIN)
        index.set_status(store, "w", S.RUNNING, replaces=S)

    shared = FailingStore(store)
    shared.after_call("create", "index/FAILED/w", resumed)
    collect(shared, grace=0)
    assert told(store) == {"RUNNING"}


def test_a_run_that_ends_at_that_moment_is_told_of(store: Remembering) -> None:
    make(store, DONE)
    name(store, "Deleted", run_number=2)
    index.set_status(store, "w", S.SUCCESSFUL, replaces=())
    shared = FailingStore(store)
    shared.after_call("delete", "index/SUCCESSFUL/w", lambda: make(store, DONE, run_number=3))
    collect(shared, grace=0)
    assert told(store) == {"SUCCESSFUL"}


def test_a_run_that_is_begun_at_that_moment_is_told_of(store: Remembering) -> None:
    name(store, "Abandoned")
    index.set_status(store, "w", S.RUNNING, replaces=())
    # Its functions were stored, and its entry found to be there, before that one went; its name is written later.
    shared = FailingStore(store)
    shared.after_call("delete", "index/RUNNING/w", lambda: Blobs(store, RunPaths("w", 2, "begun")).put(b"a function"))
    collect(shared, grace=0)
    assert told(store) == {"RUNNING"}
