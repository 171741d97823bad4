"""What the process knows of where it is: the store it was given, and the step it executes, if any."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count

from workflow.engine.messages import StepTask
from workflow.model import ids


@dataclass
class _Process:
    store_url: str = ""


@dataclass(frozen=True, slots=True)
class _Execution:
    """One try of a step, as it is executed; `calls` counts the workflows that it starts without an id."""

    task: StepTask
    calls: Iterator[int] = field(default_factory=lambda: count(1))


_process = _Process()
# Carried into the coroutines of an async step and by asyncio.to_thread, unlike a thread's own variables.
_execution: ContextVar[_Execution | None] = ContextVar("execution", default=None)


def set_store(url: str) -> None:
    """Remember the store that `init` was given."""
    _process.store_url = url


def store_url() -> str:
    """The store this process was given, or that of the step it executes; empty where neither is."""
    task = current_step()
    return task.run.store_url if task is not None else _process.store_url


def current_step() -> StepTask | None:
    """The step whose code calls, or None."""
    execution = _execution.get()
    return execution.task if execution is not None else None


def next_nested_id() -> str:
    """Id of the next workflow that the step whose code calls starts without one; empty outside of steps.

    Each execution of the step counts from 1 again, so the same call has the same id.
    """
    execution = _execution.get()
    if execution is None:
        return ""
    run = execution.task.run
    return ids.nested(run.workflow_id, run.run_number, execution.task.step_id, next(execution.calls))


@contextlib.contextmanager
def of_step(task: StepTask) -> Iterator[None]:
    """While a step's code runs."""
    before = _execution.set(_Execution(task))
    try:
        yield
    finally:
        _execution.reset(before)
