"""Claims: who may take over a run, and the append that does it.

`refusal` is the rule, as a pure function. `claim` applies it again for the log slot that it writes to, and never waits.
Of two claimants of one slot exactly one wins, and the other reads what the winner wrote. Clocks, for example the age of
a heartbeat, only decide whether a claim is tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from workflow.errors import OwnershipError, SupersededError, WorkflowConflictError, WorkflowError, WorkflowInUseError
from workflow.log import liveness
from workflow.log.failpoints import AFTER_CLAIM, BEFORE_CLAIM
from workflow.log.liveness import HEARTBEAT_TIMEOUT
from workflow.log.run_log import RunLog
from workflow.model.records import Claimed, Record, StatusChanged
from workflow.model.run_view import ErrorInfo, Owner
from workflow.model.state import RunState
from workflow.model.status import WorkflowStatus
from workflow.model.totals import totals_of


class ClaimPurpose(Enum):
    """Why a process claims a run."""

    DRIVE = "a manager drives the run from now on"
    RECOVER = "a manager continues a run that it has not lost, for example after a restart"
    REQUEST = "a process without a manager writes a release or a terminal state"


@dataclass(frozen=True, slots=True)
class Claimant:
    """A process that wants to own a run.

    The process decided to claim after it had read the run. Until it claims, other processes may write. So each right
    names what it was decided against, and `refusal` compares that with the run at the claimed slot.

    Attributes:
        owner: the next owner.
        at: time of the claim, in seconds since 1970.
        purpose: why it wants to own the run.
        take_over: the owner that it may replace even if that owner is alive; None for no owner.
        retry_failed: seq of the segment in which the run FAILED, if that failure may be undone; -1 for no failure.
        reason: why, for users.
        versions: of Python and of the libraries that unpickle and pickle, as `name version` words.
        functions: the functions that this epoch replaces; see `Claimed.functions`.
    """

    owner: Owner
    at: float
    purpose: ClaimPurpose = ClaimPurpose.DRIVE
    take_over: Owner | None = None
    retry_failed: int = -1
    reason: str = ""
    versions: str = ""
    functions: Mapping[str, str] = field(default_factory=dict)


def refusal(state: RunState, claimant: Claimant, owner_lost: bool) -> WorkflowError | None:
    """Return the error that a claim must raise, or None if the claimant may claim the run.

    Args:
        state: the state of the run.
        claimant: the process that wants to own it.
        owner_lost: whether the present owner is considered dead; see `liveness.is_lost`.
    """
    if claimant.purpose is ClaimPurpose.REQUEST and belongs_to_other_object(state, claimant.owner.uid):
        return SupersededError(
            f"{claimant.owner.address} cannot act on workflow {state.created.workflow_id!r}: its run is owned by "
            f"object {state.owner.uid}, not by {claimant.owner.uid}",
            workflow_id=state.created.workflow_id,
        )
    if state.terminal is not None:
        return _refuse_finished(state, claimant, *state.terminal)
    return _refuse_owned(state, claimant, owner_lost)


def belongs_to_other_object(state: RunState, uid: str) -> bool:
    """Return whether a Workflow object may not act on a run, because another object owns it and has not released it.

    Args:
        state: the state of the run.
        uid: uid of the Workflow object; empty for a user without the operator, who may act on the runs of all objects.
    """
    return bool(uid and state.owner.uid) and state.owner.uid != uid and not state.released


def _refuse_finished(state: RunState, claimant: Claimant, seq: int, end: StatusChanged) -> WorkflowError | None:
    if end.status is WorkflowStatus.FAILED and claimant.retry_failed == seq:
        return None
    why = "only a FAILED workflow can be resumed"
    if end.status is WorkflowStatus.FAILED:
        retried = claimant.retry_failed >= 0
        why = "another process resumed it first, and it failed again; " if retried else ""
        why += f"call workflow.resume({state.created.workflow_id!r}) to run its failed steps again"
    return WorkflowConflictError(
        f"cannot claim workflow {state.created.workflow_id!r}: it already ended with status {end.status}; {why}",
        workflow_id=state.created.workflow_id,
        status=end.status,
    )


def _refuse_owned(state: RunState, claimant: Claimant, owner_lost: bool) -> OwnershipError | None:
    present, wanted = state.owner, claimant.owner
    same_object = bool(wanted.uid) and present.uid == wanted.uid
    if same_object and present.attempt > wanted.attempt:
        return SupersededError(
            f"attempt {wanted.attempt} cannot claim workflow {state.created.workflow_id!r}: attempt {present.attempt} "
            "of the same Workflow object owns it",
            workflow_id=state.created.workflow_id,
        )
    # A manager claims only runs that it does not drive now: runs of its earlier incarnation or from before an outage.
    same_manager = present.manager == wanted.manager and present.uid == wanted.uid
    if claimant.purpose is ClaimPurpose.RECOVER:
        return None if same_manager and not state.released else _lost(state, claimant)
    # An object's own run: its later attempt may claim it, and a request of the object may end or release it.
    own = same_object and (present.attempt < wanted.attempt or claimant.purpose is ClaimPurpose.REQUEST)
    if present == claimant.take_over or same_manager or own or state.released or owner_lost:
        return None
    return _in_use(state, claimant)


def _lost(state: RunState, claimant: Claimant) -> SupersededError:
    now = "it was released" if state.released else f"manager {_name(state.owner)} claimed it (epoch {state.epoch})"
    return SupersededError(
        f"manager {_name(claimant.owner)} cannot recover workflow {state.created.workflow_id!r}: {now}",
        workflow_id=state.created.workflow_id,
    )


def _in_use(state: RunState, claimant: Claimant) -> WorkflowInUseError:
    present = state.owner
    acting = f", object {present.uid}, attempt {present.attempt}" if present.uid else ""
    advice = (
        f"wait for it: a dead owner counts as lost {HEARTBEAT_TIMEOUT:.0f} s after its last heartbeat; or resume with "
        "take_over=True if you know that its cluster is gone"
    )
    if claimant.take_over is not None:
        advice = f"it claimed the run after you decided to take over from {_name(claimant.take_over)}; {advice}"
    return WorkflowInUseError(
        f"cannot claim workflow {state.created.workflow_id!r}: manager {_name(present)} (epoch {state.epoch}{acting}) "
        f"runs it; {advice}",
        workflow_id=state.created.workflow_id,
        owner=present,
    )


def _name(owner: Owner) -> str:
    return owner.address or owner.manager


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
        refused = refusal(state, claimant, liveness.is_lost(log.store, state.owner))
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
