"""The loop: one task for each Workflow does observe -> decide -> patch -> apply in turn; all else only wakes it.

`handlers.py` wakes a Workflow for each event that may concern it; `decide` says when to look again at the latest. A
round remembers nothing that the next could not read again, so killing the process anywhere loses only time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from workflow_operator.api.status import dump_status
from workflow_operator.apply import Failpoints, NoFailpoints, apply
from workflow_operator.core.decide import decide
from workflow_operator.core.observation import Defaults
from workflow_operator.errors import ConflictError, RefusedError, UnreachableError
from workflow_operator.metrics import Metrics
from workflow_operator.observe import Clients, observe
from workflow_operator.watch_index import Key, WatchIndex

log = structlog.get_logger(__name__)

AT_ONCE = 32
"""Rounds that run at the same time; more would only wait for the API server."""

CONFLICT_SECONDS = 0.05
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 0.5, 30.0


@dataclass(frozen=True)
class Dependencies:
    """What the rounds run with.

    Attributes:
        world: what they look at and act on.
        defaults: the operator's settings that decisions depend on.
        now: the time, in seconds since 1970.
        metrics: told of each round.
        points: told of each named point of a round.
    """

    clients: Clients
    defaults: Defaults
    now: Callable[[], float]
    metrics: Metrics = field(default_factory=Metrics)
    failpoints: Failpoints = field(default_factory=NoFailpoints)


@dataclass
class _Task:
    """The task of one Workflow, and what it may forget without harm."""

    woken: asyncio.Event = field(default_factory=asyncio.Event)
    woken_at: float = 0.0
    failures: int = 0
    refused: str = ""
    running: asyncio.Task[None] | None = None

    def stir(self) -> None:
        """Have another round."""
        if not self.woken.is_set():
            self.woken_at = asyncio.get_running_loop().time()
        self.woken.set()

    async def rest(self, seconds: float | None) -> None:
        """Wait until somebody stirs it, or for so long; not by `wait_for`, which some Pythons let swallow a cancel."""
        timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self.stir)
        try:
            await self.woken.wait()
        finally:
            if timer is not None:
                timer.cancel()


class Reconciler:
    """Runs the rounds of all Workflows.

    Args:
        setting: what the rounds run with.

    Attributes:
        interests: which Workflow is concerned by which foreign object.
    """

    def __init__(self, setting: Dependencies) -> None:
        self._setting = setting
        self._tasks: dict[Key, _Task] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)
        self.interests = WatchIndex()

    def wake(self, key: Key) -> None:
        """Have a round made for this Workflow soon; many calls before it begins are one."""
        task = self._tasks.setdefault(key, _Task())
        task.stir()
        if task.running is None:
            task.running = asyncio.create_task(self._run(key, task), name=f"workflow {key}")

    async def stop(self) -> None:
        """End all tasks, wherever they are; what they were about is found again by the next process."""
        running = [task.running for task in self._tasks.values() if task.running]
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._tasks.clear()

    async def _run(self, key: Key, task: _Task) -> None:
        while True:
            task.woken.clear()
            async with self._turns:
                delay = await self._guarded(key, task)
            if delay is None and not task.woken.is_set():
                self._tasks.pop(key, None)
                return
            await task.rest(delay)

    async def _guarded(self, key: Key, task: _Task) -> float | None:
        """One round, and what its failure means for the next one."""
        try:
            with self._setting.metrics.round():
                delay = await self._round(key, task)
        except ConflictError:
            return CONFLICT_SECONDS
        except RefusedError as refusal:
            task.refused = str(refusal)
            log.info("refused", namespace=key.namespace, workflow=key.name, error=task.refused)
            return _backoff(task)
        except UnreachableError as error:
            log.warning("not reachable", namespace=key.namespace, workflow=key.name, error=str(error))
            return _backoff(task)
        except Exception:  # one object's bug must not stop the others; it is said, and counted by its class
            log.exception("bug in a round", namespace=key.namespace, workflow=key.name)
            return _backoff(task)
        task.failures = 0
        return delay

    async def _round(self, key: Key, task: _Task) -> float | None:
        clients, failpoints, metrics = self._setting.clients, self._setting.failpoints, self._setting.metrics
        woken_at = task.woken_at
        workflow = await clients.workflows.get(key.namespace, key.name)
        if workflow is None:
            self.interests.forget(key)
            metrics.forget(key)
            return None
        self.interests.note(key, workflow.uid, workflow.spec, workflow.state)
        refused, task.refused = task.refused, ""
        observation = await observe(clients, workflow, self._setting.defaults, refused)
        await failpoints.reach("observed")
        decision = decide(observation, self._setting.now())
        if decision.actions or dump_status(decision.state) != dump_status(workflow.state):
            await failpoints.reach("decided")
            version = await clients.workflows.patch_status(workflow, decision.state)
            self.interests.note(key, workflow.uid, workflow.spec, decision.state)
            metrics.moved(workflow.state, decision.state, asyncio.get_running_loop().time() - woken_at)
            await failpoints.reach("patched")
            await apply(clients, workflow, version, decision.actions, failpoints)
        metrics.seen(key, decision.state.phase)
        return decision.requeue_after


def _backoff(task: _Task) -> float:
    """Seconds until the next round after a failed one; doubled for each in a row."""
    task.failures += 1
    return float(min(FIRST_RETRY_SECONDS * 2 ** min(task.failures - 1, 10), LAST_RETRY_SECONDS))
