"""A manager that notes when each part of a chain's step begins and ends. Only for `profile.py`."""

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
    ("handed in", "sealed"): "engine: fold, next step, encode the segment",
    ("sealed", "storing"): "engine: to the thread that stores",
    ("storing", "stored"): "store: create the segment",
    ("stored", "handed out"): "engine: back, and hand the next step over",
    ("handed out", "handed in"): "to the worker and back, with its own time",
}


class ProfiledManager(ManagerActor):
    """Notes times; `parts` tells their medians."""

    def __init__(self, *arguments: str) -> None:
        self._times: list[tuple[str, float]] = []
        self._executed: list[float] = []
        self._watch()
        super().__init__(*arguments)

    async def parts(self) -> dict[str, float]:
        """Microseconds of each part of a step, median; asked after a chain."""
        spans: dict[str, list[float]] = {name: [] for name in PARTS.values()}
        for (one, begun), (other, ended) in zip(self._times, self._times[1:], strict=False):
            if (one, other) in PARTS:
                spans[PARTS[one, other]].append(ended - begun)
        told = {name: 1e6 * statistics.median(each) for name, each in spans.items()}
        told["of that in the worker: arguments, function, result"] = 1e6 * statistics.median(self._executed)
        self._times.clear()
        self._executed.clear()
        return told

    def _note(self, what: str) -> None:
        self._times.append((what, time.perf_counter()))

    def _watch(self) -> None:
        exchange, seal, store = Leases.exchange, RunLog.seal, RunLog.store_segment
        me = self

        async def watched_exchange(
            leases: Leases, lease_id: str, sequence: int, finished: Sequence[FinishedAttempt]
        ) -> tuple[StepTask, ...]:
            me._note("handed in")
            me._executed += [each.result.ended - each.result.started for each in finished]
            tasks = await exchange(leases, lease_id, sequence, finished)
            me._note("handed out")
            return tasks

        def watched_seal(log: RunLog, seq: int, records: Sequence[Any]) -> Segment:
            segment = seal(log, seq, records)
            me._note("sealed")
            return segment

        def watched_store(log: RunLog, segment: Segment) -> None:
            me._note("storing")
            store(log, segment)
            me._note("stored")

        Leases.exchange = watched_exchange  # type: ignore[method-assign]
        RunLog.seal = watched_seal  # type: ignore[method-assign]
        RunLog.store_segment = watched_store  # type: ignore[method-assign]
