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
from workflow.engine.driver.progress import REPORT_AFTER, describe_progress
from workflow.engine.driver.results import ResultEnvelope, task_error
from workflow.engine.messages import RunAddress, RunResult
from workflow.engine.owner.run_loop import result_of
from workflow.engine.worker.run_values import shared_store
from workflow.errors import (
    CorruptLogError,
    InvalidInputError,
    NewerFormatError,
    WorkflowError,
    WorkflowNotFoundError,
    WrongTypeError,
)
from workflow.log import index
from workflow.log.run_log import RunLog
from workflow.model.calls import checked_call, shown, similar
from workflow.model.records import FREES_ID
from workflow.model.state import RunState, StepState
from workflow.model.status import StepPhase, WorkflowStatus
from workflow.model.step_names import step_named
from workflow.session import client_in_use, store_in_use
from workflow.store.port import Store

logger = logging.getLogger(__name__)

STEP_POLL = 0.2
"""Seconds between two reads of the log while a call waits for the outcome of a step."""

STEPS_SHOWN = 20
"""How many step ids an error shows at most."""


@checked_call("workflow.get_status")
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
            f"no workflow {workflow_id!r} is stored at {store.url}; compare the id with those of workflow.list_all(), "
            "and the address with the storage that was given to workflow.init()",
            workflow_id=workflow_id,
        )
    return view


@checked_call("workflow.get_output")
def get_output(workflow_id: str, name: str | None = None) -> Any:
    """Return an ObjectRef of the value of a workflow, or of one of its steps. The call does not wait for the value.

    `ray.get` of the reference waits while the workflow is running, and raises the error that the workflow failed with.
    It also raises these errors:

    - OwnerLostError: the workflow became RESUMABLE, so the value will not be produced until it is resumed.
    - WorkflowNotFoundError: the workflow ended without such a step.
    - InvalidInputError: the value of the step is not stored, because the step has checkpoint=False.

    Args:
        workflow_id: the workflow.
        name: the id or name of a step; the value of the whole workflow if None. The second step with a name has `_1`
            added to it, the third `_2`, as in Ray 1.12.

    Raises:
        WorkflowNotFoundError: there is no such workflow.
        OwnerLostError: `name` is None and the workflow is RESUMABLE, so its value will not be produced until it is
            resumed.
    """
    store = store_in_use()
    client = Client(store)
    log = RunLog(store, client.find(workflow_id))
    state = log.replay()
    if name is None:
        if state.is_finished:
            return ray.put(ResultEnvelope(result_of(state, _address(log))))
        return output_of(client.observe(log.created), resumes=False)
    try:
        known = _known_step_result(log, state, name)
    except WorkflowError as error:
        return ray.put(task_error(workflow_id, error))
    return ray.put(ResultEnvelope(known)) if known is not None else _step_output.remote(store.url, workflow_id, name)


@checked_call("workflow.get_metadata")
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
        `workflows` (the ids of the steps whose outcomes it takes), `workflow_refs` (empty) and `stats`. These are the
        times of its last attempt, even if that attempt failed. Times are seconds since 1970.

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
    step = step_named(state, name)
    if step is None:
        raise _no_such_step(state, name)
    return _metadata_of_step(state, step)


def _metadata_of_step(state: RunState, step: StepState) -> dict[str, Any]:
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
        "workflow_refs": [],
        "stats": _stats(step.started, step.ended),
        "attempts": step.attempt,
        "last_error": f"{error.kind}: {error.message}" if error is not None else None,
        "waiting_for": _wait_reason(state, step) or None,
    }


def _wait_reason(state: RunState, step: StepState) -> str:
    if step.phase is not StepPhase.RUNNING or state.is_finished:
        return ""
    return discovery.wait_reason(state.owner.address, state.created.run_uuid, step.spec.step_id)


@checked_call("workflow.list_all")
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
        WrongTypeError: the filter contains something other than strings and statuses.
        InvalidInputError: a string in it is not a status.
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


@ray.remote(num_cpus=0)  # type: ignore[untyped-decorator]  # ray ships no types for it
def _step_output(store_url: str, workflow_id: str, name: str) -> ResultEnvelope:
    """Wait for the outcome of one step, not for the whole run."""
    store = shared_store(store_url)
    client = Client(store)
    log = RunLog(store, client.find(workflow_id))
    state = log.replay()
    waiting, polls = None, 0
    while (known := _known_step_result(log, state, name)) is None:
        if waiting is None:
            handle = client.observe(log.created)
            waiting = handle.manager.wait.remote(handle.run)
        if ray.wait([waiting], timeout=STEP_POLL)[0]:
            waiting = None  # the run is finished, or the manager no longer follows it
        polls += 1
        if polls == round(REPORT_AFTER / STEP_POLL):
            described = describe_progress(log.store, _address(log))
            logger.warning("get_output of step %r is still waiting for %s", name, described)
        log.catch_up(state)
    return ResultEnvelope(known)


def _known_step_result(log: RunLog, state: RunState, name: str) -> RunResult | None:
    """Return a result with the outcome of a step, or that of its run if the step has none; None if it may come later.

    Raises:
        WorkflowNotFoundError: the run succeeded without such a step.
        InvalidInputError: the value of the step is not stored.
    """
    step = step_named(state, name)
    if step is not None and step.outcome is not None:
        if step.outcome.ephemeral_step:
            raise _not_stored(log.created.workflow_id, step.outcome.ephemeral_step)
        return RunResult(_address(log), WorkflowStatus.SUCCESSFUL, step.outcome, None, None, "", log.created.versions)
    if not state.is_finished:
        return None
    if state.status is WorkflowStatus.SUCCESSFUL:
        raise _no_such_step(state, name)
    return result_of(state, _address(log))


def _address(log: RunLog) -> RunAddress:
    return RunAddress(log.store.url, log.created.workflow_id, log.created.run_number, log.created.run_uuid)


def _not_stored(workflow_id: str, step_id: str) -> InvalidInputError:
    return InvalidInputError(
        f"the value of step {step_id!r} of workflow {workflow_id!r} is not stored: the step has checkpoint=False, so "
        "only the steps that take its value get it; remove that option to read the value with get_output"
    )


def _no_such_step(state: RunState, name: str) -> WorkflowNotFoundError:
    listed = ", ".join(sorted(state.steps)[:STEPS_SHOWN])
    more = f" and {len(state.steps) - STEPS_SHOWN} more" if len(state.steps) > STEPS_SHOWN else ""
    what = f"no step {name!r}{similar(name, state.steps)}"
    return WorkflowNotFoundError(f"workflow {state.created.workflow_id!r} has {what}; it has {listed}{more}")


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
    known = [str(status) for status in WorkflowStatus]
    if not isinstance(given, Iterable):
        raise WrongTypeError(
            f"cannot filter by {shown(given)}: status_filter must be a status or a set of them; {_a_status_is(known)}"
        )
    found = [given] if isinstance(given, str) else list(given)
    for each in found:
        if not isinstance(each, str):
            raise WrongTypeError(f"{shown(each)} is not a status; {_a_status_is(known)}")
        if each not in known:
            raise InvalidInputError(f"{shown(each)} is not a status{similar(each, known)}; {_a_status_is(known)}")
    return {WorkflowStatus(each) for each in found}


def _a_status_is(known: Iterable[str]) -> str:
    return f"a status is one of {', '.join(known)}"
