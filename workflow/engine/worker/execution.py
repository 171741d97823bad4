"""Executes one try of one step, inside a Ray worker. Stores what is large; the record is the manager's to write.

Nothing a user's code does makes `execute` raise: what it raised is a result like any other. The user's code is executed
once, however long the store is away before or behind it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from workflow.engine.messages import (
    Expanded,
    InputsLost,
    Raised,
    Returned,
    ReturnedEphemeral,
    RunAddress,
    StepResult,
    StepTask,
)
from workflow.engine.worker import context
from workflow.engine.worker.encoding import Encoder
from workflow.engine.worker.refs import Packer, as_argument, as_result, resolver
from workflow.engine.worker.transfer import EphemeralValuesLost, borrow, lend
from workflow.errors import InvalidInputError, StoreUnavailableError
from workflow.log import values
from workflow.log.blobs import Blobs
from workflow.log.keys import RunPaths
from workflow.model.graph import StepNode, Value
from workflow.model.run_view import ErrorInfo
from workflow.model.state import Outcome
from workflow.store import Store, open_store

T = TypeVar("T")

STORE_PAUSE = 2.0
"""Seconds before the store is asked again that did not answer."""

FUNCTIONS_KEPT = 256
TRACEBACK_LINES, LONGEST_LINE = 30, 1_000
"""What is kept of a traceback, in lines and in characters of each: whatever is raised, its record stays small."""

CALLERS = frozenset({__name__, "workflow.engine.worker.event_host", "workflow.event_listener"})
"""Modules through which a user's function is called: no user looks for an error there."""

logger = logging.getLogger(__name__)

_functions: OrderedDict[tuple[str, str], Any] = OrderedDict()


@cache
def store_at(url: str) -> Store:
    """This process's store at an address; credentials come from its environment."""
    return open_store(url)


def blobs_of(run: RunAddress) -> tuple[Blobs, str]:
    """A run's blobs, and its folder."""
    paths = RunPaths(run.workflow_id, run.run_number, run.run_uuid)
    return Blobs(store_at(run.store_url), paths), paths.folder


def execute(task: StepTask) -> StepResult:
    """Run one try of a step.

    Returns:
        Its value, the DAG it returned, what it raised, or what of its arguments is lost.
    """
    started = time.time()
    try:
        with context.of_step(task):
            function, args, kwargs = retry_while_unavailable(task, lambda: inputs(task))
            result = function(*args, **kwargs)
            if inspect.iscoroutine(result):
                result = asyncio.run(result)
            result = as_result(result)
    # Whatever it raised is its result, asyncio's CancelledError and KeyboardInterrupt too. Ray raises neither here: a
    # lease is ended by `ray.cancel(force=True)`, which ends the process.
    except BaseException as error:  # noqa: BLE001
        raised = error
    else:
        return retry_while_unavailable(task, lambda: as_returned(task, started, result))
    return retry_while_unavailable(task, lambda: as_raised(task, started, raised))


def retry_while_unavailable(task: StepTask, call: Callable[[], T]) -> T:
    """Its result; called again as long as the store is away, which is nobody's failure. Blocks."""
    while True:
        try:
            return call()
        except StoreUnavailableError as error:
            logger.warning("step %s of run %s waits for its store: %s", task.step_id, task.run.run_uuid, error)
            time.sleep(STORE_PAUSE)


def as_returned(task: StepTask, started: float, result: Any) -> StepResult:
    """What a try comes to whose function returned.

    Args:
        task: the try.
        started: when, in seconds since 1970.
        result: no reference any more.

    Returns:
        Its value or its DAG, stored where it is large; what it raised where it cannot be stored.

    Raises:
        StoreUnavailable: the store did not answer.
    """
    blobs, folder = blobs_of(task.run)
    try:
        with context.of_step(task):
            if isinstance(result, StepNode):
                graph = Encoder(blobs, folder).encode(result, task.step_id)
                inline, blob = blobs.store_graph(graph)
                return Expanded(graph if inline is None else inline, blob, started, time.time())
            packer = Packer(blobs, folder, f"value returned by step {task.step_id!r}", _refuse_nested)
            data = packer.dumps(result)
            if not task.checkpoint:
                return ReturnedEphemeral(lend(data), started, time.time())
            value = blobs.store_value(data)
            text = values.render(result, value.size) if task.render else ""
            return Returned(value, text, started, time.time())
    except StoreUnavailableError:
        raise
    except BaseException as error:  # noqa: BLE001 - the user's code says how its objects are pickled
        return as_raised(task, started, error)


