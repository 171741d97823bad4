"""Checks whether the demo showed what it promises. These functions are pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workflow.reading import RunView, StepView, WorkflowStatus


@dataclass(frozen=True)
class Observations:
    """What the demo observed.

    Attributes:
        view: the log of the finished run.
        starts: step -> how often it started, as counted by the step itself and not by the library.
        result: the value of the JSON text in `status.result` of the Workflow.
        expected: the expected result.
        clusters: the names of the RayClusters on which the run ran, in order.
    """

    view: RunView
    starts: Mapping[str, int]
    result: Any
    expected: Any
    clusters: tuple[str, ...]


def function_name(step: StepView) -> str:
    """Return the name under which a step counts its starts: its name without the module."""
    return step.name.rpartition(".")[2]


def problems(observed: Observations) -> list[str]:
    """Return one line for each unmet expectation; an empty list means that the demo passed."""
    view, found = observed.view, []
    if view.status is not WorkflowStatus.SUCCESSFUL:
        found.append(f"the run ended {view.status} {view.reason}: {view.error.message if view.error else ''}")
    if observed.result != observed.expected:
        found.append(f"the result is {observed.result!r}, expected {observed.expected!r}")
    if view.epoch != 2:
        found.append(f"the run is in epoch {view.epoch}, expected epoch 2 after one takeover")
    if len(set(observed.clusters)) != 2:
        found.append(f"the run used the clusters {', '.join(observed.clusters)}, expected two after one kill")
    if not [step for step in view.steps if step.epoch == 2]:
        found.append("no step ran after the kill, so nothing was resumed")
    unknown = sorted(set(observed.starts) - {function_name(step) for step in view.steps})
    if unknown:
        found.append(f"steps started that are not in the log: {', '.join(unknown)}")
    for step in view.steps:
        found += _problems_of_step(step, observed.starts.get(function_name(step), 0))
    return found


def _problems_of_step(step: StepView, starts: int) -> list[str]:
    """Compare the starts of a step with its attempts.

    A step that epoch 1 committed may not start more often than epoch 1 attempted it. A step that was running at the
    kill may start once more.
    """
    name = function_name(step)
    if step.epoch == 1 and starts > step.attempts:
        return [f"{name} was committed before the kill after {step.attempts} attempt(s), but started {starts} times"]
    if starts < step.attempts:
        return [f"{name} has {step.attempts} attempt(s) in the log, but started {starts} times"]
    return []
