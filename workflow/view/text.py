"""Draws the DAG of a run as text for terminals and logs: a line for each step, with the steps it returned below it."""

from __future__ import annotations

from collections.abc import Iterator

from workflow.model.run_view import RunView, StepView
from workflow.model.status import StepPhase

MAX_INDENTATION = 12
"""Levels of dynamic steps with their own indentation. Deeper steps are drawn at this level, to fit the screen."""


def as_text(view: RunView) -> str:
    """Return a run as text.

    Returns:
        A line about the run, then a line for each step: its id within its parent, its state, the epoch that wrote its
        last record, its duration in seconds, and its parents.
    """
    rows = list(_tree(view))
    width = max((len(line) for line, _ in rows), default=0)
    counts = view.counts
    head = f"{view.workflow_id}  {view.status}  {counts.succeeded} of {counts.total} steps  epoch {view.epoch}"
    return "\n".join([head, *(f"{line:<{width}}  {_details(step)}".rstrip() for line, step in rows)])


def _tree(view: RunView) -> Iterator[tuple[str, StepView]]:
    """Yield each step with the drawing of its branch and its name, depth first."""
    children: dict[str, list[StepView]] = {}
    for step in view.steps:
        children.setdefault(step.parent_expansion, []).append(step)
    pending = [(step, "", "", 0) for step in reversed(children.get("", []))]
    while pending:
        step, branch, below, depth = pending.pop()
        yield branch + _short(step.step_id), step
        inner = children.get(step.step_id, [])
        # Pushed in reverse, so that the first child is drawn first; the last child ends the branch.
        for child in reversed(inner):
            is_last = child is inner[-1]
            if depth >= MAX_INDENTATION:
                pending.append((child, branch, below, depth))
            elif is_last:
                pending.append((child, f"{below}└─ ", f"{below}   ", depth + 1))
            else:
                pending.append((child, f"{below}├─ ", f"{below}│  ", depth + 1))


def _details(step: StepView) -> str:
    words = [f"{step.phase.lower():<9}", f"epoch {step.epoch}" if step.epoch else " " * 7]
    words.append(f"{_seconds(step):>7}")
    if step.parents:
        words.append("<- " + ", ".join(map(_short, step.parents)))
    if step.attempts > 1:
        words.append(f"({step.attempts} attempts)")
    if step.error is not None and step.phase in (StepPhase.FAILED, StepPhase.RUNNING):
        before = "last error " if step.phase is StepPhase.RUNNING else ""
        words.append(f"{before}{step.error.kind}: {step.error.message}")
    return "  ".join(words)


def _seconds(step: StepView) -> str:
    if step.started is None or step.ended is None:
        return ""
    return f"{step.ended - step.started:.1f} s"


def _short(step_id: str) -> str:
    """Return the last part of an id, which is unique in its DAG."""
    return step_id.rpartition("/")[2]
