"""What becomes of what comes in: the records of the next segment, and what to do once it is stored.

The decisions of a run's owner, in order: outcomes, failures and their consequences, cancellation, which steps to start.
Reaches nothing outside but the alarms of its sleeps; `run_loop` stores what is planned here, and acts on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from workflow.engine.messages import (
    EphemeralValue,
    Expanded,
    InputsLost,
    Raised,
    Returned,
    ReturnedEphemeral,
    RunAddress,
    StepResult,
    StepTask,
)
from workflow.engine.owner.timers import NOTHING, StepTimers
from workflow.model import ephemeral, failure, timers
from workflow.model import records as r
from workflow.model.fold import apply
from workflow.model.graph import Graph, StepKind
from workflow.model.state import RunState, StepState
from workflow.model.status import WorkflowStatus

MOST_IN_FLIGHT = 2_000
"""Steps of one run handed to Ray at once; the rest stay here, where they cost less."""

NO_EPHEMERAL_INPUTS: Final[Mapping[str, EphemeralValue]] = {}
"""One for all: of most steps there are many, and each is kept until its try ends."""


@dataclass(frozen=True, slots=True)
class AttemptFinished:
    """A try ended."""

    step_id: str
    attempt: int
    result: StepResult


@dataclass(frozen=True, slots=True)
class CancelRun:
    """The run is to end CANCELED.

    Attributes:
        request: the inbox id that asked for it.
        uid: of the object that asked, or empty. Another object's run is none of its business.
    """

    request: str
    reason: str
    uid: str = ""


@dataclass
class SegmentPlan:
    """What one segment will hold, and what to do once it is stored.

    Attributes:
        starts: steps of which a try begins.
        stops: ids of steps whose tries end.
    """

    seq: int
    records: list[r.Record] = field(default_factory=list)
    starts: list[StepState] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)

    @property
    def only_starts(self) -> bool:
        """Whether there is no outcome in it that anybody could take."""
        return all(isinstance(record, (r.StepStarted, r.StepReturnedEphemeral, r.TimerSet)) for record in self.records)


class Planner:
    """Plans the segments of one owned run, and folds what it plans.

    Args:
        state: folded up to the owner's claim.
        address: told to workers.
        now: seconds since 1970.
        over: told of a sleep that is over, as of any try.
    """

    def __init__(
        self,
        state: RunState,
        address: RunAddress,
        now: Callable[[], float],
        over: Callable[[str, int, StepResult], None],
    ) -> None:
        self.state = state
        self._address = address
        self._now = now
        self._over = over
        self._alarms = StepTimers()
        self._held: dict[str, EphemeralValue] = {}
        # Steps whose value was lost once: made again it is stored, so that they are not executed for ever.
        self._to_store: set[str] = set()

    def plan(self, messages: Sequence[AttemptFinished | CancelRun]) -> SegmentPlan:
        """The next segment: what came in, in order, and the starts that follow from it."""
        plan = SegmentPlan(self.state.seq + 1)
        for message in messages:
            self._take(message, plan)
        self._plan_starts(plan)
        return plan

    def task(self, step: StepState) -> StepTask:
        """What a worker is told of a step that starts now."""
        parents = []
        for parent in step.spec.parents:
            outcome = self.state.steps[parent].outcome
            assert outcome is not None, "a step is ready once all its parents have their outcomes"
            parents.append(outcome)
        held = {outcome.held: self._held[outcome.held] for outcome in parents if outcome.held} or NO_EPHEMERAL_INPUTS
        return StepTask(
            run=self._address,
            step_id=step.spec.step_id,
            qualname=step.spec.qualname,
            function=self.state.functions.get(step.spec.function, step.spec.function),
            args=step.spec.args,
            parents=tuple(parents),
            attempt=step.attempt,
            render=step.is_run_output,
            written_by=self.state.created.versions,
            checkpoint=step.checkpointed or step.spec.step_id in self._to_store,
            ephemeral_inputs=held,
            manager="" if "runtime_env" in step.spec.options.ray else self.state.owner.address,
        )

    def resume_sleeps(self) -> None:
        """Set the alarms of sleeps that an earlier owner began."""
        now = self._now()
        for step in self.state.sleeping.values():
            self._sleep(step, timers.left(step.spec.seconds, step.due, now))

    def cancel_sleeps(self) -> None:
        """Nobody is told of a sleep any more."""
        self._alarms.stop_all()

    def _take(self, message: AttemptFinished | CancelRun, plan: SegmentPlan) -> None:
        if self.state.is_finished:
            return
        if isinstance(message, CancelRun):
            self._cancel(message, plan)
        else:
            step = self.state.running.get(message.step_id) or self.state.sleeping.get(message.step_id)
            if step is not None and step.attempt == message.attempt:
                self._finish(step, message, plan)

    def _finish(self, step: StepState, message: AttemptFinished, plan: SegmentPlan) -> None:
        result, number, epoch = message.result, message.attempt, self.state.epoch
        times = {"attempt": number, "started": result.started, "ended": result.ended}
        if isinstance(result, Returned):
            committed = r.StepCommitted(message.step_id, epoch, result.value, text=result.text, **times)  # type: ignore[arg-type]
            self._record(plan, committed)
        elif isinstance(result, ReturnedEphemeral):
            self._record(plan, r.StepReturnedEphemeral(message.step_id, epoch, **times))  # type: ignore[arg-type]
            if self.state.ephemeral[message.step_id]:
                self._held[message.step_id] = result.ephemeral
        elif isinstance(result, InputsLost):
            self._void(step, result, plan)
        elif isinstance(result, Expanded):
            inline = None if result.blob else result.graph
            expanded = r.StepExpanded(message.step_id, epoch, inline, result.blob, **times)  # type: ignore[arg-type]
            self._record(plan, expanded, result.graph)
        elif not result.system and step.spec.options.may_try_again(step.failed_attempts + 1):
            self._record(plan, r.StepStarted(message.step_id, epoch, number + 1, self._now(), step.failed_attempts + 1))
            plan.starts.append(step)
        else:
            self._fail(step, result, number, plan)
        output = self.state.output
        if not self.state.is_finished and output is not None and output.outcome is not None:
            self._record(plan, r.StatusChanged(WorkflowStatus.SUCCESSFUL, epoch, self._now()))

    def _fail(self, step: StepState, raised: Raised, number: int, plan: SegmentPlan) -> None:
        failed = r.StepFailed(
            step.spec.step_id,
            self.state.epoch,
            raised.error,
            raised.value,
            attempt=number,
            started=raised.started,
            ended=raised.ended,
        )
        for record in failure.consequences(self.state, step, failed, raised.value):
            if isinstance(record, r.StepCanceled):
                self._alarms.stop(record.step_id)
                if record.step_id in self.state.running:
                    plan.stops.append(record.step_id)
            self._record(plan, record)

    def _void(self, step: StepState, missing: InputsLost, plan: SegmentPlan) -> None:
        running = [step_id for step_id in self.state.running if step_id != step.spec.step_id]
        for lost in ephemeral.lost(self.state, missing.step_ids):
            self._to_store.add(lost.spec.step_id)
            self._record(plan, r.StepEphemeralLost(lost.spec.step_id, self.state.epoch))
        plan.stops += [step_id for step_id in running if step_id not in self.state.running]

    def _cancel(self, message: CancelRun, plan: SegmentPlan) -> None:
        state = self.state
        if message.uid and message.uid != state.owner.uid:
            self._record(
                plan, r.RequestHandled(message.request, state.epoch, f"refused it: object {message.uid} asked")
            )
            return
        plan.stops += list(state.running)
        self._record(plan, r.RequestHandled(message.request, state.epoch, "canceled the run"))
        for record in failure.cancellations(state, state.active_steps(), message.reason or "canceled"):
            self._record(plan, record)
        self._record(
            plan,
            r.StatusChanged(WorkflowStatus.CANCELED, state.epoch, self._now(), message.reason or "Canceled"),
        )

    def _record(self, plan: SegmentPlan, record: r.Record, graph: Graph | None = None) -> None:
        # Folded before it is stored: that is how one segment holds an outcome and the starts that follow from it.
        # Nothing outside sees the state until the segment is stored; if it cannot be, the state is dropped.
        apply(self.state, plan.seq, record, graph)
        plan.records.append(record)
        step = self.state.steps.get(getattr(record, "step_id", "")) if self._held else None
        if step is not None:
            for held in (step.spec.step_id, *ephemeral.held_parents(self.state, step)):
                if not self.state.ephemeral.get(held):
                    self._held.pop(held, None)

    def _plan_starts(self, plan: SegmentPlan) -> None:
        state = self.state
        if state.is_finished:
            plan.starts.clear()
            return
        plan.starts = [step for step in plan.starts if step.spec.step_id in state.running]
        now = self._now()
        for step in self._chosen():
            step_id, seconds = step.spec.step_id, step.spec.seconds
            if step.spec.kind is StepKind.SLEEP:
                self._record(plan, r.TimerSet(step_id, state.epoch, now, now + seconds))
                self._sleep(step, seconds)
            else:
                self._record(plan, r.StepStarted(step_id, state.epoch, step.attempt + 1, now, step.failed_attempts))
                plan.starts.append(step)

    def _chosen(self) -> list[StepState]:
        """The ready steps to start now: of those that need a place in the cluster no more than there is room for."""
        state = self.state
        tasks = islice(state.ready.values(), max(MOST_IN_FLIGHT - state.running_tasks, 0))
        return [*state.waits.values(), *tasks]

    def _sleep(self, step: StepState, seconds: float) -> None:
        def over() -> None:
            text = "null" if step.is_run_output else ""
            self._over(step.spec.step_id, step.attempt, Returned(NOTHING, text, step.started, self._now()))

        self._alarms.set(step.spec.step_id, seconds, over)
