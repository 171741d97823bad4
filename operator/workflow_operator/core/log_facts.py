"""What the log says about THIS object: may it begin, does it own the run, did the run end.

Called once a round by `decide`, before anything else: the truth about a run is its log, not its cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from workflow_operator.core import names
from workflow_operator.core.log_view import RunView, WorkflowStatus
from workflow_operator.core.observation import RunRead, RunReadFailure, WorkflowObject

DELETED, SWEPT = "Deleted", "Abandoned"


class Ownership(Enum):
    """How the object stands to the run under its workflow id."""

    UNREAD = "the log could not be read"
    FREE = "nothing forbids an attempt: no run yet, or one that its owner left"
    OURS = "the run goes on, and this object's uid claimed it last"
    IN_USE = "another owner runs it"
    ENDED = "the run that this object owned, or was to make, has an end"
    FINISHED_BEFORE = "the run had its end before this object came to own it"
    SUPERSEDED = "this object owned it, and another owner or a later run came after"
    GONE = "the run that this object owned was deleted"


@dataclass(frozen=True, slots=True)
class LogFacts:
    """What follows from the log.

    Attributes:
        standing: how the object stands to the run.
        view: the run, or None.
        liveness: RUNNING, RESUMABLE or the end, or None.
        n: which run an attempt that begins now is for.
        run_uuid: that run's own id.
        code_staged: the copy of the code that status names lies in the run's blobs.
    """

    ownership: Ownership
    view: RunView | None = None
    liveness: WorkflowStatus | None = None
    run_number: int = 0
    run_uuid: str = ""
    code_staged: bool = False

    @property
    def alive(self) -> bool:
        """A manager that owns the run was heard of lately."""
        return self.liveness is WorkflowStatus.RUNNING

    @property
    def left_by_another(self) -> bool:
        """There is a run without an end, and its owner, who is not this object, left it or fell silent."""
        view = self.view
        return (
            self.ownership is Ownership.FREE
            and view is not None
            and not view.tombstone
            and view.run_number == self.run_number
        )


def read(workflow: WorkflowObject, run: RunRead | RunReadFailure | None) -> LogFacts:
    """What the log says about this object.

    Args:
        workflow: the object.
        run: what was read of the highest run under its workflow id.
    """
    if not isinstance(run, RunRead):
        return LogFacts(Ownership.UNREAD)
    ownership, run_number = _standing(workflow, run)
    view = run.view
    known = view is not None and view.run_number == run_number and not view.tombstone
    run_uuid = view.run_uuid if view is not None and known else names.run_uuid(workflow.uid, run_number)
    return LogFacts(ownership, view, run.liveness, run_number, run_uuid, run.code_staged)


def is_mine(workflow: WorkflowObject, view: RunView | None) -> bool:
    """The last claim of the run is this object's."""
    return view is not None and view.owner is not None and view.owner.uid == workflow.uid


def _standing(workflow: WorkflowObject, run: RunRead) -> tuple[Ownership, int]:
    state, view = workflow.state, run.view
    if view is None:
        return (Ownership.GONE, state.run_number) if state.epoch else (Ownership.FREE, max(state.run_number, 1))
    if view.run_number < state.run_number:
        return Ownership.FREE, state.run_number
    if view.tombstone:
        return _tombstone(workflow, view)
    if view.run_number > state.run_number > 0 and not is_mine(workflow, view):
        return Ownership.SUPERSEDED, state.run_number
    owned = is_mine(workflow, view) or state.epoch > 0
    if view.status.is_terminal:
        return (Ownership.ENDED if owned else Ownership.FINISHED_BEFORE), view.run_number
    if is_mine(workflow, view):
        return Ownership.OURS, view.run_number
    if owned:
        return Ownership.SUPERSEDED, view.run_number
    return (Ownership.IN_USE if run.liveness is WorkflowStatus.RUNNING else Ownership.FREE), view.run_number


def _tombstone(workflow: WorkflowObject, view: RunView) -> tuple[Ownership, int]:
    state = workflow.state
    if view.reason in (DELETED, SWEPT):
        begun = state.epoch > 0 or (state.attempt > 0 and view.reason == DELETED)
        return (Ownership.GONE, state.run_number) if begun else (Ownership.FREE, view.run_number + 1)
    if state.attempt == 0:
        return Ownership.FINISHED_BEFORE, view.run_number
    return (Ownership.ENDED if view.run_number == state.run_number else Ownership.SUPERSEDED), state.run_number
