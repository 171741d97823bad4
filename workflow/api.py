"""What a user calls: start, resume, look at, cancel and delete workflows. Each call is the client's or the log's."""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.experimental import internal_kv

from workflow import reading, requests
from workflow.engine import context
from workflow.engine.client import Client, Handle, RunOptions
from workflow.engine.delivery import value_of, whole_resolver
from workflow.engine.messages import RunAddress
from workflow.engine.run_loop import end_of
from workflow.engine.worker import blobs_of, materialize, store_at
from workflow.errors import Invalid, WorkflowConflict, WorkflowNotFound
from workflow.log import naming
from workflow.log.run_log import RunLog
from workflow.model.graph import Node
from workflow.model.records import NO_RUN
from workflow.model.state import RunState
from workflow.model.status import WorkflowStatus
from workflow.store.port import Store
from workflow.store.probe import probe

logger = logging.getLogger(__name__)

_KV_NAMESPACE = b"rayworkflow"

STEP_POLL = 0.2
"""Seconds between looks into the log while a step's outcome is waited for."""


def init(storage: str | None = None) -> None:
    """Say where workflows are kept, and connect to Ray where that was not done.

    Args:
        storage: `s3://bucket/prefix?endpoint=https://host` (credentials from the environment), or a folder. None: what
            this job was given before, the environment's RAYWORKFLOW_STORAGE, or a folder under the user's state
            directory (`$XDG_STATE_HOME/rayworkflow`).

    Raises:
        StoreRefused: the store cannot keep a log; the text says which property it lacks.
        Invalid: no such kind of address.
    """
    if not ray.is_initialized():
        ray.init()
    url = store_at(_absolute(storage or os.environ.get("RAYWORKFLOW_STORAGE") or _default_folder())).url
    probe(store_at(url))
    context.set_store(url)
    internal_kv._internal_kv_put(_kv_key(), url.encode(), namespace=_KV_NAMESPACE)
    logger.info("workflows are kept at %s", url)


def run(root: Node, workflow_id: str | None = None, metadata: Mapping[str, Any] | None = None) -> Any:
    """Run a workflow and return its value; see `Workflow.run`."""
    client, handle = _start(root, workflow_id, metadata)
    return value_of(client.wait(handle))


def run_async(root: Node, workflow_id: str | None = None, metadata: Mapping[str, Any] | None = None) -> Any:
    """Run a workflow in the background; see `Workflow.run_async`."""
    return _output_of(_start(root, workflow_id, metadata)[1])


def resume(workflow_id: str, *, take_over: bool = False) -> Any:
    """Go on with a workflow that is RESUMABLE or FAILED, and return its value.

    Args:
        workflow_id: which.
        take_over: claim it although its owner may live: you know that its cluster is gone. The old owner is fenced.

    Raises:
        WorkflowNotFound: nothing is stored under this id.
        InUse: its owner lives; the text names it.
        Whatever the workflow fails with.
    """
    client = _client()
    return value_of(client.wait(client.resume(workflow_id, take_over=take_over)))


def resume_async(workflow_id: str, *, take_over: bool = False) -> Any:
    """Like `resume`, but returns an ObjectRef of the value at once."""
    return _output_of(_client().resume(workflow_id, take_over=take_over))


def get_status(workflow_id: str) -> WorkflowStatus:
    """Where a workflow stands.

    Raises:
        WorkflowNotFound: nothing is stored under this id.
    """
    view = reading.read_run(_store(), workflow_id)
    if view is None or (view.tombstone and view.reason in NO_RUN):
        raise WorkflowNotFound(f"no workflow {workflow_id!r} is stored at {_store().url}", workflow_id=workflow_id)
    return reading.status_of(_store(), view)


def get_output(workflow_id: str, *, name: str | None = None) -> Any:
    """The value of a workflow, or of one of its steps; waits for it where the workflow runs.

    Args:
        workflow_id: which.
        name: a step's id or name; the workflow's own output where None.

    Raises:
        WorkflowNotFound: no such workflow, or no such step in it.
        Whatever the workflow failed with.
    """
    client = _client()
    created = client.find(workflow_id)
    log = RunLog(_store(), created)
    state = log.replay()
    run = RunAddress(_store().url, created.workflow_id, created.n, created.run_uuid)
    if name is not None:
        return _step_output(client, log, state, run, name)
    return value_of(end_of(state, run) if state.ended else client.wait(client.attach(created)))


def list_all(
    status_filter: WorkflowStatus | str | Iterable[WorkflowStatus | str] | None = None,
) -> list[tuple[str, WorkflowStatus]]:
    """All workflows with their status.

    Args:
        status_filter: one status, several, or None for all.
    """
    wanted = _statuses(status_filter)
    found: dict[str, WorkflowStatus] = {}
    for hint in WorkflowStatus:
        live = not hint.is_end
        if not live and hint not in wanted:
            continue
        for workflow_id in naming.indexed(_store(), hint):
            status = _checked_hint(workflow_id) if live else hint
            if status is not None:
                found.setdefault(workflow_id, status)
    return sorted((workflow_id, status) for workflow_id, status in found.items() if status in wanted)


