"""Act on a run from outside, without Ray: cancel it, end a run without a live owner, release it, or delete it.

Used by the operator and by `workflow.api`. A process that ends or releases a run claims it first, by the same rules as
a manager. So a Workflow object can act only on a run that its uid owns or that may be claimed.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from workflow.errors import CorruptLogError, SupersededError, WorkflowConflictError
from workflow.log import index, keys, registry
from workflow.log.blobs import Blobs
from workflow.log.claim import Claimant, FollowingRecords, claim
from workflow.log.keys import RunPaths
from workflow.log.run_log import RunLog
from workflow.log.values import versions
from workflow.model.failure import cancellations
from workflow.model.records import FREES_ID, Created, Record, StatusChanged, Tombstone
from workflow.model.run_view import ErrorInfo, Owner, RunView
from workflow.model.state import RunState
from workflow.model.status import WorkflowStatus
from workflow.reading import read_run
from workflow.store.port import Store


@dataclass(frozen=True, slots=True)
class Requester:
    """The sender of a request to a run.

    Attributes:
        uid: uid of the Workflow object; empty for a user without the operator.
        attempt: the submission attempt of the object; 0 without the operator.
        name: a name for logs and messages, such as `namespace/name`.
    """

    uid: str
    attempt: int
    name: str


def request_cancel(store: Store, view: RunView, *, uid: str, reason: str) -> str:
    """Request that the owner of a run ends it as CANCELED. The owner does so when it next reads its inbox.

    Args:
        store: the store of the run.
        view: the run.
        uid: uid of the Workflow object that requests it; empty without the operator.
        reason: one CamelCase word for the log.

    Returns:
        The id of the request.
    """
    request = uuid.uuid4().hex
    paths = RunPaths(view.workflow_id, view.run_number, view.run_uuid)
    content = json.dumps({"kind": "cancel", "uid": uid, "reason": reason}).encode()
    store.create(paths.request(request), content, request)
    store.create(keys.notification(view.run_uuid, request), b"", request)
    again = read_run(store, view.workflow_id, view.run_number)
    if again is not None and again.ended is not None:  # finished, or deleted and replaced by a tombstone
        withdraw(store, paths, request)
    return request


def withdraw(store: Store, paths: RunPaths, request: str) -> None:
    """Remove a request that took effect, or whose run is finished, together with its notification.

    The request is removed last, because the notification is found through it.
    """
    store.delete(keys.notification(paths.run_uuid, request))
    store.delete(paths.request(request))


def withdraw_all(log: RunLog, state: RunState) -> int:
    """Remove all requests to a finished run.

    Args:
        log: the log of the run.
        state: the state of the run, folded up to its terminal state. If the run was resumed later, nothing is removed:
            the requests may be for the new epoch.

    Returns:
        How many requests were removed.
    """
    requests = log.inbox()
    # Checked after the list was read: if the run had not advanced by then, all listed requests are older than that.
    if requests and log.has_advanced(state):
        return 0
    for request in requests:
        withdraw(log.store, log.paths, request)
    return len(requests)


def end_run(
    store: Store,
    workflow_id: str,
    *,
    run_number: int,
    status: WorkflowStatus,
    reason: str,
    message: str,
    requester: Requester,
) -> RunView:
    """End a run from outside. If no such run exists yet, write a tombstone that prevents its creation.

    The claim and the terminal state are written in one segment.

    Args:
        store: the store of the run.
        workflow_id: the user's id.
        run_number: the number of the run under that id.
        status: FAILED or CANCELED.
        reason: one CamelCase word.
        message: what happened and what the user can do; used if the status is FAILED.
        requester: the sender. A run that its uid owns is claimed even if the owner's heartbeat has not expired.

    Returns:
        The run after the call. If the run was finished before, its status may be another one.

    Raises:
        SupersededError, WorkflowInUseError: the requester may not act on the run. Nothing was written.
    """
    error = ErrorInfo(kind=reason, message=message) if status is WorkflowStatus.FAILED else None
    entry = registry.read_entry(store, workflow_id, run_number)
    if entry is None:
        entry = registry.register(
            store, Tombstone(workflow_id, run_number, status, reason, time.time(), requester.uid, error)
        ).entry
    if not isinstance(entry, Tombstone):
        log = RunLog(store, entry)
        state = log.replay()
        if not state.is_finished:

            def ending(claimed: RunState) -> Sequence[Record]:
                canceled = cancellations(claimed, claimed.active_steps(), reason)
                return [*canceled, StatusChanged(status, claimed.epoch, time.time(), reason, error)]

            _claim_for(log, state, requester, reason, ending)
            index.update(log, state, state.status, replaces=index.CLAIMABLE)
            withdraw_all(log, state)
    return _read_existing(store, workflow_id, run_number)


def release_run(store: Store, workflow_id: str, *, run_number: int, requester: Requester, reason: str) -> RunView:
    """Release a run on behalf of its owner, so that it is RESUMABLE at once. A finished run stays as it is.

    The claim and the release are written in one segment.

    Args:
        store: the store of the run.
        workflow_id: the user's id.
        run_number: the number of the run under that id.
        requester: the sender.
        reason: one CamelCase word.

    Raises:
        SupersededError, WorkflowInUseError: the requester may not act on the run.
        WorkflowConflictError: there is no such run.
    """
    entry = registry.read_entry(store, workflow_id, run_number)
    if entry is None:
        raise WorkflowConflictError(
            f"cannot release run {run_number} of workflow {workflow_id!r}: there is no such run",
            workflow_id=workflow_id,
        )
    if not isinstance(entry, Tombstone):
        log = RunLog(store, entry)
        state = log.replay()
        released_by_requester = state.released and state.owner.uid == requester.uid
        if not state.is_finished and not released_by_requester:

            def released(claimed: RunState) -> Sequence[Record]:
                return [StatusChanged(WorkflowStatus.RESUMABLE, claimed.epoch, time.time(), reason)]

            _claim_for(log, state, requester, reason, released)
    return _read_existing(store, workflow_id, run_number)


def delete_run(store: Store, workflow_id: str, *, run_number: int, requester: Requester) -> None:
    """End a run if it is not finished, write a tombstone under the next run number, and remove the keys of the run.

    A deletion that was interrupted is finished by the next call.

    Raises:
        SupersededError, WorkflowInUseError: the requester may not act on the run, which is not finished.
    """
    latest = registry.latest_run_number(store, workflow_id)
    if latest < run_number:
        return
    if latest == run_number:  # otherwise the run was deleted before, and some of its keys may be left
        entry = registry.read_entry(store, workflow_id, run_number)
        if isinstance(entry, Created):
            _cancel_for_deletion(store, entry, requester)
        # Before the tombstone, which frees the id: after it, a new run may have written its own entry.
        index.remove(store, workflow_id)
        if not (isinstance(entry, Tombstone) and entry.reason in FREES_ID):
            tombstone = Tombstone(
                workflow_id, run_number + 1, WorkflowStatus.CANCELED, "Deleted", time.time(), requester.uid
            )
            registry.register(store, tombstone)
    remove_below(store, workflow_id, f"{keys.runs(workflow_id)}{run_number}-")


def remove_below(store: Store, workflow_id: str, prefix: str) -> int:
    """Remove all keys of runs with a prefix, together with the notifications of their requests.

    Args:
        store: the store of the runs.
        workflow_id: the workflow id of the runs. None of them may be a run that the id names now.
        prefix: the common prefix of the keys.

    Returns:
        How many keys were removed, without notifications.
    """
    removed = 0
    for info in store.list(prefix):
        found = keys.run_key(info.key)
        if found is not None and found.kind == "inbox":
            withdraw(store, RunPaths(workflow_id, found.run_number, found.run_uuid), found.last)
        else:
            store.delete(info.key)
        removed += 1
    return removed


def _cancel_for_deletion(store: Store, created: Created, requester: Requester) -> None:
    view = read_run(store, created.workflow_id, created.run_number)
    if view is not None and view.ended is None:
        end_run(
            store,
            created.workflow_id,
            run_number=created.run_number,
            status=WorkflowStatus.CANCELED,
            reason="Deleted",
            message="deleted",
            requester=requester,
        )


def stage_code(store: Store, workflow_id: str, run_number: int, run_uuid: str, data: bytes) -> str:
    """Store the user's code with a run that is about to be created, so that every resume uses this copy.

    A damaged copy is replaced.

    Returns:
        The sha256 of the code.
    """
    paths = RunPaths(workflow_id, run_number, run_uuid)
    blobs = Blobs(store, paths)
    name = blobs.put(data)
    try:
        blobs.get(name)
    except CorruptLogError:
        store.delete(paths.blob(name))
        blobs.put(data)
    return name


def read_code(store: Store, workflow_id: str, run_number: int, run_uuid: str, sha256: str) -> bytes:
    """Return the code that `stage_code` stored.

    Raises:
        CorruptLogError: the code is missing or damaged.
    """
    return Blobs(store, RunPaths(workflow_id, run_number, run_uuid)).get(sha256)


def _claim_for(log: RunLog, state: RunState, requester: Requester, reason: str, ending: FollowingRecords) -> None:
    registry.check_current(log.store, log.created)
    owner = state.owner
    workflow_id = state.created.workflow_id
    if requester.uid and owner.uid and owner.uid != requester.uid and not state.released:
        raise SupersededError(
            f"{requester.name} cannot act on workflow {workflow_id!r}: its run is owned by object {owner.uid}, not by "
            f"{requester.uid}",
            workflow_id=workflow_id,
        )
    claimant = Claimant(
        owner=Owner(
            manager=f"outside-{uuid.uuid4().hex}", address=requester.name, uid=requester.uid, attempt=requester.attempt
        ),
        at=time.time(),
        take_over=bool(requester.uid) and owner.uid == requester.uid,
        reason=reason,
        versions=versions(),
    )
    try:
        claim(log, state, claimant, ending)
    except WorkflowConflictError:  # the run was finished in the meantime, and its log decides
        log.catch_up(state)


def _read_existing(store: Store, workflow_id: str, run_number: int) -> RunView:
    view = read_run(store, workflow_id, run_number)
    assert view is not None, "a registry entry is never removed"
    return view
