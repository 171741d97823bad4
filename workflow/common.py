"""What code for Ray 1.x looks for in `ray.workflow.common`; for its sake only. Needs no Ray."""

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
