"""The totals of a run: how many steps are in each phase, who owns it, and how it ended.

Every segment of the log carries the totals after its own records. A reader that wants only these reads one segment and
folds nothing; see `workflow.reading.read_totals`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from workflow.model.run_view import Owner
from workflow.model.state import RunState
from workflow.model.status import StepPhase, WorkflowStatus


@dataclass(frozen=True, slots=True)
class RunTotals:
    """The totals of a run after one segment.

    Attributes:
        epoch: the current epoch; 1 is the first.
        owner: the owner of that epoch, without its processes: they would be repeated in every segment.
        status: RUNNING, RESUMABLE if the owner released the run, or the terminal status.
        steps: the number of steps in each phase; phases without steps are left out.
        reason: why the run is finished, in one CamelCase word; empty if it is not, or has no reason.
        ended: when the run finished, in seconds since 1970; None if it is not finished.
    """

    epoch: int
    owner: Owner
    status: WorkflowStatus
    steps: Mapping[StepPhase, int]
    reason: str = ""
    ended: float | None = None

    @property
    def total(self) -> int:
        """The number of all steps."""
        return sum(self.steps.values())


def totals_of(state: RunState) -> RunTotals:
    """Return the totals of a folded state. The cost does not depend on the number of steps."""
    terminal = state.terminal[1] if state.terminal is not None else None
    return RunTotals(
        epoch=state.epoch,
        owner=replace(state.owner, process=""),
        status=state.status,
        steps={phase: count for phase, count in state.phases.items() if count},
        reason=terminal.reason if terminal is not None else "",
        ended=terminal.at if terminal is not None else None,
    )
