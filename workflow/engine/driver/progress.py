"""Describes a run for a log line of a call that waits for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from workflow.engine.messages import RunAddress
from workflow.errors import WorkflowError
from workflow.log.liveness import HEARTBEAT_TIMEOUT, heartbeat_age
from workflow.model.status import StepPhase
from workflow.model.totals import RunTotals
from workflow.reading import read_run, read_totals
from workflow.store.port import Store

REPORT_AFTER: Final = 5.0
"""Seconds after which a call that waits logs what it waits for."""

LARGEST_READ: Final = 1_000
"""The largest number of steps with which a run is read whole, to name the steps that are running."""

STEPS_SHOWN: Final = 3

LATE: Final = 10.0
"""Seconds without a heartbeat after which the description mentions it. A manager sends one every 5 seconds."""


def describe_progress(store: Store, run: RunAddress) -> str:
    """Return which workflow a call waits for, how far the run is, and whether its owner sends heartbeats."""
    name = f"workflow {run.workflow_id!r}"
    try:
        totals = read_totals(store, run.workflow_id, run.run_number)
        if totals is None:
            return name
        running: Sequence[str] = ()
        if totals.total <= LARGEST_READ:
            view = read_run(store, run.workflow_id, run.run_number)
            running = [step.step_id for step in view.steps if step.phase is StepPhase.RUNNING] if view else ()
        return f"{name}: {progress(totals, running, heartbeat_age(store, totals.owner.manager))}"
    except WorkflowError as error:
        return f"{name}; its log cannot be read now: {error}"


def progress(totals: RunTotals, running: Sequence[str], age: float | None) -> str:
    """Describe a run.

    Args:
        totals: the totals of the run.
        running: the ids of the steps that are running, if they are known.
        age: seconds since the last heartbeat of its owner; None if it has none.
    """
    if totals.status.is_terminal:
        return "it is finished, and its result is on the way"
    committed = totals.steps.get(StepPhase.COMMITTED, 0)
    text = f"{committed} of {totals.total} steps finished, running: {totals.steps.get(StepPhase.RUNNING, 0)}"
    if running:
        more = f" and {len(running) - STEPS_SHOWN} more" if len(running) > STEPS_SHOWN else ""
        text += f" ({', '.join(running[:STEPS_SHOWN])}{more})"
    if age is None or age > LATE:
        silent = "sends no heartbeat" if age is None else f"has sent no heartbeat for {age:.0f} s"
        owner = totals.owner.address or totals.owner.manager
        text += f"; its owner {owner} {silent}, and is considered lost after {HEARTBEAT_TIMEOUT:.0f} s"
    return text
