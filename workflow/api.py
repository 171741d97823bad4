"""Functions for users that change workflows: run, resume, cancel and delete."""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from workflow import reading, requests
from workflow.engine.driver import discovery
from workflow.engine.driver.client import Client, RunHandle, RunOptions
from workflow.engine.driver.results import value_of
from workflow.engine.worker import context
from workflow.errors import (
    OwnerLostError,
    WorkflowConflictError,
    WorkflowError,
    WorkflowInUseError,
    WorkflowRunningError,
    WrongTypeError,
)
from workflow.inspection import list_all, output_of, read_existing
from workflow.log import liveness
from workflow.log.code_digest import is_step
from workflow.log.liveness import HEARTBEAT_TIMEOUT
from workflow.model.calls import checked_call, kind_of, shown
from workflow.model.graph import StepNode, metadata_text, underlying
from workflow.model.records import Created
from workflow.model.run_view import Owner
from workflow.model.status import WorkflowStatus
from workflow.session import client_in_use, store_in_use
from workflow.store.port import Store

NAMED = 5
"""How many workflows a log line names at most."""

logger = logging.getLogger(__name__)


@checked_call("workflow.run")
def run(root: StepNode, workflow_id: str | None = None, metadata: Mapping[str, Any] | None = None) -> Any:
    """Run a workflow, wait for it, and return its value, as `root.run(workflow_id, metadata)` does.

    Args:
        root: what `.step(...)` returned.
        workflow_id: the id of the workflow in the store. If None, a new id is generated. `help(workflow.Workflow.run)`
            describes what a used id means.
        metadata: JSON values to store with the run.

    Raises:
        InvalidInputError: an argument is wrong, or the id is used by another DAG (WorkflowConflictError).
        Exception: what a step raised in its last attempt, if no step catches it.
    """
    client, handle = _start(root, workflow_id, metadata)
    return value_of(client.wait(handle))


@checked_call("workflow.run_async")
def run_async(root: StepNode, workflow_id: str | None = None, metadata: Mapping[str, Any] | None = None) -> Any:
    """Run a workflow in the background, and return an ObjectRef of its value at once.

    The run continues after this driver exits. The arguments and errors are those of `run`. What a step raised is raised
    by `ray.get`.
    """
    return output_of(_start(root, workflow_id, metadata)[1], resumes=True)


@checked_call("workflow.resume")
def resume(workflow_id: str, *, take_over: bool = False) -> Any:
    """Continue a workflow that is RESUMABLE or FAILED, and return an ObjectRef of its value.

    If the workflow is SUCCESSFUL, the reference is to its stored value. `ray.get` of the reference raises the error
    that the workflow fails with.

    Args:
        workflow_id: the workflow to continue.
        take_over: claim the run even if its owner may be alive. Use it if you know that the owner's
            cluster is gone. If the old owner is still running, it is fenced. An owner that claims the run during the
            call is not replaced.

    Raises:
        WorkflowNotFoundError: nothing is stored under this id.
        WorkflowNotResumableError: the workflow was canceled.
        WorkflowInUseError: another owner runs the workflow; the text names it.
    """
    return output_of(client_in_use().resume(workflow_id, take_over=take_over), resumes=True)


@checked_call("workflow.resume_all")
def resume_all(include_failed: bool = False) -> list[tuple[str, Any]]:
    """Continue every workflow that is RESUMABLE, in the background.

    The owner of a running workflow may be lost already. The call waits until that is decided, up to half a minute.
    If a workflow cannot be resumed, an error is logged and the workflow is left out of the result. This happens, for
    example, if another process resumed it first. The others are resumed.

    Args:
        include_failed: continue workflows that are FAILED, too.

    Returns:
        `(workflow id, ObjectRef of its value)` of each workflow that was resumed.
    """
    wanted = {WorkflowStatus.RESUMABLE, *([WorkflowStatus.FAILED] if include_failed else [])}
    resumed = []

    def resume_each(workflow_ids: Iterable[str]) -> None:
        for workflow_id in workflow_ids:
            try:
                resumed.append((workflow_id, resume(workflow_id)))
            except WorkflowError as error:
                logger.error("cannot resume workflow %r: %s", workflow_id, error)

    listed = list_all({*wanted, WorkflowStatus.RUNNING})
    resume_each(workflow_id for workflow_id, status in listed if status in wanted)
    resume_each(_lost_later([workflow_id for workflow_id, status in listed if status is WorkflowStatus.RUNNING]))
    return sorted(resumed, key=lambda each: each[0])


