"""Managers without Ray for tests: a memory store whose clock the test moves, fake runners, a fast pace."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.support import runs
from tests.support.fake_runner import FakeRunner, Script
from workflow.engine.messages import RunAddress, RunResult, StepTask
from workflow.engine.owner.manager import Intervals, Manager
from workflow.engine.owner.runtime import SYSTEM_RUNTIME, Runtime
from workflow.log.failpoints import NO_FAILPOINTS, Failpoints
from workflow.log.run_log import RunLog
from workflow.model.graph import Graph
from workflow.model.records import Created
from workflow.model.run_view import Owner
from workflow.store.memory import MemoryStore
from workflow.testing.failing import FailingStore

T = TypeVar("T")

SILENT = 31.0
"""Seconds behind which a manager that said nothing counts as gone."""

FAST = Intervals(heartbeat=0.05, bell=0.02, fence=0.05, follow=0.02, store=0.02)
_uuids = itertools.count(1)


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@dataclass
class House:
    """One store, and the managers that a test opens on it.

    Attributes:
        inner: the store itself, which never fails.
        store: what managers get; a test has it fail.
        machine: what managers run on.
    """

    clock: Clock = field(default_factory=Clock)
    machine: Runtime = SYSTEM_RUNTIME
    inner: MemoryStore = field(init=False)
    store: FailingStore = field(init=False)

    def __post_init__(self) -> None:
        self.inner = MemoryStore("house", self.clock)
        self.store = FailingStore(self.inner)

    @contextlib.asynccontextmanager
    async def manager(
        self,
        manager_id: str = "m1",
        incarnation: str = "i1",
        script: Script | None = None,
        pace: Intervals = FAST,
        failpoints: Failpoints = NO_FAILPOINTS,
    ) -> AsyncIterator[tuple[Manager, FakeRunner]]:
        """A manager that began, and its runner; it leaves at the end of the block."""
        runner = FakeRunner(script) if script is not None else FakeRunner()
        me = Owner(manager=manager_id, incarnation=incarnation, address=f"manager-{manager_id}")
        manager = Manager(self.store, me, runner, pace, failpoints, self.machine)
        try:
            await manager.begin()
            yield manager, runner
        finally:
            await manager.leave()

    async def abandon(self, manager: Manager) -> None:
        """What the death of a manager's process looks like to the store: everything stops, nothing is said."""
        last = self.inner.get(f"managers/{manager.me.manager}")
        await manager.leave()
        if last is not None:
            self.inner.overwrite(f"managers/{manager.me.manager}", last)

    def keys(self, prefix: str = "") -> list[str]:
        """What lies in the store."""
        return [info.key for info in self.inner.list(prefix)]

    def keep_function(self, created: Created) -> None:
        """Store the blob that a run's steps name."""
        RunLog(self.inner, created).blobs.put(b"a function")

    def address(self, created: Created) -> RunAddress:
        """Where a run lies."""
        return RunAddress(self.store.url, created.workflow_id, created.run_number, created.run_uuid)


def new_run(
    dag: str | Graph, workflow_id: str = "w", run_number: int = 1, uid: str = "", attempt: int = 0, **fields: int
) -> Created:
    """The record of a run that a client would ask a manager to start."""
    graph = runs.graph(dag) if isinstance(dag, str) else dag
    owner = Owner(manager="", uid=uid, attempt=attempt)
    return runs.created(graph, workflow_id, run_number, f"uuid-{next(_uuids)}", owner=owner, **fields)


async def soon(what: Awaitable[T], timeout: float = 10.0) -> T:
    """Its result; a failure where it hangs."""
    return await asyncio.wait_for(what, timeout)


def never(task: StepTask) -> None:
    """A script: no step ends by itself."""


async def begun(house: House, manager: Manager, dag: str | Graph = "a b:a", **fields: Any) -> Created:
    """A run that was started."""
    created = new_run(dag, **fields)
    house.keep_function(created)
    await soon(manager.start(created))
    return created


async def finish(house: House, manager: Manager, created: Created) -> RunResult:
    """Start a run and wait for its end."""
    house.keep_function(created)
    await soon(manager.start(created))
    return await soon(manager.wait(house.address(created)))
