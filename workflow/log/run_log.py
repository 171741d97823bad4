"""One run's log in the store: append, replay, catch up, snapshot. Append is the fence: it never overwrites.

Used by the engine (which owns runs), by `reading` and by `requests`. All calls block.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from workflow.errors import CorruptLogError, FencedError, SupersededError
from workflow.log import keys, registry, segments
from workflow.log.blobs import Blobs
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
from workflow.store.port import Store


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment ready to be stored."""

    seq: int
    put_id: str
    data: bytes


@dataclass(frozen=True)
class RunLog:
    """The log of one run.

    Attributes:
        created: the record that made the run.
        points: told of the named points; for tests.
    """

    store: Store
    created: Created
    failpoints: Failpoints = NO_FAILPOINTS
    paths: RunPaths = field(init=False)
    blobs: Blobs = field(init=False)

    def __post_init__(self) -> None:
        where = RunPaths(self.created.workflow_id, self.created.run_number, self.created.run_uuid)
        object.__setattr__(self, "paths", where)
        object.__setattr__(self, "blobs", Blobs(self.store, where, self.failpoints))

    def begin(self) -> RunState:
        """The state of the run before its first segment."""
        return fold.begin(self.created, self.blobs.load_graph(self.created.graph, self.created.graph_blob))

    def append(self, seq: int, records: Sequence[Record]) -> None:
        """Store a segment at exactly this place; see `store_segment`."""
        self.store_segment(self.seal(seq, records))

    def seal(self, seq: int, records: Sequence[Record]) -> Segment:
        """The bytes of a segment, with the mark by which this writer knows its own write again.

        Args:
            seq: one more than the last segment folded.
            records: at least one, in order.
        """
        put_id = uuid.uuid4().hex
        return Segment(seq, put_id, segments.encode(self.created.run_uuid, seq, put_id, records))

    def store_segment(self, segment: Segment) -> None:
        """Store a sealed segment; the same one may be tried again after StoreUnavailable.

        Raises:
            Fenced: another segment stands there, so somebody else owns the run or is taking it over.
        """
        self.failpoints.reach(BEFORE_COMMIT)
        if not self.try_store(segment):
            raise self._fenced(segment.seq)
        self.failpoints.reach(AFTER_COMMIT)

    def try_store(self, segment: Segment) -> bool:
        """Like store_segment, but tells by its result whether the place was free."""
        return self.store.create(self.paths.segment(segment.seq), segment.data, segment.put_id)

    def check_fence(self, seq: int) -> None:
        """For an owner that only waits.

        Args:
            seq: the last segment it knows of.

        Raises:
            Fenced: the segment behind it was written, which only another owner can have done.
            Superseded: the id names another run, or none, by now.
        """
        if self.store.head(self.paths.segment(seq + 1)) is not None:
            raise self._fenced(seq + 1)
        registry.check_current(self.store, self.created)

    def has_advanced(self, state: RunState) -> bool:
        """Whether there is more in the log than was folded, or the run was deleted. Two requests."""
        try:
            self.check_fence(state.seq)
        except (FencedError, SupersededError):
            return True
        return False

    def _fenced(self, seq: int) -> FencedError:
        return FencedError(
            f"workflow {self.created.workflow_id!r}: segment {seq} of run {self.created.run_uuid} was written by "
            "another owner; this one commits nothing more",
            workflow_id=self.created.workflow_id,
        )

    def read(self, seq: int) -> list[Record] | None:
        """The records of one segment, or None where it is not written yet."""
        key = self.paths.segment(seq)
        data = self.store.get(key)
        return None if data is None else segments.decode(key, data, (self.created.run_uuid, seq))

    def replay(self) -> RunState:
        """The run's state now: the newest snapshot and the segments behind it.

        Raises:
            Superseded: the run was deleted; perhaps just now, while it was read.
            Corrupt: something is missing or damaged; the text names its key.
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
                raise CorruptLogError(f"{newest}: listed, but missing", key=newest)
            fold.restore(state, segments.decode(newest, data))
        self.catch_up(state)
        return state

    def now(self, known: RunState | None) -> RunState:
        """The run's state now, going on from what is known of it; see `replay` and `catch_up`."""
        if known is None:
            return self.replay()
        self.catch_up(known)
        return known

    def catch_up(self, state: RunState) -> bool:
        """Fold in the segments written since; returns whether there were any. One GET where there are none."""
        moved = False
        while (records := self.read(state.seq + 1)) is not None:
            self.fold(state, state.seq + 1, records)
            moved = True
        return moved

    def fold(self, state: RunState, seq: int, records: Sequence[Record]) -> None:
        """Fold one segment's records in: all of them, or none where a DAG that lies in a blob cannot be read."""
        graphs = [
            self.blobs.load_graph(record.graph, record.graph_blob) if isinstance(record, StepExpanded) else None
            for record in records
        ]
        for record, graph in zip(records, graphs, strict=True):
            fold.apply(state, seq, record, graph)

    def write_snapshot(self, seq: int, records: Sequence[Record]) -> None:
        """Store a snapshot of the state up to seq. One that is there already says the same."""
        self.failpoints.reach(BEFORE_SNAPSHOT)
        sealed = self.seal(seq, records)
        self.store.create(self.paths.snapshot(seq), sealed.data, sealed.put_id)
        self.failpoints.reach(AFTER_SNAPSHOT)

    def inbox(self) -> list[str]:
        """Ids of the requests that wait, oldest key first."""
        return [keys.last_part(info.key) for info in self.store.list(self.paths.inbox)]
