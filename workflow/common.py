"""Names that code for Ray 1.x imports from `ray.workflow.common`. Only `Workflow` needs Ray, at its first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow import packaging
from workflow.errors import (
    WorkflowCancellationError,
    WorkflowExecutionError,
    WorkflowNotFoundError,
    WorkflowRunningError,
)
from workflow.model.status import WorkflowStatus

if TYPE_CHECKING:
    from workflow.steps import Workflow

__all__ = [
    "Event",
    "Workflow",
    "WorkflowCancellationError",
    "WorkflowExecutionError",
    "WorkflowNotFoundError",
    "WorkflowRunningError",
    "WorkflowStatus",
]

Event = Any
"""The type of an event of a listener."""


def __getattr__(name: str) -> Any:
    if name == "Workflow":
        return packaging.load(name)
    raise AttributeError(f"module 'workflow.common' has no attribute {name!r}; it has {', '.join(__all__)}")
