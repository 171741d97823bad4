"""Whether the demo showed what it promises. Pure: the log, the marks and the result go in, what is wrong comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workflow.reading import RunView, StepView, WorkflowStatus


@dataclass(frozen=True)
class Evidence:
    """What was seen.

    Attributes:
        view: the run's log at its end.
        marks: step -> how often it started, as it marked by itself outside the library.
        result: the Workflow's `status.result`.
        expected: what the result must be.
        clusters: names of the RayClusters that it ran on, the first first.
    """

    view: RunView
    marks: Mapping[str, int]
    result: Any
    expected: Any
    clusters: tuple[str, ...]


def mark_of(step: StepView) -> str:
    """What a step calls itself in its marks: its name without the module."""
    return step.name.rpartition(".")[2]


def problems(seen: Evidence) -> list[str]:
    """Everything that is not as promised; empty where all is well."""
    view, found = seen.view, []
    if view.status is not WorkflowStatus.SUCCESSFUL:
        found.append(f"the run ended {view.status} {view.reason}: {view.error.message if view.error else ''}")
    if seen.result != seen.expected:
        found.append(f"the result is {seen.result!r} and not {seen.expected!r}")
    if view.epoch != 2:
        found.append(f"the run is in epoch {view.epoch}; one takeover makes 2")
    if len(set(seen.clusters)) != 2:
        found.append(f"it ran on {', '.join(seen.clusters)}; one kill makes two clusters")
    if not [step for step in view.steps if step.epoch == 2]:
        found.append("no step ran after the kill, so nothing was resumed")
    unknown = sorted(set(seen.marks) - {mark_of(step) for step in view.steps})
    if unknown:
        found.append(f"{', '.join(unknown)} started, and the log does not know them")
    for step in view.steps:
        found += _of_step(step, seen.marks.get(mark_of(step), 0))
    return found


def _of_step(step: StepView, starts: int) -> list[str]:
    """A step that epoch 1 committed started as often as epoch 1 tried it; what ran at the kill may start once more."""
    if step.epoch == 1 and starts > step.attempts:
        return [
            f"{mark_of(step)} was committed before the kill after {step.attempts} tries, but started {starts} times"
        ]
    if starts < step.attempts:
        return [f"{mark_of(step)} has {step.attempts} tries in the log, but started {starts} times"]
    return []