def _lost_later(workflow_ids: Iterable[str]) -> list[str]:
    """Wait until it is known which of these running workflows are lost, and return them."""
    store = store_in_use()
    owners: dict[str, Owner] = {}
    for workflow_id in workflow_ids:
        view = reading.read_run(store, workflow_id)
        if view is not None and view.owner is not None and view.status is WorkflowStatus.RUNNING:
            if discovery.find_owner(view.owner) is not None:
                logger.info("workflow %r is not resumed: it is running in this cluster", workflow_id)
            else:
                owners[workflow_id] = view.owner
    if not owners:
        return []
    logger.warning(
        "resume_all waits up to %.0f s for a sign of life of the owners of %d workflows: %s",
        HEARTBEAT_TIMEOUT,
        len(owners),
        ", ".join(sorted(owners)[:NAMED]),
    )
    lost = liveness.watch(store, set(owners.values()))
    for workflow_id, owner in owners.items():
        if owner not in lost:
            logger.warning("workflow %r is not resumed: it is running on manager %s", workflow_id, owner.address)
    return [workflow_id for workflow_id, owner in owners.items() if owner in lost]


@checked_call("workflow.cancel")
def cancel(workflow_id: str) -> None:
    """Cancel a workflow and stop its running steps. Return after its log records the status CANCELED.

    Raises:
        WorkflowNotFoundError: nothing is stored under this id.
        WorkflowConflictError: the workflow already ended with another status.
    """
    store, client = store_in_use(), client_in_use()
    created = client.find(workflow_id)
    view = _read(store, created)
    while view is not None and view.ended is None:
        if reading.status_of(store, view) is WorkflowStatus.RESUMABLE:
            _end_as_canceled(store, view)
        else:
            requests.request_cancel(store, view, uid="", reason="Canceled")
            with contextlib.suppress(OwnerLostError):  # the owner is lost meanwhile, so the run is ended in its place
                handle = client.observe(created)
                handle.manager.notify.remote(created.run_uuid)
                client.wait(handle, resumes=False)
        view = _read(store, created)
    if view is None or view.status is not WorkflowStatus.CANCELED:
        why = f"it already ended with status {view.status}" if view is not None else "it was deleted"
        raise WorkflowConflictError(f"cannot cancel workflow {workflow_id!r}: {why}", workflow_id=workflow_id)


def _read(store: Store, created: Created) -> reading.RunView | None:
    return reading.read_run(store, created.workflow_id, created.run_number)


@checked_call("workflow.delete")
def delete(workflow_id: str) -> None:
    """Delete a workflow that is not running, with everything that is stored for it.

    Raises:
        WorkflowNotFoundError: nothing is stored under this id.
        WorkflowRunningError: the workflow is running; cancel it first.
    """
    store = store_in_use()
    view = read_existing(store, workflow_id)
    running = WorkflowRunningError(
        f"cannot delete workflow {workflow_id!r}: it is RUNNING; call workflow.cancel({workflow_id!r}) first",
        workflow_id=workflow_id,
    )
    if reading.status_of(store, view) is WorkflowStatus.RUNNING:
        raise running
    requester = requests.Requester(uid="", attempt=0, name="delete")
    try:
        requests.delete_run(store, workflow_id, run_number=view.run_number, requester=requester)
    except WorkflowInUseError as error:  # a manager claimed the run after its status was read
        raise running from error


def _end_as_canceled(store: Store, view: reading.RunView) -> None:
    """Cancel a run without a live owner. If a manager has claimed the run since, it stays as it is."""
    with contextlib.suppress(WorkflowInUseError):
        requests.end_run(
            store,
            view.workflow_id,
            run_number=view.run_number,
            status=WorkflowStatus.CANCELED,
            reason="Canceled",
            message="",
            requester=requests.Requester(uid="", attempt=0, name="cancel"),
        )


def _start(root: StepNode, workflow_id: str | None, metadata: Mapping[str, Any] | None) -> tuple[Client, RunHandle]:
    if not isinstance(root, StepNode):
        raise _not_composed(root)
    options = RunOptions(metadata=metadata_text(metadata), retry_failed=True)
    workflow_id = workflow_id if workflow_id is not None else context.next_nested_id() or None
    if workflow_id is None:
        name = root.name or underlying(root.function).__name__
        workflow_id = f"{name}.{time.strftime('%Y%m%d-%H%M%S')}.{uuid.uuid4().hex[:8]}"
    client = client_in_use()
    return client, client.start(root, workflow_id, options)


def _not_composed(given: Any) -> WrongTypeError:
    """Return the error for something that is not a composed workflow."""
    step = getattr(given, "__self__", given)  # `f` or `f.step`, without the call
    if is_step(step):
        name = underlying(step.function).__name__
        return WrongTypeError(f"cannot run step {name!r} without arguments: call {name}.step(...), and run its result")
    if type(given).__module__.startswith("ray.dag."):
        advice = "pass workflow.create(...) of it"
    elif isinstance(given, (list, tuple, set, dict)):
        advice = "run each workflow in it, or pass them all to one step and run that step"
    else:
        advice = "pass what .step(...) returns"
    return WrongTypeError(f"cannot run {shown(given)}: {kind_of(given)} is not a workflow; {advice}")
