"""The registry: one PUT creates a run or forbids it. Also index entries and the runs that a manager may own."""

from __future__ import annotations

import json
import threading

import pytest

from tests.support import runs
from tests.support.failpoints import CallAt, Dies, die
from tests.support.interleaving import InterleavedStore
from workflow.errors import CorruptLogError, SupersededError
from workflow.log import failpoints, index, keys, owned, registry, segments
from workflow.log.blobs import Blobs
from workflow.log.run_log import RunLog
from workflow.model.records import Created, Record, Tombstone
from workflow.model.run_view import Owner
from workflow.model.status import WorkflowStatus
from workflow.store.memory import MemoryStore
from workflow.store.port import Data

DAG = runs.graph("a")
S = WorkflowStatus


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def stone(n: int, reason: str = "Deleted", workflow_id: str = "w") -> Tombstone:
    return Tombstone(workflow_id, n, S.CANCELED, reason, 1.0)


def test_an_unused_id_has_no_entry(store: MemoryStore) -> None:
    assert registry.latest_run_number(store, "w") == 0
    assert registry.current_entry(store, "w") is None
    assert registry.read_entry(store, "w", 1) is None
    assert not list(store.list(""))


def test_the_highest_entry_counts(store: MemoryStore) -> None:
    for named in (runs.created(DAG), stone(2), runs.created(DAG, run_number=3, run_uuid="third")):
        registry.register(store, named)
    assert registry.latest_run_number(store, "w") == 3
    current = registry.current_entry(store, "w")
    assert isinstance(current, Created)
    assert current.run_uuid == "third"


def test_ids_with_a_common_beginning_are_separate(store: MemoryStore) -> None:
    registry.register(store, runs.created(DAG, "w"))
    assert registry.current_entry(store, "w2") is None
    assert registry.current_entry(store, "w/names") is None


@pytest.mark.parametrize("rival", [runs.created(DAG, run_uuid="rival"), stone(1)], ids=["a run", "a tombstone"])
def test_the_second_writer_gets_the_entry_of_the_first(store: MemoryStore, rival: Created | Tombstone) -> None:
    first = CallAt(failpoints.BEFORE_REGISTER, lambda: registry.register(store, rival))
    assert registry.register(store, runs.created(DAG), first) == registry.Registration(rival, created=False)


def test_of_eight_writers_exactly_one_wins(store: MemoryStore) -> None:
    gate = threading.Barrier(8)
    seen: list[object] = []

    def contend(number: int) -> None:
        mine = runs.created(DAG, run_uuid=f"run-{number}")
        gate.wait(10)
        seen.append(registry.register(store, mine).entry)

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(seen) == 8
    assert all(each == registry.current_entry(store, "w") for each in seen)


def test_long_ids_with_one_shortened_form_are_distinguished(store: MemoryStore) -> None:
    data = store.get(keys.registry_entry("w", 1))
    assert data is None
    registry.register(store, runs.created(DAG, "other"))
    held = store.get(keys.registry_entry("other", 1))
    assert held is not None
    store.overwrite(keys.registry_entry("w", 1), held)
    with pytest.raises(CorruptLogError, match="belongs to workflow id 'other', not to 'w'"):
        registry.current_entry(store, "w")


def test_an_entry_with_another_record_is_damage(store: MemoryStore) -> None:
    damage: list[list[Record]] = [[runs.started("a")], [], [stone(1), stone(1)], [stone(1), runs.started("a")]]
    for records in damage:
        store.overwrite(keys.registry_entry("w", 1), segments.encode("u", 0, "p", records))
        with pytest.raises(CorruptLogError, match="neither a run nor a tombstone"):
            registry.current_entry(store, "w")


def test_a_replaced_run_is_reported_as_superseded(store: MemoryStore) -> None:
    created = runs.created(DAG)
    registry.register(store, created)
    registry.check_current(store, created)
    registry.register(store, stone(2))
    with pytest.raises(SupersededError, match=r"run 1 of workflow 'w' was deleted or replaced.* counts now is 2"):
        registry.check_current(store, created)


@pytest.mark.parametrize("workflow_id", ["w", "a/b", "Ünï " * 100], ids=["plain", "odd", "long"])
def test_the_index_yields_whole_ids(store: MemoryStore, workflow_id: str) -> None:
    index.set_status(store, workflow_id, S.RUNNING, replaces=())
    index.set_status(store, workflow_id, S.SUCCESSFUL, replaces=(S.RUNNING,))
    assert list(index.list_ids(store, S.RUNNING)) == []
    assert list(index.list_ids(store, S.SUCCESSFUL)) == [workflow_id]
    index.remove(store, workflow_id)
    assert not list(store.list(""))


def test_a_damaged_entry_of_a_long_id_is_skipped(store: MemoryStore) -> None:
    for workflow_id in ("long " * 100, "Ünï " * 100):
        index.set_status(store, workflow_id, S.RUNNING, replaces=())
    key = next(info.key for info in store.list("index/RUNNING/long"))
    store.overwrite(key, b"torn")
    assert list(index.list_ids(store, S.RUNNING)) == ["Ünï " * 100]
    with pytest.raises(CorruptLogError, match=r"index/RUNNING/long.*holds no workflow id: b'torn'"):
        index.workflow_id_of(store, key.rpartition("/")[2])


