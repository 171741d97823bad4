"""A manager that records when each part of a step starts and ends. Only `profile_step.py` uses it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

from workflow.engine.dispatch.leases import Leases
from workflow.engine.driver.actor import ManagerActor
from workflow.engine.messages import FinishedAttempt, StepTask
from workflow.log.run_log import RunLog, Segment

PARTS = {
    ("received", "sealed"): "engine: fold, plan the next step, encode the segment",
    ("sealed", "storing"): "engine: pass the segment to a thread",
    ("storing", "stored"): "store: create the segment",
    ("stored", "dispatched"): "engine: return from the thread, dispatch the next step",
    ("dispatched", "received"): "worker: both ways and the execution",
}
"""(event, next event) -> name of the part between them."""


class ProfiledManager(ManagerActor):
    """A manager that records the times of events."""

    def __init__(self, *arguments: str) -> None:
        self._events: list[tuple[str, float]] = []
        self._executed: list[float] = []
        self._instrument()
        super().__init__(*arguments)

    async def parts(self) -> dict[str, float]:
        """Return the median duration of each part of a step, in microseconds, and forget all events."""
        spans: dict[str, list[float]] = {name: [] for name in PARTS.values()}
        for (event, started), (next_event, ended) in zip(self._events, self._events[1:], strict=False):
            if (event, next_event) in PARTS:
                spans[PARTS[event, next_event]].append(ended - started)
        medians = {name: 1e6 * statistics.median(each) for name, each in spans.items()}
        medians["of that the execution: inputs, function, result"] = 1e6 * statistics.median(self._executed)
        self._events.clear()
        self._executed.clear()
        return medians

    def _record(self, event: str) -> None:
        self._events.append((event, time.perf_counter()))

    def _instrument(self) -> None:
        exchange, seal, store_segment = Leases.exchange, RunLog.seal, RunLog.store_segment
        manager = self

        async def recorded_exchange(
            leases: Leases, lease_id: str, sequence: int, finished: Sequence[FinishedAttempt]
        ) -> tuple[StepTask, ...]:
            manager._record("received")
            manager._executed += [each.result.ended - each.result.started for each in finished]
            tasks = await exchange(leases, lease_id, sequence, finished)
            manager._record("dispatched")
            return tasks

        def recorded_seal(log: RunLog, seq: int, records: Sequence[Any]) -> Segment:
            segment = seal(log, seq, records)
            manager._record("sealed")
            return segment

        def recorded_store_segment(log: RunLog, segment: Segment) -> None:
            manager._record("storing")
            store_segment(log, segment)
            manager._record("stored")

        Leases.exchange = recorded_exchange  # type: ignore[method-assign]
        RunLog.seal = recorded_seal  # type: ignore[method-assign]
        RunLog.store_segment = recorded_store_segment  # type: ignore[method-assign]
