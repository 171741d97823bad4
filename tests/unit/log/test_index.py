"""The index: what its errors name, what is logged, and how corrections are counted."""

from __future__ import annotations

import pytest

from tests.support import runs
from workflow.errors import CorruptLogError
from workflow.log import index, keys, registry
from workflow.log.blobs import Blobs
from workflow.model.records import Tombstone
from workflow.model.status import WorkflowStatus
from workflow.store.memory import MemoryStore
from workflow.testing.failing import FailingStore

S = WorkflowStatus
LONG = "long " * 100


def test_damaged_index_entry_is_named_in_error_and_log(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    index.set_status(store, LONG, S.RUNNING, replaces=())
    key = keys.index(S.RUNNING, LONG)
    store.overwrite(key, b"torn")
    with pytest.raises(CorruptLogError) as raised:
        index.workflow_id_of(store, keys.last_part(key))
    assert raised.value.fields == {"key": key}
    assert list(index.list_ids(store, S.RUNNING)) == []
    (line,) = caplog.messages
    assert f"with the status RUNNING: {key} is damaged: it holds no workflow id" in line


def test_each_correction_of_an_entry_is_counted() -> None:
    """The run is abandoned, then begun again while its entry is removed."""
    store = MemoryStore()
    registry.register(store, Tombstone("w", 1, S.CANCELED, "Abandoned", 1.0))
    index.set_status(store, "w", S.FAILED, replaces=())
    shared = FailingStore(store)
    paths = keys.RunPaths("w", 2, "begun")
    shared.after_call("delete", "index/FAILED/w", lambda: Blobs(store, paths).put(b"a function"))
    assert index.repair(shared, "w", S.FAILED) == index.Repair(corrections=2, entry=S.RUNNING)
    assert index.repair(store, "w", S.RUNNING) == index.Repair(corrections=0, entry=S.RUNNING)


def test_damaged_owner_of_an_index_entry_is_not_guessed() -> None:
    store = MemoryStore()
    part = keys.escape(LONG)
    store.create(f"{keys.WORKFLOWS}{part}/registry/0000000001", b"torn", "p")
    with pytest.raises(CorruptLogError, match=r"registry/0000000001"):
        index.workflow_id_of(store, part)


def test_two_writes_of_an_index_entry_have_distinct_put_ids() -> None:
    class Recording(MemoryStore):
        def create(self, key: str, data: object, put_id: str) -> bool:
            put_ids.append(put_id)
            return super().create(key, data, put_id)  # type: ignore[arg-type]

    put_ids: list[str] = []
    store = Recording()
    for workflow_id in ("a", "b"):
        registry.register(store, runs.created(runs.graph("a"), workflow_id))
        index.set_status(store, workflow_id, S.RUNNING, replaces=())
    assert len(set(put_ids)) == 4
    assert all(isinstance(each, str) and len(each) == 32 for each in put_ids)
