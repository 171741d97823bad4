"""Turns the result of a run into the user's value or exception, in the process that calls `ray.get`.

A manager never unpickles a value. It returns an envelope that is replaced by the value when Ray unpickles it in the
user's process. If that raised, Ray would replace the exception by an error of its own. So nothing is raised there: the
envelope becomes a RayTaskError, whose cause `ray.get` raises.
"""

from __future__ import annotations

import traceback
from typing import Any

from ray.exceptions import RayTaskError

from workflow.engine.messages import RunResult
from workflow.engine.worker.run_values import RunValues
from workflow.errors import StepFailedError, WorkflowCancellationError, WorkflowExecutionError
from workflow.model.status import WorkflowStatus


def value_of(result: RunResult) -> Any:
    """Return the value of a run, or raise the exception that it failed with."""
    if result.status is not WorkflowStatus.SUCCESSFUL or result.outcome is None:
        raise failure_of(result)
    return RunValues.at(result.run, result.written_by).load_outcome(result.outcome)


def failure_of(result: RunResult) -> BaseException:
    """Return the exception of a run that has no value.

    Returns:
        The exception that the user's code raised, with a StepFailedError as its cause. If no step raised one, an
        exception of this library.
    """
    workflow_id = result.run.workflow_id
    if result.status is WorkflowStatus.CANCELED:
        return WorkflowCancellationError(
            f"workflow {workflow_id!r} was canceled ({result.reason})", workflow_id=workflow_id
        )
    error = result.error
    if error is None or not error.step_id:
        text = error.message if error is not None else result.reason
        return WorkflowExecutionError(f"workflow {workflow_id!r} FAILED: {text}", workflow_id=workflow_id)
    cause = StepFailedError(
        f"step {error.step_id!r} of workflow {workflow_id!r} failed: {error.kind}: {error.message}\n{error.traceback}",
        workflow_id=workflow_id,
        step_id=error.step_id,
    )
    if result.error_value is None:
        return cause
    raised = RunValues.at(result.run, result.written_by).load_value(result.error_value)
    if not isinstance(raised, BaseException):
        return cause
    raised.__cause__ = cause
    return raised


class ResultEnvelope:
    """Is pickled by the manager, and unpickles into the run's value or into the error that `ray.get` raises."""

    def __init__(self, result: RunResult) -> None:
        self._result = result

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_envelope, (self._result,)


def _open_envelope(result: RunResult) -> Any:
    """Return the run's value; if there is none or it cannot be loaded, an error that Ray takes for a task's error.

    `ray.get`, and a task that receives the reference as an argument, raise the cause of that error.
    """
    try:
        return value_of(result)
    except Exception as error:  # noqa: BLE001 - raised by `ray.get` in the user's code
        return task_error(result.run.workflow_id, error)


def task_error(workflow_id: str, error: Exception) -> RayTaskError:
    """Return an error that `ray.get` raises as an error of the given class if it is the value of a reference."""
    shown = error.__cause__ if isinstance(error.__cause__, StepFailedError) else error
    text = "".join(traceback.format_exception_only(shown))
    return RayTaskError(workflow_id, text, error, proctitle=f"workflow {workflow_id}")
