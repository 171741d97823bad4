"""Interprets the log for one Workflow: whether it may start an attempt, owns the run, or is finished.

`decide` calls `read` once, at the start of a round: the log decides about a run, not the state of its cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from workflow_operator.core import names
from workflow_operator.core.log_view import RunView, WorkflowStatus
from workflow_operator.core.observation import Loss, RunRead, RunReadFailure, WorkflowObject

DELETED, ABANDONED = "Deleted", "Abandoned"
"""Reasons of tombstones after which the workflow id may have another run."""


class Ownership(Enum):
    """The relation between a Workflow and the run under its workflow id."""

    UNREAD = "the log could not be read"
    FREE = "an attempt may start: there is no run yet, or no owner runs it"
    OURS = "the run is not finished, and this Workflow claimed it last"
    IN_USE = "another owner runs it"
    ENDED = "the run of this Workflow is finished, or its registry entry is a tombstone"
    FINISHED_BEFORE = "the run was finished before this Workflow owned it"
    SUPERSEDED = "this Workflow owned the run, and another owner or a later run replaced it"
    GONE = "the run of this Workflow was deleted"


@dataclass(frozen=True, slots=True)
class LogFacts:
    """What the log implies for one Workflow.

    Attributes:
        ownership: the relation between the Workflow and the run.
        view: the newest run under the workflow id, or None.
        liveness: RUNNING, RESUMABLE or the terminal state of that run, or None.
        run_number: the number of the run that an attempt would execute if it started now.
        run_uuid: the unique id of that run.
        code_staged: the blobs of the run contain the copy of the code that the status names.
        loss: what the store no longer contains of a run that was read from it before, or None.
    """

    ownership: Ownership
    view: RunView | None = None
    liveness: WorkflowStatus | None = None
    run_number: int = 0
    run_uuid: str = ""
    code_staged: bool = False
    loss: Loss | None = None

    @property
    def owner_alive(self) -> bool:
        """Whether the heartbeat of the manager that owns the run has not expired."""
        return self.liveness is WorkflowStatus.RUNNING

    @property
    def is_free_run_of_other_owner(self) -> bool:
        """Whether the run is unfinished, and another owner released it or its heartbeat expired."""
        view = self.view
        return (
            self.ownership is Ownership.FREE
            and view is not None
            and not view.tombstone
            and view.run_number == self.run_number
        )


def read(workflow: WorkflowObject, run: RunRead | RunReadFailure | None) -> LogFacts:
    """Interpret the log for a Workflow.

    Args:
        workflow: the object.
        run: the newest run under its workflow id, as it was read.
    """
    if not isinstance(run, RunRead):
        loss = run.loss if run is not None and workflow.state.epoch else None
        return LogFacts(Ownership.UNREAD, loss=loss)
    if is_missing(workflow, run):
        return LogFacts(Ownership.UNREAD, loss=Loss.RUN)
    ownership, run_number = _ownership(workflow, run)
    view = run.view
    exists = view is not None and view.run_number == run_number and not view.tombstone
    run_uuid = view.run_uuid if view is not None and exists else names.run_uuid(workflow.uid, run_number)
    return LogFacts(ownership, view, run.liveness, run_number, run_uuid, run.code_staged)


def is_missing(workflow: WorkflowObject, run: RunRead) -> bool:
    """Return whether the store no longer contains a run that was read from it before, nor a tombstone for it.

    A deletion always writes a tombstone under the next run number, so a missing run is lost data.

    Args:
        workflow: the object, whose status shows that the run was read.
        run: the newest run under its workflow id, as it was read.
    """
    newest = run.view.run_number if run.view is not None else 0
    return workflow.state.epoch > 0 and newest < workflow.state.run_number


def claimed_by(workflow: WorkflowObject, view: RunView | None) -> bool:
    """Return whether this Workflow made the last claim of the run.

    Args:
        workflow: the object.
        view: the run, or None if there is none.
    """
    return view is not None and view.owner is not None and view.owner.uid == workflow.uid


def claimed_by_other_object(workflow: WorkflowObject, view: RunView | None) -> bool:
    """Return whether another Workflow object made the last claim of the run.

    Args:
        workflow: the object.
        view: the run, or None if there is none.
    """
    return view is not None and view.owner is not None and view.owner.uid not in ("", workflow.uid)


def _ownership(workflow: WorkflowObject, run: RunRead) -> tuple[Ownership, int]:
    """Return the relation to the run, and the number of the run that an attempt would execute."""
    state, view = workflow.state, run.view
    if view is None:
        return Ownership.FREE, max(state.run_number, 1)
    if view.run_number < state.run_number:
        return Ownership.FREE, state.run_number
    if view.tombstone:
        return _ownership_with_tombstone(workflow, view)
    claimed = claimed_by(workflow, view)
    if view.run_number > state.run_number > 0 and not claimed:
        return Ownership.SUPERSEDED, state.run_number
    ever_owned = claimed or state.epoch > 0
    if view.status.is_terminal:
        return (Ownership.ENDED if ever_owned else Ownership.FINISHED_BEFORE), view.run_number
    if claimed:
        return Ownership.OURS, view.run_number
    if ever_owned:
        return Ownership.SUPERSEDED, view.run_number
    return (Ownership.IN_USE if run.liveness is WorkflowStatus.RUNNING else Ownership.FREE), view.run_number


def _ownership_with_tombstone(workflow: WorkflowObject, view: RunView) -> tuple[Ownership, int]:
    state = workflow.state
    if view.reason in (DELETED, ABANDONED):
        started = state.epoch > 0 or (state.attempt > 0 and view.reason == DELETED)
        return (Ownership.GONE, state.run_number) if started else (Ownership.FREE, view.run_number + 1)
    if state.attempt == 0:
        return Ownership.FINISHED_BEFORE, view.run_number
    return (Ownership.ENDED if view.run_number == state.run_number else Ownership.SUPERSEDED), state.run_number
