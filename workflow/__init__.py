"""Durable workflows on Ray: `import workflow` in place of `from ray import workflow`, or `from workflow import step`.

Names that need Ray are imported at their first use, so that the operator and other readers of the log need no Ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow import common as common  # available as attributes without an import of their own, as in Ray 1.12
from workflow import event_listener as event_listener
from workflow import missing, packaging
from workflow import recovery as recovery

packaging.use_bundled_dependencies()

if TYPE_CHECKING:
    from workflow.api import cancel, delete, resume, resume_all, run, run_async
    from workflow.errors import WorkflowExecutionError
    from workflow.event_listener import EventListener
    from workflow.inspection import get_metadata, get_output, get_status, list_all
    from workflow.model.status import WorkflowStatus
    from workflow.ray_dags import continuation, create
    from workflow.session import init
    from workflow.steps import Workflow, step
    from workflow.waits import sleep, wait, wait_for_event

__all__ = [
    "EventListener",
    "Workflow",
    "WorkflowExecutionError",
    "WorkflowStatus",
    "cancel",
    "continuation",
    "create",
    "delete",
    "get_metadata",
    "get_output",
    "get_status",
    "init",
    "list_all",
    "resume",
    "resume_all",
    "run",
    "run_async",
    "sleep",
    "step",
    "wait",
    "wait_for_event",
]


STATUSES = ("CANCELED", "FAILED", "RESUMABLE", "RUNNING", "SUCCESSFUL")
"""Members of `WorkflowStatus` that are attributes of this module, too, as in Ray 1.x: `workflow.RUNNING`."""


def __getattr__(name: str) -> Any:
    if name in STATUSES:
        return getattr(packaging.load("WorkflowStatus"), name)
    if name not in __all__:
        raise AttributeError(f"module 'workflow' has no attribute {name!r}{missing.instead_of(name, __all__)}")
    return packaging.load(name)


def __dir__() -> list[str]:
    return __all__
