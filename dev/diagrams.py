"""Draws docs/states.md from the table of the library's states: `python -m dev.diagrams`. A test keeps both equal."""

from __future__ import annotations

from typing import Final

from dev import paths
from workflow.model.status import TERMINAL, TRANSITIONS, StepPhase, WorkflowStatus

FILE: Final = paths.ROOT / "docs" / "states.md"
_MEANING: Final = {
    WorkflowStatus.RUNNING: "it has no end, and its owner lives",
    WorkflowStatus.RESUMABLE: "it has no end, and its owner said goodbye or fell silent: `resume` goes on with it",
    WorkflowStatus.SUCCESSFUL: "its value is stored",
    WorkflowStatus.FAILED: "a step failed after all its tries; `resume` tries that step again, and only that",
    WorkflowStatus.CANCELED: "it was canceled, for ever",
}
_STEP_MEANING: Final = {
    StepPhase.WAITING: "a step whose outcome it takes has none yet",
    StepPhase.READY: "it may start",
    StepPhase.RUNNING: "a try was started in this epoch",
    StepPhase.SLEEPING: "its timer is set; it goes on over changes of the owner",
    StepPhase.EXPANDED: "it returned a workflow, which has no outcome yet; the step itself never runs again",
    StepPhase.COMMITTED: (
        "it has its outcome, for ever; one that is not stored (`checkpoint=False`) is made again "
        "where it is lost and still needed"
    ),
    StepPhase.FAILED: "all tries are used up, and nothing caught it",
    StepPhase.CANCELED: "stopped because of another step's failure, or with the run",
}


def states_page() -> str:
    """docs/states.md."""
    arrows = [f"    {before} --> {after}: {event}" for (before, event), after in TRANSITIONS.items()]
    ends = [f"    {status} --> [*]" for status in WorkflowStatus if status in TERMINAL]
    diagram = "\n".join(["stateDiagram-v2", "    [*] --> RUNNING: created", *arrows, *ends])
    runs = "\n".join(f"| {status} | {_MEANING[status]} |" for status in WorkflowStatus)
    steps = "\n".join(f"| {phase} | {_STEP_MEANING[phase]} |" for phase in StepPhase)
    return f"""# The states of a run and of its steps

Drawn from `workflow/model/status.py` by `python -m dev.diagrams`.

```mermaid
{diagram}
```

| run | means |
|---|---|
{runs}

| step | means |
|---|---|
{steps}
"""


if __name__ == "__main__":
    FILE.write_text(states_page(), encoding="utf-8")
    print(FILE)
