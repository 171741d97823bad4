"""Managers without Ray: a memory store with a clock that the test sets, fake runners, and short intervals."""

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
from workflow.log.liveness import HEARTBEAT_TIMEOUT
from workflow.log.run_log import RunLog
from workflow.model.graph import Graph
from workflow.model.records import Created
from workflow.model.run_view import Owner
from workflow.store.memory import MemoryStore
from workflow.testing.failing import FailingStore

T = TypeVar("T")

AFTER_HEARTBEAT_TIMEOUT = HEARTBEAT_TIMEOUT + 1.0
"""Seconds after which the last heartbeat of a failed manager has expired."""

FAST = Intervals(heartbeat=0.05, notifications=0.02, fence=0.05, follow=0.02, retry=0.02)
_uuids = itertools.count(1)


class Clock:
    """The clock of a memory store. A test sets its time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


@dataclass
class ManagerFixture:
    """One store, and the managers that a test opens on it.

    Attributes:
        inner: the store itself, which never fails.
        store: the store of the managers. A test makes its calls fail.
        runtime: the clocks and threads of the managers.
    """

    clock: Clock = field(default_factory=Clock)
    runtime: Runtime = SYSTEM_RUNTIME
    inner: MemoryStore = field(init=False)
    store: FailingStore = field(init=False)

    def __post_init__(self) -> None:
        self.inner = MemoryStore("managers", self.clock)
        self.store = FailingStore(self.inner)

    @contextlib.asynccontextmanager
    async def manager(
        self,
        manager_id: str = "m1",
        incarnation: str = "i1",
        script: Script | None = None,
        intervals: Intervals = FAST,
        failpoints: Failpoints = NO_FAILPOINTS,
    ) -> AsyncIterator[tuple[Manager, FakeRunner]]:
        """Start a manager and yield it with its runner. The manager leaves at the end of the block."""
        runner = FakeRunner(script) if script is not None else FakeRunner()
        identity = Owner(manager=manager_id, incarnation=incarnation, address=f"manager-{manager_id}")
        manager = Manager(self.store, identity, runner, intervals, failpoints, self.runtime)
        try:
            await manager.begin()
            yield manager, runner
        finally:
            await manager.leave()

    async def abandon(self, manager: Manager) -> None:
        """Stop a manager as if its process had failed: nothing more is written, and its last heartbeat stays."""
        key = f"managers/{manager.identity.manager}"
        last_heartbeat = self.inner.get(key)
        await manager.leave()
        if last_heartbeat is not None:
            self.inner.overwrite(key, last_heartbeat)

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys in the store that start with a prefix."""
        return [info.key for info in self.inner.list(prefix)]

    def keep_function(self, created: Created) -> None:
        """Store the blob of the function that all steps of a run use."""
        RunLog(self.inner, created).blobs.put(b"a function")

    def address(self, created: Created) -> RunAddress:
        """Return the address of a run in this store."""
        return RunAddress(self.store.url, created.workflow_id, created.run_number, created.run_uuid)


def new_run(
    dag: str | Graph, workflow_id: str = "w", run_number: int = 1, uid: str = "", attempt: int = 0, **fields: int
) -> Created:
    """Return the record of a new run, as a client sends it to a manager."""
    graph = runs.graph(dag) if isinstance(dag, str) else dag
    owner = Owner(manager="", uid=uid, attempt=attempt)
    return runs.created(graph, workflow_id, run_number, f"uuid-{next(_uuids)}", owner=owner, **fields)


async def with_timeout(awaitable: Awaitable[T], timeout: float = 10.0) -> T:
    """Return the result of an awaitable; raise TimeoutError if it takes longer than so many seconds."""
    return await asyncio.wait_for(awaitable, timeout)


def never_returns(task: StepTask) -> None:
    """A script by which no step returns until the test reports a result."""


async def start_run(fixture: ManagerFixture, manager: Manager, dag: str | Graph = "a b:a", **fields: Any) -> Created:
    """Create a run, start it at a manager, and return its record."""
    created = new_run(dag, **fields)
    fixture.keep_function(created)
    await with_timeout(manager.start(created))
    return created


async def run_to_result(fixture: ManagerFixture, manager: Manager, created: Created) -> RunResult:
    """Start a run, wait until it is finished, and return its result."""
    fixture.keep_function(created)
    await with_timeout(manager.start(created))
    return await with_timeout(manager.wait(fixture.address(created)))
