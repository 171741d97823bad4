"""The log of one run in the store: append, replay, catch up, snapshot. An append never overwrites: it is the fence.

Used by the engine, which owns runs, and by `reading` and `requests`. All calls block.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from workflow.errors import CorruptLogError, FencedError, SupersededError
from workflow.log import keys, registry, segments
from workflow.log.blobs import Blobs
from workflow.log.damage import damaged
from workflow.log.failpoints import (
    AFTER_COMMIT,
    AFTER_SNAPSHOT,
    BEFORE_COMMIT,
    BEFORE_SNAPSHOT,
    NO_FAILPOINTS,
    Failpoints,
)
from workflow.log.keys import RunPaths
from workflow.model import fold
from workflow.model.records import Created, Record, StepExpanded
from workflow.model.state import RunState
from workflow.model.totals import RunTotals, totals_of
from workflow.store.port import Store


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment that is ready to be stored."""

    seq: int
    put_id: str
    data: bytes


@dataclass(frozen=True)
class RunLog:
    """The log of one run.

    Attributes:
        store: the store of the run.
        created: the record that created the run.
        failpoints: receives the failpoints that are reached; for tests.
    """

    store: Store
    created: Created
    failpoints: Failpoints = NO_FAILPOINTS
    paths: RunPaths = field(init=False)
    blobs: Blobs = field(init=False)

    def __post_init__(self) -> None:
        paths = RunPaths(self.created.workflow_id, self.created.run_number, self.created.run_uuid)
        object.__setattr__(self, "paths", paths)
        object.__setattr__(self, "blobs", Blobs(self.store, paths, self.failpoints))

    def begin(self) -> RunState:
        """Return the state of the run before its first segment."""
        return fold.begin(self.created, self.blobs.load_graph(self.created.graph, self.created.graph_blob))

    def append(self, state: RunState, records: Sequence[Record]) -> None:
        """Fold records into a state, then store them as the segment after it.

        If this raises, the state includes records that are perhaps not stored: discard it.

        Raises:
            FencedError: another process wrote that segment.
        """
        seq = state.seq + 1
        self.fold(state, seq, records)
        self.store_segment(self.seal(seq, records, totals_of(state)))

    def seal(self, seq: int, records: Sequence[Record], totals: RunTotals) -> Segment:
        """Make a segment, with a new put id by which this writer recognizes its own write.

        Args:
            seq: one more than the last segment that was folded.
            records: at least one, in order.
            totals: the totals of the run after these records.
        """
        put_id = uuid.uuid4().hex
        return Segment(seq, put_id, segments.encode(self.created.run_uuid, seq, put_id, records, totals))

    def store_segment(self, segment: Segment) -> None:
        """Store a segment. After StoreUnavailableError the same segment may be stored again.

        Raises:
            FencedError: another process wrote a segment with this seq: it owns the run, or is claiming it.
        """
        self.failpoints.reach(BEFORE_COMMIT)
        if not self.try_store(segment):
            raise self._fenced(segment.seq)
        self.failpoints.reach(AFTER_COMMIT)

    def try_store(self, segment: Segment) -> bool:
        """Store a segment; return False instead of raising if another segment has its seq."""
        return self.store.create(self.paths.segment(segment.seq), segment.data, segment.put_id)

    def check_fence(self, seq: int) -> None:
        """Check that the caller still owns the run. Used by an owner that only waits.

        Args:
            seq: the last segment that the caller knows.

        Raises:
            FencedError: the next segment exists. Only another owner can have written it.
            SupersededError: the run was deleted, or the workflow id has a newer run.
        """
        if self.store.head(self.paths.segment(seq + 1)) is not None:
            raise self._fenced(seq + 1)
        registry.check_current(self.store, self.created)

    def has_advanced(self, state: RunState) -> bool:
        """Return whether the log has a segment after the state, or the run was deleted. Costs two requests."""
        try:
            self.check_fence(state.seq)
        except (FencedError, SupersededError):
            return True
        return False

    def _fenced(self, seq: int) -> FencedError:
        return FencedError(
            f"cannot write to workflow {self.created.workflow_id!r}: another owner wrote segment {seq} of run "
            f"{self.created.run_uuid}; this owner commits nothing more",
            workflow_id=self.created.workflow_id,
        )

    def read(self, seq: int) -> list[Record] | None:
        """Return the records of one segment, or None if it is not written yet."""
        key = self.paths.segment(seq)
        data = self.store.get(key)
        return None if data is None else segments.decode(key, data, (self.created.run_uuid, seq))

    def newest_totals(self, after_seq: int = 0) -> tuple[int, RunTotals] | None:
        """Read the totals of the run from its newest segment, without reading any other segment.

        Costs one GET and a LIST that begins after `after_seq`: one request for each 1000 segments since then. Pass the
        seq of the last result to make it cheap.

        Args:
            after_seq: only segments after this one are considered.

        Returns:
            The seq of the newest segment and its totals, or None if there is no segment after `after_seq`.

        Raises:
            SupersededError: the run was deleted during the call.
            CorruptLogError: the segment is damaged.
            NewerFormatError: a newer version of the library wrote it.
        """
        start = self.paths.segment(after_seq)
        newest = max((info.key for info in self.store.list(self.paths.segments, start)), default=None)
        if newest is None:
            return None
        data = self.store.get(newest)
        if data is None:
            registry.check_current(self.store, self.created)
            raise _missing(newest)
        seq = int(keys.last_part(newest))
        totals = segments.decode_header(newest, data, (self.created.run_uuid, seq)).totals
        if totals is None:
            raise damaged(newest, "its header has no totals")
        return seq, totals

    def replay(self) -> RunState:
        """Return the present state of the run: the newest snapshot, and the segments after it.

        Raises:
            SupersededError: the run was deleted, perhaps during the call.
            CorruptLogError: an object is missing or damaged; the message names its key.
            NewerFormatError: a newer version of the library wrote an object of the run.
        """
        try:
            return self._replay()
        except CorruptLogError:
            registry.check_current(self.store, self.created)
            raise

    def _replay(self) -> RunState:
        state = self.begin()
        newest = max((info.key for info in self.store.list(self.paths.snapshots)), default=None)
        if newest is not None:
            data = self.store.get(newest)
            if data is None:
                raise _missing(newest)
            fold.restore(state, segments.decode(newest, data))
        self.catch_up(state)
        return state

    def now(self, known: RunState | None) -> RunState:
        """Return the present state of the run. An older state, if there is one, is caught up instead of a replay."""
        if known is None:
            return self.replay()
        self.catch_up(known)
        return known

    def catch_up(self, state: RunState) -> bool:
        """Fold in the segments after the state; return whether there were any. Costs one GET if there are none."""
        advanced = False
        while (records := self.read(state.seq + 1)) is not None:
            self.fold(state, state.seq + 1, records)
            advanced = True
        return advanced

    def fold(self, state: RunState, seq: int, records: Sequence[Record]) -> None:
        """Fold in the records of one segment. If the blob of a DAG cannot be read, none of them is folded."""
        graphs = [
            self.blobs.load_graph(record.graph, record.graph_blob) if isinstance(record, StepExpanded) else None
            for record in records
        ]
        for record, graph in zip(records, graphs, strict=True):
            fold.apply(state, seq, record, graph)

    def write_snapshot(self, seq: int, records: Sequence[Record]) -> None:
        """Store a snapshot of the state up to `seq`. An existing snapshot of this seq stays; it means the same."""
        self.failpoints.reach(BEFORE_SNAPSHOT)
        put_id = uuid.uuid4().hex
        data = segments.encode(self.created.run_uuid, seq, put_id, records)
        self.store.create(self.paths.snapshot(seq), data, put_id)
        self.failpoints.reach(AFTER_SNAPSHOT)

    def inbox(self) -> list[str]:
        """Return the ids of the pending requests, in the order of their keys."""
        return [keys.last_part(info.key) for info in self.store.list(self.paths.inbox)]


def _missing(key: str) -> CorruptLogError:
    return CorruptLogError(f"{key} is missing, but the store lists it; restore it from a copy", key=key, missing=True)
