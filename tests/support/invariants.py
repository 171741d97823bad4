"""The invariants of a run, checked on the store itself: nothing lost, nothing twice, whatever was killed.

Reads segments one by one and folds nothing, so that an error of the fold cannot hide one of the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from workflow.log import naming, segments
from workflow.log.blobs import Blobs
from workflow.log.run_log import RunLog
from workflow.model import records as r
from workflow.model.graph import Graph, StepSpec, Value
from workflow.model.status import WorkflowStatus
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


def check(store: Store, workflow_id: str, n: int = 1) -> None:
    """Raises AssertionError, with the number of the invariant, where one is broken.

    I1: one outcome at most for each step. I3: no try is noted behind its step's outcome. I4: the inputs of an outcome
    have theirs before it. I5: every blob that is named is there, whole. And: epochs rise by one, nothing of an epoch
    stands behind the claim of the next, nothing but a retry behind an end.
    """
    created = _created(store, workflow_id, n)
    blobs = RunLog(store, created).blobs
    checker = _Checker(blobs)
    checker.graph(blobs.load_graph(created.graph, created.graph_blob))
    for each in log_of(store, workflow_id, n):
        checker.take(each)


class _Checker:
    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._specs: dict[str, StepSpec] = {}
        self._value: set[str] = set()
        self._expanded: set[str] = set()
        self._resolves: dict[str, str] = {}
        self._epoch = 1
        self._end: r.StatusChanged | None = None

    def graph(self, dag: Graph, of: str = "") -> None:
        for spec in dag.steps:
            assert spec.step_id not in self._specs, f"two steps are called {spec.step_id}"
            self._specs[spec.step_id] = spec
            self._blobs.get(spec.function)
            self._whole(spec.args)
        if of:
            self._resolves[dag.output] = of

    def take(self, written: Written) -> None:
        record, where = written.record, f"segment {written.seq}: {written.record}"
        if isinstance(record, r.Claimed):
            assert record.epoch == self._epoch + 1, f"epochs rise by one: {where}"
            assert self._end is None or self._end.status is WorkflowStatus.FAILED, f"an end was voided: {where}"
            self._epoch, self._end = record.epoch, None
            return
        assert getattr(record, "epoch", self._epoch) == self._epoch, f"a fenced owner wrote: {where}"
        if isinstance(record, r.RequestTaken):
            return
        assert self._end is None, f"behind the end: {where}"
        if isinstance(record, r.StatusChanged):
            self._end = record if record.status.is_end else None
        elif isinstance(record, (r.StepStarted, r.StepFailed)):
            assert record.step_id not in self._value | self._expanded, f"I3: started after its outcome: {where}"
        elif isinstance(record, (r.StepCommitted, r.StepExpanded)):
            self._execution(record, where)

    def _execution(self, record: r.StepCommitted | r.StepExpanded, where: str) -> None:
        step_id = record.step_id
        again = step_id in self._value or (isinstance(record, r.StepExpanded) and step_id in self._expanded)
        assert not again, f"I1: a second outcome: {where}"
        for parent in self._specs[step_id].parents:
            assert parent in self._value, f"I4: {parent} had no outcome: {where}"
        if isinstance(record, r.StepExpanded):
            self._expanded.add(step_id)
            self.graph(self._blobs.load_graph(record.graph, record.graph_blob), step_id)
            return
        self._whole(record.value)
        for each in _up(step_id, self._resolves):
            self._value.add(each)

    def _whole(self, value: Value) -> None:
        """I5: `Blobs.get` raises where one is missing or damaged."""
        self._blobs.load(value)


def _up(step_id: str, resolves: dict[str, str]) -> Iterator[str]:
    yield step_id
    while (above := resolves.get(step_id)) is not None:
        yield above
        step_id = above


def _created(store: Store, workflow_id: str, n: int) -> r.Created:
    named = naming.read_name(store, workflow_id, n)
    assert isinstance(named, r.Created), f"names/{n} of {workflow_id!r} holds {named}"
    return named
