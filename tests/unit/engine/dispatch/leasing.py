"""Leases with workers that a test plays itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from workflow.engine.dispatch.demand import WaitReason
from workflow.engine.dispatch.leases import Leases
from workflow.engine.dispatch.ray_runner import cause_of, system_failure
from workflow.engine.messages import Expanded, FinishedAttempt, Returned, RunAddress, StepTask, TaskKey
from workflow.model.graph import Graph, Value

ADDRESS = RunAddress("memory://", "w", 1, "run")
IT_WAITS = WaitReason("it waits", fits=True)
SHORT, LONG = 0.0001, 1.0
"""Durations of steps in seconds."""


@dataclass
class LeaseFixture:
    """Leases, and the run and the cluster around them.

    Attributes:
        slots: number of workers that fit into the cluster.
        opened: id and Ray options of each requested lease, in order.
        ended: ids of the leases whose worker was ended.
        results: step id and result of each finished attempt, in order.
        refuses: exception that a request for a worker raises.
        function: qualified name of the function of the next steps.
        wait_reason: why no worker starts.
    """

    slots: int = 2
    opened: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    results: list[tuple[str, Any]] = field(default_factory=list)
    refuses: Exception | None = None
    function: str = "m.f"
    address: RunAddress = ADDRESS
    wait_reason: WaitReason = IT_WAITS

    def __post_init__(self) -> None:
        self.leases = Leases(
            self._open,
            self.ended.append,
            lambda options: self.slots,
            system_failure,
            cause_of,
            lambda options: self.wait_reason,
        )

    def _open(self, lease_id: str, name: str, options: Mapping[str, Any]) -> str:
        if self.refuses is not None:
            raise self.refuses
        self.opened.append((lease_id, options))
        return lease_id

    def step_done(self, step_id: str, attempt: int, result: Any) -> None:
        """Record a result, as the run loop of these steps."""
        self.results.append((step_id, result))

    async def start(self, *step_ids: str, **options: Any) -> None:
        """Start attempts of steps with these Ray options."""
        for step_id in step_ids:
            step = SimpleNamespace(spec=SimpleNamespace(options=SimpleNamespace(ray=options, allow_inplace=False)))
            self.leases.start(self, step, self._task(step_id))  # type: ignore[arg-type]  # doubles with what is used
        await settle()

    async def start_in_place(self, step_id: str, of: str, **options: Any) -> None:
        """Start an attempt of a step with `allow_inplace`, which the dynamic step `of` returned."""
        scope = SimpleNamespace(spec=SimpleNamespace(step_id=of))
        step = SimpleNamespace(
            spec=SimpleNamespace(options=SimpleNamespace(ray=options, allow_inplace=True)), scope=scope
        )
        self.leases.start(self, step, self._task(step_id))  # type: ignore[arg-type]
        await settle()

    async def start_batch(self, *step_ids: str) -> tuple[Worker, list[str]]:
        """Start attempts after one was measured as short.

        Returns:
            The worker of the first one, and the ids of the steps that it receives next.
        """
        await self.start("measured")
        worker = self.worker()
        assert await worker.ask() == ["measured"]
        waiting = worker.ask()
        await settle()
        await self.start(*step_ids)
        return worker, await waiting

    def worker(self, index: int = -1) -> Worker:
        """Return the worker of a lease, by the order in which leases were requested."""
        return Worker(self, self.opened[index][0])

    def finished(self) -> list[str]:
        """Return the ids of the finished steps, in order."""
        return [step_id for step_id, _ in self.results]

    def _task(self, step_id: str) -> StepTask:
        return StepTask(self.address, step_id, self.function, "", Value(b""), (), 1, render=False, written_by="")


def key(step_id: str) -> TaskKey:
    """Return the key of a step of the run at ADDRESS."""
    return ADDRESS.run_uuid, step_id


def returned(step_id: str, seconds: float) -> FinishedAttempt:
    """Return a finished attempt of a step that took so long."""
    return FinishedAttempt(key(step_id), 1, Returned(Value(b"1"), "", 0.0, seconds))


@dataclass
class Worker:
    """Calls the leases as `worker_loop.serve` does, when the test lets it."""

    fixture: LeaseFixture
    lease_id: str
    sequence: int = 0
    batch: tuple[StepTask, ...] = ()

    def ask(self, seconds: float = SHORT) -> asyncio.Task[list[str]]:
        """Finish the batch, each step after so many seconds, and ask for the next one."""
        finished = tuple(
            FinishedAttempt(each.key, each.attempt, Returned(Value(b"1"), "", 0.0, seconds)) for each in self.batch
        )
        self.sequence += bool(self.batch)
        return asyncio.ensure_future(self._exchange(finished))

    def return_dag(self, dag: Graph) -> asyncio.Task[list[str]]:
        """Finish the only step of the batch with a DAG as its result, and ask for the next batch."""
        (task,) = self.batch
        self.sequence += 1
        return asyncio.ensure_future(
            self._exchange([FinishedAttempt(task.key, task.attempt, Expanded(dag, "", 0.0, LONG))])
        )

    async def _exchange(self, finished: Sequence[FinishedAttempt]) -> list[str]:
        self.batch = await self.fixture.leases.exchange(self.lease_id, self.sequence, finished)
        return [each.step_id for each in self.batch]

    def die(self, error: Exception | None = None) -> None:
        """Let the Ray task of the worker fail."""
        self.fixture.leases.lease_ended(self.lease_id, error or RuntimeError("worker died"))


async def settle() -> None:
    """Let everything run that can run without waiting."""
    for _ in range(10):
        await asyncio.sleep(0)
