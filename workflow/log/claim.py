"""Claims: who may take over a run, and the append that does it.

`refusal` is the rule, as a pure function. `claim` applies it again for the log slot that it writes to, and never waits.
Of two claimants of one slot exactly one wins, and the other reads what the winner wrote. Clocks, for example the age of
a heartbeat, only decide whether a claim is tried.
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
from workflow.model.totals import totals_of
from workflow.store.port import Store

HEARTBEAT_TIMEOUT = 30.0
"""Seconds without a heartbeat, by the store's clock, after which a manager is considered dead."""


def heartbeat_expired(store: Store, manager: str) -> bool:
    """Return whether a manager's heartbeat is missing or older than 30 s by the store's own clock."""
    info = store.head(keys.heartbeat(manager))
    return info is None or info.age > HEARTBEAT_TIMEOUT


@dataclass(frozen=True, slots=True)
class Claimant:
    """A process that wants to own a run.

    Attributes:
        owner: the next owner.
        at: time of the claim, in seconds since 1970.
        take_over: claim the run even if its present owner may be alive.
        retry_failed: claim the run if it is FAILED; its failure is undone.
        reason: why, for users.
        versions: of Python and of the libraries that unpickle and pickle, as `name version` words.
        functions: the functions that this epoch replaces; see `Claimed.functions`.
    """

    owner: Owner
    at: float
    take_over: bool = False
    retry_failed: bool = False
    reason: str = ""
    versions: str = ""
    functions: Mapping[str, str] = field(default_factory=dict)


def refusal(state: RunState, claimant: Claimant, owner_expired: bool) -> WorkflowError | None:
    """Return the error that a claim must raise, or None if the claimant may claim the run.

    Args:
        state: the state of the run.
        claimant: the process that wants to own it.
        owner_expired: whether the heartbeat of the present owner has expired.
    """
    if state.terminal is not None:
        return _refuse_finished(state, state.terminal[1].status, claimant)
    return _refuse_owned(state, claimant, owner_expired)


def _refuse_finished(state: RunState, status: WorkflowStatus, claimant: Claimant) -> WorkflowError | None:
    if status is WorkflowStatus.FAILED and claimant.retry_failed:
        return None
    return WorkflowConflictError(
        f"cannot claim workflow {state.created.workflow_id!r}: it already ended with status {status}; only a FAILED "
        "workflow can be resumed",
        status=status,
    )


def _refuse_owned(state: RunState, claimant: Claimant, owner_expired: bool) -> OwnershipError | None:
    present, wanted = state.owner, claimant.owner
    same_object = bool(wanted.uid) and present.uid == wanted.uid
    if same_object and present.attempt > wanted.attempt:
        return SupersededError(
            f"attempt {wanted.attempt} cannot claim workflow {state.created.workflow_id!r}: attempt {present.attempt} "
            "of the same Workflow object owns it"
        )
    # A manager claims only runs that it does not drive now: runs of its earlier incarnation or from before an outage.
    same_manager = present.manager == wanted.manager and present.uid == wanted.uid
    earlier_attempt = same_object and present.attempt < wanted.attempt
    if claimant.take_over or same_manager or earlier_attempt or state.released or owner_expired:
        return None
    acting = f", object {present.uid}, attempt {present.attempt}" if present.uid else ""
    return WorkflowInUseError(
        f"cannot claim workflow {state.created.workflow_id!r}: manager {present.address or present.manager} "
        f"(epoch {state.epoch}{acting}) is alive and runs it; wait for it, or resume with take_over=True if you know "
        "that its cluster is gone",
        owner=present,
    )


FollowingRecords = Callable[[RunState], Sequence[Record]]
"""Returns the records to store after a claim in the same segment. Its argument is the state after the claim."""


def claim(
    log: RunLog,
    state: RunState,
    claimant: Claimant,
    following: FollowingRecords = lambda state: (),
) -> int:
    """Claim a run: write `Claimed(epoch + 1)` to the next free log slot, with more records in the same segment.

    Args:
        log: the log of the run.
        state: the state, folded up to any segment. On return it includes the segment of the claim.
        claimant: the process that wants to own the run.
        following: returns the records that follow the claim.

    Returns:
        The seq of the segment.

    Raises:
        WorkflowInUseError, SupersededError, WorkflowConflictError: see `refusal`. Nothing was written.
    """
    while True:
        log.catch_up(state)
        refused = refusal(state, claimant, heartbeat_expired(log.store, state.owner.manager))
        if refused is not None:
            raise refused
        seq = state.seq + 1
        records: list[Record] = [
            Claimed(
                epoch=state.epoch + 1,
                owner=claimant.owner,
                at=claimant.at,
                reason=claimant.reason,
                retry_failed=state.terminal[0] if state.terminal is not None else -1,
                versions=claimant.versions,
                functions=claimant.functions,
            )
        ]
        log.fold(state, seq, records)
        after_claim = list(following(state)) or _resumes_exhausted(state, claimant)
        log.fold(state, seq, after_claim)
        log.failpoints.reach(BEFORE_CLAIM)
        won = log.try_store(log.seal(seq, [*records, *after_claim], totals_of(state)))
        log.failpoints.reach(AFTER_CLAIM)
        if won:
            return seq
        # Another process wrote this segment: a living owner or another claimant. The state includes a claim that was
        # not stored, so it is folded again from the log.
        _reset(state, log.replay())


def _resumes_exhausted(state: RunState, claimant: Claimant) -> list[Record]:
    """Return the terminal record of a run whose owners failed too often without progress; empty for other runs."""
    allowed = state.created.max_resumes
    if allowed < 0 or state.epochs_without_progress <= allowed:
        return []
    suspects = ", ".join(state.suspect_steps) or "none"
    error = ErrorInfo(
        kind="ResumesExhausted",
        message=f"{state.epochs_without_progress} consecutive owners failed without committing a step "
        f"(max_resumes={allowed}); steps running at those times: {suspects}",
    )
    return [StatusChanged(WorkflowStatus.FAILED, state.epoch, claimant.at, "ResumesExhausted", error)]


def _reset(state: RunState, fresh: RunState) -> None:
    for name in RunState.__slots__:
        setattr(state, name, getattr(fresh, name))
