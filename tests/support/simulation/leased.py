"""A runner with the engine's real leases: simulated workers ask for tries, are handed several, give back, and die.

What `serving` and `link` do in production, over a network that loses exchanges and their answers, and whose connections
break while a worker waits. Each try is believed to be short, so that batches form, and takes as long as the seed says.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.support.simulation.loop import Process, answer, context_of
from tests.support.simulation.workers import MOST_DEATHS, Labour, SimulatedRunner, raised
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


SEEMS = 0.0001
"""Seconds that each try says it took: whatever it takes, many are handed over at once."""


class _Died(Exception):
    """The worker."""


class LeasedRunner(SimulatedRunner):
    """See the port.

    Args:
        manager: the process that is told.
        workers: the process that stands for all its workers.
        labour: shared by all.
        slots: workers that fit into the cluster.
    """

    def __init__(self, manager: Process, workers: Process, labour: Labour, slots: int) -> None:
        super().__init__(manager, workers, labour)
        self._leases = Leases(
            self._open,
            self._end,
            lambda options: slots,
            lambda step_id, error: raised(step_id, "ray.WorkerCrashedError", system=True),
            lambda error: Cause.WORKER,
        )
        self._deaths: dict[TaskKey, int] = {}
        self._started: dict[TaskKey, tuple[int, StepState]] = {}

    def start(self, run: RunLoop, step: StepState, task: StepTask) -> None:
        """See the port."""
        if step.spec.kind is StepKind.EVENT:
            super().start(run, step, task)
            return
        self._started[task.key] = run.state.epoch, step
        self._leases.start(run, step, task)

    def cancel(self, run: RunLoop, step_ids: Sequence[str]) -> None:
        """See the port."""
        super().cancel(run, step_ids)
        self._leases.cancel(run, step_ids)

    def _open(self, number: str, name: str, options: Mapping[str, Any]) -> asyncio.Task[None]:
        self._labour.disk.count("leases")
        return self._labour.disk.loop.spawn(self._workers, self._live(number))

    def _end(self, worker: asyncio.Task[None]) -> None:
        self._labour.disk.count("leases ended")
        self._later(self._workers, worker.cancel)

    async def _live(self, number: str) -> None:
        error: BaseException | None = None
        try:
            await self._serve(number)
        except (_Died, asyncio.CancelledError) as ended:
            error = ended
        self._later(self._manager, self._leases.lease_ended, number, error)

    async def _serve(self, number: str) -> None:
        labour = self._labour
        await asyncio.sleep(labour.chance.random() * 0.5)
        if labour.deaths and labour.chance.random() < labour.deaths:
            labour.disk.count("workers died coming up")
            raise _Died(number)
        turn = 0
        done: tuple[FinishedAttempt, ...] = ()
        while batch := await self._exchange(number, turn, done):
            turn += 1
            done = await self._execute_all(number, turn, batch)

    async def _exchange(self, number: str, turn: int, done: tuple[FinishedAttempt, ...]) -> Batch:
        """Until an answer comes."""
        disk = self._labour.disk
        while True:
            reply: asyncio.Future[Batch | None] = disk.loop.create_future()
            if disk.network.chance.random() < disk.network.lost:
                self._later(self._workers, answer, reply, None)
            else:
                self._later(self._manager, self._asked, number, turn, done, reply)
            batch = await reply
            if batch is not None:
                return batch
            disk.count("exchanges repeated")

    def _asked(
        self, number: str, turn: int, done: tuple[FinishedAttempt, ...], reply: asyncio.Future[Batch | None]
    ) -> None:
        """On the manager's side."""
        network, loop = self._labour.disk.network, self._labour.disk.loop

        async def hand() -> None:
            batch = await self._leases.exchange(number, turn, done)
            lost = network.chance.random() < network.unanswered
            self._later(self._workers, answer, reply, None if lost else batch)

        answering = loop.spawn(self._manager, hand())
        if network.chance.random() < network.unanswered:  # the connection breaks, perhaps while the worker waits
            wait = network.chance.random()
            loop.call_later(wait, answering.cancel, context=context_of(self._manager))
            loop.call_later(wait, answer, reply, None, context=context_of(self._workers))

    async def _execute_all(self, number: str, turn: int, batch: Batch) -> tuple[FinishedAttempt, ...]:
        """What `serving.execute_all` does."""
        loop, waiting = self._labour.disk.loop, deque(batch)
        if len(batch) > 1:
            self._labour.disk.count("batches")

        def return_unstarted() -> None:
            if waiting:
                self._labour.disk.count("given back")
                rest = tuple(task.key for task in waiting)
                waiting.clear()
                self._later(self._manager, self._leases.return_unstarted, number, turn, rest)

        alarm = loop.call_later(RETURN_UNSTARTED_AFTER, return_unstarted)
        done = []
        while waiting:
            done.append(await self._execute_one(waiting.popleft()))
        alarm.cancel()
        return tuple(done)

    async def _execute_one(self, task: StepTask) -> FinishedAttempt:
        labour, chance = self._labour, self._labour.chance
        epoch, step = self._started[task.key]
        labour.begun(task, epoch, step)
        while True:
            if chance.random() < 0.5:
                await asyncio.sleep(chance.expovariate(1.0 / labour.mean))
            if labour.deaths and chance.random() < labour.deaths:
                caught = step.catcher is not None or step.spec.options.catch_exceptions
                deaths = self._deaths[task.key] = self._deaths.get(task.key, 0) + 1
                # One more may come by a neighbour; that a step's failure is caught must not depend on the weather.
                if deaths < MOST_DEATHS - 1 or not caught:
                    labour.disk.count("workers died")
                    raise _Died(task.step_id)
            try:
                result = await self._threads.run(lambda: self._execute(task))
                return FinishedAttempt(task.key, task.attempt, replace(result, ended=result.started + SEEMS))
            except StoreUnavailableError:
                labour.disk.count("tries again: no store")
                await asyncio.sleep(STORE_PAUSE)

    def _later(self, process: Process, call: Any, *args: Any) -> None:
        disk = self._labour.disk
        disk.loop.call_later(disk.network.way(), call, *args, context=context_of(process))