def test_the_runs_that_a_manager_may_own_are_listed(store: MemoryStore) -> None:
    mine = owned.OwnedRun("a/b", 3, "u1")
    owned.add(store, "m1", mine)
    owned.add(store, "m10", owned.OwnedRun("w", 1, "u2"))
    assert list(owned.list_runs(store, "m1")) == [mine]
    owned.remove(store, "m1", "u1")
    assert list(owned.list_runs(store, "m1")) == []


def test_registration_returns_what_the_entry_contains(store: MemoryStore) -> None:
    first, second = runs.created(DAG), runs.created(DAG, run_uuid="second")
    assert registry.register(store, first) == registry.Registration(first, created=True)
    assert registry.register(store, second) == registry.Registration(first, created=False)
    assert registry.register(store, stone(1)) == registry.Registration(first, created=False)
    assert registry.register(store, stone(2)) == registry.Registration(stone(2), created=True)


@pytest.mark.parametrize("numbers", [[1], [1, 2], [*range(1, 12)]], ids=lambda numbers: str(len(numbers)))
def test_only_the_latest_run_is_current(store: MemoryStore, numbers: list[int]) -> None:
    made = [runs.created(DAG, run_number=number, run_uuid=f"run-{number}") for number in numbers]
    for created in made:
        registry.register(store, created)
    registry.register(store, runs.created(DAG, "w2", 99))
    registry.check_current(store, made[-1])
    for created in made[:-1]:
        with pytest.raises(SupersededError, match=f"the registry entry that counts now is {numbers[-1]}"):
            registry.check_current(store, created)
    with pytest.raises(SupersededError):
        registry.check_current(store, runs.created(DAG, run_number=numbers[-1] + 1))


def test_deletion_of_a_run_is_the_entry_after_it(store: MemoryStore) -> None:
    created = runs.created(DAG, owner=Owner("m", uid="u"))
    log = RunLog(store, created)
    registry.register(store, created)
    runs.append(log, [runs.started("a")])
    assert registry.deletion_of(store, created) is None
    registry.register(store, stone(3))
    assert registry.deletion_of(store, created) is None
    registry.register(store, stone(2, "Asked"))
    assert registry.deletion_of(store, created) == stone(2, "Asked")


def test_replaced_run_is_deleted_only_after_its_collection(store: MemoryStore) -> None:
    created = runs.created(DAG, owner=Owner("m", uid="u"))
    log = RunLog(store, created)
    registry.register(store, created)
    runs.append(log, [runs.started("a")])
    registry.register(store, runs.created(DAG, run_number=2, run_uuid="second", at=9.0))
    assert registry.deletion_of(store, created) is None
    store.delete(log.paths.segment(1))
    assert registry.deletion_of(store, created) == Tombstone("w", 1, S.CANCELED, "Abandoned", 9.0, "u")


