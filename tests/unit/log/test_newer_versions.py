"""Objects that a newer version wrote: this version reports them as such, and neither removes nor changes them."""

from __future__ import annotations

import json
import logging

import pytest

from tests.support import runs
from tests.support.stored import in_memory, sealed
from workflow import inspection, reading
from workflow.errors import NewerFormatError
from workflow.garbage import collect
from workflow.log import index, keys, owned, registry
from workflow.log.blobs import Blobs
from workflow.log.claim import Claimant, claim
from workflow.log.owned import OwnedRun
from workflow.log.run_log import RunLog
from workflow.model import codec
from workflow.model.run_view import Owner
from workflow.model.status import WorkflowStatus
from workflow.model.totals import totals_of
from workflow.store.memory import MemoryStore

LONG = "w" * 300


@pytest.fixture
def log() -> RunLog:
    store = MemoryStore()
    created = runs.created(runs.graph("a"))
    index.set_status(store, "w", WorkflowStatus.RUNNING, replaces=())
    owned.add(store, "m1", OwnedRun("w", 1, created.run_uuid))
    registry.register(store, created)
    return RunLog(store, created)


def write_newer_segment(log: RunLog) -> str:
    totals = codec.encode_value(totals_of(log.begin()))
    header = {"run": log.created.run_uuid, "seq": 1, "put_id": "p", "version": "99.0", "totals": totals}
    key = log.paths.segment(1)
    log.store.create(key, sealed(header, [{"k": "StepPaused", "step_id": "a", "epoch": 1}]), "p")
    return key


def write_newer_entry(store: MemoryStore, workflow_id: str) -> str:
    created = {**codec.encode(runs.created(runs.graph("a"), workflow_id)), "priority": 1}
    key = keys.registry_entry(workflow_id, 1)
    store.create(key, sealed({"run": "run-1", "seq": 0, "put_id": "p", "version": "99.0"}, [created]), "p")
    return key


def test_a_newer_segment_is_neither_folded_nor_claimed_over(log: RunLog) -> None:
    key = write_newer_segment(log)
    for read in (log.replay, lambda: reading.read_run(log.store, "w")):
        with pytest.raises(NewerFormatError, match=rf"{key}.*rayworkflow 99\.0"):
            read()
    with pytest.raises(NewerFormatError, match=key):
        claim(log, log.begin(), Claimant(Owner("m2", "i2"), 1.0, take_over=log.created.owner))
    assert log.store.head(log.paths.segment(2)) is None


def test_totals_are_read_although_a_record_is_unknown(log: RunLog) -> None:
    write_newer_segment(log)
    assert log.newest_totals() == (1, totals_of(log.begin()))


def test_a_newer_registry_entry_is_reported(log: RunLog) -> None:
    key = write_newer_entry(log.store, LONG)  # type: ignore[arg-type]
    for read in (
        lambda: registry.read_entry(log.store, LONG, 1),
        lambda: reading.read_run(log.store, LONG),
        lambda: reading.read_totals(log.store, LONG),
        lambda: index.workflow_id_of(log.store, keys.escape(LONG)),
        lambda: index.expected_status(log.store, LONG),
    ):
        with pytest.raises(NewerFormatError, match=f"{key}.*field 'priority' of Created"):
            read()


def test_a_newer_dag_in_a_blob_is_reported_with_its_key(log: RunLog) -> None:
    dag = codec.encode_graph(runs.graph("a"))
    dag["steps"][0]["zone"] = "z"
    blobs = Blobs(log.store, log.paths)
    name = blobs.put(json.dumps(dag).encode())
    with pytest.raises(NewerFormatError, match=f"{log.paths.blob(name)}.*not recorded.*field 'zone' of StepSpec"):
        blobs.load_graph(None, name)


def test_the_collector_leaves_all_objects_of_newer_versions(log: RunLog) -> None:
    segment, entry = write_newer_segment(log), write_newer_entry(log.store, LONG)  # type: ignore[arg-type]
    log.store.create(keys.RunPaths(LONG, 1, "run-1").blob("0" * 64), b"", "p")
    log.store.create(log.paths.request("request-1"), b"{}", "p")
    index.set_status(log.store, LONG, WorkflowStatus.FAILED, replaces=())
    before = in_memory(log.store)
    collected = collect(log.store, grace=0)
    assert in_memory(log.store) == before
    for key in (segment, entry):
        assert any(key in text and "newer version" in text for text in collected.skipped)


def test_list_all_leaves_out_a_run_of_a_newer_version(
    log: RunLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    key = write_newer_segment(log)
    monkeypatch.setattr(inspection, "get_status", lambda workflow_id: reading.read_run(log.store, workflow_id))
    with caplog.at_level(logging.ERROR):
        assert inspection._status_in_log("w") is None
    assert key in caplog.text
    assert "upgrade" in caplog.text


def test_lists_of_owned_runs_and_ids_do_not_read_the_log(log: RunLog) -> None:
    write_newer_segment(log)
    assert list(owned.list_runs(log.store, "m1")) == [OwnedRun("w", 1, log.created.run_uuid)]
    assert list(index.list_ids(log.store, WorkflowStatus.RUNNING)) == ["w"]


def test_new_fields_of_an_owned_entry_are_ignored(log: RunLog) -> None:
    key = keys.owned("m1", log.created.run_uuid)
    log.store.overwrite(key, json.dumps({"workflow_id": "w", "run_number": 1, "since": 1.0}).encode())
    assert owned.read(log.store, key) == OwnedRun("w", 1, log.created.run_uuid)
