"""What a user looks at: status, outputs and metadata of workflows, and the list of all."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import Any

import ray

from workflow import reading
from workflow.engine.driver.client import Client, RunHandle
from workflow.engine.driver.results import value_of
from workflow.engine.messages import RunAddress
from workflow.engine.owner.run_loop import result_of
from workflow.engine.worker.run_values import RunValues, shared_store
from workflow.errors import (
    CorruptLogError,
    InvalidInputError,
    NewerFormatError,
    WorkflowConflictError,
    WorkflowNotFoundError,
)
from workflow.log import index
from workflow.log.run_log import RunLog
from workflow.model.records import FREES_ID
from workflow.model.state import RunState, StepState
from workflow.model.status import WorkflowStatus
from workflow.session import here, store_in_use
from workflow.store.port import Store

logger = logging.getLogger(__name__)

STEP_POLL = 0.2
"""Seconds between looks into the log while a step's outcome is waited for."""


def get_status(workflow_id: str) -> WorkflowStatus:
    """Where a workflow stands.

    Raises:
        WorkflowNotFoundError: nothing is stored under this id.
    """
    store = store_in_use()
    view = reading.read_run(store, workflow_id)
    if view is None or (view.tombstone and view.reason in FREES_ID):
        raise WorkflowNotFoundError(
            f"no workflow {workflow_id!r} is stored at {store.url}; list_all() shows what is", workflow_id=workflow_id
        )
    return reading.status_of(store, view)


def get_output(workflow_id: str, *, name: str | None = None) -> Any:
    """The value of a workflow, or of one of its steps; waits for it where the workflow runs.

    Args:
        workflow_id: which.
        name: a step's id or name; the workflow's own output where None.

    Raises:
        WorkflowNotFoundError: no such workflow, or no such step in it.
        WorkflowConflict: the workflow is RESUMABLE: nobody is at work on its output.
        Invalid: the step's value is not stored, since it has checkpoint=False.
        Whatever the workflow failed with.
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
    return value_of(result_of(state, run) if state.is_finished else client.wait(_attached(client, log, state)))


def get_output_async(workflow_id: str, *, name: str | None = None) -> Any:
    """Like `get_output`, but returns an ObjectRef of the value at once.

    Raises:
        WorkflowNotFoundError, WorkflowConflict: see `get_output`. The rest `ray.get` of the reference raises.
    """
    client, store = here(), store_in_use()
    log = RunLog(store, client.find(workflow_id))
    if name is not None:
        return _get_output.remote(store.url, workflow_id, name)
    return output_of(_attached(client, log, log.replay()))


def get_metadata(workflow_id: str, name: str | None = None) -> dict[str, Any]:
    """What is known of a workflow, or of one of its steps, beside its value.

    Args:
        workflow_id: which.
        name: a step's id or name.

    Returns:
        For a workflow: `status`, `user_metadata` and `stats` with `start_time` (of the last `run` or `resume` of it)
        and, where it has succeeded or failed, `end_time`. For a step: `name`, `step_options`, `user_metadata`,
        `workflows` (the ids of the steps whose outcomes it takes) and the `stats` of its last try, also where that
        failed. Times are seconds since 1970. These are keys of Ray 1.12.

    Raises:
        WorkflowNotFoundError: no such workflow, or no such step in it (yet).
    """
    created = here().find(workflow_id)
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
    options = step.spec.options
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
    }


def list_all(
    status_filter: WorkflowStatus | str | Iterable[WorkflowStatus | str] | None = None,
) -> list[tuple[str, WorkflowStatus]]:
    """All workflows with their status.

    One whose log is damaged keeps no other from the list: it is left out, since nobody can say how it stands, and an
    error that names it is logged; `get_status` of it raises why. An end is read from the store's index, and may be an
    old one for a moment where the workflow is resumed or deleted just now.

    Args:
        status_filter: one status, several, or None for all.

    Raises:
        Invalid: something in it is no status.
    """
    wanted = _statuses(status_filter)
    found: dict[str, WorkflowStatus | None] = {}
    for hint in WorkflowStatus:
        if hint.is_terminal and not any(status.is_terminal for status in wanted):
            continue
        for workflow_id in index.list_ids(store_in_use(), hint):
            # An end of which nothing else is told is taken as it is; what two hints, or a live one, mean the log says.
            found[workflow_id] = hint if hint.is_terminal and workflow_id not in found else None
    statuses = ((workflow_id, hint or _in_log(workflow_id)) for workflow_id, hint in found.items())
    return sorted((workflow_id, status) for workflow_id, status in statuses if status in wanted)


def _step_output(client: Client, log: RunLog, state: RunState, run: RunAddress, name: str) -> Any:
    """The value of a step, as soon as it has its outcome; the other steps are not waited for."""
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
            handle = _attached(client, log, state)
            waiting = handle.manager.wait.remote(handle.run)
        if ray.wait([waiting], timeout=STEP_POLL)[0]:
            waiting = None  # it ended, or its owner was lost
        log.catch_up(state)


def _attached(client: Client, log: RunLog, state: RunState) -> RunHandle:
    """To wait for a run's end, and to begin nothing; raises WorkflowConflict where nobody is at work on it."""
    if reading.status_of(log.store, reading.view_of(state)) is WorkflowStatus.RESUMABLE:
        raise WorkflowConflictError(
            f"workflow {log.created.workflow_id!r} is RESUMABLE: nobody owns it now, so nobody makes its output; "
            "resume it"
        )
    return client.attach(log.created)


