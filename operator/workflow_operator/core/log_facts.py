"""What the log says about THIS object: may it begin, does it own the run, did the run end.

Called once a round by `decide`, before anything else: the truth about a run is its log, not its cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from workflow_operator.core import names
from workflow_operator.core.log_view import RunView, WorkflowStatus
from workflow_operator.core.observation import RunRead, RunUnread, WorkflowObject

DELETED, SWEPT = "Deleted", "Swept"


class Standing(Enum):
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

    standing: Standing
    view: RunView | None = None
    liveness: WorkflowStatus | None = None
    n: int = 0
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
        return self.standing is Standing.FREE and view is not None and not view.tombstone and view.n == self.n


def read(workflow: WorkflowObject, run: RunRead | RunUnread | None) -> LogFacts:
    """What the log says about this object.

    Args:
        workflow: the object.
        run: what was read of the highest run under its workflow id.
    """
    if not isinstance(run, RunRead):
        return LogFacts(Standing.UNREAD)
    standing, n = _standing(workflow, run)
    view = run.view
    known = view is not None and view.n == n and not view.tombstone
    run_uuid = view.run_uuid if view is not None and known else names.run_uuid(workflow.uid, n)
    return LogFacts(standing, view, run.liveness, n, run_uuid, run.code_staged)


def is_mine(workflow: WorkflowObject, view: RunView | None) -> bool:
    """The last claim of the run is this object's."""
    return view is not None and view.owner is not None and view.owner.uid == workflow.uid


def _standing(workflow: WorkflowObject, run: RunRead) -> tuple[Standing, int]:
    state, view = workflow.state, run.view
    if view is None:
        return (Standing.GONE, state.n) if state.epoch else (Standing.FREE, max(state.n, 1))
    if view.n < state.n:
        return Standing.FREE, state.n
    if view.tombstone:
        return _tombstone(workflow, view)
    if view.n > state.n > 0 and not is_mine(workflow, view):
        return Standing.SUPERSEDED, state.n
    owned = is_mine(workflow, view) or state.epoch > 0
    if view.status.is_end:
        return (Standing.ENDED if owned else Standing.FINISHED_BEFORE), view.n
    if is_mine(workflow, view):
        return Standing.OURS, view.n
    if owned:
        return Standing.SUPERSEDED, view.n
    return (Standing.IN_USE if run.liveness is WorkflowStatus.RUNNING else Standing.FREE), view.n


def _tombstone(workflow: WorkflowObject, view: RunView) -> tuple[Standing, int]:
    state = workflow.state
    if view.reason in (DELETED, SWEPT):
        begun = state.epoch > 0 or (state.attempt > 0 and view.reason == DELETED)
        return (Standing.GONE, state.n) if begun else (Standing.FREE, view.n + 1)
    if state.attempt == 0:
        return Standing.FINISHED_BEFORE, view.n
    return (Standing.ENDED if view.n == state.n else Standing.SUPERSEDED), state.n
