"""Ask something of a run without Ray: cancel it, end one that nobody owns, say goodbye for it, delete it.

Used by the operator, the CLI and `api`. What acts on a run is checked against its log, and again at the seq it
claims: an object may only act on a run that its uid owns, or that it may claim.
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
    """Who acts on a run from outside.

    Attributes:
        uid: of the Workflow object, or empty for a person.
        attempt: the object's, or 0.
        name: for people: `namespace/name`, or a user.
    """

    uid: str
    attempt: int
    name: str


def request_cancel(store: Store, view: RunView, *, uid: str, reason: str) -> str:
    """Ask the run's owner to end it CANCELED; it does so as soon as it looks into its inbox.

    Args:
        store: where the run lies.
        view: the run.
        uid: of the object that asks, or empty.
        reason: for people.

    Returns:
        The request's id.
    """
    request = uuid.uuid4().hex
    paths = RunPaths(view.workflow_id, view.run_number, view.run_uuid)
    content = json.dumps({"kind": "cancel", "uid": uid, "reason": reason}).encode()
    store.create(paths.request(request), content, request)
    store.create(keys.notification(view.run_uuid, request), b"", request)
    again = read_run(store, view.workflow_id, view.run_number)
    if again is not None and again.ended is not None:  # a run that was deleted has its tombstone's end
        withdraw(store, paths, request)
    return request


def withdraw(store: Store, paths: RunPaths, request: str) -> None:
    """Remove a request and its bell: it took effect, or its run has ended. The key last, by which both are found."""
    store.delete(keys.notification(paths.run_uuid, request))
    store.delete(paths.request(request))


def withdraw_all(log: RunLog, state: RunState) -> int:
    """Remove what was asked of a run until it ended.

    Args:
        log: of the run.
        state: folded up to its end. Where the run was resumed since, nothing is removed: what is asked of the epoch
            that goes on now must reach its owner.

    Returns:
        How many requests.
    """
    found = log.inbox()
    if found and log.has_advanced(state):  # looked at behind the list: what stands in it was asked before
        return 0
    for request in found:
        withdraw(log.store, log.paths, request)
    return len(found)


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
    """End a run from outside: claim and end in one segment; a tombstone where no run exists yet.

    Args:
        store: where the run lies, or would.
        workflow_id: the user's id.
        n: which run under it.
        status: FAILED or CANCELED.
        reason: one CamelCase word.
        message: what happened and what to do, for people.
        actor: who ends it; its own uid's run is claimed whether or not its owner lives.

    Returns:
        What the log says then; another end where one was first.

    Raises:
        Superseded, InUse: the run is not this actor's. Nothing was written.
    """
    error = ErrorInfo(kind=reason, message=message) if status is WorkflowStatus.FAILED else None
    named = registry.read_entry(store, workflow_id, run_number)
    if named is None:
        named = registry.register(
            store, Tombstone(workflow_id, run_number, status, reason, time.time(), requester.uid, error)
        ).entry
    if not isinstance(named, Tombstone):
        log = RunLog(store, named)
        state = log.replay()
        if not state.is_finished:

            def ending(claimed: RunState) -> Sequence[Record]:
                stopped = cancellations(claimed, claimed.active_steps(), reason)
                return [*stopped, StatusChanged(status, claimed.epoch, time.time(), reason, error)]

            _claim_for(log, state, requester, reason, ending)
            index.update(log, state, state.status, replaces=index.CLAIMABLE)
            withdraw_all(log, state)
    return _must_read(store, workflow_id, run_number)


def release_run(store: Store, workflow_id: str, *, run_number: int, requester: Requester, reason: str) -> RunView:
    """Leave a run RESUMABLE for a later object: claim and goodbye in one segment. A run that has ended stays so.

    Raises:
        Superseded, InUse: the run is not this actor's.
        WorkflowConflict: there is no such run.
    """
    named = registry.read_entry(store, workflow_id, run_number)
    if named is None:
        raise WorkflowConflictError(f"workflow {workflow_id!r} has no run {run_number} to say goodbye for")
    if not isinstance(named, Tombstone):
        log = RunLog(store, named)
        state = log.replay()
        if not state.is_finished and not (state.released and state.owner.uid == requester.uid):

            def released(claimed: RunState) -> Sequence[Record]:
                return [StatusChanged(WorkflowStatus.RESUMABLE, claimed.epoch, time.time(), reason)]

            _claim_for(log, state, requester, reason, released)
    return _must_read(store, workflow_id, run_number)


def delete_run(store: Store, workflow_id: str, *, run_number: int, requester: Requester) -> None:
    """End a run where it has no end, put a tombstone behind it and remove its keys.

    Raises:
        Superseded, InUse: the run is not this actor's, and lives.
    """
    highest = registry.latest_run_number(store, workflow_id)
    if highest < run_number:
        return
    if highest == run_number:  # else it was deleted before, and perhaps only half of its keys are left
        named = registry.read_entry(store, workflow_id, run_number)
        if isinstance(named, Created):
            _end_deleted(store, named, requester)
        # Before the tombstone: behind it the id is free, and a new run's entry must stay.
        index.remove(store, workflow_id)
        if not (isinstance(named, Tombstone) and named.reason in FREES_ID):
            gone = Tombstone(
                workflow_id, run_number + 1, WorkflowStatus.CANCELED, "Deleted", time.time(), requester.uid
            )
            registry.register(store, gone)
    remove_below(store, workflow_id, f"{keys.runs(workflow_id)}{run_number}-")


def remove_below(store: Store, workflow_id: str, folder: str) -> int:
    """Remove all keys of runs that no name counts for any more, with the bells of what was asked of them.

    Args:
        store: where they lie.
        workflow_id: whose runs they are.
        folder: how their keys begin.

    Returns:
        How many keys.
    """
    removed = 0
    for info in store.list(folder):
        found = keys.run_key(info.key)
        if found is not None and found.kind == "inbox":
            withdraw(store, RunPaths(workflow_id, found.run_number, found.run_uuid), found.last)
        else:
            store.delete(info.key)
        removed += 1
    return removed


def _end_deleted(store: Store, named: Created, requester: Requester) -> None:
    view = read_run(store, named.workflow_id, named.run_number)
    if view is not None and view.ended is None:
        end_run(
            store,
            named.workflow_id,
            run_number=named.run_number,
            status=WorkflowStatus.CANCELED,
            reason="Deleted",
            message="deleted",
            requester=requester,
        )


def stage_code(store: Store, workflow_id: str, run_number: int, run_uuid: str, data: bytes) -> str:
    """Keep the user's code with the run that is about to be made, so that each resume uses this very copy.

    A copy that is damaged gives way to this one.

    Returns:
        Its sha256.
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
    """The code kept by `stage_code`; raises Corrupt where it is missing or damaged."""
    return Blobs(store, RunPaths(workflow_id, run_number, run_uuid)).get(sha256)


def _claim_for(log: RunLog, state: RunState, requester: Requester, reason: str, ending: FollowingRecords) -> None:
    registry.check_current(log.store, log.created)
    owner = state.owner
    if requester.uid and owner.uid and owner.uid != requester.uid and not state.released:
        raise SupersededError(
            f"workflow {state.created.workflow_id!r} is owned by object {owner.uid}, not by {requester.name} ({requester.uid})"
        )
    me = Owner(
        manager=f"outside-{uuid.uuid4().hex}", address=requester.name, uid=requester.uid, attempt=requester.attempt
    )
    own = bool(requester.uid) and owner.uid == requester.uid
    who = Claimant(owner=me, at=time.time(), take_over=own, reason=reason, versions=versions())
    try:
        claim(log, state, who, ending)
    except WorkflowConflictError:
        # It ended meanwhile: what the log says is what holds.
        log.catch_up(state)


def _must_read(store: Store, workflow_id: str, run_number: int) -> RunView:
    view = read_run(store, workflow_id, run_number)
    assert view is not None, "a name, once written, is never removed"
    return view
