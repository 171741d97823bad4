"""Finds and loads the library's parts: bundled dependencies, and public names at their first use."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, Final

BUNDLE: Final = "rayworkflow_deps"
"""Folder next to the package, if the library was uploaded to a cluster as a zip. It contains the third-party packages
that reading and writing the log needs."""

_NAMES_BY_MODULE: Final = {
    "workflow.errors": ("WorkflowExecutionError",),
    "workflow.event_listener": ("EventListener",),
    "workflow.inspection": ("get_metadata", "get_output", "get_status", "list_all"),
    "workflow.model.status": ("WorkflowStatus",),
    "workflow.ray_dags": ("continuation", "create"),
    "workflow.session": ("init",),
    "workflow.steps": ("Workflow", "step"),
    "workflow.waits": ("sleep", "wait", "wait_for_event"),
}
_MODULE_OF: Final = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}


def use_bundled_dependencies() -> None:
    """Add the bundled dependencies to the end of the path, so that packages of the user's image come first."""
    bundle = Path(__file__).resolve().parent.parent / BUNDLE
    if bundle.is_dir() and str(bundle) not in sys.path:
        sys.path.append(str(bundle))


def load(name: str) -> Any:
    """Return a public name of `workflow`. Names that are not in the table are in `workflow.api`.

    Raises:
        ImportError: the name needs Ray, which is not installed; the text contains the command that installs it.
    """
    try:
        return getattr(importlib.import_module(_MODULE_OF.get(name, "workflow.api")), name)
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ImportError(
            f"workflow.{name} needs Ray, which is not installed here; run: pip install 'rayworkflow[ray]'"
        ) from error
