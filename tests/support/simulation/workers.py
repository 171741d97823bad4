"""The runner of a simulated manager, with simulated workers.

Attempts take virtual time in worker processes. The workers read and write blobs, and may die.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tests.support.simulation.loop import Process, context_of
from tests.support.simulation.observer import Observer
from tests.support.simulation.random_dags import ALWAYS, VisibleOutcome, behaviour_of, decided, error_of, value_of
from tests.support.simulation.store import SharedStore, SimulatedStore, SimulatedThreads
from workflow.engine.messages import (
    EphemeralValue,
    Expanded,
    InputsLost,
    Raised,
    Returned,
    ReturnedEphemeral,
    StepResult,
    StepTask,
    TaskKey,
)
from workflow.engine.owner.run_loop import RunLoop
from workflow.errors import StoreUnavailableError
from workflow.log.blobs import Blobs
from workflow.log.keys import RunPaths
from workflow.model.graph import StepKind, Value
from workflow.model.run_view import ErrorInfo
from workflow.model.state import Outcome, StepState

MAX_DEATHS = 3
LOSS_RATE = 0.1
"""Share of the attempts with ephemeral inputs that find one of them lost."""


@dataclass
class WorkerModel:
    """State that all workers of a simulation share.

    Attributes:
        chance: source of the random choices.
        shared: the store.
        observer: observes each attempt.
        mean_duration: mean duration of a step in seconds.
        death_rate: share of the attempts whose worker dies.
        attempts: (run, step) -> number of attempts that raised or returned, over all managers and epochs.
        limits_deaths: whether deaths of workers never make a step fail. It could fail before or after a wait ends.
    """

    chance: Random
    shared: SharedStore
    observer: Observer
    mean_duration: float
    death_rate: float
    attempts: dict[TaskKey, int]
    limits_deaths: bool = False

    def attempt_started(self, task: StepTask, epoch: int, step: StepState) -> None:
        """Record that a worker received an attempt."""
        self.shared.count("attempts")
        self.observer.attempt_started(
            task.run.run_uuid, epoch, task.step_id, step.spec.parents, ephemeral_inputs=bool(task.ephemeral_inputs)
        )


class SimulatedRunner:
    """Runs attempts in simulated workers. `workflow.engine.owner` documents the methods of a runner.

    Args:
        manager: the process that receives results.
        workers: one process that represents all workers of this manager.
        model: state that all workers share.
    """

    def __init__(self, manager: Process, workers: Process, model: WorkerModel) -> None:
        self._manager = manager
        self._workers = workers
        self._model = model
        self._threads = SimulatedThreads(model.shared, workers)
        self._store = SimulatedStore(model.shared, workers)
        self._running: dict[TaskKey, asyncio.Task[None]] = {}

    def start(self, run: RunLoop, step: StepState, task: StepTask) -> None:
        model = self._model
        model.attempt_started(task, run.state.epoch, step)
        uncaught = step.catcher is None and not step.spec.options.catch_exceptions and not model.limits_deaths
        attempt = self._execute_attempt(run, task, step.spec.kind, uncaught)
        self._running[task.key] = model.shared.loop.spawn(self._workers, attempt)

    def cancel(self, run: RunLoop, step_ids: Sequence[str]) -> None:
        for step_id in step_ids:
            task = self._running.pop((run.address.run_uuid, step_id), None)
            if task is not None:
                self._model.shared.count("attempts canceled")
                task.cancel()

    async def _execute_attempt(self, run: RunLoop, task: StepTask, kind: StepKind, uncaught: bool) -> None:
        model, chance = self._model, self._model.chance
        deaths = 0
        while True:
            await asyncio.sleep(chance.expovariate(1.0 / model.mean_duration))
            if model.death_rate and chance.random() < model.death_rate and (deaths < MAX_DEATHS or uncaught):
                deaths += 1
                model.shared.count("workers died")
                if deaths <= MAX_DEATHS or kind is StepKind.EVENT:  # an event listener is restarted without a limit
                    continue
                result: StepResult = raised(task.step_id, "ray.WorkerCrashedError", system=True)
                break
            try:
                result = await self._threads.run(lambda: self._execute(task))
                break
            except StoreUnavailableError:
                model.shared.count("attempts repeated: store unavailable")
        loop, wait = model.shared.loop, model.shared.network.delay()
        loop.call_later(wait, run.step_done, task.step_id, task.attempt, result, context=context_of(self._manager))

    def _execute(self, task: StepTask) -> StepResult:
        """Execute one attempt, like a worker. This blocks."""
        blobs = Blobs(self._store, RunPaths(task.run.workflow_id, task.run.run_number, task.run.run_uuid))
        blobs.get(task.function)
        behaviour = behaviour_of(_read(blobs, task.args))
        if task.ephemeral_inputs and self._model.chance.random() < LOSS_RATE:
            self._model.shared.count("ephemeral values lost")
            return InputsLost(tuple(task.ephemeral_inputs)[:1], 0.0, 0.0)
        inputs = [_visible(task, blobs, parent) for parent in task.parents]
        attempts = self._model.attempts[task.key] = self._model.attempts.get(task.key, 0) + 1
        if (
            behaviour.failures_per_epoch == ALWAYS
            or task.attempt <= behaviour.failures_per_epoch
            or attempts <= behaviour.failures_in_total
        ):
            return raised(task.step_id, "ValueError")
        sub_dag = behaviour.sub_dag(task.step_id, [each for found in inputs for each in found.remaining])
        if sub_dag is not None:
            inline, blob = blobs.store_graph(sub_dag)
            return Expanded(sub_dag if inline is None else inline, blob, 0.0, 0.0)
        data = value_of(task.step_id, inputs, behaviour.size)
        if not task.checkpoint:
            return ReturnedEphemeral(EphemeralValue(Value(inline=data, size=len(data))), 0.0, 0.0)
        return Returned(blobs.store_value(data), "", 0.0, 0.0)


def _visible(task: StepTask, blobs: Blobs, outcome: Outcome) -> VisibleOutcome:
    if outcome.waited is not None:
        return decided([_visible(task, blobs, each) for each in outcome.waited.ready], outcome.waited.remaining)
    value = _ephemeral_value(task, outcome.ephemeral_step) if outcome.ephemeral_step else outcome.value
    return VisibleOutcome(_read(blobs, value), outcome.caught, outcome.wrapped)


def _ephemeral_value(task: StepTask, step_id: str) -> Value:
    value = task.ephemeral_inputs[step_id].value
    assert value is not None, "all ephemeral values are small here"
    return value


def _read(blobs: Blobs, value: Value) -> bytes:
    return blobs.get(value.blob) if value.inline is None else value.inline


def raised(step_id: str, kind: str, *, system: bool = False) -> Raised:
    """Return the result of a step that raised, or whose worker died."""
    data = error_of(step_id)
    return Raised(ErrorInfo(kind, "boom", step_id=step_id), Value(inline=data, size=len(data)), 0.0, 0.0, system=system)
