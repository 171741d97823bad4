"""Generates docs/states.md from the state tables of the library: `python -m dev.diagrams`.

A test compares the page with the tables.
"""

from __future__ import annotations

from typing import Final

from dev import paths
from workflow.model.status import TERMINAL, TRANSITIONS, StepPhase, WorkflowStatus

FILE: Final = paths.ROOT / "docs" / "states.md"
_MEANING: Final = {
    WorkflowStatus.RUNNING: "it is not finished, and its owner is not known to be lost",
    WorkflowStatus.RESUMABLE: ("it is not finished, and its owner released it or is lost; `resume` continues it"),
    WorkflowStatus.SUCCESSFUL: "it is finished, and its result is stored",
    WorkflowStatus.FAILED: (
        "a step failed in its last attempt, or the run was ended as failed; `resume` continues it without running a "
        "committed step again"
    ),
    WorkflowStatus.CANCELED: "it was canceled and cannot be resumed",
}
_STEP_MEANING: Final = {
    StepPhase.WAITING: "a step that it depends on has no outcome yet",
    StepPhase.READY: "it can start",
    StepPhase.RUNNING: "an attempt was started in this epoch",
    StepPhase.SLEEPING: "it waits for its timer, which a change of the owner does not affect",
    StepPhase.EXPANDED: "it returned a workflow that has no outcome yet; the step itself is not run again",
    StepPhase.COMMITTED: (
        "its outcome is final; an ephemeral value (`checkpoint=False`) is computed again if it is lost and still needed"
    ),
    StepPhase.FAILED: "its last attempt failed, and the error was not caught",
    StepPhase.CANCELED: "it was stopped because another step failed or the run was canceled",
}


def states_page() -> str:
    """Return the content of docs/states.md."""
    arrows = [f"    {before} --> {after}: {event}" for (before, event), after in TRANSITIONS.items()]
    ends = [f"    {status} --> [*]" for status in WorkflowStatus if status in TERMINAL]
    diagram = "\n".join(["stateDiagram-v2", "    [*] --> RUNNING: created", *arrows, *ends])
    runs = "\n".join(f"| {status} | {_MEANING[status]} |" for status in WorkflowStatus)
    steps = "\n".join(f"| {phase} | {_STEP_MEANING[phase]} |" for phase in StepPhase)
    return f"""# States of runs and steps

Generated from `workflow/model/status.py` by `python -m dev.diagrams`.

```mermaid
{diagram}
```

| run | meaning |
|---|---|
{runs}

| step | meaning |
|---|---|
{steps}
"""


if __name__ == "__main__":
    FILE.write_text(states_page(), encoding="utf-8")
    print(FILE)
