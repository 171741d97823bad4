"""The runs that a manager drives now, and the results that its waiters get from memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from cachetools import LRUCache

from workflow.engine.messages import RunResult
from workflow.engine.owner.run_loop import RunLoop
from workflow.errors import WorkflowError
from workflow.model.status import WorkflowStatus

RESULTS_KEPT = 1_000
"""Results of finished runs that a manager keeps for later waiters. Older results are read from the log."""


@dataclass(frozen=True, slots=True)
class LiveRun:
    """A run that this manager drives now.

    Attributes:
        result: the result, or the error with which this manager stopped driving the run.
        stopped: set when the run is no longer driven.
    """

    loop: RunLoop
    result: asyncio.Future[RunResult]
    stopped: asyncio.Event


class LiveRuns:
    """The live runs of one manager by run uuid, and the last results of runs that finished here."""

    def __init__(self) -> None:
        self._live: dict[str, LiveRun] = {}
        self._results: LRUCache[str, asyncio.Future[RunResult]] = LRUCache(RESULTS_KEPT)

    def __len__(self) -> int:
        """Return the number of live runs."""
        return len(self._live)

    def __contains__(self, run_uuid: str) -> bool:
        """Return whether a run is live."""
        return run_uuid in self._live

    def get(self, run_uuid: str) -> LiveRun | None:
        """Return a live run; None if the run is not live."""
        return self._live.get(run_uuid)

    def loops(self) -> list[RunLoop]:
        """Return the loops of all live runs."""
        return [live.loop for live in self._live.values()]

    def result(self, run_uuid: str) -> asyncio.Future[RunResult] | None:
        """Return the result of a run that is live, or that finished here not long ago; None for any other run."""
        live = self._live.get(run_uuid)
        return live.result if live is not None else self._results.get(run_uuid)

    def add(self, run_uuid: str, loop: RunLoop) -> LiveRun:
        """Add a run that is driven from now on."""
        result: asyncio.Future[RunResult] = asyncio.get_running_loop().create_future()
        result.add_done_callback(_mark_error_as_retrieved)
        live = self._live[run_uuid] = LiveRun(loop, result, asyncio.Event())
        return live

    def remove(self, run_uuid: str, error: WorkflowError) -> None:
        """Remove a run that is no longer driven.

        Args:
            run_uuid: the run.
            error: raised to the waiters if the run has no result yet.
        """
        live = self._live.pop(run_uuid)
        live.stopped.set()
        if not live.result.done():
            live.result.set_exception(error)
        # An error reports only how this manager stopped, and a FAILED run can be resumed by another manager.
        # In both cases, later waiters read the log.
        if live.result.exception() is None and live.result.result().status is not WorkflowStatus.FAILED:
            self._results[run_uuid] = live.result

    def drop_result(self, run_uuid: str) -> None:
        """Drop the kept result of a run, since the run was claimed again."""
        self._results.pop(run_uuid, None)


def _mark_error_as_retrieved(result: asyncio.Future[RunResult]) -> None:
    """Prevent asyncio from logging an error for which no client waits."""
    if not result.cancelled():
        result.exception()
