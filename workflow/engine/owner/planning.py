"""Decides what follows from finished attempts and requests: the records of a run's next segment.

A planner takes the decisions of a run's owner in this order: outcomes, failures and their consequences, cancellation,
and which steps to start. It has no side effects except the timers of sleeping steps. `run_loop` stores the planned
segment and then acts on it.
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
from workflow.engine.owner import retries
from workflow.engine.owner.environment import check_environment
from workflow.engine.owner.timers import SLEEP_VALUE, StepTimers
from workflow.model import ephemeral, failure, timers
from workflow.model import records as r
from workflow.model.fold import apply
from workflow.model.graph import Graph, StepKind
from workflow.model.state import RunState, StepState
from workflow.model.status import WorkflowStatus

MAX_RUNNING_TASKS = 2_000
"""Steps of one run that are submitted to Ray at once. The others wait in the manager, where they cost less."""

NO_EPHEMERAL_INPUTS: Final[Mapping[str, EphemeralValue]] = {}
"""One shared empty mapping: most steps have no ephemeral inputs, and each running attempt keeps its mapping."""


@dataclass(frozen=True, slots=True)
class AttemptFinished:
    """An attempt of a step has a result."""

    step_id: str
    attempt: int
    result: StepResult


@dataclass(frozen=True, slots=True)
class AttemptDue:
    """The pause before an attempt is over."""

    step_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class CancelRun:
    """A request to cancel the run.

    Attributes:
        request_id: the id of the request in the inbox.
        uid: the Workflow object that requests it, or empty. An object may only cancel its own run.
    """

    request_id: str
    reason: str
    uid: str = ""


@dataclass
class SegmentPlan:
    """The records of one segment, and what to do after they are stored.

    Attributes:
        to_start: the steps to start an attempt of.
        to_stop: the ids of the steps whose attempts must be stopped.
        notices: lines for the log of the manager.
    """

    seq: int
    records: list[r.Record] = field(default_factory=list)
    to_start: list[StepState] = field(default_factory=list)
    to_stop: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    @property
    def has_no_stored_outcome(self) -> bool:
        """Whether no record contains an outcome that a step could consume before the segment is stored."""
        return all(isinstance(record, (r.StepStarted, r.StepReturnedEphemeral, r.TimerSet)) for record in self.records)


class Planner:
    """Plans the segments of one owned run, and folds every planned record into the run's state.

    Args:
        state: the state of the run after the owner's claim.
        address: the run, as workers receive it.
        now: returns the seconds since 1970.
        attempt_finished: called with the step id, attempt and result of each sleep that is over.
        attempt_due: called with the step id and attempt when the pause before an attempt is over.
    """

    def __init__(
        self,
        state: RunState,
        address: RunAddress,
        now: Callable[[], float],
        attempt_finished: Callable[[str, int, StepResult], None],
        attempt_due: Callable[[str, int], None],
    ) -> None:
        self.state = state
        self._address = address
        self._now = now
        self._attempt_finished = attempt_finished
        self._attempt_due = attempt_due
        self._timers = StepTimers()
        # Steps that need a worker and wait for their next attempt, and those of them whose pause is over.
        self._paused: set[str] = set()
        self._due: dict[str, StepState] = {}
        self._ephemeral_values: dict[str, EphemeralValue] = {}
        # Steps whose ephemeral value was lost before. Their next value is stored, so that losses cannot repeat forever.
        self._lost_before: set[str] = set()

    def plan(self, messages: Sequence[AttemptFinished | AttemptDue | CancelRun]) -> SegmentPlan:
        """Return the next segment: what follows from the messages, in their order, and the steps that may start now."""
        plan = SegmentPlan(self.state.seq + 1)
        for message in messages:
            self._plan_message(message, plan)
            self._plan_decisions(plan)
        self._plan_decisions(plan)
        self._plan_starts(plan)
        return plan

    def task(self, step: StepState) -> StepTask:
        """Return the message to the worker that executes the next attempt of a step."""
        parents = []
        for parent in step.spec.parents:
            outcome = self.state.steps[parent].outcome
            assert outcome is not None, "a step is ready only after all its parents have outcomes"
            parents.append(outcome)
        inputs = {
            outcome.ephemeral_step: self._ephemeral_values[outcome.ephemeral_step]
            for outcome in parents
            if outcome.ephemeral_step
        }
        has_own_environment = "runtime_env" in step.spec.options.ray
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
            checkpoint=step.checkpointed or step.spec.step_id in self._lost_before,
            ephemeral_inputs=inputs or NO_EPHEMERAL_INPUTS,
            manager="" if has_own_environment else self.state.owner.address,
        )

    def resume_sleeps(self) -> None:
        """Set timers for the sleeps and the waits with timeouts that an earlier owner started."""
        now = self._now()
        for step in self.state.sleeping.values():
            self._set_timer(step, timers.left(step.spec.timer or 0.0, step.due, now))

    def stop_timers(self) -> None:
        """Stop all timers: no sleep and no pause is reported as finished any more."""
        self._timers.stop_all()

    def _plan_message(self, message: AttemptFinished | AttemptDue | CancelRun, plan: SegmentPlan) -> None:
        if self.state.is_finished:
            return
        if isinstance(message, CancelRun):
            self._plan_cancellation(message, plan)
        elif isinstance(message, AttemptDue):
            self._plan_due(message, plan)
        else:
            step = self.state.running.get(message.step_id) or self.state.sleeping.get(message.step_id)
            # The result of an attempt that was stopped or replaced is ignored.
            if step is not None and step.attempt == message.attempt:
                self._plan_result(step, message, plan)

    def _plan_result(self, step: StepState, message: AttemptFinished, plan: SegmentPlan) -> None:
        if step.spec.kind is StepKind.WAIT:  # its timeout is over
            self._plan_decision(step, plan)
            return
        result, attempt, epoch = message.result, message.attempt, self.state.epoch
        check_environment(self.state, result)
        times = {"attempt": attempt, "started": result.started, "ended": result.ended}
        if isinstance(result, Returned):
            committed = r.StepCommitted(message.step_id, epoch, result.value, text=result.text, **times)  # type: ignore[arg-type]
            self._record(plan, committed)
        elif isinstance(result, ReturnedEphemeral):
            self._record(plan, r.StepReturnedEphemeral(message.step_id, epoch, **times))  # type: ignore[arg-type]
            has_consumers = self.state.ephemeral[message.step_id] > 0
            if has_consumers:
                self._ephemeral_values[message.step_id] = result.ephemeral
        elif isinstance(result, InputsLost):
            self._plan_loss(step, result, plan)
        elif isinstance(result, Expanded):
            self._plan_expansion(step, result, attempt, plan)
        elif not result.system and step.spec.options.allows_attempt_after(step.failed_attempts + 1):
            self._plan_retry(step, result, plan)
        else:
            self._plan_failure(step, result, attempt, plan)
        self._plan_success(plan)

    def _plan_success(self, plan: SegmentPlan) -> None:
        """Finish the run if its output has its outcome. Steps that a wait left over are not executed any more."""
        state = self.state
        if state.is_finished or state.output is None or state.output.outcome is None:
            return
        canceled = failure.cancellations(state, failure.left_over(state), "the workflow finished without it")
        self._record_cancellations(plan, canceled)
        self._record(plan, r.StatusChanged(WorkflowStatus.SUCCESSFUL, state.epoch, self._now()))

    def _plan_decisions(self, plan: SegmentPlan) -> None:
        """Decide all waits whose inputs are ready. A decision may make other waits ready."""
        while waits := [step for step in self.state.waits.values() if step.spec.wait is not None and step.has_inputs]:
            for step in waits:
                if not self.state.is_finished:
                    self._plan_decision(step, plan)
            if self.state.is_finished:
                return

    def _plan_decision(self, step: StepState, plan: SegmentPlan) -> None:
        """Decide a wait: of the steps that have outcomes now, the first ones are ready, and all others remain."""
        assert step.spec.wait is not None, "only a wait is decided"
        self._timers.stop(step.spec.step_id)
        done = (parent for parent in step.spec.parents if self.state.steps[parent].outcome is not None)
        ready = tuple(islice(done, step.spec.wait.num_returns))
        started = step.started if step.due else 0.0
        self._record(plan, r.WaitDecided(step.spec.step_id, self.state.epoch, ready, started, self._now()))
        self._plan_success(plan)

    def _plan_expansion(self, step: StepState, result: Expanded, attempt: int, plan: SegmentPlan) -> None:
        broken = failure.failed_input(self.state, result.graph)
        if broken is not None and broken.error is not None:
            pickled = broken.error_value if broken.error_value is not None else SLEEP_VALUE
            raised = Raised(broken.error, pickled, result.started, result.ended)
            self._plan_failure(step, raised, attempt, plan)
            return
        expanded = r.StepExpanded(
            step.spec.step_id,
            self.state.epoch,
            None if result.blob else result.graph,
            result.blob,
            attempt=attempt,
            started=result.started,
            ended=result.ended,
        )
        self._record(plan, expanded, result.graph)

    def _plan_retry(self, step: StepState, raised: Raised, plan: SegmentPlan) -> None:
        """Plan the next attempt of a step that raised. It starts after a pause, or at once if there is none."""
        step_id, failed_attempts = step.spec.step_id, step.failed_attempts + 1
        pause = retries.pause_after(failed_attempts, f"{self._address.run_uuid} {step_id}")
        error, at = retries.recorded_error(raised.error), self._now() + pause
        self._record(plan, r.StepStarted(step_id, self.state.epoch, step.attempt + 1, at, failed_attempts, error))
        if retries.is_logged(failed_attempts):
            plan.notices.append(retries.log_line(self._address.workflow_id, step, raised.error, pause))
        if not pause:
            plan.to_start.append(step)
            return
        if step.needs_worker:
            self._paused.add(step_id)
        attempt = step.attempt
        self._timers.set(step_id, pause, lambda: self._attempt_due(step_id, attempt))

    def _plan_due(self, due: AttemptDue, plan: SegmentPlan) -> None:
        """Start an attempt whose pause is over. If it needs a worker, it waits for a free place like a ready step."""
        step = self.state.running.get(due.step_id)
        if step is not None and step.attempt == due.attempt:
            if step.needs_worker:
                self._due[due.step_id] = step
            else:
                plan.to_start.append(step)

    def _stop_timer(self, step_id: str) -> None:
        """Forget the sleep or the pause of a step that is canceled or waits for its inputs again."""
        self._timers.stop(step_id)
        self._paused.discard(step_id)
        self._due.pop(step_id, None)

    def _plan_failure(self, step: StepState, raised: Raised, attempt: int, plan: SegmentPlan) -> None:
        failed = r.StepFailed(
            step.spec.step_id,
            self.state.epoch,
            raised.error,
            raised.value,
            attempt=attempt,
            started=raised.started,
            ended=raised.ended,
        )
        self._record_cancellations(plan, failure.consequences(self.state, step, failed, raised.value))

    def _record_cancellations(self, plan: SegmentPlan, records: Sequence[r.Record]) -> None:
        """Add records to the plan, and stop the timers and attempts of the steps that these cancel."""
        for record in records:
            if isinstance(record, r.StepCanceled):
                self._stop_timer(record.step_id)
                if record.step_id in self.state.running:
                    plan.to_stop.append(record.step_id)
            self._record(plan, record)

    def _plan_loss(self, step: StepState, inputs_lost: InputsLost, plan: SegmentPlan) -> None:
        """Plan the repetition of steps whose ephemeral values are lost, and stop the other steps that need them."""
        others = [step_id for step_id in self.state.running if step_id != step.spec.step_id]
        for lost in ephemeral.lost(self.state, inputs_lost.step_ids):
            self._lost_before.add(lost.spec.step_id)
            self._record(plan, r.StepEphemeralLost(lost.spec.step_id, self.state.epoch))
        stopped = [step_id for step_id in others if step_id not in self.state.running]
        for step_id in stopped:
            self._stop_timer(step_id)
        plan.to_stop += stopped

    def _plan_cancellation(self, message: CancelRun, plan: SegmentPlan) -> None:
        state = self.state
        if message.uid and message.uid != state.owner.uid:
            refusal = f"refused: object {message.uid} does not own the run"
            self._record(plan, r.RequestHandled(message.request_id, state.epoch, refusal))
            return
        plan.to_stop += list(state.running)
        self._record(plan, r.RequestHandled(message.request_id, state.epoch, "canceled the run"))
        for record in failure.cancellations(state, state.active_steps(), message.reason or "canceled"):
            self._record(plan, record)
        reason = message.reason or "Canceled"
        self._record(plan, r.StatusChanged(WorkflowStatus.CANCELED, state.epoch, self._now(), reason))

    def _record(self, plan: SegmentPlan, record: r.Record, graph: Graph | None = None) -> None:
        """Add a record to the plan, fold it into the state, and release the ephemeral values it makes unneeded.

        The record is folded before it is stored, so that one segment can contain an outcome and the starts that follow
        from it. The state is not visible outside until the segment is stored. If it cannot be stored, the state is
        discarded.
        """
        apply(self.state, plan.seq, record, graph)
        plan.records.append(record)
        if not self._ephemeral_values:
            return
        step = self.state.steps.get(getattr(record, "step_id", ""))
        if step is not None:
            for step_id in (step.spec.step_id, *ephemeral.ephemeral_inputs(self.state, step)):
                is_needed = self.state.ephemeral.get(step_id, 0) > 0
                if not is_needed:
                    self._ephemeral_values.pop(step_id, None)

    def _plan_starts(self, plan: SegmentPlan) -> None:
        state = self.state
        if state.is_finished:
            plan.to_start.clear()
            return
        plan.to_start = [step for step in plan.to_start if step.spec.step_id in state.running]
        for step_id in list(islice(self._due, self._free_places())):
            plan.to_start.append(self._due.pop(step_id))
            self._paused.remove(step_id)
        now = self._now()
        for step in self._startable_steps():
            step_id, seconds = step.spec.step_id, step.spec.timer
            if seconds is not None:
                self._record(plan, r.TimerSet(step_id, state.epoch, now, now + seconds))
                self._set_timer(step, seconds)
            else:
                self._record(plan, r.StepStarted(step_id, state.epoch, step.attempt + 1, now, step.failed_attempts))
                plan.to_start.append(step)

    def _startable_steps(self) -> list[StepState]:
        """Return all ready waits, and as many of the ready tasks as `MAX_RUNNING_TASKS` allows."""
        return [*self.state.waits.values(), *islice(self.state.ready.values(), self._free_places())]

    def _free_places(self) -> int:
        """Return how many more tasks may be submitted to Ray. Tasks in a pause are not submitted."""
        return max(MAX_RUNNING_TASKS - self.state.running_tasks + len(self._paused), 0)

    def _set_timer(self, step: StepState, seconds: float) -> None:
        def wake() -> None:
            text = "null" if step.is_run_output else ""
            result = Returned(SLEEP_VALUE, text, step.started, self._now())
            self._attempt_finished(step.spec.step_id, step.attempt, result)

        self._timers.set(step.spec.step_id, seconds, wake)
