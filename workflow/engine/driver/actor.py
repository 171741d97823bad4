"""The Ray actor around a manager: a thread with an event loop of the manager's own, and calls that pass through to it.

The loop is not Ray's, so that waiting callers, who may be thousands, sit in a concurrency group that never keeps a
commit waiting. Ray restarts the actor with the arguments it was made with: `manager_id` stays, the incarnation changes.
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
from workflow.engine.driver.results import ResultEnvelope
from workflow.engine.messages import FinishedAttempt, RunAddress, RunResult, StepTask, TaskKey
from workflow.engine.owner.manager import ClaimRequest, Manager
from workflow.engine.worker.run_values import shared_store
from workflow.model.records import Created, Tombstone
from workflow.model.run_view import Owner

T = TypeVar("T")

NAMESPACE = "workflow"
IDLE_EXIT = 300.0
"""Seconds without a live run after which a manager leaves."""

logger = logging.getLogger(__name__)


class ManagerActor:
    """One manager: one environment, one store, any number of runs.

    Args:
        store_url: where its runs lie.
        manager_id: unique among all clusters, kept over restarts.
        address: this actor's name.
    """

    def __init__(self, store_url: str, manager_id: str, address: str) -> None:
        self._me = Owner(manager=manager_id, incarnation=uuid.uuid4().hex, address=address)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="engine", daemon=True).start()
        self._runner = RayRunner(self._loop, ray.get_runtime_context().current_actor)
        self._manager = Manager(shared_store(store_url), self._me, self._runner)
        asyncio.run_coroutine_threadsafe(self._runner.begin(), self._loop).result()
        # Not waited for, since the store may be away: Ray restarts no actor whose constructor raised (ray#46746).
        asyncio.run_coroutine_threadsafe(self._manager.begin(), self._loop)
        asyncio.run_coroutine_threadsafe(self._leave_when_idle(), self._loop)
        asyncio.run_coroutine_threadsafe(self._end_when_replaced(), self._loop)

    async def ping(self) -> Owner:
        """Who answers."""
        return self._me

    async def start(self, created: Created) -> Created | Tombstone:
        """See Manager.start."""
        return await self._pass(self._manager.start(created))

    async def claim(self, request: ClaimRequest) -> None:
        """See Manager.claim."""
        await self._pass(self._manager.claim(request))

    async def notify(self, run_uuid: str) -> None:
        """See Manager.ring."""
        await self._pass(self._manager.notify(run_uuid))

    @ray.method(concurrency_group="leases")  # type: ignore[untyped-decorator]  # ray ships no types for it
    async def exchange(self, number: str, turn: int, done: tuple[FinishedAttempt, ...]) -> tuple[StepTask, ...]:
        """See Leases.exchange."""
        return await self._pass(self._runner.leases.exchange(number, turn, done))

    @ray.method(concurrency_group="leases")  # type: ignore[untyped-decorator]
    async def return_unstarted(self, number: str, turn: int, keys: tuple[TaskKey, ...]) -> None:
        """See Leases.give_back."""
        self._loop.call_soon_threadsafe(self._runner.leases.return_unstarted, number, turn, keys)

    @ray.method(concurrency_group="waiting")  # type: ignore[untyped-decorator]
    async def wait(self, run: RunAddress) -> RunResult:
        """See Manager.wait."""
        return await self._pass(self._manager.wait(run))

    @ray.method(concurrency_group="waiting")  # type: ignore[untyped-decorator]
    async def output(self, run: RunAddress) -> ResultEnvelope:
        """A run's value, or what it failed with, for `ray.get`; unpickled only where it arrives."""
        return ResultEnvelope(await self._pass(self._manager.wait_or_resume(run)))

    async def _pass(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def _end_when_replaced(self) -> None:
        await self._manager.replaced.wait()
        logger.warning("manager %s: a later incarnation is at work; this one ends", self._me.address)
        os._exit(1)  # Ray has given this process up; where it has not, it makes another

    async def _leave_when_idle(self) -> None:
        await self._manager.idle(IDLE_EXIT)
        logger.info("manager %s owned no run for %d s and leaves", self._me.address, IDLE_EXIT)
        try:
            await self._manager.leave()
        except Exception:  # it refuses everything by now: to stay would keep its name from the next one
            logger.exception("manager %s", self._me.address)
        try:
            # Ray would restart an actor whose process just ends; this says that it is meant.
            ray.kill(ray.get_runtime_context().current_actor, no_restart=True)
        finally:
            os._exit(0)
