"""Names that code for Ray 1.x imports from `ray.workflow.recovery`. This module needs no Ray."""

from __future__ import annotations

from workflow.errors import WorkflowNotResumableError

__all__ = ["WorkflowNotResumableError"]
