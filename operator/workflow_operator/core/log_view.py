"""What the core knows of the library: the view of a run, as plain values.

The one module of `core` that imports the library, so that this arrow is seen in one place.
"""

from __future__ import annotations

from workflow.model.run_view import ErrorInfo, Owner, RunView, StepCounts
from workflow.model.status import WorkflowStatus

__all__ = ["ErrorInfo", "Owner", "RunView", "StepCounts", "WorkflowStatus"]