@pytest.mark.parametrize("content", [b"", b"torn", b"[]", b"{}", b"7", b'"w"', b'{"workflow_id": "w"}', b"\xff"])
def test_damaged_record_of_an_owned_run_is_reported(
    store: MemoryStore, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    owned.add(store, "m1", owned.OwnedRun("w", 12, "u2"))
    store.overwrite(keys.owned("m1", "u1"), content)
    with pytest.raises(CorruptLogError, match=r"owned/m1/u1 is damaged: it names no run"):
        owned.read(store, keys.owned("m1", "u1"))
    assert list(owned.list_runs(store, "m1")) == [owned.OwnedRun("w", 12, "u2")]
    assert "manager m1 does not recover a run" in caplog.text
    assert owned.read(store, keys.owned("m1", "u3")) is None


def test_index_entry_is_written_before_the_others_are_removed() -> None:
    class Recording(MemoryStore):
        def create(self, key: str, data: Data, put_id: str) -> bool:
            calls.append(f"create {key}")
            return super().create(key, data, put_id)

        def delete(self, key: str) -> None:
            calls.append(f"delete {key}")
            super().delete(key)

    calls: list[str] = []
    index.set_status(Recording(), "w", S.FAILED, replaces=S)
    assert calls == [
        "create index/FAILED/w",
        *(f"delete index/{status}/w" for status in S if status is not S.FAILED),
    ]


@pytest.mark.parametrize("workflow_id", ["w", "long " * 100], ids=["whole", "shortened"])
def test_index_entry_has_content_only_if_its_key_is_shortened(store: MemoryStore, workflow_id: str) -> None:
    index.set_status(store, workflow_id, S.RUNNING, replaces=())
    content = store.get(keys.index(S.RUNNING, workflow_id))
    assert content == (b"" if workflow_id == "w" else json.dumps(workflow_id).encode())
    for status in S:
        index.set_status(store, workflow_id, status, replaces=())
    index.remove(store, workflow_id)
    assert not list(store.list("index/"))


RESTORED: dict[str, tuple[list[Created | Tombstone], bool, bool]] = {
    "unused": ([], False, False),
    "being created": ([], True, True),
    "a run": ([runs.created(DAG)], False, True),
    "a deleted run": ([runs.created(DAG), stone(2)], False, False),
    "deleted, and being created again": ([runs.created(DAG), stone(2)], True, True),
    "abandoned": ([stone(1, "Abandoned")], False, False),
    "ended before it was created": ([stone(1, "Asked")], False, True),
    "a run after a deleted one": ([stone(1), runs.created(DAG, run_number=2)], False, True),
}


@pytest.mark.parametrize(("entries", "begun", "restored"), RESTORED.values(), ids=RESTORED)
def test_index_entry_is_restored_only_for_a_run(
    store: MemoryStore, entries: list[Created | Tombstone], begun: bool, restored: bool
) -> None:
    for entry in entries:
        registry.register(store, entry)
    if begun:
        Blobs(store, keys.RunPaths("w", 9, "begun")).put(b"a function")
    index.restore(store, "w")
    assert [info.key for info in store.list("index/")] == (["index/RUNNING/w"] if restored else [])


def test_entry_that_exists_but_cannot_be_read_is_damage() -> None:
    class Unreadable(MemoryStore):
        def get(self, key: str) -> bytes | None:
            return None

    store = Unreadable()
    registry.register(store, runs.created(DAG))
    with pytest.raises(CorruptLogError, match="0000000001 exists, but cannot be read; restore it from a copy"):
        registry.register(store, runs.created(DAG, run_uuid="second"))


def test_index_entry_removed_during_a_list_is_left_out() -> None:
    store = InterleavedStore(lambda: 0.0)
    long_id = "long " * 100
    index.set_status(store, long_id, S.RUNNING, replaces=())
    index.set_status(store, "w", S.RUNNING, replaces=())
    store.interrupt(1, lambda: index.remove(store, long_id))  # after the list, before the entry is read
    assert list(index.list_ids(store, S.RUNNING)) == ["w"]
    assert store.interrupted


@pytest.mark.parametrize("change", ["nothing", "a segment", "a deletion"])
def test_index_update_leaves_an_entry_that_readers_check(store: MemoryStore, change: str) -> None:
    created = runs.created(DAG)
    log = RunLog(store, created)
    registry.register(store, created)
    index.set_status(store, "w", S.RUNNING, replaces=())
    state = log.replay()
    if change == "a segment":
        runs.append(log, [runs.claimed(2)])
    elif change == "a deletion":
        registry.register(store, stone(2))
    assert index.update(log, state, S.FAILED, replaces=index.CLAIMABLE) is (change != "nothing")
    expected = "FAILED" if change == "nothing" else "RUNNING"
    assert [info.key for info in store.list("index/")] == [f"index/{expected}/w"]


@pytest.mark.parametrize("entry", [runs.created(DAG), stone(1)], ids=["a run", "a tombstone"])
def test_header_of_an_entry_names_the_run(store: MemoryStore, entry: Created | Tombstone) -> None:
    registry.register(store, entry)
    key = keys.registry_entry("w", 1)
    header = segments.decode_header(key, store.get(key) or b"")
    assert (header.run, header.seq) == (entry.run_uuid if isinstance(entry, Created) else "", 0)


def test_entry_exists_when_its_writer_dies_after_it(store: MemoryStore) -> None:
    with pytest.raises(Dies):
        registry.register(store, stone(1), CallAt(failpoints.AFTER_REGISTER, die))
    assert registry.current_entry(store, "w") == stone(1)


def test_errors_of_the_registry_have_the_key_and_the_id(store: MemoryStore) -> None:
    created = runs.created(DAG)
    registry.register(store, runs.created(DAG, "other"))
    for damage in (store.get(keys.registry_entry("other", 1)) or b"", segments.encode("u", 0, "p", []), b"torn"):
        store.overwrite(keys.registry_entry("w", 1), damage)
        with pytest.raises(CorruptLogError) as damaged:
            registry.read_entry(store, "w", 1)
        assert damaged.value.fields == {"key": keys.registry_entry("w", 1)}
    with pytest.raises(SupersededError) as superseded:
        registry.check_current(MemoryStore(), created)
    assert superseded.value.fields == {"workflow_id": "w"}
    store.overwrite(keys.owned("m1", "u1"), b"torn")
    with pytest.raises(CorruptLogError) as torn:
        owned.read(store, keys.owned("m1", "u1"))
    assert torn.value.fields == {"key": "owned/m1/u1"}


def test_missing_registry_entry_is_reported_as_lost(store: MemoryStore) -> None:
    """A deletion would have left a tombstone."""
    created = runs.created(DAG)
    registry.register(store, created)
    store.delete(keys.registry_entry("w", 1))
    with pytest.raises(SupersededError, match=f"the store lost {keys.registry_entry('w', 1)}: restore it from a copy"):
        registry.check_current(store, created)
