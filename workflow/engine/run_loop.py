"""Drives one run that this side owns: folds what comes in, stores it as segments, and only then acts on it.

One task of an asyncio loop a run. Group commit: what arrives while a segment is being stored goes into the next one;
nothing waits when idle. Knows Ray only through the `Runner` port, and blocks nowhere: the store is reached in threads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from workflow.engine.alarms import NOTHING, Alarms
from workflow.engine.messages import (
    Ended,
    Expanded,
    Held,
    Missing,
    Passed,
    Raised,
    Returned,
    RunAddress,
    StepResult,
    StepTask,
)
from workflow.errors import StoreUnavailable
from workflow.log.run_log import RunLog, Segment
from workflow.model import failure, holding, snapshot, timers
from workflow.model import records as r
from workflow.model.fold import apply
from workflow.model.graph import Graph, StepKind
from workflow.model.state import RunState, StepState
from workflow.model.status import WorkflowStatus

logger = logging.getLogger(__name__)

MOST_IN_FLIGHT = 2_000
"""Steps of one run handed to Ray at once; the rest stay here, where they cost less."""

SNAPSHOT_EVERY = 2_000
"""Records after which a snapshot is due; later ones wait for as many records as the run has steps."""


class Runner(Protocol):
    """Executes steps somewhere; answers by calling `RunLoop.step_done` on the loop's thread."""

    def start(self, run: RunLoop, step: StepState, task: StepTask) -> None:
        """Begin one try."""

    def cancel(self, run: RunLoop, step_ids: Sequence[str]) -> None:
        """Stop these tries where they still run; nothing is reported of them."""


@dataclass(frozen=True)
class Services:
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
class _Done:
    step_id: str
    number: int
    result: StepResult


@dataclass(frozen=True, slots=True)
class _Cancel:
    request: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Look:
    """Look whether the next segment was written by somebody else."""


@dataclass
class _Plan:
    """What one segment will hold, and what to do once it is stored."""

    seq: int
    records: list[r.Record] = field(default_factory=list)
    starts: list[StepState] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)
    look: bool = False

    @property
    def only_starts(self) -> bool:
        return all(isinstance(record, (r.StepStarted, r.StepPassed, r.TimerSet)) for record in self.records)