def cancel(workflow_id: str) -> None:
    """End a workflow CANCELED: its running steps are stopped. Returns once the log says so.

    Raises:
        WorkflowNotFound: nothing is stored under this id.
        WorkflowConflict: it has ended otherwise already.
    """
    store, client = _store(), _client()
    created = client.find(workflow_id)
    view = reading.read_run(store, workflow_id, created.n)
    assert view is not None, "it was just found"
    if view.ended is None and reading.status_of(store, view) is WorkflowStatus.RESUMABLE:
        actor = requests.Actor(uid="", attempt=0, name="cancel")
        view = requests.end_run(
            store, workflow_id, n=created.n, status=WorkflowStatus.CANCELED, reason="Canceled", message="", actor=actor
        )
    elif view.ended is None:
        requests.ask_cancel(store, view, uid="", reason="Canceled")
        handle = client.attach(created)
        handle.manager.ring.remote(created.run_uuid)
        client.wait(handle)
        view = reading.read_run(store, workflow_id, created.n)
    if view is None or view.status is not WorkflowStatus.CANCELED:
        raise WorkflowConflict(f"workflow {workflow_id!r} ended {view.status if view else 'and was deleted'} before")


def delete(workflow_id: str) -> None:
    """Remove a workflow that does not run, with all it stored.

    Raises:
        WorkflowNotFound: nothing is stored under this id.
        WorkflowConflict: it runs; cancel it first.
    """
    if get_status(workflow_id) is WorkflowStatus.RUNNING:
        raise WorkflowConflict(f"workflow {workflow_id!r} is RUNNING; cancel it before you delete it")
    n = naming.highest(_store(), workflow_id)
    requests.delete_run(_store(), workflow_id, n=n, actor=requests.Actor(uid="", attempt=0, name="delete"))


def _start(root: Node, workflow_id: str | None, metadata: Mapping[str, Any] | None) -> tuple[Client, Handle]:
    try:
        text = json.dumps(dict(metadata or {}))
    except TypeError as error:
        raise Invalid(f"metadata must be a dict of JSON values: {error}") from error
    if workflow_id is None:
        workflow_id = f"{root.name or root.function.__name__}.{time.strftime('%Y%m%d-%H%M%S')}.{uuid.uuid4().hex[:8]}"
    client = _client()
    return client, client.start(root, workflow_id, RunOptions(metadata=text))


def _output_of(handle: Handle) -> Any:
    return handle.manager.output.remote(handle.run)


def _step_output(client: Client, log: RunLog, state: RunState, run: RunAddress, name: str) -> Any:
    """The value of a step, as soon as it has its outcome; the other steps are not waited for."""
    waiting = None
    while True:
        step = state.steps.get(name) or next((each for each in state.steps.values() if each.spec.name == name), None)
        if step is not None and step.outcome is not None:
            blobs, folder = blobs_of(run)
            resolve = whole_resolver(blobs, folder, log.created.versions)
            return materialize(step.outcome, blobs, resolve, log.created.versions)
        if state.ended:
            return _no_step_output(state, run, name)
        if waiting is None:
            handle = client.attach(log.created)
            waiting = handle.manager.wait.remote(handle.run)
        if ray.wait([waiting], timeout=STEP_POLL)[0]:
            waiting = None  # it ended, or its owner was lost: then it is attached to anew, which goes on with it
        log.catch_up(state)


def _no_step_output(state: RunState, run: RunAddress, name: str) -> Any:
    """Raises why a run that has ended has no outcome of a step."""
    if state.status is not WorkflowStatus.SUCCEEDED:
        value_of(end_of(state, run))
    known = ", ".join(sorted(state.steps)[:20])
    raise WorkflowNotFound(f"workflow {run.workflow_id!r} has no step {name!r}; it has {known}")


def _checked_hint(workflow_id: str) -> WorkflowStatus | None:
    """What the log says of an id that the index calls live; None where the run was never made, or was deleted."""
    try:
        return get_status(workflow_id)
    except WorkflowNotFound:
        return None


def _statuses(given: WorkflowStatus | str | Iterable[WorkflowStatus | str] | None) -> set[WorkflowStatus]:
    if given is None:
        return set(WorkflowStatus)
    several = [given] if isinstance(given, str) else list(given)
    try:
        return {WorkflowStatus(each) for each in several}
    except ValueError as error:
        raise Invalid(f"{error}; a status is one of {', '.join(map(str, WorkflowStatus))}") from error


def _client() -> Client:
    return Client(_store())


def _store() -> Store:
    """Of the step that this thread executes; else what this job was given last; else what this process was; else made.

    A task looks at its job each time: its worker process may have served a task from before another `init`.
    """
    if context.current_step() is None and ray.is_initialized():
        known = internal_kv._internal_kv_get(_kv_key(), namespace=_KV_NAMESPACE)
        if known is not None:
            return store_at(known.decode())
    if not context.store_url():
        init()
    return store_at(context.store_url())


def _kv_key() -> bytes:
    return f"storage/{ray.get_runtime_context().get_job_id()}".encode()


def _default_folder() -> str:
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return str(Path(state) / "rayworkflow")


def _absolute(storage: str) -> str:
    return storage if "://" in storage else str(Path(storage).expanduser().resolve())
