"""The states of a run and of a step execution, and the transitions of a run. docs/states.md is generated from them."""

from __future__ import annotations

from enum import Enum


class WorkflowStatus(str, Enum):
    """The status of a run, with the names that Ray uses.

    RESUMABLE: the run is not finished, and its owner released it or is lost.
    """

    RUNNING = "RUNNING"
    RESUMABLE = "RESUMABLE"
    SUCCESSFUL = "SUCCESSFUL"
    FAILED = "FAILED"
    CANCELED = "CANCELED"

    def __str__(self) -> str:
        return self.value

    @property
    def is_terminal(self) -> bool:
        """Whether a run with this status is finished."""
        return self in TERMINAL


TERMINAL = frozenset({WorkflowStatus.SUCCESSFUL, WorkflowStatus.FAILED, WorkflowStatus.CANCELED})
UNCLAIMABLE = TERMINAL - {WorkflowStatus.FAILED}
"""The statuses in which a run can never be claimed again."""

S = WorkflowStatus
TRANSITIONS: dict[tuple[WorkflowStatus, str], WorkflowStatus] = {
    (S.RUNNING, "released"): S.RESUMABLE,
    (S.RUNNING, "owner_lost"): S.RESUMABLE,
    (S.RUNNING, "claimed"): S.RUNNING,
    (S.RESUMABLE, "claimed"): S.RUNNING,
    (S.RUNNING, "succeeded"): S.SUCCESSFUL,
    (S.RUNNING, "failed"): S.FAILED,
    (S.RUNNING, "canceled"): S.CANCELED,
    (S.FAILED, "retried"): S.RUNNING,
}
"""(status, event) -> next status. A finished run has no other transitions, and the fold refuses them."""


class StepPhase(str, Enum):
    """The state of one step execution."""

    WAITING = "WAITING"  # a parent has no outcome yet
    READY = "READY"  # may be started
    RUNNING = "RUNNING"  # an attempt was started in this epoch
    SLEEPING = "SLEEPING"  # its timer is set, in this epoch or an earlier one
    EXPANDED = "EXPANDED"  # it returned a sub-DAG, which has no outcome yet
    COMMITTED = "COMMITTED"  # it has its outcome; only a lost ephemeral value is computed again
    FAILED = "FAILED"  # its last attempt raised, and no step caught the exception
    CANCELED = "CANCELED"  # stopped because another step failed or the run was canceled

    def __str__(self) -> str:
        return self.value
