"""Leases whose workers a test plays itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from workflow.engine.dispatch.leases import Leases
from workflow.engine.dispatch.ray_runner import cause_of, system_failure
from workflow.engine.messages import Expanded, FinishedAttempt, Returned, RunAddress, StepTask, TaskKey
from workflow.model.graph import Graph, Value

ADDRESS = RunAddress("memory://", "w", 1, "run")
SHORT, LONG = 0.0001, 1.0


@dataclass
class House:
    """Leases with workers that the test plays itself.

    Attributes:
        slots: workers that fit.
        opened: leases asked for: number and options, in order.
        ended: numbers of the leases whose worker was ended.
        results: what the run was told, in order.
        refuses: what asking for a worker raises.
        function: that of the steps that are started next.
    """

    slots: int = 2
    opened: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    results: list[tuple[str, Any]] = field(default_factory=list)
    refuses: Exception | None = None
    function: str = "m.f"
    address: RunAddress = ADDRESS

    def __post_init__(self) -> None:
        self.leases = Leases(self._open, self.ended.append, lambda options: self.slots, system_failure, cause_of)

    def _open(self, number: str, name: str, options: Mapping[str, Any]) -> str:
        if self.refuses is not None:
            raise self.refuses
        self.opened.append((number, options))
        return number

    def step_done(self, step_id: str, number: int, result: Any) -> None:
        """What a run loop is told."""
        self.results.append((step_id, result))

    async def start(self, *step_ids: str, **options: Any) -> None:
        """Have steps executed."""
        for step_id in step_ids:
            step = SimpleNamespace(spec=SimpleNamespace(options=SimpleNamespace(ray=options, allow_inplace=False)))
            task = StepTask(self.address, step_id, self.function, "", Value(b""), (), 1, render=False, written_by="")
            self.leases.start(self, step, task)  # type: ignore[arg-type]  # a run loop and a step, as far as they are asked
        await settle()

    async def start_in_place(self, step_id: str, of: str, **options: Any) -> None:
        """Have a step executed in the worker of the one that returned it."""
        scope = SimpleNamespace(spec=SimpleNamespace(step_id=of))
        step = SimpleNamespace(
            spec=SimpleNamespace(options=SimpleNamespace(ray=options, allow_inplace=True)), scope=scope
        )
        task = StepTask(self.address, step_id, self.function, "", Value(b""), (), 1, render=False, written_by="")
        self.leases.start(self, step, task)  # type: ignore[arg-type]
        await settle()

    async def handed(self, *step_ids: str) -> tuple[Worker, list[str]]:
        """A worker that has shown by a step that they are short, and what it is handed of more of them."""
        await self.start("measured")
        worker = self.worker()
        assert await worker.ask() == ["measured"]
        waiting = worker.ask()
        await settle()
        await self.start(*step_ids)
        return worker, await waiting

    def worker(self, index: int = -1) -> Worker:
        """The worker of the lease that was opened so."""
        return Worker(self, self.opened[index][0])

    def told(self) -> list[str]:
        """Steps whose results the run was told."""
        return [step_id for step_id, _ in self.results]


def key(step_id: str) -> TaskKey:
    """What tells a try of the usual run from others."""
    return ADDRESS.run_uuid, step_id


@dataclass
class Worker:
    """What `serve` does, by hand."""

    house: House
    number: str
    turn: int = 0
    batch: tuple[StepTask, ...] = ()

    def ask(self, took: float = SHORT) -> asyncio.Task[list[str]]:
        """Hand in what was done, and ask for more."""
        done = tuple(
            FinishedAttempt(each.key, each.attempt, Returned(Value(b"1"), "", 0.0, took)) for each in self.batch
        )
        self.turn += bool(self.batch)
        return asyncio.ensure_future(self._exchange(done))

    def returns(self, dag: Graph) -> asyncio.Task[list[str]]:
        """Its one try returned a DAG."""
        (task,) = self.batch
        self.turn += 1
        return asyncio.ensure_future(
            self._exchange([FinishedAttempt(task.key, task.attempt, Expanded(dag, "", 0.0, LONG))])
        )

    async def _exchange(self, done: Sequence[FinishedAttempt]) -> list[str]:
        self.batch = await self.house.leases.exchange(self.number, self.turn, done)
        return [each.step_id for each in self.batch]

    def dies(self, error: Exception | None = None) -> None:
        """Its process ends."""
        self.house.leases.lost(self.number, error or RuntimeError("worker died"))


async def settle() -> None:
    """Let everything happen that can happen now."""
    for _ in range(10):
        await asyncio.sleep(0)
