"""The log of one run: replay, snapshots, catching up, and blobs that are missing or damaged."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support import runs
from tests.support.runs import committed, expanded, started
from tests.support.strict import StrictStore
from workflow.errors import CorruptLogError, StoreUnavailableError, SupersededError
from workflow.log import registry
from workflow.log.blobs import INLINE_LIMIT
from workflow.log.run_log import RunLog
from workflow.model import snapshot
from workflow.model.records import Tombstone
from workflow.model.status import WorkflowStatus
from workflow.reading import Follower
from workflow.store.memory import MemoryStore
from workflow.testing.failing import FailingStore

DAG = runs.graph("a b:a c:b")


@pytest.fixture
def log() -> RunLog:
    store = StrictStore()
    created = runs.created(DAG)
    registry.register(store, created)
    return RunLog(store, created)


def test_a_run_without_segments_is_in_its_first_state(log: RunLog) -> None:
    state = log.replay()
    assert (state.seq, state.epoch, set(state.ready)) == (0, 1, {"a"})


def test_replay_reads_the_newest_snapshot_and_the_tail(log: RunLog) -> None:
    runs.append(log, [committed("a")])
    log.write_snapshot(1, snapshot.compact(log.replay()))
    runs.append(log, [committed("b")])
    log.write_snapshot(2, snapshot.compact(log.replay()))
    runs.append(log, [started("c")])
    whole = runs.picture(log.replay())
    for seq in (1, 2):  # segments that a snapshot includes are not read
        log.store.overwrite(log.paths.segment(seq), b"not read")
    log.store.overwrite(log.paths.snapshot(1), b"not read")
    assert runs.picture(log.replay()) == whole


def test_reading_a_run_that_is_being_deleted_is_superseded(log: RunLog) -> None:
    runs.append(log, [committed("a")])
    log.write_snapshot(1, snapshot.compact(log.replay()))
    reading = RunLog(FailingStore(log.store), log.created)
    assert isinstance(reading.store, FailingStore)

    def delete() -> None:
        registry.register(log.store, Tombstone("w", 2, WorkflowStatus.CANCELED, "Deleted", 1.0))
        log.store.delete(log.paths.snapshot(1))

    reading.store.after_call("list", log.paths.snapshots, delete)
    with pytest.raises(SupersededError, match="was deleted or replaced"):
        reading.replay()


def test_a_listed_snapshot_that_is_missing_is_reported(log: RunLog) -> None:
    runs.append(log, [committed("a")])
    log.write_snapshot(1, snapshot.compact(log.replay()))
    key = log.paths.snapshot(1)
    store = FailingStore(log.store)
    store.after_call("list", log.paths.snapshots, lambda: log.store.delete(key))
    with pytest.raises(CorruptLogError, match=f"{key} is missing, but the store lists it") as caught:
        RunLog(store, log.created).replay()
    assert caught.value.fields == {"key": key, "missing": True}


def test_present_state_is_caught_up_from_an_older_one(log: RunLog) -> None:
    known = log.now(None)
    runs.append(log, [committed("a")])
    assert log.now(known) is known
    assert runs.picture(known) == runs.picture(log.now(None))
    assert known.seq == 1


@pytest.mark.parametrize("what", ["segment", "snapshot"])
def test_damage_is_reported_with_its_key(log: RunLog, what: str) -> None:
    runs.append(log, [committed("a")])
    log.write_snapshot(1, snapshot.compact(log.replay()))
    runs.append(log, [committed("b")])
    key = log.paths.segment(2) if what == "segment" else log.paths.snapshot(1)
    data = log.store.get(key)
    assert data is not None
    log.store.overwrite(key, data[:-7])
    with pytest.raises(CorruptLogError) as caught:
        log.replay()
    assert key in str(caught.value)
    assert caught.value.key == key  # type: ignore[attr-defined]


@pytest.mark.parametrize("read", [RunLog.replay, RunLog.newest_totals], ids=["replay", "totals"])
def test_a_segment_in_the_slot_of_another_is_damage(log: RunLog, read: Callable[[RunLog], object]) -> None:
    """As after a restore that put objects under wrong keys."""
    runs.append(log, [started("a")])
    data = log.store.get(log.paths.segment(1))
    assert data is not None
    log.store.create(log.paths.segment(2), data, "1")
    with pytest.raises(CorruptLogError, match="holds segment 1 of run run-1") as caught:
        read(log)
    assert caught.value.fields == {"key": log.paths.segment(2)}


def test_catching_up_folds_all_new_segments(log: RunLog) -> None:
    state = log.replay()
    assert not log.catch_up(state)
    runs.append(log, [committed("a")])
    runs.append(log, [committed("b")])
    assert log.catch_up(state)
    assert state.seq == 2


@pytest.mark.parametrize(
    ("size", "inline"), [(0, True), (INLINE_LIMIT, True), (INLINE_LIMIT + 1, False), (3_000_000, False)]
)
def test_large_values_are_stored_as_blobs(log: RunLog, size: int, inline: bool) -> None:
    kept = log.blobs.store_value(b"x" * size)
    assert (kept.inline is not None) == inline
    assert kept.size == size
    loaded = log.blobs.load_value(kept)
    assert (loaded if isinstance(loaded, bytes) else loaded.view) == b"x" * size


def test_the_same_bytes_are_one_blob(log: RunLog) -> None:
    assert log.blobs.store_value(b"y" * 2_000_000) == log.blobs.store_value(b"y" * 2_000_000)
    assert len([info for info in log.store.list("workflows/") if "/blobs/" in info.key]) == 1


def test_a_missing_or_altered_blob_is_reported_with_its_key(log: RunLog) -> None:
    value = log.blobs.store_value(b"z" * 100_000)
    reads: tuple[Callable[[str], object], ...] = (log.blobs.get, log.blobs.fetch)
    for read in reads:
        log.store.overwrite(log.paths.blob(value.blob), b"altered")
        with pytest.raises(CorruptLogError, match=value.blob) as caught:
            read(value.blob)
        assert caught.value.key == log.paths.blob(value.blob)  # type: ignore[attr-defined]
        log.store.delete(log.paths.blob(value.blob))
        with pytest.raises(CorruptLogError, match="missing, but the log names it"):
            read(value.blob)


def test_a_large_dag_is_stored_as_a_blob_and_folded_from_it(log: RunLog) -> None:
    wide = runs.graph(" ".join(f"a/{i}" for i in range(2_000)))
    inline, blob = log.blobs.store_graph(wide)
    assert inline is None
    record = expanded("a", wide)
    runs.append(log, [type(record)(record.step_id, 1, None, blob)])
    assert len(log.replay().steps) == 2_003


def test_a_run_whose_dag_is_a_blob_is_replayed_from_it() -> None:
    store = MemoryStore()
    dag = runs.graph("a b:a c:b " + " ".join(f"s{i}:c" for i in range(500)))
    inline, blob = RunLog(store, runs.created(DAG)).blobs.store_graph(dag)
    assert inline is None
    assert len(RunLog(store, runs.created(DAG, graph=None, graph_blob=blob)).replay().steps) == 503


def test_an_outage_during_a_fold_folds_no_part_of_the_segment(log: RunLog) -> None:
    _, blob = log.blobs.store_graph(runs.graph(" ".join(f"a/{i}" for i in range(2_000))))
    runs.append(log, [started("a"), type(expanded("a", DAG))("a", 1, None, blob)])
    store = FailingStore(log.store)
    shaky = RunLog(store, log.created)
    state = shaky.begin()
    store.fail("get", key="/blobs/")
    with pytest.raises(StoreUnavailableError):
        shaky.catch_up(state)
    shaky.catch_up(state)
    assert runs.picture(state) == runs.picture(log.replay())


def test_a_follower_returns_the_same_object_until_a_change(log: RunLog) -> None:
    follower = Follower(log.store, "w")
    first = follower.poll()
    assert follower.poll() is first
    runs.append(log, [committed("a")])
    second = follower.poll()
    assert second is not first
    assert second is not None
    assert second.counts.succeeded == 1


def test_a_follower_finds_a_run_that_is_created_later() -> None:
    store = MemoryStore()
    follower = Follower(store, "w")
    assert follower.poll() is None
    registry.register(store, runs.created(DAG))
    view = follower.poll()
    assert view is not None
    assert view.run_uuid == "run-1"
