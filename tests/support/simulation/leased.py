"""A runner with the real leases of the engine, and simulated workers.

Workers request attempts, receive several at once, return those that they did not start, and die. This replaces
`worker_loop` and `link`. The network loses requests and replies, and connections break while a worker waits. Each
attempt is reported as short, so that the engine forms batches, but takes as long as the seed decides.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.support.simulation.loop import Process, context_of, resolve
from tests.support.simulation.workers import MAX_DEATHS, SimulatedRunner, WorkerModel, raised
from workflow.engine.dispatch.demand import WaitReason
from workflow.engine.dispatch.leases import Leases
from workflow.engine.dispatch.pool import Cause
from workflow.engine.messages import FinishedAttempt, StepTask, TaskKey
from workflow.engine.owner.run_loop import RunLoop
from workflow.engine.worker.execution import STORE_PAUSE
from workflow.engine.worker.worker_loop import RETURN_UNSTARTED_AFTER
from workflow.errors import StoreUnavailableError
from workflow.model.graph import StepKind
from workflow.model.state import StepState

Batch = tuple[StepTask, ...]


REPORTED_SECONDS = 0.0001
"""Reported duration of each attempt. It is short, so that the engine sends several attempts at once."""


class _WorkerDiedError(Exception):
    """The worker died."""


class LeasedRunner(SimulatedRunner):
    """Runs attempts in simulated workers under the leases of the engine.

    Args:
        manager: the process that receives results.
        workers: one process that represents all workers of this manager.
        model: state that all workers share.
        slots: number of workers that fit into the cluster.
    """

    def __init__(self, manager: Process, workers: Process, model: WorkerModel, slots: int) -> None:
        super().__init__(manager, workers, model)
        self._leases = Leases(
            self._open,
            self._end,
            lambda options: slots,
            lambda step_id, error: raised(step_id, "ray.WorkerCrashedError", system=True),
            lambda error: Cause.WORKER,
            lambda options: WaitReason("the simulated cluster is busy", fits=True),
        )
        self._deaths: dict[TaskKey, int] = {}
        self._started: dict[TaskKey, tuple[int, StepState]] = {}

    def start(self, run: RunLoop, step: StepState, task: StepTask) -> None:
        if step.spec.kind is StepKind.EVENT:
            super().start(run, step, task)
            return
        self._started[task.key] = run.state.epoch, step
        self._leases.start(run, step, task)

    def cancel(self, run: RunLoop, step_ids: Sequence[str]) -> None:
        super().cancel(run, step_ids)
        self._leases.cancel(run, step_ids)

    def _open(self, number: str, name: str, options: Mapping[str, Any]) -> asyncio.Task[None]:
        self._model.shared.count("leases")
        return self._model.shared.loop.spawn(self._workers, self._run_worker(number))

    def _end(self, worker: asyncio.Task[None]) -> None:
        self._model.shared.count("leases ended")
        self._later(self._workers, worker.cancel)

    async def _run_worker(self, number: str) -> None:
        error: BaseException | None = None
        try:
            await self._serve(number)
        except (_WorkerDiedError, asyncio.CancelledError) as ended:
            error = ended
        self._later(self._manager, self._leases.lease_ended, number, error)

    async def _serve(self, number: str) -> None:
        model = self._model
        await asyncio.sleep(model.chance.random() * 0.5)
        if model.death_rate and model.chance.random() < model.death_rate:
            model.shared.count("workers died during startup")
            raise _WorkerDiedError(number)
        turn = 0
        done: tuple[FinishedAttempt, ...] = ()
        while batch := await self._exchange(number, turn, done):
            turn += 1
            done = await self._execute_all(number, turn, batch)

    async def _exchange(self, number: str, turn: int, done: tuple[FinishedAttempt, ...]) -> Batch:
        """Repeat the exchange until a reply arrives."""
        shared = self._model.shared
        while True:
            reply: asyncio.Future[Batch | None] = shared.loop.create_future()
            if shared.network.chance.random() < shared.network.loss_rate:
                self._later(self._workers, resolve, reply, None)
            else:
                self._later(self._manager, self._receive_exchange, number, turn, done, reply)
            batch = await reply
            if batch is not None:
                return batch
            shared.count("exchanges repeated")

    def _receive_exchange(
        self, number: str, turn: int, done: tuple[FinishedAttempt, ...], reply: asyncio.Future[Batch | None]
    ) -> None:
        """Handle an exchange in the process of the manager."""
        network, loop = self._model.shared.network, self._model.shared.loop

        async def reply_with_batch() -> None:
            batch = await self._leases.exchange(number, turn, done)
            lost = network.chance.random() < network.reply_loss_rate
            self._later(self._workers, resolve, reply, None if lost else batch)

        replying = loop.spawn(self._manager, reply_with_batch())
        if network.chance.random() < network.reply_loss_rate:  # the connection breaks, even if the worker waits
            wait = network.chance.random()
            loop.call_later(wait, replying.cancel, context=context_of(self._manager))
            loop.call_later(wait, resolve, reply, None, context=context_of(self._workers))

    async def _execute_all(self, number: str, turn: int, batch: Batch) -> tuple[FinishedAttempt, ...]:
        """Execute a batch like `workflow.engine.worker.worker_loop`."""
        loop, waiting = self._model.shared.loop, deque(batch)
        if len(batch) > 1:
            self._model.shared.count("batches")

        def return_unstarted() -> None:
            if waiting:
                self._model.shared.count("attempts returned unstarted")
                rest = tuple(task.key for task in waiting)
                waiting.clear()
                self._later(self._manager, self._leases.return_unstarted, number, turn, rest)

        timer = loop.call_later(RETURN_UNSTARTED_AFTER, return_unstarted)
        finished = []
        while waiting:
            finished.append(await self._execute_one(waiting.popleft()))
        timer.cancel()
        return tuple(finished)

    async def _execute_one(self, task: StepTask) -> FinishedAttempt:
        model, chance = self._model, self._model.chance
        epoch, step = self._started[task.key]
        model.attempt_started(task, epoch, step)
        while True:
            if chance.random() < 0.5:
                await asyncio.sleep(chance.expovariate(1.0 / model.mean_duration))
            if model.death_rate and chance.random() < model.death_rate:
                caught = step.catcher is not None or step.spec.options.catch_exceptions or model.limits_deaths
                deaths = self._deaths[task.key] = self._deaths.get(task.key, 0) + 1
                # A neighbour in the same batch may add one death. Deaths must not decide whether an error is caught.
                if deaths < MAX_DEATHS - 1 or not caught:
                    model.shared.count("workers died")
                    raise _WorkerDiedError(task.step_id)
            try:
                result = await self._threads.run(lambda: self._execute(task))
                return FinishedAttempt(task.key, task.attempt, replace(result, ended=result.started + REPORTED_SECONDS))
            except StoreUnavailableError:
                model.shared.count("attempts repeated: store unavailable")
                await asyncio.sleep(STORE_PAUSE)

    def _later(self, process: Process, call: Any, *args: Any) -> None:
        shared = self._model.shared
        shared.loop.call_later(shared.network.delay(), call, *args, context=context_of(process))
