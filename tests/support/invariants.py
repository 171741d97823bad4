"""A run's log as tests look at it: its records one by one, and the checker's judgement of the whole.

What is promised is checked by `checker` alone, which reads the store by itself. The rest is for tests that ask what
stands in a log: it folds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.support import checker
from tests.support.checker import NO_EXPECTATIONS, Expected, History
from tests.support.stored import escaped, in_folder, in_memory
from workflow.log import registry, segments
from workflow.log.run_log import RunLog
from workflow.model import records as r
from workflow.store.port import Store


@dataclass(frozen=True)
class Written:
    """One record, and the segment that holds it."""

    seq: int
    record: r.Record


def log_of(store: Store, workflow_id: str, n: int = 1) -> list[Written]:
    """All records of a run, in order."""
    created = _created(store, workflow_id, n)
    log = RunLog(store, created)
    written = []
    for seq, info in enumerate(store.list(log.paths.segments), 1):
        assert info.key == log.paths.segment(seq), f"segment {seq} is missing: {info.key} stands in its place"
        data = store.get(info.key)
        assert data is not None
        written += [Written(seq, record) for record in segments.decode(info.key, data)]
    return written


def log_bytes(store: Store, workflow_id: str, n: int = 1) -> dict[str, bytes]:
    """Each segment's bytes, by key."""
    log = RunLog(store, _created(store, workflow_id, n))
    return {info.key: store.get(info.key) or b"" for info in store.list(log.paths.segments)}


def committed(store: Store, workflow_id: str, n: int = 1) -> list[str]:
    """Ids of the steps that have an outcome of their own, in the order of their commits."""
    return [each.record.step_id for each in log_of(store, workflow_id, n) if isinstance(each.record, r.StepCommitted)]


def executed(store: Store, workflow_id: str, n: int = 1) -> list[str]:
    """Ids of the steps whose execution is committed: a value or an expansion."""
    kinds = (r.StepCommitted, r.StepExpanded)
    return [each.record.step_id for each in log_of(store, workflow_id, n) if isinstance(each.record, kinds)]


def check(store: Store, workflow_id: str, n: int = 1, expected: Expected = NO_EXPECTATIONS) -> History:
    """Let the independent checker judge a run of a folder store or of one in memory; raises its `Broken`."""
    below = f"workflows/{escaped(workflow_id)}"
    objects = in_memory(store, f"{below}/") if store.url.startswith("memory:") else in_folder(store.url, below)
    return checker.check(objects, workflow_id, n, expected)


def _created(store: Store, workflow_id: str, n: int) -> r.Created:
    named = registry.read_entry(store, workflow_id, n)
    assert isinstance(named, r.Created), f"registry/{n} of {workflow_id!r} holds {named}"
    return named
