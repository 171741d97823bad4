"""Act on a run from outside, without Ray: cancel it, end a run without a live owner, release it, or delete it.

Used by the operator and by `workflow.api`. A process that ends or releases a run claims it first, by the same rules as
a manager. So a Workflow object can act only on a run that its uid owns or that may be claimed.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from workflow.errors import CorruptLogError, SupersededError, WorkflowConflictError
from workflow.log import index, keys, registry
from workflow.log.blobs import Blobs
from workflow.log.claim import Claimant, ClaimPurpose, FollowingRecords, belongs_to_other_object, claim
from workflow.log.keys import RunPaths
from workflow.log.run_log import RunLog
from workflow.log.values import versions
from workflow.model.failure import cancellations
from workflow.model.records import FREES_ID, Record, StatusChanged, Tombstone
from workflow.model.run_view import ErrorInfo, Owner, RunView
from workflow.model.state import RunState
from workflow.model.status import UNCLAIMABLE, WorkflowStatus
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
        requester: the sender. A run that its uid owns is claimed even if its owner may be alive.

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
            _end(log, state, requester, status, reason, error)
    return _read_existing(store, workflow_id, run_number)


def refuse_run(
    store: Store, workflow_id: str, *, run_number: int, reason: str, message: str, requester: Requester
) -> RunView:
    """Prevent the creation of a run: write a tombstone with the status FAILED. A run that exists stays as it is.

    Args:
        store: the store of the run.
        workflow_id: the user's id.
        run_number: the number of the run under that id.
        reason: one CamelCase word.
        message: what is wrong and what the user can do.
        requester: the sender.

    Returns:
        The tombstone, or the run that exists.
    """
    if registry.read_entry(store, workflow_id, run_number) is None:
        error = ErrorInfo(kind=reason, message=message)
        failed = WorkflowStatus.FAILED
        registry.register(store, Tombstone(workflow_id, run_number, failed, reason, time.time(), requester.uid, error))
    return _read_existing(store, workflow_id, run_number)


def _end(
    log: RunLog,
    state: RunState,
    requester: Requester,
    status: WorkflowStatus,
    reason: str,
    error: ErrorInfo | None,
    retry_failed: int = -1,
) -> None:
    """Claim a run and write its terminal state in the same segment, unless the run is finished when it is claimed."""

    def ending(claimed: RunState) -> Sequence[Record]:
        canceled = cancellations(claimed, claimed.active_steps(), reason)
        return [*canceled, StatusChanged(status, claimed.epoch, time.time(), reason, error)]

    _claim_for(log, state, requester, reason, ending, retry_failed)
    index.update(log, state, state.status, replaces=index.CLAIMABLE)
    withdraw_all(log, state)


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

    A FAILED run is canceled first, so that no process can resume it while it is being deleted. A deletion that was
    interrupted is finished by the next call.

    Args:
        store: the store of the run.
        workflow_id: the user's id.
        run_number: the number of the run under that id.
        requester: the sender. A Workflow object cannot delete a run of another object, not even a finished one.

    Raises:
        SupersededError: another Workflow object owns the run, or a later attempt of the same object. Nothing changed.
        WorkflowInUseError: another owner runs it, and is not known to be lost. Nothing changed.
    """
    latest = registry.latest_run_number(store, workflow_id)
    if latest < run_number:
        return
    entry = registry.read_entry(store, workflow_id, run_number) if latest == run_number else None
    # Otherwise the run was deleted before. Some of its keys may be left, but index entries are those of a later run.
    is_current = entry is not None and not (isinstance(entry, Tombstone) and entry.reason in FREES_ID)
    freed_by_other = False
    if is_current and entry is not None:
        _close(store, entry, requester)
        # Before the tombstone, which frees the id: after it, a new run may have written its own entry.
        index.remove(store, workflow_id)
        tombstone = Tombstone(
            workflow_id, run_number + 1, WorkflowStatus.CANCELED, "Deleted", time.time(), requester.uid
        )
        freed_by_other = not registry.register(store, tombstone).created
    remove_below(store, workflow_id, f"{keys.runs(workflow_id)}{run_number}-")
    if freed_by_other:  # another process deleted or replaced the run first, so the entry of a later run may be removed
        index.restore(store, workflow_id)


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


