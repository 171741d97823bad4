"""The Ray actor that contains a manager. It runs the manager's event loop in a thread, and passes calls to it.

The manager does not use Ray's event loop. So thousands of waiting callers, who are in a concurrency group of their own,
never delay the manager's commits. If Ray restarts the actor, the arguments of the constructor are the same: the
`manager_id` stays, and the incarnation changes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import uuid
from collections.abc import Coroutine
from typing import Any, TypeVar

import ray

from workflow.engine.dispatch.ray_runner import RayRunner
from workflow.engine.driver.progress import REPORT_AFTER, describe_progress
from workflow.engine.driver.results import ResultEnvelope
from workflow.engine.messages import (
    ClaimRequest,
    FinishedAttempt,
    RunAddress,
    RunResult,
    StepTask,
    StoreWitness,
    TaskKey,
)
from workflow.engine.owner.manager import Manager
from workflow.engine.worker import same_store
from workflow.engine.worker.run_values import shared_store
from workflow.errors import StoreRefusedError, StoreUnavailableError
from workflow.log import processes
from workflow.model.records import Created, Tombstone
from workflow.model.run_view import Owner

T = TypeVar("T")

NAMESPACE = "workflow"
IDLE_EXIT = 60.0
"""Seconds without a live run after which a manager ends. Each driver has a manager, which outlives it, and each is a
process of 100 MB."""

KILL_TIMEOUT = 10.0
"""Seconds within which Ray ends the process of a manager that asked for it. After that, the process ends by itself."""

logger = logging.getLogger(__name__)


class ManagerActor:
    """One manager, for one environment and one store. It owns any number of runs.

    Args:
        store_url: address of the store.
        manager_id: id of the manager, unique among all clusters. A restarted actor has the same id.
        address: name of this actor.
    """

    def __init__(self, store_url: str, manager_id: str, address: str) -> None:
        self._me = Owner(manager_id, uuid.uuid4().hex, address, process=_processes())
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="engine", daemon=True).start()
        self._witness = StoreWitness(store_url, manager_id, same_store.node_here())
        self._runner = RayRunner(self._loop, ray.get_runtime_context().current_actor, self._witness)
        self._manager = Manager(shared_store(store_url), self._me, self._runner, waits=self._runner.leases.waits)
        asyncio.run_coroutine_threadsafe(self._runner.begin(), self._loop).result()
        # Not awaited, because the store may be unavailable. Ray never restarts an actor whose constructor raised
        # (ray#46746).
        asyncio.run_coroutine_threadsafe(self._manager.begin(), self._loop)
        asyncio.run_coroutine_threadsafe(self._leave_when_idle(), self._loop)
        asyncio.run_coroutine_threadsafe(self._end_when_replaced(), self._loop)

    async def ping(self) -> Owner:
        """Return the identity of the manager."""
        return self._me

    async def show_store(self) -> StoreWitness:
        """Store a heartbeat, which shows other processes which store this manager uses; see `Manager.show_store`."""
        try:
            await self._on_loop(self._manager.show_store())
        except (StoreRefusedError, StoreUnavailableError) as error:
            raise same_store.unusable(error, "the manager", self._witness.node, self._witness.store_url) from error
        return self._witness

    async def start(self, created: Created) -> Created | Tombstone:
        """Create a run; see `Manager.start`."""
        return await self._on_loop(self._manager.start(created))

    async def claim(self, request: ClaimRequest) -> None:
        """Claim a run; see `Manager.claim`."""
        await self._on_loop(self._manager.claim(request))

    async def notify(self, run_uuid: str) -> None:
        """Let the manager read the inbox of a run now; see `Manager.notify`."""
        await self._on_loop(self._manager.notify(run_uuid))

    async def wait_reason(self, run_uuid: str, step_id: str) -> str:
        """Return why a step waits for a worker; see `Leases.wait_reason`."""
        return await self._on_loop(self._wait_reason(run_uuid, step_id))

    async def _wait_reason(self, run_uuid: str, step_id: str) -> str:
        return self._runner.leases.wait_reason((run_uuid, step_id))

    @ray.method(concurrency_group="leases")  # type: ignore[untyped-decorator]  # ray ships no types for it
    async def exchange(
        self, lease_id: str, sequence: int, finished: tuple[FinishedAttempt, ...]
    ) -> tuple[StepTask, ...]:
        """Receive finished attempts from a worker, and return its next tasks; see `Leases.exchange`."""
        return await self._on_loop(self._runner.leases.exchange(lease_id, sequence, finished))

    @ray.method(concurrency_group="leases")  # type: ignore[untyped-decorator]
    async def return_unstarted(self, lease_id: str, sequence: int, keys: tuple[TaskKey, ...]) -> None:
        """Take back attempts that a worker has not started; see `Leases.return_unstarted`."""
        self._loop.call_soon_threadsafe(self._runner.leases.return_unstarted, lease_id, sequence, keys)

    @ray.method(concurrency_group="leases")  # type: ignore[untyped-decorator]
    async def own_copy(self, refs: list[Any]) -> list[Any]:
        """Return a reference to a copy of a Ray object that this manager owns; see `transfer.publish`.

        Args:
            refs: the reference, in a list, so that Ray does not fetch the object.
        """
        return [self._runner.own_copy(refs[0])]

    @ray.method(concurrency_group="waiting")  # type: ignore[untyped-decorator]
    async def wait(self, run: RunAddress) -> RunResult:
        """Wait until a run is finished; see `Manager.wait`."""
        return await self._on_loop(self._manager.wait(run))

    @ray.method(concurrency_group="waiting")  # type: ignore[untyped-decorator]
    async def output(self, run: RunAddress, resumes: bool) -> ResultEnvelope:
        """Wait until a run is finished, and return its value or exception in an envelope.

        The envelope is opened where Ray unpickles it, in the process that calls `ray.get`.

        Args:
            run: the run to wait for.
            resumes: whether to resume the run if its owner is lost. A call that only reads must not.
        """
        if resumes:
            return ResultEnvelope(await self._on_loop(self._manager.wait_or_resume(run)))
        observing = asyncio.ensure_future(self._on_loop(self._manager.observe(run)))
        if not (await asyncio.wait([observing], timeout=REPORT_AFTER))[0]:
            described = await asyncio.to_thread(describe_progress, shared_store(run.store_url), run)
            logger.warning("get_output is still waiting for %s", described)
        return ResultEnvelope(await observing)

    async def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def _end_when_replaced(self) -> None:
        await self._manager.replaced.wait()
        logger.warning("manager %s: a later incarnation of it is running; this process ends", self._me.address)
        os._exit(1)  # Ray considers this process dead already; if it does not, it restarts the actor

    async def _leave_when_idle(self) -> None:
        await self._manager.idle(IDLE_EXIT)
        logger.info("manager %s owned no run for %d s and ends", self._me.address, IDLE_EXIT)
        try:
            await self._manager.leave()
        except Exception:  # the manager refuses all calls by now, so it must end to free its name
            logger.exception("manager %s ends, but could not leave in order; its runs can be resumed", self._me.address)
        try:
            # Ray restarts an actor whose process only exits. `ray.kill` declares that the end is intended.
            ray.kill(ray.get_runtime_context().current_actor, no_restart=True)
            # Ray ends this process now. If it ended by itself before, Ray would report a crash to every driver.
            await asyncio.sleep(KILL_TIMEOUT)
        finally:
            os._exit(0)


def _processes() -> str:
    """Describe this process and the raylet that would restart it; empty if the parent is not a raylet."""
    raylet = os.getppid()
    return processes.describe([os.getpid(), raylet]) if processes.name(raylet) == "raylet" else ""
