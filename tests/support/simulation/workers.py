"""The runner of a simulated manager: tries take time in worker processes, which read and write blobs, and may die."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tests.support.simulation.disk import Disk, Reached, SimulatedThreads
from tests.support.simulation.loop import Process, context_of
from tests.support.simulation.plans import ALWAYS, Seen, behaviour_of, error_of, value_of
from tests.support.simulation.watch import Watch
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
from workflow.model.state import StepState

MOST_DEATHS = 3
LOSSES = 0.1
"""Share of the tries that find a value gone that was lent to them."""


@dataclass
class Labour:
    """What all workers of a seed share.

    Attributes:
        mean: seconds that a step takes.
        deaths: share of the tries whose worker dies.
        tries: how often each (run, step) raised or returned, over all managers and epochs.
    """

    chance: Random
    disk: Disk
    watch: Watch
    mean: float
    deaths: float
    tries: dict[TaskKey, int]

    def begun(self, task: StepTask, epoch: int, step: StepState) -> None:
        """A try is handed to a worker."""
        self.disk.count("tries")
        self.watch.begun(task.run.run_uuid, epoch, task.step_id, step.spec.parents, lent=bool(task.ephemeral_inputs))


class SimulatedRunner:
    """See the port.

    Args:
        manager: the process that is told.
        workers: the process that stands for all its workers.
        labour: shared by all.
    """

    def __init__(self, manager: Process, workers: Process, labour: Labour) -> None:
        self._manager = manager
        self._workers = workers
        self._labour = labour
        self._threads = SimulatedThreads(labour.disk, workers)
        self._store = Reached(labour.disk, workers)
        self._trying: dict[TaskKey, asyncio.Task[None]] = {}

    def start(self, run: RunLoop, step: StepState, task: StepTask) -> None:
        """See the port."""
        labour = self._labour
        labour.begun(task, run.state.epoch, step)
        self._trying[task.key] = labour.disk.loop.spawn(
            self._workers,
            self._try(run, task, step.spec.kind, step.catcher is None and not step.spec.options.catch_exceptions),
        )

    def cancel(self, run: RunLoop, step_ids: Sequence[str]) -> None:
        """See the port."""
        for step_id in step_ids:
            trying = self._trying.pop((run.address.run_uuid, step_id), None)
            if trying is not None:
                self._labour.disk.count("tries stopped")
                trying.cancel()

    async def _try(self, run: RunLoop, task: StepTask, kind: StepKind, uncaught: bool) -> None:
        labour, chance = self._labour, self._labour.chance
        deaths = 0
        while True:
            await asyncio.sleep(chance.expovariate(1.0 / labour.mean))
            if labour.deaths and chance.random() < labour.deaths and (deaths < MOST_DEATHS or uncaught):
                deaths += 1
                labour.disk.count("workers died")
                if deaths <= MOST_DEATHS or kind is StepKind.EVENT:  # a listener is made anew however often
                    continue
                result: StepResult = raised(task.step_id, "ray.WorkerCrashedError", system=True)
                break
            try:
                result = await self._threads.run(lambda: self._execute(task))
                break
            except StoreUnavailableError:
                labour.disk.count("tries again: no store")
        loop, wait = labour.disk.loop, labour.disk.network.way()
        loop.call_later(wait, run.step_done, task.step_id, task.attempt, result, context=context_of(self._manager))

    def _execute(self, task: StepTask) -> StepResult:
        """What a worker does; blocks."""
        blobs = Blobs(self._store, RunPaths(task.run.workflow_id, task.run.run_number, task.run.run_uuid))
        blobs.get(task.function)
        does = behaviour_of(_read(blobs, task.args))
        if task.ephemeral_inputs and self._labour.chance.random() < LOSSES:
            self._labour.disk.count("values lost")
            return InputsLost(tuple(task.ephemeral_inputs)[:1], 0.0, 0.0)
        inputs = [
            Seen(
                _read(blobs, _lent(task, each.ephemeral_step) if each.ephemeral_step else each.value),
                each.caught,
                each.wraps,
            )
            for each in task.parents
        ]
        self._labour.tries[task.key] = tries = self._labour.tries.get(task.key, 0) + 1
        if does.fails == ALWAYS or task.attempt <= does.fails or tries <= does.heals:
            return raised(task.step_id, "ValueError")
        below = does.sub_dag(task.step_id)
        if below is not None:
            inline, blob = blobs.store_graph(below)
            return Expanded(below if inline is None else inline, blob, 0.0, 0.0)
        data = value_of(task.step_id, inputs, does.size)
        if not task.checkpoint:
            return ReturnedEphemeral(EphemeralValue(Value(inline=data, size=len(data))), 0.0, 0.0)
        return Returned(blobs.store_value(data), "", 0.0, 0.0)


def _lent(task: StepTask, maker: str) -> Value:
    value = task.ephemeral_inputs[maker].value
    assert value is not None, "all are small here"
    return value


def _read(blobs: Blobs, value: Value) -> bytes:
    return blobs.get(value.blob) if value.inline is None else value.inline


def raised(step_id: str, kind: str, *, system: bool = False) -> Raised:
    """A step that raised, or could not be executed."""
    data = error_of(step_id)
    return Raised(ErrorInfo(kind, "boom", step_id=step_id), Value(inline=data, size=len(data)), 0.0, 0.0, system=system)
