"""What a manager does to the log of a run that it takes over, gives away or is asked for; each call blocks.

Called by `owning`, in threads of the store.
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


def take(log: RunLog, claimant: Claimant) -> RunState:
    """Claim a run, and put its hints right.

    Raises:
        InUse, Superseded, WorkflowConflict: it may not be claimed.
    """
    created = log.created
    registry.check_current(log.store, created)
    state = log.replay()
    claim(log, state, claimant)
    try:
        registry.check_current(log.store, created)
        live = WorkflowStatus.FAILED if state.is_finished else index.LIVE
        index.update(log, state, live, replaces=index.CLAIMABLE)
    except StoreUnavailableError as error:  # the claim stands: the run must be driven, its hints are only hints
        logger.warning("run %s: claimed, but its hints are not written: %s", created.run_uuid, error)
    return state


def settle(log: RunLog, state: RunState) -> None:
    """Put right what is only for the way, once a run has ended: its hints, and what was asked of it.

    Raises:
        Superseded: the run was deleted.
    """
    registry.check_current(log.store, log.created)  # else another run's entries would be touched
    if index.update(log, state, state.status, replaces=(index.LIVE,)):
        registry.check_current(log.store, log.created)
    withdraw_all(log, state)


def release(log: RunLog, me: Owner, at: float, reason: str) -> None:
    """Leave a run, where it is still this manager's, so that another may claim it.

    Args:
        log: of the run.
        me: the manager.
        at: seconds since 1970.
        reason: one CamelCase word.

    Raises:
        Superseded: the run was deleted.
    """
    registry.check_current(log.store, log.created)
    state = log.replay()
    if not state.is_finished and not state.released and state.owner.incarnation == me.incarnation:
        try:
            log.append(state, [StatusChanged(WorkflowStatus.RESUMABLE, state.epoch, at, reason)])
        except FencedError as error:
            logger.info("run %s needs no goodbye: %s", log.created.run_uuid, error)


def check_same_object(state: RunState, request: ClaimRequest) -> None:
    """Whether a run that is driven here already is so for whoever asks.

    Raises:
        InUse, Superseded: it is not.
    """
    owner = state.owner
    if request.uid and owner.uid != request.uid:
        raise WorkflowInUseError(
            f"workflow {request.workflow_id!r} is run by object {owner.uid or 'none'}, attempt {owner.attempt}, on the "
            f"very manager {owner.address}; wait for its end, or give this one another workflow id",
            owner=owner,
        )
    if request.uid and owner.attempt > request.attempt:
        raise SupersededError(
            f"workflow {request.workflow_id!r} is owned by attempt {owner.attempt} of the same object"
        )
