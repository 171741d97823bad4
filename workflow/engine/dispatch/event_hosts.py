"""Creates event hosts as Ray actors and calls them, for `events`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final

import ray
from ray.exceptions import RayActorError

from workflow.engine.messages import Raised, StepResult, StepTask, TaskKey
from workflow.engine.worker.event_host import EventHost

MAX_WAITS_PER_HOST: Final = 100_000


class EventHosts:
    """Event hosts in Ray; see `events.Hosts`.

    Args:
        loop: the engine's event loop.
        failure: returns the result for a step that Ray could not execute, from the step's id and Ray's error.
        check_store: called in a host; raises StoreRefusedError if it does not see the store of the manager.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        failure: Callable[[str, BaseException], Raised],
        check_store: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._failure = failure
        self._check_store = check_store

    def open(self) -> Any:
        """Create an actor, and return its handle."""
        return ray.remote(num_cpus=0, max_concurrency=MAX_WAITS_PER_HOST)(EventHost).remote(self._check_store)

    def listen(self, host: Any, task: StepTask, answer: Callable[[StepResult | None], None]) -> None:
        """Start a wait in an actor."""

        def answered(future: Future[StepResult | None]) -> None:  # Ray calls this in a thread of its own
            self._loop.call_soon_threadsafe(answer, self._result(task, future))

        host.listen.remote(task).future().add_done_callback(answered)

    def stop(self, host: Any, waits: Sequence[TaskKey]) -> None:
        """Stop waits in an actor."""
        host.stop.remote(tuple(waits))

    def _result(self, task: StepTask, future: Future[StepResult | None]) -> StepResult | None:
        error = future.exception()
        if error is None:
            return future.result()
        host_lost = isinstance(error, RayActorError)
        return None if host_lost else self._failure(task.step_id, error)
