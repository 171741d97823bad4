"""What a user calls to change something: run, resume, cancel and delete workflows."""

from __future__ import annotations

import dataclasses
import logging
import time
import uuid
from collections.abc import Mapping
from typing import Any

from workflow import reading, requests
from workflow.engine.driver.client import Client, RunHandle, RunOptions
from workflow.engine.driver.results import value_of
from workflow.engine.worker import context
from workflow.errors import WorkflowConflictError, WorkflowError, WorkflowRunningError
from workflow.inspection import get_status, list_all, output_of
from workflow.log import registry
from workflow.model.graph import StepNode, metadata_text, underlying
from workflow.model.status import WorkflowStatus
from workflow.session import here, store_in_use

logger = logging.getLogger(__name__)


def run(root: StepNode, workflow_id: str | None = None, metadata: Mapping[str, Any] | None = None) -> Any:
    """Run a workflow and return its value; see `Workflow.run`."""
    client, handle = _start(root, workflow_id, metadata)
    return value_of(client.wait(handle))


def run_async(root: StepNode, workflow_id: str | None = None, metadata: Mapping[str, Any] | None = None) -> Any:
    """Run a workflow in the background; see `Workflow.run_async`."""
    return output_of(_start(root, workflow_id, metadata)[1])


def resume(workflow_id: str, *, take_over: bool = False) -> Any:
    """Go on with a workflow that is RESUMABLE or FAILED, and return its value.

    Args:
        workflow_id: which.
        take_over: claim it although its owner may live: you know that its cluster is gone. The old owner is fenced.

    Raises:
        WorkflowNotFoundError: nothing is stored under this id.
        WorkflowNotResumableError: it was canceled.
        InUse: its owner lives; the text names it.
        Whatever the workflow fails with.
    """
    client = here()
    return value_of(client.wait(client.resume(workflow_id, take_over=take_over)))


def resume_async(workflow_id: str, *, take_over: bool = False) -> Any:
    """Like `resume`, but returns an ObjectRef of the value at once."""
    return output_of(here().resume(workflow_id, take_over=take_over))


def resume_all(include_failed: bool = False) -> list[tuple[str, Any]]:
    """Go on with every workflow that is RESUMABLE, in the background.

    Args:
        include_failed: try those that FAILED again, too.

    Returns:
        `(workflow id, ObjectRef of its value)` of each that goes on. One that cannot, because somebody else took it
        up meanwhile, say, keeps no other from it: that is logged and left out.
    """
    wanted = {WorkflowStatus.RESUMABLE, *([WorkflowStatus.FAILED] if include_failed else [])}
    resumed = []
    for workflow_id, _ in list_all(wanted):
        try:
            resumed.append((workflow_id, resume_async(workflow_id)))
        except WorkflowError as error:
            logger.error("workflow %r is not resumed: %s", workflow_id, error)
    return resumed


def cancel(workflow_id: str) -> None:
    """End a workflow CANCELED: its running steps are stopped. Returns once the log says so.

    Raises:
        WorkflowNotFoundError: nothing is stored under this id.
        WorkflowConflict: it has ended otherwise already.
    """
    store, client = store_in_use(), here()
    created = client.find(workflow_id)
    view = reading.read_run(store, workflow_id, created.run_number)
    assert view is not None, "it was just found"
    if view.ended is None and reading.status_of(store, view) is WorkflowStatus.RESUMABLE:
        requester = requests.Requester(uid="", attempt=0, name="cancel")
        view = requests.end_run(
            store,
            workflow_id,
            run_number=created.run_number,
            status=WorkflowStatus.CANCELED,
            reason="Canceled",
            message="",
            requester=requester,
        )
    elif view.ended is None:
        requests.request_cancel(store, view, uid="", reason="Canceled")
        handle = client.attach(created)
        handle.manager.notify.remote(created.run_uuid)
        client.wait(handle)
        view = reading.read_run(store, workflow_id, created.run_number)
    if view is None or view.status is not WorkflowStatus.CANCELED:
        raise WorkflowConflictError(
            f"workflow {workflow_id!r} ended {view.status if view else 'and was deleted'} before"
        )


def delete(workflow_id: str) -> None:
    """Remove a workflow that does not run, with all it stored.

    Raises:
        WorkflowNotFoundError: nothing is stored under this id.
        WorkflowRunningError: it runs; cancel it first.
    """
    if get_status(workflow_id) is WorkflowStatus.RUNNING:
        raise WorkflowRunningError(
            f"workflow {workflow_id!r} is RUNNING; cancel it before you delete it", workflow_id=workflow_id
        )
    store = store_in_use()
    run_number = registry.latest_run_number(store, workflow_id)
    requests.delete_run(
        store, workflow_id, run_number=run_number, requester=requests.Requester(uid="", attempt=0, name="delete")
    )


def _start(root: StepNode, workflow_id: str | None, metadata: Mapping[str, Any] | None) -> tuple[Client, RunHandle]:
    options = RunOptions(metadata=metadata_text(metadata))
    if workflow_id is None and (nested := context.next_nested_id()):
        # This execution of the step has not started it yet: one that FAILED did so in an earlier one.
        workflow_id, options = nested, dataclasses.replace(options, retry_failed=True)
    if workflow_id is None:
        name = root.name or underlying(root.function).__name__
        workflow_id = f"{name}.{time.strftime('%Y%m%d-%H%M%S')}.{uuid.uuid4().hex[:8]}"
    client = here()
    return client, client.start(root, workflow_id, options)
