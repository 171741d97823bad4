"""The log of a run for tests: its single records, and the verdict of the checker on the whole run.

Only `checker` verifies the invariants, and it reads the store by itself. The other functions return the records of a
log without folding them.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.support import checker
from tests.support.history import NO_EXPECTATIONS, Expected, History
from tests.support.minio import client_at
from tests.support.stored import escaped, in_bucket, in_folder, in_memory
from workflow.log import registry, segments
from workflow.log.run_log import RunLog
from workflow.model import records as r
from workflow.store.port import Store


@dataclass(frozen=True)
class Written:
    """One record, and the number of its segment."""

    seq: int
    record: r.Record


def log_of(store: Store, workflow_id: str, run_number: int = 1) -> list[Written]:
    """Return all records of a run, in order."""
    created = _created(store, workflow_id, run_number)
    log = RunLog(store, created)
    written = []
    for seq, info in enumerate(store.list(log.paths.segments), 1):
        assert info.key == log.paths.segment(seq), f"segment {seq} is missing; found {info.key} instead"
        data = store.get(info.key)
        assert data is not None
        written += [Written(seq, record) for record in segments.decode(info.key, data)]
    return written


def log_bytes(store: Store, workflow_id: str, run_number: int = 1) -> dict[str, bytes]:
    """Return the bytes of each segment, by key."""
    log = RunLog(store, _created(store, workflow_id, run_number))
    return {info.key: store.get(info.key) or b"" for info in store.list(log.paths.segments)}


def committed(store: Store, workflow_id: str, run_number: int = 1) -> list[str]:
    """Return the ids of the steps with a `StepCommitted` record, in the order of their commits."""
    return [
        each.record.step_id
        for each in log_of(store, workflow_id, run_number)
        if isinstance(each.record, r.StepCommitted)
    ]


def executed(store: Store, workflow_id: str, run_number: int = 1) -> list[str]:
    """Return the ids of the steps whose execution is committed, by a value or by an expansion."""
    kinds = (r.StepCommitted, r.StepExpanded)
    return [each.record.step_id for each in log_of(store, workflow_id, run_number) if isinstance(each.record, kinds)]


def check(store: Store, workflow_id: str, run_number: int = 1, expected: Expected = NO_EXPECTATIONS) -> History:
    """Check a run with the independent checker. Raises its `BrokenRuleError`."""
    return checker.check(_objects(store, f"workflows/{escaped(workflow_id)}"), workflow_id, run_number, expected)


def _objects(store: Store, folder: str) -> dict[str, bytes]:
    """Return the objects below a folder, read without this library if they are outside of this process."""
    if store.url.startswith("memory:"):
        return in_memory(store, f"{folder}/")
    if store.url.startswith("s3:"):
        return in_bucket(*client_at(store.url), below=f"{folder}/")
    return in_folder(store.url, folder)


def _created(store: Store, workflow_id: str, run_number: int) -> r.Created:
    entry = registry.read_entry(store, workflow_id, run_number)
    assert isinstance(entry, r.Created), f"registry/{run_number} of {workflow_id!r} contains {entry}"
    return entry
