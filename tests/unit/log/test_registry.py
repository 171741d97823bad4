"""The registry: one PUT creates a run or forbids it. Also index entries and the runs that a manager may own."""

from __future__ import annotations

import threading

import pytest

from tests.support import runs
from tests.support.failpoints import CallAt
from workflow.errors import CorruptLogError, SupersededError
from workflow.log import failpoints, index, keys, owned, registry
from workflow.model.records import Created, Tombstone
from workflow.model.status import WorkflowStatus
from workflow.store.memory import MemoryStore

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
    from workflow.log import segments

    store.overwrite(keys.registry_entry("w", 1), segments.encode("u", 0, "p", [runs.started("a")]))
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
