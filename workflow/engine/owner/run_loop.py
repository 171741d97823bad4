"""Drives one run that this side owns: has what comes in planned, stores it as segments, and only then acts on it.

One task of an asyncio loop a run. Group commit: what arrives while a segment is being stored goes into the next one;
nothing waits when idle. Knows Ray only through the `Runner` port, and blocks nowhere: the store is reached in threads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from workflow.engine.messages import RunAddress, RunResult, StepResult, StepTask
from workflow.engine.owner.planning import AttemptFinished, CancelRun, Planner, SegmentPlan
from workflow.errors import StoreUnavailableError, WorkflowError
from workflow.log.run_log import RunLog, Segment
from workflow.model import snapshot
from workflow.model.state import RunState, StepState
from workflow.model.totals import totals_of

logger = logging.getLogger(__name__)

SNAPSHOT_EVERY = 2_000
"""Records after which a snapshot is due; later ones wait for as many records as the run has steps."""


class Runner(Protocol):
    """Executes steps somewhere; answers by calling `RunLoop.step_done` on the loop's thread."""

    def start(self, run: RunLoop, step: StepState, task: StepTask) -> None:
        """Begin one try."""

    def cancel(self, run: RunLoop, step_ids: Sequence[str]) -> None:
        """Stop these tries where they still run; nothing is reported of them."""


@dataclass(frozen=True)
class RunServices:
    """What a run loop is given.

    Attributes:
        runner: executes steps.
        in_thread: runs a blocking call of the store elsewhere.
        now: seconds since 1970, for people.
        pause: seconds between tries to store a segment while the store is down.
    """

    runner: Runner
    in_thread: Callable[[Callable[[], object]], Awaitable[object]]
    now: Callable[[], float]
    pause: float = 2.0


@dataclass(frozen=True, slots=True)
class _Look:
    """Look whether the next segment was written by somebody else."""


class RunLoop:
    """One owned run.

    Args:
        log: of the run.
        state: folded up to this owner's claim.
        address: told to workers.
        services: see there.

    Attributes:
        asked: ids of the inbox requests that were handed to it; they may be on their way into the log.
    """

    def __init__(self, log: RunLog, state: RunState, address: RunAddress, services: RunServices) -> None:
        self.asked: set[str] = set()
        self.log = log
        self.state = state
        self.address = address
        self._services = services
        self._planner = Planner(state, address, services.now, self.step_done)
        self._messages: list[AttemptFinished | CancelRun | _Look] = []
        self._wake = asyncio.Event()
        self._records_since = 0
        self._stops: list[str] = []

    def step_done(self, step_id: str, number: int, result: StepResult) -> None:
        """A try ended. Ignored where that try is not the one that runs (any more)."""
        self._post(AttemptFinished(step_id, number, result))

    def cancel(self, request: str, reason: str, uid: str = "") -> None:
        """End the run CANCELED, where it is the asker's: see Cancel."""
        self._post(CancelRun(request, reason, uid))

    def look(self) -> None:
        """Check that nobody else has written the next segment: how an owner that only waits learns it is fenced."""
        self._post(_Look())

    def _post(self, message: AttemptFinished | CancelRun | _Look) -> None:
        self._messages.append(message)
        self._wake.set()

    async def run(self) -> RunResult:
        """Drive the run to its end.

        Returns:
            The end.

        Raises:
            Fenced: somebody else owns the run; the steps that were started here are stopped.
        """
        try:
            self._planner.resume_sleeps()
            await self._step([])
            while not self.state.is_finished:
                await self._wake.wait()
                self._wake.clear()
                messages, self._messages = self._messages, []
                await self._step(messages)
        except BaseException:
            # What was folded and could not be stored stops nothing by itself: its steps run as well.
            self._services.runner.cancel(self, [*self._stops, *self.state.running])
            raise
        finally:
            self._planner.cancel_sleeps()
        return self.ended()

    async def _step(self, messages: Sequence[AttemptFinished | CancelRun | _Look]) -> None:
        """Plan what becomes of what came in, store it, then act on it."""
        if any(isinstance(message, _Look) for message in messages):
            await self._look_ahead()
        plan = self._planner.plan([message for message in messages if not isinstance(message, _Look)])
        if plan.records:
            self._stops = plan.stops
            segment = self.log.seal(plan.seq, plan.records, totals_of(self.state))
            if plan.only_starts and not self.state.epochs_without_progress:
                # Nobody's stored outcome is in it, so the steps may start at once. After an epoch without progress the
                # record is awaited, so that the culprit of the next death is named.
                self._start(plan)
                await self._store(segment)
            else:
                await self._store(segment)
                self._services.runner.cancel(self, plan.stops)
                self._start(plan)
            self._stops = []
            self._records_since += len(plan.records)
            await self._snapshot()

    async def _store(self, segment: Segment) -> None:
        while True:
            try:
                await self._services.in_thread(lambda: self.log.store_segment(segment))
                return
            except StoreUnavailableError as error:
                logger.warning("run %s: segment %d not stored yet: %s", self.address.run_uuid, segment.seq, error)
                await asyncio.sleep(self._services.pause)

    async def _look_ahead(self) -> None:
        try:
            await self._services.in_thread(lambda: self.log.check_fence(self.state.seq))
        except StoreUnavailableError as error:
            logger.warning("run %s: the fence cannot be read now: %s", self.address.run_uuid, error)

    async def _snapshot(self) -> None:
        if self.state.is_finished or self._records_since < max(SNAPSHOT_EVERY, len(self.state.steps)):
            return
        self._records_since = 0
        records, seq = snapshot.compact(self.state), self.state.seq
        try:
            await self._services.in_thread(lambda: self.log.write_snapshot(seq, records))
        except WorkflowError as error:  # it only shortens reading: a store that refuses it ends no run
            logger.warning("run %s: snapshot %d left out: %s", self.address.run_uuid, seq, error)

    def _start(self, plan: SegmentPlan) -> None:
        for step in plan.starts:
            self._services.runner.start(self, step, self._planner.task(step))

    def ended(self) -> RunResult:
        """The end, as the log says it."""
        return result_of(self.state, self.address)


def result_of(state: RunState, address: RunAddress) -> RunResult:
    """How a run that has ended did so."""
    assert state.terminal is not None, "asked only of a run that has ended"
    end = state.terminal[1]
    failed = state.steps.get(end.error.step_id) if end.error is not None else None
    return RunResult(
        run=address,
        status=end.status,
        outcome=state.output.outcome if state.output is not None else None,
        error=end.error,
        error_value=failed.error_value if failed is not None else None,
        reason=end.reason,
        written_by=state.created.versions,
    )
