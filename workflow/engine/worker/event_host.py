"""The process in which event listeners wait: a Ray actor without a CPU, child of a manager, with which it ends.

Each wait is a coroutine of its one asyncio loop. What reads the store or unpickles runs in threads beside it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import ray
from ray.exceptions import RayActorError

from workflow.engine.messages import Raised, StepResult, StepTask, TaskKey
from workflow.engine.worker import context
from workflow.engine.worker.execution import as_raised, as_returned, inputs, retry_while_unavailable
from workflow.engine.worker.refs import as_result

WAITS_AT_ONCE = 100_000

T = TypeVar("T")


class EventHost:
    """Awaits listeners."""

    def __init__(self) -> None:
        self._waits: dict[TaskKey, asyncio.Task[StepResult]] = {}

    async def listen(self, task: StepTask) -> StepResult | None:
        """Run one try of an EVENT step; None where it was stopped."""
        started = time.time()
        mine = self._waits[task.key] = asyncio.ensure_future(attend(task, started))
        try:
            return await mine
        except asyncio.CancelledError as error:
            if self._waits.get(task.key) is not mine:
                return None
            canceled = error  # not by `stop`: it is the listener's own, like any other error
            return await _in_thread(task, lambda: as_raised(task, started, canceled))
        finally:
            if self._waits.get(task.key) is mine:
                del self._waits[task.key]

    async def stop(self, waits: Sequence[TaskKey]) -> None:
        """Cancel the coroutines of these waits."""
        for key in waits:
            wait = self._waits.pop(key, None)
            if wait is not None:
                wait.cancel()


async def attend(task: StepTask, started: float) -> StepResult:
    """Run one try of a step whose function is a coroutine function; awaited here, all else in threads."""
    try:
        with context.of_step(task):
            function, args, kwargs = await _in_thread(task, lambda: inputs(task))
            value = await function(*args, **kwargs)
            value = await asyncio.to_thread(as_result, value)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - whatever the user's code raises
        raised = error
        return await _in_thread(task, lambda: as_raised(task, started, raised))
    return await _in_thread(task, lambda: as_returned(task, started, value))


async def _in_thread(task: StepTask, call: Callable[[], T]) -> T:
    return await asyncio.to_thread(retry_while_unavailable, task, call)


class EventHosts:
    """The hosts of production.

    Args:
        loop: the engine's.
        failure: a Raised that says why a step could not be executed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, failure: Callable[[str, BaseException], Raised]) -> None:
        self._loop = loop
        self._failure = failure

    def open(self) -> Any:
        """See Hosts."""
        return ray.remote(num_cpus=0, max_concurrency=WAITS_AT_ONCE)(EventHost).remote()

    def listen(self, host: Any, task: StepTask, answer: Callable[[StepResult | None], None]) -> None:
        """See Hosts."""

        def answered(future: Future[StepResult | None]) -> None:  # on a thread of Ray's
            self._loop.call_soon_threadsafe(answer, self._result(task, future))

        host.listen.remote(task).future().add_done_callback(answered)

    def stop(self, host: Any, waits: Sequence[TaskKey]) -> None:
        """See Hosts."""
        host.stop.remote(tuple(waits))

    def _result(self, task: StepTask, future: Future[StepResult | None]) -> StepResult | None:
        error = future.exception()
        if error is None:
            return future.result()
        return None if isinstance(error, RayActorError) else self._failure(task.step_id, error)
