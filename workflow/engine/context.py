"""What the process knows of where it is: the store it was given, and the step it executes, if any."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from workflow.engine.messages import StepTask


@dataclass
class _Process:
    store_url: str = ""


_process = _Process()
_thread = threading.local()


def set_store(url: str) -> None:
    """Remember the store that `init` was given."""
    _process.store_url = url


def store_url() -> str:
    """The store this process was given, or that of the step it executes; empty where neither is."""
    task = current_step()
    return task.run.store_url if task is not None else _process.store_url


def current_step() -> StepTask | None:
    """The step that this thread executes, or None."""
    return getattr(_thread, "task", None)


@contextlib.contextmanager
def of_step(task: StepTask) -> Iterator[None]:
    """While a step's code runs."""
    _thread.task = task
    try:
        yield
    finally:
        _thread.task = None
