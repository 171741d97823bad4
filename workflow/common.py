"""Names that code for Ray 1.x imports from `ray.workflow.common`. This module needs no Ray."""

from __future__ import annotations

from workflow.errors import (
    WorkflowCancellationError,
    WorkflowExecutionError,
    WorkflowNotFoundError,
    WorkflowRunningError,
)
from workflow.model.status import WorkflowStatus

__all__ = [
    "WorkflowCancellationError",
    "WorkflowExecutionError",
    "WorkflowNotFoundError",
    "WorkflowRunningError",
    "WorkflowStatus",
]
