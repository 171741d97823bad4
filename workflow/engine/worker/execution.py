"""Executes one attempt of one step in a Ray worker: loads the inputs, calls the function, stores the result.

The function is called once, even if the store is unavailable before or after the call. Nothing that user code raises
leaves `execute`: an exception is a result like any other. The worker stores large values, and the manager writes the
record of the attempt.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, Literal, TypeVar

from workflow.engine.messages import (
    Expanded,
    InputsLost,
    Raised,
    Returned,
    ReturnedEphemeral,
    StepResult,
    StepTask,
)
from workflow.engine.retry import retry_while_unavailable
from workflow.engine.worker import context
from workflow.engine.worker.encoding import Encoder
from workflow.engine.worker.exceptions import describe
from workflow.engine.worker.process_settings import ProcessSettings
from workflow.engine.worker.refs import dereference_result
from workflow.engine.worker.run_values import Inputs, RunValues
from workflow.engine.worker.transfer import EphemeralValuesLostError
from workflow.errors import InvalidInputError, StoreRefusedError, StoreUnavailableError
from workflow.model import result_text
from workflow.model.graph import StepNode

T = TypeVar("T")

STORE_PAUSE = 2.0
"""Seconds between two calls of a store that is unavailable."""

logger = logging.getLogger(__name__)


def execute(task: StepTask) -> StepResult:
    """Run one attempt of a step; blocks.

    Returns:
        Its value, the DAG it returned, what it raised, or which of its inputs are lost.
    """
    settings = ProcessSettings()
    try:
        return _execute(task, settings)
    finally:
        settings.restore()


def _execute(task: StepTask, settings: ProcessSettings) -> StepResult:
    attempt = Attempt(task)
    try:
        with context.of_step(task):
            function, args, kwargs = attempt.load_inputs()
            settings.save()
            result = function(*args, **kwargs)
            if inspect.iscoroutine(result):
                result = _run(result)
            result = dereference_result(result)
    # User code may raise asyncio.CancelledError and KeyboardInterrupt too. Ray raises neither of them here: a lease is
    # ended by `ray.cancel(force=True)`, which ends the process.
    except BaseException as error:  # noqa: BLE001
        raised = error
    else:
        return attempt.store_result(result)
    return attempt.store_exception(raised)


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine, and keep the event loop that this thread had before.

    `asyncio.run` would remove it. Later steps of this process that call `asyncio.get_event_loop` would then fail.
    """
    if sys.version_info >= (3, 11):
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            return runner.run(coroutine)
    policy = asyncio.get_event_loop_policy()
    try:
        before = policy.get_event_loop()  # in the main thread, it creates the first one
    except RuntimeError:  # this thread has none
        return asyncio.run(coroutine)
    try:
        return asyncio.run(coroutine)
    finally:
        policy.set_event_loop(before)


def _lacks_credentials(error: BaseException) -> bool:
    """Return whether the store refused the credentials of this process, and not the object."""
    return isinstance(error, StoreRefusedError) and bool(error.fields.get("credentials"))


class Attempt:
    """One attempt of a step in its worker. Every method blocks, and waits while the store is unavailable."""

    def __init__(self, task: StepTask) -> None:
        self._task = task
        self._started = time.time()
        self._values = RunValues.at(task.run, task.written_by)
        self._environment: Literal["", "inputs", "store"] = ""

    def load_inputs(self) -> Inputs:
        """Load the step's function and arguments; see `RunValues.load_inputs`."""
        try:
            return self._retry(lambda: self._values.load_inputs(self._task))
        except InvalidInputError as error:
            self._environment = "store" if _lacks_credentials(error) else "inputs"
            raise

    def store_result(self, result: Any) -> StepResult:
        """Store what the function returned.

        Args:
            result: a value or a composed step, but no reference.

        Returns:
            The value or the DAG; what was raised if it cannot be stored.
        """
        return self._retry(lambda: self._stored_result(result))

    def store_exception(self, error: BaseException) -> Raised | InputsLost:
        """Store what the function, or loading its inputs, raised."""
        return self._retry(lambda: self._stored_exception(error))

    def _stored_result(self, result: Any) -> StepResult:
        task, started = self._task, self._started
        try:
            with context.of_step(task):
                if isinstance(result, StepNode):
                    graph = Encoder(self._values).encode(result, task.step_id)
                    inline, blob = self._values.store_graph(graph)
                    return Expanded(graph if inline is None else inline, blob, started, time.time())
                if not task.checkpoint:
                    ephemeral = self._values.publish_ephemeral(result, task.step_id)
                    return ReturnedEphemeral(ephemeral, started, time.time())
                value = self._values.store_value(result, task.step_id)
                text = result_text.render(result, value.size) if task.render else ""
                return Returned(value, text, started, time.time())
        except StoreUnavailableError:
            raise
        except BaseException as error:  # noqa: BLE001 - the classes of user objects define how they are pickled
            if _lacks_credentials(error):
                self._environment = "store"
            return self._stored_exception(error)

    def _stored_exception(self, error: BaseException) -> Raised | InputsLost:
        if isinstance(error, EphemeralValuesLostError):
            return InputsLost(error.step_ids, self._started, time.time())
        value = self._values.store_exception(error, self._task.step_id)
        info = describe(error, self._task.step_id)
        return Raised(info, value, self._started, time.time(), environment=self._environment)

    def _retry(self, call: Callable[[], T]) -> T:
        def report(error: StoreUnavailableError) -> None:
            task = self._task
            logger.warning("step %s of run %s waits for the store: %s", task.step_id, task.run.run_uuid, error)

        return retry_while_unavailable(call, STORE_PAUSE, report)
