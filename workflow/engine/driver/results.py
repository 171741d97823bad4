"""Turns the end of a run into the user's value or exception, where the user is: wherever `ray.get` runs.

The manager never unpickles a value, so what it returns for `ray.get` is an envelope that opens itself on arrival. There
Ray would replace whatever is raised by an error of its own; so nothing is raised there.
"""

from __future__ import annotations

import traceback
from typing import Any

from ray.exceptions import RayTaskError

from workflow.engine.messages import RunResult
from workflow.engine.worker.execution import blobs_of, materialize
from workflow.engine.worker.refs import resolver
from workflow.errors import InternalError, StepFailedError, WorkflowCancellationError, WorkflowExecutionError
from workflow.log import values
from workflow.log.blobs import Blobs
from workflow.model.status import WorkflowStatus


def _no_parent(index: int) -> Any:
    raise InternalError(f"a value refers to the outcome of a parent ({index}); only arguments may")


def whole_resolver(blobs: Blobs, folder: str, written_by: str) -> values.Resolve:
    """What the marks in a whole value, an outcome, stand for: objects only."""
    return resolver(blobs, folder, written_by, _no_parent)


def value_of(ended: RunResult) -> Any:
    """The run's value; raises what it failed with."""
    if ended.status is not WorkflowStatus.SUCCESSFUL or ended.outcome is None:
        raise failure_of(ended)
    blobs, folder = blobs_of(ended.run)
    resolve = whole_resolver(blobs, folder, ended.written_by)
    return materialize(ended.outcome, blobs, resolve, ended.written_by)


def failure_of(ended: RunResult) -> BaseException:
    """The exception of a run that ended without a value: the user's own, caused by a StepFailedError, or ours."""
    workflow_id = ended.run.workflow_id
    if ended.status is WorkflowStatus.CANCELED:
        return WorkflowCancellationError(
            f"workflow {workflow_id!r} was canceled ({ended.reason})", workflow_id=workflow_id
        )
    error = ended.error
    if error is None or not error.step_id:
        text = error.message if error is not None else ended.reason
        return WorkflowExecutionError(f"workflow {workflow_id!r} FAILED: {text}", workflow_id=workflow_id)
    cause = StepFailedError(
        f"step {error.step_id!r} of workflow {workflow_id!r} failed: {error.kind}: {error.message}\n{error.traceback}",
        workflow_id=workflow_id,
        step_id=error.step_id,
    )
    if ended.error_value is None:
        return cause
    blobs, folder = blobs_of(ended.run)
    resolve = whole_resolver(blobs, folder, ended.written_by)
    raised = values.loads(blobs.load(ended.error_value), resolve, ended.written_by)
    if not isinstance(raised, BaseException):
        return cause
    raised.__cause__ = cause
    return raised


class ResultEnvelope:
    """An envelope: pickled by the manager, it unpickles into the run's value, or into what `ray.get` is to raise."""

    def __init__(self, ended: RunResult) -> None:
        self._ended = ended

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened, (self._ended,)


def _opened(ended: RunResult) -> Any:
    """The value; where there is none, or it cannot be had, what Ray takes for an error of the task.

    `ray.get`, and a task that is given the reference, raise that as it was raised here.
    """
    try:
        return value_of(ended)
    except Exception as error:  # noqa: BLE001 - raised where the user is
        told = error.__cause__ if isinstance(error.__cause__, StepFailedError) else error
        text = "".join(traceback.format_exception_only(told))
        return RayTaskError(ended.run.workflow_id, text, error, proctitle=f"workflow {ended.run.workflow_id}")
