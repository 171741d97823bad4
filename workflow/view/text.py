"""A run's DAG as text: one line a step, the children of a dynamic step below it. For terminals and logs.

Called by whoever shows a run (the demo, the command line); pure, so that it can be tested without a run.
"""

from __future__ import annotations

from collections.abc import Iterator

from workflow.model.run_view import RunView, StepView
from workflow.model.status import StepPhase

DEEPEST = 12
"""Levels of dynamic steps that are drawn; deeper ones stand at this level, or a recursion would leave the screen."""


def as_text(view: RunView) -> str:
    """Draw a run.

    Args:
        view: from `workflow.reading`.

    Returns:
        A line about the run, then one for each step: its id within its parent, where it stands, the epoch that wrote
        that, the seconds it took, and the steps whose outcomes it takes.
    """
    rows = list(_tree(view))
    width = max((len(line) for line, _ in rows), default=0)
    counts = view.counts
    head = f"{view.workflow_id}  {view.status}  {counts.succeeded} of {counts.total} steps  epoch {view.epoch}"
    return "\n".join([head, *(f"{line:<{width}}  {_facts(step)}".rstrip() for line, step in rows)])


def _tree(view: RunView) -> Iterator[tuple[str, StepView]]:
    """Each step with its place in the tree drawn before its name, depth first."""
    children: dict[str, list[StepView]] = {}
    for step in view.steps:
        children.setdefault(step.parent_expansion, []).append(step)
    waiting = [(step, "", "", 0) for step in reversed(children.get("", []))]
    while waiting:
        step, branch, below, depth = waiting.pop()
        yield branch + _short(step.step_id), step
        inner = children.get(step.step_id, [])
        for place, child in enumerate(reversed(inner)):
            if depth >= DEEPEST:
                waiting.append((child, branch, below, depth))
            elif place == 0:
                waiting.append((child, f"{below}└─ ", f"{below}   ", depth + 1))
            else:
                waiting.append((child, f"{below}├─ ", f"{below}│  ", depth + 1))


def _facts(step: StepView) -> str:
    words = [f"{step.phase.lower():<9}", f"epoch {step.epoch}" if step.epoch else " " * 7]
    words.append(f"{_seconds(step):>7}")
    if step.parents:
        words.append("<- " + ", ".join(map(_short, step.parents)))
    if step.attempts > 1:
        words.append(f"({step.attempts} tries)")
    if step.error is not None and step.phase is StepPhase.FAILED:
        words.append(f"{step.error.kind}: {step.error.message}")
    return "  ".join(words)


def _seconds(step: StepView) -> str:
    if step.started is None or step.ended is None:
        return ""
    return f"{step.ended - step.started:.1f} s"


def _short(step_id: str) -> str:
    """The last part of an id: what its own DAG calls the step."""
    return step_id.rpartition("/")[2]
