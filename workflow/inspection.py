"""Functions for users that read workflows: status, outputs, metadata, and the list of all workflows."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import Any

import ray

from workflow import reading
from workflow.engine.driver import discovery
from workflow.engine.driver.client import Client, RunHandle
from workflow.engine.driver.results import value_of
from workflow.engine.messages import RunAddress
from workflow.engine.owner.run_loop import result_of
from workflow.engine.worker.run_values import RunValues, shared_store
from workflow.errors import (
    CorruptLogError,
    InvalidInputError,
    NewerFormatError,
    WorkflowNotFoundError,
)
from workflow.log import index
from workflow.log.run_log import RunLog
from workflow.model.records import FREES_ID
from workflow.model.state import RunState, StepState
from workflow.model.status import StepPhase, WorkflowStatus
from workflow.session import client_in_use, store_in_use
from workflow.store.port import Store

logger = logging.getLogger(__name__)

STEP_POLL = 0.2
"""Seconds between two reads of the log while a call waits for the outcome of a step."""

STEPS_SHOWN = 20
"""How many step ids an error shows at most."""


def get_status(workflow_id: str) -> WorkflowStatus:
    """Return the status of a workflow.

    Raises:
        WorkflowNotFoundError: nothing is stored under this id.
    """
    store = store_in_use()
    return reading.status_of(store, read_existing(store, workflow_id))


def read_existing(store: Store, workflow_id: str) -> reading.RunView:
    """Read the run that an id refers to, or the tombstone that ended it before it was created.

    Raises:
        WorkflowNotFoundError: nothing is stored under this id.
    """
    view = reading.read_run(store, workflow_id)
    if view is None or (view.tombstone and view.reason in FREES_ID):
        raise WorkflowNotFoundError(
            f"no workflow {workflow_id!r} is stored at {store.url}; list_all() returns the ids that exist",
            workflow_id=workflow_id,
        )
    return view


def get_output(workflow_id: str, *, name: str | None = None) -> Any:
    """Return the value of a workflow, or of one of its steps. If the workflow is running, wait for the value.

    Args:
        workflow_id: the workflow.
        name: the id or name of a step; the value of the whole workflow if None.

    Raises:
        WorkflowNotFoundError: there is no such workflow, or it has no such step.
        OwnerLostError: the workflow is or becomes RESUMABLE, so its value will not be produced until it is resumed.
        InvalidInputError: the value of the step is not stored, because the step has checkpoint=False.
        Exception: the error that the workflow failed with.
    """
    return _output(store_in_use(), workflow_id, name)


def _output(store: Store, workflow_id: str, name: str | None) -> Any:
    client = Client(store)
    created = client.find(workflow_id)
    log = RunLog(store, created)
    state = log.replay()
    run = RunAddress(store.url, created.workflow_id, created.run_number, created.run_uuid)
    if name is not None:
        return _step_output(client, log, state, run, name)
    if state.is_finished:
        return value_of(result_of(state, run))
    return value_of(client.wait(client.observe(created), resumes=False))


def get_output_async(workflow_id: str, *, name: str | None = None) -> Any:
    """Return an ObjectRef of the value that `get_output` returns, without waiting for it.

    Raises:
        WorkflowNotFoundError: there is no such workflow.
        OwnerLostError: `name` is None and the workflow is RESUMABLE.

    `ray.get` of the reference raises all other errors of `get_output`.
    """
    client, store = client_in_use(), store_in_use()
    created = client.find(workflow_id)
    if name is not None:
        return _get_output.remote(store.url, workflow_id, name)
    return output_of(client.observe(created), resumes=False)


def get_metadata(workflow_id: str, name: str | None = None) -> dict[str, Any]:
    """Return metadata of a workflow, or of one of its steps. The keys are those of Ray 1.12.

    Args:
        workflow_id: the workflow.
        name: the id or name of a step; the whole workflow if None.

    Returns:
        For a workflow: `status`, `user_metadata` and `stats`. The stats contain `start_time`, the start of the present
        epoch, and `end_time` if the workflow succeeded or failed. For a step: `name`, `step_options`, `user_metadata`,
        `workflows` (the ids of the steps whose outcomes it takes) and the `stats` of its last attempt, even if that
        attempt failed. Three keys are not in Ray 1.12. `attempts` counts the attempts of the present owner, with one
        that waits after an exception; its `start_time` may be in the future. `last_error` is the last exception of a
        step that failed or is attempted again, as text. `waiting_for` is the reason why a running step has had no
        worker for 10 seconds, as text. Without an exception or a reason, they are None. Times are seconds since 1970.

    Raises:
        WorkflowNotFoundError: there is no such workflow, or the run has no such step (yet).
    """
    created = client_in_use().find(workflow_id)
    state = RunLog(store_in_use(), created).replay()
    if name is None:
        status = reading.status_of(store_in_use(), reading.view_of(state))
        ended = state.terminal[1].at if state.terminal is not None and status is not WorkflowStatus.CANCELED else 0.0
        return {
            "status": status,
            "user_metadata": json.loads(created.metadata),
            "stats": _stats(state.epoch_started, ended),
        }
    step = _step_named(state, name)
    if step is None:
        raise _no_such_step(state, name)
    options, error = step.spec.options, step.error or step.last_error
    return {
        "name": step.spec.name,
        "step_options": {
            "step_type": "FUNCTION",
            "max_retries": options.max_retries,
            "catch_exceptions": options.catch_exceptions,
            "allow_inplace": options.allow_inplace,
            "checkpoint": step.checkpoint,
            "ray_options": dict(options.ray),
        },
        "user_metadata": json.loads(options.metadata),
        "workflows": list(step.spec.parents),
        "stats": _stats(step.started, step.ended),
        "attempts": step.attempt,
        "last_error": f"{error.kind}: {error.message}" if error is not None else None,
        "waiting_for": _wait_reason(state, step) or None,
    }


def _wait_reason(state: RunState, step: StepState) -> str:
    if step.phase is not StepPhase.RUNNING or state.is_finished:
        return ""
    return discovery.wait_reason(state.owner.address, state.created.run_uuid, step.spec.step_id)


def list_all(
    status_filter: WorkflowStatus | str | Iterable[WorkflowStatus | str] | None = None,
) -> list[tuple[str, WorkflowStatus]]:
    """Return the ids of all workflows with their statuses, sorted by id.

    Terminal statuses come from the store's index. They may be outdated for a moment if a workflow is resumed or deleted
    at the same time. A workflow with a damaged log is left out, and an error that names it is logged. `get_status` of
    that workflow raises the reason.

    Args:
        status_filter: one status, several statuses, or None for all.

    Raises:
        InvalidInputError: the filter contains something other than a status.
    """
    wanted = _statuses(status_filter)
    found: dict[str, WorkflowStatus | None] = {}
    for status in WorkflowStatus:
        if status.is_terminal and not any(each.is_terminal for each in wanted):
            continue
        for workflow_id in index.list_ids(store_in_use(), status):
            # A single entry with a terminal status is trusted. With any other entry, the log decides.
            found[workflow_id] = status if status.is_terminal and workflow_id not in found else None
    statuses = ((workflow_id, status or _status_in_log(workflow_id)) for workflow_id, status in found.items())
    return sorted((workflow_id, status) for workflow_id, status in statuses if status in wanted)


def _step_output(client: Client, log: RunLog, state: RunState, run: RunAddress, name: str) -> Any:
    """Wait for the outcome of one step, not for the whole run, and return its value."""
    waiting = None
    while True:
        step = _step_named(state, name)
        if step is not None and step.outcome is not None:
            if step.outcome.ephemeral_step:
                raise _not_stored(log.created.workflow_id, step.outcome.ephemeral_step)
            return RunValues.at(run, log.created.versions).load_outcome(step.outcome)
        if state.is_finished:
            return _no_step_output(state, run, name)
        if waiting is None:
            handle = client.observe(log.created)
            waiting = handle.manager.wait.remote(handle.run)
        if ray.wait([waiting], timeout=STEP_POLL)[0]:
            waiting = None  # the run is finished, or the manager no longer follows it
        log.catch_up(state)


def _not_stored(workflow_id: str, step_id: str) -> InvalidInputError:
    return InvalidInputError(
        f"the value of step {step_id!r} of workflow {workflow_id!r} is not stored: the step has checkpoint=False, so "
        "only the steps that take its value get it; remove that option to read the value with get_output"
    )


def _no_step_output(state: RunState, run: RunAddress, name: str) -> Any:
    """Raise the reason why a finished run has no outcome of a step."""
    if state.status is not WorkflowStatus.SUCCESSFUL:
        value_of(result_of(state, run))
    raise _no_such_step(state, name)


def _step_named(state: RunState, name: str) -> StepState | None:
    """Return the step with this id, or else the first step with this name."""
    return state.steps.get(name) or next((each for each in state.steps.values() if each.spec.name == name), None)


def _no_such_step(state: RunState, name: str) -> WorkflowNotFoundError:
    known = ", ".join(sorted(state.steps)[:STEPS_SHOWN])
    return WorkflowNotFoundError(f"workflow {state.created.workflow_id!r} has no step {name!r}; it has {known}")


@ray.remote(num_cpus=0)  # type: ignore[untyped-decorator]  # ray ships no types for it
def _get_output(store_url: str, workflow_id: str, name: str) -> Any:
    return _output(shared_store(store_url), workflow_id, name)


def output_of(handle: RunHandle, *, resumes: bool) -> Any:
    """Return an ObjectRef of a run's value.

    Args:
        handle: the run.
        resumes: whether to continue the run if its owner is lost. A call that only reads must not.
    """
    return handle.manager.output.remote(handle.run, resumes)


def _stats(started: float, ended: float) -> dict[str, float]:
    times = {"start_time": started, "end_time": ended}
    return {name: at for name, at in times.items() if at}


def _status_in_log(workflow_id: str) -> WorkflowStatus | None:
    """Return the status in the log; None if the run was not created yet or was deleted, or if the log is damaged."""
    try:
        return get_status(workflow_id)
    except WorkflowNotFoundError:
        return None
    except (CorruptLogError, NewerFormatError) as error:
        logger.error("list_all leaves out workflow %r: %s", workflow_id, error)
        return None


def _statuses(given: WorkflowStatus | str | Iterable[WorkflowStatus | str] | None) -> set[WorkflowStatus]:
    if given is None:
        return set(WorkflowStatus)
    try:
        return {WorkflowStatus(each) for each in ([given] if isinstance(given, str) else given)}
    except (ValueError, TypeError) as error:
        raise InvalidInputError(f"{error}; a status is one of {', '.join(map(str, WorkflowStatus))}") from error