class RunLoop:
    """One owned run.

    Args:
        log: of the run.
        state: folded up to this owner's claim.
        address: told to workers.
        services: see there.
    """

    def __init__(self, log: RunLog, state: RunState, address: RunAddress, services: Services) -> None:
        self.log = log
        self.state = state
        self.address = address
        self._services = services
        self._messages: list[_Done | _Cancel | _Look] = []
        self._wake = asyncio.Event()
        self._alarms = Alarms()
        self._records_since = 0
        self._held: dict[str, Held] = {}
        # Steps whose value was lost once: made again it is stored, so that they are not executed for ever.
        self._to_store: set[str] = set()

    def step_done(self, step_id: str, number: int, result: StepResult) -> None:
        """A try ended. Ignored where that try is not the one that runs (any more)."""
        self._post(_Done(step_id, number, result))

    def cancel(self, request: str, reason: str) -> None:
        """End the run CANCELED; `request` is the inbox id that asked for it."""
        self._post(_Cancel(request, reason))

    def look(self) -> None:
        """Check that nobody else has written the next segment: how an owner that only waits learns it is fenced."""
        self._post(_Look())

    def _post(self, message: _Done | _Cancel | _Look) -> None:
        self._messages.append(message)
        self._wake.set()

    async def run(self) -> Ended:
        """Drive the run to its end.

        Returns:
            The end.

        Raises:
            Fenced: somebody else owns the run; the steps that were started here are stopped.
        """
        try:
            self._take_up_sleeps()
            await self._step(_Plan(self.state.seq + 1))
            while not self.state.ended:
                await self._wake.wait()
                self._wake.clear()
                messages, self._messages = self._messages, []
                plan = _Plan(self.state.seq + 1)
                for message in messages:
                    self._take(message, plan)
                await self._step(plan)
        except BaseException:
            self._services.runner.cancel(self, list(self.state.running))
            raise
        finally:
            self._alarms.stop_all()
        return self.ended()

    async def _step(self, plan: _Plan) -> None:
        """Store what was planned, then act on it."""
        self._plan_starts(plan)
        if plan.records:
            segment = self.log.seal(plan.seq, plan.records)
            if plan.only_starts and not self.state.stalled:
                # Nobody's stored outcome is in it, so the steps may start at once. After an epoch without progress the
                # record is awaited, so that the culprit of the next death is named.
                self._start(plan)
                await self._store(segment)
            else:
                await self._store(segment)
                self._services.runner.cancel(self, plan.stops)
                self._start(plan)
            self._records_since += len(plan.records)
            await self._snapshot()
        elif plan.look:
            await self._look_ahead()

    async def _store(self, segment: Segment) -> None:
        while True:
            try:
                await self._services.in_thread(lambda: self.log.store_segment(segment))
                return
            except StoreUnavailable as error:
                logger.warning("run %s: segment %d not stored yet: %s", self.address.run_uuid, segment.seq, error)
                await asyncio.sleep(self._services.pause)

    async def _look_ahead(self) -> None:
        try:
            await self._services.in_thread(lambda: self.log.check_fence(self.state.seq))
        except StoreUnavailable as error:
            logger.warning("run %s: the fence cannot be read now: %s", self.address.run_uuid, error)

    async def _snapshot(self) -> None:
        if self.state.ended or self._records_since < max(SNAPSHOT_EVERY, len(self.state.steps)):
            return
        self._records_since = 0
        records, seq = snapshot.compact(self.state), self.state.seq
        try:
            await self._services.in_thread(lambda: self.log.write_snapshot(seq, records))
        except StoreUnavailable as error:
            logger.warning("run %s: snapshot %d left out: %s", self.address.run_uuid, seq, error)

    def _take(self, message: _Done | _Cancel | _Look, plan: _Plan) -> None:
        if isinstance(message, _Look):
            plan.look = True
        elif self.state.ended:
            return
        elif isinstance(message, _Cancel):
            self._cancel(message, plan)
        else:
            step = self.state.running.get(message.step_id) or self.state.sleeping.get(message.step_id)
            if step is not None and step.tries == message.number:
                self._finish(step, message, plan)

    def _finish(self, step: StepState, message: _Done, plan: _Plan) -> None:
        result, number, epoch = message.result, message.number, self.state.epoch
        times = {"number": number, "started": result.started, "ended": result.ended}
        if isinstance(result, Returned):
            committed = r.StepCommitted(message.step_id, epoch, result.value, text=result.text, **times)  # type: ignore[arg-type]
            self._record(plan, committed)
        elif isinstance(result, Passed):
            self._record(plan, r.StepPassed(message.step_id, epoch, **times))  # type: ignore[arg-type]
            if self.state.passed[message.step_id]:
                self._held[message.step_id] = result.held
        elif isinstance(result, Missing):
            self._void(step, result, plan)
        elif isinstance(result, Expanded):
            inline = None if result.blob else result.graph
            expanded = r.StepExpanded(message.step_id, epoch, inline, result.blob, **times)  # type: ignore[arg-type]
            self._record(plan, expanded, result.graph)
        elif not result.system and step.spec.options.may_try_again(number):
            self._record(plan, r.StepStarted(message.step_id, epoch, number + 1, self._services.now()))
            plan.starts.append(step)
        else:
            self._fail(step, result, number, plan)
        output = self.state.output
        if not self.state.ended and output is not None and output.outcome is not None:
            self._record(plan, r.StatusChanged(WorkflowStatus.SUCCESSFUL, epoch, self._services.now()))

    def _fail(self, step: StepState, raised: Raised, number: int, plan: _Plan) -> None:
        failed = r.StepFailed(
            step.spec.step_id,
            self.state.epoch,
            raised.error,
            raised.value,
            number=number,
            started=raised.started,
            ended=raised.ended,
        )
        for record in failure.consequences(self.state, step, failed, raised.value):
            if isinstance(record, r.StepCanceled):
                self._alarms.stop(record.step_id)
                if record.step_id in self.state.running:
                    plan.stops.append(record.step_id)
            self._record(plan, record)

    def _void(self, step: StepState, missing: Missing, plan: _Plan) -> None:
        running = set(self.state.running) - {step.spec.step_id}
        for lost in holding.lost(self.state, missing.step_ids):
            self._to_store.add(lost.spec.step_id)
            self._record(plan, r.StepVoided(lost.spec.step_id, self.state.epoch))
        plan.stops += running - set(self.state.running)

    def _cancel(self, message: _Cancel, plan: _Plan) -> None:
        state = self.state
        plan.stops += list(state.running)
        self._record(plan, r.RequestTaken(message.request, state.epoch, "canceled the run"))
        for record in failure.cancellations(state, state.alive(), message.reason or "canceled"):
            self._record(plan, record)
        self._record(
            plan,
            r.StatusChanged(WorkflowStatus.CANCELED, state.epoch, self._services.now(), message.reason or "Canceled"),
        )

    def _record(self, plan: _Plan, record: r.Record, graph: Graph | None = None) -> None:
        # Folded before it is stored: that is how one segment holds an outcome and the starts that follow from it.
        # Nothing outside sees the state until the segment is stored; if it cannot be, the state is dropped.
        apply(self.state, plan.seq, record, graph)
        plan.records.append(record)
        step = self.state.steps.get(getattr(record, "step_id", "")) if self._held else None
        if step is not None:
            for held in (step.spec.step_id, *holding.held_parents(self.state, step)):
                if not self.state.passed.get(held):
                    self._held.pop(held, None)

    def _plan_starts(self, plan: _Plan) -> None:
        state = self.state
        if state.ended:
            plan.starts.clear()
            return
        plan.starts = [step for step in plan.starts if step.spec.step_id in state.running]
        now = self._services.now()
        for step in self._chosen():
            step_id, seconds = step.spec.step_id, step.spec.seconds
            if step.spec.kind is StepKind.SLEEP:
                self._record(plan, r.TimerSet(step_id, state.epoch, now, now + seconds))
                self._sleep(step, seconds)
            else:
                self._record(plan, r.StepStarted(step_id, state.epoch, step.tries + 1, now))
                plan.starts.append(step)

    def _chosen(self) -> list[StepState]:
        """The ready steps to start now: of those that need a place in the cluster no more than there is room for."""
        state = self.state
        tasks = islice(state.ready.values(), max(MOST_IN_FLIGHT - state.flying, 0))
        return [*state.waits.values(), *tasks]

    def _take_up_sleeps(self) -> None:
        now = self._services.now()
        for step in self.state.sleeping.values():
            self._sleep(step, timers.left(step.spec.seconds, step.due, now))

    def _sleep(self, step: StepState, seconds: float) -> None:
        def over() -> None:
            text = "null" if step.final else ""
            self.step_done(step.spec.step_id, step.tries, Returned(NOTHING, text, step.started, self._services.now()))

        self._alarms.set(step.spec.step_id, seconds, over)

    def _start(self, plan: _Plan) -> None:
        for step in plan.starts:
            self._services.runner.start(self, step, self._task(step))

    def _task(self, step: StepState) -> StepTask:
        parents = []
        for parent in step.spec.parents:
            outcome = self.state.steps[parent].outcome
            assert outcome is not None, "a step is ready once all its parents have their outcomes"
            parents.append(outcome)
        held = {outcome.held: self._held[outcome.held] for outcome in parents if outcome.held}
        return StepTask(
            run=self.address,
            step_id=step.spec.step_id,
            qualname=step.spec.qualname,
            function=self.state.functions.get(step.spec.function, step.spec.function),
            args=step.spec.args,
            parents=tuple(parents),
            number=step.tries,
            render=step.final,
            written_by=self.state.created.versions,
            checkpoint=step.stored or step.spec.step_id in self._to_store,
            held=held,
            manager="" if "runtime_env" in step.spec.options.ray else self.state.owner.address,
        )

    def ended(self) -> Ended:
        """The end, as the log says it."""
        return end_of(self.state, self.address)


def end_of(state: RunState, address: RunAddress) -> Ended:
    """How a run that has ended did so."""
    assert state.end is not None, "asked only of a run that has ended"
    end = state.end[1]
    failed = state.steps.get(end.error.step_id) if end.error is not None else None
    return Ended(
        run=address,
        status=end.status,
        outcome=state.output.outcome if state.output is not None else None,
        error=end.error,
        error_value=failed.error_value if failed is not None else None,
        reason=end.reason,
        written_by=state.created.versions,
    )
