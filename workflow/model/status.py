"""The states of a run and of a step execution, and what may follow what: the one table, drawn in docs/states.md."""

from __future__ import annotations

from enum import Enum


class WorkflowStatus(str, Enum):
    """What a user sees of a run, in Ray's own words. RESUMABLE: no end, and its owner said goodbye or fell silent."""

    RUNNING = "RUNNING"
    RESUMABLE = "RESUMABLE"
    SUCCESSFUL = "SUCCESSFUL"
    FAILED = "FAILED"
    CANCELED = "CANCELED"

    def __str__(self) -> str:
        return self.value

    @property
    def is_terminal(self) -> bool:
        """Whether the log of a run in this status is closed."""
        return self in TERMINAL


TERMINAL = frozenset({WorkflowStatus.SUCCESSFUL, WorkflowStatus.FAILED, WorkflowStatus.CANCELED})

S = WorkflowStatus
TRANSITIONS: dict[tuple[WorkflowStatus, str], WorkflowStatus] = {
    (S.RUNNING, "goodbye"): S.RESUMABLE,
    (S.RUNNING, "silence"): S.RESUMABLE,
    (S.RUNNING, "claimed"): S.RUNNING,
    (S.RESUMABLE, "claimed"): S.RUNNING,
    (S.RUNNING, "succeeded"): S.SUCCESSFUL,
    (S.RUNNING, "failed"): S.FAILED,
    (S.RUNNING, "canceled"): S.CANCELED,
    (S.FAILED, "retried"): S.RUNNING,
}
"""(status, event) -> status. What is not here is refused by the fold."""


class StepPhase(str, Enum):
    """Where one step execution stands."""

    WAITING = "WAITING"  # a parent has no outcome yet
    READY = "READY"  # may be started
    RUNNING = "RUNNING"  # a try of this epoch was started
    SLEEPING = "SLEEPING"  # its timer is set, in this epoch or an earlier one
    EXPANDED = "EXPANDED"  # it returned a sub-DAG, which has no outcome yet
    COMMITTED = "COMMITTED"  # it has its outcome, for ever
    FAILED = "FAILED"  # all tries used up, nothing caught it
    CANCELED = "CANCELED"  # stopped because of another's failure, or with the run

    def __str__(self) -> str:
        return self.value
