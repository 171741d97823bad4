"""How the library is found and loaded: bundled dependencies, and public names loaded when first asked for."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

BUNDLE = "rayworkflow_deps"
"""Beside the package, where it was uploaded to a cluster as a zip: the third-party packages that the log needs."""

_HOME = {
    "workflow.errors": ("WorkflowExecutionError",),
    "workflow.event_listener": ("EventListener",),
    "workflow.inspection": ("get_metadata", "get_output", "get_output_async", "get_status", "list_all"),
    "workflow.model.status": ("WorkflowStatus",),
    "workflow.session": ("init",),
    "workflow.steps": ("Workflow", "step"),
    "workflow.waits": ("sleep", "wait_for_event"),
}
_HOME_OF = {name: module for module, names in _HOME.items() for name in names}


def use_bundled_dependencies() -> None:
    """Put the bundled dependencies on the path: last, so that they never shadow what the user's image holds."""
    bundle = Path(__file__).resolve().parent.parent / BUNDLE
    if bundle.is_dir() and str(bundle) not in sys.path:
        sys.path.append(str(bundle))


def load(name: str) -> Any:
    """A public name of `workflow`.

    Raises:
        ImportError: Ray is not installed; the text says how to install it.
    """
    try:
        return getattr(importlib.import_module(_HOME_OF.get(name, "workflow.api")), name)
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ImportError(
            f"workflow.{name} needs Ray, which is not installed here; run: pip install 'rayworkflow[ray]'"
        ) from error