def _not_stored(workflow_id: str, step_id: str) -> InvalidInputError:
    return InvalidInputError(
        f"the value of step {step_id!r} of workflow {workflow_id!r} is not stored: the step has checkpoint=False, and "
        "its value goes only to the steps that take it; leave that option out for a step whose value is asked for"
    )


def _no_step_output(state: RunState, run: RunAddress, name: str) -> Any:
    """Raises why a run that has ended has no outcome of a step."""
    if state.status is not WorkflowStatus.SUCCESSFUL:
        value_of(result_of(state, run))
    raise _no_such_step(state, name)


def _step_named(state: RunState, name: str) -> StepState | None:
    """A step by its id, else the first of that name."""
    return state.steps.get(name) or next((each for each in state.steps.values() if each.spec.name == name), None)


def _no_such_step(state: RunState, name: str) -> WorkflowNotFoundError:
    known = ", ".join(sorted(state.steps)[:20])
    return WorkflowNotFoundError(f"workflow {state.created.workflow_id!r} has no step {name!r}; it has {known}")


@ray.remote(num_cpus=0)  # type: ignore[untyped-decorator]  # ray ships no types for it
def _get_output(store_url: str, workflow_id: str, name: str) -> Any:
    return _output(shared_store(store_url), workflow_id, name)


def output_of(handle: RunHandle) -> Any:
    """An ObjectRef of a run's value."""
    return handle.manager.output.remote(handle.run)


def _stats(started: float, ended: float) -> dict[str, float]:
    times = {"start_time": started, "end_time": ended}
    return {name: at for name, at in times.items() if at}


def _in_log(workflow_id: str) -> WorkflowStatus | None:
    """What the log says of an id; None where no run is there (it was never made, or deleted), or it is damaged."""
    try:
        return get_status(workflow_id)
    except WorkflowNotFoundError:
        return None
    except (CorruptLogError, NewerFormatError) as error:
        logger.error("workflow %r is left out of the list: %s", workflow_id, error)
        return None


def _statuses(given: WorkflowStatus | str | Iterable[WorkflowStatus | str] | None) -> set[WorkflowStatus]:
    if given is None:
        return set(WorkflowStatus)
    try:
        return {WorkflowStatus(each) for each in ([given] if isinstance(given, str) else given)}
    except (ValueError, TypeError) as error:
        raise InvalidInputError(f"{error}; a status is one of {', '.join(map(str, WorkflowStatus))}") from error
