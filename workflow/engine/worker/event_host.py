"""The process in which event listeners wait: a Ray actor that reserves no CPU and ends with its manager.

Each wait is a coroutine on the actor's one asyncio loop. Everything that reads the store or unpickles runs in threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from workflow.engine.messages import StepResult, StepTask, TaskKey
from workflow.engine.worker import context
from workflow.engine.worker.execution import Attempt
from workflow.engine.worker.refs import dereference_result


class EventHost:
    """Runs attempts of EVENT steps, whose functions are coroutine functions. The class of the Ray actor.

    Args:
        check_store: raises StoreRefusedError if this process does not see the store of the manager.
    """

    def __init__(self, check_store: Callable[[], None]) -> None:
        self._check_store = check_store
        self._waits: dict[TaskKey, asyncio.Task[StepResult]] = {}

    async def listen(self, task: StepTask) -> StepResult | None:
        """Run one attempt of an EVENT step.

        Returns:
            The result; None if `stop` was called for it.

        Raises:
            StoreRefusedError: this process does not see the store of the manager.
        """
        attempt = Attempt(task)
        wait = self._waits[task.key] = asyncio.ensure_future(self._execute(task, attempt))
        try:
            return await wait
        except asyncio.CancelledError as error:
            stopped = self._waits.get(task.key) is not wait
            if stopped:
                return None
            canceled = error  # raised by the listener itself, so it is a result like any other exception
            return await asyncio.to_thread(attempt.store_exception, canceled)
        finally:
            if self._waits.get(task.key) is wait:
                del self._waits[task.key]

    async def _execute(self, task: StepTask, attempt: Attempt) -> StepResult:
        await asyncio.to_thread(self._check_store)
        return await _execute(task, attempt)

    async def stop(self, waits: Sequence[TaskKey]) -> None:
        """Cancel the coroutines of these waits."""
        for key in waits:
            wait = self._waits.pop(key, None)
            if wait is not None:
                wait.cancel()


async def _execute(task: StepTask, attempt: Attempt) -> StepResult:
    """Do what `execution.execute` does, but await the function; everything else runs in threads."""
    try:
        with context.of_step(task):
            function, args, kwargs = await asyncio.to_thread(attempt.load_inputs)
            value = await function(*args, **kwargs)
            value = await asyncio.to_thread(dereference_result, value)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - user code may raise anything
        raised = error
    else:
        return await asyncio.to_thread(attempt.store_result, value)
    return await asyncio.to_thread(attempt.store_exception, raised)