def as_raised(task: StepTask, started: float, error: BaseException) -> Raised | InputsLost:
    """What a try comes to that raised; see `as_returned`."""
    if isinstance(error, EphemeralValuesLost):
        return InputsLost(error.step_ids, started, time.time())
    blobs, folder = blobs_of(task.run)
    return Raised(describe(error, task.step_id), _pickled(error, blobs, folder, task), started, time.time())


def inputs(task: StepTask) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The step's function with its arguments, all others' outcomes in their places."""
    blobs, folder = blobs_of(task.run)

    def parent(index: int) -> Any:
        outcome = task.parents[index]
        if outcome.held:
            return _caught(outcome, values.loads(borrowed[outcome.held], resolve_nothing_more))
        return materialize(outcome, blobs, resolve_nothing_more)

    borrowed = borrow(task.held)
    resolve_nothing_more = resolver(blobs, folder, task.written_by, _no_parent)
    resolve = resolver(blobs, folder, task.written_by, parent)
    key = (folder, task.function)
    function = _functions.get(key)
    if function is None:
        function = values.loads(blobs.fetch(task.function), resolve, task.written_by)
        _functions[key] = function
        while len(_functions) > FUNCTIONS_KEPT:
            _functions.popitem(last=False)
    args, kwargs = values.loads(blobs.load_value(task.args), resolve, task.written_by)
    return function, tuple(map(as_argument, args)), {name: as_argument(value) for name, value in kwargs.items()}


def _no_parent(index: int) -> Any:
    raise InvalidInputError("an outcome refers to another step's outcome; outcomes are whole values")


def materialize(outcome: Outcome, blobs: Blobs, resolve: values.Resolve, written_by: str = "") -> Any:
    """The Python value of an outcome: itself, or the tuple that catch_exceptions made."""
    return _caught(outcome, values.loads(blobs.load_value(outcome.value), resolve, written_by))


def _caught(outcome: Outcome, value: Any) -> Any:
    if outcome.caught:
        value = (None, value)
    for _ in range(outcome.wraps):
        value = (value, None)
    return value


def _refuse_nested(obj: Any) -> None:
    if isinstance(obj, StepNode):
        raise InvalidInputError(
            f"it holds the step {obj.qualname!r} inside another value; return the step itself, or a step that takes "
            "it as an argument"
        )


def describe(error: BaseException, step_id: str = "") -> ErrorInfo:
    """An exception as text, for readers that must not unpickle."""
    lines = traceback.format_exception(type(error), error, _users_part(error))
    text = "".join(lines).rstrip().splitlines()
    return ErrorInfo(
        kind=f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins."),
        message=_text_of(error),
        traceback="\n".join(line[:LONGEST_LINE] for line in text[-TRACEBACK_LINES:]),
        step_id=step_id,
    )


def _text_of(error: BaseException) -> str:
    try:
        return str(error)[: values.LONGEST_TEXT]
    except Exception as second:  # noqa: BLE001 - a user's __str__ may raise anything; that must not hide the error
        return f"<its text cannot be made: {second!r}>"


def _users_part(error: BaseException) -> Any:
    """The traceback from where the user's code begins."""
    tb = error.__traceback__
    while tb is not None and tb.tb_next is not None and tb.tb_frame.f_globals.get("__name__") in CALLERS:
        tb = tb.tb_next
    return tb


def _pickled(error: BaseException, blobs: Blobs, folder: str, task: StepTask) -> Value:
    """The exception as it can be carried: itself, or a RuntimeError with its text.

    That is where it cannot be pickled back, or the store refuses what is too large for a record.
    """
    packer = Packer(blobs, folder, f"exception of step {task.step_id!r}")
    try:
        data = packer.dumps(error)
        back = values.loads(data, resolver(blobs, folder, "", _no_parent))
        if type(back) is not type(error):
            raise InvalidInputError("it comes back as another type")
        if not isinstance(error, Exception):
            raise InvalidInputError("it would end or cancel whoever reads it")
        return blobs.store_value(data)
    except InvalidInputError as why:
        text = _text_of(error)[: values.LONGEST_TEXT // 2]  # so short that it is no blob, whatever its letters are
        return blobs.store_value(
            packer.dumps(RuntimeError(f"{type(error).__qualname__}: {text} (not carried itself: {why})"))
        )
