"""Drives one owned run: plans what follows from each message, stores the plan as a segment, and then acts on it.

A run loop is one asyncio task. It commits in groups: the messages that arrive while a segment is being stored go into
the next segment. An idle run costs nothing. The loop reaches the cluster only through the `Runner` port, and it calls
the store only in threads, so it never blocks the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from workflow.engine.messages import RunAddress, RunResult, StepResult, StepTask
from workflow.engine.owner.planning import AttemptDue, AttemptFinished, CancelRun, Planner, SegmentPlan
from workflow.engine.retry import async_retry_while_unavailable
from workflow.errors import StoreUnavailableError, WorkflowError
from workflow.log.run_log import RunLog, Segment
from workflow.model import snapshot
from workflow.model.state import RunState, StepState
from workflow.model.totals import totals_of

logger = logging.getLogger(__name__)

SNAPSHOT_EVERY = 2_000
"""Records after which a snapshot is written. A run with more steps than this waits for as many records as steps."""


class Runner(Protocol):
    """Executes steps. It reports each result by calling `RunLoop.step_done` in the thread of the event loop."""

    def start(self, run: RunLoop, step: StepState, task: StepTask) -> None:
        """Start one attempt of a step."""

    def cancel(self, run: RunLoop, step_ids: Sequence[str]) -> None:
        """Stop the running attempts of these steps. Their results are not reported."""


@dataclass(frozen=True)
class RunServices:
    """What all run loops of a manager share.

    Attributes:
        runner: executes the steps.
        in_thread: runs a blocking call of the store in another thread.
        now: returns the seconds since 1970.
        retry_pause: seconds between two attempts to store a segment while the store is unavailable.
    """

    runner: Runner
    in_thread: Callable[[Callable[[], object]], Awaitable[object]]
    now: Callable[[], float]
    retry_pause: float = 2.0


@dataclass(frozen=True, slots=True)
class _CheckFence:
    """A message: check whether another owner has written the next segment."""


Message = AttemptFinished | AttemptDue | CancelRun | _CheckFence


class RunLoop:
    """The loop of one owned run.

    Args:
        log: the log of the run.
        state: the state of the run after this owner's claim.
        address: the run, as workers receive it.
        services: the services of the manager.

    Attributes:
        received_requests: ids of the inbox requests that the loop received. Their records may not be stored yet.
    """

    def __init__(self, log: RunLog, state: RunState, address: RunAddress, services: RunServices) -> None:
        self.received_requests: set[str] = set()
        self.log = log
        self.state = state
        self.address = address
        self._services = services
        self._planner = Planner(state, address, services.now, self.step_done, self._attempt_due)
        self._messages: list[Message] = []
        self._wake = asyncio.Event()
        self._records_since_snapshot = 0
        self._pending_stops: list[str] = []  # planned stops that the runner has not received yet

    def step_done(self, step_id: str, attempt: int, result: StepResult) -> None:
        """Report the result of an attempt. It is ignored unless this attempt is the running one."""
        self._post(AttemptFinished(step_id, attempt, result))

    def cancel(self, request_id: str, reason: str, uid: str = "") -> None:
        """Cancel the run, unless the request comes from a Workflow object that does not own it."""
        self._post(CancelRun(request_id, reason, uid))

    def check_fence(self) -> None:
        """Check that no other owner has written the next segment.

        An owner that stores nothing, because it only waits, learns in this way that it was fenced.
        """
        self._post(_CheckFence())

    def _attempt_due(self, step_id: str, attempt: int) -> None:
        self._post(AttemptDue(step_id, attempt))

    def _post(self, message: Message) -> None:
        self._messages.append(message)
        self._wake.set()

    async def run(self) -> RunResult:
        """Drive the run until it is finished.

        Returns:
            The result of the run.

        Raises:
            FencedError: another owner claimed the run. The steps that this loop started are stopped.
        """
        try:
            self._planner.resume_sleeps()
            await self._advance([])
            while not self.state.is_finished:
                await self._wake.wait()
                self._wake.clear()
                messages, self._messages = self._messages, []
                await self._advance(messages)
        except BaseException:
            # If a planned segment was not stored, its steps to stop are no longer in `running` but still run.
            self._services.runner.cancel(self, [*self._pending_stops, *self.state.running])
            raise
        finally:
            self._planner.stop_timers()
        return self.result()

    async def _advance(self, messages: Sequence[Message]) -> None:
        """Plan what follows from the messages, store the plan, and act on it."""
        if any(isinstance(message, _CheckFence) for message in messages):
            await self._check_fence()
        plan = self._planner.plan([message for message in messages if not isinstance(message, _CheckFence)])
        if plan.records:
            self._pending_stops = plan.to_stop
            segment = self.log.seal(plan.seq, plan.records, totals_of(self.state))
            if plan.has_no_stored_outcome and not self.state.epochs_without_progress:
                # The new attempts consume no outcome of this segment, so they may start before it is stored.
                # After an epoch without progress the segment is stored first, so that it names the suspect steps if
                # the next owner fails as well.
                self._start(plan)
                await self._store(segment)
            else:
                await self._store(segment)
                self._services.runner.cancel(self, plan.to_stop)
                self._start(plan)
            self._pending_stops = []
            self._records_since_snapshot += len(plan.records)
            for notice in plan.notices:
                logger.warning("%s", notice)
            await self._write_snapshot_if_due()
        else:
            self._start(plan)  # attempts after a pause, whose starts were recorded before it

    async def _store(self, segment: Segment) -> None:
        def report(error: StoreUnavailableError) -> None:
            logger.warning("run %s: segment %d is not stored yet: %s", self.address.run_uuid, segment.seq, error)

        await async_retry_while_unavailable(
            lambda: self._services.in_thread(lambda: self.log.store_segment(segment)),
            self._services.retry_pause,
            report,
        )

    async def _check_fence(self) -> None:
        try:
            await self._services.in_thread(lambda: self.log.check_fence(self.state.seq))
        except StoreUnavailableError as error:
            logger.warning("run %s: the fence is not checked this time: %s", self.address.run_uuid, error)

    async def _write_snapshot_if_due(self) -> None:
        interval = max(SNAPSHOT_EVERY, len(self.state.steps))
        if self.state.is_finished or self._records_since_snapshot < interval:
            return
        self._records_since_snapshot = 0
        records, seq = snapshot.compact(self.state), self.state.seq
        try:
            await self._services.in_thread(lambda: self.log.write_snapshot(seq, records))
        except WorkflowError as error:  # a snapshot only shortens reading, so the run continues without it
            logger.warning("run %s: snapshot %d is not written: %s", self.address.run_uuid, seq, error)

    def _start(self, plan: SegmentPlan) -> None:
        for step in plan.to_start:
            self._services.runner.start(self, step, self._planner.task(step))

    def result(self) -> RunResult:
        """Return the result of the finished run, as its log records it."""
        return result_of(self.state, self.address)


def result_of(state: RunState, address: RunAddress) -> RunResult:
    """Return the result of a finished run."""
    assert state.terminal is not None, "result_of needs a finished run"
    _, last = state.terminal
    failed_step = state.steps.get(last.error.step_id) if last.error is not None else None
    return RunResult(
        run=address,
        status=last.status,
        outcome=state.output.outcome if state.output is not None else None,
        error=last.error,
        error_value=failed_step.error_value if failed_step is not None else None,
        reason=last.reason,
        written_by=state.created.versions,
    )
