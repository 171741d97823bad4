"""The parts of the library that the core uses: the view of a run, as plain values.

This is the only module of `core` that imports the library.
"""

from __future__ import annotations

from workflow.model.result_text import description_of
from workflow.model.run_view import ErrorInfo, Owner, RunView, StepCounts
from workflow.model.status import WorkflowStatus

__all__ = ["ErrorInfo", "Owner", "RunView", "StepCounts", "WorkflowStatus", "description_of"]
