"""Names: one PUT makes a run or forbids it; and the hints around it."""

from __future__ import annotations

import threading

import pytest

from tests.support import runs
from tests.support.rivals import StopAt
from workflow.errors import Corrupt, Superseded
from workflow.log import naming, paths, points
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


def test_an_id_that_was_never_used_names_nothing(store: MemoryStore) -> None:
    assert naming.highest(store, "w") == 0
    assert naming.current(store, "w") is None
    assert naming.read_name(store, "w", 1) is None
    assert not list(store.list(""))


def test_the_highest_name_counts(store: MemoryStore) -> None:
    for named in (runs.created(DAG), stone(2), runs.created(DAG, n=3, run_uuid="third")):
        naming.write_name(store, named)
    assert naming.highest(store, "w") == 3
    current = naming.current(store, "w")
    assert isinstance(current, Created)
    assert current.run_uuid == "third"


def test_ids_that_begin_alike_are_apart(store: MemoryStore) -> None:
    naming.write_name(store, runs.created(DAG, "w"))
    assert naming.current(store, "w2") is None
    assert naming.current(store, "w/names") is None


@pytest.mark.parametrize("rival", [runs.created(DAG, run_uuid="rival"), stone(1)], ids=["a run", "a tombstone"])
def test_who_comes_second_reads_what_the_first_wrote(store: MemoryStore, rival: Created | Tombstone) -> None:
    first = StopAt(points.BEFORE_NAME, lambda: naming.write_name(store, rival))
    assert naming.write_name(store, runs.created(DAG), first) == rival


def test_eight_rivals_have_one_winner(store: MemoryStore) -> None:
    gate = threading.Barrier(8)
    seen: list[object] = []

    def contend(number: int) -> None:
        mine = runs.created(DAG, run_uuid=f"run-{number}")
        gate.wait(10)
        seen.append(naming.write_name(store, mine))

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(seen) == 8
    assert all(each == naming.current(store, "w") for each in seen)


def test_two_long_ids_with_one_shortened_form_are_told_apart(store: MemoryStore) -> None:
    data = store.get(paths.name("w", 1))
    assert data is None
    naming.write_name(store, runs.created(DAG, "other"))
    held = store.get(paths.name("other", 1))
    assert held is not None
    store.overwrite(paths.name("w", 1), held)
    with pytest.raises(Corrupt, match="belongs to workflow id 'other', not to 'w'"):
        naming.current(store, "w")


def test_a_name_that_holds_something_else_is_named(store: MemoryStore) -> None:
    from workflow.log import segments

    store.overwrite(paths.name("w", 1), segments.encode("u", 0, "p", [runs.started("a")]))
    with pytest.raises(Corrupt, match="neither a run nor a tombstone"):
        naming.current(store, "w")


def test_an_owner_whose_run_is_not_the_one_named_is_told(store: MemoryStore) -> None:
    created = runs.created(DAG)
    naming.write_name(store, created)
    naming.check_named(store, created)
    naming.write_name(store, stone(2))
    with pytest.raises(Superseded, match="run 1 was deleted or replaced; names/2"):
        naming.check_named(store, created)


@pytest.mark.parametrize("workflow_id", ["w", "a/b", "Ünï " * 100], ids=["plain", "odd", "long"])
def test_the_index_tells_the_whole_id(store: MemoryStore, workflow_id: str) -> None:
    naming.index(store, workflow_id, S.RUNNING, replaces=())
    naming.index(store, workflow_id, S.SUCCESSFUL, replaces=(S.RUNNING,))
    assert list(naming.indexed(store, S.RUNNING)) == []
    assert list(naming.indexed(store, S.SUCCESSFUL)) == [workflow_id]
    naming.unindex(store, workflow_id)
    assert not list(store.list(""))


def test_a_damaged_entry_of_a_long_id_hides_no_other(store: MemoryStore) -> None:
    for workflow_id in ("long " * 100, "Ünï " * 100):
        naming.index(store, workflow_id, S.RUNNING, replaces=())
    key = next(info.key for info in store.list("index/RUNNING/long"))
    store.overwrite(key, b"torn")
    assert list(naming.indexed(store, S.RUNNING)) == ["Ünï " * 100]
    with pytest.raises(Corrupt, match=r"index/RUNNING/long.*holds no workflow id: b'torn'"):
        naming.id_of(store, key.rpartition("/")[2])


def test_a_manager_knows_what_it_may_own(store: MemoryStore) -> None:
    mine = naming.OwnedRun("a/b", 3, "u1")
    naming.note_owned(store, "m1", mine)
    naming.note_owned(store, "m10", naming.OwnedRun("w", 1, "u2"))
    assert list(naming.owned_by(store, "m1")) == [mine]
    naming.forget_owned(store, "m1", "u1")
    assert list(naming.owned_by(store, "m1")) == []
