"""Executes steps as Ray tasks: the Runner of production. One Ray task a try; results come back to the run's loop."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import pickle
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import ray
from ray.exceptions import RayError, TaskCancelledError

from workflow.engine.messages import Raised, StepResult, StepTask
from workflow.engine.run_loop import RunLoop
from workflow.engine.worker import execute
from workflow.errors import StoreUnavailable
from workflow.model.graph import Value
from workflow.model.run_view import ErrorInfo
from workflow.model.state import StepState

logger = logging.getLogger(__name__)

REMOTES_KEPT = 1_000
SYSTEM_RETRIES = 3
"""How often Ray itself repeats a task whose worker died; Ray's own default."""

STORE_PAUSE = 2.0
"""Seconds before a step is executed again that could not reach its store."""


class RayRunner:
    """Starts and stops Ray tasks.

    Args:
        loop: where the runs' loops live; results are handed over there, many at once.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._execute = ray.remote(execute)
        self._remotes: dict[tuple[str, str], Any] = {}
        self._running: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()
        self._arrived: deque[tuple[RunLoop, str, int, StepResult]] = deque()

    def start(self, run: RunLoop, step: StepState, task: StepTask) -> None:
        """Begin one try."""
        try:
            ref = self._remote(step.spec.name, step.spec.options.ray).remote(task)
        except Exception as error:  # noqa: BLE001 - Ray refuses options in many ways; each is the step's failure
            logger.warning("step %s of run %s: %r", task.step_id, task.run.run_uuid, error)
            failure = _system_failure(task.step_id, error)
            self._loop.call_soon_threadsafe(run.step_done, task.step_id, task.number, failure)
            return
        self._running[(task.run.run_uuid, task.step_id)] = ref
        ref.future().add_done_callback(functools.partial(self._done, run, step, task))

    def cancel(self, run: RunLoop, step_ids: Sequence[str]) -> None:
        """Stop these tries; the worker processes that run them are ended."""
        for step_id in step_ids:
            ref = self._running.pop((run.address.run_uuid, step_id), None)
            if ref is not None:
                ray.cancel(ref, force=True)

    def _remote(self, name: str, options: Mapping[str, Any]) -> Any:
        """The task with its options; made once a kind of step, because making it costs as much as starting it."""
        key = (name, json.dumps(dict(options), sort_keys=True) if options else "")
        remote = self._remotes.get(key)
        if remote is None:
            if len(self._remotes) >= REMOTES_KEPT:
                self._remotes.clear()
            remote = self._remotes[key] = self._execute.options(
                name=name, max_retries=SYSTEM_RETRIES, retry_exceptions=[StoreUnavailable], **options
            )
        return remote

    def _done(self, run: RunLoop, step: StepState, task: StepTask, future: Future[StepResult]) -> None:
        """On a thread of Ray's."""
        error = future.exception()
        if isinstance(error, TaskCancelledError):
            return
        if isinstance(error, StoreUnavailable):
            self._loop.call_soon_threadsafe(self._loop.call_later, STORE_PAUSE, self._again, run, step, task)
            return
        result = future.result() if error is None else _system_failure(task.step_id, error)
        with self._lock:
            first = not self._arrived
            self._arrived.append((run, task.step_id, task.number, result))
        if first:  # one wake-up for all that arrive until the loop gets to it
            self._loop.call_soon_threadsafe(self._hand_over)

    def _again(self, run: RunLoop, step: StepState, task: StepTask) -> None:
        """The store was away for longer than Ray's own tries: that is nobody's failure, so the try is made anew."""
        running = (task.run.run_uuid, task.step_id) in self._running
        if running and run.state.running.get(task.step_id) is step and step.tries == task.number:
            logger.warning("step %s of run %s is executed again: its store was away", task.step_id, task.run.run_uuid)
            self.start(run, step, task)

    def _hand_over(self) -> None:
        while self._arrived:
            run, step_id, number, result = self._arrived.popleft()
            self._running.pop((run.address.run_uuid, step_id), None)
            run.step_done(step_id, number, result)


def _system_failure(step_id: str, error: BaseException) -> Raised:
    """What Ray could not execute, even after its own retries, as a result."""
    what = str(error).splitlines()[0] if isinstance(error, RayError) and str(error) else repr(error)
    info = ErrorInfo(kind=f"ray.{type(error).__name__}", message=what, traceback=str(error)[-2000:], step_id=step_id)
    carried = RuntimeError(f"step {step_id!r} could not be executed by Ray: {type(error).__name__}: {what}")
    pickled = pickle.dumps(carried)
    return Raised(info, Value(inline=pickled, size=len(pickled)), 0.0, 0.0, system=True)
