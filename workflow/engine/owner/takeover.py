"""What a manager writes to the store when it claims, finishes or releases a run.

Every function blocks. `owned_runs` calls them in the threads of the manager.
"""

from __future__ import annotations

import logging

from workflow.engine.messages import ClaimRequest
from workflow.errors import FencedError, StoreUnavailableError, SupersededError, WorkflowInUseError
from workflow.log import index, registry
from workflow.log.claim import Claimant, claim
from workflow.log.run_log import RunLog
from workflow.model.records import StatusChanged
from workflow.model.run_view import Owner
from workflow.model.state import RunState
from workflow.model.status import WorkflowStatus
from workflow.requests import withdraw_all

logger = logging.getLogger(__name__)


def claim_run(log: RunLog, claimant: Claimant) -> RunState:
    """Claim a run and update its index entries.

    Returns:
        The state of the run after the claim. It is FAILED if the claim itself exceeded `max_resumes`.

    Raises:
        WorkflowInUseError, SupersededError, WorkflowConflictError: the run may not be claimed.
    """
    created = log.created
    registry.check_current(log.store, created)
    state = log.replay()
    claim(log, state, claimant)
    try:
        registry.check_current(log.store, created)
        status = WorkflowStatus.FAILED if state.is_finished else index.LIVE
        index.update(log, state, status, replaces=index.CLAIMABLE)
    except StoreUnavailableError as error:  # the claim is stored, so the run must be driven without index entries
        logger.warning("run %s: claimed, but its index entries are not written: %s", created.run_uuid, error)
    return state


def finish_run(log: RunLog, state: RunState) -> None:
    """Update the index entries of a finished run, and withdraw the requests to it.

    Raises:
        SupersededError: the run was deleted.
    """
    registry.check_current(log.store, log.created)  # the workflow id may name another run, whose entries must stay
    if index.update(log, state, state.status, replaces=(index.LIVE,)):
        registry.check_current(log.store, log.created)
    withdraw_all(log, state)


def release(log: RunLog, manager: Owner, at: float, reason: str) -> None:
    """Release a run that this manager still owns, so that another manager may claim it.

    Args:
        log: the log of the run.
        manager: the manager that releases the run.
        at: the time of the release, in seconds since 1970.
        reason: one CamelCase word.

    Raises:
        SupersededError: the run was deleted.
    """
    registry.check_current(log.store, log.created)
    state = log.replay()
    if not state.is_finished and not state.released and state.owner.incarnation == manager.incarnation:
        try:
            log.append(state, [StatusChanged(WorkflowStatus.RESUMABLE, state.epoch, at, reason)])
        except FencedError as error:
            logger.info("run %s needs no release: %s", log.created.run_uuid, error)


def check_same_object(state: RunState, request: ClaimRequest) -> None:
    """Check that a claim of a run that this manager already drives comes from the Workflow object that owns it.

    A request without an object is always accepted.

    Raises:
        WorkflowInUseError: another Workflow object owns the run.
        SupersededError: a later submission attempt of the same object owns it.
    """
    owner = state.owner
    if request.uid and owner.uid != request.uid:
        owning_object = f"object {owner.uid}, attempt {owner.attempt}" if owner.uid else "a driver without an object"
        raise WorkflowInUseError(
            f"cannot claim workflow {request.workflow_id!r}: {owning_object} runs it on manager {owner.address}; "
            "wait until it is finished, or choose another workflow id",
            owner=owner,
        )
    if request.uid and owner.attempt > request.attempt:
        raise SupersededError(
            f"cannot claim workflow {request.workflow_id!r}: submission attempt {owner.attempt} of the same object "
            f"replaced attempt {request.attempt}; the later attempt runs it"
        )
