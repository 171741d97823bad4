"""What a process knows about itself: the store that `init` received, and the step whose code is running."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from workflow.engine.messages import StepTask
from workflow.log.definitions import class_scope
from workflow.model import ids


@dataclass
class _Process:
    store_url: str = ""
    program_name: str = ""
    object_owner: Any = None


@dataclass(frozen=True, slots=True)
class _RunningStep:
    """An attempt whose code is running. `ordinals` numbers the workflows that it starts without an id."""

    task: StepTask
    ordinals: Iterator[int] = field(default_factory=lambda: count(1))


_process = _Process()
# Unlike a thread-local variable, it is visible in the coroutines of an async step and in asyncio.to_thread.
_running_step: ContextVar[_RunningStep | None] = ContextVar("running_step", default=None)


def set_store(url: str) -> None:
    """Remember the address of the store that `init` received."""
    _process.store_url = url


def set_program_name(name: str) -> None:
    """Remember the name of the program that `init` received."""
    _process.program_name = name


def program_name() -> str:
    """Return the name of the program that `init` received; empty if there is none."""
    return _process.program_name


def set_object_owner(manager: Any) -> None:
    """Remember which manager is to own the Ray objects of this worker, or None if the worker itself owns them."""
    _process.object_owner = manager


def object_owner() -> Any:
    """Return the handle of the manager that is to own the Ray objects of this worker, or None."""
    return _process.object_owner


def store_url() -> str:
    """Return the store of the step whose code calls, or else the store that `init` received; empty if there is none."""
    task = current_step()
    return task.run.store_url if task is not None else _process.store_url


def current_step() -> StepTask | None:
    """Return the step whose code calls, or None outside of steps."""
    running = _running_step.get()
    return running.task if running is not None else None


def next_nested_id() -> str:
    """Return the id of the next workflow that the calling step starts without an id; empty outside of steps.

    Each attempt of the step counts from 1, so that the same call has the same id in each attempt.
    """
    running = _running_step.get()
    if running is None:
        return ""
    run = running.task.run
    return ids.nested(run.workflow_id, run.run_number, running.task.step_id, next(running.ordinals))


@contextlib.contextmanager
def of_step(task: StepTask) -> Iterator[None]:
    """Mark the code in the `with` block as the code of a step. Its values share the classes that are built for it."""
    token = _running_step.set(_RunningStep(task))
    try:
        with class_scope({}):
            yield
    finally:
        _running_step.reset(token)
