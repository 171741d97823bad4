"""Claim and fence: who may take a run over, and the one append that does it.

`refusal` is the rule, a pure function. `claim` acts on it, checks it again at the seq it claims, and never waits:
of two claimants at one seq exactly one wins, and the other reads what the winner wrote. Clocks (the age of a
heartbeat) only decide whether to try.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from workflow.errors import OwnershipError, SupersededError, WorkflowConflictError, WorkflowError, WorkflowInUseError
from workflow.log import keys
from workflow.log.failpoints import AFTER_CLAIM, BEFORE_CLAIM
from workflow.log.run_log import RunLog
from workflow.model.records import Claimed, Record, StatusChanged
from workflow.model.run_view import ErrorInfo, Owner
from workflow.model.state import RunState
from workflow.model.status import WorkflowStatus
from workflow.store.port import Store

HEARTBEAT_TIMEOUT = 30.0
"""Seconds without a heartbeat, by the store's clock, after which a manager counts as gone."""


def heartbeat_expired(store: Store, manager: str) -> bool:
    """Whether a manager's heartbeat is missing or older than 30 s by the store's own clock."""
    info = store.head(keys.heartbeat(manager))
    return info is None or info.age > HEARTBEAT_TIMEOUT


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who wants a run, and what allows it.

    Attributes:
        owner: the next owner.
        take_over: claim although the present owner may live (the caller knows better).
        retry_failed: void a FAILED end.
        at: seconds since 1970.
        reason: for people.
        versions: of Python and the libraries that unpickle and pickle.
        functions: see Claimed.
    """

    owner: Owner
    at: float
    take_over: bool = False
    retry_failed: bool = False
    reason: str = ""
    versions: str = ""
    functions: Mapping[str, str] = field(default_factory=dict)


def refusal(state: RunState, claimant: Claimant, silent: bool) -> WorkflowError | None:
    """Why the claimant may not claim the run, or None.

    Args:
        state: of the run.
        claimant: who wants it.
        silent: whether the present owner's heartbeat is missing or stale.
    """
    return _ended(state, claimant) if state.terminal is not None else _held(state, claimant, silent)


def _ended(state: RunState, claimant: Claimant) -> WorkflowError | None:
    assert state.terminal is not None, "asked only of a run that has ended"
    status = state.terminal[1].status
    if status is WorkflowStatus.FAILED and claimant.retry_failed:
        return None
    return WorkflowConflictError(
        f"workflow {state.created.workflow_id!r} has ended {status}; only a FAILED one can be resumed", status=status
    )


def _held(state: RunState, claimant: Claimant, silent: bool) -> OwnershipError | None:
    owner, me = state.owner, claimant.owner
    if me.uid and owner.uid == me.uid and owner.attempt > me.attempt:
        return SupersededError(
            f"workflow {state.created.workflow_id!r} is owned by attempt {owner.attempt} of the same Workflow object; "
            f"attempt {me.attempt} is over"
        )
    # A manager asks only for runs that it does not drive: an earlier incarnation's, or its own before an outage.
    own = owner.manager == me.manager and owner.uid == me.uid
    earlier = bool(me.uid) and owner.uid == me.uid and owner.attempt < me.attempt
    if claimant.take_over or own or earlier or state.released or silent:
        return None
    acting = f", object {owner.uid}, attempt {owner.attempt}" if owner.uid else ""
    return WorkflowInUseError(
        f"workflow {state.created.workflow_id!r} is run by manager {owner.address or owner.manager} "
        f"(epoch {state.epoch}{acting}), which lives; wait for it, or resume with take_over=True where you know that "
        "its cluster is gone",
        owner=owner,
    )


Ending = Callable[[RunState], Sequence[Record]]
"""The records to store right behind a claim, in its segment, made from the state as it is after the claim."""


def claim(
    log: RunLog,
    state: RunState,
    claimant: Claimant,
    ending: Ending = lambda state: (),
) -> int:
    """Take a run over: append `Claimed(epoch + 1)`, with more records in the same segment where wanted.

    Args:
        log: of the run.
        state: folded up to some point; caught up here, and folded up to the claim on return.
        claimant: who claims.
        ending: the records behind the claim, made from the state as it is after the claim.

    Returns:
        The seq of the claim's segment.

    Raises:
        InUse, Superseded, WorkflowConflict: see `refusal`. Nothing was written.
    """
    while True:
        log.catch_up(state)
        refused = refusal(state, claimant, heartbeat_expired(log.store, state.owner.manager))
        if refused is not None:
            raise refused
        seq = state.seq + 1
        first = Claimed(
            epoch=state.epoch + 1,
            owner=claimant.owner,
            at=claimant.at,
            reason=claimant.reason,
            retry_failed=state.terminal[0] if state.terminal is not None else -1,
            versions=claimant.versions,
            functions=claimant.functions,
        )
        log.fold(state, seq, [first])
        behind = list(ending(state)) or _given_up(state, claimant)
        log.failpoints.reach(BEFORE_CLAIM)
        won = log.try_store(log.seal(seq, [first, *behind]))
        log.failpoints.reach(AFTER_CLAIM)
        if won:
            log.fold(state, seq, behind)
            return seq
        # Somebody wrote there first: an owner that still lives, or another claimant. The state went too far; replay.
        _reset(state, log.replay())


def _given_up(state: RunState, claimant: Claimant) -> list[Record]:
    """The end of a run that has died too often without progress."""
    allowed = state.created.max_resumes
    if allowed < 0 or state.epochs_without_progress <= allowed:
        return []
    ran = ", ".join(state.suspect_steps) or "none had started"
    error = ErrorInfo(
        kind="ResumesExhausted",
        message=f"{state.epochs_without_progress} owners in a row died without a newly committed step (max_resumes={allowed}); "
        f"steps that ran at each death: {ran}",
    )
    return [StatusChanged(WorkflowStatus.FAILED, state.epoch, claimant.at, "ResumesExhausted", error)]


def _reset(state: RunState, fresh: RunState) -> None:
    for name in RunState.__slots__:
        setattr(state, name, getattr(fresh, name))