def _close(store: Store, entry: registry.RegistryEntry, requester: Requester) -> None:
    """Make sure that a run cannot be claimed any more, and that the requester may delete it."""
    if isinstance(entry, Tombstone):
        if requester.uid and entry.uid not in ("", requester.uid):
            raise _not_deleted(entry.workflow_id, requester, entry.uid)
        return
    log = RunLog(store, entry)
    try:
        state = log.replay()
        while state.status not in UNCLAIMABLE:
            failed = state.terminal[0] if state.terminal is not None else -1
            _end(log, state, requester, WorkflowStatus.CANCELED, "Deleted", None, retry_failed=failed)
    except SupersededError:
        if registry.latest_run_number(store, entry.workflow_id) == entry.run_number:  # the requester was refused
            raise
        return  # another process deleted or replaced the run meanwhile
    if belongs_to_other_object(state, requester.uid):
        raise _not_deleted(entry.workflow_id, requester, state.owner.uid)


def _not_deleted(workflow_id: str, requester: Requester, owner_uid: str) -> SupersededError:
    return SupersededError(
        f"{requester.name} cannot delete workflow {workflow_id!r}: its run belongs to object {owner_uid}, not to "
        f"{requester.uid}",
        workflow_id=workflow_id,
    )


def stage_code(store: Store, workflow_id: str, run_number: int, run_uuid: str, data: bytes) -> str:
    """Store the user's code with a run that is about to be created, so that every resume uses this copy.

    A damaged copy is replaced.

    Returns:
        The sha256 of the code.
    """
    return _stage(store, workflow_id, run_number, run_uuid, data)


def stage_args(store: Store, workflow_id: str, run_number: int, run_uuid: str, data: bytes) -> str:
    """Store the arguments of the entrypoint with a run that is about to be created. A damaged copy is replaced.

    Returns:
        The sha256 of the arguments.
    """
    return _stage(store, workflow_id, run_number, run_uuid, data)


def _stage(store: Store, workflow_id: str, run_number: int, run_uuid: str, data: bytes) -> str:
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


def read_args(store: Store, workflow_id: str, run_number: int, run_uuid: str, sha256: str) -> bytes:
    """Return the arguments that `stage_args` stored.

    Raises:
        CorruptLogError: the arguments are missing or damaged.
    """
    return Blobs(store, RunPaths(workflow_id, run_number, run_uuid)).get(sha256)


def store_driver_log(
    store: Store, workflow_id: str, run_number: int, run_uuid: str, submission_id: str, log: bytes
) -> str:
    """Store the end of the log of a driver with its run. It is deleted with the run. An existing one stays as it is.

    Args:
        store: the store of the run.
        workflow_id: the user's id.
        run_number: the number of the run under that id.
        run_uuid: the uuid of the run.
        submission_id: the id under which the driver was submitted; it must not contain a slash.
        log: the text, as UTF-8.

    Returns:
        The key of the stored object.
    """
    key = RunPaths(workflow_id, run_number, run_uuid).driver_log(submission_id)
    store.create(key, log, uuid.uuid4().hex)
    return key


def _claim_for(
    log: RunLog,
    state: RunState,
    requester: Requester,
    reason: str,
    following: FollowingRecords,
    retry_failed: int = -1,
) -> None:
    registry.check_current(log.store, log.created)
    claimant = Claimant(
        owner=Owner(
            manager=f"outside-{uuid.uuid4().hex}", address=requester.name, uid=requester.uid, attempt=requester.attempt
        ),
        at=time.time(),
        purpose=ClaimPurpose.REQUEST,
        retry_failed=retry_failed,
        reason=reason,
        versions=versions(),
    )
    # The run was finished in the meantime, and its log decides. The claim has folded it up to that point.
    with contextlib.suppress(WorkflowConflictError):
        claim(log, state, claimant, following)


def _read_existing(store: Store, workflow_id: str, run_number: int) -> RunView:
    view = read_run(store, workflow_id, run_number)
    assert view is not None, "a registry entry is never removed"
    return view
